"""Closed users, Python journeys and declared ones against real servers."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from pathlib import Path

import brotli
import pytest

from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.engines import reply
from perfloop.load.engines.reply import ReplyError, unpack
from perfloop.load.hooks import hooks_of, prepared
from perfloop.model.arrival import Replay, Stage
from perfloop.model.journey import Check, Extract, Feed, Journey, Script, Step, Workload

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
GET = (Step(name="GET /", paths=("/",)),)


def answer(body: bytes, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def closed(port: int, **words) -> Workload:
    return Workload(**{"base_url": f"http://127.0.0.1:{port}", "users": 3, "duration_s": 0.6, "timeout_s": 2.0, **words})


def app(answers):
    """A keep-alive server that reads bodies: ``answers(method, path, headers, body)`` gives the bytes of each answer."""

    async def handle(reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().strip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, path, _ = first.split(" ")
            writer.write(answers(method, path, headers, body))
            await writer.drain()

    return handle


def script(folder: Path, text: str) -> Script:
    file = folder / "journeys.py"
    file.write_text("from perfloop.load.script import User, journey, rows\n" + text)
    return Script(file=str(file))


def test_closed_users_have_a_connection_each_and_wait_for_their_answers(serve, sent):
    seen: Counter[int] = Counter()

    async def handle(reader, writer):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            seen[id(writer)] += 1
            writer.write(OK)
            await writer.drain()

    window = sent(closed(serve(handle), steps=GET))
    assert len(seen) == 3
    assert window.steps[0].ok == sum(seen.values()) > 50
    assert window.steps[0].bytes_in == window.steps[0].ok * len(OK)
    assert window.steps[0].statuses == {200: window.steps[0].ok}
    assert window.users == 3


def test_think_time_paces_users_and_the_latency_leaves_it_out(serve, answering, sent):
    window = sent(closed(serve(answering(OK)), steps=GET, users=10, think_s=(0.2, 0.2), duration_s=1.05))
    assert 40 <= window.steps[0].ok <= 60  # each at 0, 0.2, … 1.0 s, of which the first few may be late
    assert window.steps[0].latency.max_s < 0.2


def test_users_arrive_over_the_ramp_up(serve, answering, sent):
    progress = []
    sent(closed(serve(answering(OK)), steps=GET, users=40, think_s=(0.1, 0.1), ramp_up_s=2.0, duration_s=2.4), progress)
    first, second = (told.second.users for told in progress[:2])
    assert 15 <= first <= 25
    assert second >= 38


def test_users_come_and_go_with_the_stages(serve, answering, sent):
    progress = []
    stages = (Stage(duration_s=1.0, level=20, step=True), Stage(duration_s=1.5, level=5, step=True))
    sent(closed(serve(answering(OK)), steps=GET, users=20, think_s=(0.05, 0.05), stages=stages, duration_s=2.5), progress)
    assert [told.second.users for told in progress[:2]] == [20, 5]


def test_a_refused_connection_is_not_asked_in_a_spin(free_port, sent):
    window = sent(closed(free_port, steps=GET, users=2, duration_s=0.5))
    assert set(window.steps[0].errors) == {"connect"}
    assert 2 <= window.steps[0].sent <= 30


def test_a_python_journey_checks_extracts_thinks_and_keeps_cookies(serve, sent, tmp_path):
    seen = []

    def answers(method, path, headers, body):
        seen.append((method, path, headers.get("cookie", ""), headers.get("authorization", ""), body))
        if path == "/login":
            return answer(json.dumps({"token": "t-" + json.loads(body)["name"]}).encode(), b"Set-Cookie: sid=1; Path=/; HttpOnly")
        return answer(b"[1,2]")

    (tmp_path / "people.csv").write_text("name\nada\nbob\n")
    given = script(
        tmp_path,
        """
people = rows("people.csv")

@journey(weight=2)
async def visit(user: User) -> None:
    name = people.row(user.iteration)["name"]
    reply = await user.post("/login", json={"name": name})
    token = reply.json()["token"]
    user.check("own token", token == f"t-{name}")
    await user.think(0.01, 0.02)
    reply = await user.get(f"/orders/{user.iteration}", headers={"Authorization": token})
    user.check("two orders", len(reply.json()) == 2)

async def not_marked(user):
    raise AssertionError
""",
    )
    window = sent(closed(serve(app(answers)), script=given, users=2))
    (visit,) = window.journeys
    assert visit.name == "visit"
    assert visit.ok >= visit.started - 2
    assert not visit.errors
    assert {step.name for step in window.steps} == {"POST /login", "GET /orders/{id}"}
    orders = [call for call in seen if call[0] == "GET"]
    assert {call[2] for call in orders} == {"sid=1"}
    assert {call[3] for call in orders} == {"t-ada", "t-bob"}
    assert all(call[2] == "" for call in seen if call[0] == "POST")  # cookies last for one iteration
    checks = {check.name: check for check in window.checks}
    assert checks["own token"].failed == checks["two orders"].failed == 0
    assert checks["two orders"].ok == visit.ok


def test_a_failed_check_is_the_class_of_its_request(serve, answering, sent, tmp_path):
    given = script(
        tmp_path, "async def visit(user):\n    reply = await user.get('/')\n    user.check('three', len(reply.body) == 3)\n    await user.get('/b')\n"
    )
    window = sent(closed(serve(answering(OK)), script=given, error_rate_stop=1.0))
    first, second = (next(step for step in window.steps if step.name == name) for name in ("GET /", "GET /b"))
    assert set(first.errors) == {"check"}
    assert not first.ok
    assert second.ok > 0
    assert not second.errors
    assert set(window.journeys[0].errors) == {"check"}
    assert window.checks[0].failed == first.errors["check"]
    assert "not three" in window.first_errors["check"]


def test_an_error_in_the_journeys_own_code_is_told_with_its_line(serve, answering, sent, tmp_path):
    given = script(tmp_path, "async def visit(user):\n    await user.get('/')\n    {}['gone']\n")
    window = sent(closed(serve(answering(OK)), script=given))
    assert set(window.journeys[0].errors) == {"script"}
    assert "KeyError: 'gone' at journeys.py:4" in window.first_errors["script"]
    assert window.steps[0].errors == {}  # the requests themselves were answered


def test_a_journey_that_sends_nothing_does_not_hang_the_load(serve, answering, sent, tmp_path):
    window = sent(closed(serve(answering(OK)), script=script(tmp_path, "async def visit(user):\n    pass\n"), duration_s=0.4))
    assert 3 <= window.journeys[0].ok <= 60


def test_a_journey_may_await_asyncio(serve, answering, sent, tmp_path):
    given = script(
        tmp_path,
        """
import asyncio

async def answered_twice():
    async with asyncio.timeout(1):
        await asyncio.sleep(0.01)
    return 2

async def visit(user):
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert await user.run(answered_twice()) == 2
    assert await user.measured("two", answered_twice()) == 2
    await user.get("/")
""",
    )
    window = sent(closed(serve(answering(OK)), script=given))
    steps = {step.name: step for step in window.steps}
    assert not window.journeys[0].errors
    assert steps["two"].ok >= steps["GET /"].ok > 3
    assert min(steps["two"].latency.buckets) > 400  # 10 ms and more


def test_what_a_measured_call_raises_ends_it_in_a_class(serve, answering, sent, tmp_path):
    given = script(tmp_path, "async def bad():\n    raise OSError('down')\n\nasync def visit(user):\n    await user.measured('bad', bad())\n")
    window = sent(closed(serve(answering(OK)), script=given, users=1, error_rate_stop=1.0))
    assert set(window.steps[0].errors) == {"protocol"}
    assert "down" in window.first_errors["protocol"]


@pytest.mark.parametrize(("pack", "name"), [(gzip.compress, b"gzip"), (zlib.compress, b"deflate"), (brotli.compress, b"br")])
def test_packed_bodies_are_unpacked_where_they_are_looked_at(serve, sent, tmp_path, pack, name):
    packed = answer(pack(b'{"n": 1}'), b"Content-Encoding: " + name)
    given = script(tmp_path, "async def visit(user):\n    reply = await user.get('/')\n    user.check('one', reply.json()['n'] == 1)\n")
    window = sent(closed(serve(app(lambda *_: packed)), script=given))
    assert window.journeys[0].ok > 0
    assert not window.journeys[0].errors
    assert window.steps[0].bytes_in == window.steps[0].ok * len(packed)


def test_packed_bodies_that_are_damaged_or_too_large(monkeypatch):
    body = bytes(100_000)
    assert unpack(brotli.compress(body), "br") == body
    for raw in (brotli.compress(b"x" * 50)[:-2], b"nothing of this kind"):
        with pytest.raises(ReplyError, match="br"):
            unpack(raw, "br")
    monkeypatch.setattr(reply, "BODY_MAX_BYTES", 99_999)
    for pack, name in ((gzip.compress, "gzip"), (brotli.compress, "br")):
        with pytest.raises(ReplyError, match="more than 99999 bytes"):
            unpack(pack(body), name)


def test_chunked_bodies_reach_the_journey(serve, answering, sent, tmp_path):
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n"
    given = script(tmp_path, "async def visit(user):\n    reply = await user.get('/')\n    user.check('list', reply.json() == [1, 2])\n")
    window = sent(closed(serve(answering(chunked)), script=given))
    assert window.journeys[0].ok > 0
    assert not window.journeys[0].errors


def test_redirects_are_followed_within_the_origin_and_count_once(serve, sent, tmp_path):
    seen: Counter[str] = Counter()

    def answers(method, path, headers, body):
        seen[f"{method} {path}"] += 1
        if path == "/a":
            return answer(b"", b"Location: /b?x=1", status=b"302 Found")
        if path == "/out":
            return answer(b"", b"Location: http://192.0.2.1/", status=b"302 Found")
        return answer(b"there")

    text = "async def visit(user):\n    reply = await user.request('POST', '/a', json=1, redirects_max=3)\n    user.check('there', reply.text == 'there')\n"
    text += "    reply = await user.request('GET', '/out', redirects_max=3)\n    user.check('not followed', reply.status == 302)\n"
    window = sent(closed(serve(app(answers)), script=script(tmp_path, text), users=1))
    assert not window.journeys[0].errors
    steps = {step.name: step for step in window.steps}
    assert seen["GET /b?x=1"] == seen["POST /a"] == steps["POST /a"].sent
    assert steps["POST /a"].statuses == {302: seen["POST /a"], 200: steps["POST /a"].ok}
    assert set(steps) == {"POST /a", "GET /out"}


def test_setup_runs_once_before_and_teardown_always_after(serve, sent, tmp_path):
    seen = []

    def answers(method, path, headers, body):
        seen.append(path)
        return answer(b'{"id": 7}')

    given = script(
        tmp_path,
        """
async def setup(user):
    return (await user.get("/make")).json()

async def teardown(user):
    await user.get(f"/remove/{user.data['id']}")

async def visit(user):
    await user.get(f"/use/{user.data['id']}")
""",
    )
    workload = closed(serve(app(answers)), script=given)
    assert hooks_of(workload) == {"setup", "teardown"}
    with prepared(workload) as ready:
        sent(ready)
        sent(ready)
    assert seen[0] == "/make"
    assert seen[-1] == "/remove/7"
    assert set(seen[1:-1]) == {"/use/7"}
    with pytest.raises(ValueError, match="stopped"), prepared(workload):
        raise ValueError("stopped")
    assert seen[-1] == "/remove/7"


def test_a_setup_that_fails_is_told(serve, answering, tmp_path):
    given = script(tmp_path, "async def setup(user):\n    raise ValueError('no data')\n\nasync def visit(user):\n    await user.get('/')\n")
    with pytest.raises(CannotMeasure) as raised, prepared(closed(serve(answering(OK)), script=given)):
        pass
    assert "no data" in raised.value.why


@pytest.mark.parametrize(
    ("text", "said"),
    [("import nothing_like_this\n", "nothing_like_this"), ("x = 1\n", "has no journey"), ("async def visit(user)\n", "SyntaxError")],
)
def test_a_file_of_journeys_that_is_none(serve, answering, sent, tmp_path, text, said):
    with pytest.raises(CannotMeasure) as raised:
        sent(closed(serve(answering(OK)), script=script(tmp_path, text)))
    assert said in raised.value.what + raised.value.why


def declared(*steps: Step, feeds=()) -> Journey:
    return Journey(name="buy", steps=steps, feeds=feeds)


def test_a_declared_journey_of_four_steps_with_data_extraction_and_checks(serve, sent, tmp_path):
    seen = []

    def answers(method, path, headers, body):
        seen.append((method, path, headers.get("authorization", ""), body))
        if path == "/login":
            return answer(json.dumps({"user": {"token": "T" + json.loads(body)["name"]}}).encode(), b"X-Region: eu")
        return answer(b'{"items": [{"id": 5}, {"id": 6}]}')

    (tmp_path / "people.jsonl").write_text('{"name": "ada \\"x\\"", "order": "1/2"}\n{"name": "bob", "order": "3"}\n')
    token = (("Authorization", "Bearer ${token}"),)
    journey = declared(
        Step(
            name="login",
            method="POST",
            paths=("/login",),
            body='{"name": "${name}"}',
            extracts=(Extract(name="token", path="user.token"), Extract(name="region", of="header", path="x-region")),
            checks=(Check(equals="200"), Check(of="header", path="X-Region", contains="e")),
        ),
        Step(name="orders", paths=("/orders/${order}?r=${region}",), headers=token, extracts=(Extract(name="last", path="items.-1.id"),), think_s=(0.0, 0.01)),
        Step(name="order", paths=("/order/${last}",), headers=token, checks=(Check(of="json", path="items.0.id", equals="5"),)),
        Step(name="bye", method="POST", paths=("/logout",), headers=token, checks=(Check(of="body", matches=r'"id": \\d'.replace("\\\\", "\\")),)),
        feeds=(Feed(file=str(tmp_path / "people.jsonl")),),
    )
    window = sent(closed(serve(app(answers)), journeys=(journey,), users=2))
    (buy,) = window.journeys
    assert buy.ok >= buy.started - 2 > 2
    assert not buy.errors
    assert [step.name for step in window.steps] == ["login", "orders", "order", "bye"]
    paths = {path for method, path, _, _ in seen if path.startswith("/orders")}
    assert paths == {"/orders/1%2F2?r=eu", "/orders/3?r=eu"}
    assert {auth for method, path, auth, _ in seen if path == "/order/6"} == {'Bearer Tada "x"', "Bearer Tbob"}


def test_a_failed_step_ends_the_iteration(serve, sent):
    def answers(method, path, headers, body):
        return answer(b"no", status=b"404 Not Found") if path == "/a" else answer(b"yes")

    window = sent(closed(serve(app(answers)), journeys=(declared(Step(name="a", paths=("/a",)), Step(name="b", paths=("/b",))),), error_rate_stop=1.0))
    steps = {step.name: step for step in window.steps}
    assert set(steps["a"].errors) == {"status_4xx"}
    assert steps["b"].sent == 0
    assert set(window.journeys[0].errors) == {"status_4xx"}


def test_a_missing_value_ends_the_request_as_check_and_a_missing_variable_as_script(serve, answering, sent):
    extracting = declared(Step(name="a", paths=("/a",), extracts=(Extract(name="x", of="header", path="nope"),)))
    window = sent(closed(serve(answering(OK)), journeys=(extracting,), error_rate_stop=1.0))
    assert set(window.steps[0].errors) == {"check"}
    window = sent(closed(serve(answering(OK)), journeys=(declared(Step(name="a", paths=("/${nope}",))),)))
    assert set(window.journeys[0].errors) == {"script"}


def test_each_row_is_used_once_and_the_load_ends_with_them(serve, sent, tmp_path):
    seen: Counter[str] = Counter()

    def answers(method, path, headers, body):
        seen[path] += 1
        return answer(b"")

    (tmp_path / "n.csv").write_text("n\n" + "\n".join(str(n) for n in range(40)) + "\n")
    journey = declared(Step(name="n", paths=("/${n}",)), feeds=(Feed(file=str(tmp_path / "n.csv"), stop=True),))
    window = sent(closed(serve(app(answers)), journeys=(journey,), users=4, duration_s=5))
    assert seen == {f"/{n}": 1 for n in range(40)} or sum(seen.values()) >= 36  # users who are slower than others leave their last rows
    assert max(seen.values()) == 1
    assert "used up" in window.stopped_early


@pytest.mark.parametrize(("text", "said"), [("a,b\n1\n", "row 2"), ("", "no rows"), ("a\n", "no rows")])
def test_a_data_file_that_is_none(serve, answering, sent, tmp_path, text, said):
    (tmp_path / "bad.csv").write_text(text)
    journey = declared(Step(name="n", paths=("/${a}",)), feeds=(Feed(file=str(tmp_path / "bad.csv")),))
    with pytest.raises(CannotMeasure, match=said):
        sent(closed(serve(answering(OK)), journeys=(journey,)))


def test_a_body_from_a_file_is_sent_as_it_is(serve, sent, tmp_path):
    content = bytes(range(256)) + b"${not}"
    (tmp_path / "b").write_bytes(content)
    seen = []

    def answers(method, path, headers, body):
        seen.append((body, headers["content-type"]))
        return answer(b"")

    step = Step(name="put", method="PUT", paths=("/x",), body_file=str(tmp_path / "b"), headers=(("Content-Type", "application/x-raw"),))
    sent(closed(serve(app(answers)), steps=(step,), users=1, duration_s=0.2))
    assert set(seen) == {(content, "application/x-raw")}


def test_open_journeys_start_by_the_schedule_and_a_replay_by_its_own(serve, sent):
    steps = (Step(name="a", paths=("/a",)), Step(name="b", paths=("/b",)))
    port = serve(app(lambda *_: answer(b"")))
    base = {"base_url": f"http://127.0.0.1:{port}", "duration_s": 1.0, "timeout_s": 2.0}
    window = sent(Workload(**base, journeys=(declared(*steps),), rate_per_s=30, arrival="constant"))
    assert [step.ok for step in window.steps] == [30, 30]
    assert window.journeys[0].ok == 30
    window = sent(Workload(**base, steps=steps, replay=Replay(times_s=(0.0, 0.1, 0.1, 0.6, 3.0), journeys=(0, 1, 1, 0, 0))))
    assert [step.ok for step in window.steps] == [2, 2]


def test_timeouts_by_phase(serve, sent):
    async def silent(reader, writer):
        await reader.read()

    async def dripping(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        await writer.drain()
        await reader.read()

    words = {"steps": GET, "users": 2, "duration_s": 0.3, "timeout_s": 0.6, "timeouts": {"first_byte_s": 0.2}, "error_rate_stop": 1.0}
    assert set(sent(closed(serve(silent), **words)).steps[0].errors) == {"timeout_first_byte"}
    assert set(sent(closed(serve(dripping), **words)).steps[0].errors) == {"timeout"}


def test_a_workload_that_contradicts_itself_is_refused():
    for words in ({"users": 1, "rate_per_s": 5}, {}, {"rate_per_s": 0.01}, {"users": 60_000}, {"users": 1, "script": Script(file="x")}):
        with pytest.raises(ValueError, match="1 validation error for Workload"):
            Workload(base_url="http://127.0.0.1", steps=GET, duration_s=1, **words)


def test_a_script_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        hooks_of(closed(1, script=Script(file=str(tmp_path / "none.py"))))

"""Journeys from HAR files, and the arrivals of access logs."""

from __future__ import annotations

import pytest

from perfloop.errors import UsageError
from perfloop.load.importers.access_log import journeys_from_log, replay_from_log, second_of, stages_of
from perfloop.load.importers.har import journey_from_har


def entry(url: str, second: float, method: str = "GET", status: int = 200, time_ms: float = 100, headers: tuple = (), **request) -> dict:
    return {
        "startedDateTime": f"2024-10-10T13:55:{second:06.3f}Z",
        "time": time_ms,
        "request": {"method": method, "url": url, "headers": [{"name": n, "value": v} for n, v in headers], **request},
        "response": {"status": status},
    }


def har(*entries: dict) -> dict:
    return {"log": {"version": "1.2", "entries": list(entries)}}


SHOP = "https://shop.example"


def test_a_session_in_order_with_its_pauses():
    journey, source = journey_from_har(
        har(
            entry(f"{SHOP}/cart?x=1", 5.0),
            entry(
                f"{SHOP}/",
                1.0,
                time_ms=500,
                headers=(("Accept", "text/html"), (":authority", "shop.example"), ("Cookie", "sid=geheim"), ("Authorization", "Bearer geheim")),
            ),
            entry(f"{SHOP}/orders/12", 1.2),
            entry("https://cdn.example/lib.js", 1.3),
            entry(f"{SHOP}/missing", 1.4, status=404),
            entry("wss://shop.example/ws", 1.5),
            entry(f"{SHOP}/api/cart", 2.0, method="POST", postData={"text": '{"id":1}'}),
        ),
        "http://127.0.0.1:8000",
    )
    assert [step.paths[0] for step in journey.steps] == ["/", "/orders/12", "/cart?x=1"]
    assert journey.steps[0].headers == (("Accept", "text/html"),)
    assert journey.steps[0].think_s == (0.0, 0.0)  # the next one began before it ended
    assert journey.steps[1].think_s[0] == pytest.approx(3.5)
    assert journey.repeatable
    for words in ("1 to other hosts", "1 that failed", "1 that may change data", "1 without http", "2 credentials in headers"):
        assert words in source
    assert "geheim" not in journey.model_dump_json()


def test_writes_where_they_are_allowed():
    journey, _ = journey_from_har(
        har(
            entry(f"{SHOP}/login", 1.0, method="POST", postData={"params": [{"name": "user", "value": "a b"}]}),
            entry(f"{SHOP}/api", 2.0, method="POST", postData={"text": "{}"}),
        ),
        SHOP,
        writes=True,
    )
    assert [step.body for step in journey.steps] == ["user=a+b", "{}"]
    assert not journey.repeatable


@pytest.mark.parametrize("document", [None, [], {}, {"log": {}}, {"log": {"entries": [{"request": None}, 7, {}]}}, har(entry(f"{SHOP}/", 1.0, status=0))])
def test_what_is_no_har(document):
    with pytest.raises(UsageError):
        journey_from_har(document, SHOP)


def line(second: int, path: str = "/a", status: int = 200, zone: str = "+0000") -> str:
    return f'203.0.113.9 - - [10/Oct/2024:13:{55 + second // 60}:{second % 60:02d} {zone}] "GET {path} HTTP/1.1" {status} 2326'


def test_arrivals_have_their_real_gaps():
    lines = [line(3, "/b"), line(0), line(0), line(0, "/gone", 404), line(0), line(0, "/b"), line(10)]
    journeys = journeys_from_log(lines, 100)
    replay = replay_from_log(lines, 100, journeys)
    assert replay.times_s == (0.0, 0.25, 0.5, 0.75, 3.0, 10.0)
    names = [journeys.steps[i].name for i in replay.journeys]
    assert names == ["GET /a", "GET /a", "GET /a", "GET /b", "GET /b", "GET /a"]
    assert replay_from_log(lines, 100, journeys, duration_max_s=5).times_s[-1] == 3.0


def test_the_curve_of_a_day_in_less_time():
    lines = [line(second) for second in range(100) for _ in range(1 + 9 * (40 <= second < 60))]
    stages = stages_of(replay_from_log(lines, 10_000, journeys_from_log(lines, 10_000)), 20.0, 5.0)
    assert sum(stage.duration_s for stage in stages) == pytest.approx(20)
    levels = [stage.level for stage in stages]
    assert levels[0] == pytest.approx(1.0, rel=0.02)
    assert max(levels) == 5.0  # cut to the limit
    assert sum(level == 5.0 for level in levels) == pytest.approx(20, abs=1)


def test_times_with_zones():
    assert second_of(line(0)) - second_of(line(0, zone="+0200")) == 7200
    assert second_of(line(0, zone="-0130")) - second_of(line(0)) == 5400
    assert second_of("no time") is None
    assert second_of("[99/Xxx/2024:00:00:00 +0000]") is None

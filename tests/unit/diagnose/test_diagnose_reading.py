"""What threads do, whose code a frame is, what source and plans say."""

from __future__ import annotations

import ast

import pytest
from diagnose_builder import ASYNC, FASTAPI, FLASK, LIB, QUERY, ROOT, STD, evidence, frames, solo

from perfloop.diagnose.code import Code, Function, growing_containers, loop_depth, memo_of, quadratic_hint
from perfloop.diagnose.frames import Doing, is_app, library_path, request_start
from perfloop.diagnose.plans import conditions_of, replaceable_scans, served
from perfloop.diagnose.reading import Reading
from perfloop.model.evidence import Frame, SourceSnippet, TableActivity


def doing(stack: str, source: dict[str, tuple[int, str]] | None = None) -> Doing:
    reading = Reading(evidence({"GET /": (50, 0.01)}, [(stack, 10, 0), (f"{FLASK} | x app.py:1", 1, 1)], source=source))
    return next((sample.waits_for for sample in reading.loaded if sample.wait > 0), Doing.IDLE)


@pytest.mark.parametrize(
    ("beneath", "expected"),
    [
        (QUERY, Doing.DATABASE),
        (f"get {LIB}/psycopg_pool/pool.py:1 | wait {STD}/threading.py:1", Doing.POOL),
        (
            f"get {LIB}/httpx/_client.py:1 | handle {LIB}/httpcore/_sync/connection_pool.py:1 | wait {LIB}/httpcore/_synchronization.py:2 | wait {STD}/threading.py:1",
            Doing.POOL,
        ),
        (f"get_connection {LIB}/redis/connection.py:1 | get {STD}/queue.py:1 | wait {STD}/threading.py:1", Doing.POOL),
        (f"execute_command {LIB}/redis/client.py:1 | recv {STD}/socket.py:1", Doing.CACHE),
        (f"query {LIB}/pymysql/connections.py:1 | readinto {STD}/socket.py:1", Doing.DATABASE),
        (f"urlopen {STD}/urllib/request.py:1 | readinto {STD}/socket.py:1", Doing.HTTP),
        (f"acquire {STD}/threading.py:1", Doing.LOCK),
        (f"communicate {STD}/subprocess.py:1", Doing.OTHER),
    ],
)
def test_waits(beneath: str, expected: Doing) -> None:
    assert doing(f"{FLASK} | page app.py:10 | {beneath}") is expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("with LOCK:", Doing.LOCK),
        ("with self._guard:", Doing.LOCK),
        ("with connection_pool:", Doing.POOL),
        ("sem.acquire()", Doing.LOCK),
        ("time.sleep(1)", Doing.SLEEP),
        ("rows = cur.fetchall()", Doing.DATABASE),
        ("data = sock.recv(10)", Doing.HTTP),
        ("total = sum(numbers)", Doing.OTHER),
    ],
)
def test_waits_by_statement(line: str, expected: Doing) -> None:
    body = f"    {line}\n        pass\n" if line.startswith("with") else f"    {line}\n"
    assert doing(f"{FLASK} | page app.py:11", {"app.py:page": (10, f"def page(self):\n{body}")}) is expected


def test_whose_code() -> None:
    assert is_app(Frame(function="f", file=f"{ROOT}/a.py", line=1), ROOT)
    for file in (f"{LIB}/x/a.py", f"{STD}/json.py", "<frozen importlib._bootstrap>", "/srv/application/a.py"):
        assert not is_app(Frame(function="f", file=file, line=1), ROOT)
    # a folder above the libraries that is called like one of them
    assert library_path("/srv/redis-pool/venv/lib/python3.11/site-packages/starlette/app.py") == "/starlette/app.py"
    assert library_path(f"{ROOT}/redis/a.py") == ""


def test_main_is_not_a_request() -> None:
    stack = frames(f"{ASYNC} | handler api.py:3")
    start = request_start(stack)
    assert start is not None
    assert [frame.function for frame in stack[start:]] == ["app", "handler"]
    assert request_start(frames("<module> jobs.py:1 | work jobs.py:2")) is None


def test_samples_belong_to_the_step_whose_handler_they_run() -> None:
    a, b, shared = f"{FASTAPI} | a app.py:1 | load db.py:9", f"{FASTAPI} | b app.py:5 | load db.py:9", f"{FASTAPI} | load db.py:9"
    reading = Reading(
        evidence({"A": (30, 0.1), "B": (10, 0.1)}, [(a, 100, 0), (b, 50, 0), (shared, 40, 0)], [solo("A", 0.1, [(a, 10, 0)]), solo("B", 0.1, [(b, 10, 0)])])
    )
    totals = {name: sum(sample.count for sample in samples) for name, samples in reading.by_step.items()}
    assert totals["A"] == pytest.approx(130)  # three quarters of what cannot be told go to the step with three quarters of the requests
    assert totals["B"] == pytest.approx(60)


def test_comprehension_counts_for_its_function() -> None:
    reading = Reading(evidence({"A": (30, 0.1)}, [(f"{FASTAPI} | a app.py:1 | <listcomp> app.py:2", 10, 10)]))
    assert [frame.function for frame in reading.loaded[0].app] == ["a", "a"]


def parsed(text: str, first: int = 1) -> Function:
    found = Code([SourceSnippet(file="a.py", function="f", first_line=first, text=text)]).function("a.py", first)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("def f(a):\n    for x in a:\n        for y in a:\n            pass", "a loop inside a loop"),
        ("def f(a):\n    for x in a:\n        if x not in out:\n            out.append(x)", "membership"),
        ("def f(a):\n    return [x for x in a for y in a]", "two iterables"),
        ("def f(a):\n    while a:\n        a.sort()", "sort()"),
        ("def f(a):\n    return sorted(x for x in a)", ""),
    ],
)
def test_quadratic_hint(text: str, hint: str) -> None:
    assert (hint in quadratic_hint(parsed(text))) if hint else quadratic_hint(parsed(text)) == ""


@pytest.mark.parametrize(
    ("text", "container"),
    [
        ("@lru_cache(maxsize=1)\ndef f(a):\n    return a", "lru_cache(maxsize=1)"),
        ("def f(a):\n    hit = CACHE.get(a)\n    if hit:\n        return hit\n    CACHE[a] = hit = g(a)\n    return hit", "CACHE"),
        ("def f(self, a):\n    v = self.store.get(a)\n    if v is None:\n        v = g(a)\n        self.store.set(a, v, 60)\n    return v", "self.store"),
        ("def f(a):\n    seen = {}\n    if a in seen:\n        return seen[a]\n    seen[a] = 1", None),
        ("def f(a):\n    for k in a:\n        G[k] = G.get(k, 0) + 1", None),
    ],
)
def test_memo(text: str, container: str | None) -> None:
    memo = memo_of(parsed(text))
    assert (memo.container if memo else None) == container


def test_growing_containers() -> None:
    adds = parsed("def f(x, out):\n    LOG.append(x)\n    out.append(x)\n    local = []\n    local.append(x)", 20)
    assert [(name, line) for _, name, line in growing_containers([adds])] == [("LOG", 21)]
    assert growing_containers([adds, parsed("def g():\n    LOG.pop()")]) == []


def test_loop_depth_counts_only_what_repeats() -> None:
    function = parsed("def f(a):\n    for x in load(a):\n        use(x)\n    return 1")
    assert [loop_depth(function, line) for line in (2, 3, 4)] == [0, 1, 0]


def test_source_that_does_not_parse_is_absent() -> None:
    assert Code([SourceSnippet(file="a.py", function="f", first_line=1, text="def f(:")]).function("a.py", 1) is None
    assert ast.unparse(parsed("    def f(self):\n        return 1").node)  # indented as in a class


@pytest.mark.parametrize(
    ("text", "equal", "ranged"),
    [
        ("((status)::text = 'paid'::text)", ("status",), ()),
        ("((customer_id = $1) AND (created_at >= $2))", ("customer_id",), ("created_at",)),
        ("(status = ANY ('{a,b}'::text[]))", ("status",), ()),
        ("((a = 1) OR (b = 2))", (), ()),
        ("(lower(email) = 'x'::text)", (), ()),
        ("(name ~~ '%x%'::text)", (), ()),
        ("((deleted_at IS NULL) AND (a = b))", ("deleted_at",), ()),
        ("not ( sql", (), ()),
    ],
)
def test_conditions(text: str, equal: tuple[str, ...], ranged: tuple[str, ...]) -> None:
    found = conditions_of(text)
    assert (found.equal, found.ranged) == (equal, ranged)


ORDERS = TableActivity(name="shop.order", seq_scan=9, seq_tup_read=10**7, idx_scan=0, rows=10**6, size_bytes=10**8)


def test_scan_with_order_under_a_limit() -> None:
    scan = {"Node Type": "Seq Scan", "Relation Name": "order", "Alias": "o", "Total Cost": 900.0, "Plan Rows": 50, "Filter": "(buyer = 7)"}
    sort = {"Node Type": "Sort", "Sort Key": ["o.created_at DESC"], "Total Cost": 950.0, "Plan Rows": 50, "Plans": [scan]}
    plan = {"Plan": {"Node Type": "Limit", "Total Cost": 951.0, "Plan Rows": 20, "Plans": [sort]}}
    found = replaceable_scans(plan, [ORDERS], 10_000, 0.1)
    assert found[0].columns == (("buyer", "asc"), ("created_at", "desc"))
    assert found[0].ddl == "CREATE INDEX ON shop.order (buyer, created_at DESC)"


def test_join_without_an_index_on_the_foreign_key() -> None:
    scan = {"Node Type": "Seq Scan", "Relation Name": "order", "Alias": "o", "Total Cost": 900.0, "Plan Rows": 10**6}
    other = {"Node Type": "Hash", "Total Cost": 8.0, "Plan Rows": 1, "Plans": []}
    plan = {"Plan": {"Node Type": "Hash Join", "Hash Cond": "(o.buyer = c.id)", "Total Cost": 1000.0, "Plan Rows": 12, "Plans": [scan, other]}}
    assert replaceable_scans(plan, [ORDERS], 10_000, 0.1)[0].columns == (("buyer", "asc"),)


def test_scan_that_returns_most_rows_or_is_narrowed_is_fine() -> None:
    most = {"Plan": {"Node Type": "Seq Scan", "Relation Name": "order", "Total Cost": 900.0, "Plan Rows": 600_000, "Filter": "(paid = 1)"}}
    narrowed = {
        "Plan": {"Node Type": "Index Scan", "Relation Name": "order", "Total Cost": 9.0, "Plan Rows": 2, "Index Cond": "(id = 1)", "Filter": "(paid = 1)"}
    }
    assert replaceable_scans(most, [ORDERS], 10_000, 0.1) == []
    assert replaceable_scans(narrowed, [ORDERS], 10_000, 0.1) == []


def test_served() -> None:
    columns = (("a", "asc"), ("b", "desc"))
    assert served(("CREATE INDEX i ON t USING btree (b, a, c)",), columns)
    assert not served(
        ("CREATE INDEX i ON t USING btree (a, c, b)", "CREATE INDEX j ON t USING btree (a, b) WHERE (x > 1)", "CREATE INDEX k ON t USING gin (a, b)"), columns
    )

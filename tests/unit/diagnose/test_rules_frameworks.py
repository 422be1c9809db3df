"""Rules on services of other makes than the recorded ones: Flask, Django, asyncio, raw drivers."""

from __future__ import annotations

from diagnose_builder import ASYNC, DJANGO, FASTAPI, FLASK, HTTP, LIB, LOOP_IDLE, QUERY, STD, evidence, solo

from perfloop.diagnose.runner import diagnose
from perfloop.model.evidence import Evidence, ExperimentResult, LockWait, PostgresObservation, ProcessObservation, QueryLoad, QueryPlan, TableActivity
from perfloop.model.finding import Confidence, Finding


def first(found: Evidence) -> Finding:
    return diagnose(found, {}).findings[0]


def test_flask_with_psycopg2_in_a_loop_is_n_plus_one() -> None:
    """psycopg2 is C: nothing but the line tells that it queries."""
    text = "def books():\n    rows = authors()\n    for row in rows:\n        cur.execute('SELECT title FROM book WHERE author = %s', (row[0],))\n    return rows\n"
    rows = [(f"{FLASK} | books app.py:23", 80, 10), (f"{FLASK} | books app.py:24 | dumps {STD}/json/__init__.py:1", 20, 20)]
    found = evidence({"GET /books": (50, 0.03)}, rows, [solo("GET /books", 0.02, rows, peers={"postgresql": (50 * 31, 0.7)})], {"app.py:books": (20, text)})
    assert first(found).rule == "n-plus-one"
    assert first(found).place.line == 23
    assert first(found).confidence is Confidence.LIKELY


def test_django_lazy_relation() -> None:
    lazy = f"__get__ {LIB}/django/db/models/fields/related_descriptors.py:1 | execute {LIB}/django/db/backends/utils.py:1 | execute {LIB}/psycopg/cursor.py:1"
    rows = [(f"{DJANGO} | index shop/views.py:8 | {lazy}", 70, 30)]
    found = evidence({"GET /": (50, 0.03)}, rows, [solo("GET /", 0.02, rows, peers={"postgresql": (50 * 14, 0.5)})])
    assert first(found).rule == "n-plus-one"
    assert "prefetch_related" in first(found).fix


def test_many_different_queries_are_only_possible() -> None:
    rows = [(f"{FLASK} | home app.py:{line} | {QUERY}", 8, 2) for line in range(10, 20)]
    found = evidence({"GET /": (50, 0.03)}, rows, [solo("GET /", 0.02, rows, peers={"postgresql": (50 * 12, 0.5)})])
    assert first(found).confidence is Confidence.POSSIBLE


def test_async_service_waiting_for_its_peer() -> None:
    """The wait is on no stack, only on the socket."""
    found = evidence({"GET /quote": (50, 0.2)}, [(LOOP_IDLE, 490, 0)], [solo("GET /quote", 0.2, [(LOOP_IDLE, 990, 0)], peers={"http": (50, 9.5)})])
    assert first(found).rule == "slow-downstream"
    assert first(found).place.peer == "10.0.0.9:8000"


def test_sync_client_on_the_loop_is_not_a_slow_peer() -> None:
    blocked = f"{ASYNC} | quote api.py:31 | {HTTP}"
    rows = [(blocked, 300, 0), (LOOP_IDLE, 200, 0)]
    found = evidence(
        {"GET /quote": (25, 0.25), "GET /ok": (25, 0.15)},
        rows,
        [solo("GET /quote", 0.12, [(blocked, 580, 0)], peers={"http": (50, 5.7)}), solo("GET /ok", 0.002)],
    )
    finding = first(found)
    assert finding.rule == "event-loop-blocked"
    assert finding.place.line == 31
    assert "GET /ok" in finding.steps
    assert finding.experiment is not None
    assert finding.experiment.params["step"] == "GET /quote"
    assert [item.rule for item in diagnose(found, {}).findings] == ["event-loop-blocked"]


def test_loop_waiting_for_the_interpreter_lock_is_not_blocked() -> None:
    """Threads that compute hold the interpreter's lock; the loop then waits in plain code."""
    rows = [(f"{ASYNC} | ok api.py:5", 200, 50), (f"{FASTAPI} | report api.py:50", 480, 470)]
    found = evidence(
        {"GET /ok": (25, 0.1), "GET /report": (5, 0.9)}, rows, [solo("GET /report", 0.8, [(f"{FASTAPI} | report api.py:50", 160, 158)], 2)], cores=0.98
    )
    assert "event-loop-blocked" not in [finding.rule for finding in diagnose(found, {}).findings]
    assert first(found).rule == "cpu-hot-spot"


def test_lock_by_name_or_by_attribute_and_its_holder() -> None:
    text = "def add(item):\n    with STATE.guard:\n        total = client.get('/x')\n    return total\n"
    waiting, holding = f"{FLASK} | add app.py:11", f"{FLASK} | add app.py:12 | {HTTP}"
    rows = [(waiting, 900, 0), (holding, 400, 10)]
    found = evidence({"POST /add": (50, 0.3)}, rows, [solo("POST /add", 0.045, [(holding, 200, 5)])], {"app.py:add": (10, text)})
    assert first(found).rule == "lock-contention"
    assert first(found).place.line == 11
    assert any("app.py:12" in fact and "downstream" in fact for fact in first(found).evidence)


def test_condition_wait_of_a_pool_of_ones_own() -> None:
    text = "def checkout(self):\n    return self._idle_connections_pool.get(timeout=5)\n"
    waiting = f"{FLASK} | page app.py:3 | checkout db.py:11 | get {STD}/queue.py:1 | wait {STD}/threading.py:1"
    found = evidence(
        {"GET /": (50, 0.2)}, [(waiting, 700, 0)], [solo("GET /", 0.01, [(f"{FLASK} | page app.py:4 | {QUERY}", 40, 1)])], {"db.py:checkout": (10, text)}
    )
    assert first(found).rule == "pool-exhausted"


def test_pool_wait_because_of_a_slow_query_is_an_effect() -> None:
    """One slow query on every connection: the index is the cause, the queue goes with it."""
    query, wait = f"{FASTAPI} | find app.py:5 | {QUERY}", f"{FASTAPI} | find app.py:5 | _do_get {LIB}/sqlalchemy/pool/impl.py:1 | wait {STD}/threading.py:1"
    rows = [(query, 1000, 5), (wait, 2000, 0)]
    found = evidence({"GET /find": (50, 0.6)}, rows, [solo("GET /find", 0.1, [(query, 480, 5)], peers={"postgresql": (150, 4.8)})], postgres=(scanning(),))
    ranked = diagnose(found, {}).findings
    assert [item.rule for item in ranked] == ["missing-index", "pool-exhausted"]
    assert ranked[1].confidence is Confidence.POSSIBLE
    assert any("an effect of missing-index" in fact for fact in ranked[1].evidence)


def scanning(indexes: tuple[str, ...] = (), locks: tuple[LockWait, ...] = ()) -> PostgresObservation:
    table = TableActivity(name="public.person", seq_scan=50, seq_tup_read=5_000_000, idx_scan=0, rows=100_000, size_bytes=10**7, indexes=indexes)
    plan = {
        "Plan": {"Node Type": "Seq Scan", "Relation Name": "person", "Alias": "person", "Total Cost": 2000.0, "Plan Rows": 3, "Filter": "((email)::text = $1)"}
    }
    return PostgresObservation(
        window_s=5.0,
        host="h",
        port=1,
        database="d",
        server_version=150000,
        samples=100,
        sample_hz=20,
        queries=(QueryLoad(query_id="q1", text="SELECT * FROM person WHERE email = $1", active_samples=190),),
        tables=(table,),
        plans=(QueryPlan(query_id="q1", generic=True, plan=plan),),
        locks=locks,
        sessions_max=10,
        sessions_active_mean=1.9,
    )


def test_missing_index_with_the_twin_against_and_for_it() -> None:
    found = evidence({"GET /find": (50, 0.1)}, solos=[solo("GET /find", 0.05, peers={"postgresql": (150, 2.0)})], postgres=(scanning(),))
    finding = first(found)
    assert finding.rule == "missing-index"
    assert finding.proposals[0].params["columns"] == [["email", "asc"]]
    assert finding.fix == "CREATE INDEX CONCURRENTLY ON public.person (email)"
    assert finding.experiment is not None
    subject = finding.experiment.params["subject"]
    told = ExperimentResult(kind="twin-index", rule="missing-index", subject=subject, y=(2000.0, 8.0), supports=True, note="cheaper")
    assert first(found.with_(experiments=(told,))).confidence is Confidence.CONFIRMED
    against = told.with_(y=(2000.0, 2000.0), supports=False)
    assert diagnose(found.with_(experiments=(against,)), {}).findings == ()


def test_existing_index_or_small_cost_is_no_finding() -> None:
    solos = [solo("GET /find", 0.05, peers={"postgresql": (150, 2.0)})]
    there = scanning(("CREATE INDEX p ON public.person USING btree (email, id)",))
    assert diagnose(evidence({"GET /find": (50, 0.1)}, solos=solos, postgres=(there,)), {}).findings == ()
    cheap = scanning().with_(samples=20_000)
    assert diagnose(evidence({"GET /find": (50, 0.1)}, solos=solos, postgres=(cheap,)), {}).findings == ()


def test_row_locks_in_the_database() -> None:
    lock = LockWait(waiting_query_id="q2", waiting="UPDATE stock SET n = n - $1", blocking="UPDATE stock SET n = n - $1", relation="stock", samples=150)
    found = evidence({"POST /buy": (50, 0.3)}, postgres=(scanning(("CREATE INDEX p ON public.person USING btree (email)",), (lock,)),))
    assert first(found).rule == "lock-contention"
    assert "stock" in first(found).title


def test_quadratic_code_is_confirmed_by_the_sweep_and_replaces_the_hot_spot() -> None:
    text = "def similar(items):\n    out = []\n    for a in items:\n        for b in items:\n            out.append(a * b)\n    return out\n"
    rows = [(f"{FLASK} | similar algo.py:14", 95, 95)]
    found = evidence({"GET /similar": (50, 0.03)}, rows, [solo("GET /similar", 0.02, rows)], {"algo.py:similar": (10, text)})
    before = diagnose(found, {}).findings
    assert [(item.rule, item.confidence.value) for item in before] == [("cpu-hot-spot", "likely"), ("superlinear", "possible")]
    assert any("loop inside a loop" in fact for fact in before[1].evidence)
    told = ExperimentResult(kind="size-sweep", rule="superlinear", subject=f"{before[1].place.file}:similar", supports=True, note="n^1.9")
    assert [item.rule for item in diagnose(found.with_(experiments=(told,)), {}).findings] == ["superlinear"]


def test_growing_memory_names_the_container() -> None:
    text = "def log(event):\n    HISTORY.append(event)\n    seen = []\n    seen.append(1)\n"
    series = tuple((t / 4, 80_000_000 + 250_000 * t) for t in range(20))
    process = ProcessObservation(window_s=5.0, pid=7, cpu_s=1.0, rss_series=series)
    rows = [(f"{FLASK} | log app.py:3", 5, 5)]
    found = evidence({"GET /": (50, 0.01)}, rows, [solo("GET /", 0.01, rows)], {"app.py:log": (3, text)}, processes=(process,))
    assert first(found).rule == "memory-leak"
    assert first(found).place.line == 4
    step = tuple((t / 4, 80_000_000 + (5_000_000 if t > 10 else 0)) for t in range(20))  # a heap that grew once
    assert diagnose(found.with_(processes=(process.with_(rss_series=step),)), {}).findings == ()


def test_cache_of_a_dict_that_never_hits_explains_the_computing_behind_it() -> None:
    text = "def report(key):\n    if key in _CACHE:\n        return _CACHE[key]\n    value = build(key)\n    _CACHE[key] = value\n    return value\n"
    rows = [(f"{FLASK} | report app.py:13 | build app.py:40", 90, 90)]
    found = evidence({"GET /report": (50, 0.03)}, rows, [solo("GET /report", 0.02, rows)], {"app.py:report": (10, text)})
    before = diagnose(found, {})
    cache = next(item for item in before.findings if item.rule == "cache-ineffective")
    assert cache.confidence is Confidence.POSSIBLE
    assert cache.experiment is not None
    told = ExperimentResult(kind="repeat-same", rule="cache-ineffective", subject=cache.experiment.params["subject"], supports=True, note="no cheaper")
    after = diagnose(found.with_(experiments=(told,)), {}).findings
    assert after[0].rule == "cache-ineffective"
    assert {item.confidence for item in after[1:]} == {Confidence.POSSIBLE}


def test_background_threads_and_libraries_are_not_requests() -> None:
    rows = [
        (f"_bootstrap {STD}/threading.py:1 | run {STD}/threading.py:2 | poll jobs.py:3 | get {STD}/queue.py:1 | wait {STD}/threading.py:3", 500, 0),
        (f"_bootstrap {STD}/threading.py:1 | run {LIB}/psycopg_pool/pool.py:1 | get {STD}/queue.py:1 | wait {STD}/threading.py:3", 500, 0),
        (f"{FASTAPI} | get {STD}/queue.py:1 | wait {STD}/threading.py:3", 20_000, 0),
    ]
    found = evidence({"GET /": (50, 0.01)}, rows, [solo("GET /", 0.01, rows)])
    assert diagnose(found, {}).findings == ()


def test_async_service_whose_sessions_are_all_held() -> None:
    held = scanning(("CREATE INDEX p ON public.person USING btree (email)",)).with_(
        sessions_max=4, sessions_active_mean=0.4, sessions_idle_in_transaction_mean=3.5
    )
    rows = [(LOOP_IDLE, 480, 0), (f"{ASYNC} | find api.py:5", 10, 10)]
    found = evidence({"GET /find": (50, 0.4)}, rows, [solo("GET /find", 0.05, peers={"postgresql": (150, 0.2)})], postgres=(held,))
    assert first(found).rule == "pool-exhausted"
    assert first(found).confidence is Confidence.LIKELY
    busy = held.with_(sessions_active_mean=3.5, sessions_idle_in_transaction_mean=0.3)  # the database works: more connections would not help
    assert first(found.with_(postgres=(busy,))).confidence is Confidence.POSSIBLE

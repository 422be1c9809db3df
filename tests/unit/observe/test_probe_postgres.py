"""A real PostgreSQL with a planted slow query and a planted lock wait."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from perfloop.observe.activity import Activity, Tally, hide_values, root_blocker, without_literals
from perfloop.observe.base import Access
from perfloop.observe.runner import Observer, observe


def look(service, dsn, work, pids=()):
    observer = Observer(service.target, Access(pids=pids, postgres_dsn=dsn), ("postgres",)).start()
    assert observer.wait_ready()
    work()
    return observer.stop()


def test_a_slow_query_is_seen_active_with_its_plan_and_without_its_literals(db_service, cluster):
    parts = look(db_service, cluster.dsn("perfloop_ro"), lambda: db_service.get(*["/slow-query"] * 8), (db_service.pid,))
    (seen,) = parts.postgres
    top = seen.queries[0]
    assert "count" in top.text.lower()
    assert "items" in top.text
    assert "secret-literal" not in parts.postgres[0].model_dump_json()
    assert top.active_samples >= 2
    assert sum(top.waits.values()) == top.active_samples
    assert seen.samples >= top.active_samples
    assert top.query_id.lstrip("-").isdigit()
    plan = next(plan for plan in seen.plans if plan.query_id == top.query_id)
    assert "Plan" in plan.plan
    assert not plan.generic
    table = next(table for table in seen.tables if table.name == "public.items")
    assert table.rows == 60_000
    assert any("items_pkey" in index for index in table.indexes)
    assert (seen.host, seen.port, seen.database) == ("127.0.0.1", cluster.port, "postgres")
    assert seen.max_connections >= 10
    assert seen.server_version >= 160_000
    assert not seen.has_pg_stat_statements
    assert seen.sessions_max >= 1


def test_a_lock_wait_names_the_waiting_the_blocking_and_the_table(db_service, cluster):
    def work():
        with psycopg.connect(cluster.dsn("app"), application_name="holder") as holder:
            holder.execute("update items set note = 'mine' where id = 42")
            with db_service.behind("/update"):
                time.sleep(1.0)
                holder.commit()

    (seen,) = look(db_service, cluster.dsn("perfloop_ro"), work).postgres
    (wait,) = seen.locks
    assert wait.waiting.lower().startswith("update")
    assert "other" not in wait.waiting
    assert wait.blocking.lower().startswith("update")
    assert wait.relation == "items"
    assert wait.samples >= 5
    waiting = next(query for query in seen.queries if query.query_id == wait.waiting_query_id)
    assert any(name.startswith("Lock:") for name in waiting.waits)
    assert seen.sessions_idle_in_transaction_mean > 0.3


def test_sessions_of_others_are_left_out_where_the_service_has_its_own(db_service, cluster):
    stop = threading.Event()

    def other():
        with psycopg.connect(cluster.dsn("app"), autocommit=True, application_name="stranger") as connection:
            while not stop.is_set():
                connection.execute("select pg_sleep(0.05) as stranger")

    thread = threading.Thread(target=other)
    thread.start()
    try:
        parts = look(db_service, cluster.dsn("perfloop_ro"), lambda: db_service.get(*["/slow-query"] * 8), (db_service.pid,))
    finally:
        stop.set()
        thread.join()
    (seen,) = parts.postgres
    assert seen.queries
    assert not any("stranger" in query.text for query in seen.queries)


def test_a_role_that_sees_nothing_says_so_with_the_fix(db_service, cluster):
    with psycopg.connect(cluster.dsn("app")) as connection:
        connection.execute("select 1")
        parts = observe(db_service.target, 0.5, Access(postgres_dsn=cluster.dsn("blind")), ("postgres",))
    (gone,) = parts.unavailable
    assert "blind" in gone.reason
    assert "activity.sql" in gone.fix
    assert not parts.postgres


@pytest.mark.parametrize(
    ("dsn", "word"),
    [
        ("postgresql://perfloop_ro:wrong-geheim@127.0.0.1:{port}/postgres", "password"),
        ("postgresql://perfloop_ro:geheim@127.0.0.1:1/postgres", "not there"),
        ("postgresql://perfloop_ro:geheim@127.0.0.1:{port}/nowhere", "no database"),
    ],
)
def test_a_database_that_refuses_is_told_without_the_password_and_the_rest_goes_on(db_service, cluster, dsn, word):
    parts = observe(db_service.target, 0.2, Access(pids=(db_service.pid,), postgres_dsn=dsn.format(port=cluster.port)), ("postgres", "process"))
    (gone,) = parts.unavailable
    assert gone.probe == "postgres"
    assert word in gone.reason
    assert gone.fix
    assert "geheim" not in gone.reason + gone.fix
    assert parts.processes


def test_a_database_that_dies_in_the_window_is_told_and_the_rest_goes_on(db_service, cluster):
    def work():
        time.sleep(0.3)
        with psycopg.connect(cluster.admin, autocommit=True) as admin:
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'perfloop'")
        time.sleep(0.3)

    observer = Observer(db_service.target, Access(pids=(db_service.pid,), postgres_dsn=cluster.dsn("perfloop_ro")), ("postgres", "process")).start()
    assert observer.wait_ready()
    work()
    parts = observer.stop()
    assert [gone.probe for gone in parts.unavailable] == ["postgres"]
    assert "broke off" in parts.unavailable[0].reason
    assert parts.processes


def test_no_secret_shows_in_the_access():
    assert "geheim" not in repr(Access(postgres_dsn="postgresql://u:geheim@h/d"))


def session(pid, state="active", wait=None, query_id=1, query="select 1", blocked_by=()):
    kind, _, event = (wait or "").partition(":")
    return Activity(pid, "app", 5000, state, kind or None, event or None, query_id, query, "client backend", list(blocked_by))


def test_the_head_of_the_queue_is_the_blocker():
    waiting, between, head = session(1, blocked_by=(2, 3)), session(2, blocked_by=(3,)), session(3)
    everybody = {one.pid: one for one in (waiting, between, head)}
    assert root_blocker(waiting, everybody) is head
    assert root_blocker(head, everybody) is None
    assert root_blocker(session(9, blocked_by=(77,)), everybody) is None


def test_queries_without_an_id_are_grouped_by_their_text_without_literals():
    tally = Tally()
    for number in range(5):
        tally.add([session(1, query_id=None, query=f"select * from t where id = {number}")], {}, lambda _: "")
    (query,) = tally.queries({})
    assert query.active_samples == 5
    assert query.waits == {"CPU": 5}
    assert "where id = ?" in query.text.lower()


def test_values_are_hidden_in_plans_and_names_stay():
    assert (
        hide_values("((status = 'it''s'::text) AND (id = $1) AND (t2.n3 > 4.5) AND (\"a'1\" = 7))")
        == '((status = ?::text) AND (id = $1) AND (t2.n3 > ?) AND ("a\'1" = ?))'
    )
    plan = {"Plan": {"Node Type": "Seq Scan", "Plan Rows": 7, "Filter": "(email = 'x@y.z'::text)", "Plans": [{"Index Cond": "(id = 3)"}]}}
    assert without_literals(plan) == {"Plan": {"Node Type": "Seq Scan", "Plan Rows": 7, "Filter": "(email = ?::text)", "Plans": [{"Index Cond": "(id = ?)"}]}}

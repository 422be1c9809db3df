"""MariaDB: ten planted faults and a healthy control, each on a server of its own."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.database_tools.faults import Load, named
from bench.table import Row

sys.path.append(str(Path(__file__).parents[2] / "tests"))

SCHEMA = """
create table customer (id int primary key, email varchar(60), city varchar(30), note text, key email (email));
insert into customer select seq, concat('c', seq, '@example.org'), concat('city ', seq % 300), repeat('n', 50) from seq_1_to_20000;
create table orders (id int primary key, customer_id int, status varchar(10), amount decimal(10,2), created datetime, key customer (customer_id));
insert into orders select seq, 1 + seq % 20000, if(seq % 50 = 0, 'open', 'paid'), seq % 997, '2026-01-01' + interval seq minute from seq_1_to_60000;
create table counter (id int primary key, n int); insert into counter values (1, 0), (2, 0);
create table line (id int auto_increment primary key, order_id int, text varchar(60));
analyze table customer, orders;
"""


@dataclass(frozen=True)
class Fault:
    cause: str  # empty: healthy
    loads: Callable[[Callable[[], Any]], list[Load]]
    options: tuple[str, ...] = ()
    extra: str = ""


def repeated(connect: Callable[[], Any], do: Callable[[Any, int], None], rate_per_s: float, again: bool = False) -> Load:
    def work(stop: threading.Event) -> None:
        connection, number = connect(), 0
        while not stop.is_set():
            if again:
                connection.close()
                connection = connect()
            with contextlib.suppress(Exception):
                do(connection, number)
            number += 1
            time.sleep(1 / rate_per_s)
        connection.close()

    return work


def sql(text: str) -> Callable[[Any, int], None]:
    def run(connection: Any, number: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute(text.replace("{n}", str(number % 20_000)).replace("{r}", str(number * 7919 % 29_000)))
            cursor.fetchall()

    return run


def ordinary(connect: Callable[[], Any]) -> Load:
    return repeated(connect, sql("select amount from orders where id = {n}"), 50)


def one(text: str, rate_per_s: float, again: bool = False) -> Callable[[Callable[[], Any]], list[Load]]:
    return lambda connect: [ordinary(connect), repeated(connect, sql(text), rate_per_s, again)]


def locked(connect: Callable[[], Any]) -> list[Load]:
    def hold(stop: threading.Event) -> None:
        connection = connect()
        connection.autocommit(False)
        with connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("update counter set n = n + 1 where id = 1")
                time.sleep(0.4)
                connection.commit()
        connection.close()

    return [ordinary(connect), hold, repeated(connect, sql("update counter set n = n + 1 where id = 1"), 50)]


def tables(connect: Callable[[], Any]) -> list[Load]:
    return [ordinary(connect), repeated(connect, _small, 300)]


def _small(connection: Any, number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"select * from small_{number % 120}")
        cursor.fetchall()


SMALL = "".join(f"create table small_{n} (id int primary key); " for n in range(120))
INSERT = "insert into line (order_id, text) values ({n}, 'x')"

FAULTS = {
    "a filter without an index": Fault("mysql-full-scan", one("select id from orders where status = 'open' and amount = 7", 15)),
    "a join without an index": Fault("mysql-join-without-index", one("select count(*) from customer a join orders b on b.status = a.city where a.id < 8", 6)),
    "waits for a row lock": Fault("mysql-row-locks", locked),
    "a buffer pool too small": Fault("mysql-buffer-pool-small", lambda c: [ordinary(c), repeated(c, sql("select sum(length(body)) from big where id between {r} and {r} + 400"), 60)], ("--innodb-buffer-pool-size=8M",), "create table big (id int primary key, body varchar(2000)); insert into big select seq, repeat('b', 1500) from seq_1_to_30000;"),
    "temporary tables on disk": Fault("mysql-temp-on-disk", one("select city, group_concat(note) from (select city, note from customer where id < 400) t group by city, note order by null", 40), ("--tmp-table-size=1024", "--max-heap-table-size=16384")),
    "sorts on disk": Fault("mysql-sort-on-disk", one("select id from orders where id < 9000 order by amount, created, status", 20), ("--sort-buffer-size=32768",)),
    "a commit for each row": Fault("mysql-flush-per-row", one(INSERT, 400), ("--innodb-flush-log-at-trx-commit=1",)),
    "a connection for each statement": Fault("mysql-connection-churn", one("select amount from orders where id = {n}", 120, again=True)),
    "a table cache too small": Fault("mysql-table-cache-small", tables, ("--table-open-cache=20", "--table-definition-cache=400"), SMALL),
    "an index that another one makes needless": Fault("mysql-redundant-index", one("select amount from orders where id = {n}", 40), (), "alter table orders add key customer_created (customer_id, created);"),
    "connections refused": Fault("mysql-max-connections", lambda c: [ordinary(c), *[repeated(c, sql("select sleep(1)"), 5) for _ in range(12)]], ("--max-connections=10",)),
    "healthy": Fault("", one("update orders set amount = amount + 1 where id = {n}", 20)),
}  # fmt: skip


def rows(options: Any) -> list[Row]:
    """One server a fault; right where the fault is named first."""
    results = {name: run(fault) for name, fault in FAULTS.items()}
    for name, got in results.items():
        print(f"  {'ok' if right(FAULTS[name], got) else 'NO'}  mariadb: {name}: {got}", flush=True)
    planted = [name for name, fault in FAULTS.items() if fault.cause]
    good = sum(right(FAULTS[name], results[name]) for name in planted)
    needed = 0.9 * len(planted)
    return [
        Row(f"MariaDB: planted faults named first, of {len(planted)}", float(good), "", f"≥ {needed:.0f}", good >= needed),
        Row("MariaDB: findings on the healthy control", float(len(results["healthy"])), "", "0", not results["healthy"]),
    ]


def right(fault: Fault, got: list[str]) -> bool:
    return got[:1] == [fault.cause] if fault.cause else not got


def run(fault: Fault) -> list[str]:
    import pymysql

    from perfloop.diagnose.rules.database import mysql_health
    from perfloop.model.target import PeerKind
    from perfloop.observe.base import Access
    from perfloop.observe.probes import mysql as probe
    from services.mariadb import mariadb

    with tempfile.TemporaryDirectory() as folder, mariadb(Path(folder), *fault.options) as server:
        server.run(SCHEMA + fault.extra, "shop")
        server.run(
            "create user app identified by 'geheim'; grant all on shop.* to app; create user look identified by 'geheim'; grant process, connection admin on *.* to look; grant select on shop.* to look;"
        )

        def connect() -> Any:
            return pymysql.connect(host=server.host, port=server.port, user="app", password="geheim", database="shop", autocommit=True)

        return named(probe, mysql_health, Access(mysql_dsn=f"mysql://look:geheim@{server.host}:{server.port}/shop"), PeerKind.MYSQL, fault.loads(connect))


if __name__ == "__main__":
    for row in rows(None):
        print(row)

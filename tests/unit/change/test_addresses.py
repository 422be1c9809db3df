"""Where a configured value points, and the same value pointing at a tap: nothing else of it changes."""

from __future__ import annotations

import pytest

from perfloop.change.addresses import find, replaced
from perfloop.errors import ChangeRefused

CASES = [
    ("postgresql://u:p%40w@db.example:5433/shop?sslmode=disable", "postgresql", "db.example:5433", "postgresql://u:p%40w@127.0.0.1:9/shop?sslmode=disable"),
    ("postgresql+asyncpg://u:p@db/shop", "postgresql", "db:5432", "postgresql+asyncpg://u:p@127.0.0.1:9/shop"),
    ("redis://:secret@127.0.0.1:6380/0", "redis", "127.0.0.1:6380", "redis://:secret@127.0.0.1:9/0"),
    ("redis://cache", "redis", "cache:6379", "redis://127.0.0.1:9"),
    ("mysql://u@[::1]:3307/shop", "mysql", "[::1]:3307", "mysql://u@127.0.0.1:9/shop"),
    ("http://directory:8000/api", "http", "directory:8000", "http://127.0.0.1:9/api"),
    ("http://directory/api", "http", "directory:80", "http://127.0.0.1:9/api"),
    ("host=db port=5433 user=u password='host=x port=1'", "postgresql", "db:5433", "host=127.0.0.1 port=9 user=u password='host=x port=1'"),
    ("user=u host=db dbname=shop", "postgresql", "db:5432", "user=u host=127.0.0.1 port=9 dbname=shop"),
    ("db.example:5432", "postgresql", "db.example:5432", "127.0.0.1:9"),
    (5432, "postgresql", "127.0.0.1:5432", 9),
]


@pytest.mark.parametrize(("value", "kind", "address", "tapped"), CASES)
def test_only_the_address_is_replaced(value: str | int, kind: str, address: str, tapped: str | int) -> None:
    assert find(value, kind, "db.url").text == address
    assert replaced(value, kind, "db.url", "127.0.0.1", 9) == tapped
    host, _, port = address.rpartition(":")
    assert find(replaced(tapped, kind, "db.url", host, int(port)), kind, "db.url").text == address


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("postgresql://u:p@db/shop?sslmode=verify-full", "server's name"),
        ("mysql://u:p@db/shop?ssl-mode=VERIFY_IDENTITY", "server's name"),
        ("rediss://cache:6380", "server's name"),
        ("https://directory/api", "server's name"),
        ("postgresql://u:p@/shop?host=/run/postgresql", "Unix socket"),
        ("host=/run/postgresql dbname=shop", "Unix socket"),
        ("postgresql://u:p@one:1,two:2/shop", "several hosts"),
        ("5 apples", "no host"),
        (True, "no host"),
    ],
)
def test_where_no_tap_can_stand_it_says_why(value: str | bool, why: str) -> None:
    with pytest.raises(ChangeRefused) as refused:
        find(value, "postgresql", "db.url")
    assert why in refused.value.why
    assert "u:p" not in refused.value.render()

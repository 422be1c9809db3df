from __future__ import annotations

import pytest

from perfloop.change.kinds.postgres_setting import _NEVER
from perfloop.change.tuning import Facts, candidates_for

GIB = 2**30
UNSAFE = {"fsync", "synchronous_commit", "full_page_writes", "appendonly", "appendfsync", "save"}


@pytest.mark.parametrize("product", ["postgresql", "redis", "nginx", "gunicorn"])
def test_every_candidate_has_a_reason_and_none_trades_safety(product: str) -> None:
    settings = {"zset-max-listpack-entries": "128", "save": "3600 1", "appendfsync": "everysec", "workers": "1"}
    found = candidates_for(product, Facts(8 * GIB, 2, settings, {}))
    assert 1 <= len(found) < 20
    for one in found:
        assert one.params["because"]
        assert one.params.get("name") not in UNSAFE
        assert not (product == "postgresql" and _NEVER.match(str(one.params["name"])))


def test_sizes_follow_the_memory_and_the_connections() -> None:
    def work_mem(memory_bytes: int, connections: str) -> str:
        return next(
            one.params["value"]
            for one in candidates_for("postgresql", Facts(memory_bytes, 2, {"max_connections": connections}))
            if one.params["name"] == "work_mem"
        )

    assert work_mem(24 * GIB, "100") == "64MB"
    assert work_mem(4 * GIB, "400") == "16MB"
    assert work_mem(512 * GIB, "20") == "256MB"


def test_what_is_set_already_is_no_candidate() -> None:
    names = [one.params["name"] for one in candidates_for("redis", Facts(GIB, 2, {"zset-max-listpack-entries": "16", "lazyfree-lazy-expire": "no"}))]
    assert names == ["lazyfree-lazy-expire"]
    assert [one.params["workers"] for one in candidates_for("gunicorn", Facts(GIB, 2, {"workers": "5"}))] == [9, 17, 2]

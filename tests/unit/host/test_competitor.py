"""A competitor takes CPU from a core, a reference says how much, and nothing is left running."""

from __future__ import annotations

import os
from pathlib import Path

from perfloop.host.competitor import Competitor, burst_s


def test_a_reference_is_slowed_and_the_competitor_is_gone_afterwards():
    cpu = max(os.sched_getaffinity(0))
    with Competitor(cpu) as competitor:
        pid = competitor.pid
        assert os.sched_getaffinity(pid) == {cpu}
        beside_s = burst_s([cpu], 0.03, 0.005, 8)
    assert not Path(f"/proc/{pid}").exists()
    assert competitor.pid is None
    assert beside_s > 0.03


def test_it_ends_by_itself():
    with Competitor(max(os.sched_getaffinity(0)), 0.3) as competitor:
        assert os.waitid(os.P_PID, competitor.pid, os.WEXITED | os.WNOWAIT) is not None

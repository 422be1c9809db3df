"""For any curve: as many arrivals as its area, where it says, in one shard or another; users as many as its level."""

from __future__ import annotations

from itertools import count, islice, pairwise
from math import sqrt

from hypothesis import given, settings
from hypothesis import strategies as st

from perfloop.load.engines.recorder import Recorder, bucket_counts
from perfloop.load.engines.schedule import curve_times, make_curve, shard_arrivals
from perfloop.load.engines.sending import Scan
from perfloop.load.engines.sources import Crowd
from perfloop.stats.histogram import bucket_of

STAGES = st.lists(st.tuples(st.floats(0.1, 3), st.one_of(st.just(0.0), st.floats(0.5, 300)), st.booleans()), min_size=1, max_size=5)


def area(curve, duration_s: float) -> float:
    steps = 20_000
    return sum(curve.level((i + 0.5) * duration_s / steps) for i in range(steps)) * duration_s / steps


@settings(max_examples=60, deadline=None)
@given(STAGES, st.floats(0, 2))
def test_constant_arrivals_are_as_many_as_the_area_and_each_where_the_area_says(stages, ramp_up_s):
    duration_s = sum(length for length, _, _ in stages)
    curve = make_curve(100.0 if ramp_up_s else 0.0, stages, ramp_up_s, duration_s)
    times = list(curve_times(curve, duration_s, "constant", 1))
    assert all(a <= b for a, b in pairwise(times))
    assert abs(len(times) - area(curve, duration_s)) <= 2 + 0.01 * len(times)
    if times:
        assert times[0] >= 0
        assert times[-1] < duration_s


@settings(max_examples=30, deadline=None)
@given(STAGES, st.integers(0, 2**31))
def test_poisson_arrivals_vary_by_the_root_of_their_count(stages, seed):
    duration_s = sum(length for length, _, _ in stages)
    curve = make_curve(0.0, stages, 0.0, duration_s)
    times = list(curve_times(curve, duration_s, "poisson", seed))
    expected = area(curve, duration_s)
    assert abs(len(times) - expected) <= 6 * sqrt(expected + 1) + 3
    assert times == list(curve_times(curve, duration_s, "poisson", seed))


@given(st.lists(st.floats(0, 10), max_size=60).map(sorted), st.integers(1, 7), st.floats(0, 10))
def test_shards_are_exactly_the_whole_schedule(times, shards, from_s):
    whole = list(shard_arrivals(times, count(), 0, 1, 0.0))
    parts = [list(shard_arrivals(times, count(), index, shards, 0.0)) for index in range(shards)]
    assert sorted(arrival for part in parts for arrival in part) == whole
    late = [arrival for index in range(shards) for arrival in shard_arrivals(times, count(), index, shards, from_s)]
    assert sorted(late) == [arrival for arrival in whole if arrival[1] >= from_s]


@given(st.floats(0, 500), st.integers(1, 7), st.floats(0, 3))
def test_the_users_of_all_shards_are_as_many_as_the_level(level, shards, at_s):
    curve = make_curve(level, (), 2.0 if level else 0.0, 3.0)
    wanted = [Crowd(curve, index, shards, 10_000).wanted(at_s) for index in range(shards)]
    assert sum(wanted) == int(curve.level(at_s) + 1e-9)
    assert max(wanted) - min(wanted) <= 1


@settings(max_examples=30)
@given(st.lists(st.one_of(st.floats(0, 5000), st.floats(0, 1e-5)), max_size=1200))
def test_batches_count_as_one_by_one(values):
    one_by_one: dict[int, int] = {}
    for value in values:
        one_by_one[bucket_of(value)] = one_by_one.get(bucket_of(value), 0) + 1
    batch = bucket_counts(values)
    assert sum(batch.values()) == len(values)
    moved = sum(abs(one_by_one.get(b, 0) - batch.get(b, 0)) for b in {*one_by_one, *batch})
    assert moved <= 2  # a value on an edge may round to either side


@given(st.integers(0, 300), st.lists(st.floats(0.001, 0.2), min_size=1, max_size=60))
def test_a_scan_sees_every_call_in_its_time(calls, waits):
    scan, seen, now_s = Scan(0.5), {}, 0.0
    items = list(range(calls))
    scan.some(items, now_s)
    for wait_s in waits:
        now_s += wait_s
        for item in scan.some(items, now_s):
            seen[item] = now_s
    if now_s > 0.5 + max(waits):
        assert len(seen) == calls


def test_a_column_tells_each_request_once_and_takes_back_what_a_check_refused():
    from perfloop.load.engines.heads import read_plain

    recorder = Recorder(10.0)
    column = recorder.column("a")
    head = read_plain(b"HTTP/1.1 200 OK\r\nContent-Length: 5")
    for start_s in islice(count(), 3):
        column.sent += 1
        column.answered(start_s, start_s + 0.25, head, len(head.raw) + head.rest)
    column.unsay(head, len(head.raw) + head.rest, "check", "not good")
    line = recorder.second(1.0)["steps"][0]
    assert (line["sent"], line["ok"], line["errors"], line["statuses"]) == (3, 2, {"check": 1}, {200: 3})
    assert line["bytes_in"] == 3 * (len(head.raw) + head.rest)
    assert recorder.second(2.0)["steps"] == []

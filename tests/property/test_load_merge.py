"""What shards tell adds up to the whole, in any order and grouping; a workload's parts are exactly it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perfloop.load.engines.base import End, Second
from perfloop.load.merge import merge_ends, merge_seconds
from perfloop.model.arrival import Shard
from perfloop.model.journey import Step, Workload
from perfloop.model.run import StepSamples
from perfloop.stats.histogram import Histogram

NAMES = st.sampled_from(["GET /", "GET /a", "POST /b"])


@st.composite
def samples(draw) -> StepSamples:
    latency = Histogram()
    for value in draw(st.lists(st.floats(0, 10), max_size=8)):
        latency.record(value)
    errors = draw(st.dictionaries(st.sampled_from(["connect", "timeout", "check"]), st.integers(1, 9), max_size=3))
    ok = latency.count
    return StepSamples(name=draw(NAMES), sent=ok + sum(errors.values()), ok=ok, errors=errors, bytes_in=draw(st.integers(0, 99)), latency=latency.to_data())


seconds = st.builds(Second, st.floats(0, 9), st.lists(samples(), max_size=3, unique_by=lambda s: s.name).map(tuple), users=st.integers(0, 9))
bins = st.dictionaries(st.integers(0, 20), st.integers(1, 5), max_size=5).map(lambda d: tuple(sorted(d.items())))
ends = st.builds(
    End,
    st.floats(0, 9),
    st.floats(0, 9),
    st.lists(st.floats(0, 1), max_size=5).map(lambda values: histogram(values)),
    retries=st.integers(0, 3),
    busy=st.floats(0, 1),
    arrived=bins,
    answered=bins,
)


def histogram(values):
    made = Histogram()
    for value in values:
        made.record(value)
    return made.to_data()


def facts(second: Second):
    return {s.name: (s.sent, s.ok, s.errors, s.bytes_in, dict(zip(s.latency.buckets, s.latency.counts, strict=True)), s.latency.max_s) for s in second.steps}


@given(st.lists(seconds, min_size=1, max_size=6), st.randoms())
def test_seconds_of_shards_add_up_in_any_order_and_grouping(parts, random):
    whole = merge_seconds(parts)
    shuffled = random.sample(parts, len(parts))
    cut = random.randint(1, len(parts))
    grouped = merge_seconds([merge_seconds(shuffled[:cut]), *([merge_seconds(shuffled[cut:])] if shuffled[cut:] else [])])
    assert facts(whole) == facts(grouped)
    assert whole.users == grouped.users == sum(part.users for part in parts)
    for field in ("sent", "ok", "bytes_in"):
        assert sum(getattr(s, field) for s in whole.steps) == sum(getattr(s, field) for part in parts for s in part.steps)


@given(st.lists(ends, min_size=1, max_size=6), st.randoms())
def test_ends_of_shards_add_up_in_any_order(parts, random):
    whole, other = merge_ends(parts), merge_ends(random.sample(parts, len(parts)))
    assert (whole.arrived, whole.answered, whole.retries, whole.busy) == (other.arrived, other.answered, other.retries, other.busy)
    assert sum(count for _, count in whole.arrived) == sum(count for part in parts for _, count in part.arrived)
    assert sum(whole.lateness.counts) == sum(sum(part.lateness.counts) for part in parts)
    assert whole.lateness.buckets == other.lateness.buckets


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 5), st.integers(0, 50_000))
def test_the_parts_of_a_workload_are_exactly_it_also_parts_of_parts(connections, count, again, numbers):
    workload = Workload(base_url="http://127.0.0.1", steps=(Step(name="GET /", paths=("/",)),), users=1, duration_s=1, connections_max=connections)
    parts = [deeper for part in workload.sharded(count) for deeper in part.sharded(again)]
    assert sum(part.shard.part(numbers) for part in parts) == numbers
    assert sorted((part.shard.index, part.shard.count) for part in parts) == [(i, count * again) for i in range(count * again)]
    assert sum(part.connections_max for part in parts) == connections or connections < count * again


@given(st.integers(1, 50), st.integers(0, 49), st.integers(0, 1000))
def test_a_part_of_a_number_is_what_its_members_count(count, index, total):
    if index < count:
        assert Shard(index=index, count=count).part(total) == sum(number % count == index for number in range(total))

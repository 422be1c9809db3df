"""Adds up what shards, seconds and windows tell, without loss: counts are added, histograms merged, in any order and grouping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from perfloop.load.engines.base import End, Second
from perfloop.model.run import CheckSamples, HistogramData, JourneySamples, SecondSamples, StepSamples
from perfloop.stats.histogram import Histogram

Key = TypeVar("Key", str, int)


def merge_histograms(parts: Iterable[HistogramData]) -> HistogramData:
    """The histogram of the union."""
    merged = Histogram()
    for part in parts:
        merged.merge(Histogram.from_data(part))
    return merged.to_data()


def merge_counts(parts: Iterable[Mapping[Key, int]]) -> dict[Key, int]:
    """Counts by name, added."""
    merged: dict[Key, int] = {}
    for part in parts:
        for name, count in part.items():
            merged[name] = merged.get(name, 0) + count
    return merged


def merge_steps(name: str, parts: Sequence[StepSamples]) -> StepSamples:
    """Samples added up under one name."""
    return StepSamples(
        name=name,
        sent=sum(p.sent for p in parts),
        ok=sum(p.ok for p in parts),
        errors=merge_counts(p.errors for p in parts),
        bytes_in=sum(p.bytes_in for p in parts),
        bytes_out=sum(p.bytes_out for p in parts),
        statuses=merge_counts(p.statuses for p in parts),
        latency=merge_histograms(p.latency for p in parts),
    )


def merge_named_steps(parts: Iterable[StepSamples]) -> tuple[StepSamples, ...]:
    """One sample for each name, in the order of first appearance."""
    return tuple(merge_steps(name, group) for name, group in _by_name(parts).items())


def merge_journeys(parts: Iterable[JourneySamples]) -> tuple[JourneySamples, ...]:
    """One sample for each journey."""
    return tuple(
        JourneySamples(
            name=name,
            started=sum(p.started for p in group),
            ok=sum(p.ok for p in group),
            errors=merge_counts(p.errors for p in group),
            duration=merge_histograms(p.duration for p in group),
        )
        for name, group in _by_name(parts).items()
    )


def merge_checks(parts: Iterable[CheckSamples]) -> tuple[CheckSamples, ...]:
    """One sample for each check."""
    return tuple(CheckSamples(name=name, ok=sum(p.ok for p in group), failed=sum(p.failed for p in group)) for name, group in _by_name(parts).items())


def merge_seconds(parts: Sequence[Second]) -> Second:
    """What several shards tell of one second."""
    return Second(
        elapsed_s=max(part.elapsed_s for part in parts),
        steps=merge_named_steps(step for part in parts for step in part.steps),
        journeys=merge_journeys(journey for part in parts for journey in part.journeys),
        checks=merge_checks(check for part in parts for check in part.checks),
        users=sum(part.users for part in parts),
    )


def merge_ends(parts: Sequence[End]) -> End:
    """The ends of several shards of one workload as one. ``busy`` is that of the busiest; the first reason to stop early counts."""
    if not parts:
        raise ValueError("there is no end to merge")
    errors: dict[str, str] = {}
    for part in parts:
        errors = {**part.first_errors, **errors}
    return End(
        started_at=min(part.started_at for part in parts),
        duration_s=max(part.duration_s for part in parts),
        lateness=merge_histograms(part.lateness for part in parts),
        stopped_early=next((part.stopped_early for part in parts if part.stopped_early), ""),
        retries=sum(part.retries for part in parts),
        busy=max(part.busy for part in parts),
        first_errors=errors,
        bin_s=parts[0].bin_s,
        arrived=tuple(sorted(merge_counts(dict(part.arrived) for part in parts).items())),
        answered=tuple(sorted(merge_counts(dict(part.answered) for part in parts).items())),
    )


def merge_slots(parts: Sequence[SecondSamples]) -> SecondSamples:
    """Neighbouring slots of one window as one longer slot."""
    return SecondSamples(
        elapsed_s=parts[-1].elapsed_s,
        sent=sum(p.sent for p in parts),
        ok=sum(p.ok for p in parts),
        errors=merge_counts(p.errors for p in parts),
        bytes_in=sum(p.bytes_in for p in parts),
        users=max(p.users for p in parts),
        latency=merge_histograms(p.latency for p in parts),
    )


_Named = TypeVar("_Named", StepSamples, JourneySamples, CheckSamples)


def _by_name(parts: Iterable[_Named]) -> dict[str, list[_Named]]:
    found: dict[str, list[_Named]] = {}
    for part in parts:
        found.setdefault(part.name, []).append(part)
    return found

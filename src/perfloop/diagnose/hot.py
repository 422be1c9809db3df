"""Functions of the application that compute for a good part of a request: the common ground of the rules about CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perfloop.diagnose.reading import Reading, Sample, deepest
from perfloop.model.evidence import Frame

SAMPLES_MIN = 8  # fewer say nothing about a share


@dataclass(frozen=True)
class Hot:
    """One function that computes: ``per_request_s`` alone, of ``solo_s``; ``per_s`` over all traffic; ``steps`` with the worst first."""

    file: str
    function: str
    line: Frame
    steps: tuple[str, ...]
    per_request_s: float
    solo_s: float
    per_s: float
    samples: float

    @property
    def key(self) -> tuple[str, str]:
        """File and function."""
        return self.file, self.function


def computed(sample: Sample) -> float:
    """CPU time of a sample that is the application's own: not in a database driver, object mapper or HTTP client."""
    return sample.cpu if sample.layer is None else 0.0


def hot_functions(reading: Reading, limit: Mapping[str, float]) -> list[Hot]:
    """The hot function of each endpoint, where there is one, the same function of several endpoints put together; most seconds per second first."""
    found: dict[tuple[str, str], Hot] = {}
    for step in reading.steps.values():
        if not step.solo_s or sum(sample.count for sample in step.samples) < SAMPLES_MIN:
            continue
        least = max(limit["share_min"] * step.solo_s, limit["request_min_s"])
        key = deepest(step.samples, computed, least)
        if key is None:
            continue
        under = [sample for sample in step.samples if sample.under(key)]
        spent = sum(computed(sample) for sample in under)
        line = hot_line(under, key)
        before = found.get(key)
        steps = (*before.steps, step.name) if before else (step.name,)
        if before and before.per_request_s >= spent:
            found[key] = Hot(*key, before.line, steps, before.per_request_s, before.solo_s, before.per_s + spent * step.rate_per_s, before.samples)
        else:
            count = sum(sample.count for sample in step.samples)
            ordered = (step.name, *(name for name in steps if name != step.name))
            found[key] = Hot(*key, line, ordered, spent, step.solo_s, (before.per_s if before else 0.0) + spent * step.rate_per_s, count)
    return sorted(found.values(), key=lambda hot: -hot.per_s)


def hot_line(samples: list[Sample], key: tuple[str, str]) -> Frame:
    """The line of that function at which most is computed."""
    lines: dict[Frame, float] = {}
    for sample in samples:
        for frame in reversed(sample.app):
            if (frame.file, frame.function) == key:
                lines[frame] = lines.get(frame, 0.0) + computed(sample)
                break
    return max(lines, key=lambda frame: lines[frame])


def queueing(reading: Reading, cpu_per_s: float) -> float:
    """Seconds per second that requests wait longer under load than alone, as far as this computing can be blamed: its share of the CPU used, from half a core on."""
    used = reading.cores_used
    if not used or used < 0.5:
        return 0.0
    excess = sum(step.rate_per_s * max(0.0, step.loaded_s - step.solo_s) for step in reading.steps.values() if step.loaded_s and step.solo_s)
    return excess * min(1.0, cpu_per_s / used)


def library_under(samples: list[Sample], line: Frame) -> str:
    """The library function that computes most under a line; empty where the line itself does."""
    names: dict[str, float] = {}
    for sample in samples:
        if sample.place == line and sample.beneath:
            names[sample.beneath[0].function] = names.get(sample.beneath[0].function, 0.0) + sample.cpu
    return max(names, key=lambda name: names[name]) if names else ""

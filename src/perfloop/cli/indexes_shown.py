"""The advice of ``perfloop indexes`` as text."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.model.advice import IndexesResult
from perfloop.report.text import digits, percent, printable

QUERIES_SHOWN = 8


def indexes_text(result: IndexesResult, verbose: bool) -> str:
    """What to create, what to drop, what each query gains; everything with ``verbose``."""
    return printable("\n".join(_lines(result, verbose)))


def _lines(result: IndexesResult, verbose: bool) -> Iterator[str]:
    if result.create:
        size = sum(advice.size_bytes for advice in result.create)
        yield f"create {len(result.create)}: the workload's planner cost × {digits(result.cost_ratio)}, {size / 1e6:,.1f} MB of {result.budget_bytes / 1e6:,.0f} MB"
        for advice in result.create:
            bounds = f" ({advice.size_low_bytes / 1e6:,.1f} to {advice.size_high_bytes / 1e6:,.1f})" if advice.size_low_bytes != advice.size_high_bytes else ""
            yield f"  {advice.ddl}"
            yield f"      {advice.size_bytes / 1e6:,.1f} MB{bounds}; without it the workload costs {percent(advice.gain)} of today's more"
            yield from (f"      note: {note}" for note in advice.notes)
        yield f"  would disprove it: {result.create[0].disproof}"
    else:
        yield "nothing to create: no candidate within the storage makes a query cheaper"
    if result.drop:
        yield f"\ndrop {len(result.drop)}:"
        for drop in result.drop:
            yield f"  {drop.ddl}  ({drop.size_bytes / 1e6:,.1f} MB)"
            yield f"      {drop.why}"
            yield from ([f"      undo: {drop.undo}"] if drop.undo else [])
    changed = sorted(
        (item for item in result.queries if item.cost_after < item.cost_before), key=lambda item: (item.cost_after - item.cost_before) * item.weight
    )
    if changed:
        yield f"\n{len(changed)} of {len(result.queries)} queries get cheaper, the others keep their plan's cost (none gets more than 5 % dearer)"
        for item in changed if verbose else changed[:QUERIES_SHOWN]:
            yield f"  × {digits(item.cost_after / item.cost_before):<6} {item.query[:110]}"
    yield f"\n{result.candidates} candidates, {result.plans_asked} plans asked of the twin, {digits(result.seconds)} s; the target was only read"
    yield from (f"note: {note}" for note in result.notes)

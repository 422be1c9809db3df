"""The answer of ``perfloop diagnose --metrics`` as text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from perfloop.model.metrics import MetricsDiagnosis
from perfloop.report.text import counted, printable

COMPONENTS_SHOWN, METRICS_SHOWN = 5, 6


def metrics_text(result: MetricsDiagnosis, verbose: bool) -> str:
    """The onset, the components in order with their evidence; everything with ``verbose``."""
    return printable("\n".join(_lines(result, verbose)))


def _lines(result: MetricsDiagnosis, verbose: bool) -> Iterator[str]:
    head = f"{counted(result.metrics, 'metric')}, {counted(result.rows, 'row')}"
    if result.onset_row is None:
        yield f"{head}: no change that can be told from noise"
    else:
        moment = f" ({datetime.fromtimestamp(result.onset_s, UTC):%Y-%m-%d %H:%M:%S} UTC)" if result.onset_s is not None and result.onset_s > 1e8 else ""
        yield f"{head}: the change begins at row {result.onset_row + 1}{moment}"
        shown = result.components if verbose else result.components[:COMPONENTS_SHOWN]
        for number, component in enumerate(shown, 1):
            yield f"{number}. {component.component}  {component.metric}"
            yield f"     {component.why}"
            others = component.metrics if verbose else component.metrics[:METRICS_SHOWN]
            if others:
                more = len(component.metrics) - len(others)
                yield f"     moved too: {', '.join(others)}{f' and {more} more' if more else ''}"
        left = len(result.components) - len(shown)
        yield from ([f"and {counted(left, 'component')} less likely (--verbose)"] if left else [])
        explained = [cause for cause in result.causes if cause.explained_by]
        for cause in explained if verbose else explained[:3]:
            yield f"consequence: {cause.metric} moved as {cause.explained_by} did"
        yield "These are correlations, never more than a suspicion. On the component named first: perfloop check URL, which tests its causes by experiment."
    yield from (f"note: {note}" for note in result.notes)

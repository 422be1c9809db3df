"""``perfloop diagnose --metrics``: columns of metrics in, ranked causes out; nothing is sent and nothing is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from perfloop.diagnose.metrics.causes import THRESHOLDS, Ranking, rank
from perfloop.errors import UsageError
from perfloop.model.metrics import ComponentCause, MetricCause, MetricsDiagnosis, MetricTable
from perfloop.model.requests import DiagnoseRequest
from perfloop.observe.metrics_csv import read_tables
from perfloop.stats.onset import ROWS_MIN

SIDE_ROWS_MIN = 10
COMPONENTS_MAX, CAUSES_MAX = 50, 200
WHOLE = "(whole)"  # what a column without a component is about


def diagnose_metrics(request: DiagnoseRequest, cwd: Path | None) -> MetricsDiagnosis:
    """Rank the columns of one file with an unknown onset, or of two (before and after). ``UsageError`` where there is too little to rank."""
    here = cwd or Path.cwd()
    return judge(read_tables([here / name for name in request.metric_files]))


def judge(table: MetricTable) -> MetricsDiagnosis:
    """The ranked causes of a table."""
    rows = len(table.columns[0])
    if rows < ROWS_MIN or min(table.parts) < SIDE_ROWS_MIN:
        raise UsageError(
            "there are too few rows to tell a change from noise",
            why=f"{rows} rows; {ROWS_MIN} are needed, {SIDE_ROWS_MIN} in each file",
            fix="export a longer span, or more points",
        )
    values = np.array([[np.nan if value is None else value for value in column] for column in table.columns], dtype=np.float64).T
    ranking = rank(values, table.names)
    given = table.parts[0] if len(table.parts) == 2 else None
    notes = list(table.notes)
    if ranking.at is None:
        notes.append(f"no metric moved by {THRESHOLDS['size_min']:g} spreads of its own values: nothing that can be told from noise")
        return MetricsDiagnosis(rows=rows, metrics=len(table.names), onset_given=given, notes=tuple(notes))
    if given is not None and abs(ranking.at - given) > 0.05 * rows:
        side = "before" if ranking.at < given else "after"
        notes.append(f"most metrics changed {abs(ranking.at - given)} rows {side} the second file begins")
    causes = _causes(table, ranking)
    return MetricsDiagnosis(
        rows=rows,
        metrics=len(table.names),
        onset_row=ranking.at,
        onset_s=table.times_s[ranking.at] if table.times_s else None,
        onset_given=given,
        components=_components(causes)[:COMPONENTS_MAX],
        causes=causes[:CAUSES_MAX],
        notes=tuple(notes),
    )


def _causes(table: MetricTable, ranking: Ranking) -> tuple[MetricCause, ...]:
    moved = ranking.moved
    found = []
    for item in ranking.ranked:
        column = item.column
        if moved.size[column] < THRESHOLDS["size_min"]:
            continue
        before, after = float(moved.before[column]), float(moved.after[column])
        found.append(
            MetricCause(
                metric=table.names[column],
                component=item.name.component or WHOLE,
                kind=item.name.kind.value,
                score=item.order,
                size=float(moved.size[column]),
                before=before,
                after=after,
                ratio=after / before if before * after > 0 else None,
                explained_by=table.names[item.explained_by] if item.explained_by is not None else "",
            )
        )
    return tuple(found)


def _components(causes: tuple[MetricCause, ...]) -> tuple[ComponentCause, ...]:
    by: dict[str, list[MetricCause]] = {}
    for cause in causes:
        by.setdefault(cause.component, []).append(cause)
    return tuple(
        ComponentCause(component=name, score=best.score, metric=best.metric, why=_why(best), metrics=tuple(one.metric for one in others))
        for name, (best, *others) in by.items()
    )


def _why(cause: MetricCause) -> str:
    direction = "rose" if cause.after > cause.before else "fell"
    times = f", {cause.ratio:.3g} times" if cause.ratio is not None else ""
    return f"its {cause.kind} {direction} from {cause.before:.4g} to {cause.after:.4g}{times}: {cause.size:.3g} spreads of its values before"

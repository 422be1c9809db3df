"""Columns of metrics in, ranked causes out: the answer of ``perfloop diagnose --metrics``."""

from __future__ import annotations

from typing import Literal

from perfloop.model.base import SCHEMA_VERSION, Word


class MetricTable(Word):
    """Columns over the same moments, in order. ``times_s`` is empty where the file has no time; None is a gap. ``parts``: rows of each file, in order."""

    times_s: tuple[float, ...] = ()
    names: tuple[str, ...]
    columns: tuple[tuple[float | None, ...], ...]
    parts: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


class MetricCause(Word):
    """One metric that changed. ``score`` ranks (no probability); ``size`` is the move in spreads of its values before; ``ratio`` after over before, None where that is no number.

    ``explained_by`` names the metric that accounts for it: then it is a symptom, and ranks below.
    """

    metric: str
    component: str
    kind: str
    score: float
    size: float
    before: float
    after: float
    ratio: float | None = None
    explained_by: str = ""


class ComponentCause(Word):
    """One component by its best metric; ``metrics`` are the others of it that changed."""

    component: str
    score: float
    metric: str
    why: str
    metrics: tuple[str, ...] = ()


class MetricsDiagnosis(Word):
    """Ranked by correlation in time and size alone: a suspicion, never confirmed. ``onset_row`` None: nothing changed enough to be told from noise."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    rows: int
    metrics: int
    onset_row: int | None = None
    onset_s: float | None = None  # the moment, where the file has times
    onset_given: int | None = None  # the row where the second file begins
    components: tuple[ComponentCause, ...] = ()
    causes: tuple[MetricCause, ...] = ()
    notes: tuple[str, ...] = ()

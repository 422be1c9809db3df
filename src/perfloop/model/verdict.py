"""Did it help: the answer of a comparison, and how it was proved."""

from __future__ import annotations

from enum import StrEnum

from perfloop.model.base import Estimate, Word


class VerdictStatus(StrEnum):
    """Five answers; only ``improved`` keeps a change. Nothing fails open."""

    IMPROVED = "improved"
    REGRESSED = "regressed"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"


class Proof(StrEnum):
    """By which design: toggled on and off in randomised pairs, on a clone, or before and after only."""

    TOGGLED = "toggled"
    CLONE = "clone"
    BEFORE_AFTER = "before/after"


class Guard(Word):
    """A metric that must not get worse: ``ratio`` after/before with its interval."""

    metric: str
    ok: bool
    before: float
    after: float
    ratio: Estimate | None = None
    bound: str = ""


class Verdict(Word):
    """The comparison of B (with the change) against A. ``ratio`` is B/A of ``metric``; below 1 is better for latencies."""

    status: VerdictStatus
    metric: str  # named before the first round: "p95_s of GET /x"
    proof: Proof
    pairs: int
    round_s: float
    before: Estimate | None = None  # level of the metric over the A rounds
    after: Estimate | None = None
    ratio: Estimate | None = None
    difference: Estimate | None = None
    fresh_ratio: Estimate | None = None  # the same on rounds that had no part in the decision
    detectable_ratio: float | None = None  # the smallest change this could have found
    guards: tuple[Guard, ...] = ()
    reason: str = ""
    log_ratios: tuple[float, ...] = ()  # one per pair, in order


class Decision(StrEnum):
    """What became of a change."""

    KEPT = "kept"
    UNDONE = "undone"
    REFUSED = "refused"
    SHOWN = "shown"
    STUCK = "stuck"
    FAILED = "failed"

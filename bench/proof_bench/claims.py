"""100 true and 100 false statements over stored runs: which are flagged. Runs: those of ``.bench/proof-runs`` (made by the live part), and the reports' sample."""

from __future__ import annotations

import random
import runpy
from pathlib import Path

from bench.table import Row
from perfloop.model.result import RunResult
from perfloop.validate.claims import check_text
from perfloop.validate.facts import ALL, Fact, facts_of

ROOT = Path(__file__).parent.parent.parent
STORED = ROOT / ".bench" / "proof-runs"
STATEMENTS = 100
SPOKEN = {
    "p50": ("the median", "p50"),
    "p95": ("p95", "the 95th percentile"),
    "p99": ("p99",),
    "mean": ("the mean", "the average latency"),
    "cpu": ("CPU per request",),
}


def runs() -> list[RunResult]:
    """Every stored run, and the sample that the renderers are tested with."""
    found = [RunResult.model_validate_json(path.read_text()) for path in sorted(STORED.glob("**/run.json"))]
    sample: RunResult = runpy.run_path(str(ROOT / "tests" / "unit" / "report" / "sample.py"))["sample_result"]()
    return [*found, sample]


def written(seconds: float, lot: random.Random) -> str:
    """A time with two or three digits."""
    digits = lot.choice((2, 3))
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        value = seconds * scale
        if value >= 1:
            places = max(0, digits - len(str(int(value))))
            return f"{value:.{places}f}{lot.choice(('', ' '))}{unit}"
    return f"{seconds * 1e6:.1f} µs"


def statement(fact: Fact, value: float, lot: random.Random) -> str:
    """One sentence that says ``value`` where the run measured ``fact``."""
    if fact.metric == "throughput":
        if fact.role == "change":
            return lot.choice((f"Throughput changed by {value - 1:+.0%}.", f"We now serve {value:.2f}x the throughput."))
        when = "was" if fact.role == "before" else "is now"
        return f"Throughput {when} {value:.3g} requests/s."
    name = lot.choice(SPOKEN[fact.metric])
    where = "" if fact.subject == ALL else lot.choice((f" of {fact.subject}", f" on `{fact.subject}`"))
    if fact.role == "change":
        down = 1 - value
        said = [f"{name}{where} {'fell' if down > 0 else 'rose'} by {abs(down):.1%}.", f"{name}{where} changed by {-down:+.1%}.".replace("-", "−")]
        if down > 0.3:
            said.append(f"{name}{where} is {1 / value:.2f}x faster.")
        return lot.choice(said)
    if fact.role == "before":
        return lot.choice((f"{name}{where} was {written(value, lot)} before.", f"Before, {name}{where} was {written(value, lot)}."))
    return lot.choice((f"{name}{where} is now {written(value, lot)}.", f"{name}{where} now stands at {written(value, lot)}, as measured."))


def rows(count: int = STATEMENTS) -> list[Row]:
    """Half true, half false, drawn from all runs."""
    lot = random.Random(20261124)
    stored = runs()
    true_flagged, false_missed, examples, missed = 0, 0, [], []
    for index in range(count):
        facts = facts_of(stored[index % len(stored)])
        usable = [fact for fact in facts if fact.metric in SPOKEN or fact.metric == "throughput"]
        fact = lot.choice([one for one in usable if one.role != "change" or abs(one.value - 1) > 0.02])
        true = statement(fact, fact.value, lot)
        if any(claim.state != "supported" for claim in check_text(true, facts)) or not check_text(true, facts):
            true_flagged += 1
            examples.append(f"flagged: {true}")
        false = falsehood(usable, facts, lot)
        if all(claim.state == "supported" for claim in check_text(false, facts)):
            false_missed += 1
            missed.append(false)
    n = f"n = {count}, {len(stored)} runs"
    return [
        Row("claims: true statements flagged", true_flagged, "", "0", true_flagged == 0, why="; ".join([n, *examples[:3]])),
        Row("claims: false statements missed", false_missed, "", "0", false_missed == 0, why="; ".join([n, *missed[:3]])),
    ]


def falsehood(usable: list[Fact], facts: tuple[Fact, ...], lot: random.Random) -> str:
    """A wrong value, the wrong direction, another metric's value, an endpoint that was never measured, or something nobody measured."""
    while True:
        fact = lot.choice(usable)
        same = [one.value for one in facts if (one.metric, one.subject, one.role) == (fact.metric, fact.subject, fact.role)]
        kind = lot.choice(("value", "value", "direction", "metric", "endpoint", "unmeasured"))
        if kind == "value":
            wrong = fact.value * lot.choice((0.5, 0.7, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0))
            if all(abs(wrong / value - 1) > 0.06 and abs((wrong - 1) / (value - 1) - 1) > 0.06 for value in same if value != 1):
                return statement(fact, wrong, lot)
        elif kind == "direction" and fact.role == "change" and 0.5 < fact.value < 0.95:
            return statement(fact, 2 - fact.value, lot)
        elif kind == "metric" and fact.role != "change" and fact.metric in SPOKEN:
            other = next(
                (one for one in usable if one.subject == fact.subject and one.role == fact.role and one.metric in SPOKEN and one.metric != fact.metric), None
            )
            if other and all(
                abs(fact.value / one.value - 1) > 0.06 for one in facts if (one.metric, one.subject, one.role) == (other.metric, other.subject, other.role)
            ):
                return statement(other, fact.value, lot)
        elif kind == "endpoint" and fact.metric in SPOKEN:
            return statement(Fact(fact.kind, fact.metric, "GET /never/measured", fact.role, fact.value, fact.run_id), fact.value, lot)
        elif kind == "unmeasured":
            return lot.choice(
                ("Memory use fell by 35 %.", "Costs went down by 35 %.", "Queries per request fell by 90 %.", "It is 3 times cheaper: the bill fell by 66 %.")
            )

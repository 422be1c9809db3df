"""The same check on texts as other people write them: pull requests, agents' summaries, German, tables, headings, words instead of figures.

The runs are drawn at random, a new one for each text; a text is written from the truth, and again with a value that was not measured.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from bench.table import Row
from perfloop.validate.claims import check_text
from perfloop.validate.facts import ALL, Fact

SEED, STATEMENTS = 7_777, 100
STEPS = ("GET /orders", "GET /customers/{id}/orders", "POST /carts", "GET /search")
NAMES = {"p50": ("median", "p50", "Median"), "p95": ("p95", "P95", "p95"), "p99": ("p99", "P99", "p99"), "mean": ("mean", "average", "Mittelwert")}
WRONG = (0.4, 0.55, 0.7, 0.8, 1.25, 1.4, 1.9)
WORDS = {0.5: "was halved", 1 / 3: "is down to a third", 2.0: "doubled", 3.0: "tripled"}


@dataclass(frozen=True)
class Told:
    """What one text is about: a latency of an endpoint, before and after, in seconds."""

    metric: str
    step: str
    before: float
    after: float
    lot: random.Random

    @property
    def ratio(self) -> float:
        return self.after / self.before

    @property
    def percent(self) -> float:
        return 100 * abs(1 - self.ratio)

    @property
    def path(self) -> str:
        return self.step.partition(" ")[2].replace("{id}", "42")

    @property
    def verb(self) -> str:
        return "dropped" if self.ratio < 1 else "rose"

    def name(self, style: int = 0) -> str:
        return NAMES[self.metric][style]


def ms(seconds: float, unit: str = "ms") -> str:
    """Three digits."""
    value = seconds * 1000
    return f"{value:.{max(0, 3 - len(str(int(value))))}f}{unit}"


def german(seconds: float) -> str:
    return ms(seconds, "").replace(".", ",") + " ms"


def faster(t: Told) -> str:
    return f"{t.percent:.0f}% {'faster' if t.ratio < 1 else 'slower'}"


def factor(t: Told) -> str:
    return f"{1 / t.ratio:.1f}x faster" if t.ratio < 1 else f"{t.ratio:.1f}x slower"


def by_words(t: Told) -> str:
    for ratio, words in WORDS.items():
        if abs(t.ratio / ratio - 1) < 0.05:
            return words
    return f"{t.verb} by {t.percent:.0f} percent"


STYLES: tuple[Callable[[Told], str], ...] = (
    lambda t: f"## Performance\n\nReduced {t.name(1)} latency for `{t.step}` from {ms(t.before)} to {ms(t.after)} (~{faster(t)}).\n\nAll 412 tests pass in 38 s.",
    lambda t: f"- **{t.path}**: {ms(t.before)} -> {ms(t.after)} ({t.name()})\n- no API change",
    lambda t: f"### {t.step}\n\n- {t.name()}: {ms(t.before, ' ms')} → {ms(t.after, ' ms')}\n- measured over 5 windows of 5 s at 40 requests per second",
    lambda t: f"| Endpoint | Metric | Before | After | Change |\n|---|---|---|---|---|\n| `{t.step}` | {t.name()} | {ms(t.before)} | {ms(t.after)} | {100 * (t.ratio - 1):+.1f}% |",
    lambda t: f"{t.step}\n\n| | {t.name()} (ms) |\n|:--|--:|\n| before | {ms(t.before, '')} |\n| after | {ms(t.after, '')} |",
    lambda t: f"| Metric | main | this PR |\n|---|---|---|\n| {t.name()} of {t.step} | {ms(t.before)} | {ms(t.after)} |",
    lambda t: f"Die {t.name(2)}-Latenz von {t.step} {'sank' if t.ratio < 1 else 'stieg'} von {german(t.before)} auf {german(t.after)}.",
    lambda t: f"{t.name(2)} von {t.step}: vorher {german(t.before)}, jetzt {german(t.after)}. Das ist ein {'Rückgang' if t.ratio < 1 else 'Anstieg'} um {t.percent:.1f} %.".replace(f"{t.percent:.1f}", f"{t.percent:.1f}".replace(".", ",")),
    lambda t: f"Der {'Median' if t.metric == 'p50' else t.name(2)} von {t.step} ist jetzt um {t.percent:.0f} Prozent {'niedriger' if t.ratio < 1 else 'höher'}.",
    lambda t: f"On {t.path} the {t.name()} {by_words(t)}.",
    lambda t: f"{t.name(1)} on {t.step} is now × {t.ratio:.2f} of what it was.",
    lambda t: f"We made the {t.path.rsplit('/', 1)[1]} endpoint's {t.name()} {factor(t)}." if "customers" not in t.step and t.step != "GET /orders" else f"{t.step} is {factor(t)} at {t.name()}.",
    lambda t: f"I fixed the N+1 in `src/app/views.py`. Before: {t.name()} {ms(t.before)} on {t.step}. After: {t.name()} {ms(t.after)} on {t.step}.",
    lambda t: f"perf({t.path}): {t.name()} {ms(t.before)} => {ms(t.after)}, i.e. {t.ratio - 1:+.0%}",
    lambda t: f"The {t.name(1)} response time of {t.step} {t.verb} to {t.after:.3g} seconds, compared to {t.before:.3g} seconds previously.",
    lambda t: f"{t.step}:\n```\n{t.name()}  before {ms(t.before)}  after {ms(t.after)}\n```",
    lambda t: f"{t.name()} latency on {t.step} {t.verb} by roughly {5 * round(t.percent / 5):.0f}%." if abs(t.percent / max(1, 5 * round(t.percent / 5)) - 1) < 0.04 else f"{t.name()} latency on {t.step} {t.verb} by {t.percent:.0f}%.",
    lambda t: f"{t.step} {t.name()} was {ms(t.before)} on main; with this change it is {ms(t.after)}.",
    lambda t: f"Result: {t.name()} for `{t.path}` {ms(t.after)} (was {ms(t.before)}).",
)  # fmt: skip

#: figures of all requests, or of what nobody measured: (text of the truth or None, text of a falsehood)
THROUGHPUT: tuple[Callable[[float, float], str], ...] = (
    lambda a, b: f"Throughput: {a:.0f} → {b:.0f} RPS",
    lambda a, b: f"Der Durchsatz stieg von {a:.0f} auf {b:.0f} Anfragen pro Sekunde.",
    lambda a, b: f"We now handle {b:.0f} req/s, up from {a:.0f} req/s, a {b / a:.1f}x throughput gain.",
    lambda a, b: f"| | before | after |\n|---|---|---|\n| requests/s | {a:.0f} | {b:.0f} |",
    lambda a, b: f"Max throughput went up {100 * (b / a - 1):.0f}%.",
)
UNMEASURED = (
    "Cut the number of queries per request from 101 to 2.",
    "RSS is down from 512 MB to 300 MB.",
    "Der Speicherverbrauch sank um 30 %.",
    "We save $1,200 a month.",
    "GET /never/measured: p95 120 ms → 40 ms",
    "The cache hit rate is now 97%.",
    "Garbage collection pauses are 4x shorter.",
    "The checkout endpoint is twice as fast.",
)


def drawn(lot: random.Random) -> list[Fact]:
    """The facts of one imagined run."""
    found: list[Fact] = []

    def put(metric: str, step: str, before: float, ratio: float, kind: str = "time") -> None:
        for role, value in (("before", before), ("after", before * ratio), ("change", ratio)):
            found.append(Fact(kind, metric, step, role, value, "run"))  # type: ignore[arg-type]

    for step in (*STEPS, ALL):
        base = lot.uniform(0.02, 2.0)
        ratio = lot.choice((0.5, 1 / 3, 2.0, lot.uniform(0.1, 0.8), lot.uniform(0.1, 0.8), lot.uniform(1.1, 1.8)))
        for metric, level in (("p50", 0.6), ("p95", 1.5), ("p99", 2.4), ("mean", 0.8)):
            put(metric, step, base * level * lot.uniform(0.9, 1.1), ratio * lot.uniform(0.97, 1.03))
    put("throughput", ALL, lot.uniform(200, 900), lot.uniform(1.3, 4), "rate")
    found.append(Fact("rate", "load", ALL, "before", 40.0, "run"))
    return found


def rows(count: int = STATEMENTS) -> list[Row]:
    """So many texts, each once true and once false."""
    lot = random.Random(SEED)
    flagged, missed = [], []
    for index in range(count):
        facts = drawn(lot)
        true, false = _texts(index, facts, lot)
        if true and not _supported(true, facts):
            flagged.append(true)
        if _supported(false, facts):
            missed.append(false)
    n = f"n = {count} texts in {len(STYLES) + len(THROUGHPUT) + len(UNMEASURED)} styles"
    return [
        Row("claims in other styles: true texts flagged", len(flagged), "", "0", not flagged, why="; ".join([n, *map(repr, flagged[:3])])),
        Row("claims in other styles: false texts missed", len(missed), "", "0", not missed, why="; ".join([n, *map(repr, missed[:3])])),
    ]


def _supported(text: str, facts: list[Fact]) -> bool:
    claims = check_text(text, facts)
    return bool(claims) and all(claim.state == "supported" for claim in claims)


def _texts(index: int, facts: list[Fact], lot: random.Random) -> tuple[str, str]:
    of = {(fact.metric, fact.subject, fact.role): fact.value for fact in facts}
    wrong = lot.choice(WRONG)
    if index % 10 == 8:
        a, b = of["throughput", ALL, "before"], of["throughput", ALL, "after"]
        style = lot.choice(THROUGHPUT)
        return style(a, b), style(a, b * max(wrong, 1.05 * a / b) if wrong < 1 else b * wrong)
    metric, step = lot.choice(tuple(NAMES)), lot.choice(STEPS)
    before, after = of[metric, step, "before"], of[metric, step, "after"]
    style_of = STYLES[index % len(STYLES)]
    ratio = after / before
    # "43 % faster" may mean the speed, and "about 85 %" is 81 to 89: what is near the truth in some sense is no falsehood
    far = [one for one in WRONG if abs(1 / max(0.01, 2 - ratio * one) / ratio - 1) > 0.08 and abs((1 - ratio * one) / (1 - ratio) - 1) > 0.12]
    wrong = lot.choice(far or [3.0])
    true = style_of(Told(metric, step, before, after, lot))
    if index % 10 == 9:
        return true, lot.choice(UNMEASURED)
    return true, style_of(Told(metric, step, before, after * wrong, lot))

"""A realistic result of an improve run, built from real histograms, for all renderers; run as a file by the fixtures."""

from __future__ import annotations

import random
from collections.abc import Callable

from perfloop.model.base import Estimate
from perfloop.model.capacity import Capacity
from perfloop.model.change import Change, Safety
from perfloop.model.evidence import ExperimentResult, Frame, Stack, StacksObservation, Unavailable
from perfloop.model.finding import Confidence, Diagnosis, Experiment, Finding, Outcome, Place, Proposal, RuleResult
from perfloop.model.journey import Journeys, Step
from perfloop.model.result import RunResult, Slo, SloCheck, Tried
from perfloop.model.run import RateProbe, RateSearch, StepSamples, StepSummary, Summary, Window
from perfloop.model.target import Environment, Peer, PeerKind, Process, Target
from perfloop.model.verdict import Decision, Guard, Proof, Verdict, VerdictStatus
from perfloop.report.checklist import checklist
from perfloop.report.flame import flame
from perfloop.report.notice import delivery_notice, progress
from perfloop.stats.histogram import Histogram

EVIL = "<script>alert('x')</script>"
ROOT = "/srv/bookshop"
SLOW = "GET /customers/{id}/orders"


def _histogram(seed: int, count: int, draw: Callable[[random.Random], float]) -> Histogram:
    rng, histogram = random.Random(seed), Histogram()
    for _ in range(count):
        histogram.record(draw(rng))
    return histogram


def _estimate(value: float | None, spread: float, n: int = 5) -> Estimate | None:
    return None if value is None else Estimate(value=value, low=value * (1 - spread), high=value * (1 + spread), n=n, unit="s", source="windows")


def _step(name: str, histogram: Histogram, spread: float, errors: int = 0) -> StepSummary:
    p50, p95, p99 = (_estimate(histogram.quantile(q), spread) for q in (0.5, 0.95, 0.99))
    sent = histogram.count + errors
    return StepSummary(
        name=name, sent=sent, ok=histogram.count, errors={"status_5xx": errors} if errors else {}, rate_per_s=sent / 25, mean_s=histogram.mean(), p50_s=p50, p95_s=p95, p99_s=p99, max_s=histogram.max_s, latency=histogram.to_data()
    )  # fmt: skip


def _summary(label: str, slow_s: float, pool_s: float) -> Summary:
    parts = {
        SLOW: _histogram(1, 420, lambda r: r.lognormvariate(0, 0.25) * slow_s + 0.004),
        "GET /products": _histogram(2, 620, lambda r: r.lognormvariate(0, 0.4) * 0.009 + (r.expovariate(1 / pool_s) if r.random() < 0.4 else 0)),
        "GET /products/{id}": _histogram(3, 400, lambda r: r.lognormvariate(0, 0.3) * 0.006),
        f"GET /search?q={EVIL}": _histogram(4, 180, lambda r: r.lognormvariate(0, 0.5) * 0.022),
    }
    total = Histogram()
    for histogram in parts.values():
        total.merge(histogram)
    steps = tuple(_step(name, histogram, 0.06) for name, histogram in parts.items())
    return Summary(
        label=label,
        windows=5,
        window_s=5.0,
        rate_per_s=65.0,
        total=_step("all", total, 0.05),
        steps=steps,
        noise_cv=0.031,
        lateness_p99_s=0.0007,
        cpu_seconds_per_request=0.0061,
    )


def _stacks() -> StacksObservation:
    lib = "/usr/lib/python3.11/site-packages"
    names = [
        ("run", f"{lib}/uvicorn/server.py", 61), ("__call__", f"{lib}/starlette/applications.py", 112), ("app", f"{lib}/starlette/routing.py", 73),
        ("list_orders", f"{ROOT}/bookshop/orders.py", 41), ("execute", f"{lib}/sqlalchemy/engine/base.py", 1418), ("wait", f"{lib}/psycopg/waiting.py", 88),
        ("search", f"{ROOT}/bookshop/search.py", 17), ("score", f"{ROOT}/bookshop/search.py", 52), ("tokenize", f"{ROOT}/bookshop/text.py", 9),
        ("products", f"{ROOT}/bookshop/products.py", 23), ("checkout", f"{lib}/sqlalchemy/pool/base.py", 441), ("dumps", "/usr/lib/python3.11/json/encoder.py", 200),
        ("select", "/usr/lib/python3.11/selectors.py", 468), (EVIL, f"{ROOT}/bookshop/evil.py", 1),
    ]  # fmt: skip
    stacks = [
        ((0, 1, 2, 3, 4, 5), 610, 40),
        ((0, 1, 2, 3, 11), 45, 45),
        ((0, 1, 2, 6, 7, 8), 130, 130),
        ((0, 1, 2, 6, 7), 60, 60),
        ((0, 1, 2, 9, 10), 220, 4),
        ((0, 1, 2, 9, 4, 5), 80, 12),
        ((0, 1, 2, 9, 11), 40, 40),
        ((0, 12), 900, 2),
        ((0, 1, 2, 13), 12, 12),
    ]
    return StacksObservation(
        pid=4121, sampler="py-spy", rate_hz=100, window_s=10, frames=tuple(Frame(function=n, file=f, line=i) for n, f, i in names),
        stacks=tuple(Stack(thread=f"worker-{k % 3}", frames=frames, total=total, active=active) for k, (frames, total, active) in enumerate(stacks)),
    )  # fmt: skip


def _target() -> Target:
    process = Process(
        pid=4121,
        parent_pid=1,
        name="uvicorn",
        argv=("uvicorn", "bookshop:app"),
        cwd=ROOT,
        exe="/usr/bin/python3.11",
        runtime="python",
        runtime_version="3.11.7",
        framework="uvicorn",
        threads=9,
        cpus=(0,),
    )
    peers = (
        Peer(kind=PeerKind.POSTGRESQL, host="127.0.0.1", port=5432, connections=5, process_name="postgres"),
        Peer(kind=PeerKind.HTTP, host="127.0.0.1", port=9001, connections=2),
    )
    return Target(
        name="bookshop",
        url="http://127.0.0.1:8000",
        host="127.0.0.1",
        port=8000,
        local=True,
        environment=Environment.SANDBOX,
        processes=(process,),
        peers=peers,
        server_header="uvicorn",
        git_revision="3f9c2ab",
        source_root=ROOT,
        cpu_count=2,
    )


INDEX = Change(
    id="c-index-1", kind="postgres-index", title="index orders(customer_id)", finding="missing-index", steps=(SLOW,), diff="+ CREATE INDEX CONCURRENTLY idx_orders_customer_id ON public.orders (customer_id)",
    risk="writes to orders cost a little more; 11 MB of disk", reach="database", safety=Safety.SAFE, undo_commands=("DROP INDEX CONCURRENTLY public.idx_orders_customer_id",), apply_commands=("CREATE INDEX CONCURRENTLY idx_orders_customer_id ON public.orders (customer_id)",), resources=("database:bookshop", "table:orders"),
)  # fmt: skip
POOL = Change(
    id="c-pool-1", kind="app-setting", title="pool_size_max 2 → 8 in settings.toml", finding="pool-exhausted", steps=("GET /products",), diff="--- settings.toml\n+++ settings.toml\n@@ -3 +3 @@\n-pool_size_max = 2\n+pool_size_max = 8", risk="6 more connections to the database", reach="process",
    safety=Safety.SAFE, undo_commands=("perfloop rollback c-pool-1",), restarts=True, resources=("setting:pool_size_max",),
)  # fmt: skip
CACHE = Change(
    id="c-cache-1", kind="app-setting", title="cache_ttl_s 5 → 60 (your candidate)", steps=("GET /products/{id}",), diff="-cache_ttl_s = 5\n+cache_ttl_s = 60", risk="prices up to a minute old", reach="process", safety=Safety.SAFE, undo_commands=("perfloop rollback c-cache-1",)
)  # fmt: skip


def _verdict(status: VerdictStatus, metric: str, before: float, ratio: float, half: float, logs: tuple[float, ...]) -> Verdict:
    guards = (
        Guard(metric="error rate", ok=True, before=0.0, after=0.0, bound="≤ 1 %"),
        Guard(metric="p95_s of all requests", ok=True, before=0.3, after=0.1, ratio=Estimate(value=0.4, low=0.3, high=0.5), bound="not worse"),
    )
    return Verdict(
        status=status, metric=metric, proof=Proof.TOGGLED, pairs=len(logs), round_s=4.0, before=_estimate(before, 0.05), after=_estimate(before * ratio, 0.07), ratio=Estimate(value=ratio, low=ratio * (1 - half), high=ratio * (1 + half), n=len(logs)),
        detectable_ratio=0.93, guards=guards, log_ratios=logs,
    )  # fmt: skip


def _findings() -> tuple[Finding, ...]:
    return (
        Finding(
            rule="missing-index", confidence=Confidence.CONFIRMED, title="orders is read whole to find the orders of one customer", place=Place(file=f"{ROOT}/bookshop/orders.py", line=41, function="list_orders", query="SELECT id, total, created_at FROM orders WHERE customer_id = ?", query_id="-48121"), steps=(SLOW,),
            share=Estimate(value=0.74, low=0.7, high=0.78), win_back_s=Estimate(value=0.061, low=0.054, high=0.068, unit="s"), win_back_per_s=3.9, evidence=("sequential scan of 500,000 rows returns 12", "active in 61 % of 200 samples of the database", "no index of orders begins with customer_id"),
            hypothesis="an index on orders(customer_id) turns the scan into a lookup", disproof="if the planner does not use the index in the twin, this is not it", experiment=Experiment(kind="twin-index", refutes="the planner keeps the sequential scan"), fix="create an index on orders(customer_id)",
            prevention="index every column that a foreign key or a WHERE on a growing table uses", actor="database administrator", proposals=(Proposal(kind="postgres-index", title="index orders(customer_id)"),),
        ),
        Finding(rule="pool-exhausted", confidence=Confidence.LIKELY, title="requests wait for one of 2 database connections", place=Place(setting="pool_size_max"), steps=("GET /products",), share=Estimate(value=0.4), win_back_s=Estimate(value=0.012, low=0.008, high=0.016, unit="s"), win_back_per_s=0.8, evidence=("2 of 2 connections busy in 93 % of samples", "22 % of stack samples wait in checkout"), disproof="if latency does not fall with a larger pool, this is not it", fix="raise pool_size_max to 8", actor="backend developer", proposals=(Proposal(kind="app-setting", title="raise pool_size_max"),)),
        _n_plus_one(),
    )  # fmt: skip


def _n_plus_one() -> Finding:
    return Finding(rule="n-plus-one", confidence=Confidence.LIKELY, title="one query for each of 20 rows", place=Place(file=f"{ROOT}/bookshop/products.py", line=23, function="products"), steps=("GET /products",), share=Estimate(value=0.21, low=0.16, high=0.27), win_back_s=Estimate(value=0.0041, low=0.003, high=0.0052, unit="s"), win_back_per_s=0.27, evidence=("21.3 round trips to 127.0.0.1:5432 a request", f"the same query text repeats: SELECT {EVIL}"), disproof="if latency does not grow with page size, this is not it", fix="load the authors of all rows with one query: WHERE id = ANY(?)", prevention="count queries a request in a test")  # fmt: skip


def _diagnosis(findings: tuple[Finding, ...]) -> Diagnosis:
    results = (
        *(RuleResult(rule=finding.rule, outcome=Outcome.FOUND, findings=(finding,)) for finding in findings),
        RuleResult(rule="event-loop-blocked", outcome=Outcome.RULED_OUT, reason="a cheap request beside it was not delayed (1.0 ms, 0.9 to 1.2)"),
        RuleResult(rule="lock-contention", outcome=Outcome.CLEAR, reason="no session waited for a lock in 200 samples"),
        RuleResult(rule="memory-leak", outcome=Outcome.CLEAR, reason="resident memory is flat: 0.0 MB a minute, −0.2 to 0.2"),
        RuleResult(rule="slow-downstream", outcome=Outcome.NOT_APPLICABLE, reason="no HTTP peer carries traffic of a slow endpoint"),
        RuleResult(rule="cpu-throttled", outcome=Outcome.UNKNOWN, reason="no cgroup is readable here", fix="mount /sys/fs/cgroup"),
    )
    return Diagnosis(findings=findings, results=results)


def _windows(label: str, summary: Summary) -> tuple[Window, ...]:
    steps = tuple(StepSamples(name=step.name, sent=step.sent // 5, ok=step.ok // 5) for step in summary.steps)
    return tuple(Window(label=label, started_at="2026-01-05T10:00:00Z", duration_s=5, rate_per_s=65, steps=steps, generator_cpu=1) for _ in range(5))


def sample_result() -> RunResult:
    """The result of a run that kept two changes and undid one."""
    before, after = _summary("baseline", 0.26, 0.06), _summary("after", 0.008, 0.004)
    findings = _findings()
    tried = (
        Tried(change=INDEX, decision=Decision.KEPT, verdict=_verdict(VerdictStatus.IMPROVED, f"p95_s of {SLOW}", 0.41, 0.036, 0.12, (-3.3, -3.41, -3.28, -3.35))),
        Tried(change=POOL, decision=Decision.KEPT, verdict=_verdict(VerdictStatus.IMPROVED, "p95_s of GET /products", 0.12, 0.21, 0.2, (-1.5, -1.61, -1.42))),
        Tried(change=CACHE, decision=Decision.UNDONE, verdict=_verdict(VerdictStatus.EQUIVALENT, "p95_s of GET /products/{id}", 0.0094, 1.01, 0.04, (0.02, -0.01, 0.03, 0.0)), reason="did not help by the 5 % that are worth keeping", health_after_undo="200 in 6 ms; p95 as before"),
        Tried(change=Change(id="c-code-1", kind="code", title="one query instead of one per row", finding="n-plus-one", safety=Safety.SHOW, diff="-for row in rows:\n-    row.author = session.get(Author, row.author_id)\n+authors = session.scalars(select(Author).where(Author.id.in_(ids)))"), decision=Decision.SHOWN, reason="code is shown, never applied"),
    )  # fmt: skip
    probes = tuple(RateProbe(rate_per_s=rate, achieved_per_s=rate, p95_s=0.02 * rate / 30, error_rate=0, ok=rate < 130) for rate in (40.0, 80.0, 120.0, 160.0))
    result = RunResult(
        kind="improve", run_id="20260105-100000-7f3a", started_at="2026-01-05T10:00:00Z", ended_at="2026-01-05T10:03:41Z", duration_s=221, state="done", target=_target(), rate_per_s=65, slo=Slo(latency_p95_ms=200, error_rate_max=0.01),
        journeys=Journeys(steps=tuple(Step(name=step.name, paths=("/",), weight=step.sent / 100) for step in before.steps), source="openapi"),
        slo_checks=(SloCheck(name="p95", bound=200, measured=(after.total.p95_s.value if after.total.p95_s else 0) * 1000, unit="ms", ok=True), SloCheck(name="error rate", bound=0.01, measured=0.0, unit="share", ok=True)),
        before=before, after=after, before_windows=_windows("baseline", before), after_windows=_windows("after", after),
        throughput_before=RateSearch(rate_per_s=38, slo="p95 ≤ 200 ms", probes=probes[:2]), throughput_after=RateSearch(rate_per_s=131, slo="p95 ≤ 200 ms", probes=probes),
        diagnosis=_diagnosis(findings), diagnosis_after=_diagnosis(findings[2:]), tried=tried, flame_before=flame([_stacks()], ROOT), flame_after=flame([_stacks()], ROOT),
        experiments=(ExperimentResult(kind="size-sweep", rule="n-plus-one", subject="GET /products", x=(5, 10, 20, 40), y=(0.004, 0.006, 0.01, 0.018), x_unit="rows", y_unit="s", estimate=Estimate(value=0.0004, low=0.00037, high=0.00043, unit="s"), supports=True, note="each row costs 0.4 ms"), ExperimentResult(kind="noop-beside", rule="event-loop-blocked", subject="GET /search", supports=False, note="the cheap request was not delayed")),
        capacity=Capacity(points=((1.2, 40), (2.9, 80), (5.1, 120), (9.4, 131)), alpha=Estimate(value=0.08, low=0.05, high=0.11), beta=Estimate(value=0.001, low=-0.001, high=0.003), gamma_per_s=Estimate(value=34, low=31, high=37), valid_up_to=9.4, note="no peak inside the data"),
        unavailable=(Unavailable(probe="psi", reason="this kernel has no /proc/pressure", fix="boot with psi=1"),), improvement={"response_time": Estimate(value=0.922, low=0.91, high=0.933, source="p95 of all requests, after against before")},
        notes=("sandbox: no change ticket and no on-call notice are needed, noted",), audit_head="9b1c" * 16,
    )  # fmt: skip
    return result.with_(delivery_notice=delivery_notice(result), progress=progress(result), checklist=checklist(result))

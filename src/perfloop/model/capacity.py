"""How far it goes: what a fitted scalability law says, and where it stops saying anything."""

from __future__ import annotations

from typing import Literal

from perfloop.model.base import Estimate, Word


class CurvePoint(Word):
    """The law at one concurrency, with the band in which one more measurement would fall."""

    concurrency: float
    throughput: Estimate


class Capacity(Word):
    """A fit of the Universal Scalability Law X(N) = γN / (1 + α(N−1) + βN(N−1)) to measured points of concurrency and throughput.

    ``peak_concurrency`` is None where β's interval contains 0: there is no peak inside the data, and predictions stop at ``valid_up_to``.
    """

    points: tuple[tuple[float, float], ...]  # (concurrency, requests per second)
    alpha: Estimate | None = None
    beta: Estimate | None = None
    gamma_per_s: Estimate | None = None
    peak_concurrency: float | None = None
    valid_up_to: float | None = None
    note: str = ""
    rounds: tuple[int, ...] = ()  # the sweep that each point belongs to; empty where there was one
    curve: tuple[CurvePoint, ...] = ()  # where the band says something


class LoadPoint(Word):
    """One window of a sweep. ``concurrency`` is the users of a closed window, or rate times mean latency of an open one; ``ok`` False: the generator was the limit."""

    round: int
    rate_per_s: float  # asked for; 0 where users were sent
    users: int = 0
    achieved_per_s: float
    concurrency: float
    mean_s: float | None = None
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    error_rate: float = 0.0
    ok: bool = True
    little_ok: bool = True
    note: str = ""


ResourceKind = Literal["cpu", "lock", "connections", "database", "memory", "network", "disk"]


class Demand(Word):
    """One resource by the utilisation law: used = idle + demand × rate, over the windows in ``points`` (rate, used).

    ``saturates_at_per_s`` is None where the demand is not told from nothing, or where it is not known how much there is (``note`` says which).
    ``scales`` says whether another replica brings its own (True) or all share it (False).
    """

    resource: str
    kind: ResourceKind
    unit: str
    capacity: float | None = None
    capacity_source: str = ""
    demand: Estimate | None = None
    idle: float = 0.0
    points: tuple[tuple[float, float], ...] = ()
    saturates_at_per_s: Estimate | None = None
    scales: bool = True
    note: str = ""


class Need(Word):
    """What a growth asks of the resources: those that do not suffice, in the order in which they saturate."""

    factor: float
    rate_per_s: float
    short: tuple[str, ...] = ()
    used: dict[str, float] = {}  # resource → share of its capacity at this rate
    keeps_slo: bool | None = None


class Option(Word):
    """One way to serve a rate. ``measured`` False: it rests on an assumption that ``assumes`` names."""

    kind: Literal["as it is", "vertical", "horizontal", "database", "smaller"]
    title: str
    rate_per_s: float  # what it carries under the SLO
    replicas: int = 1
    workers: int = 1
    provider: str = ""
    instance: str = ""
    cost_per_month: float | None = None
    p95_s: float | None = None
    keeps_slo: bool | None = None
    changes: tuple[str, ...] = ()
    measured: bool = False
    assumes: str = ""
    chosen: bool = False


class Simulated(Word):
    """A policy played on arrivals: seconds and share of requests outside the SLO, and what it took. ``timeline`` is (second, arrivals/s, replicas)."""

    scenario: str
    policy: str
    duration_s: float
    broken_s: float
    broken_share: float
    replicas_max: int
    replica_hours: float
    cost: float = 0.0
    timeline: tuple[tuple[float, float, float], ...] = ()


class ScalingPolicy(Word):
    """An autoscaling policy derived from measurements, with the files to apply it and its simulation beside the naive one."""

    metric: Literal["cpu", "rate"]
    target: float
    unit: str
    replicas_min: int
    replicas_max: int
    keeps_slo: bool
    why: str = ""
    manifest: str = ""  # Kubernetes HorizontalPodAutoscaler, YAML
    target_tracking: str = ""  # the same for other schedulers, JSON
    simulated: tuple[Simulated, ...] = ()


class ForecastPoint(Word):
    """A forecast rate with the 5 % and 95 % courses."""

    at_s: float
    low_per_s: float
    middle_per_s: float
    high_per_s: float


class Threshold(Word):
    """When a rate is reached: a resource's saturation, or the highest rate under the SLO. Dates as YYYY-MM-DD; empty: not within the forecast."""

    name: str
    rate_per_s: float
    earliest: str = ""
    expected: str = ""
    latest: str = ""


class Forecast(Word):
    """The growth of the load, from stored runs, an access log or given numbers."""

    source: str
    season_s: float = 0.0
    growth_per_month: Estimate | None = None
    points: tuple[ForecastPoint, ...] = ()
    history: tuple[tuple[float, float], ...] = ()
    note: str = ""


class Replicas(Word):
    """So many copies of the service behind one proxy: what closed load reached, as a share of so many times the first (``efficiency``), and their start-up time."""

    count: int
    rate_per_s: Estimate
    efficiency: float
    startup_s: float


class RightSize(Word):
    """A smaller limit and what the service did under it."""

    cpu_cores_before: float
    cpu_cores: float
    memory_before_bytes: int
    memory_bytes: int
    saved_share: float
    ok: bool | None = None  # the SLO was kept under the proposed CPU limit
    memory_ok: bool | None = None  # and under the memory limit; None: it was not tried
    p95_s: float | None = None
    throttled_share: float | None = None
    note: str = ""


class CapacityPlan(Word):
    """How far the service goes, what ends it, and what to do about it."""

    now_per_s: float
    growth: float
    points: tuple[LoadPoint, ...] = ()
    closed: tuple[LoadPoint, ...] = ()
    demands: tuple[Demand, ...] = ()  # in the order of saturation
    gentle_max_per_s: float = 0.0  # the demands were fitted on windows up to this rate
    predicted_per_s: Estimate | None = None  # where it ends, from load up to there on average
    predicted_note: str = ""  # where what was seen disagrees
    bursts: tuple[tuple[int, float], ...] = ()  # requests that came at once, seconds until the last one was answered
    rate_slo: Estimate | None = None
    rate_slo_bounded: bool = True
    slo: str = ""
    saturated_per_s: Estimate | None = None  # measured
    needs: tuple[Need, ...] = ()
    options: tuple[Option, ...] = ()
    policy: ScalingPolicy | None = None
    forecast: Forecast | None = None
    thresholds: tuple[Threshold, ...] = ()
    replicas: tuple[Replicas, ...] = ()
    right_size: RightSize | None = None
    alerts: str = ""  # Prometheus rules, YAML
    dashboard: str = ""  # Grafana, JSON
    prices_dated: str = ""
    unknown: tuple[str, ...] = ()

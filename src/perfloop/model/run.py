"""What came back: windows of load with mergeable histograms, and the summary of several windows."""

from __future__ import annotations

from perfloop.model.base import Estimate, Word


class HistogramData(Word):
    """A log-bucket histogram as columns: ``counts[i]`` values fell into bucket ``buckets[i]``; see ``perfloop.stats.histogram`` for the bucket bounds (relative error ≤ 1 %, 1 µs to 1 h)."""

    buckets: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    sum_s: float = 0.0
    max_s: float = 0.0


class StepSamples(Word):
    """One step in one window. ``errors`` maps the error class (connect, timeout_connect, timeout_first_byte, timeout, reset, protocol, status_4xx, status_5xx, check; server_error of a database or cache; script) to its count; ``latency`` holds successes only, from the intended start, in seconds."""

    name: str
    sent: int
    ok: int
    errors: dict[str, int] = {}
    bytes_in: int = 0
    bytes_out: int = 0
    statuses: dict[int, int] = {}  # status code → how many answers had it
    latency: HistogramData = HistogramData()


class JourneySamples(Word):
    """Iterations of one journey: ``ok`` ended with every step answered and every check true; ``errors`` maps why the others did not; ``duration`` is of the ok ones, think time included."""

    name: str
    started: int = 0
    ok: int = 0
    errors: dict[str, int] = {}
    duration: HistogramData = HistogramData()


class CheckSamples(Word):
    """One named check: how often it was true and how often not."""

    name: str
    ok: int = 0
    failed: int = 0


class SecondSamples(Word):
    """All steps together in one slot of a window, ``slot_s`` long."""

    elapsed_s: float
    sent: int
    ok: int
    errors: dict[str, int] = {}
    bytes_in: int = 0
    users: int = 0  # closed: active at its end
    latency: HistogramData = HistogramData()


class Window(Word):
    """One window of load on the target. ``label`` says what for (``baseline``, ``proof-a``, ``proof-b``, ``probe``)."""

    label: str
    started_at: str
    duration_s: float
    rate_per_s: float
    steps: tuple[StepSamples, ...]
    lateness_p99_s: float = 0.0  # of the generator's own schedule: actual minus intended send time
    generator_ok: bool = True  # False: the generator was the bottleneck and the window gives no verdict
    stopped_early: str = ""  # why, when the window did not run to its end
    cpu_seconds: float | None = None  # of the service's processes, during the window
    memory_bytes: int | None = None  # resident in the service's processes at its end
    memory_limit_bytes: int | None = None  # of the service's control group, else the machine's
    steal_share: float | None = None  # of one core's time, taken by the hypervisor during the window
    generator_cpu: int | None = None
    per_second_p95_s: tuple[float, ...] = ()
    achieved_per_s: float | None = None  # rate of successful answers while they came steadily; below rate_per_s when the service fell behind
    slot_s: float = 1.0
    per_second: tuple[SecondSamples, ...] = ()  # at most 3,600; a longer window has longer slots
    lateness: HistogramData = HistogramData()
    journeys: tuple[JourneySamples, ...] = ()
    checks: tuple[CheckSamples, ...] = ()
    first_errors: dict[str, str] = {}  # class → the first detail seen
    generator_busy: float | None = None  # share of a core that the busiest generator process used
    users: int = 0
    retries: int = 0  # requests sent once more because an idle connection had been closed under them; each still ends in one class


class StepSummary(Word):
    """One step over several windows; percentiles are read from the merged histogram, intervals come from the windows."""

    name: str
    sent: int
    ok: int
    errors: dict[str, int] = {}
    rate_per_s: float = 0.0
    mean_s: float | None = None
    p50_s: Estimate | None = None
    p95_s: Estimate | None = None
    p99_s: Estimate | None = None
    max_s: float | None = None
    latency: HistogramData = HistogramData()


class Summary(Word):
    """Several windows of the same load. ``total`` is all steps together; ``noise_cv`` is the coefficient of variation of the windows' p95."""

    label: str
    windows: int
    window_s: float
    rate_per_s: float
    total: StepSummary
    steps: tuple[StepSummary, ...]
    noise_cv: float | None = None
    lateness_p99_s: float = 0.0
    generator_ok: bool = True
    cpu_seconds_per_request: float | None = None
    users: int = 0  # of closed load; 0: open arrivals

    @property
    def arrivals(self) -> str:
        """Who sent it, in words."""
        return f"{self.users:,} closed user{'' if self.users == 1 else 's'}" if self.users else "open arrivals"


class RateProbe(Word):
    """One probe of a search for the highest rate that keeps the SLO."""

    rate_per_s: float
    achieved_per_s: float
    p95_s: float | None
    error_rate: float
    ok: bool


class RateSearch(Word):
    """The highest rate that kept the SLO; ``rate_per_s`` is None where not even the lowest probe did, ``bounded`` False where the upper end was never reached."""

    rate_per_s: float | None
    slo: str
    probes: tuple[RateProbe, ...]
    bounded: bool = True

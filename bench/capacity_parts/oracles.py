"""Rows that need no service: published fits, refusals, coverage on simulated systems, queues, and the autoscaler's documented cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import exp
from pathlib import Path
from typing import Any

import numpy as np

from bench.table import Row
from perfloop.capacity.autoscaler import DOWN_DEFAULT, UP_DEFAULT, Memory, Pod, Policy, Rules, desired, desired_by_total, limited, stabilized
from perfloop.capacity.bands import bands
from perfloop.capacity.queueing import mmc
from perfloop.capacity.usl import concurrency_for, fit, fit_points, law, throughput_at

SDM91 = ((1, 64.9), (18, 995.9), (36, 1652.4), (72, 1853.2), (108, 1828.9), (144, 1775.0), (216, 1702.2))
# requests/s of a Cisco benchmark at 1 to 32 concurrent, in B. Schwartz, "Practical Scalability Analysis with the Universal Scalability Law"
CISCO_RATES = (
    955.16, 1878.91, 2688.01, 3548.68, 4315.54, 5130.43, 5931.37, 6531.08, 7219.8, 7867.61, 8278.71, 8646.7, 9047.84, 9426.55, 9645.37, 9897.24, 10097.6,
    10240.5, 10532.39, 10798.52, 11151.43, 11518.63, 11806, 12089.37, 12075.41, 12177.29, 12211.41, 12158.93, 12155.27, 12118.04, 12140.4, 12074.39,
)  # fmt: skip
CISCO = tuple((float(n), rate) for n, rate in enumerate(CISCO_RATES, 1))
PUBLISHED = (
    ("SPEC SDM91", SDM91, (0.027728, 1.0437e-4, 89.995), (0.5e-6, 0.5e-8, 0.5e-3)),  # and what rounding of the printed digits allows
    ("Cisco", CISCO, (0.02671591, 7.690945e-4, 995.6486), (0.5e-8, 0.5e-10, 0.5e-4)),
)
CASES = Path(__file__).parents[2] / "tests" / "cases" / "hpa"
DIRECTIONS = (("up", UP_DEFAULT), ("down", DOWN_DEFAULT))
SYSTEMS, HELD_OUT = 200, 10

System = tuple[list[tuple[float, float]], list[int], list[tuple[float, float]]]


def rows() -> list[Row]:
    """All of them; about half a minute of one core."""
    return [*_published(), _inverse(), *_refusals(), *_coverage(), *_queues(), _autoscaler()]


def _published() -> list[Row]:
    found = []
    for name, points, wanted, rounding in PUBLISHED:
        fitted = fit_points(points, "absolute")
        assert fitted is not None
        off = max(max(0.0, abs(got - want) - digits) / want for got, want, digits in zip(fitted.parameters, wanted, rounding, strict=True))
        found.append(Row(f"USL of {name} by plain least squares: largest parameter error", 100 * off, "%", "≤ 0.02", off <= 2e-4))
    exact = [(n, law((0.02, 0.02, 1.0), n)) for n in (1, 2, 4, 6, 8, 10)]
    for scale in ("absolute", "log"):
        fitted = fit_points(exact, scale)  # type: ignore[arg-type]
        assert fitted is not None
        off = max(abs(got / want - 1) for got, want in zip(fitted.parameters, (0.02, 0.02, 1.0), strict=True))
        found.append(Row(f"USL of exact points, {scale}: largest parameter error", 100 * off, "%", "≤ 0.02", off <= 2e-4))
    return found


def _inverse() -> Row:
    worst = 0.0
    for points in (SDM91, CISCO):
        for scale in ("absolute", "log"):
            capacity = fit(points, scale=scale)  # type: ignore[arg-type]
            for share in np.linspace(0.02, 0.999, 300):
                rate = share * max(x for _, x in points)
                concurrency = concurrency_for(capacity, rate)
                back = throughput_at(capacity, concurrency) if concurrency else None
                worst = max(worst, abs(back / rate - 1) if back else 0.0 if concurrency is None and share > 0.95 else 1.0)
    return Row("X(N(x)) = x: largest relative error, both fits", worst, "", "≤ 1e-9", bool(worst <= 1e-9))


def _refusals() -> list[Row]:
    found = []
    for top in (6, 8, 10):
        capacity = fit(CISCO[:top])
        band = bands(CISCO[:top], None, (32.0,))[0]
        refused = capacity.peak_concurrency is None and throughput_at(capacity, 32) is None and concurrency_for(capacity, 12_000) is None and band is None
        found.append(Row(f"Cisco fitted on N ≤ {top}: nothing said at 32, no peak named", float(refused), "", "1", refused, why=capacity.note))
    return found


def _coverage() -> list[Row]:
    found = []
    for name, truth in (("drawn from the law", _usl_truth), ("closed queueing networks, which the law fits only nearly", _mva_truth)):
        hits = asked = silent = 0
        dice = np.random.default_rng(20261124)
        for number in range(SYSTEMS):
            points, rounds, held_out = _system(dice, truth)
            for (_, x), band in zip(held_out, bands(points, rounds, [n for n, _ in held_out], 0.9, seed=number), strict=True):
                if band is None or band.low is None or band.high is None:
                    silent += 1
                    continue
                hits, asked = hits + (band.low <= x <= band.high), asked + 1
        share = 100 * float(hits) / asked
        why = f"{asked} held-out points, {silent} more about which nothing was said"
        found.append(Row(f"90 % bands on {SYSTEMS} systems {name}: held-out points inside", round(share, 2), "%", "88–96", bool(88 <= share <= 96), why=why))
    return found


def _usl_truth(dice: np.random.Generator) -> Callable[[float], float]:
    alpha = 0.0 if dice.random() < 0.1 else 10 ** dice.uniform(-3, -0.5)
    beta = 0.0 if dice.random() < 0.25 else 10 ** dice.uniform(-5, -2)
    gamma = 10 ** dice.uniform(0, 4)
    return lambda n: law((alpha, beta, gamma), n)


def _mva_truth(dice: np.random.Generator) -> Callable[[float], float]:
    from perfloop.capacity.queueing import mva

    demands = [10 ** dice.uniform(-3, -1) for _ in range(int(dice.integers(1, 4)))]
    solved = mva(demands, 256, float(dice.choice([0.0, 10 ** dice.uniform(-2, 0)])))
    return lambda n: solved[max(1, round(n)) - 1].throughput_per_s


def _system(dice: np.random.Generator, make: Callable[[np.random.Generator], Callable[[float], float]]) -> System:
    """3 to 5 rounds over 6 to 10 levels; scatter of 0.5 to 8 % a point, half of them heavy-tailed, and up to 4 % a round; further points up to 1.5 × the data."""
    truth = make(dice)
    own, shared, heavy = dice.uniform(0.005, 0.08), dice.uniform(0, 0.04) * (dice.random() < 0.7), dice.random() < 0.5
    levels = np.unique(np.round(np.geomspace(1, 2 ** dice.uniform(3, 7), int(dice.integers(6, 11)))))

    def noise() -> float:
        return float(own * (dice.standard_t(5) / np.sqrt(5 / 3) if heavy else dice.standard_normal()))

    points, rounds = [], []
    for number in range(int(dice.integers(3, 6))):
        mood = float(shared * dice.standard_normal())
        for level in levels:
            points.append((float(level), truth(float(level)) * exp(mood + noise())))
            rounds.append(number)
    further = [float(np.round(exp(dice.uniform(0, np.log(1.5 * levels.max()))))) for _ in range(HELD_OUT)]
    further = [min(max(1.0, n), 1.5 * float(levels.max())) for n in further]
    return points, rounds, [(n, truth(n) * exp(float(shared * dice.standard_normal()) + noise())) for n in further]


def _queues() -> list[Row]:
    claims = (0.55 * 35 + 0.01 * 0.45 * 35) / (1 - 0.02 * 0.01)
    service = 0.45 * 35 + 0.02 * claims
    wanted: list[tuple[str, float, float]] = [
        ("te4.2 choosing", mmc(35, 1 / 120, 1).inside, 0.412),
        ("te4.2 claims", mmc(claims, 0.1, 3).inside, 2.706),
        ("te4.2 service", mmc(service, 1 / 3, 7).inside, 6.781),
        ("M/M/3 P0", mmc(6, 1 / 3, 3).p_empty, 1 / 9),
        ("M/M/3 Lq", mmc(6, 1 / 3, 3).waiting, 8 / 9),
    ]
    return [
        Row(f"queueing oracle {name}", round(got, 5), "", f"{want:.3f}", abs(round(got, 3) - round(want, 3)) < 1e-9, why="Gross & Harris")
        for name, got, want in wanted
    ]


def _autoscaler() -> Row:
    """The cases that Kubernetes documents for its HorizontalPodAutoscaler, as data in tests/cases/hpa."""
    right = asked = 0
    wrong: list[str] = []
    for name, check in (("pods", _by_pods), ("totals", _by_total), ("stabilization", _stabilized), ("limits", _limited)):
        for case in json.loads((CASES / f"{name}.json").read_text()):
            asked += 1
            if check(case):
                right += 1
            else:
                wrong.append(case["name"])
    return Row("autoscaler: documented cases of the Kubernetes algorithm", right, "cases", f"all {asked}", right == asked, why=", ".join(wrong))


def _by_pods(case: dict[str, Any]) -> bool:
    pods = [Pod(**pod) for pod in case["pods"]]
    kind, cpu = case.get("kind", "utilization"), case.get("cpu", True)
    return bool(desired(case["current"], pods, case["target"], kind, cpu, initialization_s=120, readiness_s=10) == case["expected"])


def _by_total(case: dict[str, Any]) -> bool:
    return bool(desired_by_total(case["current"], case["total"], case["target"], case["kind"], case["ready"]) == case["expected"])


def _stabilized(case: dict[str, Any]) -> bool:
    memory = Memory(recommendations=[(at, count) for at, count in case["recommendations"]])
    return bool(stabilized(0.0, case["current"], case["wanted"], memory) == case["expected"])


def _limited(case: dict[str, Any]) -> bool:
    memory = Memory(ups=[(at, change) for at, change in case["ups"]], downs=[(at, change) for at, change in case["downs"]])
    up, down = (Rules(tuple(Policy(*p) for p in case[key]["policies"]), case[key]["stabilization_s"]) if case[key] else default for key, default in DIRECTIONS)
    return limited(0.0, case["current"], case["wanted"], case["minimum"], case["maximum"], memory, up, down) == (case["expected"], case["condition"])


__all__: list[Any] = ["CISCO", "SDM91", "rows"]

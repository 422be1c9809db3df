from __future__ import annotations

import pytest

from perfloop.model.base import Estimate
from perfloop.model.evidence import Frame, Stack, StacksObservation
from perfloop.model.result import FlameNode, RunResult
from perfloop.model.run import RateSearch
from perfloop.report import text
from perfloop.report.checklist import checklist
from perfloop.report.flame import NODES_MAX, flame
from perfloop.report.flame_svg import flame_svg
from perfloop.report.notice import delivery_notice, progress


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(None, "–"), (0.00085, "850 µs"), (0.0412, "41.2 ms"), (0.412, "412 ms"), (2.1, "2.1 s"), (200, "3 min 20 s"), (0, "0 ms")],
)
def test_seconds(value: float | None, wanted: str) -> None:
    assert text.seconds(value) == wanted


def test_changes_carry_their_interval_and_a_sign() -> None:
    assert text.change(Estimate(value=0.23, low=0.19, high=0.29)) == "−77 % (−81 to −71 %)"
    assert text.change(Estimate(value=3.45)) == "+245 %"
    assert text.change(Estimate(value=0.036)) == "−96.4 %"
    assert text.percent(0.0) == "0 %"


def test_notice_has_the_words_of_the_contract(sample: RunResult) -> None:
    assert (
        delivery_notice(sample)
        == "Performance optimization completed. Improved response time by 92% (333ms to 26ms) and increased throughput by 245% (38 to 131 RPS)."
    )
    assert progress(sample) == {
        "agent": "performance-engineer",
        "status": "optimizing",
        "progress": {"response_time_improvement": "92%", "throughput_increase": "245%"},
    }


def test_notice_with_all_three_parts(sample: RunResult) -> None:
    gains = {**sample.improvement, "cpu_per_request": Estimate(value=0.4, low=0.3, high=0.5)}
    notice = delivery_notice(sample.with_(improvement=gains))
    assert notice.endswith("(333ms to 26ms), increased throughput by 245% (38 to 131 RPS), and reduced resource usage by 40%.")


def test_notice_leaves_out_what_is_not_proved(sample: RunResult) -> None:
    unproved = {"response_time": Estimate(value=0.1, low=-0.05, high=0.2)}
    same_rate = RateSearch(rate_per_s=40, slo="p95", probes=())
    bare = sample.with_(improvement=unproved, throughput_after=same_rate)
    assert delivery_notice(bare) == "Performance optimization completed. No improvement was proven."
    assert progress(bare)["progress"] == {}
    only_cpu = bare.with_(improvement={"cpu_per_request": Estimate(value=0.4, low=0.3, high=0.5)})
    assert delivery_notice(only_cpu) == "Performance optimization completed. Reduced resource usage by 40%."


def test_checklist_answers_all_items_and_assumes_nothing(sample: RunResult) -> None:
    items = {item.name: item for item in checklist(sample)}
    assert len(items) == 16
    assert items["baselines established"].state == "done"
    assert items["bottlenecks eliminated"].state == "not done"
    assert items["monitoring in place"].state == "unknown"
    bare = {item.name: item.state for item in checklist(sample.with_(before=None, after=None, before_windows=(), after_windows=(), tried=()))}
    assert bare["baselines established"] == bare["load tests executed"] == bare["optimisations validated"] == "not done"


def _stacks(frames: list[tuple[str, str]], stacks: list[tuple[tuple[int, ...], float, float]]) -> StacksObservation:
    return StacksObservation(
        pid=1,
        sampler="test",
        rate_hz=100,
        window_s=1,
        frames=tuple(Frame(function=name, file=file, line=number) for number, (name, file) in enumerate(frames, 1)),
        stacks=tuple(Stack(thread="t", frames=path, total=total, active=active) for path, total, active in stacks),
    )


LIB = "/usr/lib/python3.11/site-packages/lib.py"


def test_flame_counts_own_waiting_and_foreign_cpu_only() -> None:
    frames = [("main", LIB), ("view", "/srv/app/views.py"), ("wait", LIB), ("select", "/usr/lib/python3.11/selectors.py")]
    tree = flame([_stacks(frames, [((0, 1, 2), 50, 5), ((0, 3), 900, 10), ((0, 1, 3), 30, 0)])], "/srv/app")
    assert tree.value == pytest.approx(0.6)  # 50 waiting in own code + 10 on a CPU; the idle loop counts only what it computed
    assert [child.name for child in tree.children] == ["main"]
    assert {child.name: child.value for child in tree.children[0].children} == {"view": pytest.approx(0.5), "select": pytest.approx(0.1)}


def test_flame_is_bounded_and_keeps_the_heaviest() -> None:
    frames = [(f"f{number}", "/srv/app/x.py") for number in range(3_000)]
    tree = flame([_stacks(frames, [((number,), float(number + 1), 0) for number in range(3_000)])], "/srv/app")

    def count(node: FlameNode) -> int:
        return 1 + sum(count(child) for child in node.children)

    assert count(tree) == NODES_MAX
    assert tree.children[0].name == "f2999"

    deep = flame([_stacks(frames[:400], [(tuple(range(400)), 1, 1)])], "/srv/app")
    assert FlameNode.model_validate_json(deep.model_dump_json()) == deep


def test_flame_svg_folds_runs_of_library_frames() -> None:
    frames = [*((f"lib{number}", LIB) for number in range(6)), ("view", "/srv/app/views.py")]
    drawn = str(flame_svg(flame([_stacks(frames, [((0, 1, 2, 3, 4, 5, 6), 100, 0)])], "/srv/app"), "/srv/app"))
    assert drawn.count('class="f ') == 3
    assert "lib0 … lib5 +4 library frames" in drawn
    assert flame_svg(None) == ""

"""A differential flame graph tells a change only where the samples show it."""

from __future__ import annotations

from perfloop.model.result import FlameNode
from perfloop.report.flame_change import Sampled, flame_change
from perfloop.report.flame_svg import flame_change_svg


def tree(slow_s: float, same_s: float) -> FlameNode:
    children = (FlameNode(name="slow", value=slow_s, file="/srv/a.py", line=3), FlameNode(name="same", value=same_s, file="/srv/b.py", line=4))
    return FlameNode(name="all", value=slow_s + same_s, children=children)


def test_what_grew_is_proven_and_noise_is_not():
    change = flame_change(Sampled(tree(1.0, 2.0), 100, 100.0), Sampled(tree(3.0, 2.1), 100, 100.0))
    slow, same = (next(child for child in change.children if child.name == name) for name in ("slow", "same"))
    assert slow.proven
    assert slow.low_s > 0
    assert slow.after_s == 0.03
    assert not same.proven
    assert same.low_s < 0 < same.high_s


def test_twice_the_requests_at_twice_the_rate_of_sampling_is_no_change():
    change = flame_change(Sampled(tree(1.0, 2.0), 100, 100.0), Sampled(tree(2.0, 4.0), 200, 200.0))
    assert not any(node.proven for node in (change, *change.children))


def test_without_requests_there_is_nothing_to_compare():
    assert flame_change(Sampled(tree(1.0, 2.0), 0, 100.0), Sampled(tree(1.0, 2.0), 100, 100.0)) is None


def test_a_path_that_went_away_is_still_there_and_coloured():
    after = FlameNode(name="all", value=2.0, children=(FlameNode(name="same", value=2.0, file="/srv/b.py"),))
    svg = str(flame_change_svg(flame_change(Sampled(tree(2.0, 2.0), 100, 100.0), Sampled(after, 100, 100.0))))
    assert 'class="f less"' in svg
    assert 'class="f same"' in svg
    assert 'class="f more"' not in svg

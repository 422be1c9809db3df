from __future__ import annotations

from math import log
from random import Random

from perfloop.validate.elimination import leader, out


def test_the_leader_is_the_lowest_and_never_goes_while_it_helps() -> None:
    logs = {"a": [log(0.7), log(0.72)], "b": [log(0.9), log(0.95)], "c": [log(0.99), log(1.01)]}
    assert leader(logs) == "a"
    gone = out(logs, 0.05)
    assert "a" not in gone
    assert "c" in gone


def test_a_first_block_throws_out_only_what_is_clearly_worse() -> None:
    logs = {"a": [log(0.9)], "b": [log(1.05)], "c": [log(1.5)]}
    assert set(out(logs, 0.05)) == {"c"}
    assert out(logs, 0.05, noise=0.2) == {}


def test_after_three_blocks_what_helps_nobody_goes_even_alone() -> None:
    assert set(out({"a": [0.0, 0.01, -0.01]}, 0.05)) == {"a"}
    assert out({"a": [log(0.8)] * 3}, 0.05) == {}


def test_a_race_ends_with_the_best_arm_and_within_its_blocks() -> None:
    lot, won = Random(3), 0
    for _ in range(200):
        true = {"best": 0.6, "good": 0.75, "none": 1.0, "bad": 1.2, "same": 1.0, "little": 0.95}
        logs: dict[str, list[float]] = {name: [] for name in true}
        for _block in range(6):
            if len(logs) < 2:
                break
            for name, values in logs.items():
                values.append(log(true[name]) + lot.gauss(0, 0.06))
            gone = out(logs, 0.05)
            logs = {name: values for name, values in logs.items() if name not in gone}
        won += list(logs) == ["best"]
    assert won >= 190

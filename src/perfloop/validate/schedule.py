"""The order of the rounds: each pair with the change (B) and without it (A), which of the two first drawn by lot."""

from __future__ import annotations

from random import Random
from typing import Literal

Arm = Literal["A", "B"]


def schedule(pairs: int, seed: int) -> tuple[tuple[Arm, Arm], ...]:
    """So many pairs, each (A, B) or (B, A); the same seed gives the same order.

    Pairs come in blocks of two with opposite orders, so that a steady drift cancels; which order comes first in a block is random,
    so that no rhythm of the machine can follow it.
    """
    lot = Random(seed)
    orders: list[tuple[Arm, Arm]] = []
    while len(orders) < pairs:
        block: list[tuple[Arm, Arm]] = [("A", "B"), ("B", "A")]
        lot.shuffle(block)
        orders += block
    return tuple(orders[:pairs])

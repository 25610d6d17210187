"""Degradation of a live run, on a virtual clock: it helps, it does not swing, and it is taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpose.governor import Governor, GovernorSink, Step
from rtpose.types import Frame, Result

STEPS = 4
RATE = 30.0


@dataclass
class Machine:
    """Takes `cost(now)` seconds a frame, of which each step saves a fifth; frames come at `RATE`, the newest is taken."""

    cost: Callable[[float], float]
    governor: Governor
    changes: list[tuple[float, int]] = field(default_factory=list)
    now: float = 0.0
    frame: int = 0

    def run(self, until: float) -> None:
        while self.now < until:
            took = self.cost(self.now) * 0.8**self.governor.level
            newest = max(self.frame + 1, int(self.now * RATE))
            self.now = max(self.now, newest / RATE) + took
            if self.governor.note(self.now, self.now - newest / RATE, newest - self.frame - 1, min(1.0, took * RATE)):
                self.changes.append((self.now, self.governor.level))
            self.frame = newest


@given(st.floats(0.001, 0.2), st.floats(5, 60))
@settings(max_examples=40)
def test_a_steady_load_finds_its_level_and_stays(cost: float, target: float) -> None:
    governor = Governor(STEPS, target=target)
    machine = Machine(lambda now: cost, governor)
    machine.run(600)
    levels = [0, *(level for _, level in machine.changes)]
    assert all(abs(a - b) == 1 for a, b in pairwise(levels))
    assert all(b - a >= governor.window - 1e-6 for a, b in pairwise(when for when, _ in machine.changes))
    # Every attempt to climb that fails doubles the wait for the next one, so that there are few.
    assert len(machine.changes) <= STEPS + 2 * 6
    if cost < 1 / RATE:
        assert not machine.changes
    needed = next((k for k in range(STEPS) if cost * 0.8**k <= 0.99 / min(target, RATE) and cost * 0.8**k < 0.2), STEPS)
    if needed == STEPS and cost * 0.8 ** (STEPS - 1) > 1.15 / min(target, RATE):
        assert governor.level >= STEPS - 1


@given(st.floats(0.06, 0.2), st.floats(0.001, 0.02))
@settings(max_examples=20)
def test_what_was_saved_is_given_back_when_the_load_ends(heavy: float, light: float) -> None:
    governor = Governor(STEPS)
    machine = Machine(lambda now: heavy if now < 60 else light, governor)
    machine.run(60)
    assert governor.level > 0
    machine.run(60 + STEPS * governor.longest)
    assert governor.level == 0


def test_a_sink_pulls_the_levers_and_says_so() -> None:
    pulled: list[tuple[str, bool]] = []
    said: list[str] = []
    steps = [Step(name, partial(lambda name, save: pulled.append((name, save)), name)) for name in ("a", "b")]
    governor = Governor(2, window=1e-9, patience=0.0)
    sink = GovernorSink(governor, steps, 2, said.append)
    picture = np.zeros((1, 1, 3), np.uint8)
    for index in range(3):  # far too old
        sink.write(Result(Frame(index, index / 30, picture, 0)))
    assert pulled == [("a", True), ("b", True)]
    assert governor.level == 2
    assert [text for _, text in sink.log] == said == ["too much for this machine: a", "too much for this machine: b"]

"""Graceful degradation of a live run: when the machine cannot keep up it does less, step by step, and more again when there is room.

The `Governor` decides and knows no clock but what it is told, so that it can be tested on a virtual one; the `GovernorSink`
watches a run and pulls the levers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .types import Result


@dataclass(frozen=True)
class Step:
    """One thing to save on: its name for people, and the lever, called with True to save and False to stop saving."""

    name: str
    pull: Callable[[bool], None]


@dataclass
class Governor:
    """How many of the steps to take, from what a run achieves.

    steps: how many there are. target: results a second that are enough (fewer than come in are not missed above that). latency:
    seconds of age that 95 % of results must stay below. window: seconds over which both are judged. patience: seconds for which there
    must be room before a step is taken back; that doubles, up to `longest`, each time when it had to be taken again.
    """

    steps: int
    target: float = 20.0
    latency: float = 0.25
    window: float = 2.0
    patience: float = 10.0
    longest: float = 320.0
    level: int = 0
    _begin: float | None = None
    _ages: list[float] = field(default_factory=list)
    _missed: int = 0
    _since: float = 0.0
    _wait: float = 0.0
    _climbed: float = -1e9

    def __post_init__(self) -> None:
        self._wait = self.patience

    def note(self, now: float, age: float, missed: int, busy: float) -> bool:
        """Take in a result: the time, its age, frames dropped before it, share of the processors in use; True if `level` has changed."""
        if self._begin is None:
            self._begin = self._since = now
        self._ages.append(age)
        self._missed += missed
        if now - self._begin < self.window:
            return False
        rate, missed_rate = (n / (now - self._begin) for n in (len(self._ages), self._missed))
        old = sorted(self._ages)[int(0.95 * (len(self._ages) - 1))]
        self._begin, self._ages, self._missed = now, [], 0
        return self._judge(now, rate, missed_rate, old, busy)

    def _judge(self, now: float, rate: float, missed: float, age: float, busy: float) -> bool:
        wanted = min(self.target, rate + missed)
        if rate < 0.9 * wanted or age > self.latency:
            self._since = now
            if self.level == self.steps:
                return False
            if now - self._climbed < 2 * self._wait:  # there was no room after all
                self._wait = min(2 * self._wait, self.longest)
            self.level += 1
            return True
        if age > 0.7 * self.latency or busy > 0.75:
            self._since = now
        if self.level == 0 or now - self._since < self._wait:
            return False
        self.level -= 1
        self._since = self._climbed = now
        return True


class GovernorSink:
    """Watches every result of a live run; takes and takes back `steps`, tells `say`, and keeps what happened in `log`.

    processors: how many there are to be busy.
    """

    name, latest, main_thread = "governor", False, False

    def __init__(self, governor: Governor, steps: Sequence[Step], processors: int, say: Callable[[str], None]) -> None:
        self._governor, self._steps, self._processors, self._say = governor, steps, processors, say
        self._last = -1
        self._used, self._when = time.process_time(), time.monotonic()
        self._busy = 0.0
        self.log: list[tuple[float, str]] = []
        """Seconds of the source at which something changed, and what."""

    def write(self, result: Result) -> None:
        now = time.monotonic()
        if now - self._when > 1:
            used = time.process_time()
            self._busy = (used - self._used) / (now - self._when) / self._processors
            self._used, self._when = used, now
        missed = result.frame.index - self._last - 1 if self._last >= 0 else 0
        self._last = result.frame.index
        before = self._governor.level
        age = (time.monotonic_ns() - result.frame.arrival) * 1e-9
        if self._governor.note(now, age, missed, self._busy):
            down = self._governor.level > before
            step = self._steps[before if down else before - 1]
            step.pull(down)
            text = f"{'too much for this machine' if down else 'there is room again'}: {'' if down else 'no longer '}{step.name}"
            self.log.append((result.frame.time, text))
            self._say(text)

    def close(self) -> None:
        pass

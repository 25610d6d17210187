"""Sources, stages and sinks that fail, block and dawdle on command."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from rtpose.types import Frame, Result

PICTURE = np.zeros((2, 2, 3), np.uint8)


class Boom(Exception):
    """What the fakes raise."""


def wait_until(true: Callable[[], bool]) -> None:
    """Return when it is true; how long that takes is not what is tested."""
    while not true():
        time.sleep(0.001)


class FakeSource:
    """`count` frames (None: until closed), one every `interval` seconds; raises `error` in place of frame `fail_at`."""

    name = "source"

    def __init__(
        self, count: int | None, *, interval: float = 0.0, fail_at: int | None = None, error: type[Exception] = Boom
    ) -> None:
        self.count, self.interval, self.fail_at, self.error = count, interval, fail_at, error
        self.closed = threading.Event()
        self.given = 0

    def frames(self) -> Iterator[Frame]:
        index = 0
        while self.count is None or index < self.count:
            if self.interval and self.closed.wait(self.interval):
                return
            if self.closed.is_set():
                return
            if index == self.fail_at:
                raise self.error("source broke")
            self.given += 1
            yield Frame(index, index / 30, PICTURE, time.monotonic_ns())
            index += 1
        if index == self.fail_at:
            raise self.error("source broke")

    def close(self) -> None:
        self.closed.set()


class FakeSink:
    """Remembers frame numbers; raises `error` in place of writing frame `fail_at`, or in `close`."""

    def __init__(
        self,
        name: str = "sink",
        *,
        latest: bool = False,
        main_thread: bool = False,
        fail_at: int | None = None,
        error: type[Exception] = Boom,
        fail_close: bool = False,
        delay: Callable[[int], float] = lambda index: 0.0,
    ) -> None:
        self.name, self.latest, self.main_thread = name, latest, main_thread
        self.fail_at, self.error, self.fail_close, self.delay = fail_at, error, fail_close, delay
        self.seen: list[int] = []
        self.ages: list[float] = []
        self.thread: threading.Thread | None = None
        self.closes = 0

    def write(self, result: Result) -> None:
        self.thread = threading.current_thread()
        index = result.frame.index
        if index == self.fail_at:
            raise self.error("sink broke")
        if wait := self.delay(index):
            time.sleep(wait)
        self.seen.append(index)
        self.ages.append((time.monotonic_ns() - result.frame.arrival) * 1e-9)

    def close(self) -> None:
        self.closes += 1
        if self.fail_close:
            raise Boom("close broke")


def stage(
    name: str, *, fail_at: int | None = None, delay: Callable[[int], float] = lambda index: 0.0
) -> Callable[[Result], Result]:
    """A stage that passes results on, after `delay(index)` seconds."""

    def work(result: Result) -> Result:
        if result.frame.index == fail_at:
            raise Boom(f"{name} broke")
        if wait := delay(result.frame.index):
            time.sleep(wait)
        return result

    work.__name__ = name
    return work

"""The frame pipeline: a source, stages and sinks, run on threads (`run`) or as a plain loop (`run_inline`).

`run_inline` is the executable specification: offline, `run` hands every sink the same results in the same order. Live, frames
are dropped at the entrance alone, where they wait in turn while that is short and else the newest is taken, and no more frames are
let in than keep every stage busy, so that age stays bounded however slow a stage becomes.

The first error wins. What lies upstream of it is discarded, what lies downstream is finished: the sinks get every frame
before the one that failed, and are closed in every case.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Protocol, TypeVar

from .errors import EndedEarly, StageError, Stop
from .types import Frame, Result

T = TypeVar("T")

Stage = Callable[[Result], Result]
"""Adds its part to the result; called in frame order, always from the same thread. May carry a `name`, and an `upcoming`: a run on threads
makes it a function that gives the result which the next call will be about, or None while that is not at hand."""


PATIENCE = 3.0
"""Seconds that a source has to heed `close` before the run ends without it."""

SLACK, WAITING = 0.12, 8
"""Seconds of age up to which frames of a live run are let in one after the other, so that a moment of much work costs none; where the
first that waits is older the machine cannot keep up, and the newest alone is let in. No more than so many wait."""


class Source(Protocol):
    """Where frames come from."""

    name: str

    def frames(self) -> Iterator[Frame]:
        """Frames in order. Raises `EndedEarly` where the input broke off after some of them."""

    def close(self) -> None:
        """Make `frames` end soon; called from any thread, any number of times."""


class Sink(Protocol):
    """Where results go.

    latest: True if only the newest result matters (a viewer); else every result is written. main_thread: True if `write`
    must be called by the thread that called `run` (at most one sink may ask for it); that one may have a method `idle`, which is
    called while nothing comes. Both may raise `Stop`.
    """

    name: str
    latest: bool
    main_thread: bool

    def write(self, result: Result) -> None: ...

    def close(self) -> None:
        """Finish what was written; called once by the thread that wrote, after an error too."""


class Closed(Exception):
    """The channel will bring no more items, or takes none."""


class Channel(Generic[T]):
    """A bounded queue between two threads that can end.

    latest: a full channel takes a new item in place of its oldest, which is counted in `dropped`.
    """

    def __init__(self, capacity: int, *, latest: bool = False) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._latest = latest
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Wait for room and add the item; raises `Closed`."""
        with self._changed:
            if self._latest and len(self._items) >= self._capacity:
                self._items.popleft()
                self.dropped += 1
            while len(self._items) >= self._capacity and not self._closed:
                self._changed.wait()
            if self._closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> T:
        """Wait for the oldest item and take it; raises `Closed` at the end, `TimeoutError` after `timeout` seconds."""
        with self._changed:
            while not self._items:
                if self._closed:
                    raise Closed
                if not self._changed.wait(timeout):
                    raise TimeoutError
            item = self._take()
            self._changed.notify_all()
            return item

    def first(self) -> T | None:
        """The oldest item, which stays inside; None if there is none."""
        with self._changed:
            return self._items[0] if self._items else None

    def _take(self) -> T:
        return self._items.popleft()

    def close(self) -> None:
        """No more items will be put; those inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Close, and forget what is inside."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()


class _Entrance(Channel[Result]):
    """Where frames of a live run wait for the gate: see `SLACK`."""

    def __init__(self) -> None:
        super().__init__(WAITING, latest=True)

    def _take(self) -> Result:
        if (time.monotonic_ns() - self._items[0].frame.arrival) * 1e-9 > SLACK:
            self.dropped += len(self._items) - 1
            self._items = deque([self._items[-1]])
        return super()._take()


class Control:
    """How somebody outside ends a run: `stop` finishes what was read, `cancel` does not. Safe in a signal handler."""

    def __init__(self) -> None:
        self.stopping = False
        self.cancelled = False
        self.interrupted = False

    def stop(self) -> None:
        self.stopping = True

    def cancel(self) -> None:
        self.stopping = self.cancelled = True


@dataclass
class StageStats:
    """What one source, stage or sink did: seconds of compute, seconds it waited for input and for room at its output."""

    name: str
    calls: int = 0
    compute: float = 0.0
    wait_in: float = 0.0
    wait_out: float = 0.0
    queued: int = 0
    typical: float = 0.0
    """Moving average of `compute` per call, seconds."""
    samples: array[float] = field(default_factory=lambda: array("f"))
    """Seconds of compute of every call."""

    def add(self, seconds: float) -> None:
        self.calls += 1
        self.compute += seconds
        self.samples.append(seconds)
        self.typical = seconds if self.calls == 1 else self.typical + 0.1 * (seconds - self.typical)

    @property
    def occupancy(self) -> float:
        """Mean number of items that waited at the entrance of the stage when it took one."""
        return self.queued / self.calls if self.calls else 0.0


@dataclass
class Report:
    """What a run did.

    read and frames count what the source gave and what reached the writers (without one: what left the last stage); dropped is
    by reason, skipped by viewer. latency holds the read-to-result age in seconds of every result at the first writer, display
    the read-to-display age of what viewers showed.
    """

    live: bool
    read: int = 0
    frames: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    first_result: float | None = None
    stages: list[StageStats] = field(default_factory=list)
    latency: array[float] = field(default_factory=lambda: array("f"))
    display: array[float] = field(default_factory=lambda: array("f"))
    ended_early: EndedEarly | None = None
    stopped: bool = False


def stage_name(stage: object) -> str:
    """The name by which reports and errors call a stage."""
    return str(getattr(stage, "name", None) or getattr(stage, "__name__", None) or type(stage).__name__)


class _Gate:
    """Lets frames of a live run in while few enough are on their way.

    With n frames under way and the slowest stage taking m seconds, age is n * m (Little's law). n = round(sum / m + 1/4) of the
    measured stage times keeps that below 1.6 times their sum, and costs at most a fifth of the throughput that an
    unbounded queue would reach.
    """

    def __init__(self, stats: Sequence[StageStats], writers: int) -> None:
        self._stats = stats
        self._changed = threading.Condition()
        self._admitted = 0
        self._done = [0] * max(1, writers)
        self._open = True

    def enter(self) -> None:
        with self._changed:
            while self._open and self._admitted - min(self._done) >= self._limit():
                self._changed.wait(0.5)
            self._admitted += 1

    def leave(self, writer: int) -> None:
        with self._changed:
            self._done[writer] += 1
            self._changed.notify_all()

    def open(self) -> None:
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def _limit(self) -> int:
        return frames_let_in([s.typical for s in self._stats])


def frames_let_in(times: Sequence[float]) -> int:
    """How many frames may be under way in a live run whose stages take so long: see `_Gate`."""
    slowest = max(times)
    return max(1, int(sum(times) / slowest + 0.75)) if slowest > 0 else 1


def run(
    source: Source,
    stages: Sequence[Stage],
    sinks: Sequence[Sink],
    *,
    live: bool = False,
    capacity: int = 4,
    control: Control | None = None,
) -> Report:
    """Run the source through the stages into the sinks, each on a thread of its own, and return what happened.

    The calling thread serves the sink that wants the main thread, if there is one. Raises `StageError` for the first thing
    that failed; a source that breaks off is no failure but `Report.ended_early`.
    """
    return _Run(source, stages, sinks, live, capacity, control or Control()).run()


class _Run:
    def __init__(
        self, source: Source, stages: Sequence[Stage], sinks: Sequence[Sink], live: bool, capacity: int, control: Control
    ) -> None:
        if sum(s.main_thread for s in sinks) > 1:
            raise ValueError("only one sink can have the main thread")
        self.source, self.stages, self.sinks, self.control = source, stages, sinks, control
        self.report = Report(live)
        names = ["source", *map(stage_name, stages), *(s.name for s in sinks)]
        self.stats = [StageStats(name) for name in names]
        self.report.stages = self.stats
        self.started = time.monotonic()
        # channels[i] feeds stage i; outputs feed the sinks.
        self.channels: list[Channel[Result]] = [
            _Entrance() if live and i == 0 else Channel(capacity) for i in range(max(1, len(stages)))
        ]
        for stage, channel in zip(stages, self.channels, strict=False):
            if hasattr(stage, "upcoming"):
                stage.upcoming = channel.first
        self.outputs: list[Channel[Result]] = [Channel(1, latest=True) if s.latest else Channel(capacity) for s in sinks]
        self.writers = [i for i, s in enumerate(sinks) if not s.latest]
        held = [s for s, sink in zip(self.stats[1:], [*stages, *sinks], strict=True) if not getattr(sink, "latest", False)]
        self.gate = _Gate(held, len(self.writers)) if live else None
        self.error: StageError | None = None
        self.lock = threading.Lock()
        self.reading = False
        self.stop_seen = 0.0

    def run(self) -> Report:
        pump = threading.Thread(target=self._pump, name="rtpose-source", daemon=True)
        workers = [
            threading.Thread(target=self._work, args=(i,), name=f"rtpose-{stage_name(s)}", daemon=True)
            for i, s in enumerate(self.stages or [_identity])
        ]
        mine = next((i for i, s in enumerate(self.sinks) if s.main_thread), None)
        writers = [
            threading.Thread(target=self._serve, args=(i,), name=f"rtpose-{s.name}", daemon=True)
            for i, s in enumerate(self.sinks)
            if i != mine
        ]
        for thread in [pump, *workers, *writers]:
            thread.start()
        try:
            if mine is not None:
                self._serve(mine)
            self._join([*workers, *writers])
        except BaseException:
            self.control.cancel()
            self._obey()
            self._join([*workers, *writers])
            raise
        finally:
            self.source.close()
        # Everything is written; a source that still sits in a read that will not end must not hold the program.
        pump.join(PATIENCE)
        self._finish()
        return self.report

    def _finish(self) -> None:
        report = self.report
        report.seconds = time.monotonic() - self.started
        report.stopped = self.control.stopping
        if report.live:
            report.dropped["entrance"] = self.channels[0].dropped
        report.skipped = {s.name: c.dropped for s, c in zip(self.sinks, self.outputs, strict=True) if s.latest}
        if self.error is not None:
            raise self.error

    def _join(self, threads: list[threading.Thread]) -> None:
        """Wait for the threads, and pass on what `control` is told meanwhile (a signal handler only sets flags)."""
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)
                self._obey()

    def _obey(self) -> None:
        if self.control.stopping:
            self.source.close()
            self._open_gate()
            # The pump ends by itself, unless it sits in a read that does not heed `close`.
            self.stop_seen = self.stop_seen or time.monotonic()
            if self.reading and time.monotonic() - self.stop_seen > PATIENCE:
                self.channels[0].close()
        if self.control.cancelled:
            for channel in [*self.channels, *self.outputs]:
                channel.cancel()

    def _open_gate(self) -> None:
        if self.gate is not None:
            self.gate.open()

    def _fail(self, name: str, error: BaseException, upstream: Sequence[Channel[Result]]) -> None:
        with self.lock:
            if self.error is None:
                self.error = StageError(name, error)
        for channel in upstream:
            channel.cancel()
        self.source.close()
        self._open_gate()

    def _pump(self) -> None:
        stats, out = self.stats[0], self.channels[0]
        try:
            frames = iter(self.source.frames())
            while not self.control.stopping and self.error is None:
                begin = time.perf_counter()
                self.reading = True
                frame = next(frames, None)
                self.reading = False
                if frame is None:
                    break
                read = time.perf_counter()
                stats.add(read - begin)
                self.report.read += 1
                out.put(Result(frame))
                stats.wait_out += time.perf_counter() - read
        except Closed:
            pass
        except EndedEarly as error:
            self.report.ended_early = error
        except BaseException as error:
            # What was read before is finished by the stages: nothing is cancelled.
            self._fail("source", error, [])
        finally:
            out.close()

    def _work(self, i: int) -> None:
        stage = self.stages[i] if self.stages else _identity
        stats = self.stats[1 + i] if self.stages else StageStats("none")
        inputs = self.channels[i]
        last = i + 1 >= len(self.channels)
        outputs = self.outputs if last else [self.channels[i + 1]]
        try:
            while True:
                begin = time.perf_counter()
                if i == 0 and self.gate is not None:
                    self.gate.enter()
                stats.queued += len(inputs)
                item = inputs.get()
                got = time.perf_counter()
                stats.wait_in += got - begin
                result = stage(item)
                done = time.perf_counter()
                stats.add(done - got)
                for channel in outputs:
                    channel.put(result)
                if last and not self.writers:
                    self._delivered(0, result)
                stats.wait_out += time.perf_counter() - done
        except Closed:
            # Upstream has ended, or downstream takes no more: either way nobody needs what is still to come.
            for channel in self.channels[: i + 1]:
                channel.close()
        except BaseException as error:
            self._fail(stage_name(stage), error, self.channels[: i + 1])
        finally:
            for channel in outputs:
                channel.close()

    def _serve(self, i: int) -> None:
        sink, stats, channel = self.sinks[i], self.stats[1 + len(self.stages) + i], self.outputs[i]
        willing = True
        try:
            try:
                while True:
                    begin = time.perf_counter()
                    stats.queued += len(channel)
                    item = self._take(channel, sink)
                    got = time.perf_counter()
                    stats.wait_in += got - begin
                    if item is None:
                        willing = willing and self._ask(getattr(sink, "idle", _rest))
                        continue
                    # After it has had enough, what is under way still comes, for the others.
                    if willing:
                        willing = self._ask(partial(sink.write, item))
                        stats.add(time.perf_counter() - got)
                    if sink.latest:
                        self.report.display.append((time.monotonic_ns() - item.frame.arrival) * 1e-9)
                    else:
                        self._delivered(self.writers.index(i), item)
            except Closed:
                pass
            finally:
                sink.close()
        except BaseException as error:
            self._fail(sink.name, error, [*self.channels, channel])

    def _take(self, channel: Channel[Result], sink: Sink) -> Result | None:
        """The next result; None after a while on the main thread, which also hears what `control` is told."""
        if not sink.main_thread:
            return channel.get()
        self._obey()
        try:
            return channel.get(0.02)
        except TimeoutError:
            return None

    def _ask(self, call: Callable[[], None]) -> bool:
        """Call a sink; False if it has had enough, which ends the run."""
        try:
            call()
        except Stop:
            self.control.stop()
            self._obey()
            return False
        return True

    def _delivered(self, writer: int, result: Result) -> None:
        if writer == 0:
            now = time.monotonic_ns()
            self.report.frames += 1
            self.report.latency.append((now - result.frame.arrival) * 1e-9)
            if self.report.first_result is None:
                self.report.first_result = time.monotonic() - self.started
        if self.gate is not None:
            self.gate.leave(writer)


def _identity(result: Result) -> Result:
    return result


def _rest() -> None:
    """What a sink does between results that has nothing to do then."""


def run_inline(source: Source, stages: Sequence[Stage], sinks: Sequence[Sink], *, control: Control | None = None) -> Report:
    """The same as an offline `run`, as a plain loop in the calling thread: for reading, debugging, and comparing with."""
    control = control or Control()
    report = Report(live=False)
    report.stages = [StageStats(n) for n in ["source", *map(stage_name, stages), *(s.name for s in sinks)]]
    started = time.monotonic()
    name = "source"
    error: StageError | None = None
    try:
        frames = iter(source.frames())
        while not control.stopping:
            name = "source"
            begin = time.perf_counter()
            frame = next(frames, None)
            if frame is None:
                break
            report.stages[0].add(time.perf_counter() - begin)
            report.read += 1
            result = Result(frame)
            for stats, stage in zip(report.stages[1:], stages, strict=False):
                name, begin = stats.name, time.perf_counter()
                result = stage(result)
                stats.add(time.perf_counter() - begin)
            for stats, sink in zip(report.stages[1 + len(stages) :], sinks, strict=True):
                name, begin = stats.name, time.perf_counter()
                try:
                    sink.write(result)
                except Stop:
                    # The loop ends with this frame, so no sink is asked again.
                    control.stop()
                stats.add(time.perf_counter() - begin)
            report.frames += 1
            report.latency.append((time.monotonic_ns() - frame.arrival) * 1e-9)
            if report.first_result is None:
                report.first_result = time.monotonic() - started
    except EndedEarly as early:
        report.ended_early = early
    except Exception as cause:
        error = StageError(name, cause)
    finally:
        source.close()
        for sink in sinks:
            try:
                sink.close()
            except Exception as cause:
                error = error or StageError(sink.name, cause)
    report.seconds = time.monotonic() - started
    report.stopped = control.stopping
    if error is not None:
        raise error
    return report

"""The pipeline under failures, delays and interruptions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpose.errors import EndedEarly, InputError, StageError, Stop
from rtpose.pipeline import Channel, Closed, Control, Report, run, run_inline

from .fakes import Boom, FakeSink, FakeSource, stage, wait_until


def threads_of_ours() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("rtpose-")]


@st.composite
def plans(draw: st.DrawFn) -> dict[str, object]:
    frames = draw(st.integers(0, 25))
    stages = draw(st.integers(0, 4))
    return {
        "frames": frames,
        "stages": stages,
        "capacity": draw(st.integers(1, 4)),
        "slow": draw(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 24)), max_size=4)),
        # who fails (-1 source, 0.. stages, `stages` and beyond: sinks), and at which frame
        "fail": draw(st.none() | st.tuples(st.integers(-1, stages + 1), st.integers(0, 27))),
        "main": draw(st.booleans()),
    }


def build(plan: dict[str, object]) -> tuple[FakeSource, list, list[FakeSink]]:
    count, n = plan["frames"], plan["stages"]
    who, when = plan["fail"] or (None, None)
    slow = plan["slow"]

    def delay(place: int):
        return lambda index: 0.003 if (place, index) in slow else 0.0

    source = FakeSource(count, fail_at=when if who == -1 else None)
    stages = [stage(f"stage{i}", fail_at=when if who == i else None, delay=delay(i)) for i in range(n)]
    sinks = [
        FakeSink(f"sink{i}", main_thread=plan["main"] and i == 0, fail_at=when if who == n + i else None, delay=delay(4 + i))
        for i in range(2)
    ]
    return source, stages, sinks


@settings(max_examples=150)
@given(plans())
def test_threads_do_what_the_loop_does(plan: dict[str, object]) -> None:
    outcomes = []
    for threaded in (True, False):
        source, stages, sinks = build(plan)
        error = None
        try:
            report = run(source, stages, sinks, capacity=plan["capacity"]) if threaded else run_inline(source, stages, sinks)
            assert report.read == report.frames == plan["frames"]
            assert len(report.latency) == report.frames
        except StageError as caught:
            error = caught
        assert error is None or (isinstance(error.__cause__, Boom) and error.stage in str(error))
        assert [s.closes for s in sinks] == [1, 1]
        assert source.closed.is_set()
        outcomes.append((error and error.stage, [s.seen for s in sinks]))
    assert not threads_of_ours()
    (stage_t, seen_t), (stage_i, seen_i) = outcomes
    assert stage_t == stage_i
    who, when = plan["fail"] or (None, None)
    if who is not None and who >= plan["stages"] and stage_i is not None:
        # A sink failed: it wrote exactly what came before; the other one, which runs beside it, a whole beginning.
        broken = who - plan["stages"]
        assert seen_t[broken] == seen_i[broken] == list(range(when))
        assert seen_t[1 - broken] == list(range(len(seen_t[1 - broken])))
    else:
        assert seen_t == seen_i


def test_a_broken_sink_does_not_cost_the_other_what_was_computed() -> None:
    good, bad = FakeSink("good"), FakeSink("bad", fail_at=5)
    with pytest.raises(StageError, match="bad: sink broke"):
        run(FakeSource(100), [stage("work")], [good, bad])
    assert good.seen[:5] == [0, 1, 2, 3, 4]
    assert good.seen == list(range(len(good.seen)))


def test_errors_of_closing_count() -> None:
    with pytest.raises(StageError, match="sink: close broke"):
        run(FakeSource(3), [], [FakeSink(fail_close=True)])
    with pytest.raises(StageError, match="sink: close broke"):
        run_inline(FakeSource(3), [], [FakeSink(fail_close=True)])


def test_the_exit_code_is_the_cause_s() -> None:
    source = FakeSource(5, fail_at=2, error=InputError)
    with pytest.raises(StageError) as caught:
        run(source, [], [FakeSink()])
    assert caught.value.exit_code == InputError.exit_code


@pytest.mark.parametrize("runner", [run, run_inline])
def test_a_source_that_breaks_off_is_drained(runner) -> None:
    sink = FakeSink()
    report = runner(FakeSource(9, fail_at=7, error=EndedEarly), [stage("work")], [sink])
    assert sink.seen == list(range(7))
    assert isinstance(report.ended_early, EndedEarly)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("main", [False, True])
def test_a_sink_can_stop_the_run(live: bool, main: bool) -> None:
    class Window(FakeSink):
        def write(self, result) -> None:
            super().write(result)
            if len(self.seen) == 5:
                raise Stop

    window, writer = Window("window", latest=True, main_thread=main), FakeSink("writer")
    report = run(FakeSource(None, interval=0.002), [stage("work")], [window, writer], live=live)
    assert report.stopped
    assert (window.thread is threading.current_thread()) == main
    assert window.closes == writer.closes == 1
    assert not threads_of_ours()


@pytest.mark.parametrize("live", [False, True])
def test_stop_drains_and_cancel_does_not(live: bool) -> None:
    def ended(end: Callable[[Control], None]) -> tuple[FakeSink, Report]:
        """A run that is ended when the sink is at its third frame and, offline, every channel is full."""

        def at_the_third(index: int) -> float:
            if len(sink.seen) == 2:
                wait_until(lambda: source.given >= 11)
                end(control)
            return 0.0

        control, source, sink = Control(), FakeSource(None, interval=0.001), FakeSink(delay=at_the_third)
        report = run(source, [stage("a"), stage("b")], [sink], live=live, control=control)
        assert report.stopped
        assert sink.closes == 1
        assert not threads_of_ours()
        return sink, report

    def cancel(control: Control) -> None:
        control.cancel()
        wait_until(lambda: "rtpose-a" not in [t.name for t in threads_of_ours()])

    sink, report = ended(Control.stop)
    if not live:
        assert sink.seen == list(range(report.read))
    sink, report = ended(cancel)
    assert len(sink.seen) < report.read


def test_live_drops_at_the_entrance_only_and_accounts_for_every_frame() -> None:
    sink = FakeSink()
    report = run(FakeSource(200, interval=0.002), [stage("slow", delay=lambda i: 0.01), stage("b")], [sink], live=True)
    assert sink.seen == sorted(set(sink.seen))
    assert report.dropped["entrance"] > 0
    assert len(sink.seen) + report.dropped["entrance"] == report.read == 200
    assert sink.seen[-1] == 199  # the newest is never the one dropped


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_live_lets_in_no_more_frames_than_keep_the_slowest_busy(place: int) -> None:
    """Age is the number of frames under way times the slowest stage: with one slow stage among four there are two at most."""
    # So far apart that a machine with much else to do does not make another stage the slowest.
    times = [0.001, 0.001, 0.001, 0.001]
    times[place] = 0.3
    under_way: set[int] = set()
    most = 0

    def enter(index: int) -> float:
        nonlocal most
        under_way.add(index)
        most = max(most, len(under_way))
        return times[0]

    def leave(index: int) -> float:
        time.sleep(times[3])
        under_way.discard(index)
        return 0.0

    stages = [stage("s0", delay=enter), *(stage(f"s{i}", delay=lambda index, i=i: times[i]) for i in (1, 2))]
    sink = FakeSink(delay=leave)
    run(FakeSource(150, interval=0.01), stages, [sink], live=True)
    assert not under_way
    assert most <= 2
    assert len(sink.seen) > 2


def test_viewers_skip_and_writers_do_not() -> None:
    def dawdle(index: int) -> float:
        wait_until(lambda: len(writer.seen) >= 50)
        return 0.0

    viewer, writer = FakeSink("viewer", latest=True, delay=dawdle), FakeSink("writer")
    report = run(FakeSource(60), [stage("work")], [viewer, writer])
    assert writer.seen == list(range(60))
    assert report.skipped["viewer"] == 60 - len(viewer.seen) > 0
    assert viewer.seen[-1] == 59


def test_a_source_that_never_returns_does_not_hold_the_program() -> None:
    release, inside = threading.Event(), threading.Event()

    class Stuck(FakeSource):
        def frames(self):
            yield from FakeSource(3).frames()
            inside.set()
            control.stop()
            release.wait()
            inside.clear()

    control = Control()
    sink = FakeSink()
    run(Stuck(None), [stage("work")], [sink], control=control)
    assert sink.seen == [0, 1, 2]
    assert inside.is_set()  # the run has ended though the source still sits in its read
    release.set()


def test_memory_stays_flat_when_a_sink_dawdles() -> None:
    """Channels are bounded: a source a thousand times faster than the sink is held back."""
    held = []

    class Counting(FakeSource):
        def frames(self):
            for frame in super().frames():
                held.append(frame.index - (sink.seen[-1] if sink.seen else 0))
                yield frame

    sink = FakeSink(delay=lambda index: 0.002)
    run(Counting(100), [stage("a"), stage("b")], [sink], capacity=2)
    assert max(held) <= 2 * 3 + 5


def test_channel_ends() -> None:
    channel: Channel[int] = Channel(2)
    channel.put(1)
    channel.close()
    assert channel.get() == 1
    with pytest.raises(Closed):
        channel.get()
    with pytest.raises(Closed):
        channel.put(2)
    with pytest.raises(TimeoutError):
        Channel(1).get(0.01)


def test_one_main_thread() -> None:
    with pytest.raises(ValueError, match="main thread"):
        run(FakeSource(1), [], [FakeSink(main_thread=True), FakeSink(main_thread=True)])

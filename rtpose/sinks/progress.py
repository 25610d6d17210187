"""What a run says of itself: while it prepares, while it goes on, and at its end."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ..pipeline import Report
from ..types import Result


class _Rate(ProgressColumn):
    """Frames per second over the last seconds."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.1f} fps" if not task.finished else f"{task.finished_speed or 0:.1f} fps")


DELAY = 1.0
"""Seconds that something may take before the user is told what is waited for."""


class Preparation:
    """Tells what a run waits for before its first frame, once a step of that has taken longer than `DELAY`: on a terminal in a line that
    changes and goes away, elsewhere in a line for each such step. Call it with the step that begins; use it in a `with`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("preparing", total=None)
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._shown = self._closed = self._explained = False

    def __enter__(self) -> Preparation:
        return self

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            if self._shown:
                self._progress.stop()

    def __call__(self, what: str) -> None:
        """The step `what` begins."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._progress.update(self._task, description=f"preparing: {what} (a first run compiles)")
            self._timer = threading.Timer(DELAY, self._tell, (what,))
            self._timer.daemon = True
            self._timer.start()

    def _tell(self, what: str) -> None:
        with self._lock:
            if self._closed or self._shown:
                return
            if self._console.is_terminal:
                self._progress.start()
                self._shown = True
                return
            why = "" if self._explained else "; a first run compiles for this machine, the next ones take what it has kept"
            self._console.print(f"preparing: {escape(what)}{why}", soft_wrap=True)
            self._explained = True


class ProgressSink:
    """What a pass over the frames has done so far: on a terminal a bar with frames, fps, time left and people, elsewhere a line once it has
    taken longer than `DELAY`. All of it goes to the console.

    what: the pass, "first pass: tracking". frames: how many are expected (None: unknown). `found` has the numbers of all people who were in
    the results.
    """

    name = "progress"
    latest = False
    main_thread = False

    def __init__(self, what: str, frames: int | None, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("frames"),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[people]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._what = what if frames is None else f"{what}, {frames} frames"
        self._task = self._progress.add_task(what, total=frames, people="")
        self._begun: float | None = None
        self._told = False
        self._shown = 0.0
        self.found: set[int] = set()

    def begin(self) -> None:
        """Show the bar; the first result does, too."""
        if self._begun is None:
            self._begun = time.monotonic()
            self._progress.start()

    def write(self, result: Result) -> None:
        self.found.update(result.people.ids.tolist())
        now = time.monotonic()
        if now - self._shown > 0.2:
            self._shown = now
            self._progress.update(self._task, people=people_count(len(result.people)))
        self.advance()

    def advance(self, frames: int = 1) -> None:
        """So many more frames are done."""
        self.begin()
        self._progress.advance(self._task, frames)
        if not (self._told or self._console.is_terminal) and time.monotonic() - (self._begun or 0.0) > DELAY:
            self._told = True
            self._console.print(self._what, soft_wrap=True)

    def close(self) -> None:
        if self._begun is not None:
            self._progress.stop()


def people_count(number: int) -> str:
    """So many people, in words."""
    return "nobody" if number == 0 else "1 person" if number == 1 else f"{number} people"


def percentiles(samples: object) -> tuple[float, float, float]:
    """The 50th, 95th and 99th percentile of the samples; NaN where there are none."""
    values = np.asarray(samples, np.float64)
    if not len(values):
        return math.nan, math.nan, math.nan
    low, mid, high = np.percentile(values, [50, 95, 99])
    return float(low), float(mid), float(high)


def summary(report: Report) -> str:
    """The line at the end of a run: frames, time and rate; live also what was dropped, by reason."""
    rate = f", {report.frames / report.seconds:.1f} fps" if report.seconds and report.frames else ""
    drops = "".join(f", {n} dropped at the {where}" for where, n in report.dropped.items() if n)
    if report.live and not drops:
        drops = ", none dropped"
    return f"{report.frames} {'frame' if report.frames == 1 else 'frames'} in {report.seconds:.1f} s{rate}{drops}"


def stage_table(report: Report) -> Table:
    """What each stage of a run did: calls, times, waiting; and the latency."""
    skips = "".join(f"; {n} not shown by the {where}" for where, n in report.skipped.items() if n)
    mode = "live" if report.live else "offline"
    p50, p95, p99 = (1e3 * p for p in percentiles(report.latency))
    table = Table(
        title=f"stages, {mode}{skips}",
        caption=f"latency, packet read to result written: p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms",
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("stage", no_wrap=True)
    for column in ("calls", "p50 ms", "p95", "p99", "busy", "waits for input", "for room", "queued"):
        table.add_column(column, justify="right")
    for stage in report.stages:
        if not stage.calls:
            continue
        times = [f"{1e3 * p:.1f}" for p in percentiles(stage.samples)]
        shares = [f"{seconds / report.seconds:.0%}" for seconds in (stage.compute, stage.wait_in, stage.wait_out)]
        table.add_row(stage.name, str(stage.calls), *times, *shares, f"{stage.occupancy:.1f}")
    return table

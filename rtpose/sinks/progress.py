"""Progress while a run goes on, and the table at its end."""

from __future__ import annotations

import math
import time

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..pipeline import Report
from ..types import Result


class _Rate(ProgressColumn):
    """Frames per second over the last seconds."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.1f} fps" if not task.finished else f"{task.finished_speed or 0:.1f} fps")


class ProgressSink:
    """A bar with frames, fps and time left on the standard error; does nothing where that is no terminal.

    frames is how many the source is expected to give (None: unknown).
    """

    name = "progress"
    latest = False
    main_thread = False

    def __init__(self, frames: int | None, console: Console) -> None:
        self._progress = Progress(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[people]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("frames", total=frames, people="")
        self._started = False
        self._shown = 0.0

    def write(self, result: Result) -> None:
        if not self._started:
            self._progress.start()
            self._started = True
        now = time.monotonic()
        if now - self._shown > 0.2:
            self._shown = now
            self._progress.update(self._task, people=f"{len(result.people)} people")
        self._progress.advance(self._task)

    def close(self) -> None:
        if self._started:
            self._progress.stop()


def percentiles(samples: object) -> tuple[float, float, float]:
    """The 50th, 95th and 99th percentile of the samples; NaN where there are none."""
    values = np.asarray(samples, np.float64)
    if not len(values):
        return math.nan, math.nan, math.nan
    low, mid, high = np.percentile(values, [50, 95, 99])
    return float(low), float(mid), float(high)


def summary(report: Report) -> Table:
    """The table at the end of a run: frames, drops by reason, fps, times per stage and latency."""
    rate = report.frames / report.seconds if report.seconds else 0.0
    drops = ", ".join(f"{n} dropped at the {where}" for where, n in report.dropped.items() if n) or "none dropped"
    skips = "".join(f", {n} not shown by the {where}" for where, n in report.skipped.items() if n)
    p50, p95, p99 = (1e3 * p for p in percentiles(report.latency))
    mode = "live" if report.live else "offline"
    table = Table(
        title=f"{report.frames} frames in {report.seconds:.1f} s: {rate:.1f} fps, {mode}; {drops}{skips}",
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

"""`rtpose simulate`: what ages and drops to expect of live runs on a machine that is not at hand, or of many cameras on one.

The queueing is that of `pipeline.run` in live mode, on a virtual clock: every camera has a source that decodes each frame, an
entrance where frames wait in turn while that is short, the gate that lets in as many as keep the stages busy, and stages with room for
two frames between them. Stages that compute at the same time share their device: where they want more cores than there are, all of them
slow down alike.
"""

from __future__ import annotations

import heapq
import json
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from .errors import InputError
from .pipeline import SLACK, WAITING, frames_let_in
from .sinks import check_output
from .terminal import for_output

ROOM = 2
"""Frames that wait between two stages at most, as in `pipeline.run`."""


@dataclass(frozen=True)
class Work:
    """A stage: seconds that its calls take on an idle device, in turn; how much of the device it fills meanwhile (cores); which one."""

    name: str
    seconds: tuple[float, ...]
    cores: float = 1.0
    device: str = "cpu"


@dataclass(frozen=True)
class Plan:
    """What is simulated. stages: the source first. rate: frames a second of each camera. cores: of each machine, by device.

    machines: the cameras are dealt out to them by a splitter, which delays each frame by `transfer` seconds.
    """

    stages: tuple[Work, ...]
    cameras: int = 1
    rate: float = 30.0
    cores: dict[str, float] = field(default_factory=lambda: {"cpu": 2.0})
    machines: int = 1
    transfer: float = 0.0
    seconds: float = 60.0


@dataclass
class Outcome:
    """What came of the cameras of one machine: ages in seconds of all results; frames; share of each device in use."""

    cameras: int
    ages: list[float] = field(default_factory=list)
    arrived: int = 0
    results: int = 0
    dropped: int = 0
    busy: dict[str, float] = field(default_factory=dict)


class _Device:
    """Cores shared by what runs on them. Work is counted on a clock of its own that slows down where too much is wanted."""

    def __init__(self, cores: float) -> None:
        self.cores, self.clock, self.wanted, self.used = cores, 0.0, 0.0, 0.0
        self.running: list[tuple[float, int, _Camera, int]] = []

    @property
    def speed(self) -> float:
        return min(1.0, self.cores / self.wanted) if self.wanted > 0 else 1.0

    def finish(self, now: float) -> float:
        """When the next of the running stages is done, if nothing changes."""
        return now + (self.running[0][0] - self.clock) / self.speed if self.running else np.inf

    def advance(self, seconds: float) -> None:
        self.used += min(self.cores, self.wanted) * seconds
        self.clock += seconds * self.speed


class _Camera:
    """One pipeline: where its frames are. Queue 0 feeds the source, queue i stage i; frames are known by their arrival."""

    def __init__(self, stages: int) -> None:
        self.queues: list[deque[float]] = [deque() for _ in range(stages)]
        self.at: list[float | None] = [None] * stages
        self.began = [0.0] * stages
        self.done: list[bool] = [False] * stages
        self.calls = [0] * stages
        self.typical = [0.0] * stages
        self.under_way = 0


class _Machine:
    def __init__(self, plan: Plan, cameras: int, first: int) -> None:
        self.plan, self.outcome = plan, Outcome(cameras)
        self.devices = {name: _Device(cores) for name, cores in plan.cores.items()}
        self.cameras = [_Camera(len(plan.stages)) for _ in range(cameras)]
        # Cameras do not wait for each other: their frames come spread over the interval.
        self.arrivals = [((first + k) / plan.cameras / plan.rate, k) for k in range(cameras)]
        heapq.heapify(self.arrivals)
        self.started = 0

    def run(self) -> Outcome:
        now = 0.0
        while now < self.plan.seconds:
            device = min(self.devices.values(), key=lambda d: d.finish(now))
            then = min(device.finish(now), self.arrivals[0][0])
            for each in self.devices.values():
                each.advance(then - now)
            now = then
            if device.running and device.running[0][0] <= device.clock + 1e-12:
                camera = self._finish(device, now)
            else:
                camera = self._arrive(now)
            self._start(camera, now)
        self.outcome.busy = {name: d.used / (d.cores * now) for name, d in self.devices.items()}
        return self.outcome

    def _arrive(self, now: float) -> _Camera:
        when, k = heapq.heappop(self.arrivals)
        heapq.heappush(self.arrivals, (when + 1 / self.plan.rate, k))
        self.outcome.arrived += 1
        self.cameras[k].queues[0].append(now - self.plan.transfer)
        return self.cameras[k]

    def _finish(self, device: _Device, now: float) -> _Camera:
        _, _, camera, i = heapq.heappop(device.running)
        device.wanted -= self.plan.stages[i].cores
        camera.done[i] = True
        took = now - camera.began[i]
        camera.typical[i] += (took - camera.typical[i]) * (1.0 if camera.calls[i] == 1 else 0.1)
        return camera

    def _start(self, camera: _Camera, now: float) -> None:
        """Move on whatever can, until nothing can."""
        moved = True
        while moved:
            moved = False
            for i in reversed(range(len(self.plan.stages))):
                moved |= self._hand_on(camera, i, now) or self._begin(camera, i, now)

    def _begin(self, camera: _Camera, i: int, now: float) -> bool:
        """Let a stage take the next frame, if it is free and there is one."""
        if camera.at[i] is not None or not camera.queues[i] or (i == 1 and not self._open(camera)):
            return False
        if i == 1:
            camera.under_way += 1
            if now - camera.queues[1][0] > SLACK:
                self._drop(camera, 1)
        camera.at[i], camera.began[i] = camera.queues[i].popleft(), now
        work = self.plan.stages[i]
        device = self.devices[work.device]
        device.wanted += work.cores
        self.started += 1
        due = device.clock + work.seconds[camera.calls[i] % len(work.seconds)]
        heapq.heappush(device.running, (due, self.started, camera, i))
        camera.calls[i] += 1
        return True

    def _hand_on(self, camera: _Camera, i: int, now: float) -> bool:
        """Give what a stage has finished to the next one, if there is room."""
        arrival = camera.at[i]
        if arrival is None or not camera.done[i]:
            return False
        if i == len(self.plan.stages) - 1:
            camera.under_way -= 1
            self.outcome.results += 1
            self.outcome.ages.append(now - arrival)
        elif i == 0:
            self._drop(camera, WAITING - 1)
            camera.queues[1].append(arrival)
        elif len(camera.queues[i + 1]) < ROOM:
            camera.queues[i + 1].append(arrival)
        else:
            return False
        camera.at[i], camera.done[i] = None, False
        return True

    def _drop(self, camera: _Camera, left: int) -> None:
        """Leave no more than so many frames at the entrance, the newest."""
        while len(camera.queues[1]) > left:
            camera.queues[1].popleft()
            self.outcome.dropped += 1

    def _open(self, camera: _Camera) -> bool:
        return camera.under_way < frames_let_in(camera.typical[1:])


def simulate(plan: Plan) -> list[Outcome]:
    """Play the plan; one outcome a machine. Raises InputError for a plan that cannot be."""
    if len(plan.stages) < 2:
        raise InputError("a pipeline has a source and one stage at least")
    unknown = {work.device for work in plan.stages} - plan.cores.keys()
    if unknown:
        raise InputError(f"nobody said what the device {unknown.pop()!r} has: --devices name=cores")
    for value, name in (
        (plan.cameras, "--cameras"),
        (plan.machines, "--machines"),
        (plan.rate, "--rate"),
        (plan.seconds, "--seconds"),
    ):
        if value <= 0:
            raise InputError(f"{name} {value:g}: give more than 0")
    shares = [len(range(m, plan.cameras, plan.machines)) for m in range(plan.machines)]
    return [_Machine(plan, share, sum(shares[:m])).run() for m, share in enumerate(shares) if share]


def parse_stages(text: str) -> tuple[Work, ...]:
    """Stages as `NAME=MS[/EVERY][xCORES][@DEVICE]`, with commas: `source=1,detect=11/6x2,keypoints=9x2,lift=1.6`.

    EVERY: only every so-many-th frame takes that long, the others nothing. Raises InputError for what is not of that form.
    """
    stages = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([\w-]+)=([\d.]+)(?:/(\d+))?(?:x([\d.]+))?(?:@([\w-]+))?\s*", part)
        if found is None:
            raise InputError(f"{part!r} is no stage: write NAME=MS, as keypoints=9 or detect=11/6x2@cpu")
        name, ms, every, cores, device = found.groups()
        seconds = (float(ms) / 1e3,) + (1e-6,) * (int(every or 1) - 1)
        stages.append(Work(name, seconds, float(cores or 1), device or "cpu"))
    return tuple(stages)


def measured_stages(path: Path) -> tuple[Work, ...]:
    """The stages that `rtpose bench --json` measured, call by call, in a plain loop. Raises InputError where the file has none."""
    try:
        row = next(row for row in json.loads(path.read_text(encoding="utf-8"))["rows"] if row["name"] == "offline")
        threads = {"detect": row["networks"]["detector"]["threads"], "keypoints": row["networks"]["keypoints"]["threads"]}
        return tuple(
            Work(name, tuple(max(ms, 1e-3) / 1e3 for ms in calls), float(threads.get(name, 1)))
            for name, calls in row["calls_ms"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise InputError(f"{path} holds no stage times of rtpose bench --json ({error!r})") from None


def scaled(stages: Sequence[Work], factor: float) -> tuple[Work, ...]:
    """The stages on a machine that takes `factor` times as long."""
    return tuple(replace(work, seconds=tuple(factor * s for s in work.seconds)) for work in stages)


def figures(outcome: Outcome, seconds: float) -> dict[str, Any]:
    """An outcome in few numbers: fps a camera, ages in ms, share of frames that were dropped, share of each device in use."""
    ages = np.percentile(outcome.ages, [50, 95, 99]) if outcome.ages else [np.nan] * 3
    return {
        "cameras": outcome.cameras,
        "fps": outcome.results / outcome.cameras / seconds,
        "age": {name: 1e3 * float(age) for name, age in zip(("p50", "p95", "p99"), ages, strict=True)},
        "dropped": outcome.dropped / outcome.arrived if outcome.arrived else 0.0,
        "busy": outcome.busy,
    }


def show(plan: Plan, save: Path | None = None) -> int:
    """What `rtpose simulate` does; return the exit code."""
    if save is not None:
        check_output(save, (".json",), overwrite=True)
    rows = [figures(outcome, plan.seconds) for outcome in simulate(plan)]
    table = Table(title=f"{plan.cameras} cameras at {plan.rate:g} fps, {plan.seconds:g} s", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("machine")
    for column in ("cameras", "fps each", "age p50 ms", "p95", "p99", "dropped", *(f"{name} in use" for name in plan.cores)):
        table.add_column(column, justify="right")
    for k, row in enumerate(rows):
        ages = [f"{row['age'][p]:.0f}" for p in ("p50", "p95", "p99")]
        busy = [f"{share:.0%}" for share in row["busy"].values()]
        table.add_row(str(k + 1), str(row["cameras"]), f"{row['fps']:.1f}", *ages, f"{row['dropped']:.0%}", *busy)
    for_output().print(table)
    if save is not None:
        save.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0

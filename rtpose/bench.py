"""`rtpose bench`: how fast a run is here, what each stage costs, how old results are when they arrive, and what that depends on.

Every case runs in a process of its own, so that its peak memory is its own and no case warms another. What the latencies include:

- read-to-result: from the moment the source was handed a frame's packet until its result is at the sink; decoding is in it, writing is not.
- read-to-display: the same until the picture with people and bodies drawn in is ready to be shown; the screen's own delay is not in it.
- first result: from the start of the process, Python and imports included, until the first result is at the sink. Cold: nothing
  compiled before is at hand; warm: after a run before.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from fractions import Fraction
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from . import __version__
from .app import Networks, make_stages, processors
from .backends import BACKENDS
from .errors import InputError, RtposeError
from .pipeline import Report, Sink, StageStats, run, run_inline
from .reference import CLIP, truth
from .render import draw
from .settings import Settings
from .sinks import check_output
from .sinks.progress import percentiles
from .source import InfoSource, Paced, SourceInfo, open_source
from .terminal import Console, for_output
from .types import U8, Frame, Result

Row = dict[str, Any]
"""One case as it goes into the JSON: see `measure`."""

SIZES = {"480p": (640, 480), "720p": (960, 720), "1080p": (1440, 1080), "4K": (2880, 2160)}
PEOPLE = (1, 2, 4, 8, 12)
SWEEPS = ("people", "resolution", "threads", "backend", "precision")
SWEEP_REPEATS = 3
LEAST = 180
"""Frames of an offline run: a shorter source is gone through again, so that its beginning, in which stages wait for each other and the
last networks are loaded, does not make the rate. Nor does the first run, which is not counted."""
KEPT = 300
"""Calls of each stage whose times go into the JSON."""


@dataclass(frozen=True)
class Case:
    """What is measured: `spec` is a file, or `people:N` or `size:WxH`, which are made from the reference clip.

    live: at the source's own pace for `seconds`, with a display; else `repeats` times offline as fast as it goes, `LEAST` frames or more.
    """

    name: str
    spec: str
    settings: Settings
    live: bool = False
    seconds: float = 10.0
    repeats: int = 5

    @property
    def source(self) -> str:
        """What was measured, by a name that means the same on every machine."""
        return Path(self.spec).name


class _Null:
    """A sink that takes every result and counts the people."""

    name, latest, main_thread = "results", False, False

    def __init__(self) -> None:
        self.people = 0

    def write(self, result: Result) -> None:
        self.people += len(result.people)

    def close(self) -> None:
        pass


class _Display:
    """A sink that draws the newest result as a window would show it."""

    name, latest, main_thread = "display", True, False

    def __init__(self, networks: Networks) -> None:
        self._lifted = networks.lifted

    def write(self, result: Result) -> None:
        draw(result, self._lifted)

    def close(self) -> None:
        pass


class Loop:
    """Another source over and over for so many seconds of its own time. open_again gives it anew, from the start."""

    status = ""

    def __init__(self, open_again: Callable[[], InfoSource], seconds: float) -> None:
        self._open, self._seconds = open_again, seconds
        self._source = open_again()
        self.info = replace(self._source.info, frames=None)
        self.name, self.notes = self._source.name, self._source.notes
        self._closed = False

    def frames(self) -> Iterator[Frame]:
        """The frames, numbered and timed on from one round to the next."""
        index, begin, step = 0, 0.0, float(1 / self.info.rate)
        while not self._closed:
            first = last = 0.0
            for k, frame in enumerate(self._source.frames()):
                first = frame.time if k == 0 else first
                last = begin + frame.time - first
                if last >= self._seconds:
                    return
                yield replace(frame, index=index, time=last)
                index += 1
            if index == 0:
                return
            begin = last + step
            self._source = self._open()

    def close(self) -> None:
        self._closed = True
        self._source.close()


class Crowd:
    """So many copies of one walking person, each in a tile of a 1280x720 picture; frames in memory, nothing is decoded."""

    status = ""
    TILES = (6, 2)

    def __init__(self, people: int, frames: int = LEAST) -> None:
        walker = _walker()
        self.name = f"{people} people"
        self.notes: list[str] = []
        self.info = SourceInfo(self.name, 1280, 720, Fraction(30), Fraction(1, 30), frames)
        self._pictures = [_tiled(picture, people) for picture in walker]
        self._closed = False

    def frames(self) -> Iterator[Frame]:
        """The walk forwards and backwards in turn."""
        round_trip = [*self._pictures, *self._pictures[-2:0:-1]]
        for index in range(self.info.frames or 0):
            if self._closed:
                return
            yield Frame(index, index / 30, round_trip[index % len(round_trip)], time.monotonic_ns())

    def close(self) -> None:
        self._closed = True


def _walker(frames: int = 26) -> list[U8]:
    """The reference clip's first person alone: windows of 160 x 280 px that go along."""
    middles = truth().keypoints[:, 0, :, 0].mean(axis=1)
    pictures = []
    for frame in open_source(CLIP).frames():
        if frame.index == frames:
            break
        left = int(np.clip(middles[frame.index] - 80, 0, frame.width - 160))
        pictures.append(frame.image[180:460, left : left + 160])
    return pictures


def _tiled(picture: U8, people: int) -> U8:
    columns, rows = Crowd.TILES
    canvas = np.full((720, 1280, 3), 127, np.uint8)
    width, height = 1280 // columns, 720 // rows
    tile = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    for k in range(people):
        # Every other tile of a row first, so that few people stand apart.
        column, row = (2 * k) % columns + (2 * k // columns) % 2, k // columns
        canvas[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile
    return canvas


def _scaled(size: str, folder: Path) -> Path:
    """The reference clip, scaled and encoded as H.264 in the folder."""
    width, height = map(int, size.split("x"))
    path = folder / f"{size}.mp4"
    with av.open(f"file:{path}", "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in open_source(CLIP).frames():
            image: U8 = np.asarray(cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        out.mux(stream.encode())
    return path


def _opener(spec: str, folder: Path) -> Callable[[], InfoSource]:
    """How the source of a case is opened, as often as wanted."""
    kind, _, value = spec.partition(":")
    if kind == "people":
        return lambda: Crowd(int(value))
    path = _scaled(value, folder) if kind == "size" else spec
    return lambda: open_source(path)


def measure(case: Case) -> Row:
    """Run the case in this process and say what came of it; the medians of several offline runs.

    fps, cpu_ms: processor time a frame in ms, age and display: read-to-result and read-to-display p50, p95, p99 in ms, stages: each
    with the p50, p95, p99 of its calls in ms, and its shares of the run (computing, waiting for input, for room) and mean queue.
    Offline also bound_fps, `bound` of the stage times of a plain loop that runs in turns with the threads, and calls_ms, these times
    call by call.
    """
    with tempfile.TemporaryDirectory() as folder:
        opener = _opener(case.spec, Path(folder))
        networks = Networks(case.settings, opener().info)
        if case.live:
            row = _live(case, opener, networks)
        else:
            _offline(opener(), networks)
            turns = [(_offline(_long(opener), networks), _plain(_long(opener), networks)) for _ in range(case.repeats)]
            row, loop = (_middle(rows) for rows in zip(*turns, strict=True))
            row |= {
                "fps_all": [run["fps"] for run, _ in turns],
                **_bound([loop for _, loop in turns]),
                "calls_ms": loop["calls_ms"],
            }
    row["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    used = {"detector": networks.detector, "keypoints": networks.keypoints, "light": networks.light, "lifter": networks.lifter}
    row["networks"] = {
        name: {"backend": s.backend, "precision": s.precision, "threads": s.threads} for name, s in used.items() if s is not None
    }
    return {"name": case.name, "source": case.source, "mode": "live" if case.live else "offline", **row}


def _middle(rows: Sequence[Row]) -> Row:
    """The one whose rate is the median, or next below it."""
    rate = statistics.median_low(row["fps"] for row in rows)
    return next(row for row in rows if row["fps"] == rate)


def _offline(source: InfoSource, networks: Networks) -> Row:
    return _row(lambda sinks: run(source, make_stages(networks, source.info), sinks), [_Null()])


def _long(opener: Callable[[], InfoSource]) -> InfoSource:
    """The source, again and again if it is short."""
    source = opener()
    if source.info.frames is None or source.info.frames >= LEAST:
        return source
    source.close()
    return Loop(opener, float(LEAST / source.info.rate))


def _live(case: Case, opener: Callable[[], InfoSource], networks: Networks) -> Row:
    source = Paced(Loop(opener, case.seconds))
    stages = make_stages(networks, source.info)
    return _row(lambda sinks: run(source, stages, sinks, live=True), [_Null(), _Display(networks)])


def _row(work: Callable[[list[Sink]], Report], sinks: list[Sink]) -> Row:
    before = time.process_time()
    report = work(sinks)
    cpu = time.process_time() - before
    if not report.frames:
        raise InputError("the source gave no frames: nothing can be measured")
    null = sinks[0]
    assert isinstance(null, _Null)
    return {
        "read": report.read,
        "frames": report.frames,
        "seconds": report.seconds,
        "fps": report.frames / report.seconds,
        "cpu_ms": 1e3 * cpu / report.frames,
        "people": null.people / report.frames,
        "age": _milliseconds(report.latency),
        "display": _milliseconds(report.display) if len(report.display) else None,
        "dropped": report.dropped,
        "skipped": report.skipped,
        "stages": [_stage(stage, report.seconds) for stage in report.stages if stage.calls],
        "bottleneck": max(report.stages, key=lambda stage: stage.compute).name,
    }


def _stage(stage: StageStats, seconds: float) -> Row:
    shares = {"computes": stage.compute, "waits": stage.wait_in, "blocked": stage.wait_out}
    return {
        "name": stage.name,
        "calls": stage.calls,
        "mean_ms": 1e3 * stage.compute / stage.calls,
        **_milliseconds(stage.samples),
        **{share: value / seconds for share, value in shares.items()},
        "queued": stage.occupancy,
    }


def _milliseconds(samples: object) -> dict[str, float]:
    return {name: 1e3 * p for name, p in zip(("p50", "p95", "p99"), percentiles(samples), strict=True)}


def _plain(source: InfoSource, networks: Networks) -> Row:
    """What a plain loop over the same frames measures."""
    stages = make_stages(networks, source.info)
    calls: dict[str, list[float]] = {}

    def work(sinks: list[Sink]) -> Report:
        report = run_inline(source, stages, sinks)
        calls.update({s.name: [round(1e3 * t, 3) for t in s.samples[:KEPT]] for s in report.stages if s.name != _Null.name})
        return report

    return {**_row(work, [_Null()]), "calls_ms": calls}


def _bound(loops: Sequence[Row]) -> Row:
    """The frame rate that no arrangement of the stages of these plain loops on threads exceeds, and what it comes from: medians."""
    slowest = statistics.median(max(stage["mean_ms"] for stage in loop["stages"]) for loop in loops)
    work = statistics.median(loop["cpu_ms"] for loop in loops)
    return {
        "bound_fps": bound(slowest, work, processors()),
        "inline_fps": statistics.median(loop["fps"] for loop in loops),
        "inline_cpu_ms": work,
    }


def bound(slowest: float, work: float, cores: int) -> float:
    """Frames a second that a pipeline cannot exceed.

    slowest: ms of the slowest stage with the machine to itself: each stage does one frame at a time. work: ms of processor time that a
    frame costs in all, of which the machine has `cores` in a millisecond.
    """
    return 1e3 * min(1 / slowest, cores / work)


def loop_cost(frames: int = 3000, stages: int = 5) -> float:
    """Microseconds of processor time a frame that threads and channels themselves take, around stages that do nothing."""
    picture = np.zeros((1, 1, 3), np.uint8)

    class Blank:
        name = "blank"

        def frames(self) -> Iterator[Frame]:
            for index in range(frames):
                yield Frame(index, float(index), picture, time.monotonic_ns())

        def close(self) -> None:
            pass

    begin = time.process_time()
    run(Blank(), [lambda result: result] * stages, [_Null()])
    return 1e6 * (time.process_time() - begin) / frames


def first_result(spec: str, settings: Settings) -> tuple[float, float]:
    """Seconds from the start of a new process to its first result: cold, then warm. See the module's beginning."""
    program = "import sys, json; from rtpose.bench import show_first; show_first(*json.loads(sys.argv[1]))"
    chosen = {name: value for name, value in vars(settings).items() if value is not None}
    chosen = {name: str(value) if isinstance(value, Path) else value for name, value in chosen.items()}
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        empty = {"RTPOSE_CACHE": f"{folder}/rtpose", "NUMBA_CACHE_DIR": f"{folder}/numba"}
        for _ in range(2):
            command = [sys.executable, "-c", program, json.dumps([spec, chosen])]
            begin = time.time()
            done = subprocess.run(command, env={**os.environ, **empty}, capture_output=True, text=True, check=True)
            seconds.append(float(done.stdout.split()[-1]) - begin)
    return seconds[0], seconds[1]


def show_first(spec: str, settings: dict[str, Any]) -> None:
    """Print the time (`time.time`) at which the first result is there."""
    for name in ("calibration", "body_model"):
        if name in settings:
            settings[name] = Path(settings[name])
    source = open_source(spec)
    stages = make_stages(Networks(Settings(**settings), source.info), source.info)
    result = Result(next(iter(source.frames())))
    for stage in stages:
        result = stage(result)
    print(time.time())
    source.close()


def about() -> Row:
    """The host and the versions that figures belong to."""
    packages = ("numpy", "numba", "openvino", "opencv-python", "av")
    model = next((line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor())
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "host": {
            "processor": model,
            "cores": processors(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": platform.platform(),
            "load": os.getloadavg()[0],
        },
        "versions": {"rtpose": __version__, "python": platform.python_version(), **{p: version(p) for p in packages}},
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def cases(spec: str, settings: Settings, sweeps: tuple[str, ...], seconds: float, repeats: int) -> list[Case]:
    """The source offline and live, then one case for each point of the sweeps. Raises InputError for an unknown sweep."""
    found = [
        Case("offline", spec, settings, repeats=repeats),
        Case("live", spec, settings, live=True, seconds=seconds),
    ]
    for sweep in sweeps:
        points: list[tuple[str, str, Settings]]
        if sweep == "people":
            points = [(str(n), f"people:{n}", settings) for n in PEOPLE]
        elif sweep == "resolution":
            points = [(name, f"size:{w}x{h}", settings) for name, (w, h) in SIZES.items()]
        elif sweep == "threads":
            points = [(str(n), spec, replace(settings, threads=n)) for n in range(1, processors() + 1)]
        elif sweep == "backend":
            points = [(name, spec, replace(settings, backend=name)) for name in BACKENDS]
        elif sweep == "precision":
            points = [(name, spec, replace(settings, precision=name)) for name in ("f32", "bf16", "f16", "int8")]
        else:
            raise InputError(f"unknown sweep {sweep!r}: choose from {', '.join(SWEEPS)}")
        found += [Case(f"{sweep} {name}", where, chosen, repeats=SWEEP_REPEATS) for name, where, chosen in points]
    return found


def apart(case: Case) -> Row:
    """`measure` in a process of its own; what this machine cannot run becomes a row that says why."""
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(measure, case).result()
    except RtposeError as error:
        if case.name in ("offline", "live"):
            raise
        return {"name": case.name, "source": case.source, "cannot": str(error)}


def bench(
    spec: str | None,
    settings: Settings,
    *,
    sweeps: tuple[str, ...] = (),
    seconds: float = 10.0,
    repeats: int = 5,
    save: Path | None = None,
    compare: Path | None = None,
    page: Path | None = None,
) -> int:
    """What `rtpose bench` does; return the exit code. spec None: the reference clip. See `cli.bench`.

    Raises InputError for a source, a sweep or a file to compare with that cannot be.
    """
    console = for_output()
    before = None if compare is None else read(compare)
    source = str(CLIP) if spec is None else spec
    if open_source(source).info.live:
        raise InputError("a live source cannot be measured twice alike: record some seconds of it, and give the file")
    for path, endings in ((save, (".json",)), (page, (".html", ".htm"))):
        if path is not None:
            check_output(path, endings, overwrite=True)
    rows: list[Row] = []
    todo = cases(source, settings, sweeps, seconds, repeats)
    with console.status("") as status:
        for case in todo:
            status.update(f"measuring {case.name} ({len(rows) + 1} of {len(todo)})")
            rows.append(apart(case))
        status.update("measuring the time to the first result")
        cold, warm = first_result(source, settings)
    result = {**about(), "rows": rows, "first_result_s": {"cold": cold, "warm": warm}, "loop_us": loop_cost()}
    show(result, before, console)
    if save is not None:
        save.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if page is not None:
        from .bench_page import write_page

        write_page(result, page)
    return 0


def read(path: Path) -> Row:
    """What an earlier `rtpose bench --json` wrote. Raises InputError where it is something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not all("name" in row for row in found["rows"]):
            raise KeyError("rows")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no result of rtpose bench --json: {error}") from None
    return found


def show(result: Row, before: Row | None, console: Console) -> None:
    """Print the tables for eyes."""
    host, versions = result["host"], result["versions"]
    console.print(f"{host['processor']}, {host['cores']} cores, load {host['load']:.1f}; {host['system']}")
    console.print(", ".join(f"{name} {value}" for name, value in versions.items()), highlight=False)
    done = [row for row in result["rows"] if "cannot" not in row]
    for row in done[:2]:
        console.print(stage_table(row))
    console.print(case_table(result["rows"], {row["name"]: row for row in before["rows"]} if before else {}))
    first = result["first_result_s"]
    console.print(
        f"first result: {first['cold']:.2f} s cold, {first['warm']:.2f} s warm; the loop itself: {result['loop_us']:.0f} us"
    )
    console.print(
        "age: packet handed over until the result is at the sink (decoding included). display: until it is drawn. first result: from"
        " the start of the process. cpu: processor time of all threads. bound: min(1 / slowest stage, cores / cpu of a plain loop)."
    )
    for row in result["rows"]:
        if "cannot" in row:
            console.print(f"{row['name']}: not measured, {row['cannot']}")


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def stage_table(row: Row) -> Table:
    """What each stage did in one case."""
    drops = ", ".join(f"{n} dropped at the {where}" for where, n in row["dropped"].items() if n) or "none dropped"
    table = _table(
        f"{row['name']}: {row['fps']:.1f} fps, {row['people']:.1f} people a frame, {drops}; the bottleneck: {row['bottleneck']}",
        "stage", "calls", "p50 ms", "p95", "p99", "computes", "waits", "blocked", "queued",
    )  # fmt: skip
    for stage in row["stages"]:
        times = [f"{stage[p]:.1f}" for p in ("p50", "p95", "p99")]
        shares = [f"{stage[s]:.0%}" for s in ("computes", "waits", "blocked")]
        table.add_row(stage["name"], str(stage["calls"]), *times, *shares, f"{stage['queued']:.1f}")
    return table


def case_table(rows: list[Row], before: dict[str, Row]) -> Table:
    """All cases, one a row; with the ratio of speed to the case of the same name before."""
    table = _table(
        "", "case", "people", "fps", "bound", "cpu ms", "age p50", "p95", "p99", "display p95", "dropped", "MB", "precision",
        *(["fps now/then", "cpu now/then"] if before else []),
    )  # fmt: skip
    for row in rows:
        if "cannot" in row:
            continue
        bound_fps = f"{row['bound_fps']:.1f}" if "bound_fps" in row else ""
        ages = [f"{row['age'][p]:.0f}" for p in ("p50", "p95", "p99")]
        shown = f"{row['display']['p95']:.0f}" if row["display"] else ""
        used = "/".join(network["precision"] for network in row["networks"].values())
        then = before.get(row["name"])
        ratios = [f"{row[k] / then[k]:.2f}" if then and k in then else "" for k in ("fps", "cpu_ms")] if before else []
        table.add_row(
            row["name"], f"{row['people']:.1f}", f"{row['fps']:.1f}", bound_fps, f"{row['cpu_ms']:.1f}", *ages, shown,
            str(sum(row["dropped"].values())), str(row["peak_memory_mb"]), used, *ratios,
        )  # fmt: skip
    return table

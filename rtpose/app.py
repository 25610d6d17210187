"""Wires source, stages and sinks into a run: the only module that knows them all."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from functools import lru_cache, partial, wraps
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Concatenate, ParamSpec

import numpy as np
from rich.markup import escape

from . import __version__
from .backends import Session, check_not_forked, open_session
from .body.camera import Camera, camera_for
from .body.model import BodyModel, Lifted, load_body
from .body.smpl import open_body
from .errors import INTERRUPTED, InputError
from .evaluate import evaluate as score
from .evaluate import print_tables, read_annotations, save_figures
from .export import check_before_run, export, tables_of
from .governor import Governor, GovernorSink, Step
from .integrity import RESULTS, check_own
from .journal import SUFFIX, Answer, Journal, exports_of, fingerprint, run_of
from .locks import locked
from .models import find, models, verify
from .models.hmr import network_of
from .pipeline import Channel, Closed, Control, Report, Sink, Stage, run, stage_name
from .pixels import PixelScale, ToSquare, ToStored, is_square
from .refine import Interrupted, Summary
from .refine.run import SecondPass
from .replay import Player, replay
from .scope import check_scope, parts_of, people_of
from .settings import Outputs, Settings, changed, parts_named
from .sinks import check_distinct, check_output
from .sinks.data import SPOOL, Provenance, open_data, read_results
from .sinks.progress import Preparation, ProgressSink, people_count, stage_table, summary
from .sinks.video import open_overlay
from .sinks.viewer import ViewerSink
from .sinks.window import WindowSink, check_display, display
from .source import InfoSource, Paced, SourceInfo, open_source
from .stages.ankles import Ankles, read_weights
from .stages.detect import INTERVAL, Detector
from .stages.follow import Follow
from .stages.hmr import HmrLifter, smpl_body
from .stages.keypoints import KeypointEstimator
from .stages.lift import Lifter, check_network
from .stages.scores import Threshold
from .stages.smooth import Smoother
from .terminal import Console, for_messages, for_output, put
from .types import Boxes, Frame, People, Result

_log = logging.getLogger(__name__)
Options = ParamSpec("Options")
_Process = Callable[Concatenate[str, Settings, Outputs, Options], int]


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _say_nothing(what: str) -> None:
    """Where nobody listens."""


class Networks:
    """The loaded networks of a run: verified models and their sessions, by task, and the body that is fitted (None: no bodies).

    preparing: called with what is being loaded. Raises InputError for an unknown name, a corrupt file, a camera or a body file that cannot
    be.
    """

    def __init__(self, settings: Settings, info: SourceInfo, preparing: Callable[[str], None] = _say_nothing) -> None:
        self.settings, self._preparing = settings, preparing
        names = {"detector": settings.detector, "keypoints": settings.keypoints}
        names |= {task: name for task, name in (("ankles", settings.ankles), ("lifter", settings.lifter)) if name != "none"}
        self.models = {task: find(name, task) for task, name in names.items() if name != "hmr"}
        for model in self.models.values():
            verify(model)
        self.lifted: Lifted | None = None
        if settings.lifter != "none":
            self.lifted = Lifted(_body(settings), _cameras(settings, info))
        if settings.checkpoint is not None:
            self.models["lifter"] = network_of(settings.checkpoint)
        # The detector and the keypoint network run at the same time only on frames that the detector looks at, so each has
        # the whole budget; the lifter is too small to share.
        threads = settings.threads or processors()
        # In int8 the detector costs more accuracy than is allowed, so that the keypoint network alone has such a form.
        self.detector = self._open("detector", "auto" if settings.precision == "int8" else settings.precision, threads)
        self.keypoints = self._open("keypoints", settings.precision, threads)
        # A processor that has bf16 is a fifth faster still in eight bits, which cost little where who is there is known already.
        eight = self.models["keypoints"].also and settings.precision == "auto" and self.keypoints.precision == "bf16"
        self.light = self._open("keypoints", "int8", threads) if eight else None
        self.lifter: Session | None = None
        if settings.lifter == "hmr":
            # Lower precision moves joints by millimetres: only who asks for it gets it.
            self.lifter = self._open("lifter", "f32" if settings.precision in ("auto", "int8") else settings.precision, threads)
        elif self.lifted is not None:
            # Its weights alone are in eight bits then; what that costs: docs/lifter.md.
            eight = self.keypoints.backend == "openvino" and settings.precision in ("auto", "int8")
            self.lifter = self._open("lifter", "int8" if eight else "f32", 1)
            check_network(self.lifter, self.models["lifter"].path)

    def _open(self, task: str, precision: str, threads: int) -> Session:
        self._preparing(f"network {self.models[task].name}")
        return open_session(self.models[task].path, backend=self.settings.backend, precision=precision, threads=threads)

    def describe(self) -> dict[str, str]:
        """What computes the results, for their header."""
        names = {task: model.name for task, model in self.models.items()}
        used = [session.precision for session in (self.keypoints, self.light) if session is not None]
        return names | {"backend": self.keypoints.backend, "precision": "+".join(used)}


def _body(settings: Settings) -> BodyModel:
    if settings.body_model is None:
        return load_body()
    return smpl_body(settings.body_model) if settings.lifter == "hmr" else open_body(settings.body_model)


def _cameras(settings: Settings, info: SourceInfo) -> Callable[[int, int], Camera]:
    """The camera for pictures of a size: what the user said, else what the source's metadata say, else a guess."""
    given = (settings.focal, settings.fov, settings.calibration)
    focal = info.focal if all(value is None for value in given) else settings.focal

    aspect = 1.0 if is_square(info.pixel_aspect) else float(info.pixel_aspect)

    @lru_cache(maxsize=16)
    def camera(width: int, height: int) -> Camera:
        return camera_for(width, height, focal=focal, fov=settings.fov, calibration=settings.calibration, pixel_aspect=aspect)

    camera(info.width, info.height)  # what is wrong with it is said before the work starts
    return camera


def _same_for_all(camera: Camera, width: int, height: int) -> Camera:
    """The frames of a video all have one size."""
    return camera


def _as_it_is(answer: Answer) -> Answer:
    return answer


def make_stages(
    networks: Networks,
    info: SourceInfo,
    keep: Callable[[Answer], Answer] = _as_it_is,
    *,
    refined: bool = False,
    preparing: Callable[[str], None] = _say_nothing,
) -> list[Stage]:
    """The stages of a run, in order, each with its networks and compiled code warm. keep: see `rtpose.journal`. refined: a second pass
    will know who is to be followed, so that nobody is left out. preparing: called with what is being made warm. The stages take and give
    stored pixels, and compute in square ones."""
    settings, models = networks.settings, networks.models
    scale = PixelScale.of(info.pixel_aspect, info.width, info.height)
    look_at = partial(parts_of, settings.region, settings.tiles, stretch=(1.0, 1.0) if scale is None else (scale.x, scale.y))
    camera: Callable[[int, int], Camera] | None = None if networks.lifted is None else networks.lifted.camera
    if scale is not None:
        if camera is not None:
            camera = partial(_same_for_all, scale.camera(camera(info.width, info.height)))
        width, height = scale.size(info.width, info.height)
        info = replace(info, width=width, height=height, pixel_aspect=Fraction(1))
    look_at(info.width, info.height)  # a region that cannot be is said before the work starts

    def fresh(keep: Callable[[Answer], Answer]) -> list[Stage]:
        stages: list[Stage] = [
            Detector(
                networks.detector,
                models["detector"].decoder,
                every=settings.detect_every or 1,
                interval=INTERVAL if settings.detect_every is None else None,
                parts=look_at,
                calm=settings.detect_every is None,
                keep=keep,
            ),
            KeypointEstimator(
                networks.keypoints,
                models["keypoints"].decoder,
                max_people=settings.max_people,
                light=networks.light,
                every=settings.keypoints_every,
                keep=keep,
            ),
        ]
        if "ankles" in models:
            weights = read_weights(models["ankles"].path, models["ankles"].decoder, models["keypoints"].decoder)
            stages.append(Ankles(weights))
        stages.append(Smoother())
        if settings.min_pose_score > 0 or settings.min_keypoint_score > 0:
            stages.append(Threshold(settings.min_pose_score, settings.min_keypoint_score))
        if settings.track != "all" and not refined:
            stages.append(Follow(settings.track))
        if networks.lifter is not None and networks.lifted is not None and camera is not None:
            body = networks.lifted.body
            if settings.lifter == "hmr":
                stages.append(HmrLifter(body, networks.lifter, camera, every=settings.lifter_every))
            else:
                stages.append(Lifter(body, networks.lifter, camera))
        return stages

    _warm(fresh(_as_it_is), info, preparing)
    return fresh(keep) if scale is None else [ToSquare(scale), *fresh(keep), ToStored(scale)]


def _warm(stages: Sequence[Stage], info: SourceInfo, preparing: Callable[[str], None]) -> None:
    """Let everything be called once: the first call compiles, and a live source must not wait for that."""
    frame = Frame(0, 0.0, np.zeros((info.height, info.width, 3), np.uint8), 0)
    detector, keypoints, *later = stages
    box = np.array([[0, 0, info.width, info.height]], np.float32)
    preparing(f"stage {stage_name(detector)}")
    detector(Result(frame))
    preparing(f"stage {stage_name(keypoints)}")
    # Nobody is in that picture, so somebody is made up: a find for the keypoints, then joints, the ankles unsure, for the rest.
    for when in (0.0, 0.04):
        keypoints(Result(replace(frame, time=when), detections=Boxes(box, np.full(1, 0.9, np.float32))))
    grid = np.stack([info.width * np.linspace(0.4, 0.6, 17), info.height * np.linspace(0.1, 0.9, 17), np.full(17, 0.9)], -1)
    grid[15:, 2] = 0.1
    points = grid[None].astype(np.float32)
    somebody = People(np.ones(1, np.int64), box, np.ones(1, np.float32), points, np.zeros((1, 17), np.uint8), points)
    for when in (0.0, 0.04):
        result = Result(replace(frame, time=when), people=somebody)
        for stage in later:
            preparing(f"stage {stage_name(stage)}")
            result = stage(result)


def notes_of(stages: Sequence[Stage]) -> list[str]:
    """What the stages have to tell the user at the end: one line each."""
    return [note for stage in stages if isinstance(stage, KeypointEstimator) for note in stage.notes()]


def savings(stages: Sequence[Stage]) -> list[Step]:
    """What a live run can save on, in the order in which it does."""
    steps, last = [], []
    for stage in stages:
        if isinstance(stage, Detector):
            steps.append(Step("looking for people half as often", partial(_set, stage, "slowdown", 2, 1)))
        elif isinstance(stage, KeypointEstimator):
            steps.append(Step("looking at newcomers once, not twice", partial(_set, stage, "twice", False, True)))
            less = partial(_set, stage, "every", 2 * stage.every, stage.every)
            last.append(Step("looking at people half as often, predicting them between", less))
        elif isinstance(stage, Lifter):
            steps.append(Step("bodies on every third frame only", partial(_set, stage, "every", 3, 1)))
            steps.append(Step("skeletons only", partial(_set, stage, "every", 0, 3)))
        elif isinstance(stage, HmrLifter):
            steps.append(Step("HMR on a quarter of its frames", partial(_set, stage, "every", 4 * stage.every, stage.every)))
    return steps + last


def _set(stage: Stage, name: str, less: int, more: int, save: bool) -> None:
    setattr(stage, name, less if save else more)


def make_sinks(outputs: Outputs, networks: Networks, info: SourceInfo, live: bool, run: str | None = None) -> list[Sink]:
    """The sinks that write files or show a window. run: by what it is known again. Raises InputError for an output that cannot be
    written."""
    return [*make_writers(outputs, networks, info, live, run), *make_views(outputs, networks, info, live)]


def make_writers(outputs: Outputs, networks: Networks, info: SourceInfo, live: bool, run: str | None) -> list[Sink]:
    """The sinks that write files."""
    sinks: list[Sink] = []
    if outputs.save is not None:
        path = None if outputs.save == "-" else Path(outputs.save)
        mode = "live" if live else "offline"
        provenance = Provenance(networks.describe(), mode, networks.lifted, run)
        sinks.append(open_data(path, info, provenance, overwrite=outputs.overwrite))
    if outputs.out is not None:
        over, lifted = outputs.overwrite, networks.lifted
        sinks.append(open_overlay(outputs.out, info, overwrite=over, lifted=lifted, parts=outputs.draw))
    return sinks


def make_views(outputs: Outputs, networks: Networks, info: SourceInfo, live: bool) -> list[Sink]:
    """The sink that shows a window or takes a screenshot, if one is wanted."""
    view = outputs.view if outputs.view is not None else live and display()
    if view:
        check_display()
    if outputs.screenshot is not None or (view and networks.lifted is not None and find_spec("open3d") is not None):
        return [
            ViewerSink(
                networks.lifted,
                window=view,
                screenshot=outputs.screenshot,
                overwrite=outputs.overwrite,
                pixel_aspect=info.pixel_aspect,
                parts=outputs.draw,
                mirror=outputs.mirror,
            )
        ]
    return [WindowSink(info, networks.lifted, parts=outputs.draw, mirror=outputs.mirror)] if view else []


def _paced(source: InfoSource, live: bool | None) -> tuple[InfoSource, bool]:
    """The source at the pace that the mode wants, and the mode (None: what the source is)."""
    if live is None:
        live = source.info.live
    if live and not source.info.live:
        source = Paced(source)
    return source, live


def _alone(process: _Process[Options]) -> _Process[Options]:
    """Let a run have its outputs to itself: InputError, before anything is touched, where another one writes any of them."""

    @wraps(process)
    def alone(spec: str, settings: Settings, outputs: Outputs, /, *more: Options.args, **options: Options.kwargs) -> int:
        with locked(outputs.save, outputs.out, outputs.screenshot, outputs.export_dir):
            return process(spec, settings, outputs, *more, **options)

    return alone


@_alone
def process(
    spec: str,
    settings: Settings,
    outputs: Outputs,
    *,
    live: bool | None = None,
    sequence: bool = False,
    causal: bool = False,
    start: float = 0.0,
    end: float | None = None,
    verbose: bool = False,
    console: Console | None = None,
    notes: list[str] | None = None,
) -> int:
    """Run the source named by `spec` into the outputs, tell what goes on and what came of it; return the exit code.

    A video file is gone through twice, unless `causal`: the results are refined with the future known. start, end: seconds; only that
    part of it. verbose: with a table of the stages. Everything said goes to the console, by default the standard error; the notes at the
    end are also added to `notes`. Raises RtposeError with one clear line for what went wrong.
    """
    console = console or for_messages()
    if outputs.export_dir is not None:
        check_before_run(
            outputs.export,
            outputs.export_dir,
            bodies=settings.lifter != "none",
            overwrite=outputs.overwrite or outputs.resume,
            min_duration=outputs.min_duration,
        )

    def reopen() -> InfoSource:
        return open_source(
            spec,
            sequence=sequence,
            start=start,
            end=end,
            deinterlace=settings.deinterlace,
            playlists=settings.allow_playlists,
        )

    source = reopen()
    try:
        check_use(settings, source.info, live=source.info.live if live is None else live, sequence=sequence)
        _check_files(outputs, settings, source.info)
        source, live = _paced(source, live)
        outputs.check_drawn(view=outputs.view if outputs.view is not None else live and display())
        with Preparation(console) as preparing:
            work = _prepare(source, reopen, settings, outputs, console, preparing, live=live, causal=causal, part=(start, end))
    except BaseException:
        source.close()
        raise
    if isinstance(work, Networks):
        return _write_missing(source, work, outputs, console)
    if not work.sinks:
        console.print(
            "[yellow]note:[/yellow] nothing of this run is kept or shown: --save, --out and --view do that", soft_wrap=True
        )
    return _carry_out(work, settings, console, [] if notes is None else notes, verbose=verbose)


def check_use(settings: Settings, info: SourceInfo, *, live: bool, sequence: bool = False) -> None:
    """Raise InputError for settings that could do nothing with this source, or cannot be meant.

    live: how the source is run. sequence: the user says that the pictures follow each other.
    """
    if sequence and not info.pictures:
        raise InputError(f"--sequence is for pictures, and {info.name} is none: leave it out")
    alone = info.pictures and not sequence
    if alone and live and not info.live:
        raise InputError("--live needs frames that follow each other: say --sequence if the pictures do, or leave it out")
    for option, given in (
        ("--detect-every", settings.detect_every is not None),
        ("--keypoints-every", settings.keypoints_every != Settings.keypoints_every),
        ("--lifter-every", settings.lifter_every != Settings.lifter_every),
    ):
        if alone and given:
            raise InputError(f"{option} needs frames that follow each other: say --sequence if the pictures do, or leave it out")
    if alone and settings.track == "main":
        raise InputError("--people main is for people who move: say --sequence if the pictures follow each other")
    for option, given in (
        ("--target-fps", settings.target_fps != Settings.target_fps),
        ("--max-latency", settings.max_latency != Settings.max_latency),
    ):
        if given and not live:
            raise InputError(f"{option} is for live runs, where frames may be dropped: leave it out, or say --live")
    check_scope(settings.region, settings.tiles, info.width, info.height)


def _check_files(outputs: Outputs, settings: Settings, info: SourceInfo) -> None:
    """Raise InputError where an output would replace another one, or a file that the run reads."""
    written = [Path(name) for name in (outputs.save, outputs.out, outputs.screenshot) if name not in (None, "-")]
    if outputs.export_dir is not None:
        written += tables_of(outputs.export, outputs.export_dir)
    read = (info.path, settings.calibration, settings.checkpoint, settings.body_model)
    check_distinct(written, [path for path in read if path is not None])


@dataclass(frozen=True)
class _Work:
    """A run that is ready to begin. second: where it is refined; journal: where it can be resumed."""

    source: InfoSource
    live: bool
    stages: list[Stage]
    sinks: list[Sink]
    outputs: Outputs
    second: SecondPass | None
    journal: Journal | None


def _prepare(
    source: InfoSource,
    reopen: Callable[[], InfoSource],
    settings: Settings,
    outputs: Outputs,
    console: Console,
    preparing: Preparation,
    *,
    live: bool,
    causal: bool,
    part: tuple[float, float | None],
) -> _Work | Networks:
    """Everything that a run needs; the networks alone where its results are finished already."""
    networks = Networks(settings, source.info, preparing)
    again = not live and _is_file(source.info)
    name = _name_run(source.info, networks, causal, part) if again else None
    if outputs.resume:
        if name is None:
            raise InputError(f"--resume goes on with a video file, which {source.name} is not, or not live")
        if _is_done(outputs, name):
            return networks
        # What is there is of this very run, and is made again; so are the files in the folder that it exported into.
        begun = os.path.exists(_journal_of(outputs)) or os.path.exists(_spool_of(outputs))
        outputs = replace(outputs, overwrite=begun)
        if outputs.export_dir is not None:
            own = str(outputs.export_dir.absolute()) in exports_of(_journal_of(outputs))
            check_before_run(outputs.export, outputs.export_dir, bodies=settings.lifter != "none", overwrite=own)
    second: SecondPass | None = None
    if again and not causal and bool(outputs.save or outputs.out) and _refinable(settings, console):
        second = second_pass(outputs, networks, source.info, reopen, name)
        views = make_views(outputs, networks, source.info, live)
        if views and settings.track != "all":
            console.print(
                "[yellow]note:[/yellow] the view shows the first pass, with everybody in it; --people chooses in the second"
            )
        sinks = [second.sink, *views]
    else:
        sinks = make_sinks(outputs, networks, source.info, live, name)
    journal: Journal | None = None
    if name is not None and outputs.save not in (None, "-"):
        journal = Journal(_journal_of(outputs), name, resume=outputs.resume)
        for line in journal.notes:
            console.print(f"[yellow]note:[/yellow] {escape(line)}", soft_wrap=True)
        if outputs.export_dir is not None:
            journal.exports(outputs.export_dir)
    keep = _as_it_is if journal is None else journal.keep
    stages = make_stages(networks, source.info, keep, refined=second is not None, preparing=preparing)
    return _Work(source, live, stages, sinks, outputs, second, journal)


def _refinable(settings: Settings, console: Console) -> bool:
    if settings.lifter == "hmr":
        console.print("[yellow]note:[/yellow] bodies from pictures (hmr) are not refined: as with --causal")
    return settings.lifter != "hmr"


def _carry_out(work: _Work, settings: Settings, console: Console, notes: list[str], *, verbose: bool) -> int:
    """Run, refine, export, say what came of it; return the exit code. notes: what is said at the end is added."""
    source, second, outputs = work.source, work.second, work.outputs
    governor = _governor(work.stages, settings, console)
    what = "tracking" if second is None else "first pass: tracking"
    progress = ProgressSink(what, None if source.info.live else source.info.frames, console)
    control = Control()
    refined: Summary | None = None
    finished = False
    try:
        with _interrupts(control):
            sinks = [*work.sinks, progress, *([governor] if work.live else [])]
            report = run(source, work.stages, sinks, live=work.live, control=control)
        notes += [*source.notes, *notes_of(work.stages)]
        for note in notes:
            console.print(f"[yellow]note:[/yellow] {escape(note)}", soft_wrap=True)
        console.print(summary(report))
        if verbose:
            console.print(stage_table(report))
        if second is not None and report.frames and not control.cancelled:
            refined = _refine(second, report.frames, console)
            if refined is None:
                return INTERRUPTED
        for when, what in governor.log:
            console.print(f"at {when:.1f} s: {escape(what)}")
        if report.frames and (second is None or refined is not None):
            _say_found(work, settings, progress, refined, console)
            if outputs.export_dir is not None and outputs.save is not None:
                _export(outputs.save, outputs, settings, console)
        finished = not control.interrupted
    finally:
        if work.journal is not None:
            work.journal.close(finished=finished)
        if second is not None and not finished and second.lasting and second.spool.exists():
            console.print(f"the causal results so far are in {escape(str(second.spool))}", soft_wrap=True)
    if report.ended_early is not None:
        raise report.ended_early
    if report.frames and (refined is not None or second is None) and not control.interrupted:
        _check_people(work, settings, refined, console)
    return INTERRUPTED if control.interrupted else 0


def _say_found(work: _Work, settings: Settings, progress: ProgressSink, refined: Summary | None, console: Console) -> None:
    """How many people there were, and which files were written."""
    people = len(progress.found) if refined is None else refined.people
    if people == 0 and not people_of(settings.track):  # else `_check_people` tells more
        console.print("[bold yellow]nobody was found[/bold yellow]")
    elif people and refined is None:
        console.print(f"{people_count(people)} found")
    outputs = work.outputs
    for path in (outputs.save, outputs.out, outputs.screenshot):
        if path is not None and str(path) != "-":
            console.print(f"wrote {escape(str(path))}", soft_wrap=True)


def _check_people(work: _Work, settings: Settings, refined: Summary | None, console: Console) -> None:
    """Say which numbers of people that were asked for nobody has. Raises InputError where that is all of them."""
    asked = people_of(settings.track)
    if refined is not None:
        there = set(range(1, refined.everybody + 1))
    else:
        there = set().union(*(stage.seen for stage in work.stages if isinstance(stage, Follow)))
    missing = sorted(asked - there)
    if not missing:
        return
    who = (
        f"there {'is' if len(there) == 1 else 'are'} {', '.join(map(str, sorted(there)))}" if there else "nobody was found at all"
    )
    said = f"nobody has the number {' or '.join(map(str, missing))}: {who}"
    if len(missing) == len(asked):
        raise InputError(f"--people {settings.track}: {said}; the outputs are without people")
    if refined is None:  # whose summary says so
        console.print(f"[yellow]note:[/yellow] {said}", soft_wrap=True)


def _write_missing(source: InfoSource, networks: Networks, outputs: Outputs, console: Console) -> int:
    """Write those outputs of a finished run that are not there, from its results; return the exit code."""
    save, written = Path(str(outputs.save)), list[Path]()
    if outputs.out is not None:
        open_overlay(Path(outputs.out), source.info, overwrite=True)  # what is wrong with the name is said; nothing is touched
    missing = replace(outputs, save=None, view=False, resume=False, export=(), export_dir=None)
    if outputs.out is not None and Path(outputs.out).exists():
        missing = replace(missing, out=None)
    if outputs.screenshot is not None and outputs.screenshot.exists():
        missing = replace(missing, screenshot=None)
    try:
        if (missing.out or missing.screenshot) and not _draw_again(source, networks, save, missing, console):
            return INTERRUPTED
    finally:
        source.close()
    written += [Path(path) for path in (missing.out, missing.screenshot) if path is not None]
    for path in written:
        console.print(f"wrote {escape(str(path))}", soft_wrap=True)
    if outputs.export_dir is not None:
        written += _export(str(save), outputs, networks.settings, console, keep=True)
    if not written:
        console.print(f"{escape(str(save))} is finished: there is nothing left to do", soft_wrap=True)
    return 0


def _draw_again(source: InfoSource, networks: Networks, save: Path, missing: Outputs, console: Console) -> bool:
    """Draw finished results; return whether all of them were. The drawn video has its name when it is whole: by that it is known."""
    out = None if missing.out is None else Path(missing.out)
    unfinished = None if out is None else out.with_name(f"{out.stem}.unfinished{out.suffix}")
    header, records = read_results(save)
    player, control = Player(save, header, records, source, paced=False), Control()
    drawn = replace(missing, out=None if unfinished is None else str(unfinished), overwrite=True)
    try:
        sinks = [*make_sinks(drawn, networks, source.info, live=False), ProgressSink("drawing", source.info.frames, console)]
        with _interrupts(control):
            report = run(player, [player.attach], sinks, control=control)
        if report.ended_early is not None:
            raise report.ended_early
        if out is not None and unfinished is not None and not control.interrupted:
            os.replace(unfinished, out)
    finally:
        if unfinished is not None and unfinished.is_file():
            unfinished.unlink()
    return not control.interrupted


def second_pass(
    outputs: Outputs, networks: Networks, info: SourceInfo, reopen: Callable[[], InfoSource], run: str | None = None
) -> SecondPass:
    """What refines the results of a video file once all of them are known."""
    return SecondPass(
        outputs,
        info,
        reopen,
        models=networks.describe(),
        lifted=networks.lifted,
        network=networks.lifter,
        track=networks.settings.track,
        cuts=networks.settings.cuts,
        run=run,
    )


def _is_file(info: SourceInfo) -> bool:
    """Whether the source is a video file, which can be read twice."""
    return info.path is not None and not info.pictures and not info.live


def _name_run(info: SourceInfo, networks: Networks, causal: bool, part: tuple[float, float | None]) -> str:
    """By what a run over a file is known again: everything that its results depend on."""
    assert info.path is not None
    sums = {task: model.sha256 for task, model in networks.models.items()}
    body = None if networks.lifted is None else networks.lifted.body.sha256
    return fingerprint(
        info.path,
        version=__version__,
        settings=asdict(networks.settings),
        models=sums | networks.describe(),
        body=body,
        causal=causal,
        part=part,
    )


def _journal_of(outputs: Outputs) -> Path:
    return Path(f"{outputs.save}{SUFFIX}")


def _spool_of(outputs: Outputs) -> Path:
    return Path(f"{outputs.save}{SPOOL}")


def _is_done(outputs: Outputs, name: str) -> bool:
    """Whether nothing is left to resume. Raises InputError where the file is of another run."""
    save, journal, spool = Path(str(outputs.save)), _journal_of(outputs), _spool_of(outputs)
    begun = run_of(journal)
    check_own(spool, RESULTS)
    if begun is None and os.path.exists(spool):  # the journal did not get as far as to say of what it is
        with suppress(InputError):  # nor did the spool
            begun = read_results(spool)[0].run
    # Without a journal, results are those of a run that ended well.
    finished = begun is None and not os.path.exists(journal) and os.path.exists(save)
    if begun is None and os.path.exists(save):
        begun = read_results(save)[0].run
    if begun is not None and name != begun:
        raise InputError(f"{save} was made of another source or with other settings: choose another name, or say --overwrite")
    return finished


def _refine(second: SecondPass, frames: int, console: Console) -> Summary | None:
    """The second pass; None where it was interrupted."""
    control, begin = Control(), time.monotonic()
    passes = ProgressSink("second pass: refining", frames, console), ProgressSink("drawing", frames, console)
    try:
        with _interrupts(control):
            refined = second.finish(control, *passes)
    except Interrupted:
        return None
    console.print(f"{refined}; {time.monotonic() - begin:.1f} s", soft_wrap=True)
    return refined


def _governor(stages: Sequence[Stage], settings: Settings, console: Console) -> GovernorSink:
    steps = savings(stages)
    governor = Governor(len(steps), target=settings.target_fps, latency=settings.max_latency)
    return GovernorSink(governor, steps, processors(), lambda line: console.print(f"[yellow]note:[/yellow] {escape(line)}"))


def _export(save: str, outputs: Outputs, settings: Settings, console: Console, *, keep: bool = False) -> list[Path]:
    """Write the exports, but, with `keep`, those that are there; return what was written."""

    def note(line: str) -> None:
        console.print(f"[yellow]note:[/yellow] {escape(line)}", soft_wrap=True)

    assert outputs.export_dir is not None
    written = export(
        Path(save),
        outputs.export,
        outputs.export_dir,
        min_duration=outputs.min_duration,
        body_model=settings.body_model,
        overwrite=outputs.overwrite,
        keep=keep,
        note=note,
    )
    for path in written:
        console.print(f"wrote {escape(str(path))}", soft_wrap=True)
    return written


def play(
    file: Path,
    *,
    video: Path | None = None,
    out: Path | None = None,
    view: bool | None = None,
    body_model: Path | None = None,
    screenshot: Path | None = None,
    overwrite: bool = False,
    loop: bool = False,
    draw: str | None = None,
    mirror: bool = False,
    verbose: bool = False,
) -> int:
    """What `rtpose replay` does; return the exit code. verbose: with a table of the stages. See `replay.replay`."""
    console, control = for_messages(), Control()
    with _interrupts(control), locked(out, screenshot):
        report = replay(
            file,
            video=video,
            out=out,
            view=view,
            body_model=body_model,
            screenshot=screenshot,
            overwrite=overwrite,
            loop=loop,
            parts=parts_named(draw),
            mirror=mirror,
            control=control,
        )
    console.print(summary(report))
    if verbose:
        console.print(stage_table(report))
    for path in (out, screenshot):
        if path is not None and report.frames:
            console.print(f"wrote {escape(str(path))}", soft_wrap=True)
    if report.ended_early is not None:
        raise report.ended_early
    return INTERRUPTED if control.interrupted else 0


def with_preset(name: str, chosen: dict[str, str], *, checkpoint: Path | None = None) -> dict[str, str]:
    """The networks of a preset, as fields of `Settings`, except where `chosen` names others. `paper`: YOLOv3, PoseNet, the paper's
    regression of ankles, and HMR where there is a checkpoint.

    Raises InputError for an unknown preset, and where the user has not imported a YOLOv3 nor chosen another detector.
    """
    if name != "paper":
        raise InputError(f"unknown preset {name!r}: there is paper")
    networks = {"keypoints": "posenet", "ankles": "paper", **({} if checkpoint is None else {"lifter": "hmr"}), **chosen}
    if "detector" in networks:
        return networks
    detectors = {model.name for model in models().values() if model.task == "detector" and model.decoder.startswith("yolov3 ")}
    if not detectors:
        raise InputError(
            "--preset paper needs a YOLOv3 of yours: rtpose models import-darknet yolov3.cfg yolov3.weights"
            " (or yolov3-tiny); or give --detector"
        )
    # The full network where there is one, else the tiny one, else what else there is.
    best = min(detectors, key=lambda found: (found != "yolov3", found != "yolov3-tiny", found))
    return {"detector": best, **networks}


def evaluate(
    annotations: Path,
    pictures: Path,
    settings: Settings,
    *,
    sheet: Path | None = None,
    save: Path | None = None,
) -> int:
    """What `rtpose evaluate` does; return the exit code. A detector called "labels" stands for the labelled boxes."""
    for path, endings in ((sheet, (".png", ".jpg", ".jpeg")), (save, (".json",))):
        if path is not None:
            check_output(path, endings, overwrite=True, source=annotations)
    names = {"detector": settings.detector, "keypoints": settings.keypoints, "ankles": settings.ankles}
    chosen = {task: find(name, task) for task, name in names.items() if name not in ("none", "labels")}
    for model in chosen.values():
        verify(model)

    def session(task: str) -> Session:
        threads = settings.threads or processors()
        return open_session(chosen[task].path, backend=settings.backend, precision=settings.precision, threads=threads)

    detector = Detector(session("detector"), chosen["detector"].decoder) if "detector" in chosen else None
    keypoints = KeypointEstimator(session("keypoints"), chosen["keypoints"].decoder)
    weights = None
    if "ankles" in chosen:
        weights = read_weights(chosen["ankles"].path, chosen["ankles"].decoder, chosen["keypoints"].decoder)
    figures = score(
        annotations, pictures, keypoints.estimate, find=None if detector is None else detector.detect, ankles=weights, sheet=sheet
    )
    if save is not None:
        save_figures(save, {"networks": names, **figures})
    print_tables(figures, for_output())
    return 0


def retrain_ankles(data: Path, out: Path, recipe: str, seed: int) -> int:
    """What `rtpose train ankles` does; return the exit code."""
    _need_torch()
    if recipe == "paper":
        from .train.paper import train_paper

        train = train_paper
    else:
        from .train.ankles import train_default as train
    with locked(out):
        put(train(data, out, seed=seed).path)
    return 0


def retrain_lifter(data: Path, out: Path, steps: int, seed: int, without: Sequence[str]) -> int:
    """What `rtpose train lifter` does; return the exit code."""
    _need_torch()
    from .train.lifter import train_lifter

    with locked(out):
        put(train_lifter(data, out, steps=steps, seed=seed, without=without))
    return 0


def retrain_hmr(images: Path, annotations: Path, checkpoint: Path, body_model: Path, out: Path, steps: int, seed: int) -> int:
    """What `rtpose train hmr` does; return the exit code."""
    _need_torch()
    from .train.hmr import train_hmr

    pictures = read_annotations(annotations, images)
    with locked(out):
        put(train_hmr(pictures, checkpoint, smpl_body(body_model), out, steps=steps, seed=seed).path)
    return 0


def _need_torch() -> None:
    if find_spec("torch") is None:
        raise InputError("training needs PyTorch: pip install 'rtpose[train]'")


@contextmanager
def _interrupts(control: Control) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) finishes what was read, the second drops it."""

    def heard(number: int, frame: FrameType | None) -> None:
        if control.interrupted:
            control.cancel()
        control.interrupted = True
        control.stop()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, heard) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def track(
    source: str | int | Path,
    *,
    live: bool | None = None,
    sequence: bool = False,
    refine: bool = False,
    settings: Settings | None = None,
    **changes: Any,
) -> Iterator[Result]:
    """Yield a `Result` for every frame of the source, computed ahead of you on other threads.

    source: what `rtpose SOURCE` takes, or a camera's number. live: None decides by the source. sequence: pictures follow each other.
    refine: of a video file, go through it first, and then yield results that know the future. Leaving the loop ends the run.

    settings: see `Settings`; each of its fields may also be given by itself: `track("match.mp4", track="main", tiles="3x2")`.
    target_fps and max_latency are for the command: here nothing is done less well, late frames are dropped.

    What the command says in notes at the end (interlaced or HDR video, frames that could not be read, max_people met) is logged as
    warnings of the logger "rtpose.app" when all frames are read, or the loop is left.

    Raises InputError at once for a setting that cannot be, at the first `next` for a source that cannot be read; StageError or
    EndedEarly after the last good result.
    """
    chosen = changed(settings or Settings(), changes)
    spec = source if isinstance(source, int) else str(source)
    reopen = partial(open_source, spec, sequence=sequence, deinterlace=chosen.deinterlace, playlists=chosen.allow_playlists)
    return _track_refined(reopen, live, sequence, chosen) if refine else _track(reopen, live, sequence, chosen)


def _signature() -> inspect.Signature:
    """That of `track` as `help` and notebooks show it: with every field of `Settings`."""
    own = inspect.signature(track)
    by_name = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(Settings)
        if field.name not in ("target_fps", "max_latency")
    ]
    return own.replace(parameters=[*list(own.parameters.values())[:-1], *by_name])


track.__signature__ = _signature()  # type: ignore[attr-defined]


def _track(reopen: Callable[[], InfoSource], live: bool | None, sequence: bool, chosen: Settings) -> Iterator[Result]:
    opened = reopen()
    feed: Channel[Result] = Channel(2)
    control = Control()
    ended: list[BaseException | Report] = []
    try:
        check_use(chosen, opened.info, live=opened.info.live if live is None else live, sequence=sequence)
        opened, live = _paced(opened, live)
        stages = make_stages(Networks(chosen, opened.info), opened.info)
    except BaseException:
        opened.close()
        raise

    def work() -> None:
        try:
            ended.append(run(opened, stages, [_Feed(feed)], live=live, control=control))
        except BaseException as error:
            ended.append(error)
        finally:
            feed.close()

    thread = threading.Thread(target=work, name="rtpose-track", daemon=True)
    thread.start()
    try:
        while True:
            try:
                check_not_forked()
                yield feed.get()
            except Closed:
                break
    finally:
        control.cancel()
        feed.cancel()
        thread.join()
        _log_notes([*opened.notes, *notes_of(stages)])
    outcome = ended[0]
    if isinstance(outcome, BaseException):
        raise outcome
    if outcome.ended_early is not None:
        raise outcome.ended_early


def _track_refined(reopen: Callable[[], InfoSource], live: bool | None, sequence: bool, settings: Settings) -> Iterator[Result]:
    source = reopen()
    if live or not _is_file(source.info) or settings.lifter == "hmr":
        source.close()
        raise InputError(f"{source.name} cannot be refined: only results of a video file, not live, without hmr")
    check_use(settings, source.info, live=False, sequence=sequence)
    networks = Networks(settings, source.info)
    second = second_pass(Outputs(), networks, source.info, reopen)
    stages = make_stages(networks, source.info, refined=True)
    try:
        report = run(source, stages, [second.sink])
        _log_notes([*source.notes, *notes_of(stages)])
        if report.frames:
            yield from second.results()
    finally:
        second.close()
    if report.ended_early is not None:
        raise report.ended_early


def _log_notes(notes: Sequence[str]) -> None:
    for note in notes:
        _log.warning("%s", note)


class _Feed:
    """The sink behind `track`: hands results to the caller's loop."""

    name = "caller"
    latest = False
    main_thread = False

    def __init__(self, channel: Channel[Result]) -> None:
        self._channel = channel

    def write(self, result: Result) -> None:
        self._channel.put(result)

    def close(self) -> None:
        pass

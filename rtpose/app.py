"""Wires source, stages and sinks into a run: the only module that knows them all."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial, wraps
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Concatenate, ParamSpec

import numpy as np
from rich.console import Console
from rich.markup import escape

from . import __version__
from .backends import Session, open_session
from .body.camera import Camera, camera_for
from .body.model import BodyModel, Lifted, load_body
from .body.smpl import open_body
from .errors import INTERRUPTED, InputError
from .evaluate import evaluate as score
from .evaluate import print_tables, read_annotations
from .export import check_before_run, export
from .governor import Governor, GovernorSink, Step
from .integrity import RESULTS, check_own
from .journal import SUFFIX, Answer, Journal, exports_of, fingerprint, run_of
from .locks import locked
from .models import find, models, verify
from .models.hmr import network_of
from .pipeline import Channel, Closed, Control, Report, Sink, Stage, run
from .refine import Interrupted
from .refine.run import SecondPass
from .replay import replay
from .scope import parts_of
from .settings import Outputs, Settings
from .sinks.data import SPOOL, Provenance, open_data, read_results
from .sinks.progress import ProgressSink, summary
from .sinks.video import open_overlay
from .sinks.viewer import ViewerSink
from .sinks.window import WindowSink, check_display, display
from .source import InfoSource, Paced, SourceInfo, open_source
from .stages.ankles import Ankles, read_weights
from .stages.detect import PATIENCE, Detector, frames_between
from .stages.follow import Follow
from .stages.hmr import HmrLifter, smpl_body
from .stages.keypoints import KeypointEstimator
from .stages.lift import Lifter, check_network
from .stages.scores import Threshold
from .stages.smooth import Smoother
from .types import Boxes, Frame, People, Result

Options = ParamSpec("Options")
_Process = Callable[Concatenate[str, Settings, Outputs, Options], int]


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


class Networks:
    """The loaded networks of a run: verified models and their sessions, by task, and the body that is fitted (None: no bodies).

    Raises InputError for an unknown name, a corrupt file, a camera or a body file that cannot be.
    """

    def __init__(self, settings: Settings, info: SourceInfo) -> None:
        self.settings = settings
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

    @lru_cache(maxsize=16)
    def camera(width: int, height: int) -> Camera:
        return camera_for(width, height, focal=focal, fov=settings.fov, calibration=settings.calibration)

    camera(info.width, info.height)  # what is wrong with it is said before the work starts
    return camera


def _as_it_is(answer: Answer) -> Answer:
    return answer


def make_stages(
    networks: Networks, info: SourceInfo, keep: Callable[[Answer], Answer] = _as_it_is, *, refined: bool = False
) -> list[Stage]:
    """The stages of a run, in order, each with its networks and compiled code warm. keep: see `rtpose.journal`. refined: a second pass
    will know who is to be followed, so that nobody is left out."""
    settings, models = networks.settings, networks.models
    look_at = partial(parts_of, settings.region, settings.tiles)
    look_at(info.width, info.height)  # a region that cannot be is said before the work starts

    def fresh(keep: Callable[[Answer], Answer]) -> list[Stage]:
        stages: list[Stage] = [
            Detector(
                networks.detector,
                models["detector"].decoder,
                every=settings.detect_every or frames_between(float(info.rate)),
                patience=frames_between(float(info.rate), PATIENCE),
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
        if networks.lifter is not None and networks.lifted is not None:
            body, camera = networks.lifted.body, networks.lifted.camera
            if settings.lifter == "hmr":
                stages.append(HmrLifter(body, networks.lifter, camera, every=settings.lifter_every))
            else:
                stages.append(Lifter(body, networks.lifter, camera))
        return stages

    _warm(fresh(_as_it_is), info)
    return fresh(keep)


def _warm(stages: Sequence[Stage], info: SourceInfo) -> None:
    """Let everything be called once: the first call compiles, and a live source must not wait for that."""
    frame = Frame(0, 0.0, np.zeros((info.height, info.width, 3), np.uint8), 0)
    detector, keypoints, *later = stages
    box = np.array([[0, 0, info.width, info.height]], np.float32)
    detector(Result(frame))
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
            result = stage(result)


def savings(stages: Sequence[Stage]) -> list[Step]:
    """What a live run can save on, in the order in which it does."""
    steps, last = [], []
    for stage in stages:
        if isinstance(stage, Detector):
            steps.append(Step("looking for people half as often", partial(_set, stage, "every", 2 * stage.every, stage.every)))
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
        sinks.append(open_overlay(Path(outputs.out), info, overwrite=outputs.overwrite, lifted=networks.lifted))
    return sinks


def make_views(outputs: Outputs, networks: Networks, info: SourceInfo, live: bool) -> list[Sink]:
    """The sink that shows a window or takes a screenshot, if one is wanted."""
    view = outputs.view if outputs.view is not None else live and display()
    if view:
        check_display()
    if outputs.screenshot is not None or (view and networks.lifted is not None and find_spec("open3d") is not None):
        return [ViewerSink(networks.lifted, window=view, screenshot=outputs.screenshot, overwrite=outputs.overwrite)]
    return [WindowSink(info)] if view else []


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
    console: Console | None = None,
) -> int:
    """Run the source named by `spec` into the outputs, with progress and a closing table; return the exit code.

    A video file is gone through twice, unless `causal`: the results are refined with the future known. start, end: seconds; only that
    part of it. Everything said goes to the console, by default the standard error. Raises RtposeError with one clear line for what
    went wrong.
    """
    console = console or Console(stderr=True, highlight=False)
    if outputs.export_dir is not None:
        # Files in a folder that the interrupted run exported into are its own.
        own = outputs.resume and str(outputs.export_dir.absolute()) in exports_of(_journal_of(outputs))
        bodies = settings.lifter != "none"
        check_before_run(outputs.export, outputs.export_dir, bodies=bodies, overwrite=outputs.overwrite or own)

    def reopen() -> InfoSource:
        return open_source(spec, sequence=sequence, start=start, end=end)

    source = reopen()
    try:
        source, live = _paced(source, live)
        work = _prepare(source, reopen, settings, outputs, console, live=live, causal=causal, part=(start, end))
    except BaseException:
        source.close()
        raise
    if work is None:
        console.print(f"{escape(str(outputs.save))} is finished", soft_wrap=True)
        source.close()
        return 0
    if not work.sinks:
        console.print(
            "[yellow]note:[/yellow] nothing of this run is kept or shown: --save, --out and --view do that", soft_wrap=True
        )
    return _carry_out(work, settings, console)


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
    *,
    live: bool,
    causal: bool,
    part: tuple[float, float | None],
) -> _Work | None:
    """Everything that a run needs; None where there is nothing left to resume."""
    networks = Networks(settings, source.info)
    again = not live and _is_file(source.info)
    name = _name_run(source.info, networks, causal, part) if again else None
    if outputs.resume:
        if name is None:
            raise InputError(f"--resume goes on with a video file, which {source.name} is not, or not live")
        if _is_done(outputs, name):
            return None
        # What is there is of this very run, and is made again.
        outputs = replace(outputs, overwrite=outputs.overwrite or _journal_of(outputs).exists() or _spool_of(outputs).exists())
    second: SecondPass | None = None
    if again and not causal and bool(outputs.save or outputs.out) and _refinable(settings, console):
        second = second_pass(outputs, networks, source.info, reopen, name)
        views = make_views(outputs, networks, source.info, live)
        if views and settings.track != "all":
            console.print(
                "[yellow]note:[/yellow] the view shows the first pass, with everybody in it; --track chooses in the second"
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
    stages = make_stages(networks, source.info, keep, refined=second is not None)
    return _Work(source, live, stages, sinks, outputs, second, journal)


def _refinable(settings: Settings, console: Console) -> bool:
    if settings.lifter == "hmr":
        console.print("[yellow]note:[/yellow] bodies from pictures (hmr) are not refined: as with --causal")
    return settings.lifter != "hmr"


def _carry_out(work: _Work, settings: Settings, console: Console) -> int:
    """Run, refine, export; return the exit code."""
    source, second, outputs = work.source, work.second, work.outputs
    governor = _governor(work.stages, settings, console)
    progress = ProgressSink(None if source.info.live else source.info.frames, console)
    control = Control()
    finished = False
    try:
        with _interrupts(control):
            sinks = [*work.sinks, progress, *([governor] if work.live else [])]
            report = run(source, work.stages, sinks, live=work.live, control=control)
        for note in source.notes:
            console.print(f"[yellow]note:[/yellow] {escape(note)}", soft_wrap=True)
        console.print(summary(report))
        if second is not None and report.frames and not control.cancelled and not _refine(second, report.frames, console):
            return INTERRUPTED
        for when, what in governor.log:
            console.print(f"at {when:.1f} s: {escape(what)}")
        if outputs.export_dir is not None and outputs.save is not None and report.frames:
            _export(outputs.save, outputs.export, outputs.export_dir, settings, outputs.overwrite, console)
        finished = not control.interrupted
    finally:
        if work.journal is not None:
            work.journal.close(finished=finished)
        if second is not None and not finished and second.lasting and second.spool.exists():
            console.print(f"the causal results so far are in {escape(str(second.spool))}", soft_wrap=True)
    if report.ended_early is not None:
        raise report.ended_early
    return INTERRUPTED if control.interrupted else 0


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
    if begun is None and spool.exists():  # the journal did not get as far as to say of what it is
        with suppress(InputError):  # nor did the spool
            begun = read_results(spool)[0].run
    # Without a journal, results are those of a run that ended well.
    finished = begun is None and not journal.exists() and save.exists()
    if begun is None and save.exists():
        begun = read_results(save)[0].run
    if begun is not None and name != begun:
        raise InputError(f"{save} was made of another source or with other settings: choose another name, or say --overwrite")
    return finished


def _refine(second: SecondPass, frames: int, console: Console) -> bool:
    """The second pass; returns whether it was finished, not interrupted."""
    control, begin = Control(), time.monotonic()
    try:
        with _interrupts(control):
            refined = second.finish(control, ProgressSink(frames, console))
    except Interrupted:
        return False
    console.print(f"{refined}; {time.monotonic() - begin:.1f} s", soft_wrap=True)
    return True


def _governor(stages: Sequence[Stage], settings: Settings, console: Console) -> GovernorSink:
    steps = savings(stages)
    governor = Governor(len(steps), target=settings.target_fps, latency=settings.max_latency)
    return GovernorSink(governor, steps, processors(), lambda line: console.print(f"[yellow]note:[/yellow] {escape(line)}"))


def _export(save: str, formats: Sequence[str], folder: Path, settings: Settings, overwrite: bool, console: Console) -> None:
    def note(line: str) -> None:
        console.print(f"[yellow]note:[/yellow] {escape(line)}", soft_wrap=True)

    for path in export(Path(save), formats, folder, body_model=settings.body_model, overwrite=overwrite, note=note):
        console.print(f"wrote {escape(str(path))}", soft_wrap=True)


def play(
    file: Path,
    *,
    video: Path | None = None,
    out: Path | None = None,
    view: bool | None = None,
    body_model: Path | None = None,
    screenshot: Path | None = None,
    overwrite: bool = False,
) -> int:
    """What `rtpose replay` does; return the exit code. See `replay.replay`."""
    console, control = Console(stderr=True, highlight=False), Control()
    with _interrupts(control), locked(out, screenshot):
        report = replay(
            file,
            video=video,
            out=out,
            view=view,
            body_model=body_model,
            screenshot=screenshot,
            overwrite=overwrite,
            control=control,
        )
    console.print(summary(report))
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
        save.write_text(json.dumps({"networks": names, **figures}, indent=1) + "\n", encoding="utf-8")
    print_tables(figures, Console())
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
        print(train(data, out, seed=seed).path)
    return 0


def retrain_lifter(data: Path, out: Path, steps: int, seed: int, without: Sequence[str]) -> int:
    """What `rtpose train lifter` does; return the exit code."""
    _need_torch()
    from .train.lifter import train_lifter

    with locked(out):
        print(train_lifter(data, out, steps=steps, seed=seed, without=without))
    return 0


def retrain_hmr(images: Path, annotations: Path, checkpoint: Path, body_model: Path, out: Path, steps: int, seed: int) -> int:
    """What `rtpose train hmr` does; return the exit code."""
    _need_torch()
    from .train.hmr import train_hmr

    pictures = read_annotations(annotations, images)
    with locked(out):
        print(train_hmr(pictures, checkpoint, smpl_body(body_model), out, steps=steps, seed=seed).path)
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
    source: str | int | Path, *, live: bool | None = None, sequence: bool = False, refine: bool = False, **settings: Any
) -> Iterator[Result]:
    """Yield a `Result` for every frame of the source, computed ahead of you on other threads.

    source: what `rtpose SOURCE` takes, or a camera's number. live: None decides by the source. refine: of a video file, go through
    it first, and then yield results that know the future. settings: fields of `Settings`. Leaving the loop ends the run.
    Raises InputError at the first `next`, StageError or EndedEarly after the last good result.
    """
    if refine:
        yield from _track_refined(lambda: open_source(str(source), sequence=sequence), live, Settings(**settings))
        return
    opened = open_source(str(source), sequence=sequence)
    feed: Channel[Result] = Channel(2)
    control = Control()
    ended: list[BaseException | Report] = []
    try:
        chosen = Settings(**settings)
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
                yield feed.get()
            except Closed:
                break
    finally:
        control.cancel()
        feed.cancel()
        thread.join()
    outcome = ended[0]
    if isinstance(outcome, BaseException):
        raise outcome
    if outcome.ended_early is not None:
        raise outcome.ended_early


def _track_refined(reopen: Callable[[], InfoSource], live: bool | None, settings: Settings) -> Iterator[Result]:
    source = reopen()
    if live or not _is_file(source.info) or settings.lifter == "hmr":
        source.close()
        raise InputError(f"{source.name} cannot be refined: only results of a video file, not live, without hmr")
    networks = Networks(settings, source.info)
    second = second_pass(Outputs(), networks, source.info, reopen)
    try:
        report = run(source, make_stages(networks, source.info, refined=True), [second.sink])
        if report.frames:
            yield from second.results()
    finally:
        second.close()
    if report.ended_early is not None:
        raise report.ended_early


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

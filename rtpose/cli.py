"""The command line: arguments only; what they set going lives in `app`, `doctor` and `models`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Group, Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import __version__
from .errors import INTERRUPTED, RtposeError
from .settings import Outputs, Settings
from .train import HMR_STEPS, LIFTER_STEPS

app = App(
    name="rtpose",
    version=__version__,
    help_format="plaintext",
    help="People in a camera, a stream or a video as 2D keypoints, 3D joints and body meshes, in real time.",
    default_parameter=Parameter(negative=()),
    help_epilogue="Examples:\n\n"
    "  rtpose --camera 0                                        a live window\n\n"
    "  rtpose match.mp4 --out overlay.mp4 --save match.jsonl    a video, a drawn copy, the data\n\n"
    "  rtpose rtsp://camera.local/stream --save people.jsonl    a network camera\n\n"
    "  rtpose 'photos/*.jpg' --out drawn/                       pictures",
)
INPUT = Group("Input", sort_key=1)
OUTPUT = Group("Output", sort_key=2)
WHO = Group("Who and where", sort_key=3)
NETWORKS = Group("Networks", sort_key=4)
BODIES = Group("Bodies", sort_key=5)
SPEED = Group("Speed", sort_key=6)

Format = Literal["bvh", "glb", "trc", "csv", "coco", "npz"]


def _say(message: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(message)


def _note(message: str) -> None:
    _say(f"[yellow]note:[/yellow] {escape(message)}")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column in ("MB", "s") else "left", overflow="fold")
    return table


@app.default
def track(
    source: Annotated[
        str | None,
        Parameter(
            group=INPUT,
            help="A video file, a stream (rtsp://, http://, udp://), a picture, a folder or glob of pictures, a camera's"
            " number, or a GStreamer pipeline.",
        ),
    ] = None,
    /,
    *,
    camera: Annotated[int | None, Parameter(group=INPUT, help="The camera with this number.")] = None,
    live: Annotated[
        bool | None,
        Parameter(
            negative="--offline",
            group=INPUT,
            help="Live: the newest frame matters and late ones are dropped, as for cameras and streams. Offline: every"
            " frame is processed, as for files.",
        ),
    ] = None,
    sequence: Annotated[
        bool, Parameter(group=INPUT, help="The pictures are frames of one scene, not independent of each other.")
    ] = False,
    start: Annotated[
        str | None, Parameter(group=INPUT, help="Begin so far into a video file: seconds, or h:mm:ss. Frames keep their times.")
    ] = None,
    end: Annotated[str | None, Parameter(group=INPUT, help="End so far into it.")] = None,
    causal: Annotated[
        bool,
        Parameter(
            group=INPUT,
            help="Of a video file, keep what is known at each frame. By default it is gone through again and refined: smooth"
            " without lag, gaps bridged, one shape a person.",
        ),
    ] = False,
    out: Annotated[
        str | None, Parameter(group=OUTPUT, help="Write the frames with people drawn in: a video file, or a folder for pictures.")
    ] = None,
    save: Annotated[
        str | None,
        Parameter(
            group=OUTPUT,
            allow_leading_hyphen=True,
            help="Write the results as JSON Lines (.jsonl; - is the standard output) or arrays (.npz).",
        ),
    ] = None,
    view: Annotated[
        bool | None,
        Parameter(negative="--no-view", group=OUTPUT, help="Show a window. On for live sources where there is a display."),
    ] = None,
    overwrite: Annotated[bool, Parameter(group=OUTPUT, help="Replace output files that exist.")] = False,
    resume: Annotated[
        bool,
        Parameter(
            group=OUTPUT,
            help="Go on with a run over a video file that was cut off, as if it had not been; after one that was finished, do nothing.",
        ),
    ] = False,
    screenshot: Annotated[
        Path | None, Parameter(group=OUTPUT, help="Write the last view of the bodies as a picture; needs no display.")
    ] = None,
    export: Annotated[
        list[Format] | None,
        Parameter(
            group=OUTPUT,
            consume_multiple=True,
            help="At the end, write the results for other programs into --out-dir: one format or more, as rtpose export does.",
        ),
    ] = None,
    out_dir: Annotated[
        Path | None, Parameter(group=OUTPUT, help="The folder for --export; without --save it gets the results file, too.")
    ] = None,
    preset: Annotated[
        Literal["paper"] | None,
        Parameter(
            group=NETWORKS,
            help="The paper's own: your YOLOv3 (see models import-darknet), PoseNet, its regression of ankles, HMR with your --checkpoint.",
        ),
    ] = None,
    detector: Annotated[str | None, Parameter(group=NETWORKS, help=f"What finds people; by default {Settings.detector}.")] = None,
    keypoints: Annotated[
        str | None,
        Parameter(group=NETWORKS, help=f"What finds their joints: movenet-thunder, posenet; by default {Settings.keypoints}."),
    ] = None,
    ankles: Annotated[
        str | None, Parameter(group=NETWORKS, help=f"What corrects ankles: default, paper, none; by default {Settings.ankles}.")
    ] = None,
    min_pose_score: Annotated[
        float, Parameter(group=NETWORKS, help="Leave out people whose keypoints have less confidence, on average.")
    ] = Settings.min_pose_score,
    min_keypoint_score: Annotated[
        float, Parameter(group=NETWORKS, help="Leave out keypoints of less confidence.")
    ] = Settings.min_keypoint_score,
    lifter: Annotated[
        str | None,
        Parameter(
            group=NETWORKS,
            help=f"What makes bodies: lifter (from joints), hmr (from the picture), none; by default {Settings.lifter}.",
        ),
    ] = None,
    checkpoint: Annotated[Path | None, Parameter(group=NETWORKS, help="For hmr: a checkpoint of SPIN's HMR (.pt).")] = None,
    lifter_every: Annotated[
        int, Parameter(group=SPEED, help="For hmr: look at a person in every so-many-th frame, and follow the joints between.")
    ] = Settings.lifter_every,
    backend: Annotated[
        str, Parameter(group=NETWORKS, help="What runs the networks: auto, openvino, onnxruntime, tensorrt, tensorrt_rtx.")
    ] = "auto",
    precision: Annotated[
        str,
        Parameter(
            group=NETWORKS,
            help="auto, f32, bf16, int8 (the keypoint network, at .002 of AR; the detector as auto), or f16 on a GPU. auto is bf16 where"
            " the processor computes it natively, int8 there for people who are followed, for hmr f32.",
        ),
    ] = "auto",
    track: Annotated[
        str,
        Parameter(
            group=WHO,
            help="Who is in the outputs: all, main (who takes part most over the whole file: players, not spectators), or numbers of"
            " people as an earlier run gave them: 1,4.",
        ),
    ] = Settings.track,
    region: Annotated[
        str | None,
        Parameter(
            group=WHO,
            allow_leading_hyphen=True,
            help="Look for people only there: X0,Y0,X1,Y1 in px of the picture, or percentages such as 0%,20%,100%,100%.",
        ),
    ] = None,
    tiles: Annotated[
        str,
        Parameter(
            group=WHO,
            help="Look for small people in overlapping parts of the picture, too: auto, how many, or columns and rows such as 3x2.",
        ),
    ] = Settings.tiles,
    focal: Annotated[float | None, Parameter(group=BODIES, help="The camera's focal length in px.")] = None,
    fov: Annotated[float | None, Parameter(group=BODIES, help="Its field of view across the longer side, degrees.")] = None,
    calibration: Annotated[
        Path | None, Parameter(group=BODIES, help="A calibration file (JSON, or OpenCV's or ROS's YAML).")
    ] = None,
    body_model: Annotated[
        Path | None, Parameter(group=BODIES, help="An SMPL file of yours in place of the bundled body; hmr needs one.")
    ] = None,
    threads: Annotated[int, Parameter(group=SPEED, help="Threads for all networks together; 0 takes every processor.")] = 0,
    detect_every: Annotated[
        int | None,
        Parameter(
            group=SPEED,
            help="Look for new people in every so-many-th frame; by default five times a second, less often while nothing else moves.",
        ),
    ] = None,
    keypoints_every: Annotated[
        int, Parameter(group=SPEED, help="Look at the people themselves in every so-many-th frame, and predict them between.")
    ] = Settings.keypoints_every,
    max_people: Annotated[int, Parameter(group=SPEED, help="Follow so many people at most.")] = Settings.max_people,
    target_fps: Annotated[
        float, Parameter(group=SPEED, help="Live: with fewer results a second, though more frames come, do less, step by step.")
    ] = Settings.target_fps,
    max_latency: Annotated[float, Parameter(group=SPEED, help="Live: the same where results are older than so many ms.")] = 1e3
    * Settings.max_latency,
) -> int:
    """Track the people of SOURCE."""
    from .app import process, with_preset
    from .source import seconds_of

    named = {"detector": detector, "keypoints": keypoints, "ankles": ankles, "lifter": lifter}
    networks = {task: name for task, name in named.items() if name is not None}
    if preset is not None:
        networks = with_preset(preset, networks, checkpoint=checkpoint)
    if preset == "paper" and "lifter" not in networks:
        _say("[yellow]note:[/yellow] bodies come from the default lifter: there is no HMR checkpoint")
    settings = Settings(
        **networks,
        checkpoint=checkpoint,
        lifter_every=lifter_every,
        min_pose_score=min_pose_score,
        min_keypoint_score=min_keypoint_score,
        backend=backend,
        precision=precision,
        threads=threads,
        detect_every=detect_every,
        keypoints_every=keypoints_every,
        max_people=max_people,
        track=track,
        region=region,
        tiles=tiles,
        focal=focal,
        fov=fov,
        calibration=calibration,
        body_model=body_model,
        target_fps=target_fps,
        max_latency=max_latency / 1e3,
    )
    if (source is None) == (camera is None):
        raise CycloptsError(msg="say what to track: a SOURCE or --camera N, not both (rtpose --help)")
    outputs = Outputs(
        out=out,
        save=save,
        view=view,
        screenshot=screenshot,
        overwrite=overwrite,
        resume=resume,
        export=tuple(export or ()),
        export_dir=out_dir,
    )
    return process(
        source if source is not None else str(camera),
        settings,
        outputs,
        live=live,
        sequence=sequence,
        causal=causal,
        start=0.0 if start is None else seconds_of(start),
        end=None if end is None else seconds_of(end),
    )


@app.command
def batch(
    *files: Path,
    out_dir: Path,
    arrays: bool = False,
    overlay: bool = False,
    causal: bool = False,
    lifter: Literal["lifter", "none"] = "lifter",
    track: str = Settings.track,
    region: str | None = None,
    tiles: str = Settings.tiles,
    backend: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    overwrite: bool = False,
    resume: bool = False,
    on: Literal["ray"] | None = None,
    address: str | None = None,
) -> int:
    """Track the people of many video files; a file that fails is reported and does not stop the rest.

    Parameters
    ----------
    files
        The video files, or globs of them.
    out_dir
        The folder for the results, each under its file's name.
    arrays
        Write .npz in place of .jsonl.
    overlay
        Write the drawn videos, too.
    causal
        Keep what is known at each frame in place of refining.
    lifter
        What turns joints into bodies: lifter, none.
    track
        Who is in the outputs: all, main, or numbers of people.
    region
        Look for people only there: X0,Y0,X1,Y1 in px or percentages.
    tiles
        Look for small people in parts of the picture, too: auto, how many, or 3x2.
    backend
        What runs the networks.
    precision
        auto, f32, bf16, int8 or f16.
    threads
        Threads for all networks together; 0 takes every processor. On a cluster each file takes so many processors.
    overwrite
        Replace output files that exist.
    resume
        Leave files that are finished, and go on with one that was cut off.
    on
        ray: a task a file on a Ray cluster, whose machines see the same files; needs the extra 'cluster'.
    address
        The cluster's HOST:PORT; by default what RAY_ADDRESS says, else one is started on this machine.
    """
    from .batch import batch as run

    settings = Settings(
        lifter=lifter, track=track, region=region, tiles=tiles, backend=backend, precision=precision, threads=threads
    )
    return run(
        files,
        out_dir,
        settings,
        arrays=arrays,
        overlay=overlay,
        causal=causal,
        overwrite=overwrite,
        resume=resume,
        ray=on == "ray",
        address=address,
    )


@app.command
def replay(
    file: Path,
    /,
    *,
    video: Path | None = None,
    out: Path | None = None,
    view: Annotated[bool | None, Parameter(negative="--no-view")] = None,
    body_model: Path | None = None,
    screenshot: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Show saved results (.jsonl, .npz) in the viewer, or draw them into their video again.

    Parameters
    ----------
    file
        What --save wrote.
    video
        The pictures, where they are no longer at the place that the results name.
    out
        Draw into this video.
    view
        Show a window. On unless --out is given.
    body_model
        The SMPL file that the bodies were fitted with.
    screenshot
        Write the last view as a picture; needs no display.
    overwrite
        Replace output files that exist.
    """
    from .app import play

    return play(file, video=video, out=out, view=view, body_model=body_model, screenshot=screenshot, overwrite=overwrite)


@app.command(name="export")
def export_run(
    file: Path,
    /,
    *,
    to: Annotated[list[Format], Parameter(consume_multiple=True)],
    out_dir: Path,
    person: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    rate: float | None = None,
    body_model: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Write saved results (.jsonl, .npz) for other programs: Blender, OpenSim, spreadsheets. See docs/export.md.

    Parameters
    ----------
    file
        What --save wrote.
    to
        One format or more: bvh (skeleton), glb (skinned mesh), trc (OpenSim's markers), csv, coco, npz.
    out_dir
        The folder for the files; it is made if it is not there.
    person
        Only the people with these numbers.
    rate
        Frames a second of BVH and TRC; by default the median of the run's.
    body_model
        The SMPL file that the bodies were fitted with.
    overwrite
        Replace output files that exist.
    """
    from .export import export
    from .locks import locked

    with locked(out_dir):
        for path in export(file, to, out_dir, ids=person, rate=rate, body_model=body_model, overwrite=overwrite, note=_note):
            print(path)
    return 0


@app.command
def measure(
    file: Path,
    /,
    *,
    person: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    person_height: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    out_dir: Path | None = None,
    body_model: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Measure saved bodies for sport: joint angles, speeds, foot contacts, cadence, symmetry. See docs/measures.md.

    Parameters
    ----------
    file
        What --save wrote.
    person
        Only the people with these numbers.
    person_height
        Metres: 1.80, or 2=1.80 for person 2. Lengths are then in metres, as with a known camera, else in body heights.
    out_dir
        The folder for measures.json and each person's series (.csv); it is made if it is not there.
    body_model
        The SMPL file that the bodies were fitted with.
    overwrite
        Replace output files that exist.
    """
    from .locks import locked
    from .measures import measure_run, save_measures
    from .runs import read_run

    run = read_run(file)
    measured = measure_run(run, ids=person, heights=person_height or (), body_model=body_model)
    if out_dir is not None:
        with locked(out_dir):
            for path in save_measures(measured, run, out_dir, overwrite=overwrite):
                _say(f"wrote {escape(str(path))}")
    for one in measured:
        table = _table(f"person {one.id}", "measure", "value", "sd", "unit", "of")
        for name, figure in one.figures.items():
            table.add_row(name, f"{figure.value:.2f}", f"{figure.sd:.2f}", figure.unit, str(figure.count))
        Console().print(table)
    run.check_whole()
    return 0


@app.command
def report(
    *files: Path,
    out: Path,
    video: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    person: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    person_height: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    body_model: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Make a web page of one run, or of two beside each other: video, 3D bodies, curves, identities. It needs no network.

    Parameters
    ----------
    files
        What --save wrote: one file, or two.
    out
        The page (.html).
    video
        The pictures, one for each file, where they are no longer at the place that the results name.
    person
        Only the people with these numbers.
    person_height
        Metres: 1.80, or 2=1.80 for person 2.
    body_model
        The SMPL file that the bodies were fitted with.
    overwrite
        Replace a page that exists.
    """
    from .locks import locked
    from .report import report as write

    with locked(out):
        write(files, out, videos=video or (), ids=person, heights=person_height or (), body_model=body_model, overwrite=overwrite)
    print(out)
    return 0


models = App(name="models", help="The networks that are here.")
app.command(models)


@models.default
def list_models() -> int:
    """List the networks with task, licence, size and checksum, and verify their files."""
    from .models import models as registered
    from .models import verify

    table = _table("models", "name", "task", "licence", "MB", "sha256", "file")
    broken: list[str] = []
    for model in registered().values():
        try:
            verify(model)
            state = "ok"
        except RtposeError as error:
            broken.append(str(error))
            state = "[red]broken[/red]"
        table.add_row(model.name, model.task, model.licence, f"{model.size / 1e6:.1f}", model.sha256[:16], state)
    Console().print(table)
    for line in broken:
        _say(f"[red]rtpose:[/red] {escape(line)}")
    return 1 if broken else 0


@models.command
def import_darknet(cfg: Path, weights: Path, /, *, name: str | None = None, size: int | None = None) -> int:
    """Turn Darknet's YOLOv3 files (yolov3, -tiny, -spp) into a detector for --detector.

    Parameters
    ----------
    cfg
        The network's .cfg.
    weights
        Its .weights.
    name
        How it is called afterwards; by default as the .weights file.
    size
        Side of the input in px, divisible by 32; by default what the .cfg says.
    """
    from .models.darknet import import_darknet as convert

    model = convert(cfg, weights, name=name, size=size)
    _say(f"{escape(str(model.path))}: use it with --detector {escape(model.name)}")
    return 0


@app.command
def evaluate(
    annotations: Path,
    pictures: Path,
    /,
    *,
    detector: str = Settings.detector,
    keypoints: str = Settings.keypoints,
    ankles: str = Settings.ankles,
    backend: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    sheet: Path | None = None,
    save: Path | None = None,
) -> int:
    """Score networks against labelled pictures: OKS AP and AR, PCK of each joint, ankles by confidence and visibility.

    Parameters
    ----------
    annotations
        Labels of keypoints in COCO's format (JSON).
    pictures
        Folder with the pictures; those that are not there are left out.
    detector
        What finds people; "labels" takes the labelled boxes.
    keypoints
        What finds their joints.
    ankles
        What corrects ankles: default, paper, none.
    backend
        What runs the networks.
    precision
        auto, f32 or bf16.
    threads
        Threads for all networks together; 0 takes every processor.
    sheet
        Draw the worst people into this picture.
    save
        Write the figures into this file, as JSON.
    """
    from .app import evaluate as run

    settings = Settings(
        detector=detector, keypoints=keypoints, ankles=ankles, backend=backend, precision=precision, threads=threads
    )
    return run(annotations, pictures, settings, sheet=sheet, save=save)


train = App(name="train", help="Train the small networks again; needs the extra 'train'.")
app.command(train)


@train.command(name="ankles")
def train_ankles(*, data: Path, out: Path, recipe: Literal["default", "paper"] = "default", seed: int = 0) -> int:
    """Train the networks that correct ankles.

    Parameters
    ----------
    data
        Folder with coco_keypoints and coco_images.
    out
        Folder for weights, card, curves and tables; a run that was stopped goes on from what is there.
    recipe
        Ours, or the paper's four networks.
    seed
        Of everything random.
    """
    from .app import retrain_ankles

    return retrain_ankles(data, out, recipe, seed)


@train.command(name="lifter")
def train_lifter(*, data: Path, out: Path, steps: int = LIFTER_STEPS, seed: int = 0, without: tuple[str, ...] = ()) -> int:
    """Train the network that turns joints into bodies.

    Parameters
    ----------
    data
        Folder with mocap, coco_keypoints and coco_images.
    out
        Folder for weights, card and curve; a run that was stopped goes on from what is there.
    steps
        How many batches.
    seed
        Of everything random.
    without
        To see what it is worth: wild (people of COCO), poses (theirs, seen from elsewhere), renders (drawn people), window (all moments
        but now), errors (measured ones).
    """
    from .app import retrain_lifter

    return retrain_lifter(data, out, steps, seed, without)


@train.command(name="hmr")
def train_hmr(
    *, images: Path, annotations: Path, checkpoint: Path, body_model: Path, out: Path, steps: int = HMR_STEPS, seed: int = 0
) -> int:
    """Fine-tune HMR on pictures with labelled joints, by re-projection.

    Parameters
    ----------
    images
        Folder with the pictures.
    annotations
        Labels of their keypoints in COCO's format (JSON).
    checkpoint
        What to begin with: a checkpoint of SPIN's HMR.
    body_model
        An SMPL file.
    out
        Folder for the checkpoint, its card and the curve; a run that was stopped goes on from what is there.
    steps
        How many batches.
    seed
        Of everything random.
    """
    from .app import retrain_hmr

    return retrain_hmr(images, annotations, checkpoint, body_model, out, steps, seed)


engines = App(name="engines", help="Engines for NVIDIA GPUs: compile networks with TensorRT, list, check and remove them.")
app.command(engines)


@engines.command
def build(*names: str, precision: str = "auto", targets: str = "") -> int:
    """Compile engines for the GPU at hand or, with --targets, for those of other machines (TensorRT-RTX only; no GPU needed here).

    Parameters
    ----------
    names
        Networks; all that have a recipe and weights, if none is named.
    precision
        auto (the recipe's usual one), f16, f32, or all.
    targets
        GPU generations to build for ahead of time, as sm86,sm89,sm120.
    """
    from .backends.tensorrt import build_engines

    table = _table("engines", "network", "precision", "for", "MB", "s", "")
    for built in build_engines(names, precision=precision, targets=tuple(t for t in targets.split(",") if t), say=_say):
        if built.skipped:
            table.add_row(built.network, "", "", "", "", escape(f"skipped, {built.skipped}"))
        else:
            seconds = "" if built.seconds is None else f"{built.seconds:.1f}"
            state = "was there" if built.seconds is None else "built"
            table.add_row(built.network, built.precision, " ".join(built.targets), f"{built.size / 1e6:.1f}", seconds, state)
    Console().print(table)
    return 0


@engines.command(name="list")
def list_engines() -> int:
    """List the engines in the cache, and what their self-check measured."""
    from .engines import Store

    store = Store()
    table = _table(f"engines in {store.folder}", "network", "precision", "runtime", "for", "MB", "self-check")
    for entry in store.entries():
        key = entry.key
        figures = "not yet" if entry.figures is None else ", ".join(f"{k} {v:.3g}" for k, v in entry.figures.items())
        place = " ".join((*key["targets"], key["gpu"]))
        runtime = f"{key['flavour']} {key['version']}"
        table.add_row(key["network"], key["precision"], runtime, place, f"{entry.size / 1e6:.1f}", figures)
    if table.rows:
        Console().print(table)
    else:
        _say(f"no engines in {escape(str(store.folder))}: rtpose engines build makes them")
    return 0


@engines.command
def check(*names: str) -> int:
    """Run engines on the GPU at hand against f32 results, as on first use, and show how far they are from them.

    Parameters
    ----------
    names
        Networks; all that have a recipe and weights, if none is named.
    """
    from .backends.tensorrt import check_engines

    table = _table("self-check", "network", "precision", "measure", "found", "at most")
    for recipe, precision, figures in check_engines(names):
        for measure, value in figures.items():
            table.add_row(recipe.network, precision, measure, f"{value:.3g}", f"{recipe.bounds.get(measure, 0.0):.3g}")
    Console().print(table)
    return 0


@engines.command
def clean() -> int:
    """Remove every engine from the cache."""
    from .engines import Store

    store = Store()
    _say(f"freed {store.clean() / 1e6:.1f} MB in {store.folder}")
    return 0


@app.command
def bench(
    source: str | None = None,
    /,
    *,
    sweep: tuple[Literal["people", "resolution", "threads", "backend", "precision"], ...] = (),
    json: Path | None = None,
    compare: Path | None = None,
    report: Path | None = None,
    seconds: float = 10.0,
    repeats: int = 5,
    backend: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    detect_every: int | None = None,
    lifter: str = Settings.lifter,
) -> int:
    """Measure how fast a run is here, offline and live, what each stage costs, and how old results are when they arrive.

    Parameters
    ----------
    source
        A video; by default the bundled reference clip, which shows two people.
    sweep
        Measure also over people (1 to 12), resolution (480p to 4K), threads, backend, or precision; may be repeated.
    json
        Write the figures into this file.
    compare
        Show ratios to an earlier --json.
    report
        Write a page with plots (.html) that needs no network.
    seconds
        Of the live measurement.
    repeats
        How often the offline run is repeated; the median counts.
    backend
        What runs the networks.
    precision
        auto, f32, bf16 or int8.
    threads
        Threads for all networks together; 0 takes every processor.
    detect_every
        Look for new people in every so-many-th frame.
    lifter
        What turns joints into bodies: lifter, none.
    """
    from .bench import bench as run

    settings = Settings(backend=backend, precision=precision, threads=threads, detect_every=detect_every, lifter=lifter)
    return run(source, settings, sweeps=sweep, seconds=seconds, repeats=repeats, save=json, compare=compare, page=report)


@app.command
def simulate(
    *,
    stages: str | None = None,
    measured: Path | None = None,
    cameras: int = 1,
    rate: float = 30.0,
    cores: float = 2.0,
    devices: str = "",
    machines: int = 1,
    transfer: float = 0.0,
    factor: float = 1.0,
    seconds: float = 60.0,
    json: Path | None = None,
) -> int:
    """Say what ages and drops to expect of live runs elsewhere, or of many cameras, from stage times, on a virtual clock.

    Parameters
    ----------
    stages
        Assumed times, NAME=MS[/EVERY][xCORES][@DEVICE] with commas: source=1,detect=11/6x2,keypoints=9x2,lift=1.6
    measured
        Or those in a file of rtpose bench --json.
    cameras
        How many there are; each has stages of its own.
    rate
        Frames a second of each.
    cores
        Of each machine's processor.
    devices
        What else each machine has, as gpu=1.
    machines
        The cameras are dealt out to so many.
    transfer
        ms that the splitter before them takes for a frame.
    factor
        All stage times are multiplied by it: another machine's speed.
    seconds
        Of virtual time.
    json
        Write the figures into this file.
    """
    from .simulate import Plan, measured_stages, parse_stages, scaled, show

    if (stages is None) == (measured is None):
        raise CycloptsError(msg="say how long stages take: --stages or --measured, not both (rtpose simulate --help)")
    work = parse_stages(stages) if stages is not None else measured_stages(measured or Path())
    more = {s.name: s.seconds[0] * 1e3 for s in parse_stages(devices)} if devices else {}
    plan = Plan(scaled(work, factor), cameras, rate, {"cpu": cores, **more}, machines, transfer / 1e3, seconds)
    return show(plan, json)


@app.command
def doctor(*, selfcheck: bool = False) -> int:
    """Say what is installed, which backends, precisions, cameras and displays there are, and what to do about what is missing.

    Parameters
    ----------
    selfcheck
        Also run every backend on a rendered clip whose truth is known, and say whether people and bodies are right.
    """
    from .doctor import examine

    return examine(check=selfcheck)


for _name in app:
    app[_name].help_epilogue = ""  # the examples are of runs, not of the other commands


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        code = app(sys.argv[1:], exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _say(f"[red]rtpose:[/red] {escape(' '.join(str(error).split()))}")
        code = 2
    except RtposeError as error:
        _say(f"[red]rtpose:[/red] {escape(' '.join(str(error).split()))}")
        code = error.exit_code
    except BrokenPipeError:
        code = 1
    except KeyboardInterrupt:  # before the run began, or after it
        code = INTERRUPTED
    sys.exit(code)

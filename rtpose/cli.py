"""The command line: arguments only; what they set going lives in `app`, `doctor` and `models`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter, UnusedCliTokensError
from rich.markup import escape
from rich.table import Table

from . import __version__
from .errors import INTERRUPTED, InputError, RtposeError
from .settings import PARTS, Deinterlace, Outputs, Settings, parts_named
from .terminal import flush, for_output, put, say, say_error, say_unexpected, set_up
from .train import HMR_STEPS, LIFTER_STEPS

app = App(
    name="rtpose",
    version=__version__,
    console=for_output(),
    help_format="plaintext",
    help="People in a camera, a stream or a video as 2D keypoints, 3D joints and body meshes, in real time.",
    default_parameter=Parameter(negative=()),
    help_epilogue="Examples:\n\n"
    "  rtpose --camera 0                                       a live window\n\n"
    "  rtpose match.mp4 --out drawn.mp4 --save match.jsonl     a drawn copy, data\n\n"
    "  rtpose rtsp://camera.local/stream --save people.jsonl   a network camera\n\n"
    "  rtpose 'photos/*.jpg' --out drawn/                      pictures",
)
INPUT = Group("Input", sort_key=1)
OUTPUT = Group("Output", sort_key=2)
WHO = Group("Who and where", sort_key=3)
NETWORKS = Group("Networks", sort_key=4)
BODIES = Group("Bodies", sort_key=5)
SPEED = Group("Speed", sort_key=6)

Format = Literal["bvh", "glb", "trc", "csv", "coco", "npz"]


def _note(message: str) -> None:
    say(f"[yellow]note:[/yellow] {escape(message)}")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column in ("MB", "s") else "left", overflow="fold")
    return table


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What a run over a file can be told that is no field of `Settings`: which part of it, how, and what happens to files of earlier runs.

    Every option of runs is defined once: here, in `SettingsOptions`, or, where `batch` does not have it, in `track`.
    """

    start: Annotated[
        str | None, Parameter(group=INPUT, help="Begin so far into a video file: seconds, or h:mm:ss. Frames keep their times.")
    ] = None
    end: Annotated[str | None, Parameter(group=INPUT, help="End so far into it.")] = None
    causal: Annotated[
        bool,
        Parameter(
            group=INPUT,
            help="Of a video file, keep what is known at each frame. By default it is gone through again and refined: smooth"
            " without lag, gaps bridged, one shape a person.",
        ),
    ] = False
    overwrite: Annotated[bool, Parameter(group=OUTPUT, help="Replace output files that exist.")] = False
    resume: Annotated[
        bool,
        Parameter(
            group=OUTPUT,
            help="Go on with a run over a video file that was cut off, as if it had not been; of one that was finished, write the"
            " outputs that are not there yet.",
        ),
    ] = False
    draw: Annotated[
        str | None,
        Parameter(group=OUTPUT, help=f"What is drawn, with commas between: some of {','.join(PARTS)}; by default all."),
    ] = None
    export: Annotated[
        list[Format] | None,
        Parameter(
            group=OUTPUT,
            consume_multiple=True,
            help="At the end, write the results for other programs into --out-dir: one format or more, as rtpose export does.",
        ),
    ] = None
    min_duration: Annotated[
        float | None,
        Parameter(
            group=OUTPUT,
            help="For --export: whoever is seen for fewer seconds gets no BVH, GLB or TRC; by default 0.5, for pictures 0.",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.overwrite and self.resume:
            raise InputError("--resume keeps what an earlier run wrote, and --overwrite replaces it: give one of them")

    def part(self) -> tuple[float, float | None]:
        """Where to begin and to end, seconds."""
        from .source import seconds_of

        return 0.0 if self.start is None else seconds_of(self.start), None if self.end is None else seconds_of(self.end)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SettingsOptions:
    """The options that become a `Settings`: each, but for the preset, has the name of its field there."""

    preset: Annotated[
        Literal["paper"] | None,
        Parameter(
            group=NETWORKS,
            help="The paper's own: your YOLOv3 (see models import-darknet), PoseNet, its regression of ankles, HMR with your --checkpoint.",
        ),
    ] = None
    detector: Annotated[str | None, Parameter(group=NETWORKS, help=f"What finds people; by default {Settings.detector}.")] = None
    keypoints: Annotated[
        str | None,
        Parameter(group=NETWORKS, help=f"What finds their joints: movenet-thunder, posenet; by default {Settings.keypoints}."),
    ] = None
    ankles: Annotated[
        str | None, Parameter(group=NETWORKS, help=f"What corrects ankles: default, paper, none; by default {Settings.ankles}.")
    ] = None
    min_pose_score: Annotated[
        float, Parameter(group=NETWORKS, help="Leave out people whose keypoints have less confidence, on average.")
    ] = Settings.min_pose_score
    min_keypoint_score: Annotated[float, Parameter(group=NETWORKS, help="Leave out keypoints of less confidence.")] = (
        Settings.min_keypoint_score
    )
    lifter: Annotated[
        str | None,
        Parameter(
            group=NETWORKS,
            help=f"What makes bodies: lifter (from joints), hmr (from the picture), none; by default {Settings.lifter}.",
        ),
    ] = None
    checkpoint: Annotated[Path | None, Parameter(group=NETWORKS, help="For hmr: a checkpoint of SPIN's HMR (.pt).")] = None
    lifter_every: Annotated[
        int, Parameter(group=SPEED, help="For hmr: look at a person in every so-many-th frame, and follow the joints between.")
    ] = Settings.lifter_every
    backend: Annotated[
        str, Parameter(group=NETWORKS, help="What runs the networks: auto, openvino, onnxruntime, tensorrt, tensorrt_rtx.")
    ] = "auto"
    precision: Annotated[
        str,
        Parameter(
            group=NETWORKS,
            help="auto, f32, bf16, int8 (the keypoint network, at .002 of AR; the detector as auto), or f16 on a GPU. auto is bf16 where"
            " the processor computes it natively, int8 there for people who are followed, for hmr f32.",
        ),
    ] = "auto"
    track: Annotated[
        str,
        Parameter(
            name=("--people", "--track"),
            group=WHO,
            help="Who is in the outputs: all, main (who takes part most over the whole file: players, not spectators), or numbers of"
            " people as an earlier run gave them: 1,4.",
        ),
    ] = Settings.track
    cuts: Annotated[
        Literal["auto", "none"],
        Parameter(
            group=WHO,
            help="Where the camera cuts, in a refined run: auto finds it, and nobody is taken for somebody of another view; none: the file"
            " is one shot.",
        ),
    ] = "auto"
    region: Annotated[
        str | None,
        Parameter(
            group=WHO,
            allow_leading_hyphen=True,
            help="Look for people only there: X0,Y0,X1,Y1 in px of the picture, or percentages such as 0%,20%,100%,100%.",
        ),
    ] = None
    tiles: Annotated[
        str,
        Parameter(
            group=WHO,
            help="Look for small people in overlapping parts of the picture, too: auto, how many, or columns and rows such as 3x2.",
        ),
    ] = Settings.tiles
    focal: Annotated[float | None, Parameter(group=BODIES, help="The camera's focal length in px of the height.")] = None
    fov: Annotated[float | None, Parameter(group=BODIES, help="Its field of view across the longer side, degrees.")] = None
    calibration: Annotated[Path | None, Parameter(group=BODIES, help="A calibration file (JSON, or OpenCV's or ROS's YAML).")] = (
        None
    )
    body_model: Annotated[
        Path | None, Parameter(group=BODIES, help="An SMPL file of yours in place of the bundled body; hmr needs one.")
    ] = None
    deinterlace: Annotated[
        Deinterlace,
        Parameter(
            group=INPUT,
            help="Make whole pictures of interlaced video: auto (where it is marked as such), on (every frame), off (none).",
        ),
    ] = "auto"
    allow_playlists: Annotated[
        bool,
        Parameter(
            group=INPUT, help="Read a local playlist (.m3u8, .sdp, ...), which makes rtpose open other files and addresses."
        ),
    ] = False
    threads: Annotated[int, Parameter(group=SPEED, help="Threads for all networks together; 0 takes every processor.")] = 0
    detect_every: Annotated[
        int | None,
        Parameter(
            group=SPEED,
            help="Look for new people in every so-many-th frame; by default five times a second, less often while nothing else moves.",
        ),
    ] = None
    keypoints_every: Annotated[
        int, Parameter(group=SPEED, help="Look at the people themselves in every so-many-th frame, and predict them between.")
    ] = Settings.keypoints_every
    max_people: Annotated[int, Parameter(group=SPEED, help="Follow so many people at most.")] = Settings.max_people

    def settings(self, **more: Any) -> Settings:
        """The settings that were chosen. more: other fields."""
        chosen = {option.name: getattr(self, option.name) for option in fields(self) if option.name != "preset"} | more
        networks = {task: chosen.pop(task) for task in ("detector", "keypoints", "ankles", "lifter")}
        networks = {task: name for task, name in networks.items() if name is not None}
        if self.preset is not None:
            from .app import with_preset

            networks = with_preset(self.preset, networks, checkpoint=self.checkpoint)
            if "lifter" not in networks:
                _note("bodies come from the default lifter: there is no HMR checkpoint")
        return Settings(**networks, **chosen)


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
    camera: Annotated[
        int | None, Parameter(group=INPUT, allow_leading_hyphen=True, help="The camera with this number, from 0 on.")
    ] = None,
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
    screenshot: Annotated[
        Path | None, Parameter(group=OUTPUT, help="Write the last view of the bodies as a picture; needs no display.")
    ] = None,
    out_dir: Annotated[
        Path | None, Parameter(group=OUTPUT, help="The folder for --export; without --save it gets the results file, too.")
    ] = None,
    mirror: Annotated[
        bool,
        Parameter(group=OUTPUT, help="Show the picture as a mirror does, for webcams; files and results are not mirrored."),
    ] = False,
    verbose: Annotated[
        bool, Parameter(group=OUTPUT, help="At the end, show what each stage did: calls, times, waiting, latency.")
    ] = False,
    target_fps: Annotated[
        float, Parameter(group=SPEED, help="Live: with fewer results a second, though more frames come, do less, step by step.")
    ] = Settings.target_fps,
    max_latency: Annotated[float, Parameter(group=SPEED, help="Live: the same where results are older than so many ms.")] = 1e3
    * Settings.max_latency,
    files: FileOptions = FileOptions(),
    options: SettingsOptions = SettingsOptions(),
) -> int:
    """Track the people of SOURCE."""
    from .app import process

    settings = options.settings(target_fps=target_fps, max_latency=max_latency / 1e3)
    if (source is None) == (camera is None):
        raise CycloptsError(msg="say what to track: a SOURCE or --camera N, not both (rtpose --help)")
    if camera is not None and camera < 0:
        raise InputError(f"--camera {camera}: cameras are numbered from 0 (rtpose doctor lists them)")
    outputs = Outputs(
        out=out,
        save=save,
        view=view,
        screenshot=screenshot,
        overwrite=files.overwrite,
        resume=files.resume,
        export=tuple(files.export or ()),
        export_dir=out_dir,
        min_duration=files.min_duration,
        draw=parts_named(files.draw),
        mirror=mirror,
    )
    start, end = files.part()
    return process(
        source if source is not None else str(camera),
        settings,
        outputs,
        live=live,
        sequence=sequence,
        causal=files.causal,
        start=start,
        end=end,
        verbose=verbose,
    )


@app.command
def batch(
    *files: Path,
    out_dir: Path,
    arrays: bool = False,
    overlay: bool = False,
    on: Literal["ray"] | None = None,
    address: str | None = None,
    file_options: FileOptions = FileOptions(),
    options: SettingsOptions = SettingsOptions(),
) -> int:
    """Track the people of many video files; a file that fails is reported and does not stop the rest.

    Parameters
    ----------
    files
        The video files, globs of them, or folders, of which all videos are taken.
    out_dir
        The folder for the results, each under its file's name; what --export writes goes into a folder of that name in it.
    arrays
        Write .npz in place of .jsonl.
    overlay
        Write the drawn videos, too.
    on
        ray: a task a file on a Ray cluster, whose machines see the same files; needs the extra 'cluster'. Each takes --threads processors.
    address
        The cluster's HOST:PORT; by default what RAY_ADDRESS says, else one is started on this machine.
    """
    from .batch import batch as run

    return run(
        files,
        out_dir,
        options.settings(),
        arrays=arrays,
        overlay=overlay,
        causal=file_options.causal,
        part=file_options.part(),
        export=file_options.export or (),
        min_duration=file_options.min_duration,
        draw=file_options.draw,
        overwrite=file_options.overwrite,
        resume=file_options.resume,
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
    loop: bool = False,
    draw: str | None = None,
    mirror: bool = False,
    verbose: bool = False,
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
    loop
        Begin again at the end, until the window is closed.
    draw
        What is drawn, with commas between: some of mesh,boxes,ids,skeleton,legend; by default all.
    mirror
        Show the picture as a mirror does; a video written with --out is not mirrored.
    verbose
        At the end, show what each stage did.
    """
    from .app import play

    return play(
        file,
        video=video,
        out=out,
        view=view,
        body_model=body_model,
        screenshot=screenshot,
        overwrite=overwrite,
        loop=loop,
        draw=draw,
        mirror=mirror,
        verbose=verbose,
    )


@app.command(name="export")
def export_run(
    file: Path,
    /,
    *,
    to: Annotated[list[Format], Parameter(consume_multiple=True)],
    out_dir: Path,
    person: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    rate: float | None = None,
    min_duration: float | None = None,
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
        Frames a second of BVH and TRC; by default the run's nominal rate.
    min_duration
        Whoever is seen for fewer seconds gets no BVH, GLB or TRC, unless named by --person; by default 0.5, for pictures 0.
    body_model
        The SMPL file that the bodies were fitted with.
    overwrite
        Replace output files that exist.
    """
    from .export import export
    from .locks import locked

    with locked(out_dir):
        written = export(
            file,
            to,
            out_dir,
            ids=person,
            rate=rate,
            min_duration=min_duration,
            body_model=body_model,
            overwrite=overwrite,
            note=_note,
        )
    for path in written:
        put(path)
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
                say(f"wrote {escape(str(path))}")
    for one in measured:
        table = _table(f"person {one.id}", "measure", "value", "sd", "unit", "of")
        for name, figure in one.figures.items():
            table.add_row(name, f"{figure.value:.2f}", f"{figure.sd:.2f}", figure.unit, str(figure.count))
        for_output().print(table)
    if not measured:
        _note(f"nobody in {file} has a body: there is nothing to measure")
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
    put(out)
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
    for_output().print(table)
    for line in broken:
        say_error(line)
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
    say(f"{escape(str(model.path))}: use it with --detector {escape(model.name)}")
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
    for built in build_engines(names, precision=precision, targets=tuple(t for t in targets.split(",") if t), say=say):
        if built.skipped:
            table.add_row(built.network, "", "", "", "", escape(f"skipped, {built.skipped}"))
        else:
            seconds = "" if built.seconds is None else f"{built.seconds:.1f}"
            state = "was there" if built.seconds is None else "built"
            table.add_row(built.network, built.precision, " ".join(built.targets), f"{built.size / 1e6:.1f}", seconds, state)
    for_output().print(table)
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
        for_output().print(table)
    else:
        say(f"no engines in {escape(str(store.folder))}: rtpose engines build makes them")
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
    for_output().print(table)
    return 0


@engines.command
def clean() -> int:
    """Remove every engine from the cache."""
    from .engines import Store

    store = Store()
    say(f"freed {store.clean() / 1e6:.1f} MB in {store.folder}")
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


def _unused(error: UnusedCliTokensError) -> str:
    """What to say of words that no command takes."""
    words = " ".join(error.unused_tokens or ())
    if error.command_chain:
        command = " ".join(error.command_chain)
        return f"rtpose {command} has no use for {words} (rtpose {command} --help)"
    return f"a run takes one source, not also {words}: rtpose batch FILES... --out-dir DIR takes many (a glob of pictures stands in quotes)"


def main() -> None:
    """Run the command line and exit with its code."""
    set_up()
    code = _code_of(lambda: app(sys.argv[1:], exit_on_error=False, print_error=False, result_action="return_value"))
    flushed = _code_of(flush)
    sys.exit(code or flushed)


def _code_of(command: Callable[[], int | None]) -> int:
    """The exit code of a command, after one line of what went wrong."""
    try:
        return command() or 0
    except UnusedCliTokensError as error:
        say_error(_unused(error))
        return 2
    except CycloptsError as error:
        say_error(str(error))
        return 2
    except RtposeError as error:
        say_error(str(error))
        return error.exit_code
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:  # before the run began, or after it
        return INTERRUPTED
    except Exception as error:
        say_unexpected(error)
        return 1

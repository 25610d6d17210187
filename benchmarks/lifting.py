"""How good the lifter is: against exact truth from motion capture, on the four annotated pictures, and on real clips.

    python benchmarks/lifting.py synthetic --mocap ../shared/data/mocap --split scored
    python benchmarks/lifting.py rendered --mocap ../shared/data/mocap --split scored
    python benchmarks/lifting.py pictures --data ../shared/data/single_frame_3d
    python benchmarks/lifting.py clips --videos ../shared/data/videos --blazepose ../shared/models/pose_landmark_full.onnx

Protocol (fixed): the clips of a split (`rtpose.train.mocap.TUNING`, on which the fit's weights are chosen, or `SCORED`, which chose and
trained nothing), at most 300 frames each, 30 frames a second; 1280x720, f = 1000 px; the pelvis 3.2 to 5 m away, azimuth uniform,
elevation .08 +- .12 rad, betas .8 normal, the seed the clip's number; 3 px of noise and 10 % of the keypoints missing, or the
noise measured on a keypoint network (`synthetic`), or the body drawn and really seen by the stages of a run (`rendered`, at most 60
frames a clip). A lifter is given what a run gives it: keypoints smoothed by `rtpose.stages.smooth`. Errors in mm about the middle
of the hips: MPJPE and PA-MPJPE (similarity, with scale) over the 12 limb keypoints and over the 22 joints; acceleration is the mean
length of the difference of second differences, mm per frame^2, over the 12.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtpose.app import Networks, make_stages, track
from rtpose.backends import open_session
from rtpose.body.camera import Camera, camera_for
from rtpose.body.initial import PREDICTED
from rtpose.body.model import JOINT_NAMES, BodyModel, load_body
from rtpose.body.raster import depth_buffer, draw_mesh
from rtpose.body.rotations import to_axis_angle, to_matrix, to_six
from rtpose.models import find
from rtpose.settings import Settings
from rtpose.source import SourceInfo
from rtpose.stages.lift import Lifter, Network, Weights
from rtpose.stages.smooth import Smoother
from rtpose.train.mocap import DUPLICATES, FPS, HELD_OUT, SCORED, TUNING, Clip, read_mocap
from rtpose.train.renders import Wardrobe, backdrop
from rtpose.train.samples import KeypointErrors
from rtpose.types import F32, F64, Frame, People, Result

LIMBS = slice(5, 17)
FOCAL, WIDTH, HEIGHT = 1000.0, 1280, 720


@dataclass
class Sequence:
    """A clip before the camera: keypoints (n, 17, 3) as observed, px and confidence; rotations (n, 22, 3) axis-angle, betas, pelvis
    (n, 3); truth: keypoints and joints (n, 39, 3) in metres, camera frame."""

    name: str
    group: str
    keypoints: F32
    rotations: F64
    betas: F64
    pelvis: F64
    truth: F64


Noise = Callable[[np.random.Generator, F64], tuple[F64, F64]]


def sequences(clips: list[Clip], body: BodyModel, noise: Noise, frames: int = 300) -> list[Sequence]:
    """Those of the clips that train nothing, each once, before the camera of the protocol."""
    made = []
    for seed, clip in enumerate(c for c in clips if c.group in HELD_OUT and c.name not in DUPLICATES):
        rng = np.random.default_rng(seed)
        n = min(len(clip), frames)
        azimuth, elevation, distance = rng.uniform(0, 2 * np.pi), rng.normal(0.08, 0.12), rng.uniform(3.2, 5)
        betas, aside = rng.normal(0, 0.8, body.betas), rng.normal(0, 0.4)
        view = to_matrix([elevation, 0, 0]) @ np.diag([1.0, -1, -1]) @ to_matrix([0, azimuth, 0])
        local = clip.rotations[:n].copy()
        local[:, 0] = view @ local[:, 0]
        middle = np.array([aside, 0, distance])
        way = np.clip((clip.root[:n] - clip.root[:n].mean(0)) @ view.T, -1.2, 1.2) + middle
        truth, rotations = np.empty((n, 39, 3)), to_axis_angle(local)
        for i in range(n):
            truth[i, :17] = body.keypoints3d(rotations[i], betas, way[i])[:17]
            truth[i, 17:] = body.pose(rotations[i], betas, way[i])[1]
        seen, confidences = noise(np.random.default_rng([seed, 1]), given(WIDTH, HEIGHT).project(truth[:, :17]))
        keypoints = np.float32(np.concatenate([seen, confidences[..., None]], -1))
        made.append(Sequence(clip.name, clip.group, keypoints, rotations, betas, way, truth))
    return made


def given(width: int, height: int) -> Camera:
    """The camera of the protocol."""
    return Camera(FOCAL, FOCAL, (width - 1) / 2, (height - 1) / 2)


def drawn(sequence: Sequence, seed: int, body: BodyModel, stages: list[Any]) -> F32:
    """Keypoints (n, 17, 3) as the stages of a run see the body, drawn and dressed; nobody found: zeros."""
    rng = np.random.default_rng([seed, 2])
    garments = Wardrobe.of(body).dress(rng)
    behind = cv2.resize(backdrop(rng), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    grain = rng.integers(0, 12, (HEIGHT + 64, WIDTH, 3), np.uint8)
    keypoints = np.zeros((len(sequence.truth), 17, 3), np.float32)
    for i, (rotations, pelvis) in enumerate(zip(sequence.rotations, sequence.pelvis, strict=True)):
        picture = behind.copy()
        depth, vertices = depth_buffer(picture), body.vertices(rotations, sequence.betas, pelvis)
        for garment in garments:
            draw_mesh(picture, vertices[garment.vertices], garment.faces, given(WIDTH, HEIGHT), garment.colour, depth)
        shift = int(rng.integers(0, 64))
        noisy = cv2.add(picture, grain[shift : shift + HEIGHT])
        result = Result(Frame(i, i / FPS, noisy, 0))
        for stage in stages:
            result = stage(result)
        people = result.people.keypoints
        if len(people):
            truth = given(WIDTH, HEIGHT).project(sequence.truth[i, :17])
            keypoints[i] = people[np.linalg.norm(people[..., :2] - truth, axis=-1).mean(1).argmin()]
    return keypoints


def plain_noise(rng: np.random.Generator, pixels: F64) -> tuple[F64, F64]:
    """3 px, and a tenth missing."""
    return pixels + rng.normal(0, 3, pixels.shape), (rng.random(pixels.shape[:2]) >= 0.1).astype(float)


def measured_noise(rng: np.random.Generator, pixels: F64) -> tuple[F64, F64]:
    """As the keypoint network erred with people of train2017: with one of them for a third of a second on average, then with
    another, three frames from one to the other; a two-hundredth of the size of jitter on top; confidences as it gave them, none
    below .15."""
    errors = KeypointErrors.load()
    offsets = np.nan_to_num(errors.offsets.astype(float))
    n = len(pixels)
    size = np.ptp(pixels, axis=1).max(1)[:, None, None] * 1.1
    change = np.cumsum(rng.random(n) < 0.1)
    rows = rng.integers(0, len(offsets), change[-1] + 1)[change]

    def blend(values: F64) -> F64:
        padded = np.concatenate([values[:1], values, values[-1:]])
        return (padded[:-2] + padded[1:-1] + padded[2:]) / 3

    off = blend(offsets[rows]) + rng.normal(0, 0.005, pixels.shape)
    confidences = blend(errors.confidences.astype(float)[rows])
    return pixels + size * off, np.where(confidences < 0.15, 0, confidences)


def somebody(keypoints: F32) -> People:
    nothing = np.zeros((1, 17), np.uint8)
    one = np.ones(1, np.float32)
    seen = keypoints[keypoints[:, 2] > 0, :2]
    box = np.concatenate([seen.min(0), seen.max(0)])[None] if len(seen) else np.zeros((1, 4), np.float32)
    return People(np.ones(1, np.int64), box, one, keypoints[None], nothing, keypoints[None])


Lifted = tuple[F64, F64, float]
"""Places (n, 39, 3), their uncertainties (n, 39), median seconds a frame."""


def lift(
    lifter: Lifter, keypoints: F32, times: F64, size: tuple[int, int] = (WIDTH, HEIGHT), smooth: Smoother | None = None
) -> Lifted:
    """Lift one person's keypoints (n, 17, 3), smoothed first if there is what smooths them."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    places, doubts, seconds = [], [], []
    for i, (points, when) in enumerate(zip(keypoints, times.tolist(), strict=True)):
        result = Result(Frame(i, when, image, 0), people=somebody(points))
        result = smooth(result) if smooth else result
        begin = time.perf_counter()
        bodies = lifter(result).bodies
        seconds.append(time.perf_counter() - begin)
        assert bodies is not None
        places.append(bodies.joints3d[0])
        doubts.append(bodies.uncertainty[0])
    return np.array(places, np.float64), np.array(doubts, np.float64), float(np.median(seconds))


def about_hips(places: F64) -> F64:
    return places - 0.5 * (places[:, 11:12] + places[:, 12:13])


def aligned(a: F64, b: F64) -> F64:
    """a (n, j, 3) moved, turned and scaled onto b (n, j, 3), frame by frame (Umeyama)."""
    if a.ndim != 3 or a.shape[-1] != 3:
        raise ValueError(f"wanted (n, j, 3), got {a.shape}")
    ma, mb = a.mean(1, keepdims=True), b.mean(1, keepdims=True)
    x, y = a - ma, b - mb
    u, s, vt = np.linalg.svd(np.swapaxes(x, 1, 2) @ y)
    sign = np.sign(np.linalg.det(u @ vt))
    s[:, 2] *= sign
    u[:, :, 2] *= sign[:, None]
    scale = s.sum(1) / (x**2).sum((1, 2))
    return scale[:, None, None] * (x @ (u @ vt)) + mb


def score(places: F64, truth: F64) -> dict[str, float]:
    """Errors of one sequence, mm."""
    seen = np.isfinite(places).all((1, 2))
    a, b = about_hips(places)[seen], about_hips(truth)[seen]
    error = np.linalg.norm(a - b, axis=-1)
    limbs, joints = aligned(a[:, LIMBS], b[:, LIMBS]), aligned(a[:, 17:], b[:, 17:])
    acceleration = np.diff(a[:, LIMBS], 2, axis=0) - np.diff(b[:, LIMBS], 2, axis=0)
    return {
        "mpjpe": 1e3 * error[:, LIMBS].mean(),
        "pa": 1e3 * np.linalg.norm(limbs - b[:, LIMBS], axis=-1).mean(),
        "mpjpe22": 1e3 * error[:, 17:].mean(),
        "pa22": 1e3 * np.linalg.norm(joints - b[:, 17:], axis=-1).mean(),
        "acceleration": 1e3 * np.linalg.norm(acceleration, axis=-1).mean(),
        "x": 1e3 * np.abs(a - b)[:, LIMBS, 0].mean(),
        "y": 1e3 * np.abs(a - b)[:, LIMBS, 1].mean(),
        "z": 1e3 * np.abs(a - b)[:, LIMBS, 2].mean(),
        "lost": float((~seen).mean()),
    }


def mean_score(scores: list[dict[str, float]], frames: list[int]) -> dict[str, float]:
    return {name: float(np.average([s[name] for s in scores], weights=frames)) for name in scores[0]}


class Alone(Lifter):
    """The initialiser alone: every frame begins anew and is not fitted."""

    def __call__(self, result: Result) -> Result:
        self._states.clear()
        return super().__call__(result)


def ignorant(feeds: Mapping[str, Any]) -> dict[str, Any]:
    """An initialiser that has learned nothing: somebody who stands, and faces the camera if the left shoulder is on the right."""
    x = feeds["keypoints"]
    n = len(x)
    local = np.zeros((22, 3))
    local[[16, 17], 2] = -1.25, 1.25
    body = load_body()
    six = np.empty((n, len(PREDICTED), 6), np.float32)
    for i in range(n):
        local[0] = to_axis_angle(np.diag([1.0, -1, -1]) @ to_matrix([0, 0 if x[i, 15] > x[i, 18] else np.pi, 0]))
        six[i] = to_six(body.pose(local, np.zeros(body.betas), np.zeros(3))[0])[list(PREDICTED)]
    return {
        "six": six,
        "betas": np.zeros((n, body.betas), np.float32),
        "turn_error": np.full((n, len(PREDICTED)), np.log(0.6), np.float32),
        "place_error": np.full((n, 39), np.log(0.1), np.float32),
    }


def open_network(options: argparse.Namespace) -> Network:
    return open_session(options.network or find("lifter", "lifter").path, precision="int8", threads=1)


def clips_of(options: argparse.Namespace, body: BodyModel) -> list[Clip]:
    """The clips of the split that was asked for."""
    groups = {"tuning": TUNING, "scored": SCORED}[options.split]
    return [c for c in read_mocap(options.mocap, body) if c.group in groups]


def synthetic(options: argparse.Namespace) -> dict[str, Any]:
    body = load_body()
    clips = clips_of(options, body)
    table: dict[str, Any] = {}
    for name, noise in (("3 px, 10 % missing", plain_noise), ("measured noise", measured_noise)):
        table |= judge(options, body, sequences(clips, body, noise), name)
    return table


def rendered(options: argparse.Namespace) -> dict[str, Any]:
    """People drawn, found and seen by the stages of a run."""
    body = load_body()
    made = sequences(clips_of(options, body), body, plain_noise, 60)
    info = SourceInfo("drawn", WIDTH, HEIGHT, Fraction(30), Fraction(1, 30))
    networks = Networks(Settings(lifter="none"), info)
    for seed, sequence in enumerate(made):
        stages = [stage for stage in make_stages(networks, info) if not isinstance(stage, Smoother)]
        sequence.keypoints = drawn(sequence, seed, body, stages)
    return judge(options, body, made, "rendered")


def judge(options: argparse.Namespace, body: BodyModel, made: list[Sequence], noise: str) -> dict[str, Any]:
    """A row for each lifter, and one for each group of clips."""
    network, keypoints = open_network(options), [s.keypoints for s in made]
    start_only = Weights(steps=0, first_steps=0)
    rows: dict[str, tuple[Callable[[], Lifter], bool]] = {
        "as in a run": (lambda: Lifter(body, network, given), True),
        "as in a run, focal guessed": (lambda: Lifter(body, network, camera_for), True),
        "without smoothing": (lambda: Lifter(body, network, given), False),
        "initialiser alone": (lambda: Alone(body, network, given, start_only), False),
        "fitter alone": (lambda: Lifter(body, ignorant, given, Weights(first_steps=10)), False),
    }
    results: dict[str, list[Lifted]] = {
        name: [lift(fresh(), k, np.arange(len(k)) / FPS, smooth=Smoother() if smoothed else None) for k in keypoints]
        for name, (fresh, smoothed) in rows.items()
    }
    file = f"{noise.split()[0].replace('3', 'plain')}.npz"
    if options.write is not None:
        parts = {"keypoints": keypoints, "truth": [s.truth for s in made], "smoothed": [smoothed_alone(k) for k in keypoints]}
        np.savez(options.write / file, **{f"{i:02d}_{p}": a for p, arrays in parts.items() for i, a in enumerate(arrays)})
    if options.predictions is not None:
        with np.load(options.predictions / file) as theirs:
            for given_to in ("keypoints", "smoothed"):
                name = "prototype" if given_to == "keypoints" else "prototype, keypoints smoothed"
                places = [theirs[f"{i:02d}_{given_to}"] for i in range(len(made))]
                results[name] = [(p, np.full(p.shape[:2], np.nan), float(theirs["seconds"])) for p in places]
    table: dict[str, Any] = {}
    lengths = [len(s.truth) for s in made]
    for name, lifted in results.items():
        scores = [score(places, s.truth) for (places, _, _), s in zip(lifted, made, strict=True)]
        row: dict[str, Any] = {**mean_score(scores, lengths), "ms": 1e3 * float(np.median([r[2] for r in lifted]))}
        table[f"{name} | {noise}"] = row
        if name == "as in a run":
            row["doubt"] = calibration(lifted, made)
        if name in ("as in a run", "prototype"):
            for group in sorted({s.group for s in made}):
                mine = [i for i, s in enumerate(made) if s.group == group]
                table[f"  {group}: {name} | {noise}"] = mean_score([scores[i] for i in mine], [lengths[i] for i in mine])
    return table


def smoothed_alone(keypoints: F32) -> F32:
    """Keypoints (n, 17, 3) of one person as a run smooths them."""
    smooth, image = Smoother(), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    results = (Result(Frame(i, i / FPS, image, 0), people=somebody(k)) for i, k in enumerate(keypoints))
    return np.stack([smooth(result).people.keypoints[0] for result in results])


def calibration(lifted: list[tuple[F64, F64, float]], made: list[Sequence]) -> list[tuple[float, float]]:
    """Said and actual error (mm, one standard deviation an axis) in ten bins of what was said."""
    said = np.concatenate([doubt.ravel() for _, doubt, _ in lifted])
    off = [about_hips(places) - about_hips(s.truth) for (places, _, _), s in zip(lifted, made, strict=True)]
    actual = np.concatenate([(o**2).mean(-1).ravel() for o in off])
    seen = np.isfinite(said) & np.isfinite(actual)
    said, actual = said[seen], actual[seen]
    bins = np.array_split(np.argsort(said), 10)
    return [(1e3 * float(said[b].mean()), 1e3 * float(np.sqrt(actual[b].mean()))) for b in bins]


LIMBS_OF = {"h36m17": [11, 14, 12, 15, 13, 16, 4, 1, 5, 2, 6, 3], "3dhp17": [5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10]}
"""Where the joints of those sets are that correspond to `LIMBS`."""


def pictures(options: argparse.Namespace) -> dict[str, Any]:
    """The four annotated pictures: our keypoints and theirs, with the camera given."""
    body, network = load_body(), open_network(options)
    table: dict[str, Any] = {}
    for row in json.loads((options.data / "index.json").read_text()):
        order = LIMBS_OF[row["joint_order"].split(":")[0]]
        truth, labels = np.full((1, 39, 3), np.nan), np.zeros((17, 3), np.float32)
        truth[0, LIMBS], labels[LIMBS] = np.array(row["joints3d_camera_m"])[order], np.array(row["joints2d_px"])[order]
        people = next(iter(track(options.data / row["file"], live=False, lifter="none"))).people
        near = np.linalg.norm(people.keypoints[:, LIMBS, :2] - labels[LIMBS, :2], axis=-1).mean(1)
        shown = {"labelled keypoints": labels}
        if len(near):
            shown["our keypoints"] = people.keypoints[int(near.argmin())]
        for source, keypoints in shown.items():
            lifter = Lifter(body, network, lambda width, height, row=row: Camera(*row["fx_fy"], *row["cx_cy"]))
            places = lift(lifter, keypoints[None], np.zeros(1), tuple(row["size_wh"]))[0]
            a, b = about_hips(places)[:, LIMBS], about_hips(truth)[:, LIMBS]
            table[f"{row['file']} | {source}"] = {
                "mpjpe": 1e3 * float(np.linalg.norm(a - b, axis=-1).mean()),
                "pa": 1e3 * float(np.linalg.norm(aligned(a, b) - b, axis=-1).mean()),
                **{axis: 1e3 * float(np.abs(a - b)[..., i].mean()) for i, axis in enumerate("xyz")},
            }
    for source in ("our keypoints", "labelled keypoints"):
        rows = [row for name, row in table.items() if name.endswith(source)]
        table[f"mean of {len(rows)} | {source}"] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return table


BLAZEPOSE = [11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
"""Its landmarks that correspond to `LIMBS`."""
BONES = [(0, 2), (2, 4), (1, 3), (3, 5), (6, 8), (8, 10), (7, 9), (9, 11)]
JOINTS = [
    17 + JOINT_NAMES.index(f"{side}_{name}")
    for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
]
"""Where a lifted person's joints are that correspond to `LIMBS`; keypoints lie on the skin, so that only joints have bones between them."""


def clips(options: argparse.Namespace) -> dict[str, Any]:
    """Real clips, no truth: what can be said all the same, of the people who are largest and longest in the picture (two a clip).

    withheld: distance of projected elbows, wrists, knees and ankles from those seen (confidence .5 and more) when that keypoint is
    never shown to the lifter, in % of the person's size, median; shown: the same when it is. bones: largest standard deviation of a
    bone's length after the first two seconds, mm. jitter: mean acceleration of the limbs about the hips, m/s^2. skate: mm/s that an
    ankle moves while it stands still in the picture. BlazePose's world landmarks have no place in the room, so no skate.
    """
    body, network = load_body(), open_network(options)
    blazepose = open_session(options.blazepose, precision="f32", threads=1) if options.blazepose else None
    table: dict[str, Any] = {}
    for path in sorted(options.videos.iterdir()):
        seen: dict[int, list[tuple[float, F32]]] = defaultdict(list)
        landmarks: dict[int, list[F64]] = defaultdict(list)
        size = (0, 0)
        for result in track(path, live=False, lifter="none"):
            size = result.frame.width, result.frame.height
            for identity, keypoints in zip(result.people.ids.tolist(), result.people.keypoints, strict=True):
                seen[identity].append((result.frame.time, keypoints))
                if blazepose is not None:
                    landmarks[identity].append(world_landmarks(blazepose, result.frame.image, keypoints))
        rows: dict[str, list[dict[str, float]]] = defaultdict(list)
        for identity in sorted(seen, key=lambda i: -sum(np.ptp(k[:, 1]) for _, k in seen[i]))[:2]:
            times, keypoints = np.array([t for t, _ in seen[identity]]), np.stack([k for _, k in seen[identity]])
            if len(times) < 12:
                continue
            rows[path.name].append(judge_clip(body, network, times, keypoints, size))
            if blazepose is not None:
                theirs = np.stack(landmarks[identity])
                rows[f"{path.name} BlazePose"].append(steadiness(times, theirs, theirs))
        for name, judged in rows.items():
            table[name] = {key: float(np.nanmean([j[key] for j in judged])) for key in judged[0]}
            print(name, table[name], flush=True)
    for name, rows_of in (("mean", False), ("mean BlazePose", True)):
        chosen = [row for key, row in table.items() if key.endswith("BlazePose") == rows_of]
        if chosen:
            table[name] = {key: float(np.nanmean([row[key] for row in chosen])) for key in chosen[0]}
    return table


def world_landmarks(session: Any, image: Any, keypoints: F32) -> F64:
    """BlazePose's world landmarks that correspond to `LIMBS` (12, 3), from a square about the keypoints."""
    low, high = keypoints[:, :2].min(0), keypoints[:, :2].max(0)
    side = 1.3 * max(float((high - low).max()), 8.0)
    x, y = (low + high) / 2 - side / 2
    warp = np.array([[256 / side, 0, -x * 256 / side], [0, 256 / side, -y * 256 / side]])
    crop = cv2.warpAffine(image, warp, (256, 256)).astype(np.float32)[None] / 255
    return np.asarray(session({next(iter(session.inputs)): crop})["Identity_4"], np.float64).reshape(39, 3)[BLAZEPOSE]


def steadiness(times: F64, limbs: F64, joints: F64) -> dict[str, float]:
    """bones and jitter of `clips`, of limbs and their joints (n, 12, 3)."""
    late = times > times[0] + min(2.0, 0.5 * (times[-1] - times[0]))
    lengths = np.stack([np.linalg.norm(joints[late, a] - joints[late, b], axis=-1) for a, b in BONES], -1)
    about = limbs - 0.5 * (limbs[:, 6:7] + limbs[:, 7:8])
    step = np.diff(times)
    speed = np.diff(about, axis=0) / step[:, None, None]
    acceleration = np.diff(speed, axis=0) / (0.5 * (step[1:] + step[:-1]))[:, None, None]
    steady = np.maximum(step[1:], step[:-1]) < 2.5 * np.median(step)
    return {
        "bones": 1e3 * float(np.nanmax(np.nanstd(lengths, axis=0))),
        "jitter": float(np.nanmean(np.linalg.norm(acceleration[steady], axis=-1))),
    }


def judge_clip(body: BodyModel, network: Network, times: F64, keypoints: F32, size: tuple[int, int]) -> dict[str, float]:
    camera = camera_for(*size)

    def run(shown: F32) -> F64:
        return lift(Lifter(body, network), shown, times, size)[0]

    places = run(keypoints)
    extent = np.ptp(keypoints[..., :2], axis=1).max(1)
    withheld, shown = [], []
    for k in (7, 8, 9, 10, 13, 14, 15, 16):
        without = keypoints.copy()
        without[:, k, 2] = 0
        sure = keypoints[:, k, 2] >= 0.5
        for out, fitted in ((withheld, run(without)), (shown, places)):
            out.append((np.linalg.norm(camera.project(fitted[:, k]) - keypoints[:, k, :2], axis=-1) / extent)[sure])
    ankles = keypoints[:, 15:17]
    moving = np.linalg.norm(np.diff(ankles[..., :2], axis=0), axis=-1) / extent[1:, None] / np.diff(times)[:, None]
    still = (moving < 0.1) & (np.minimum(ankles[1:, :, 2], ankles[:-1, :, 2]) >= 0.5)
    moved = np.linalg.norm(np.diff(places[:, 15:17], axis=0), axis=-1) / np.diff(times)[:, None]
    return {
        "withheld": 100 * float(np.nanmedian(np.concatenate(withheld))),
        "shown": 100 * float(np.nanmedian(np.concatenate(shown))),
        "skate": 1e3 * float(np.nanmean(moved[still])) if still.any() else np.nan,
        **steadiness(times, places[:, LIMBS], places[:, JOINTS]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function, needed in ((synthetic, "--mocap"), (rendered, "--mocap"), (pictures, "--data"), (clips, "--videos")):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        command.add_argument(needed, type=Path, required=True)
        command.add_argument("--network", type=Path, help="another lifter.onnx than the one that comes with rtpose")
        command.add_argument("--json", type=Path, help="write the table here")
        if needed == "--mocap":
            command.add_argument("--split", choices=("tuning", "scored"), required=True)
            command.add_argument("--write", type=Path, help="write the sequences into this folder, for other lifters")
            command.add_argument("--predictions", type=Path, help="a folder with what the prototype made of them")
        if function is clips:
            command.add_argument("--blazepose", type=Path, help="pose_landmark_full.onnx, to compare with")
    options = parser.parse_args()
    table = options.function(options)
    for name, row in table.items():
        print(f"{name:58s}", "  ".join(f"{key} {value:.1f}" for key, value in row.items() if not isinstance(value, list)))
    if options.json is not None:
        host = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
        versions = {package: version(package) for package in ("numpy", "numba", "openvino")}
        said = {"date": time.strftime("%Y-%m-%d"), "host": host, "versions": versions, "rows": table}
        options.json.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()

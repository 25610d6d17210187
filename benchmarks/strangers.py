"""The same clip as strangers' files would have it: do people, track IDs, angles and times stay those of the plain clip?

    python benchmarks/strangers.py [--videos ../shared/data/videos] [--clips NAME,...] [--variants NAME,...] [--python PYTHON]
                                   [--frames 100] [--json FILE]

Every clip is encoded anew at a constant frame rate (plain) and in these variants, which differ from it in one thing each:

    jitter      1 ms ticks, each stamp up to 9 ms off, no rate in the file: what browsers record
    doubles     1 ms ticks, every tenth frame with the stamp of the frame before
    sar-4-3     squeezed to 3/4 of the width, with a sample aspect ratio of 4:3
    sar-2-1     squeezed to half of the width, with a sample aspect ratio of 2:1
    sparse      a frame every 2/3 s, at 1.5 fps
    flash       two almost white frames in the middle
    dark        one black frame in the middle
    freeze      .6 s in the middle show the same frame

The command line of `--python` (by default this interpreter; another build's for a comparison) runs over each file with its defaults.
People who are seen, not predicted over a gap, are paired with those of the plain clip in the frames that show the same, one to one, by
the distance of their keypoints (px of the plain clip's picture, with square pixels). BOUNDS says what is expected of each figure.

found: share of the plain clip's people who are there; more: people a frame above the plain clip's, as a share. same ID: share of the pairs
whose ID is the one that this person has in most pairs, over both directions. IDs: how many there are, plain and variant. knee: median
difference of the knees' flexion in degrees. distance: median ratio of the distance from the camera. time: the largest error of a frame's
time in ms. status: exit status of the run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from rtpose import read_results
from rtpose.bench import about
from rtpose.types import F64, U8, Status

VIDEOS = Path(__file__).resolve().parent.parent.parent / "shared/data/videos"
NEAR = 0.1
"""Of the person's longer side: two poses whose keypoints are farther apart on average are not of one person."""
FREEZE = 0.6
"""Seconds."""
BOUNDS: dict[str, dict[str, float]] = {
    "jitter": {"found": 0.97, "same ID": 0.98, "knee": 1.5, "distance": 0.02, "time": 1.0},
    "doubles": {"found": 0.97, "same ID": 0.98, "knee": 1.5, "distance": 0.02, "time": 40.0},
    "sar-4-3": {"found": 0.93, "same ID": 0.98, "knee": 5.0, "distance": 0.05, "time": 1.0},
    "sar-2-1": {"found": 0.9, "same ID": 0.98, "knee": 6.0, "distance": 0.08, "time": 1.0},
    "sparse": {"found": 0.9, "same ID": 0.98, "knee": 6.0, "distance": 0.08, "time": 1.0},
    "flash": {"found": 0.97, "same ID": 0.98, "knee": 1.5, "distance": 0.02, "time": 1.0},
    "dark": {"found": 0.97, "same ID": 0.98, "knee": 1.5, "distance": 0.02, "time": 1.0},
    "freeze": {"found": 0.95, "same ID": 0.98, "knee": 2.0, "distance": 0.03, "time": 1.0},
}
"""Least for found and same ID, most for the others; distance is how far the ratio may be from 1."""


@dataclass(frozen=True)
class Variant:
    """How the frames of a clip are shown. frames: which of the plain clip's; stamps: the ticks of each; base: seconds a tick; true: when
    each really was, s. compared: positions in `frames` that show what the plain clip shows."""

    frames: list[int]
    stamps: list[int]
    base: Fraction
    true: list[float]
    compared: list[int]
    aspect: Fraction = Fraction(1)
    rated: bool = True


def variant(name: str, count: int, rate: Fraction) -> Variant:
    """The variant of a clip of `count` frames. Raises KeyError for an unknown name."""
    every, middle, milli = list(range(count)), count // 2, Fraction(1, 1000)
    true = [float(k / rate) for k in every]
    regular = Variant(every, every, 1 / rate, true, every)
    if name == "plain":
        return regular
    if name == "jitter":
        stamps = jittered(count, rate)
        return Variant(every, stamps, milli, [stamp / 1000 for stamp in stamps], every, rated=False)
    if name == "doubles":
        stamps = [round(1000 * k / rate) for k in every]
        for k in every[10::10]:
            stamps[k] = stamps[k - 1]
        return Variant(every, stamps, milli, true, every, rated=False)
    if name in ("sar-4-3", "sar-2-1"):
        aspect = Fraction(4, 3) if name == "sar-4-3" else Fraction(2)
        return Variant(every, every, 1 / rate, true, every, aspect)
    if name == "sparse":
        step = Fraction(2, 3)
        frames = [k for k in (round(i * step * rate) for i in range(count)) if k < count]
        return Variant(
            frames, list(range(len(frames))), step, [float(i * step) for i in range(len(frames))], list(range(len(frames)))
        )
    if name in ("flash", "dark"):
        shown = [k if k not in (middle, middle + (name == "flash")) else (-1 if name == "flash" else -2) for k in every]
        return Variant(shown, every, 1 / rate, true, [k for k in every if shown[k] >= 0])
    if name == "freeze":
        held = range(middle, min(count, middle + max(2, round(FREEZE * rate))))
        shown = [middle if k in held else k for k in every]
        return Variant(shown, every, 1 / rate, true, [k for k in every if shown[k] == k])
    raise KeyError(name)


def jittered(count: int, rate: Fraction) -> list[int]:
    """Strictly increasing ms, each up to 9 ms off."""
    rng = random.Random(0)
    stamps: list[int] = []
    for k in range(count):
        at = max(0, round(1000 * k / rate + rng.uniform(-9, 9)))
        stamps.append(at if not stamps else max(at, stamps[-1] + 1))
    return stamps


def picture(frame: int, frames: list[U8]) -> U8:
    if frame == -1:
        return np.uint8(0.1 * frames[0] + 0.9 * 255)
    return np.zeros_like(frames[0]) if frame == -2 else frames[frame]


def encode(path: Path, frames: list[U8], how: Variant) -> None:
    """Write the frames as H.264 in Matroska."""
    height, width = (side - side % 2 for side in frames[0].shape[:2])
    width = round(width / how.aspect) - round(width / how.aspect) % 2
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1 / how.base)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = how.base
        if how.aspect != 1:
            stream.codec_context.sample_aspect_ratio = how.aspect
        # The copies of frames must not be told from them by what the encoder makes of them.
        stream.options = {"preset": "ultrafast", "crf": "12", "bf": "0"}
        for number, stamp in zip(how.frames, unequal(how.stamps), strict=True):
            image = picture(number, frames)[: 2 * (frames[0].shape[0] // 2)]
            frame = av.VideoFrame.from_ndarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), "rgb24")
            frame.pts, frame.time_base = stamp, how.base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    if not how.rated:
        data = without_rate(data)
    if unequal(how.stamps) != how.stamps:
        data = with_doubles(data, how.stamps)
    path.write_bytes(data)


def unequal(stamps: list[int]) -> list[int]:
    """The stamps where none is that of the frame before: an encoder takes no other."""
    return [stamp + 1 if k and stamp == stamps[k - 1] else stamp for k, stamp in enumerate(stamps)]


def without_rate(data: bytes) -> bytes:
    """A Matroska file without its DefaultDuration, in whose place is a Void element."""
    at = data.index(bytes.fromhex("23e383"))
    size = 2 + (data[at + 3] & 0x7F)
    return data[:at] + bytes([0xEC, 0x80 | size]) + bytes(size) + data[at + 2 + size :]


def with_doubles(data: bytes, stamps: list[int]) -> bytes:
    """A Matroska file whose simple blocks carry these stamps. Blocks count from their cluster's time, which is kept."""
    out = bytearray(data)
    cluster, frame, at = 0, 0, data.index(bytes.fromhex("1f43b675"))
    while at < len(data) and frame < len(stamps):
        identity, at = _vint(data, at, marked=True)
        size, at = _vint(data, at)
        if identity == 0x1F43B675:  # cluster: go into it
            continue
        if identity == 0xE7:
            cluster = int.from_bytes(data[at : at + size], "big")
        if identity == 0xA3:
            out[at + 1 : at + 3] = (stamps[frame] - cluster).to_bytes(2, "big", signed=True)
            frame += 1
        at += size
    assert frame == len(stamps), "not every frame was found in the file"
    return bytes(out)


def _vint(data: bytes, at: int, marked: bool = False) -> tuple[int, int]:
    """A number of variable length, and where it ends. marked: with its length marker, as in an element's ID."""
    length = 9 - data[at].bit_length()
    number = int.from_bytes(data[at : at + length], "big")
    return (number if marked else number & ~(1 << 7 * length)), at + length


@dataclass(frozen=True)
class Poses:
    """The people of a record. ids (n,); points (n, 17, 2) px with square pixels, of the plain clip's picture; sides (n,) px; knees (n, 2)
    degrees of flexion; distances (n,) m; NaN where there is no body."""

    time: float
    ids: list[int]
    points: F64
    sides: F64
    knees: F64
    distances: F64


def run(python: str, clip: Path, width: float) -> tuple[int, str, list[Poses]]:
    """Exit status, last line of what was said, and the people of every frame. width: of the plain clip, px."""
    save = clip.with_suffix(".jsonl")
    command = [python, "-m", "rtpose", str(clip), "--save", str(save), "--no-view", "--overwrite"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=clip.parent)
    said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
    if not save.exists():
        return done.returncode, said, []
    header, records = read_results(save)
    stretch = width / header.width
    names = list(header.joints3d_names or ())
    poses = []
    for record in records:
        people = record.people
        scale = np.array([stretch, 1.0])
        boxes = people.boxes.reshape(-1, 2, 2) * scale
        knees, distances = np.full((len(people), 2), np.nan), np.full(len(people), np.nan)
        if record.bodies is not None and names and len(people):
            joints = {name: record.bodies.joints3d[:, k] for k, name in enumerate(names)}
            for k, side in enumerate(("left", "right")):
                thigh = joints[f"{side}_hip"] - joints[f"{side}_knee"]
                shank = joints[f"{side}_ankle"] - joints[f"{side}_knee"]
                cosine = (thigh * shank).sum(1) / (np.linalg.norm(thigh, axis=1) * np.linalg.norm(shank, axis=1))
                knees[:, k] = 180 - np.degrees(np.arccos(np.clip(cosine, -1, 1)))
            distances = (joints["left_hip"] + joints["right_hip"])[:, 2] / 2
        sides = (boxes[:, 1] - boxes[:, 0]).max(1) if len(people) else np.zeros(0)
        seen = (people.status != Status.PREDICTED).any(1)
        points = people.keypoints[:, :, :2] * scale
        poses.append(Poses(record.time, people.ids[seen].tolist(), points[seen], sides[seen], knees[seen], distances[seen]))
    return done.returncode, said, poses


def pairs(plain: Poses, other: Poses) -> list[tuple[int, int]]:
    """Rows of the same people."""
    if not plain.ids or not other.ids:
        return []
    apart = np.linalg.norm(plain.points[:, None] - other.points[None], axis=3).mean(2) / plain.sides[:, None]
    rows, columns = linear_sum_assignment(np.minimum(apart, NEAR))
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if apart[r, c] < NEAR]


def compare(plain: list[Poses], other: list[Poses], how: Variant) -> dict[str, float]:
    """The figures of a variant, NaN where there is nothing to compare."""
    together: Counter[tuple[int, int]] = Counter()
    knees: list[float] = []
    ratios: list[float] = []
    wanted = there = 0
    for k in how.compared:
        if k >= len(other):
            wanted += len(plain[how.frames[k]].ids)
            continue
        mine, theirs = plain[how.frames[k]], other[k]
        wanted += len(mine.ids)
        there += len(theirs.ids)
        for r, c in pairs(mine, theirs):
            together[mine.ids[r], theirs.ids[c]] += 1
            knees += np.abs(mine.knees[r] - theirs.knees[c]).tolist()
            ratios.append(theirs.distances[c] / mine.distances[r])
    paired = sum(together.values())
    same = 1.0
    for side in (0, 1):
        most: Counter[int] = Counter()
        for pair, count in together.items():
            most[pair[side]] = max(most[pair[side]], count)
        same = min(same, sum(most.values()) / paired) if paired else np.nan
    times = [abs(poses.time - other[0].time - (true - how.true[0])) for poses, true in zip(other, how.true, strict=False)]
    return {
        "found": paired / wanted if wanted else np.nan,
        "more": (there - wanted) / wanted if wanted else np.nan,
        "same ID": same,
        "IDs": len({i for poses in other for i in poses.ids}),
        "knee": float(np.nanmedian(knees)) if np.isfinite(knees).any() else np.nan,
        "distance": float(np.nanmedian(ratios)) if np.isfinite(ratios).any() else np.nan,
        "time": 1000 * max(times) if len(other) == len(how.frames) else np.nan,
    }


def missed(name: str, figures: dict[str, Any]) -> list[str]:
    """The figures that are out of bounds; a run that failed is, too."""
    out = [] if figures["status"] == 0 else ["status"]
    for figure, bound in BOUNDS[name].items():
        value = figures[figure]
        if figure in ("found", "same ID"):
            good = not value < bound
        else:
            good = not abs(value - (figure == "distance")) > bound
        if not good:
            out.append(figure)
    return out


def score(clip: Path, variants: list[str], python: str, most: int) -> dict[str, dict[str, Any]]:
    """The rows of a clip, of which the first frames count, `most` at the most."""
    with av.open(str(clip)) as container:
        rate = container.streams.video[0].average_rate
        assert rate is not None
        frames = [frame.to_ndarray(format="rgb24") for frame in itertools.islice(container.decode(video=0), most)]
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        plain: list[Poses] = []
        for name in ("plain", *variants):
            how = variant(name, len(frames), rate)
            path = Path(folder) / f"{name}.mkv"
            encode(path, frames, how)
            status, said, poses = run(python, path, frames[0].shape[1])
            plain = plain or poses
            rows[name] = {"status": status, "frames": len(poses), **compare(plain, poses, how)}
            if status:
                rows[name]["said"] = said.replace(folder, "")
            if name != "plain":
                rows[name]["missed"] = missed(name, rows[name])
    return rows


def show(rows: dict[str, dict[str, dict[str, Any]]]) -> None:
    table = Table(title="the same clips as strangers' files")
    columns = ("found", "more", "same ID", "IDs", "knee", "distance", "time", "status")
    for column in ("clip", "variant", *columns, "out of bounds"):
        table.add_column(column)
    for clip, variants in rows.items():
        for name, row in variants.items():
            cells = [f"{row[c]:.3g}" if isinstance(row[c], float) else str(row[c]) for c in columns]
            table.add_row(clip, name, *cells, ", ".join(row.get("missed", [])))
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=VIDEOS)
    parser.add_argument("--clips", default="")
    parser.add_argument("--variants", default=",".join(BOUNDS))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--frames", type=int, default=100, help="so many of each clip at the most")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    chosen = [path for path in sorted(arguments.videos.iterdir()) if path.suffix in (".mp4", ".avi")]
    chosen = [path for path in chosen if not arguments.clips or path.stem in arguments.clips.split(",")]
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for clip in chosen:
        rows[clip.stem] = score(clip, arguments.variants.split(","), arguments.python, arguments.frames)
        show({clip.stem: rows[clip.stem]})
        if arguments.json is not None:
            arguments.json.write_text(
                json.dumps({"about": about(), "frames": arguments.frames, "bounds": BOUNDS, "clips": rows}, indent=1) + "\n"
            )
    show(rows)
    total = sum(len(row["missed"]) for variants in rows.values() for row in variants.values() if "missed" in row)
    print(f"{total} figures are out of their bounds")


if __name__ == "__main__":
    main()

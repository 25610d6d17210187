"""What refining gains over the causal results it starts from: on mocap, on the rendered clip with exact truth, and on real clips.

    python benchmarks/refined.py synthetic --mocap ../shared/data/mocap --split scored
    python benchmarks/refined.py reference
    python benchmarks/refined.py clips --videos ../shared/data/videos

synthetic: the protocol of `benchmarks/lifting.py`, whose sequences and scores these are. reference: the clip of `rtpose.reference`, its
camera given; accelerations are differences of second differences (px or mm a frame^2), skate is how far an ankle moves in a frame
in which the true one moves less than 5 mm. clips: no truth; jitter is the acceleration of limbs about the hips (m/s^2) and of
keypoints (sizes of the person a second^2), skate how fast an ankle moves that stands still in the picture (mm/s). Both rows of a
clip come from one run; `cost` is the time of the refining pass over that of the causal one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import lifting
import numpy as np

from rtpose.app import Networks, make_stages
from rtpose.bench import about
from rtpose.body.camera import Camera
from rtpose.body.model import Lifted, load_body
from rtpose.pipeline import run
from rtpose.reference import CLIP, LIMBS, compare, truth
from rtpose.refine import refine
from rtpose.settings import Settings
from rtpose.sinks.data import Provenance, Record, read_results
from rtpose.sinks.spool import SpoolSink
from rtpose.source import SourceInfo, open_source
from rtpose.stages.lift import Lifter
from rtpose.train.mocap import FPS
from rtpose.types import F64, Frame, People, Result, Status

PICTURE = np.zeros((1, 1, 3), np.uint8)


def synthetic(options: argparse.Namespace) -> dict[str, Any]:
    body, network = load_body(), lifting.open_network(options)
    clips = lifting.clips_of(options, body)
    lifted = Lifted(body, lambda width, height: Camera(lifting.FOCAL, lifting.FOCAL, (width - 1) / 2, (height - 1) / 2))
    info = SourceInfo("mocap", lifting.WIDTH, lifting.HEIGHT, Fraction(30), Fraction(1, 90_000))
    image = np.zeros((lifting.HEIGHT, lifting.WIDTH, 3), np.uint8)
    table: dict[str, Any] = {}
    for noise, make in (("3 px, 10 % missing", lifting.plain_noise), ("measured", lifting.measured_noise)):
        made = lifting.sequences(clips, body, make)
        rows: dict[str, list[dict[str, float]]] = defaultdict(list)
        for sequence in made:
            lifter = Lifter(body, network, lifted.camera)
            results = [
                lifter(Result(Frame(i, i / FPS, image, 0), people=_somebody(keypoints)))
                for i, keypoints in enumerate(sequence.keypoints)
            ]
            with tempfile.TemporaryDirectory() as folder:
                spool, out = Path(folder) / "x.jsonl.partial", Path(folder) / "x.jsonl"
                sink = SpoolSink(spool, info, Provenance(lifted=lifted))
                for result in results:
                    sink.write(result)
                sink.close()
                refine(spool, out, lifted=lifted, network=network)
                for name, path in (("causal", spool), ("refined", out)):
                    places = [r.bodies.joints3d[0] for r in read_results(path)[1] if r.bodies is not None]
                    rows[name].append(lifting.score(np.array(places, np.float64), sequence.truth))
        for name, scores in rows.items():
            table[f"{name} | {noise}"] = lifting.mean_score(scores, [len(s.truth) for s in made])
        table[f"refined / causal | {noise}"] = _ratio(table[f"refined | {noise}"], table[f"causal | {noise}"])
    return table


def _somebody(keypoints: Any) -> People:
    seen = keypoints[keypoints[:, 2] > 0, :2]
    box = np.concatenate([seen.min(0), seen.max(0)])[None]
    return People(np.ones(1), box, np.ones(1), keypoints[None], np.zeros((1, 17)), keypoints[None])


def _ratio(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {name: after[name] / before[name] for name in before if before[name]}


def both(path: Path, folder: Path, **settings: Any) -> Iterator[tuple[str, list[Record], float]]:
    """Run a clip once: name, records and seconds of the causal pass and of the refining one."""
    source = open_source(path)
    networks = Networks(Settings(**settings), source.info)
    spool, out = folder / "x.jsonl.partial", folder / "x.jsonl"
    sink = SpoolSink(spool, source.info, Provenance(networks.describe(), lifted=networks.lifted), overwrite=True)
    report = run(source, make_stages(networks, source.info), [sink])
    begin = time.monotonic()
    refine(spool, out, lifted=networks.lifted, network=networks.lifter)
    seconds = time.monotonic() - begin
    yield "causal", list(read_results(spool)[1]), report.seconds
    yield "refined", list(read_results(out)[1]), seconds


def reference(options: argparse.Namespace) -> dict[str, Any]:
    known, table = truth(), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, records, seconds in both(CLIP, Path(folder), focal=float(known.camera[0])):
            figures = compare(Result(Frame(r.frame, r.time, PICTURE, 0), people=r.people, bodies=r.bodies) for r in records)
            table[name] = {**vars(figures), **_against_truth(records), "seconds": seconds}
    table["refined / causal"] = _ratio(table["refined"], table["causal"])
    return table


def _against_truth(records: list[Record]) -> dict[str, float]:
    """Accelerations and skate of those people who are found, in every three frames in a row."""
    known = truth()
    misses: dict[str, list[float]] = defaultdict(list)
    for who in (0, 1):
        found: dict[int, tuple[F64, F64]] = {}
        for r in records:
            aim = known.keypoints[r.frame, who][LIMBS]
            for row in range(len(r.people)):
                off = r.people.keypoints[row, LIMBS, :2] - aim
                if np.linalg.norm(off, axis=-1).mean() < 40 and r.bodies is not None:
                    found[r.frame] = np.float64(off), np.float64(r.bodies.joints3d[row, :17])
        true = known.keypoints3d[:, who].astype(np.float64)
        for frame in sorted(found):
            if frame - 1 not in found or frame + 1 not in found:
                continue
            three = [frame - 1, frame, frame + 1]
            pixels = np.diff([found[f][0] for f in three], 2, axis=0)
            places = np.array([found[f][1] for f in three])
            off = lifting.about_hips(places)[:, LIMBS] - lifting.about_hips(true[three])[:, LIMBS]
            misses["accel px"].append(float(np.linalg.norm(pixels, axis=-1).mean()))
            misses["accel mm"].append(1e3 * float(np.linalg.norm(np.diff(off, 2, axis=0), axis=-1).mean()))
            stands = np.linalg.norm(true[frame + 1, 15:17] - true[frame, 15:17], axis=-1) < 0.005
            misses["skate mm"] += (1e3 * np.linalg.norm(places[2, 15:17] - places[1, 15:17], axis=-1))[stands].tolist()
    return {name: float(np.nanmean(values)) for name, values in misses.items()}


def clips(options: argparse.Namespace) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for path in sorted(options.videos.iterdir()):
        with tempfile.TemporaryDirectory() as folder:
            spent = []
            for name, records, seconds in both(path, Path(folder)):
                spent.append(seconds)
                table[f"{path.stem} | {name}"] = _steadiness(records)
                print(path.stem, name, _text(table[f"{path.stem} | {name}"]), flush=True)
        table[f"{path.stem} | refined"]["cost"] = spent[1] / spent[0]
    for name in ("causal", "refined"):
        rows = [row for key, row in table.items() if key.endswith(f"| {name}")]
        table[f"mean | {name}"] = {key: float(np.nanmean([row.get(key, np.nan) for row in rows])) for key in rows[0]}
    return table


def _steadiness(records: list[Record]) -> dict[str, float]:
    """Of everybody who is there for a dozen frames; who was predicted counts as a gap bridged."""
    people: dict[int, list[tuple[Record, int]]] = defaultdict(list)
    for r in records:
        for row, identity in enumerate(r.people.ids.tolist()):
            people[identity].append((r, row))
    figures: dict[str, list[float]] = defaultdict(list)
    gaps = 0
    for seen in people.values():
        frames = [r.frame for r, _ in seen]
        gaps += int(np.sum(np.diff(frames) > 1))
        if len(seen) < 12:
            continue
        times = np.array([r.time for r, _ in seen])
        keypoints = np.stack([r.people.keypoints[row] for r, row in seen]).astype(np.float64)
        places = np.stack([r.bodies.joints3d[row, :17] for r, row in seen if r.bodies is not None]).astype(np.float64)
        size = np.array([(r.people.boxes[row, 2:] - r.people.boxes[row, :2]).max() for r, row in seen])
        sure = (keypoints[:, LIMBS, 2] > 0.3).all(1)
        figures["jitter"] += _acceleration(times, lifting.about_hips(places)[:, LIMBS], sure)
        figures["keypoints"] += _acceleration(times, keypoints[:, LIMBS, :2] / np.median(size), sure)
        ankles = keypoints[:, 15:17]
        moving = np.linalg.norm(np.diff(ankles[..., :2], axis=0), axis=-1) / size[1:, None] / np.diff(times)[:, None]
        still = (moving < 0.1) & (np.minimum(ankles[1:, :, 2], ankles[:-1, :, 2]) >= 0.5)
        moved = 1e3 * np.linalg.norm(np.diff(places[:, 15:17], axis=0), axis=-1) / np.diff(times)[:, None]
        figures["skate"] += moved[still].tolist()
    predicted = sum(int((r.people.status == Status.PREDICTED).all(1).sum()) for r in records)
    means = {name: float(np.nanmean(values)) if values else np.nan for name, values in figures.items()}
    return {**means, "identities": len(people), "gaps": gaps, "bridged": predicted}


def _acceleration(times: F64, places: F64, sure: Any) -> list[float]:
    step = np.diff(times)
    speed = np.diff(places, axis=0) / step[:, None, None]
    change = np.diff(speed, axis=0) / (0.5 * (step[1:] + step[:-1]))[:, None, None]
    steady = (np.maximum(step[1:], step[:-1]) < 2.5 * np.median(step)) & sure[2:] & sure[1:-1] & sure[:-2]
    values = np.linalg.norm(change[steady], axis=-1).mean(1)
    return list(values[np.isfinite(values)])


def _text(row: dict[str, Any]) -> str:
    return "  ".join(f"{key} {value:.3g}" for key, value in row.items())


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function in (synthetic, reference, clips):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function, network=None)
        command.add_argument("--json", type=Path, help="write the table here")
        if function is synthetic:
            command.add_argument("--mocap", type=Path, required=True)
            command.add_argument("--split", choices=("tuning", "scored"), required=True)
            command.add_argument("--network", type=Path, help="another lifter.onnx than the one that comes with rtpose")
        if function is clips:
            command.add_argument("--videos", type=Path, required=True)
    options = parser.parse_args(arguments)
    table = options.function(options)
    for name, row in table.items():
        print(f"{name:48s}", _text(row))
    if options.json is not None:
        options.json.write_text(json.dumps(about() | {"rows": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()

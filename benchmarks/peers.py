"""Us and what a user would pick instead, on the same clips, interleaved in one run.

    python benchmarks/peers.py speed [--rounds 3] [--clips a.mp4,b.mp4]      # add rounds to the file; may be stopped and repeated
    python benchmarks/peers.py accuracy                                      # val2017 pictures, and jitter on the clips
    python benchmarks/peers.py table                                         # what the file holds, as ratios

Systems: rtpose as shipped (bodies on); rtpose without bodies; MediaPipe Pose 0.10.21 lite, full and heavy (one person, no mesh, its own
tracking on) in an OpenCV loop; the bare networks that rtpose ships in a naive OpenCV loop: detector on every frame, then each person.
Each runs in a process of its own that stays; rounds go through all systems in turn, and ratios are of medians within one file.
Everybody decodes the clip themselves. cpu: processor time of the process a frame. latency: in loops the time of one turn, decoding
included; for rtpose packet to result in a live run at the clip's own rate (without bodies: of the offline run, whose queues are
full). memory: the process's peak. The environment for
MediaPipe is made at first use in --envs (PyPI mediapipe==0.10.21, npm @mediapipe/pose for the lite and heavy networks).

Accuracy: OKS and ankle PCK as `benchmarks/keypoints.py` measures them, boxes around the joints seen (`rtpose.tracking.extent`), over all
measured people of the val2017 pictures, and over those who are the only labelled person of their picture, since MediaPipe reports one.
Jitter: median over frames of the mean second difference of shoulders to ankles, in percent of the person's height, a frame squared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np

HERE = Path(__file__).resolve()
SHARED = HERE.parent.parent.parent / "shared"
VIDEOS = SHARED / "data/videos"
RESULTS = HERE.parent / "results/peers.json"

ONE = ("tfjs_pose_1.mp4", "tfjs_pose_squats.mp4", "mmpose_body3d_demo.mp4", "pymaf_dancer.mp4")
TWO = ("mmhuman3d_multi_person_demo.mp4",)
SYSTEMS = ("rtpose", "rtpose, no bodies", "mediapipe lite", "mediapipe full", "mediapipe heavy", "naive loop")

COCO_OF_MEDIAPIPE = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
"""The landmark of MediaPipe that is each of COCO's keypoints."""

LIMBS = slice(5, 17)

Poses = list[np.ndarray[Any, Any]]
"""A frame each: keypoints (n, 17, 3) px of the people."""


class Worker:
    """A system in a process of its own: one JSON line asks, one answers."""

    def __init__(self, system: str, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, HERE, "--work", system], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
        )

    def ask(self, **question: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"a worker ended with {self._process.wait()}")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def mediapipe_python(envs: Path) -> Path:
    """The interpreter of an environment with MediaPipe and all three networks, made if it is not there."""
    python = envs / "mediapipe/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", envs / "mediapipe"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "mediapipe==0.10.21"], check=True)
    code = "import mediapipe, pathlib; print(pathlib.Path(mediapipe.__file__).parent)"
    package = Path(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip())
    folder = package / "modules/pose_landmark"
    if not (folder / "pose_landmark_heavy.tflite").exists():
        with tempfile.TemporaryDirectory() as temporary:
            subprocess.run(["npm", "pack", "@mediapipe/pose"], cwd=temporary, check=True, capture_output=True)
            shutil.unpack_archive(next(Path(temporary).glob("*.tgz")), temporary)
            for size in ("lite", "heavy"):
                shutil.copy(Path(temporary) / f"package/pose_landmark_{size}.tflite", folder)
    return python


# What runs in the workers.


def work(system: str) -> None:
    """Answer questions about one system until the standard input ends."""
    track, pictures = _mediapipe(system) if system.startswith("mediapipe") else _rtpose(system)
    for line in sys.stdin:
        question = json.loads(line)
        if "clip" in question:
            print(json.dumps(track(question["clip"], question["poses"], question["live"])), flush=True)
        else:
            print(json.dumps({"poses": [pictures(path) for path in question["pictures"]]}), flush=True)


def _timed(run: Callable[[], tuple[int, list[float], Poses]], poses: bool) -> dict[str, Any]:
    begin, cpu = time.perf_counter(), time.process_time()
    frames, latency, found = run()
    seconds, used = time.perf_counter() - begin, time.process_time() - cpu
    answer = {
        "frames": frames,
        "fps": frames / seconds,
        "cpu_ms": 1e3 * used / frames,
        "people": float(np.mean([len(p) for p in found])),
        "latency_ms": [1e3 * float(np.percentile(latency, p)) for p in (50, 95)],
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    return answer | ({"poses": [np.round(p, 2).tolist() for p in found]} if poses else {})


def _loop(clip: str, step: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> tuple[int, list[float], Poses]:
    """What everybody writes: read, convert, compute, again."""
    capture = cv2.VideoCapture(clip)
    latency: list[float] = []
    found: Poses = []
    while True:
        begin = time.perf_counter()
        ok, image = capture.read()
        if not ok:
            return len(found), latency, found
        found.append(step(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)))
        latency.append(time.perf_counter() - begin)


def _mediapipe(system: str) -> tuple[Callable[[str, bool, bool], Any], Callable[[str], Any]]:
    import mediapipe as mp

    complexity = ("lite", "full", "heavy").index(system.split()[1])

    def step(pose: Any, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        marks = pose.process(image).pose_landmarks
        if marks is None:
            return np.zeros((0, 17, 3))
        points = np.array([(m.x * image.shape[1], m.y * image.shape[0], m.visibility) for m in marks.landmark])
        return points[None, COCO_OF_MEDIAPIPE]

    def track(clip: str, poses: bool, live: bool) -> Any:
        with mp.solutions.pose.Pose(model_complexity=complexity) as pose:
            pose.process(np.zeros((64, 64, 3), np.uint8))  # loading the networks is not timed
            return _timed(lambda: _loop(clip, lambda image: step(pose, image)), poses)

    still = mp.solutions.pose.Pose(model_complexity=complexity, static_image_mode=True)
    return track, lambda path: step(still, cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)).tolist()


def _rtpose(system: str) -> tuple[Callable[[str, bool, bool], Any], Callable[[str], Any]]:
    from rtpose.app import Networks, make_stages
    from rtpose.pipeline import run
    from rtpose.settings import Settings
    from rtpose.source import Paced, open_source, read_picture
    from rtpose.types import Frame, Result

    settings = Settings(lifter="none") if system == "rtpose, no bodies" else Settings()
    networks = Networks(settings, open_source(VIDEOS / ONE[0]).info)

    class Sink:
        name, latest, main_thread = "results", False, False

        def __init__(self) -> None:
            self.found: Poses = []

        def write(self, result: Result) -> None:
            self.found.append(result.people.keypoints)

        def close(self) -> None:
            pass

    def track(clip: str, poses: bool, live: bool) -> Any:
        if system == "naive loop":
            return _timed(lambda: _loop(clip, _naive(networks)), poses)
        source = open_source(clip)
        stages, sink = make_stages(networks, source.info), Sink()

        def offline() -> tuple[int, list[float], Poses]:
            report = run(source, stages, [sink])
            return report.frames, list(report.latency), sink.found

        answer = _timed(offline, poses)
        if not live or system != "rtpose":
            return answer
        paced = Paced(open_source(clip))
        report = run(paced, make_stages(networks, paced.info), [Sink()], live=True)
        answer["latency_ms"] = [1e3 * float(np.percentile(report.latency, p)) for p in (50, 95)]
        answer["dropped_live"] = report.dropped["entrance"]
        return answer

    def picture(path: str) -> Any:
        image = read_picture(Path(path))
        if system == "naive loop":
            return _naive(networks)(image).tolist()
        source = open_source(path)
        result = Result(Frame(0, 0.0, image, 0, independent=True))
        for stage in make_stages(networks, source.info):
            result = stage(result)
        return result.people.keypoints.tolist()

    return track, picture


def _naive(networks: Any) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    """Detector on every frame, one crop after the other, no tracking."""
    from rtpose.stages.detect import Detector
    from rtpose.stages.keypoints import KeypointEstimator

    detector = Detector(networks.detector, threshold=0.35)
    estimator = KeypointEstimator(networks.keypoints)

    def step(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        found = [estimator.estimate(image, box[None]) for box in detector.detect(image).xyxy]
        return np.concatenate(found) if found else np.zeros((0, 17, 3), np.float32)

    return step


# What asks them.


def speed(state: dict[str, Any], workers: dict[str, Worker], clips: list[str], rounds: int, path: Path) -> None:
    """Add rounds of all systems over the clips to the file."""
    for worker in workers.values():  # unmeasured: everything is loaded and compiled afterwards
        worker.ask(clip=str(VIDEOS / clips[0]), poses=False, live=False)
    for _ in range(rounds):
        for clip in clips:
            for system, worker in workers.items():
                row = worker.ask(clip=str(VIDEOS / clip), poses=False, live=True)
                state["speed"].append({"system": system, "clip": clip, **row})
                save(state, path)


def accuracy(state: dict[str, Any], workers: dict[str, Worker], path: Path) -> None:
    """Score all systems on the val2017 pictures, and measure their jitter on the clips of one person."""
    sys.path.insert(0, str(HERE.parent))
    from keypoints import pictures, score

    from rtpose.tracking import extent
    from rtpose.types import People

    def people(poses: list[Any]) -> People:
        points = np.array(poses, np.float32).reshape(-1, 17, 3)
        boxes = np.array([extent(pose, np.zeros(4, np.float32)) for pose in points], np.float32).reshape(-1, 4)
        ids, status = np.arange(1, len(points) + 1), np.zeros(points.shape[:2], np.uint8)
        return People(ids, boxes, points[..., 2].mean(1), points, status, points)

    labelled = pictures("val2017")
    alone = np.array([len(p.keypoints) == 1 for p in labelled])
    for system, worker in workers.items():
        if system == "rtpose, no bodies":
            continue
        answer = worker.ask(pictures=[str(p.path) for p in labelled])["poses"]
        scores = score([(p, people(poses)) for p, poses in zip(labelled, answer, strict=True)])
        lone = alone[scores.picture]
        ankles = score([(p, people(a)) for p, a, one in zip(labelled, answer, alone, strict=True) if one]).ankles
        row = {
            "AR": float(scores.recall.mean()),
            "ankle_pck": float(scores.ankles.mean()),
            "AR_alone": float(scores.recall[lone].mean()),
            "ankle_pck_alone": float(ankles.mean()),
            "people_alone": int(lone.sum()),
            "jitter_percent": {
                c: jitter(worker.ask(clip=str(VIDEOS / c), poses=True, live=False)["poses"]) for c in (ONE[0], ONE[2])
            },
        }
        state["accuracy"][system] = row
        save(state, path)


def jitter(poses: list[Any]) -> float:
    """See the module's beginning; frames in which nobody or more than one person is found are left out."""
    found = [np.array(p[0])[LIMBS, :2] if len(p) == 1 else np.full((12, 2), np.nan) for p in poses]
    points = np.stack(found)
    height = np.nanmedian(np.ptp(points[..., 1], axis=1))
    second = np.linalg.norm(points[2:] - 2 * points[1:-1] + points[:-2], axis=-1).mean(axis=1)
    return float(100 * np.nanmedian(second) / height)


def save(state: dict[str, Any], path: Path) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(state, indent=1) + "\n")
    os.replace(partial, path)


def table(state: dict[str, Any]) -> None:
    """Medians, and ratios to MediaPipe full, clip by clip; then accuracy."""
    for clip in dict.fromkeys(row["clip"] for row in state["speed"]):
        rows = {s: [r for r in state["speed"] if (r["system"], r["clip"]) == (s, clip)] for s in SYSTEMS}
        full = np.median([r["fps"] for r in rows["mediapipe full"]]) if rows["mediapipe full"] else np.nan
        print(f"\n{clip}: medians of {len(rows[SYSTEMS[0]])} rounds")
        print(f"{'':20}{'people':>8}{'fps':>8}{'/ full':>8}{'cpu ms':>8}{'p50 ms':>8}{'p95':>8}{'MB':>8}")
        for system, runs in rows.items():
            if runs:
                people, fps, cpu, memory = (np.median([r[k] for r in runs]) for k in ("people", "fps", "cpu_ms", "memory_mb"))
                low, high = np.median([r["latency_ms"] for r in runs], axis=0)
                print(f"{system:20}{people:8.2f}{fps:8.1f}{fps / full:8.2f}{cpu:8.1f}{low:8.1f}{high:8.1f}{memory:8.0f}")
    for system, row in state["accuracy"].items():
        print(system, {k: {c: round(j, 3) for c, j in v.items()} if isinstance(v, dict) else round(v, 3) for k, v in row.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("speed", "accuracy", "table"), default="table")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", default=",".join((*ONE, *TWO)))
    parser.add_argument("--systems", default=";".join(SYSTEMS), help="with semicolons")
    parser.add_argument("--envs", type=Path, default=Path.home() / ".cache/rtpose-peers")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work)
        return
    state: dict[str, Any] = json.loads(given.json.read_text()) if given.json.exists() else {"speed": [], "accuracy": {}}
    if given.part == "table":
        table(state)
        return
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    state["about"] = {"machine": machine, "date": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    theirs, ours = mediapipe_python(given.envs), Path(sys.executable)
    systems = given.systems.split(";")
    workers = {system: Worker(system, theirs if system.startswith("mediapipe") else ours) for system in systems}
    try:
        if given.part == "speed":
            speed(state, workers, given.clips.split(","), given.rounds, given.json)
        else:
            accuracy(state, workers, given.json)
    finally:
        for worker in workers.values():
            worker.close()
    table(state)


if __name__ == "__main__":
    main()

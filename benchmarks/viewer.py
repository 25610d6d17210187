"""The viewer's loop without a display: how often it shows people who move, and where the time goes.

    python benchmarks/viewer.py [--people 2] [--frames 200] [--size 1120x640] [--detail light] [--json FILE]

Each round hands the viewer a new result (a 1280x720 picture with as many walking bodies) and waits for the finished view: bodies
posed and skinned, rendered by Open3D, read back, composed with the picture, its skeletons and the line of text.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rtpose.bench import about
from rtpose.render import draw
from rtpose.sinks.viewer import ViewerSink, import_open3d
from tests.bodies import Walkers


def measure(options: argparse.Namespace) -> dict[str, object]:
    walkers = Walkers(1280, 720)
    width, height = map(int, options.size.split("x"))
    ids = tuple(range(1, options.people + 1))
    results = [walkers.result(i, ids) for i in range(30)]
    views = {"mesh": "mesh", "skeleton": "skeleton", "camera's view": "mesh"}
    rows = {}
    for name, mode in views.items():
        sink = ViewerSink(walkers.lifted, window=False, detail=options.detail, size=(width, height))
        if sink.mode != mode:
            sink.toggle()
        if name == "camera's view":
            sink.look_from_camera()
        times = []
        for i in range(options.frames + 10):
            begin, used = time.perf_counter(), time.process_time()
            sink.write(results[i % len(results)])
            _ = sink.picture
            times.append((time.perf_counter() - begin, time.process_time() - used))
        sink.close()
        rows[name] = summary(np.array(times[10:]))
    rows["overlay 1080p, 2D"], rows["overlay 1080p, meshes"] = overlay(ids, options.frames)
    return {
        **about(),
        "open3d": import_open3d().__version__,
        "people": options.people,
        "size": options.size,
        "detail": options.detail,
        "rows": rows,
    }


def overlay(ids: tuple[int, ...], frames: int) -> list[dict[str, float]]:
    """What `--out` draws into a 1920x1080 picture, without and with meshes, in turn (the encoder is not in it)."""
    walkers = Walkers(1920, 1080)
    results = [walkers.result(i, ids) for i in range(10)]
    seconds: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for i in range(frames + 5):
        for meshes in (False, True):
            begin, used = time.perf_counter(), time.process_time()
            draw(results[i % 10], walkers.lifted if meshes else None)
            seconds[meshes].append((time.perf_counter() - begin, time.process_time() - used))
    return [summary(np.array(seconds[meshes][5:])) for meshes in (False, True)]


def summary(times: NDArray[np.float64]) -> dict[str, float]:
    """Of (n, 2) seconds by the clock and of processors."""
    took, cpu = times.T
    return {
        "fps": 1 / float(took.mean()),
        "ms_p50": 1e3 * float(np.median(took)),
        "ms_p95": 1e3 * float(np.quantile(took, 0.95)),
        "ms_least": 1e3 * float(took.min()),
        "cpu_ms": 1e3 * float(cpu.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", default="1120x640")
    parser.add_argument("--detail", choices=("light", "full"), default="light")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = measure(options)
    print(f"{options.people} people, {options.size}, {options.detail} mesh; load {report['host']['load']:.1f}")
    print(f"{'view':22} {'fps':>6} {'p50 ms':>7} {'p95 ms':>7} {'least':>6} {'cpu ms':>7}")
    for name, row in report["rows"].items():
        print(
            f"{name:22} {row['fps']:6.1f} {row['ms_p50']:7.1f} {row['ms_p95']:7.1f} {row['ms_least']:6.1f} {row['cpu_ms']:7.1f}"
        )
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

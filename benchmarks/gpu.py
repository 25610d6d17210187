"""Every engine and the whole program, measured on a machine with an NVIDIA GPU; benchmarks/gpu.sh sets up what this needs.

    python benchmarks/gpu.py --json gpu.json --clip out/demo.mp4

A network's time runs from arrays in ordinary memory to arrays in ordinary memory: copies to and from the GPU are in it, cutting
crops and decoding are not. The program's latency runs from the moment a packet is read until its result is there. Nothing is
averaged over warm-up. --backend runs the same measurements on another backend, which needs no GPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import time
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rtpose import __version__, engines
from rtpose.app import Networks, make_stages
from rtpose.backends import open_session, tensorrt
from rtpose.errors import RtposeError
from rtpose.pipeline import run
from rtpose.settings import Settings
from rtpose.sinks.progress import percentiles
from rtpose.source import open_source

BATCHES = (1, 4, 12)
STATE = (
    "driver_version,name,memory.total,power.limit,power.draw,clocks.sm,clocks.max.sm,temperature.gpu,pstate,"
    "clocks_throttle_reasons.active"
)


def said(*command: str) -> str:
    """What a program of the system prints, or that it is not there."""
    if shutil.which(command[0]) is None:
        return f"no {command[0]} here"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()


def surroundings() -> dict[str, Any]:
    """The machine and its software; a power mode or throttled clocks explain figures that surprise."""
    found: dict[str, Any] = {"rtpose": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in ("tensorrt", "tensorrt_rtx", "torch", "openvino", "numpy", "onnx"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    release = Path("/etc/nv_tegra_release")
    found["jetson"] = release.read_text().strip() if release.exists() else None
    found["power mode"] = said("nvpmodel", "-q")
    found["date"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return found


def throttling() -> str:
    """Clocks, power, temperature and why clocks are held down, as the driver says."""
    return said("nvidia-smi", f"--query-gpu={STATE}", "--format=csv,noheader")


def times(seconds: list[float]) -> dict[str, float]:
    return dict(zip(("p50", "p95", "p99"), (1e3 * value for value in percentiles(seconds)), strict=True))


def networks(backend: str, calls: int) -> list[dict[str, Any]]:
    """One row for each network, precision and batch: what was built, how far from f32 it is, ms."""
    rows: list[dict[str, Any]] = []
    for recipe, model in [(each.fitted(model), model) for each in engines.recipes().values() for model in each.networks()]:
        feeds = engines.reference_feeds(recipe)
        for precision in recipe.precisions:
            row: dict[str, Any] = {"network": model.name, "precision": precision}
            begin = time.perf_counter()
            try:
                session = open_session(model.path, backend=backend, precision=precision)
            except RtposeError as error:
                rows.append({**row, "error": str(error)})
                continue
            row |= {"backend": session.backend, "really": session.precision, "open s": time.perf_counter() - begin}
            row["from f32"] = tensorrt.check(session, recipe, model)
            for batch in BATCHES:
                if batch > recipe.shapes[next(iter(feeds))][2][0]:
                    continue
                given = {name: array[:1].repeat(batch, 0) for name, array in feeds.items()}
                for _ in range(max(3, calls // 10)):
                    session(given)
                seconds = []
                for _ in range(calls):
                    begin = time.perf_counter()
                    session(given)
                    seconds.append(time.perf_counter() - begin)
                rows.append({**row, "batch": batch, "ms": times(seconds), "state": throttling()})
            session.close()
    return rows


def program(backend: str, clip: str, lifter: str) -> dict[str, Any]:
    """The whole pipeline over a clip, nothing dropped, results thrown away."""
    source = open_source(clip)
    loaded = Networks(Settings(backend=backend, lifter=lifter), source.info)
    report = run(source, make_stages(loaded, source.info), [])
    stages = {stage.name: times(list(stage.samples)) for stage in report.stages}
    return {
        "clip": f"{source.info.width}x{source.info.height}",
        "networks": loaded.describe(),
        "frames": report.frames,
        "fps": report.frames / report.seconds,
        "latency ms": times(list(report.latency)),
        "stages ms": stages,
        "state": throttling(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="write everything there")
    parser.add_argument("--clip", required=True, help="the video for the whole program")
    parser.add_argument("--backend", help="by default the flavour of TensorRT that is installed")
    parser.add_argument("--calls", type=int, default=500, help="timed calls for each network, precision and batch")
    given = parser.parse_args()
    console = Console()
    found: dict[str, Any] = {"machine": surroundings(), "before": throttling()}
    backend = given.backend
    if backend is None:
        gpu = tensorrt.find_gpu()
        backend = tensorrt.any_installed()[0]
        found["gpu"] = {"name": gpu.name, "generation": gpu.target, "CUDA of the driver": gpu.driver}
    found["networks"] = networks(backend, given.calls)
    found["program"] = [program(backend, given.clip, lifter) for lifter in ("none", "lifter")]
    found["after"] = throttling()
    given.json.write_text(json.dumps(found, indent=1) + "\n")

    console.print({key: value for key, value in found["machine"].items() if value}, found.get("gpu", ""))
    table = Table("network", "asked for", "really", "batch", "p50 ms", "p95", "p99", "from f32", title="networks")
    for row in found["networks"]:
        if "error" in row:
            console.print(f"{row['network']} in {row['precision']}: {row['error']}", highlight=False)
            continue
        figures = ", ".join(f"{name} {value:.3g}" for name, value in row["from f32"].items())
        cells = (f"{row['ms'][p]:.2f}" for p in ("p50", "p95", "p99"))
        table.add_row(row["network"], row["precision"], row["really"], str(row["batch"]), *cells, figures)
    console.print(table)
    table = Table("lifter", "frames", "fps", "latency p50 ms", "p95", "p99", title="the whole program")
    for row in found["program"]:
        cells = (f"{row['latency ms'][p]:.1f}" for p in ("p50", "p95", "p99"))
        table.add_row(row["networks"].get("lifter", "none"), str(row["frames"]), f"{row['fps']:.1f}", *cells)
    console.print(table)
    console.print(f"before: {found['before']}\nafter:  {found['after']}\nPlease send {given.json} back.", highlight=False)


if __name__ == "__main__":
    main()

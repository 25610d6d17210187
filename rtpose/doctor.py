"""`rtpose doctor`: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from . import __version__
from .backends import BACKENDS, PRECISIONS, open_session
from .errors import RtposeError
from .models import find, models, verify
from .terminal import Console, for_output, say

Finding = tuple[str, str, str]
"""What was looked at, what was found, what to do about it (empty: nothing)."""

OPTIONAL = {
    "onnxruntime": "a second backend: pip install 'rtpose[onnxruntime]'",
    "open3d": "the 3D viewer: pip install 'rtpose[viewer]'",
    "torch": "training and TensorRT: pip install 'rtpose[train]'",
    "tensorrt": "engines for NVIDIA cards: pip install 'rtpose[tensorrt]'",
}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _packages() -> Iterator[Finding]:
    yield "rtpose", f"{__version__}, Python {platform.python_version()}, {platform.platform()}", ""
    yield "needed packages", ", ".join(f"{p} {_installed(p)}" for p in ("numpy", "openvino", "av", "opencv-python", "numba")), ""
    for package, purpose in OPTIONAL.items():
        found = _installed(package)
        yield package, found or "not installed", "" if found else purpose


def _processor() -> Iterator[Finding]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags: set[str] = set()
    info = Path("/proc/cpuinfo")
    if info.exists():
        flags = {f for line in info.read_text().splitlines() if line.startswith(("flags", "Features")) for f in line.split()}
    fast = [f for f in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "asimd", "bf16", "i8mm") if f in flags]
    yield "processor", f"{usable} usable, {' '.join(fast) or 'no vector extensions known here'}", ""


def _networks() -> Iterator[Finding]:
    for model in models().values():
        try:
            verify(model)
            yield f"model {model.name}", f"{model.task}, {model.size / 1e6:.1f} MB, checksum right", ""
        except RtposeError as error:
            yield f"model {model.name}", str(error), "install rtpose again"
    path = find("nanodet", "detector").path
    for backend in BACKENDS:
        works, fails = [], ""
        for precision in PRECISIONS[1:]:
            try:
                session = open_session(path, backend=backend, precision=precision, threads=1)
            except RtposeError as error:
                fails = str(error)
                continue
            shape, dtype = next(iter(session.inputs.values()))
            session({name: np.zeros([n or 1 for n in shape], dtype) for name in session.inputs})
            works.append(session.precision)
            session.close()
        yield f"backend {backend}", "runs " + ", ".join(works) if works else "does not run", "" if works else fails


def _video() -> Iterator[Finding]:
    import av
    import cv2

    encoder = "libx264" in av.codecs_available
    yield (
        "H.264 encoder",
        "libx264" if encoder else "none",
        "" if encoder else "install the av wheel of PyPI, which carries libx264",
    )
    gstreamer = "GStreamer:                   YES" in cv2.getBuildInformation()
    remedy = "only for GStreamer pipelines (Jetson's CSI cameras): use an OpenCV built with GStreamer, as JetPack's is"
    yield "GStreamer in OpenCV", "yes" if gstreamer else "no", "" if gstreamer else remedy
    cameras = sorted(Path("/dev").glob("video*"))
    locked = [c.name for c in cameras if not os.access(c, os.R_OK | os.W_OK)]
    found = ", ".join(c.name for c in cameras) or "none"
    remedy = "connect one, or pass its device into the container" if not cameras else ""
    yield "cameras", found, f"no access to {', '.join(locked)}: add yourself to the group video" if locked else remedy


def _surroundings() -> Iterator[Finding]:
    display = next((f"{v}={os.environ[v]}" for v in ("WAYLAND_DISPLAY", "DISPLAY") if os.environ.get(v)), "")
    yield "display", display or "none", "" if display else "without one, --view has nowhere to open; --out and --save work"
    gpu = shutil.which("nvidia-smi")
    yield "NVIDIA driver", gpu or "none", "" if gpu else "only TensorRT needs one"
    from .backends.openvino import cache_folder

    folder = cache_folder()
    yield (
        "cache",
        str(folder) if folder else "not writable",
        "" if folder else "set RTPOSE_CACHE to a folder that can be written, for faster starts",
    )


BOUNDS = {"found": 0.85, "extra": 0.1, "misnamed": 0.2, "keypoint_px": 12.0, "joint_mm": 140.0}
"""What the reference clip must give: at least the first, at most the others."""


def selfcheck(console: Console) -> bool:
    """Run the defaults on the reference clip with every backend that is here; True where all give the right people and bodies."""
    from .app import track
    from .reference import CLIP, compare, truth

    table = Table(title="self-check: the reference clip, whose truth is known", title_justify="left")
    for column in ("backend", "people found", "extra a frame", "misnamed", "keypoints px", "joints mm", "verdict"):
        table.add_column(column)
    right = True
    for backend, (package, _) in BACKENDS.items():
        if _installed(package) is None:
            continue
        try:
            figures = compare(track(CLIP, backend=backend, focal=float(truth().camera[0])))
        except RtposeError as error:
            table.add_row(backend, "", "", "", "", "", escape(str(error)))
            right = False
            continue
        faults = [name for name in ("extra", "misnamed", "keypoint_px", "joint_mm") if not getattr(figures, name) <= BOUNDS[name]]
        faults += ["found"] if figures.found < BOUNDS["found"] else []
        verdict = "right" if not faults else "wrong: " + ", ".join(f"{name} beyond {BOUNDS[name]:g}" for name in faults)
        table.add_row(
            backend,
            f"{figures.found:.1%}",
            f"{figures.extra:.2f}",
            f"{figures.misnamed:.1%}",
            f"{figures.keypoint_px:.1f}",
            f"{figures.joint_mm:.0f}",
            verdict,
        )
        right &= not faults
    console.print(table)
    return right


def examine(*, check: bool = False) -> int:
    """Print a table of findings with a remedy for each thing missing, and with `check` the self-check; return 1 if rtpose cannot
    run here or gives wrong results, else 0."""
    console = for_output()
    table = Table(title="rtpose doctor", title_justify="left")
    for column in ("what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    broken = False
    parts: list[Callable[[], Iterator[Finding]]] = [_packages, _processor, _networks, _video, _surroundings]
    for part in parts:
        for what, found, remedy in part():
            table.add_row(*map(escape, (what, found, remedy)))
            broken |= what == "backend openvino" and bool(remedy)
    console.print(table)
    if broken:
        say("rtpose cannot run here: see the rows above.")
        return 1
    say("rtpose can run here.")
    return int(check and not selfcheck(console))

"""Inference sessions: one file a runtime, behind `open_session`.

A session runs one network. It belongs to one thread at a time, its outputs are the caller's to keep, and what was asked for is
never silently replaced: `Session.backend`, `.precision` and `.device` say what really runs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, Unfit

Arrays = dict[str, NDArray[Any]]
Ports = dict[str, tuple[tuple[int | None, ...], np.dtype[Any]]]
"""Name of a tensor -> its shape (None: free) and its dtype."""


class Session(Protocol):
    """A loaded network.

    threads is how many the runtime took (0: left to it). Some have a method `begin`, too: see `OpenVinoSession`.
    """

    backend: str
    device: str
    precision: str
    threads: int
    inputs: Ports
    outputs: Ports

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the network on named inputs (n, ...) and return named outputs (n, ...) that no later call touches.

        n may be 0 and change from call to call. Raises ValueError for feeds that do not fit `inputs`.
        """

    def close(self) -> None: ...


BACKENDS: dict[str, tuple[str, str]] = {
    "tensorrt": ("tensorrt", "pip install 'rtpose[tensorrt]'"),
    "tensorrt_rtx": ("tensorrt_rtx", "pip install 'rtpose[tensorrt-rtx]'"),
    "openvino": ("openvino", "pip install openvino"),
    "onnxruntime": ("onnxruntime", "pip install 'rtpose[onnxruntime]'"),
}
"""Backend name -> (the package it needs, how to get it), in the order in which `auto` tries them."""

PRECISIONS = ("auto", "f32", "bf16", "f16", "int8")

_log = logging.getLogger(__name__)


_opened = _forked = False


def _note_fork() -> None:
    global _forked
    _forked = _opened


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def check_not_forked() -> None:
    """Raise InputError in a process that was forked from one with networks: their threads are not here, and whoever waits for them waits
    for ever."""
    if _forked:
        raise InputError(
            "this process was forked from one in which rtpose has loaded networks, whose threads a fork leaves behind: start it by"
            ' multiprocessing.get_context("spawn")'
        )


def open_session(
    path: Path, *, backend: str = "auto", device: str = "auto", precision: str = "auto", threads: int = 0
) -> Session:
    """Load the ONNX file at `path`.

    backend `auto` takes the first of `BACKENDS` that is installed and fit, and logs why one that is installed is not. device `auto`
    is the one the backend is made for. precision `auto` takes bf16 where the processor computes it natively, else f32; on a GPU, f16
    where the network has it. threads 0 leaves the number to the runtime.
    Raises InputError for an unknown name, a missing package, a precision the backend does not have, a broken file, and in a forked
    process (see `check_not_forked`).
    """
    check_not_forked()
    global _opened
    _opened = True
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    if backend not in ("auto", *BACKENDS):
        raise InputError(f"unknown backend {backend!r}: choose one of auto, {', '.join(BACKENDS)}")
    options = {"device": device, "precision": precision, "threads": threads}
    if backend != "auto":
        return _open(backend, Path(path), options)
    *others, last = [name for name, (package, _) in BACKENDS.items() if find_spec(package)] or ["openvino"]
    for name in others:
        try:
            return _open(name, Path(path), options)
        except Unfit as unfit:
            _tell_once(f"backend {name} is not used: {unfit}")
    return _open(last, Path(path), options)


@cache
def _tell_once(message: str) -> None:
    _log.warning("%s", message)


def _open(backend: str, path: Path, options: dict[str, Any]) -> Session:
    package, remedy = BACKENDS[backend]
    try:
        module = import_module(f".{backend}", __name__)  # first: it says how the package is to be imported
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != package:
            raise
        raise InputError(f"backend {backend!r} needs the package {package}: {remedy}") from None
    return cast(Callable[..., Session], module.open_session)(path, **options)


def checked_feeds(inputs: Ports, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
    """The feeds in the order of `inputs`, contiguous. Raises ValueError where names, dtypes, shapes or row counts do not fit."""
    if set(feeds) != set(inputs):
        raise ValueError(f"the network takes {', '.join(inputs)}, not {', '.join(feeds) or 'nothing'}")
    for name, (shape, dtype) in inputs.items():
        got = feeds[name]
        fits = len(got.shape) == len(shape) and all(b in (None, a) for a, b in zip(got.shape, shape, strict=True))
        if got.dtype != dtype or not fits:
            raise ValueError(f"{name}: {dtype} {shape} expected (None: any), got {got.dtype} {got.shape}")
    if len({len(feeds[name]) for name, (shape, _) in inputs.items() if shape[:1] == (None,)}) > 1:
        raise ValueError("the inputs have different numbers of rows")
    return {name: np.ascontiguousarray(feeds[name]) for name in inputs}

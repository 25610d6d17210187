"""ONNX Runtime sessions: f32 on the processor, the second opinion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import InputError
from . import Arrays, Ports, checked_feeds

PROVIDERS = ["CPUExecutionProvider"]
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class OnnxRuntimeSession:
    """A network on ONNX Runtime."""

    backend = "onnxruntime"
    precision = "f32"
    device = "cpu"

    def __init__(self, path: Path, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        # Threads that spin while they wait would take the cores from the other stages.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=PROVIDERS)
        except Exception as error:  # its classes derive from Exception alone
            raise InputError(f"{path} is no network that ONNX Runtime can read: {' '.join(str(error).split())}") from None
        # A provider that does not work here is left out by ONNX Runtime without an error.
        if self._session.get_providers() != PROVIDERS:
            raise InputError(f"ONNX Runtime runs {path} on {self._session.get_providers()}, not on {PROVIDERS}")
        self.threads = int(self._session.get_session_options().intra_op_num_threads)
        self.inputs = _ports(self._session.get_inputs())
        self.outputs = _ports(self._session.get_outputs())

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        results = self._session.run(list(self.outputs), checked_feeds(self.inputs, feeds))
        return dict(zip(self.outputs, results, strict=True))

    def close(self) -> None:
        del self._session


def open_session(path: Path, *, device: str, precision: str, threads: int) -> OnnxRuntimeSession:
    """Load the ONNX file at `path`. See `backends.open_session`."""
    if not path.is_file():
        raise InputError(f"no such network: {path}")
    if device not in ("auto", "cpu"):
        raise InputError(f"the backend onnxruntime has no device {device!r}: choose cpu")
    if precision == "int8":
        raise InputError(f"there is no int8 form of {path.name}")
    if precision not in ("auto", "f32"):
        raise InputError(f"the backend onnxruntime does not compute in {precision}: choose auto or f32")
    return OnnxRuntimeSession(path, threads)


def _ports(values: list[Any]) -> Ports:
    return {v.name: (tuple(d if isinstance(d, int) else None for d in v.shape), np.dtype(DTYPES[v.type])) for v in values}

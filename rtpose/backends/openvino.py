"""OpenVINO sessions: the default on a processor.

A batch is run row by row on a network compiled for one row. On a processor that is as fast as a batched network or faster, needs
no new kernels when the number of people changes, and gives a person the same bits in any company. A row has all threads to itself;
where there are as many rows as threads each thread takes one, since threads that share a row wait for each other in every layer. (With
more threads than `LANES`, so many rows share them.)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from .. import folders
from ..errors import InputError
from . import Arrays, Ports, checked_feeds

PRECISIONS = {"f32": (ov.Type.f32, "FP32"), "bf16": (ov.Type.bf16, "BF16"), "f16": (ov.Type.f16, "FP16")}
"""Our name of a precision -> (OpenVINO's type, its name among the capabilities of a device)."""

Shapes = tuple[tuple[int, ...], ...]

LANES = 4
"""At most so many rows run side by side: each has memory of its own."""

_compiling = threading.Lock()
"""Held while a network is read or compiled: OpenVINO sets the process's locale meanwhile, and two at once do not set it back."""

_log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def _core() -> Any:
    return ov.Core()


def cache_folder() -> Path | None:
    """Where compiled networks are kept between runs, or None (logged once) if that place cannot be written."""
    folder = folders.cache_folder() / "openvino"
    return folder if _writable(folder) else None


@cache
def _writable(folder: Path) -> bool:
    reason = folders.unwritable(folder)
    if reason:
        _log.warning("networks are compiled anew at every start: cannot write to %s (%s)", folder, reason)
    return not reason


class OpenVinoSession:
    """A network on OpenVINO. It is compiled when opened, or on first use for each size of its input where that is free."""

    backend = "openvino"

    def __init__(self, path: Path, device: str, precision: str, threads: int) -> None:
        # What is not in eight bits is in the best the device has.
        self._floats, _ = PRECISIONS[_precision(device, "auto") if precision == "int8" else precision]
        try:
            with _compiling:
                self._model = _core().read_model(path)
        except RuntimeError as error:
            raise InputError(f"{path} is no network that OpenVINO can read: {_reason(error)}") from None
        self._path = path
        self.device = device
        self.precision = precision
        self.threads = threads
        self.inputs = _ports(self._model.inputs)
        self.outputs = _ports(self._model.outputs)
        self._by_row = all(shape[:1] == (None,) for shape, _ in (*self.inputs.values(), *self.outputs.values()))
        self._vectors = all(len(shape) == 2 for shape, _ in self.inputs.values())
        self._requests: dict[tuple[Shapes, int], list[Any]] = {}
        self._coming: set[tuple[Shapes, int]] = set()
        sizes = [(1 + self._vectors, *shape[1:]) if self._by_row else shape for shape, _ in self.inputs.values()]
        known = tuple(tuple(size for size in shape if size is not None) for shape in sizes)
        if [len(shape) for shape in known] == [len(shape) for shape in sizes]:
            self._requests_for(known, 1)

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        arrays = checked_feeds(self.inputs, feeds)
        n = len(next(iter(arrays.values())))
        # Row by row, so that what a row gets does not depend on others. Where rows are vectors, reading the weights is all the work,
        # and two cost what one does.
        step = (2 if self._vectors and n % 2 == 0 else 1) if self._by_row else n
        shapes = tuple((step, *array.shape[1:]) for array in arrays.values())
        tensors = {name: self._requests_for(shapes, 1)[0].get_tensor(name) for name in self.outputs}
        results = {name: np.empty((n, *tensor.shape[1:]), self.outputs[name][1]) for name, tensor in tensors.items()}
        lanes = min(self.threads, LANES) if self._by_row else 1
        row = 0
        while row < n:
            requests = self._side_by_side(shapes, lanes) if n - row >= lanes * step else self._requests_for(shapes, 1)
            parts = [slice(row + k * step, row + (k + 1) * step) for k in range(len(requests))]
            for request, rows in zip(requests, parts, strict=True):
                request.start_async({name: array[rows] for name, array in arrays.items()}, share_inputs=True)
            for request, rows in zip(requests, parts, strict=True):
                request.wait()
                for name in results:
                    results[name][rows] = request.get_tensor(name).data
            row += len(requests) * step
        return results

    def close(self) -> None:
        self._requests.clear()

    def _side_by_side(self, shapes: Shapes, lanes: int) -> list[Any]:
        """Requests for so many rows; while those are compiled, in a thread of its own, the one that does a row after the other: to the
        same bits, so that nobody waits and nothing depends on the clock."""
        if lanes > 1 and (shapes, lanes) not in self._requests:
            if (shapes, lanes) not in self._coming:
                self._coming.add((shapes, lanes))
                # A stage's thread is a daemon, and what it starts would be one: the process must not end in the middle of OpenVINO.
                threading.Thread(target=self._requests_for, args=(shapes, lanes), daemon=False).start()
            return self._requests_for(shapes, 1)
        return self._requests_for(shapes, lanes)

    def _requests_for(self, shapes: Shapes, lanes: int) -> list[Any]:
        """So many inference requests that run side by side, for inputs of these shapes, in the order of `inputs`."""
        if (shapes, lanes) not in self._requests:
            compiled = self._compile(shapes, lanes)
            self._requests[shapes, lanes] = [compiled.create_infer_request() for _ in range(lanes)]
        return self._requests[shapes, lanes]

    def _compile(self, shapes: Shapes, lanes: int) -> Any:
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self._floats,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": lanes,
            # Pinned, two sessions of one thread each share a core, and the second core idles.
            "ENABLE_CPU_PINNING": False,
        }
        if folder := cache_folder():
            options["CACHE_DIR"] = str(folder)
        model = self._model.clone()
        try:
            with _compiling:
                model.reshape(dict(zip(self.inputs, shapes, strict=True)))
                compiled = _core().compile_model(model, self.device.upper(), options)
        except RuntimeError as error:
            raise InputError(f"OpenVINO cannot compile {self._path} for inputs {shapes}: {_reason(error)}") from None
        if (got := compiled.get_property("INFERENCE_PRECISION_HINT")) != self._floats:
            raise InputError(f"OpenVINO compiled {self._path} in {got.to_string()}, not in {self._floats.to_string()}")
        if self.precision == "int8" and not _computes_in_eight_bits(compiled):
            raise InputError(f"OpenVINO does not compute {self._path} in int8 here: choose auto")
        self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        return compiled


def open_session(path: Path, *, device: str, precision: str, threads: int) -> OpenVinoSession:
    """Load the network at `path` (ONNX or OpenVINO's own format). See `backends.open_session`."""
    if not path.is_file():
        raise InputError(f"no such network: {path}")
    devices = [name.lower() for name in _core().available_devices]
    device = "cpu" if device == "auto" else device
    if device not in devices:
        raise InputError(f"OpenVINO has no device {device!r} here: choose one of {', '.join(devices)}")
    if precision == "int8":
        small = path.with_name(f"{path.stem}.int8.xml")
        if not small.is_file():
            raise InputError(f"there is no int8 form of {path.name}: choose another precision")
        return OpenVinoSession(small, device, precision, threads)
    return OpenVinoSession(path, device, _precision(device, precision), threads)


def _precision(device: str, asked: str) -> str:
    """What `asked` means on the device. OpenVINO's own choice is bf16 just where the processor computes it natively."""
    if asked == "auto":
        return "bf16" if _core().get_property(device.upper(), "INFERENCE_PRECISION_HINT") == ov.Type.bf16 else "f32"
    capable = _core().get_property(device.upper(), "OPTIMIZATION_CAPABILITIES")
    able = [name for name, (_, capability) in PRECISIONS.items() if capability in capable]
    if asked not in able:
        raise InputError(f"OpenVINO's device {device!r} does not compute in {asked} here: choose auto, {', '.join(able)}")
    return asked


def _computes_in_eight_bits(compiled: Any) -> bool:
    """Whether most convolutions of the compiled network really run on eight-bit numbers."""
    kinds = []
    for node in compiled.get_runtime_model().get_ops():
        about = node.get_rt_info()
        if about["layerType"].astype(str) == "Convolution":
            kinds.append(about["runtimePrecision"].astype(str))
    return sum(kind in ("i8", "u8") for kind in kinds) > len(kinds) / 2


def _ports(ports: list[Any]) -> Ports:
    return {
        port.get_any_name(): (
            tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape()),
            np.dtype(port.get_element_type().to_dtype()),
        )
        for port in ports
    }


def _reason(error: Exception) -> str:
    """The last line of OpenVINO's message; those before it say where in its source code it was."""
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1]

"""OpenVINO sessions: the default on a processor.

A batch is run row by row on a network compiled for one row. On a processor that is as fast as a batched network or faster, needs
no new kernels when the number of people changes, and gives a person the same bits in any company. A row has all threads to itself;
where there are as many rows as threads each thread takes one, since threads that share a row wait for each other in every layer. (With
more threads than `LANES`, so many rows share them.)
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .. import folders
from ..errors import InputError
from ..integrity import file_crc, with_cache
from ..telemetry import without_openvino_telemetry
from . import Arrays, Ports, checked_feeds

with without_openvino_telemetry():
    import openvino as ov
    import openvino.opset13 as opset

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


class _Request:
    """OpenVINO's inference request, which does one thing after the other, and brings what came of it to where it was wanted."""

    def __init__(self, request: Any, outputs: Iterable[str]) -> None:
        self._request = request
        self.shapes = {name: tuple(request.get_tensor(name).shape) for name in outputs}
        self._whose: tuple[Arrays, slice] | None = None
        self._among: list[_Request] = []
        self._done = 0

    def start(self, feeds: Arrays, results: Arrays, rows: slice) -> Callable[[], None]:
        """Finish what is under way, and begin anew; return what waits until `results` have these rows."""
        self.finish()
        self._whose, mine = (results, rows), self._done
        self._among = _under_way()
        self._among.append(self)
        self._request.start_async(feeds, share_inputs=True)
        return lambda: self.finish() if self._done == mine else None

    def free(self, milliseconds: int) -> bool:
        """Whether what is under way is done, or will be in so many milliseconds."""
        return bool(self._request.wait_for(milliseconds))

    def finish(self) -> None:
        """Wait for what is under way, if anything is."""
        if self._whose is not None:
            (results, rows), self._whose = self._whose, None
            self._done += 1
            self._among.remove(self)
            self._request.wait()
            for name in results:
                results[name][rows] = self._request.get_tensor(name).data


def _begin(requests: list[_Request], arrays: Arrays, results: Arrays, row: int, end: int, step: int) -> Callable[[], None]:
    """Begin the rows from `row` to `end`, `step` at a time, each as soon as one of the requests may; return what waits for all of them."""
    waits = []
    for first in range(row, end, step):
        rows = slice(first, first + step)
        waits.append(_free(requests).start({name: array[rows] for name, array in arrays.items()}, results, rows))

    def wait() -> None:
        for finish in waits:
            finish()

    return wait


def _streams(lanes: int) -> int:
    """How many requests there are for so many rows side by side: one more, so that whichever thread is done finds the next row begun, and
    needs not wait until Python has woken up."""
    return lanes if lanes == 1 else lanes + 1


def _free(requests: list[_Request]) -> _Request:
    """One of the requests that is free, when fewer than there are of these are under way, be it for other networks: more would only share
    threads, and what takes long would be done last, alone."""
    wait = 0
    while len(busy := _under_way()) >= len(requests):
        for request in [*busy]:
            if request.free(wait):
                request.finish()
        wait = 1
    return next(request for request in requests if not any(request is other for other in busy))


_own = threading.local()


def _under_way() -> list[_Request]:
    """What this thread has begun and not finished."""
    if not hasattr(_own, "requests"):
        _own.requests = []
    return cast(list[_Request], _own.requests)


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
        self._content = [file_crc(part) for part in (path, path.with_suffix(".bin")) if part.is_file()]
        self.device = device
        self.precision = precision
        self.threads = threads
        self.inputs = _ports(self._model.inputs)
        self.outputs = _ports(self._model.outputs)
        self._by_row = all(shape[:1] == (None,) for shape, _ in (*self.inputs.values(), *self.outputs.values()))
        self._vectors = all(len(shape) == 2 for shape, _ in self.inputs.values())
        self._short_weights = precision == "int8" and self._vectors and _in_eight_bits(self._model)
        if precision == "int8" and not self._short_weights and path.suffix != ".xml":
            raise InputError(f"there is no int8 form of {path.name}: choose another precision")
        self._requests: dict[tuple[Shapes, int], list[_Request]] = {}
        self._coming: set[tuple[Shapes, int]] = set()
        sizes = [(1 + self._vectors, *shape[1:]) if self._by_row else shape for shape, _ in self.inputs.values()]
        known = tuple(tuple(size for size in shape if size is not None) for shape in sizes)
        if [len(shape) for shape in known] == [len(shape) for shape in sizes]:
            self._requests_for(known, 1)

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        arrays = checked_feeds(self.inputs, feeds)
        n = len(next(iter(arrays.values())))
        step, lanes, shapes = self._parts(arrays)
        alone = self._requests_for(shapes, 1)
        results = self._room(n, alone[0])
        together = n - n % (lanes * step) if lanes > 1 else 0  # the others have all threads to themselves
        side_by_side = self._side_by_side(shapes, lanes) if together else None
        if side_by_side is None:
            together = 0
        else:
            _begin(side_by_side, arrays, results, 0, together, step)()
        _begin(alone, arrays, results, together, n, step)()
        return results

    def begin(self, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], Arrays] | None:
        """Begin what a call does, each row on a thread of its own, and return what waits for it and gives what the call would, to the same
        bits. None where that cannot be, or not yet: then nothing was begun, and a call is to be made."""
        arrays = checked_feeds(self.inputs, feeds)
        n = len(next(iter(arrays.values())))
        step, lanes, shapes = self._parts(arrays)
        requests = self._side_by_side(shapes, lanes) if lanes > 1 and n else None
        if requests is None:
            return None
        results = self._room(n, requests[0])
        wait = _begin(requests, arrays, results, 0, n, step)

        def finished() -> Arrays:
            wait()
            return results

        return finished

    def close(self) -> None:
        self._requests.clear()

    def _parts(self, arrays: Arrays) -> tuple[int, int, Shapes]:
        """How many rows are done at a time, on how many requests side by side, and the shapes of inputs of so many.

        Row by row, so that what a row gets does not depend on others. Where rows are vectors, reading the weights is all the work, and
        two cost what one does.
        """
        n = len(next(iter(arrays.values())))
        step = (2 if self._vectors and n % 2 == 0 else 1) if self._by_row else max(n, 1)
        return step, min(self.threads, LANES) if self._by_row else 1, tuple((step, *array.shape[1:]) for array in arrays.values())

    def _room(self, n: int, request: _Request) -> Arrays:
        """Arrays for the outputs of n rows."""
        return {name: np.empty((n, *shape[1:]), self.outputs[name][1]) for name, shape in request.shapes.items()}

    def _side_by_side(self, shapes: Shapes, lanes: int) -> list[_Request] | None:
        """Requests for so many rows, and one more. None while those are compiled, in a thread of its own: rows are then done one after the
        other, to the same bits, so that nobody waits and nothing depends on the clock."""
        if (shapes, lanes) in self._requests:
            return self._requests[shapes, lanes]
        if (shapes, lanes) not in self._coming:
            self._coming.add((shapes, lanes))
            # A stage's thread is a daemon, and what it starts would be one: the process must not end in the middle of OpenVINO.
            threading.Thread(target=self._requests_for, args=(shapes, lanes), daemon=False).start()
        return None

    def _requests_for(self, shapes: Shapes, lanes: int) -> list[_Request]:
        """Inference requests for so many rows side by side, for inputs of these shapes, in the order of `inputs`."""
        if (shapes, lanes) not in self._requests:
            compiled = self._compile(shapes, lanes)
            requests = [_Request(compiled.create_infer_request(), self.outputs) for _ in range(_streams(lanes))]
            self._requests[shapes, lanes] = requests
        return self._requests[shapes, lanes]

    def _compile(self, shapes: Shapes, lanes: int) -> Any:
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self._floats,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": max(self.threads, _streams(lanes)),
            "NUM_STREAMS": _streams(lanes),
            # Pinned, two sessions of one thread each share a core, and the second core idles.
            "ENABLE_CPU_PINNING": False,
        }
        if self._short_weights:
            options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0  # of the weights alone
        model = self._model.clone()

        def compile_in(folder: Path) -> Any:
            return _core().compile_model(model, self.device.upper(), options | {"CACHE_DIR": str(folder)})

        try:
            with _compiling:
                model.reshape(dict(zip(self.inputs, shapes, strict=True)))
                if root := cache_folder():
                    # OpenVINO believes whatever lies in its cache, so that each network has a folder with checksums.
                    compiled = with_cache(root / self._slot(shapes, options), compile_in)
                else:
                    compiled = _core().compile_model(model, self.device.upper(), options)
        except RuntimeError as error:
            raise InputError(f"OpenVINO cannot compile {self._path} for inputs {shapes}: {_reason(error)}") from None
        if (got := compiled.get_property("INFERENCE_PRECISION_HINT")) != self._floats:
            raise InputError(f"OpenVINO compiled {self._path} in {got.to_string()}, not in {self._floats.to_string()}")
        if self.precision == "int8" and not self._short_weights and not _computes_in_eight_bits(compiled):
            raise InputError(f"OpenVINO does not compute {self._path} in int8 here: choose auto")
        if lanes == 1:
            self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        return compiled

    def _slot(self, shapes: Shapes, options: dict[str, Any]) -> str:
        """The name of the folder for a compiled network, other for everything that it depends on: not on how many threads it will have."""
        processor = _core().get_property(self.device.upper(), "FULL_DEVICE_NAME")
        chosen = sorted(
            (name, str(value)) for name, value in options.items() if name not in ("INFERENCE_NUM_THREADS", "NUM_STREAMS")
        )
        said = [ov.__version__, processor, self._content, self._short_weights, shapes, chosen]
        return f"{self._path.stem}-{hashlib.blake2b(repr(said).encode(), digest_size=8).hexdigest()}"


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
        return OpenVinoSession(small if small.is_file() else path, device, precision, threads)
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


def _in_eight_bits(model: Any) -> bool:
    """Keep the matrices of a network in eight bits, with a scale for each output; whether it has any. They are a quarter of the bytes, and
    to read them is most of the work where few rows are asked about. What is computed stays in full precision."""
    found = False
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and node.input_value(1).get_node().get_type_name() == "Constant":
            matrix = node.input_value(1).get_node().data
            scale = np.abs(matrix).max(axis=1 if node.get_attributes()["transpose_b"] else 0, keepdims=True) / 127
            short = np.round(matrix / np.maximum(scale, 1e-30)).astype(np.int8)
            factors = opset.convert(opset.constant(short), "f32"), opset.constant(scale.astype(np.float32))
            node.input(1).replace_source_output(opset.multiply(*factors).output(0))
            found = True
    return found


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

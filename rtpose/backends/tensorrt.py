"""TensorRT sessions, for `tensorrt` 10.3 to 11 and for `tensorrt_rtx`, whose interface is the same but for a few names.

Networks are strongly typed: an engine computes in the types of its ONNX file, and no builder flag changes that. An engine is
checked against f32 results of the default backend before it is trusted. torch carries the buffers on the GPU.
Builder and runtime answer None where they fail; here that becomes an error with what they logged.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from .. import engines
from ..engines import Key, Recipe, Shape, Store
from ..errors import InputError, Unfit
from ..models import Model, verify
from . import Arrays, Ports, checked_feeds
from . import open_session as open_on

if TYPE_CHECKING:
    # Exist in the stubs that scripts/tensorrt_api.py makes of the real bindings; `Module` is the module itself as a type.
    from tensorrt import ICudaEngine, Module, ParserError
    from tensorrt_rtx import IBuilderConfig as RtxConfig
    from tensorrt_rtx import Module as RtxModule

RTX = "tensorrt_rtx"
FLAVOURS = ("tensorrt", RTX)
OPTIONS = {"optimization_level": 3, "workspace_mib": 1024}
REFERENCE = "openvino"

_recording = threading.Lock()


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU: its name, its generation as "sm89", and the CUDA version its driver speaks."""

    name: str
    target: str
    driver: str


def find_gpu() -> Gpu:
    """Ask the driver itself, since TensorRT's runtime may crash without one. Raises Unfit where there is no usable GPU."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise Unfit("TensorRT needs an NVIDIA GPU: no driver is installed (libcuda.so.1 is not there)") from None

    def ask(function: str, *arguments: Any) -> None:
        if code := getattr(cuda, function)(*arguments):
            text = ctypes.c_char_p()
            cuda.cuGetErrorString(code, ctypes.byref(text))
            said = text.value.decode() if text.value else f"error {code}"
            raise Unfit(f"TensorRT needs an NVIDIA GPU: the driver says {said!r}")

    device, major, minor, version = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(256)
    ask("cuInit", 0)
    ask("cuDeviceGet", ctypes.byref(device), 0)
    ask("cuDeviceGetName", name, 256, device)
    ask("cuDeviceGetAttribute", ctypes.byref(major), 75, device)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    ask("cuDeviceGetAttribute", ctypes.byref(minor), 76, device)  # and _MINOR
    ask("cuDriverGetVersion", ctypes.byref(version))
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(name.value.decode(), f"sm{major.value}{minor.value}", driver)


def load(flavour: str) -> Module:
    """The Python module of that flavour of TensorRT."""
    return cast("Module", import_module(flavour))


@cache
def _logger(api: Module) -> Any:
    base: Any = api.ILogger
    serious = (api.ILogger.Severity.INTERNAL_ERROR, api.ILogger.Severity.ERROR)

    class Log(base):  # type: ignore[misc]  # a class known only when TensorRT is loaded
        def __init__(self) -> None:
            base.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in serious:
                self.errors.append(" ".join(message.split()))

    return Log()


def _why(log: Any) -> str:
    """What TensorRT logged since the last time, in one line."""
    said = "; ".join(log.errors[-2:]) or "it does not say why"
    log.errors.clear()
    return said


def compile_engine(
    api: Module, graph: bytes, shapes: Mapping[str, tuple[Shape, Shape, Shape]], targets: tuple[str, ...] = ()
) -> bytes:
    """Compile an ONNX file.

    shapes: input name -> (least, usual, most). targets: GPU generations to compile for ahead of time, which TensorRT-RTX alone can;
    empty: the GPU at hand. Raises InputError that names the node which TensorRT refuses, or says why it gave up.
    """
    log = _logger(api)
    log.errors.clear()
    builder = api.Builder(log)
    network = builder.create_network(1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = api.OnnxParser(network, log)
    if not parser.parse(graph):
        errors: list[ParserError] = [parser.get_error(k) for k in range(parser.num_errors)]
        said = "; ".join(f"{e.node_operator() or 'file'} {e.node_name()}: {e.desc()}" for e in errors)
        raise InputError(f"TensorRT cannot read the network: {' '.join(said.split()) or _why(log)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, OPTIONS["workspace_mib"] << 20)
    config.builder_optimization_level = OPTIONS["optimization_level"]
    if targets:
        _aim(cast("RtxModule", api), cast("RtxConfig", config), targets)
    profile = builder.create_optimization_profile()
    for name, (least, usual, most) in shapes.items():
        profile.set_shape(name, least, usual, most)
    if config.add_optimization_profile(profile) < 0:
        raise InputError(f"TensorRT does not take the shapes {dict(shapes)}: {_why(log)}")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise InputError(f"TensorRT could not build the engine: {_why(log)}")
    return bytes(memoryview(plan))


def _aim(api: RtxModule, config: RtxConfig, targets: tuple[str, ...]) -> None:
    known = {name.lower(): name for name in dir(api.ComputeCapability) if name.startswith("SM")}
    config.num_compute_capabilities = len(targets)
    for place, target in enumerate(targets):
        if target not in known:
            raise InputError(f"TensorRT-RTX builds nothing for {target!r}: choose from {', '.join(sorted(known, key=len))}")
        config.set_compute_capability(getattr(api.ComputeCapability, known[target]), place)


class TensorRtSession:
    """An engine on the GPU. One execution context and one captured CUDA graph a shape; batches are padded to powers of two."""

    device = "cuda:0"
    threads = 0

    def __init__(self, api: Module, plan: bytes, *, backend: str, precision: str) -> None:
        """Raises Stale where TensorRT does not take the engine, Unfit where torch finds no CUDA."""
        try:
            torch: Any = import_module("torch")
        except ModuleNotFoundError:
            raise Unfit("TensorRT sessions need torch: pip install 'rtpose[tensorrt]'") from None
        self.backend = backend
        self.precision = precision
        self._api = api
        self._torch = torch
        try:
            self._stream = torch.cuda.Stream(self.device)
        except (RuntimeError, AssertionError) as error:
            raise Unfit(f"torch {torch.__version__} finds no CUDA here: {str(error).splitlines()[0]}") from None
        self._log = _logger(api)
        self._log.errors.clear()
        self._runtime = api.Runtime(self._log)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise Stale(_why(self._log))
        self._engine: ICudaEngine | None = engine
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        ports = {name: (_shape(engine.get_tensor_shape(name)), _dtype(api, engine.get_tensor_dtype(name))) for name in names}
        takes = {name for name in names if engine.get_tensor_mode(name) == api.TensorIOMode.INPUT}
        self.inputs: Ports = {name: port for name, port in ports.items() if name in takes}
        self.outputs: Ports = {name: port for name, port in ports.items() if name not in takes}
        self._limits = {
            name: (tuple(least), tuple(most)) for name in takes for least, _, most in [engine.get_tensor_profile_shape(name, 0)]
        }
        self._rows = min(most[0] for _, most in self._limits.values())
        self._runs: dict[tuple[Shape, ...], _Run] = {}

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        arrays = checked_feeds(self.inputs, feeds)
        for name, array in arrays.items():
            least, most = self._limits[name]
            if not all(a <= b <= c for a, b, c in zip(least[1:], array.shape[1:], most[1:], strict=True)):
                raise ValueError(f"{name}: the engine was built for {least[1:]} to {most[1:]}, got {array.shape[1:]}")
        n = len(next(iter(arrays.values())))
        parts: list[Arrays] = []
        for start in range(0, max(n, 1), self._rows):
            part = {name: array[start : start + self._rows] for name, array in arrays.items()}
            rows = min(self._rows, 1 << max(0, n - start - 1).bit_length())
            run = self._run(tuple((rows, *array.shape[1:]) for array in arrays.values()))
            parts.append(run(part, min(n - start, self._rows)))
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def close(self) -> None:
        # Contexts go before their engine.
        self._runs.clear()
        self._engine = None

    def _run(self, shapes: tuple[Shape, ...]) -> _Run:
        if shapes not in self._runs:
            if self._engine is None:
                raise ValueError("the session is closed")
            with _recording:
                self._runs[shapes] = _Run(self, self._engine, dict(zip(self.inputs, shapes, strict=True)))
        return self._runs[shapes]


class _Run:
    """What one shape of input needs: a context, buffers that stay where they are, and the recorded work."""

    def __init__(self, session: TensorRtSession, engine: ICudaEngine, shapes: dict[str, Shape]) -> None:
        torch = session._torch
        self._stream = session._stream
        context = engine.create_execution_context()
        if context is None:
            raise InputError(f"TensorRT has no room to run the engine: {_why(session._log)}")
        self._context = context
        self._inputs, self._outputs = session.inputs, session.outputs
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise InputError(f"TensorRT does not take {name} as {shape}: {_why(session._log)}")
        self._device: dict[str, Any] = {}
        self._pinned: dict[str, Any] = {}
        self._host: Arrays = {}
        for name, (_, dtype) in {**self._inputs, **self._outputs}.items():
            shape = tuple(context.get_tensor_shape(name))
            kind = getattr(torch, dtype.name)
            self._device[name] = torch.zeros(shape, dtype=kind, device=session.device)
            self._pinned[name] = torch.zeros(shape, dtype=kind, pin_memory=True)
            self._host[name] = self._pinned[name].numpy()
            if not context.set_tensor_address(name, self._device[name].data_ptr()):
                raise InputError(f"TensorRT does not take the buffer of {name}: {_why(session._log)}")
        self._log = session._log
        # Whatever TensorRT makes on first use must be there before the work is recorded.
        with torch.cuda.stream(self._stream):
            self._work()
        self._stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        # What other threads ask of the GPU meanwhile is no business of this recording.
        with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
            self._work()

    def __call__(self, feeds: Arrays, n: int) -> Arrays:
        """Run on the first n rows of the feeds; the results are copies."""
        for name, array in feeds.items():
            self._host[name][:n] = array
        self._graph.replay()
        self._stream.synchronize()
        return {name: self._host[name][:n].copy() for name in self._outputs}

    def _work(self) -> None:
        for name in self._inputs:
            self._device[name].copy_(self._pinned[name], non_blocking=True)
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise InputError(f"TensorRT could not run the engine: {_why(self._log)}")
        for name in self._outputs:
            self._pinned[name].copy_(self._device[name], non_blocking=True)


class Stale(Exception):
    """TensorRT does not take the engine: it was built by another version, for another GPU, or is damaged."""


def _shape(dimensions: Any) -> tuple[int | None, ...]:
    return tuple(size if size >= 0 else None for size in dimensions)


def _dtype(api: Module, kind: Any) -> np.dtype[Any]:
    kinds = {
        api.DataType.FLOAT: np.float32,
        api.DataType.HALF: np.float16,
        api.DataType.UINT8: np.uint8,
        api.DataType.INT32: np.int32,
        api.DataType.INT64: np.int64,
    }
    return np.dtype(kinds[kind])


def engine_key(
    api: Module,
    flavour: str,
    recipe: Recipe,
    model: Model,
    graph: bytes,
    precision: str,
    targets: tuple[str, ...],
    gpu: Gpu | None,
) -> Key:
    """The key of an engine: with a GPU, for that one; without, ahead of time for the targets."""
    return Key(
        network=model.name,
        onnx_sha256=hashlib.sha256(graph).hexdigest(),
        flavour=flavour,
        version=api.__version__,
        precision=precision,
        targets=targets,
        gpu=gpu.name if gpu else "",
        driver=gpu.driver if gpu else "",
        shapes=recipe.shapes,
        options=OPTIONS,
    )


def open_session(path: Path, *, device: str, precision: str, threads: int, flavour: str = "tensorrt") -> TensorRtSession:
    """Run the network at `path`, which needs a recipe, on an engine from the cache, built first where there is none that fits.

    Raises Unfit where there is no GPU, and with the figures where the engine's results are too far from f32.
    """
    if device not in ("auto", TensorRtSession.device):
        raise InputError(f"the backend {flavour} has no device {device!r}: choose {TensorRtSession.device}")
    api = load(flavour)
    gpu = find_gpu()
    recipe, model = engines.recipe_of(path)
    precision = recipe.precisions[0] if precision == "auto" else precision
    graph = recipe.graph(model, precision)
    store = Store()
    if flavour == RTX:
        # An engine built ahead of time may serve several generations of GPUs.
        targets = next((t for t in _built_for(store, model.name, precision) if gpu.target in t), (gpu.target,))
        key = engine_key(api, flavour, recipe, model, graph, precision, targets, None)
    else:
        targets = ()
        key = engine_key(api, flavour, recipe, model, graph, precision, (gpu.target,), gpu)

    def build() -> bytes:
        return compile_engine(api, graph, recipe.shapes, targets)

    plan = store.get(key, build)
    try:
        session = TensorRtSession(api, plan, backend=flavour, precision=precision)
    except Stale as stale:
        store.drop(key.slot)
        engines.tell(f"building {key.slot} again: {stale}")
        plan = store.get(key, build)
        try:
            session = TensorRtSession(api, plan, backend=flavour, precision=precision)
        except Stale as again:
            store.drop(key.slot)
            raise Unfit(f"TensorRT does not take the engine it has just built for {model.name}: {again}") from None
    if not store.trusted(key, plan):
        store.trust(key, plan, check(session, recipe, model))
    return session


def _built_for(store: Store, network: str, precision: str) -> Iterator[tuple[str, ...]]:
    for entry in store.entries():
        if (entry.key.get("flavour"), entry.key.get("network"), entry.key.get("precision")) == (RTX, network, precision):
            yield tuple(entry.key.get("targets", ()))


def check(session: Any, recipe: Recipe, model: Model) -> dict[str, float]:
    """Compare a session on the reference pictures with the stored results in f32, or where there are none with those of the
    reference backend; return the figures.

    Raises Unfit with the figures where they exceed the recipe's bounds.
    """
    feeds = engines.reference_feeds(recipe)
    expected = engines.reference_results(model, feeds)
    if expected is None:  # weights that the user brought
        reference = open_on(model.path, backend=REFERENCE, precision="f32")
        expected = reference(feeds)
        reference.close()
    figures = engines.deviation(model.decoder, feeds, session(feeds), expected)
    if excess := engines.excess(figures, recipe.bounds):
        raise Unfit(f"the {session.precision} engine of {model.name} is refused: its results differ from f32: {excess}")
    return figures


@dataclass(frozen=True, slots=True)
class Built:
    """What became of one recipe. seconds is None where the engine was there already; skipped says why nothing was built."""

    network: str
    precision: str
    targets: tuple[str, ...] = ()
    size: int = 0
    seconds: float | None = None
    skipped: str = ""


def build_engines(
    names: tuple[str, ...] = (),
    *,
    precision: str = "auto",
    targets: tuple[str, ...] = (),
    say: Callable[[str], None] = engines.tell,
) -> Iterator[Built]:
    """Build the engines of the named recipes, of all whose weights are here without names: for `targets` ahead of time, else for
    the GPU at hand.

    precision `all` builds every one on offer. Raises InputError for an unknown recipe, for weights that are missing though their
    recipe was named, and where TensorRT refuses.
    """
    chosen = _chosen(names)
    gpu = None if targets else find_gpu()
    flavour, api = (RTX, _installed(RTX)) if targets else any_installed()
    aims = targets or ((gpu.target,) if gpu and flavour == RTX else ())
    store = Store()
    for recipe in chosen:
        networks = recipe.networks()
        if not networks:
            if names:
                raise InputError(f"the weights of {recipe.network} are not here: {recipe.needs}")
            yield Built(recipe.network, "", skipped=f"its weights are not here: {recipe.needs}")
            continue
        if not names and precision not in ("auto", "all", *recipe.precisions):
            yield Built(recipe.network, precision, skipped=f"on offer: {', '.join(recipe.precisions)}")
            continue
        wanted = recipe.precisions if precision == "all" else (recipe.precisions[0] if precision == "auto" else precision,)
        for model, each in product(networks, wanted):
            verify(model)
            fitted, graph = recipe.fitted(model), recipe.graph(model, each)
            key = engine_key(
                api, flavour, fitted, model, graph, each, aims or (gpu.target if gpu else "",), None if aims else gpu
            )
            seconds: list[float] = []

            def build(graph: bytes = graph, recipe: Recipe = fitted, seconds: list[float] = seconds) -> bytes:
                start = time.perf_counter()
                plan = compile_engine(api, graph, recipe.shapes, aims)
                seconds.append(time.perf_counter() - start)
                return plan

            plan = store.get(key, build, say)
            yield Built(model.name, each, key.targets, len(plan), seconds[0] if seconds else None)


def check_engines(names: tuple[str, ...] = ()) -> Iterator[tuple[Recipe, str, dict[str, float]]]:
    """Open the usual engine of each named recipe, of all whose weights are here without names, and measure it anew.

    Yields recipe, precision and figures. Raises Unfit where there is no GPU or results are out of bounds.
    """
    flavour, _ = any_installed()
    for recipe in _chosen(names):
        for model in recipe.networks():
            session = open_session(model.path, device="auto", precision="auto", threads=0, flavour=flavour)
            yield recipe, session.precision, check(session, recipe.fitted(model), model)
            session.close()


def _chosen(names: tuple[str, ...]) -> list[Recipe]:
    known = engines.recipes()
    for name in names:
        if name not in known:
            raise InputError(f"there is no engine recipe called {name!r}: choose from {', '.join(known)}")
    return [known[name] for name in names or known]


def _installed(flavour: str) -> Module:
    try:
        return load(flavour)
    except ModuleNotFoundError:
        raise InputError(f"building needs the package {flavour}: pip install 'rtpose[{flavour.replace('_', '-')}]'") from None


def any_installed() -> tuple[str, Module]:
    """The flavour of TensorRT that is installed, and its module. Raises InputError where none is."""
    for flavour in FLAVOURS:
        try:
            return flavour, load(flavour)
        except ModuleNotFoundError:
            continue
    raise InputError("building needs TensorRT: pip install 'rtpose[tensorrt]' or 'rtpose[tensorrt-rtx]'")

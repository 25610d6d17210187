"""A TensorRT without a GPU: the calls our code makes, with the habits of the real one, computing with ONNX Runtime.

It answers None where it fails and logs why, hands out engines bound to its version and GPU, runs only shapes within the profile,
and reads and writes tensors at their addresses, when the recorded work is replayed. `torch` here carries "device" memory.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from importlib.machinery import ModuleSpec
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

KINDS = {1: "FLOAT", 10: "HALF", 2: "UINT8", 6: "INT32", 7: "INT64"}


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


class FakeLogger:
    Severity = Severity

    def __init__(self) -> None: ...


class FakeTorch:
    """Tensors are NumPy arrays; work put on a stream while a graph records is done at replay only."""

    __version__ = "2.fake"
    uint8, float32, float16, int32, int64 = (np.dtype(name) for name in ("uint8", "float32", "float16", "int32", "int64"))

    def __init__(self, cuda_works: bool = True) -> None:
        self.memory: dict[int, np.ndarray[Any, Any]] = {}
        self.recording: list[Callable[[], None]] | None = None
        self.captured = 0
        torch = self

        class Stream:
            cuda_stream = 7

            def __init__(self, device: str) -> None:
                if not cuda_works:
                    raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update.")

            def synchronize(self) -> None: ...

        class CUDAGraph:
            def __init__(self) -> None:
                self.work: list[Callable[[], None]] = []

            def replay(self) -> None:
                for step in self.work:
                    step()

        @contextmanager
        def record(graph: CUDAGraph, stream: Stream, capture_error_mode: str) -> Iterator[None]:
            torch.recording, torch.captured = graph.work, torch.captured + 1
            yield
            torch.recording = None

        @contextmanager
        def on_stream(stream: Stream) -> Iterator[None]:
            yield

        self.cuda = SimpleNamespace(Stream=Stream, CUDAGraph=CUDAGraph, graph=record, stream=on_stream)

    def do(self, step: Callable[[], None]) -> None:
        if self.recording is None:
            step()
        else:
            self.recording.append(step)

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any], device: str = "cpu", pin_memory: bool = False) -> Any:
        assert (device == "cuda:0") != pin_memory
        torch, array = self, np.zeros(shape, dtype)
        self.memory[array.ctypes.data] = array

        class Tensor:
            values = array

            def numpy(self) -> np.ndarray[Any, Any]:
                assert pin_memory
                return array

            def data_ptr(self) -> int:
                assert not pin_memory
                return int(array.ctypes.data)

            def copy_(self, other: Any, non_blocking: bool) -> None:
                torch.do(lambda: np.copyto(array, other.values))

        return Tensor()


class FakeTensorRT:
    """The module. Set `fail` to make the next builds fail, `results` to spoil what engines compute."""

    ILogger = FakeLogger
    DataType = SimpleNamespace(FLOAT="FLOAT", HALF="HALF", UINT8="UINT8", INT32="INT32", INT64="INT64")
    TensorIOMode = SimpleNamespace(INPUT="INPUT", OUTPUT="OUTPUT")
    MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    ComputeCapability = SimpleNamespace(SM86=86, SM89=89, SM120=120, CURRENT=-1)

    def __init__(self, torch: FakeTorch, version: str = "10.13.3.9", gpu: str = "sm89") -> None:
        self.__version__ = version
        self.__spec__ = ModuleSpec("fake", None)
        self.torch, self.gpu = torch, gpu
        self.builds = 0
        self.fail = ""
        self.no_room = False
        self.spoil: Callable[[dict[str, Any]], dict[str, Any]] = lambda results: results

    def Builder(self, log: Any) -> Any:
        def build(network: Any, config: Any) -> bytes | None:
            self.builds += 1
            if self.fail:
                log.log(Severity.ERROR, self.fail)
                return None
            ahead = [config.targets[k] for k in range(config.num_compute_capabilities)]
            body = pickle.dumps((self.__version__, ahead or [int(self.gpu[2:])], network.graph, config.profile))
            return hashlib.sha256(body).digest() + body

        def config() -> Any:
            made = SimpleNamespace(num_compute_capabilities=0, targets={}, profile={}, builder_optimization_level=3)
            made.set_memory_pool_limit = lambda pool, size: None
            made.set_compute_capability = lambda value, place: made.targets.update({place: value})
            made.add_optimization_profile = lambda profile: made.profile.update(profile.shapes) or 0
            return made

        def profile() -> Any:
            shapes: dict[str, Any] = {}
            return SimpleNamespace(shapes=shapes, set_shape=lambda name, *sizes: shapes.update({name: sizes}))

        return SimpleNamespace(
            create_network=lambda flags: SimpleNamespace(graph=None),
            create_builder_config=config,
            create_optimization_profile=profile,
            build_serialized_network=build,
        )

    def OnnxParser(self, network: Any, log: Any) -> Any:
        parser = SimpleNamespace(num_errors=0)

        def parse(graph: bytes) -> bool:
            try:
                onnx.checker.check_model(onnx.load_from_string(graph))
            except Exception as error:
                said = str(error)
                parser.num_errors = 1
                parser.get_error = lambda k: SimpleNamespace(
                    node_operator=lambda: "Conv", node_name=lambda: "first", desc=lambda: said
                )
                return False
            network.graph = graph
            return True

        parser.parse = parse
        return parser

    def Runtime(self, log: Any) -> Any:
        def deserialize(plan: bytes) -> Any:
            digest, body = plan[:32], plan[32:]
            if hashlib.sha256(body).digest() != digest:
                log.log(Severity.ERROR, "Magic tag does not match")
                return None
            version, targets, graph, profile = pickle.loads(body)
            if version != self.__version__:
                log.log(
                    Severity.ERROR, f"The engine plan file is not compatible: expecting version {self.__version__} got {version}"
                )
                return None
            if int(self.gpu[2:]) not in targets:
                log.log(
                    Severity.ERROR, f"The engine plan file is generated on an incompatible device: sm{targets} got {self.gpu}"
                )
                return None
            return FakeEngine(self, graph, profile)

        return SimpleNamespace(deserialize_cuda_engine=deserialize)


class FakeEngine:
    def __init__(self, api: FakeTensorRT, graph: bytes, profile: dict[str, Any]) -> None:
        self.api, self.profile = api, profile
        model = onnx.load_from_string(graph)
        self.ports = {v.name: v.type.tensor_type for v in (*model.graph.input, *model.graph.output)}
        self.takes = [v.name for v in model.graph.input]
        options = ort.SessionOptions()
        options.log_severity_level = 4
        self.session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.num_io_tensors = len(self.ports)

    def get_tensor_name(self, k: int) -> str:
        return list(self.ports)[k]

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name in self.takes else "OUTPUT"

    def get_tensor_dtype(self, name: str) -> str:
        return KINDS[self.ports[name].elem_type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in self.ports[name].shape.dim)

    def get_tensor_profile_shape(self, name: str, profile: int) -> tuple[Any, ...]:
        return tuple(self.profile[name])

    def create_execution_context(self) -> Any:
        return None if self.api.no_room else FakeContext(self)


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.feeds: dict[str, Any] = {}
        self.addresses: dict[str, int] = {}
        self.results: dict[str, Any] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.profile[name]
        if not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
            return False
        kind = {"UINT8": np.uint8, "FLOAT": np.float32}[self.engine.get_tensor_dtype(name)]
        self.feeds[name] = np.zeros(shape, kind)
        if set(self.feeds) == set(self.engine.takes):
            self.results = self._compute()
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple({**self.feeds, **self.results}[name].shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 7
        memory = self.engine.api.torch.memory

        def step() -> None:
            for name in self.feeds:
                self.feeds[name] = memory[self.addresses[name]].copy()
            for name, values in self.engine.api.spoil(self._compute()).items():
                np.copyto(memory[self.addresses[name]], values)

        self.engine.api.torch.do(step)
        return True

    def _compute(self) -> dict[str, Any]:
        names = [name for name in self.engine.ports if name not in self.engine.takes]
        return dict(zip(names, self.engine.session.run(names, self.feeds), strict=True))

"""Checkpoints of HMR as SPIN trained it, made into an ONNX file with a card.

The network, after Kanazawa et al. (End-to-end Recovery of Human Shape and Pose, 2018) and nkolot/SPIN `models/hmr.py`: a ResNet-50 whose
pooled features a regressor turns into 24 rotations (six numbers each), 10 betas and a weak camera, by three rounds of
corrections that begin at a mean. Input: uint8 RGB (n, 224, 224, 3), a square around one person. Outputs: `six` (n, 24, 6), the first
two columns of each rotation one after the other; `betas` (n, 10); `camera` (n, 3): scale, x, y.

A checkpoint is a pickle, and a pickle is a program: PyTorch reads it with `weights_only`, which builds arrays and nothing else.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..archives import DAMAGED
from ..errors import InputError
from ..types import F32, F64
from . import Model, exported_folder, file_sha256, models, register, verify
from .graph import Graph, save

SIDE = 224
"""Px of the input."""
JOINTS, BETAS, ROUNDS = 24, 10, 3
POSE = 6 * JOINTS
STATE = POSE + BETAS + 3
FEATURES, HIDDEN = 2048, 1024
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Channels and blocks of the four stages of ResNet-50."""
EPSILON = 1e-5
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's colours."""
INTERLEAVED = [0, 2, 4, 1, 3, 5]
"""Where in SPIN's six numbers (`view(-1, 3, 2)`) the first column and the second are; others (4DHumans) keep them in a row."""
FORMAT = 1
"""Version of the exported graph."""

OTHERS = {
    b"smpl_head.transformer": "of HMR2 (4DHumans), a vision transformer",
    b"backbone.blocks.": "of a vision transformer",
    b"conv1_depthwise": "of a MobileNet",
}
"""What occurs in the checkpoints of other architectures -> what they are."""

Weights = dict[str, F32]


def expected() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every array of a checkpoint, by its key, and its shape."""

    def norm(key: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"{key}.{part}", (channels,)

    yield "conv1.weight", (64, 3, 7, 7)
    yield from norm("bn1", 64)
    before = 64
    for stage, (channels, blocks) in enumerate(STAGES, 1):
        for block in range(blocks):
            key = f"layer{stage}.{block}"
            for part, shape in enumerate(
                ((channels, before, 1, 1), (channels, channels, 3, 3), (4 * channels, channels, 1, 1)), 1
            ):
                yield f"{key}.conv{part}.weight", shape
                yield from norm(f"{key}.bn{part}", shape[0])
            if block == 0:
                yield f"{key}.downsample.0.weight", (4 * channels, before, 1, 1)
                yield from norm(f"{key}.downsample.1", 4 * channels)
            before = 4 * channels
    for key, takes, gives in (
        ("fc1", FEATURES + STATE, HIDDEN),
        ("fc2", HIDDEN, HIDDEN),
        ("decpose", HIDDEN, POSE),
        ("decshape", HIDDEN, BETAS),
        ("deccam", HIDDEN, 3),
    ):
        yield f"{key}.weight", (gives, takes)
        yield f"{key}.bias", (gives,)
    for key, length in (("init_pose", POSE), ("init_shape", BETAS), ("init_cam", 3)):
        yield key, (1, length)


def read_checkpoint(path: Path) -> Weights:
    """The arrays of a checkpoint, those of `expected`. Raises InputError with one line that says what is wrong with the file."""
    found = _state(path, _load(path))
    wanted = dict(expected())
    lacks, extra = [key for key in wanted if key not in found], [key for key in found if key not in wanted]
    if lacks or extra:
        said = [f"{text} {_some(keys)}" for text, keys in (("it lacks", lacks), ("it has no use for", extra)) if keys]
        raise InputError(f"{path} is no checkpoint of HMR with a ResNet-50, as SPIN's is: {'; '.join(said)}")
    weights: Weights = {}
    for key, shape in wanted.items():
        value = found[key]
        if tuple(getattr(value, "shape", ())) != shape:
            raise InputError(f"{path}: {key} has shape {tuple(getattr(value, 'shape', ()))}, HMR has {shape}")
        weights[key] = value.detach().float().numpy()
        if not np.isfinite(weights[key]).all():
            raise InputError(f"{path}: {key} holds numbers that are not finite")
    return weights


def _some(keys: list[str]) -> str:
    rest = len(keys) - 3
    return ", ".join(keys[:3]) + (f" and {rest} more" if rest > 0 else "")


def _state(path: Path, data: Any) -> dict[str, Any]:
    """The network's arrays in what the file holds: under `model` (SPIN), `state_dict`, or as they are."""
    for key in ("model", "state_dict"):
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise InputError(f"{path} is no checkpoint: it holds a {type(data).__name__}, not a network's arrays by their names")
    names = {key.removeprefix("module."): value for key, value in data.items()}
    return {key: value for key, value in names.items() if not key.endswith(".num_batches_tracked")}


def _load(path: Path) -> Any:
    _refuse_others(path)
    try:
        torch: Any = import_module("torch")
    except ModuleNotFoundError:
        raise InputError("reading a checkpoint of HMR needs PyTorch, once: pip install 'rtpose[train]'") from None
    with torch.serialization.safe_globals(_numpy_classes()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickles that are not PyTorch's, which fail anyway
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
            if foreign := re.search(r"GLOBAL ([\w.]+)", str(error)):
                what = f"wants to use {foreign[1]}, which no checkpoint of HMR needs"
                raise InputError(f"{path} is a pickle that {what}: it was refused, none of it was run") from None
            raise InputError(f"{path} is no checkpoint of PyTorch, or is damaged: none of it was run") from None


def _refuse_others(path: Path) -> None:
    """Checkpoints of other architectures may hold foreign classes, too; that they are others is what their owner should hear."""
    try:
        with path.open("rb") as file:
            names = file.read(1 << 20)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = b"".join(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    except OSError as error:
        raise InputError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None
    except DAMAGED:
        raise InputError(f"{path} is no checkpoint of PyTorch, or is damaged: none of it was run") from None
    for mark, what in OTHERS.items():
        if mark in names:
            raise InputError(f"{path} is a checkpoint {what}: rtpose runs HMR with a ResNet-50, as SPIN's checkpoints are")


def _numpy_classes() -> list[Any]:
    """What SPIN's checkpoints hold beside tensors: counters and an order of the data, as arrays and numbers of numpy."""
    rebuild, scalar = np.zeros(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "bool")]
    older = [(rebuild, "numpy.core.multiarray._reconstruct"), (scalar, "numpy.core.multiarray.scalar")]
    newer = [(rebuild, "numpy._core.multiarray._reconstruct"), (scalar, "numpy._core.multiarray.scalar")]
    return [np.ndarray, np.dtype, *kinds, *older, *newer]


def interleaved(mean: Any) -> bool:
    """Whether six numbers a joint (n, 6) keep the two columns of a rotation interleaved, as SPIN's do, and not in a row.

    The mean pose that a checkpoint begins at tells: of the two readings one gives columns of length one at right angles. Where
    neither does it is SPIN's, whose architecture this is.
    """

    def off(first: F64, second: F64) -> float:
        lengths = np.abs(np.stack([(first**2).sum(-1), (second**2).sum(-1)]) - 1)
        return float(max(lengths.max(), np.abs((first * second).sum(-1)).max()))

    six = np.asarray(mean, np.float64)
    in_a_row = off(six[:, :3], six[:, 3:]) < 0.1
    return not in_a_row or off(six[:, ::2], six[:, 1::2]) < 0.1


def regressor(weights: Weights) -> tuple[F64, F64]:
    """The three rounds as one affine map (157, 2048), (157,) of the features: between the layers there is nothing that bends."""
    w = {
        key: weights[key].astype(np.float64)
        for key in weights
        if key.split(".")[0] in ("fc1", "fc2", "decpose", "decshape", "deccam")
    }
    decode = np.concatenate([w[f"{key}.weight"] for key in ("decpose", "decshape", "deccam")])
    bias = np.concatenate([w[f"{key}.bias"] for key in ("decpose", "decshape", "deccam")])
    through = decode @ w["fc2.weight"]
    seen, state = through @ w["fc1.weight"][:, :FEATURES], through @ w["fc1.weight"][:, FEATURES:]
    constant = through @ w["fc1.bias"] + decode @ w["fc2.bias"] + bias
    matrix, offset = (
        np.zeros((STATE, FEATURES)),
        np.concatenate([weights[key][0] for key in ("init_pose", "init_shape", "init_cam")]),
    )
    for _ in range(ROUNDS):
        matrix, offset = matrix + seen + state @ matrix, offset + constant + state @ offset
    return matrix, offset


def convert(weights: Weights) -> Any:
    """The ONNX model of a checkpoint."""
    graph = Graph("hmr", (SIDE, SIDE), "--lifter hmr")
    colours = np.array([MEAN, DEVIATION], np.float32).reshape(2, 1, 3, 1, 1)
    graph.node("Sub", ["planes", graph.constant("mean", 255 * colours[0])], "centred")
    graph.node("Mul", ["centred", graph.constant("gain", 1 / (255 * colours[1]))], "normal")

    def convolution(source: str, name: str, norm: str, *, stride: int = 1, bend: bool = True) -> str:
        gain = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + np.float32(EPSILON))
        kernel = weights[f"{name}.weight"] * gain[:, None, None, None]
        bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain
        side = kernel.shape[-1]
        inputs = [source, graph.constant(f"{name}_w", kernel), graph.constant(f"{name}_b", bias)]
        graph.node("Conv", inputs, f"{name}_raw", kernel_shape=[side, side], strides=[stride] * 2, pads=[side // 2] * 4)
        return graph.node("Relu", [f"{name}_raw"], name) if bend else f"{name}_raw"

    last = convolution("normal", "conv1", "bn1", stride=2)
    last = graph.node("MaxPool", [last], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, (_, blocks) in enumerate(STAGES, 1):
        for block in range(blocks):
            key, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = convolution(last, f"{key}.conv1", f"{key}.bn1")
            inner = convolution(inner, f"{key}.conv2", f"{key}.bn2", stride=stride)
            inner = convolution(inner, f"{key}.conv3", f"{key}.bn3", bend=False)
            if block == 0:
                last = convolution(last, f"{key}.downsample.0", f"{key}.downsample.1", stride=stride, bend=False)
            last = graph.node("Relu", [graph.node("Add", [inner, last], f"{key}_sum")], key)
    graph.node("Flatten", [graph.node("GlobalAveragePool", [last], "average")], "features")

    matrix, offset = regressor(weights)
    rows = np.arange(POSE).reshape(JOINTS, 6)
    if interleaved(weights["init_pose"].reshape(JOINTS, 6)):
        rows = rows[:, INTERLEAVED]
    parts = {"pose": rows.ravel(), "betas": np.arange(POSE, POSE + BETAS), "camera": np.arange(POSE + BETAS, STATE)}
    for name, mine in parts.items():
        inputs = [
            "features",
            graph.constant(f"{name}_w", np.float32(matrix[mine])),
            graph.constant(f"{name}_b", np.float32(offset[mine])),
        ]
        graph.node("Gemm", inputs, name, transB=1)
    graph.node("Reshape", ["pose", graph.constant("joints", np.array([0, JOINTS, 6], np.int64))], "six")
    return graph.model({"six": (JOINTS, 6), "betas": (BETAS,), "camera": (3,)})


def network_of(checkpoint: Path) -> Model:
    """The network that a checkpoint becomes: from the cache, where it is put the first time.

    Raises InputError for a file that is no checkpoint of HMR, and for a cache that cannot be written.
    """
    try:
        sha256 = file_sha256(checkpoint)
    except OSError as error:
        raise InputError(f"cannot read the checkpoint {checkpoint}: {error.strerror or error}") from None
    target = exported_folder() / f"hmr{FORMAT}-{sha256[:16]}.onnx"
    there = models().get(target.stem)
    if there is not None and _whole(there):
        return there
    model = convert(read_checkpoint(checkpoint))
    try:
        save(model, target)
        return register(
            target,
            name=target.stem,
            task="hmr",
            licence="as given by whoever published the weights",
            origin=f"{checkpoint.name} (sha256 {sha256}), brought by the user",
            made=f"rtpose --lifter hmr --checkpoint {checkpoint.name}",
            input=f"image: uint8 RGB (n, {SIDE}, {SIDE}, 3), square crops of one person each",
            decoder="hmr",
        )
    except OSError as error:
        raise InputError(
            f"cannot write the network made of {checkpoint.name} to {target.parent} ({error.strerror}):"
            " name a folder in RTPOSE_CACHE that can be written"
        ) from None


def _whole(model: Model) -> bool:
    try:
        verify(model)
    except InputError:
        return False  # what a cache holds can be made again
    return True

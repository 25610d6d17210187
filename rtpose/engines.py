"""Compiled engines as data: the recipes they are made from, the graphs of lower precision, the cache that holds them, and how
far an engine's results may be from those in f32.

Nothing here knows a runtime: `backends.tensorrt` compiles and runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, Unfit
from .folders import cache_folder
from .models import Model, models

RECIPES = Path(__file__).parent / "recipes"
"""A link to `engines/` of the repository; in an installed package, a copy of it."""

REFERENCE = "reference.npz"
"""Beside the recipes: `picture`, and for the networks that come with rtpose NAME/sha256 and NAME/f32/OUTPUT."""

LEVER = 0.5
"""Metres: about the length of a thigh or a shin."""

Shape = tuple[int, ...]
_log = logging.getLogger(__name__)


def tell(message: str) -> None:
    """Where the cache says why it does what takes time, unless the caller wants to hear it."""
    _log.warning("%s", message)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one network becomes engines.

    network: its name in the registry, or the task of all the networks that it is for. precisions: those on offer, the usual one first.
    targets: GPU generations for which engines can be built ahead of time. shapes: input name -> (least, usual, most) shape. half: the
    tensor after which f16 begins and those where it ends, as what lies outside (pixels to numbers, coordinates) needs f32. bounds:
    how far results may be from f32, by the measures of `deviation`. needs: what to do for weights that do not come with rtpose.
    """

    network: str
    precisions: tuple[str, ...]
    targets: tuple[str, ...]
    shapes: dict[str, tuple[Shape, Shape, Shape]]
    half: tuple[str, tuple[str, ...]]
    bounds: dict[str, float]
    needs: str

    def networks(self) -> list[Model]:
        """The networks that are here of those the recipe is for."""
        return [model for model in models().values() if self.network in (model.name, model.task)]

    def fitted(self, model: Model) -> Recipe:
        """The recipe for this network: where its file fixes a size, as those made of Darknet's do, the shapes have that size."""
        inputs = {port.name: port.type.tensor_type.shape.dim for port in _onnx().load(str(model.path)).graph.input}

        def fit(shape: Shape, name: str) -> Shape:
            return tuple(fixed.dim_value or size for fixed, size in zip(inputs[name], shape, strict=True))

        shapes = {
            name: (fit(least, name), fit(usual, name), fit(most, name)) for name, (least, usual, most) in self.shapes.items()
        }
        return replace(self, shapes=shapes)

    def graph(self, model: Model, precision: str) -> bytes:
        """The ONNX file of the network in that precision. Raises Unfit for one that is not on offer."""
        if precision not in self.precisions:
            offered = ", ".join(self.precisions)
            raise Unfit(f"{self.network} has no {precision} engine: choose auto or one of {offered}")
        onnx = model.path.read_bytes()
        return halved(onnx, *self.half) if precision == "f16" else onnx


def recipes() -> dict[str, Recipe]:
    """Every recipe, by the name of its network."""
    return {recipe.network: recipe for recipe in map(_read, sorted(RECIPES.glob("*.json")))}


def _read(path: Path) -> Recipe:
    said = json.loads(path.read_text(encoding="utf-8"))
    half = said["half"]
    return Recipe(
        network=said["network"],
        precisions=tuple(said["precisions"]),
        targets=tuple(said["targets"]),
        shapes={name: (tuple(s["least"]), tuple(s["usual"]), tuple(s["most"])) for name, s in said["shapes"].items()},
        half=(half["from"], tuple(half["to"])),
        bounds=said["bounds"],
        needs=said["needs"],
    )


def recipe_of(path: Path) -> tuple[Recipe, Model]:
    """The recipe, fitted to it, and the card of the network whose weights lie at `path`. Raises Unfit where there is none."""
    known = recipes()
    for recipe in known.values():
        for model in recipe.networks():
            if model.path == path:
                return recipe.fitted(model), model
    raise Unfit(f"there is no engine recipe for {path.name}: there are recipes for {', '.join(known)}")


def _onnx() -> Any:
    try:
        import onnx
    except ModuleNotFoundError:
        raise InputError("engines need the package onnx: pip install 'rtpose[tensorrt]'") from None
    return onnx


def halved(onnx_bytes: bytes, begin: str, ends: tuple[str, ...]) -> bytes:
    """The network with everything between the tensor `begin` and the tensors `ends` in f16, and the rest as it was.

    TensorRT's networks are strongly typed: what precision a layer has is what its tensors say.
    """
    onnx = _onnx()
    helper, numpy_helper, TensorProto = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    model = onnx.load_from_string(onnx_bytes)
    graph = model.graph
    producer = {name: k for k, node in enumerate(graph.node) for name in node.output}
    inside: set[int] = set()
    waiting = list(ends)
    while waiting:
        name = waiting.pop()
        if name != begin and name in producer and producer[name] not in inside:
            inside.add(producer[name])
            waiting.extend(graph.node[producer[name]].input)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    names = {begin: f"{begin}_f16", **{end: f"{end}_f16" for end in ends}}
    nodes = []
    if begin not in producer:
        nodes.append(helper.make_node("Cast", [begin], [names[begin]], name=names[begin], to=TensorProto.FLOAT16))
    for k, node in enumerate(graph.node):
        stored_half = node.op_type == "Cast" and node.input[0] in weights
        if k in inside and stored_half:
            names[node.output[0]] = node.input[0]
            continue
        if k in inside:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
                    attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))
            # Resize takes its scales, Reshape its shape, in types of their own.
            for slot, name in enumerate(node.input[:1] if node.op_type in ("Resize", "Reshape") else node.input):
                if name in weights and name not in names and weights[name].data_type == TensorProto.FLOAT:
                    names[name] = f"{name}_f16"
                    graph.initializer.append(
                        numpy_helper.from_array(numpy_helper.to_array(weights[name]).astype(np.float16), names[name])
                    )
                node.input[slot] = names.get(name, name)
            node.output[:] = [names.get(name, name) for name in node.output]
        nodes.append(node)
        for end in ends:
            if names[end] in node.output:
                nodes.append(helper.make_node("Cast", [names[end]], [end], name=f"{end}_f32", to=TensorProto.FLOAT))
        if begin in node.output:
            nodes.append(helper.make_node("Cast", [begin], [names[begin]], name=names[begin], to=TensorProto.FLOAT16))
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    fresh = helper.make_graph(nodes, graph.name, graph.input, graph.output, kept)
    model.graph.CopyFrom(fresh)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


@dataclass(frozen=True, slots=True)
class Key:
    """Everything an engine depends on.

    targets: the GPU generations ("sm89") it runs on. gpu and driver are empty for engines built ahead of time, which do not
    depend on them.
    """

    network: str
    onnx_sha256: str
    flavour: str
    version: str
    precision: str
    targets: tuple[str, ...]
    gpu: str
    driver: str
    shapes: dict[str, tuple[Shape, Shape, Shape]]
    options: dict[str, int]

    @property
    def slot(self) -> str:
        """The engine's file name without its ending: what tells engines apart that are wanted side by side."""
        return "-".join((self.network, self.precision, self.flavour, "+".join(self.targets)))

    def differences(self, other: dict[str, Any]) -> str:
        """What of `other`, a key as it was stored, does not fit this key; empty if all fits."""
        mine = json.loads(json.dumps(asdict(self)))
        return ", ".join(f"{name} {other.get(name)!r}, now {mine[name]!r}" for name in mine if other.get(name) != mine[name])


@dataclass(frozen=True, slots=True)
class Entry:
    """An engine in the cache. figures: what its self-check measured, None where it has not been through one."""

    slot: str
    path: Path
    size: int
    key: dict[str, Any]
    sha256: str
    figures: dict[str, float] | None


@dataclass
class Store:
    """The cache of engines: `SLOT.engine` with what it is in `SLOT.json`, both written atomically under a lock."""

    folder: Path = field(default_factory=lambda: cache_folder() / "engines")

    def get(self, key: Key, build: Callable[[], bytes], say: Callable[[str], None] = tell) -> bytes:
        """The engine for `key`: the stored one if it fits, else a new one from `build`, stored for the next time.

        While one process builds, others that want the same engine wait for it. A cache that cannot be written is told by
        `say`, and so is why an engine that was there is built again.
        """
        with ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(self._locked(key.slot))
            except OSError as error:
                say(f"engines are built anew at every start: cannot write to {self.folder} ({error.strerror})")
                return build()
            stored, why_not = self._load(key)
            if stored is not None:
                return stored
            if why_not:
                say(f"building {key.slot} again: {why_not}")
            engine = build()
            self._save(key, engine, None, say)
            return engine

    def trusted(self, key: Key, engine: bytes) -> bool:
        """Whether this very engine passed its self-check before."""
        entry = self._entry(key.slot)
        return entry is not None and entry.figures is not None and entry.sha256 == _sha256(engine)

    def trust(self, key: Key, engine: bytes, figures: dict[str, float], say: Callable[[str], None] = tell) -> None:
        """Note that the engine passed its self-check."""
        if self.folder.is_dir():
            with self._locked(key.slot):
                self._save(key, engine, figures, say)

    def drop(self, slot: str) -> None:
        """Remove an engine."""
        for ending in (".json", ".engine"):
            (self.folder / f"{slot}{ending}").unlink(missing_ok=True)

    def entries(self) -> list[Entry]:
        """What the cache holds, by slot."""
        found = (self._entry(card.stem) for card in sorted(self.folder.glob("*.json")))
        return [entry for entry in found if entry is not None]

    def clean(self) -> int:
        """Empty the cache; return how many bytes that freed."""
        files = [path for ending in ("json", "engine", "partial") for path in self.folder.glob(f"*.{ending}")]
        freed = sum(path.stat().st_size for path in files)
        for path in files:
            path.unlink(missing_ok=True)
        return freed

    @contextmanager
    def _locked(self, slot: str) -> Iterator[None]:
        with (self.folder / f"{slot}.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _entry(self, slot: str) -> Entry | None:
        path = self.folder / f"{slot}.engine"
        try:
            said = json.loads((self.folder / f"{slot}.json").read_text(encoding="utf-8"))
            return Entry(slot, path, path.stat().st_size, dict(said["key"]), str(said["sha256"]), said["figures"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _load(self, key: Key) -> tuple[bytes | None, str]:
        """The stored engine, or None and why it does not do (empty: there is none)."""
        path = self.folder / f"{key.slot}.engine"
        if not path.exists():
            return None, ""
        entry = self._entry(key.slot)
        if entry is None:
            return None, "what it was built for is not on record"
        if differences := key.differences(entry.key):
            return None, differences
        try:
            engine = path.read_bytes()
        except OSError as error:
            return None, f"it cannot be read ({error.strerror})"
        if _sha256(engine) != entry.sha256:
            return None, "the file is damaged"
        return engine, ""

    def _save(self, key: Key, engine: bytes, figures: dict[str, float] | None, say: Callable[[str], None]) -> None:
        card = {"key": asdict(key), "sha256": _sha256(engine), "figures": figures}
        try:
            # The record goes last: an engine without it, or with an older one, is not trusted.
            _write(self.folder / f"{key.slot}.engine", engine)
            _write(self.folder / f"{key.slot}.json", json.dumps(card, indent=1).encode())
        except OSError as error:
            say(f"{key.slot} is not kept: cannot write to {self.folder} ({error.strerror})")


def _write(path: Path, data: bytes) -> None:
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(partial, path)
    except OSError:
        os.unlink(partial)
        raise


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


Arrays = dict[str, NDArray[Any]]


def reference_feeds(recipe: Recipe) -> Arrays:
    """The inputs of the self-check, in the usual shapes: a picture that comes with rtpose in the middle, every second one mirrored;
    for inputs that are no pictures, normal noise.
    """
    with np.load(RECIPES / REFERENCE) as file:
        picture = file["picture"]
    feeds: Arrays = {}
    for name, (_, usual, _) in recipe.shapes.items():
        if len(usual) != 4:
            feeds[name] = np.random.default_rng(0).standard_normal(usual, np.float32)
            continue
        feed = np.full(usual, 114, np.uint8)
        h, w = min(usual[1], picture.shape[0]), min(usual[2], picture.shape[1])
        top, left = (usual[1] - h) // 2, (usual[2] - w) // 2
        feed[:, top : top + h, left : left + w] = picture[:h, :w]
        feed[1::2] = feed[1::2, :, ::-1]
        feeds[name] = feed
    return feeds


def reference_results(model: Model, feeds: Arrays) -> Arrays | None:
    """What the network says in f32 to `reference_feeds`, as `scripts/engine_references.py` stored it; None where it did not.

    Of rows that repeat each other, as pictures and their mirror images do, the first two are stored.
    """
    with np.load(RECIPES / REFERENCE) as file:
        if f"{model.name}/sha256" not in file or str(file[f"{model.name}/sha256"]) != model.sha256:
            return None
        stored = {name.split("/")[2]: file[name] for name in file.files if name.startswith(f"{model.name}/f32/")}
    n = len(next(iter(feeds.values())))
    return {name: np.concatenate([values] * -(-n // len(values)))[:n] for name, values in stored.items()}


def deviation(decoder: str, feeds: Arrays, got: Arrays, expected: Arrays) -> dict[str, float]:
    """How far results are from those expected, in the measures of the network's decoder; NaN in any result counts as infinite.

    movenet: `px` of the crop for joints with a score of .3 or more, `score`. nanodet: `px` of the sides of boxes with a score of
    .3 or more, `score`. posenet: `px` of the offsets where a joint scores .3 or more, `score`. lifter, hmr: `mm` by which the end of a
    bone of half a metre moves, and `relative` for what they say beside rotations. Others: `relative`, the largest difference as a
    share of the largest value.
    """
    if any(not np.isfinite(values).all() for values in got.values()):
        return {"not a number": float("inf")}
    if decoder == "movenet":
        difference = np.abs(got["keypoints"] - expected["keypoints"])
        seen = expected["keypoints"][..., 2] >= 0.3
        side = feeds["image"].shape[1]
        return {"px": side * _largest(difference[seen][:, :2]), "score": _largest(difference[..., 2])}
    if decoder == "nanodet":
        h, w = feeds["image"].shape[1:3]
        strides = np.concatenate([np.full((h // s) * (w // s), s) for s in (8, 16, 32)])
        seen = expected["scores"] >= 0.3
        sides = [_sides(values["distances"]) * strides[:, None] for values in (got, expected)]
        return {"px": _largest((sides[0] - sides[1])[seen]), "score": _largest(got["scores"] - expected["scores"])}
    if decoder == "posenet":
        seen = np.concatenate([expected["scores"] >= 0.3] * 2, axis=-1)  # y of every joint, then x
        difference = np.abs(got["offsets"] - expected["offsets"])
        return {"px": _largest(difference[seen]), "score": _largest(got["scores"] - expected["scores"])}
    figures = {}
    if decoder in ("lifter", "hmr"):
        turned = _matrices(got["six"]) - _matrices(expected["six"])
        figures["mm"] = 1000 * LEVER * _largest(2 * np.arcsin(np.linalg.norm(turned, axis=(-2, -1)) / math.sqrt(8)))
        expected = {name: values for name, values in expected.items() if name != "six"}
    share = max(_largest(got[name] - expected[name]) / max(_largest(expected[name]), 1e-9) for name in expected)
    return {**figures, "relative": share}


def _matrices(six: NDArray[Any]) -> NDArray[np.float64]:
    """Rotations (..., 3, 3) from six numbers (..., 6) that begin with the first column."""
    first, second = six[..., :3].astype(np.float64), six[..., 3:].astype(np.float64)
    first = first / np.linalg.norm(first, axis=-1, keepdims=True)
    second = second - (first * second).sum(-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.asarray(np.stack([first, second, np.cross(first, second)], -1))


def _sides(logits: NDArray[Any]) -> NDArray[Any]:
    """Distances (n, anchors, 4) from the anchor to the sides of its box, in strides: the mean of each distribution over 0..10."""
    bins = logits.reshape(*logits.shape[:-1], 4, -1).astype(np.float64)
    chance = np.exp(bins - bins.max(-1, keepdims=True))
    return np.asarray((chance / chance.sum(-1, keepdims=True)) @ np.arange(bins.shape[-1]))


def _largest(values: NDArray[Any]) -> float:
    return float(np.abs(values).max(initial=0.0))


def excess(figures: dict[str, float], bounds: dict[str, float]) -> str:
    """The figures out of bounds, in words; empty if there are none. A measure without a bound is out of bounds."""
    return ", ".join(
        f"{name} {value:.3g} (at most {bounds.get(name, 0.0):.3g})"
        for name, value in figures.items()
        if not value <= bounds.get(name, 0.0)
    )

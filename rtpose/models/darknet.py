"""YOLOv3 in Darknet's files (a .cfg and a .weights) made into an ONNX file with a card.

After pjreddie/darknet: `src/parser.c` (both formats), `src/batchnorm_layer.c`, `src/maxpool_layer.c`. Covers what yolov3, yolov3-tiny
and yolov3-spp are made of. The graph takes the letterboxed picture as uint8 RGB (n, h, w, 3) and ends at the raw maps of the [yolo]
layers, (n, anchors * (5 + classes), rows, columns); `stages.yolo` decodes them, with the anchors that the card's `decoder` names.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from . import Model, file_sha256, models, register, user_folder
from .graph import Graph, save

RESERVED = ("default", "none", "auto")
"""Words that the commands' own options use for networks."""
EPSILON = 1e-6
"""Darknet normalises by sqrt(variance) + this."""

KINDS = ("convolutional", "maxpool", "upsample", "route", "shortcut", "yolo")
ACTIVATIONS = ("leaky", "linear")
STRIDE = 32
MAX_WEIGHTS = 1 << 28
"""Of one layer: YOLOv3's largest has under five million."""


@dataclass(frozen=True)
class Section:
    """One [kind] of a .cfg file and its options; `line` is for error messages."""

    kind: str
    line: int
    options: dict[str, str]

    def integer(self, key: str, default: int | None = None) -> int:
        if not (values := self.integers(key, default)):
            raise InputError(f"line {self.line}: [{self.kind}] {key}= should be a whole number")
        return values[0]

    def integers(self, key: str, default: int | None = None) -> list[int]:
        try:
            return [int(v) for v in self.numbers(key, default)]
        except (ValueError, OverflowError):
            raise InputError(f"line {self.line}: [{self.kind}] {key}={self.options.get(key)} should be whole numbers") from None

    def numbers(self, key: str, default: float | None = None) -> list[float]:
        text = self.options.get(key)
        if text is None:
            if default is None:
                raise InputError(f"line {self.line}: [{self.kind}] needs {key}=")
            return [default]
        try:
            return [float(v) for v in text.split(",") if v.strip()]
        except ValueError:
            raise InputError(f"line {self.line}: [{self.kind}] {key}={text} should be numbers") from None


@dataclass(frozen=True)
class Head:
    """A [yolo] layer: output name, px of the input per cell, anchors' (width, height) in px of the input."""

    output: str
    stride: int
    anchors: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Network:
    """A converted network: the ONNX model, its input (height, width), its heads, the number of classes."""

    model: Any
    size: tuple[int, int]
    heads: tuple[Head, ...]
    classes: int

    @property
    def decoder(self) -> str:
        """For the card: `yolov3`, then each head's output and anchors, as in `yolo32:81x82,135x169`."""
        heads = (f"{h.output}:{','.join(f'{w:g}x{t:g}' for w, t in h.anchors)}" for h in self.heads)
        return " ".join(["yolov3", *heads])


def read_cfg(path: Path) -> list[Section]:
    """The sections of a Darknet .cfg file, [net] first. Raises InputError where it is none."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} as a Darknet .cfg: {error}") from None
    sections: list[Section] = []
    for number, whole in enumerate(text.splitlines(), 1):
        line = whole.split("#")[0].split(";")[0].strip()
        if line.startswith("[") and line.endswith("]"):
            sections.append(Section(line[1:-1].strip().lower(), number, {}))
        elif line:
            key, equals, value = line.partition("=")
            if not equals or not sections:
                raise InputError(f"{path}, line {number}: expected [section] or key=value, not {whole.strip()[:60]!r}")
            sections[-1].options[key.strip()] = value.strip()
    if not sections or sections[0].kind not in ("net", "network"):
        raise InputError(f"{path} is no Darknet .cfg: it should begin with [net]")
    return sections


def read_weights(path: Path) -> tuple[NDArray[np.float32], int]:
    """The floats of a Darknet .weights file (not copied into memory until used) and the bytes of its header."""
    try:
        length = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from None
    if len(head) < 12:
        raise InputError(f"{path} is truncated: {length} bytes, less than a Darknet header of 16")
    major, minor, _ = np.frombuffer(head, "<i4").tolist()
    # The count of training pictures, which follows, grew to 64 bits with version 0.2.
    start = 12 + (8 if major * 10 + minor >= 2 and major < 1000 and minor < 1000 else 4)
    count = max(0, length - start) // 4
    if count == 0:
        return np.zeros(0, np.float32), start
    return np.memmap(path, "<f4", "r", start, (count,)), start


class _Builder(Graph):
    """Walks the sections once; every layer appends its nodes and takes its share of the weights."""

    def __init__(self, floats: NDArray[np.float32] | None, size: tuple[int, int]) -> None:
        super().__init__("yolov3", size, "importing Darknet files")
        self.floats = floats
        self.used = 0
        self.layers: list[tuple[str, int, int]] = []  # name of the output, channels, stride
        self.heads: list[Head] = []
        self.classes = 0
        self.node("Div", ["planes", self.constant("whole", np.float32(255))], "net")

    def take(self, *shape: int) -> NDArray[np.float32] | None:
        """The next weights; None while only counting, or where the file has ended."""
        if min(shape) < 1 or (count := math.prod(shape)) > MAX_WEIGHTS:
            raise InputError(f"a layer of {' x '.join(map(str, shape))} weights cannot be")
        self.used += count
        if self.floats is None or self.used > len(self.floats):
            return None
        return np.asarray(self.floats[self.used - count : self.used], np.float32).reshape(shape)

    def layer(self, i: int, section: Section) -> None:
        if section.kind not in KINDS:
            raise InputError(f"line {section.line}: layer [{section.kind}] is not part of YOLOv3; known are {', '.join(KINDS)}")
        before = self.layers[-1] if self.layers else ("net", 3, 1)
        self.layers.append(getattr(self, f"_{section.kind}")(f"{section.kind}_{i}", section, *before))

    def _convolutional(self, name: str, s: Section, source: str, channels: int, stride: int) -> tuple[str, int, int]:
        filters, k, step = s.integer("filters"), s.integer("size"), s.integer("stride", 1)
        padding = k // 2 if s.integer("pad", 0) else s.integer("padding", 0)
        activation = s.options.get("activation", "logistic")
        if activation not in ACTIVATIONS or s.integer("groups", 1) != 1:
            raise InputError(f"line {s.line}: only plain convolutions with activation {' or '.join(ACTIVATIONS)} are known")
        bias = self.take(filters)
        norm = self.take(3, filters) if s.integer("batch_normalize", 0) else None
        kernel = self.take(filters, channels, k, k)
        if bias is not None and kernel is not None:
            if norm is not None:
                gain = norm[0] / (np.sqrt(norm[2]) + np.float32(EPSILON))
                kernel, bias = kernel * gain[:, None, None, None], bias - norm[1] * gain
            inputs = [source, self.constant(f"{name}_w", kernel), self.constant(f"{name}_b", bias)]
            self.node("Conv", inputs, f"{name}_raw", kernel_shape=[k, k], strides=[step, step], pads=[padding] * 4)
            if activation == "leaky":
                self.node("LeakyRelu", [f"{name}_raw"], name, alpha=0.1)
        return (name if activation == "leaky" else f"{name}_raw"), filters, stride * step

    def _maxpool(self, name: str, s: Section, source: str, channels: int, stride: int) -> tuple[str, int, int]:
        step = s.integer("stride", 1)
        k = s.integer("size", step)
        padding = s.integer("padding", k - 1)
        pads = [padding // 2, padding // 2, padding - padding // 2, padding - padding // 2]
        self.node("MaxPool", [source], name, kernel_shape=[k, k], strides=[step, step], pads=pads)
        return name, channels, stride * step

    def _upsample(self, name: str, s: Section, source: str, channels: int, stride: int) -> tuple[str, int, int]:
        times = s.integer("stride", 2)
        scales = self.constant(f"{name}_s", np.array([1, 1, times, times], np.float32))
        modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        self.node("Resize", [source, "", scales], name, **modes)
        return name, channels, stride // times

    def _route(self, name: str, s: Section, *_: Any) -> tuple[str, int, int]:
        parts = [self._earlier(s, v) for v in s.integers("layers")]
        if len({p[2] for p in parts}) > 1:
            raise InputError(f"line {s.line}: [route] joins layers of different sizes")
        if len(parts) > 1:
            self.node("Concat", [p[0] for p in parts], name, axis=1)
        return (name if len(parts) > 1 else parts[0][0]), sum(p[1] for p in parts), parts[0][2]

    def _shortcut(self, name: str, s: Section, source: str, channels: int, stride: int) -> tuple[str, int, int]:
        other = self._earlier(s, s.integer("from"))
        if other[1:] != (channels, stride) or s.options.get("activation", "linear") != "linear":
            raise InputError(f"line {s.line}: [shortcut] adds layers of different shapes")
        self.node("Add", [source, other[0]], name)
        return name, channels, stride

    def _yolo(self, name: str, s: Section, source: str, channels: int, stride: int) -> tuple[str, int, int]:
        classes = s.integer("classes")
        flat = s.numbers("anchors")
        pairs = list(zip(flat[::2], flat[1::2], strict=False))
        mask = s.integers("mask")
        if not all(0 <= m < len(pairs) for m in mask):
            raise InputError(f"line {s.line}: [yolo] mask={s.options['mask']} points past its {len(pairs)} anchors")
        if channels != len(mask) * (5 + classes) or (self.heads and classes != self.classes):
            wanted = len(mask) * (5 + classes)
            raise InputError(
                f"line {s.line}: [yolo] needs {wanted} channels for {classes} classes, the layer before has {channels}"
            )
        self.classes = classes
        self.heads.append(Head(f"yolo{stride}", stride, tuple(pairs[m] for m in mask)))
        self.node("Identity", [source], self.heads[-1].output)
        return source, channels, stride

    def _earlier(self, s: Section, index: int) -> tuple[str, int, int]:
        place = index if index >= 0 else len(self.layers) + index
        if not 0 <= place < len(self.layers):
            raise InputError(f"line {s.line}: [{s.kind}] points to layer {index}, which is not before it")
        return self.layers[place]

    def outputs(self) -> dict[str, tuple[int, ...]]:
        """The raw maps of the heads: name -> channels, rows, columns."""
        h, w = self.size
        return {head.output: (len(head.anchors) * (5 + self.classes), h // head.stride, w // head.stride) for head in self.heads}


def convert(cfg: Path, weights: Path, size: int | None = None) -> Network:
    """Darknet's two files as an ONNX model.

    size: px of the square input, a multiple of 32, in place of the .cfg's width and height. Raises InputError where the .cfg is not a
    YOLOv3, or where the .weights file has not exactly the bytes that it asks for.
    """
    sections = read_cfg(cfg)
    net = sections[0]
    try:
        height, width = (size, size) if size is not None else (net.integer("height"), net.integer("width"))
        if height <= 0 or width <= 0 or height % STRIDE or width % STRIDE:
            raise InputError(f"the input is {width}x{height} px; both should be multiples of {STRIDE}")
        if net.integer("channels", 3) != 3:
            raise InputError(f"the input has {net.integer('channels')} channels; a picture has 3")
        floats, header = read_weights(weights)
        builder = _Builder(floats, (height, width))
        for i, section in enumerate(sections[1:]):
            builder.layer(i, section)
    except InputError as error:
        raise error if str(error).startswith(str(weights)) else InputError(f"{cfg}: {error}") from None
    if not builder.heads:
        raise InputError(f"{cfg} has no [yolo] layer: not a YOLOv3")
    wanted, have = header + 4 * builder.used, weights.stat().st_size
    if wanted != have:
        how = "is truncated or for another network" if have < wanted else "is for another network or has something appended"
        raise InputError(f"{weights} {how}: it has {have} bytes, {cfg.name} asks for {wanted}")
    return Network(builder.model(builder.outputs()), (height, width), tuple(builder.heads), builder.classes)


def import_darknet(
    cfg: Path, weights: Path, *, name: str | None = None, size: int | None = None, folder: Path | None = None
) -> Model:
    """Convert Darknet's two files and put the ONNX file with its card among the user's networks (or into `folder`).

    name: how it is called afterwards, by default as the .weights file. size: see `convert`. Raises InputError for files that do not
    fit each other, and where a network of that name is there already.
    """
    cfg, weights = Path(cfg), Path(weights)
    name = name or weights.stem
    if name in RESERVED or not name.strip() or "/" in name or os.sep in name or name.startswith("."):
        raise InputError(f"a network cannot be called {name!r}: choose another --name, such as {'my-' + weights.stem!r}")
    target = (folder or user_folder()) / f"{name}.onnx"
    if target.exists() or target.with_suffix(".json").exists():
        raise InputError(f"{target} exists: remove it with its .json, or choose another name")
    if name in models():
        raise InputError(f"a network is called {name!r} already: choose another --name")
    network = convert(cfg, weights, size)
    save(network.model, target)
    h, w = network.size
    return register(
        target,
        name=name,
        task="detector",
        licence="as given by whoever published the weights",
        origin=f"{weights.name} (sha256 {file_sha256(weights)}), brought by the user",
        made=f"rtpose models import-darknet {cfg.name} {weights.name}",
        input=f"image: uint8 RGB (n, {h}, {w}, 3), letterboxed with grey 127",
        decoder=network.decoder,
    )

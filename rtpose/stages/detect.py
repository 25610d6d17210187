"""Finds people: the picture letterboxed into a detector, its outputs decoded, overlapping boxes suppressed.

A network's own format is a `Decoder`, chosen by the `decoder` of its model card; everything else is shared. Formulas: NanoDet
(RangiLyu/nanodet, `nanodet_head.py`), whose boxes are distributions over 0..10 cells to each side (generalised focal loss).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ..backends import Session
from ..errors import InputError
from ..jit import jit
from ..journal import Answer
from ..scope import Rect
from ..types import F32, U8, Boxes, Result
from . import yolo
from .calm import Calm, cells_of, halved

Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Decoder:
    """How to feed and read a detector.

    fill: grey of the border around the letterboxed picture. multiple: what a free input size must be divisible by. threshold:
    least score of a person. overlap: of two boxes with a greater IoU the worse one goes.
    decode(outputs, (h, w) of the input, threshold) returns the people of the first picture: boxes xyxy (n, 4) in px of the input
    where the left edge of the picture is 0, scores (n,) above the threshold.
    """

    fill: int
    multiple: int
    threshold: float
    overlap: float
    decode: Callable[[Outputs, tuple[int, int], float], tuple[F32, F32]]


INTERVAL = 0.2
"""Seconds between looks."""

PATIENCE = 0.25
"""Seconds between looks at people of whom the last two looks were alike. Whoever comes in is to be reported within .3 s."""

_STEPS = 16
"""Frames over which the time to the next one is averaged: times may be rounded to milliseconds, or jitter."""

_LATE = 0.05
"""Of the time between two frames: a look may be so much later than its interval. It covers what rounding to milliseconds does up to 240
frames a second, and the thousandth by which television's rates are lower than whole ones."""

CLEAR = 0.3
"""Score from which somebody counts when two looks are compared: weaker finds come and go."""

GAP = 0.5
"""Seconds without a frame after which the detector looks again in any case."""

MARGIN = 0.01
"""Of a tile's side: a box that comes so near to an edge where the picture goes on is of somebody who was cut."""

SAME = 0.45
"""From this IoU two boxes that were found in different tiles are of one person."""


def whole(width: int, height: int) -> list[Rect]:
    """The whole picture, in one look."""
    return [(0, 0, width, height)]


class Detector:
    """A detector network around a session, and the stage that looks at some of the frames.

    session takes `image` (1, h, w, 3) uint8 RGB. interval: seconds of the frames' times after which to look again, never later (but each
    frame once); every: where that is None, look again once this many frames have gone by (by the frames' index, so dropped ones count).
    threshold: least score of a person; overlap: of two boxes with a greater IoU the
    worse one goes (None: what suits the network). size: the longer side of the input in px where the network leaves that free.
    parts: which it looks at, from width and height of a picture: the first all around, which holds the others, if there are any.
    calm: while the last two looks found the same people, wait for `patience` seconds (if there is an interval), and skip looks while
    nothing moves but them, see `rtpose.stages.calm`.
    keep: see `rtpose.journal`. Raises InputError for an unknown decoder.
    """

    name = "detect"

    def __init__(
        self,
        session: Session,
        decoder: str = "nanodet",
        *,
        every: int = 1,
        interval: float | None = None,
        patience: float = PATIENCE,
        threshold: float | None = None,
        overlap: float | None = None,
        size: int = 416,
        parts: Callable[[int, int], list[Rect]] = whole,
        calm: bool = False,
        keep: Callable[[Answer], Answer] = lambda answer: answer,
    ) -> None:
        kind = decoder.split(" ")[0]
        if kind not in DECODERS:
            raise InputError(f"unknown detector format {kind!r}: choose one of {', '.join(DECODERS)}")
        if every < 1:
            raise InputError(f"the detector cannot look at every {every}-th frame: give 1 or more")
        self.slowdown = 1
        """By how much longer to wait than told, to save work; may be changed from another thread."""
        self._every, self._interval, self._patience = every, interval, patience
        self.session = session
        self._decoder = DECODERS[kind](decoder)
        self.threshold = self._decoder.threshold if threshold is None else threshold
        self.overlap = self._decoder.overlap if overlap is None else overlap
        self._size = size
        self._parts = parts
        self._calm = Calm() if calm else None
        self._fixed = session.inputs["image"][0][1:3]
        self._input: U8 = np.empty((1, 0, 0, 3), np.uint8)
        self._placed = (0, 0, 0, 0)
        self._looked: tuple[int, float] | None = None
        """Index and time of the last frame at which it was time to look; `_seen` holds those of the last frames, without a gap."""
        self._seen: deque[tuple[int, float]] = deque(maxlen=_STEPS)
        # Not a bound method: a stage that holds itself would keep its network in memory until the garbage collector comes by.
        self._answer = keep(partial(type(self)._find, cast("Detector", weakref.proxy(self))))

    def __call__(self, result: Result) -> Result:
        """Add `detections` where it is time to look; elsewhere they stay None."""
        frame = result.frame
        gap = not self._seen or frame.time - self._seen[-1][1] > GAP
        if gap or frame.independent:
            self._seen.clear()
        self._seen.append((frame.index, frame.time))
        if not frame.independent and not gap and not self._is_due(frame.index, frame.time):
            return result
        self._looked = frame.index, frame.time
        if self._calm is None or frame.independent:
            return replace(result, detections=self.detect(frame.image))
        cells = cells_of(frame.image)
        if not gap and self._calm.lasts(cells, frame.time):
            return result
        found = self.detect(frame.image)
        self._calm.looked(cells, frame.time, found.xyxy[found.scores >= CLEAR])
        return replace(result, detections=found)

    def _is_due(self, index: int, time: float) -> bool:
        """Whether it is time to look: at the next frame it would be too late."""
        assert self._looked is not None
        looked, then = self._looked
        if self._interval is None:
            return index - looked >= self.slowdown * self._every
        wait = self.slowdown * self._interval
        if self._calm is not None and self._calm.steady:
            wait = max(wait, self._patience)
        first, begin = self._seen[0]
        step = (time - begin) / (index - first)
        return time - then + step > wait + _LATE * step

    def detect(self, image: U8) -> Boxes:
        """The people of a picture (h, w, 3) RGB, best first; boxes are cut at the border of what is looked at."""
        found = self._answer(image).reshape(-1, 5)
        return Boxes(found[:, :4], found[:, 4])

    def _find(self, image: U8) -> F32:
        """Boxes and scores (n, 5)."""
        around, *tiles = self._parts(image.shape[1], image.shape[0])
        found = self._look(image, around)
        if not tiles:
            return found
        found = np.concatenate([found, *(_uncut(self._look(image, tile), tile, around) for tile in tiles)])
        found = found[np.argsort(-found[:, 4], kind="stable")]
        return found[suppress(found[:, :4], min(self.overlap, SAME))]

    def _look(self, image: U8, part: Rect) -> F32:
        """Boxes and scores (n, 5), best first, of the people in a part of the picture."""
        x0, y0, x1, y1 = part
        found = self._people(image[y0:y1, x0:x1])
        found[:, :4] += np.array([x0, y0, x0, y0], np.float32)
        return found

    def _people(self, image: U8) -> F32:
        """The same of a whole picture."""
        scale, left, top = self._letterbox(image)
        _, height, width, _ = self._input.shape
        boxes, scores = self._decoder.decode(self.session({"image": self._input}), (height, width), self.threshold)
        order = np.argsort(-scores, kind="stable")
        boxes, scores = boxes[order], scores[order]
        keep = suppress(boxes, self.overlap)
        boxes, scores = boxes[keep], scores[keep]
        # From edges on the canvas to edges in the picture, whose pixel centres lie at whole numbers: hence the half.
        boxes = (boxes - np.array([left, top, left, top], np.float32)) / scale - 0.5
        limit = np.array([image.shape[1], image.shape[0]] * 2, np.float32) - 0.5
        return np.concatenate([np.clip(boxes, np.float32(-0.5), limit), scores[:, None]], 1, dtype=np.float32)

    def _letterbox(self, image: U8) -> tuple[float, int, int]:
        """Scale the picture into the middle of the input; return the scale and the left and top border."""
        height, width = self._canvas(image)
        scale = min(height / image.shape[0], width / image.shape[1])
        h, w = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
        top, left = (height - h) // 2, (width - w) // 2
        if self._input.shape[1:3] != (height, width) or self._placed != (top, left, h, w):
            self._input = np.full((1, height, width, 3), self._decoder.fill, np.uint8)
            self._placed = (top, left, h, w)
        inside = self._input[0, top : top + h, left : left + w]
        cv2.resize(halved(image, max(h, w)), (w, h), dst=inside, interpolation=cv2.INTER_LINEAR)
        return scale, left, top

    def _canvas(self, image: U8) -> tuple[int, int]:
        """Height and width of the input for this picture: the network's own, or one of few sizes with little border."""
        height, width = self._fixed
        if height is not None and width is not None:
            return height, width
        scale, step = self._size / max(image.shape[:2]), 2 * self._decoder.multiple
        h, w = (min(self._size, max(1, -(-round(side * scale) // step)) * step) for side in image.shape[:2])
        return h, w


def _uncut(found: F32, tile: Rect, around: Rect) -> F32:
    """Those of the boxes and scores (n, 5) that end within the tile, or where all that is looked at ends."""
    near = MARGIN * max(tile[2] - tile[0], tile[3] - tile[1])
    cut = np.zeros(len(found), np.bool_)
    for side in range(4):
        if tile[side] != around[side]:
            cut |= np.abs(found[:, side] + 0.5 - tile[side]) < near
    return found[~cut]


@jit
def suppress(boxes: F32, overlap: float) -> NDArray[np.int64]:
    """Indices of the boxes (n, 4), best first, whose IoU with no better kept box is greater than `overlap`."""
    kept = np.empty(len(boxes), np.int64)
    count = 0
    for i in range(len(boxes)):
        area = (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
        for k in range(count):
            j = kept[k]
            w = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            h = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            if w > 0 and h > 0:
                other = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
                if w * h > overlap * (area + other - w * h):
                    break
        else:
            kept[count] = i
            count += 1
    return kept[:count]


def _nanodet(outputs: Outputs, size: tuple[int, int], threshold: float) -> tuple[F32, F32]:
    """NanoDet: `scores` (1, cells) and `distances` (1, cells, 4 x 11), first the cells of stride 8, then of 16 and 32."""
    return _decode_nanodet(outputs["scores"][0], outputs["distances"][0], size[0], size[1], threshold)


@jit
def _decode_nanodet(scores: F32, distances: F32, height: int, width: int, threshold: float) -> tuple[F32, F32]:
    hits = np.flatnonzero(scores > threshold)
    boxes = np.empty((len(hits), 4), np.float32)
    for k, hit in enumerate(hits):
        stride, cell = 8, hit
        while cell >= (height // stride) * (width // stride):
            cell -= (height // stride) * (width // stride)
            stride *= 2
        columns = width // stride
        x, y = (cell % columns + 0.5) * stride, (cell // columns + 0.5) * stride
        for side in range(4):
            bins = distances[hit, 11 * side : 11 * side + 11]
            weights = np.exp(bins - bins.max())
            reach = (weights * np.arange(11)).sum() / weights.sum() * stride
            middle = x if side % 2 == 0 else y
            boxes[k, side] = middle - reach if side < 2 else middle + reach
    return boxes, scores[hits]


DECODERS: dict[str, Callable[[str], Decoder]] = {
    "nanodet": lambda _: Decoder(114, 32, 0.15, 0.6, _nanodet),
    "yolov3": lambda card: Decoder(yolo.FILL, 32, yolo.THRESHOLD, yolo.NMS_IOU, yolo.decoder(card)),
}
"""Formats of detectors by the first word of `decoder` in model cards: from the whole of it to the decoder."""

"""Whether the detector may skip a look: nothing has moved but the people whom it knows."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ..tracking import iou
from ..types import F32, U8

CELLS = 96
"""Along the longer side of the picture, whose mean brightness is compared."""
CHANGE = 8.0
"""Grey levels by which a cell must differ to have changed. The noise of cameras and codecs is far below that in a cell's mean."""
ROOM = 0.1
"""Of a box's longer side, around it, in which its person may move without being somebody new."""
SAME = 0.5
"""IoU from which two looks have found the same person."""
LONGEST = 0.6
"""Seconds after which the detector looks again in any case: people who stand still confirm themselves by that."""


class Cells(NamedTuple):
    """A picture made small: its brightness (h, w) in `CELLS` cells along its longer side, and cells a pixel."""

    brightness: F32
    scale: float


class Calm:
    """Remembers what the detector saw when it looked last."""

    def __init__(self) -> None:
        self._cells = Cells(np.zeros((0, 0), np.float32), 1.0)
        self._boxes: F32 = np.zeros((0, 4), np.float32)
        self.steady = False
        """Whether the last two looks found the same people."""
        self._time = -np.inf

    def lasts(self, cells: Cells, time: float) -> bool:
        """Whether the last two looks found the same people, not long before `time` (s), and the picture has changed since only
        where they are."""
        if not self.steady or time - self._time >= LONGEST:
            return False
        if cells.brightness.shape != self._cells.brightness.shape:
            return False
        changed = np.abs(cells.brightness - self._cells.brightness) > CHANGE
        for x0, y0, x1, y1 in self._boxes:
            room = ROOM * max(x1 - x0, y1 - y0)
            left, top = (max(int((low - room) * cells.scale), 0) for low in (x0, y0))
            right, bottom = (int(np.ceil((high + room) * cells.scale)) for high in (x1, y1))
            changed[top:bottom, left:right] = False
        return not changed.any()

    def looked(self, cells: Cells, time: float, boxes: F32) -> None:
        """The detector has found people in boxes (n, 4) px of the picture."""
        known = iou(boxes, self._boxes) >= SAME
        self.steady = len(boxes) == len(self._boxes) and bool(known.any(axis=1).all()) and bool(known.any(axis=0).all())
        self._cells, self._boxes, self._time = cells, boxes, time


def cells_of(image: U8) -> Cells:
    """The picture (h, w, 3) made small."""
    scale = CELLS / max(image.shape[:2])
    size = (max(round(scale * image.shape[1]), 1), max(round(scale * image.shape[0]), 1))
    small = cv2.resize(halved(image, CELLS), size, interpolation=cv2.INTER_AREA)
    return Cells(small.mean(axis=2, dtype=np.float32), scale)


def halved(image: U8, longest: int) -> U8:
    """The picture (h, w, 3), its sides halved while its longer one stays at least `longest` px: to average over pairs of pixels is
    several times as fast as over as many more of them at once."""
    while max(image.shape[:2]) >= 2 * longest:
        less = max(1, image.shape[1] // 2), max(1, image.shape[0] // 2)
        image = np.asarray(cv2.resize(image, less, interpolation=cv2.INTER_LINEAR), np.uint8)
    return image

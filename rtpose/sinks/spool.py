"""What the causal pass leaves for the refining one: the results, where the camera cuts, and what everybody wears."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..source import SourceInfo
from ..stages.keypoints import CROP, clothes, cut, square_crops
from ..types import F32, U8, Result
from .data import JsonLinesSink, Provenance

_CROP_SIDE = 48
"""Side, px, of the crops from which the clothes' colours are taken."""


class SpoolSink(JsonLinesSink):
    """Spools the causal results into JSON Lines that anybody can read, with some fields more, for `rtpose.refine`.

    A person has `colours`: nine numbers 0..255, RGB of chest, waist and thighs. A frame has `cuts` where shots were found to begin:
    their frame numbers, which lie a little back; `withdrawn`, where pictures since showed that these are no cuts; `returns`: pairs of
    a cut and an earlier frame that shows the same view. cuts: "auto", or "none": the whole file is one shot. Other arguments as for
    `JsonLinesSink`.
    """

    def __init__(
        self, path: Path, info: SourceInfo, provenance: Provenance, *, overwrite: bool = False, cuts: str = "auto"
    ) -> None:
        super().__init__(path, info, provenance, overwrite=overwrite)
        self._shots = Shots() if cuts == "auto" else None

    def _record(self, result: Result) -> dict[str, Any]:
        record = super()._record(result)
        if self._shots is not None:
            record |= self._shots.see(result.frame.index, result.frame.time, result.frame.image).fields()
        for person, colours in zip(record["people"], _colours(result), strict=True):
            person["colours"] = colours
        return record


@dataclass
class Found:
    """What a picture told about shots. cuts: frame numbers at which shots begin; withdrawn: those said before that are no cuts;
    returns: (cut, frame before it that shows the same view)."""

    cuts: list[int] = field(default_factory=list)
    withdrawn: list[int] = field(default_factory=list)
    returns: list[tuple[int, int]] = field(default_factory=list)

    def fields(self) -> dict[str, Any]:
        """Those that are not empty."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class _Picture:
    """A small picture (h, w, 3) HSV, and its fine structure (h, w): light and shadow over the whole picture taken out."""

    index: int
    time: float
    colours: U8
    structure: F32


@dataclass
class _Cut:
    """A cut that pictures of the next `LOOK` seconds may withdraw. before: what was seen until then. earlier: the shots until then."""

    first: _Picture
    before: list[_Picture]
    earlier: list[list[_Picture]]
    later: int = 0
    returned: bool = False


class Shots:
    """Finds camera cuts: sudden changes after which the view stays another.

    Sudden changes are found by PySceneDetect's AdaptiveDetector, which tells them from fast camera moves by the frames around. They
    are no cuts where a picture soon after shows the same view as one shortly before: a flash, a black picture, a hand before the lens,
    a stream that froze.
    """

    SIDE = 160
    """Of the longer side of the pictures that are compared, px."""
    LOOK = 0.8
    """Seconds before and after a sudden change in which the same view makes it none, ..."""
    FEWEST = 3
    """... at least so many pictures on either side ..."""
    GUARD = 0.1
    """... but for so many seconds next to it: there, two views are often blended."""
    APART = 0.3
    """Seconds between two cuts."""
    CHANGE = 15.0
    """Mean difference of hue, saturation and value, 0..255, below which two pictures show the same view."""
    OTHER, ALIKE = 35.0, 0.4
    """A difference up to which they do, where their fine structures, one moved over the other, correlate so well."""
    SURE = 0.8
    """A correlation from which they do in whatever light."""
    SAMPLES = 8
    """So many of the pictures before a change are compared."""
    MEMORY = 8.0
    """Seconds for which the end of a shot is kept, to see whether a later one returns to its view."""

    def __init__(self) -> None:
        # Its import takes a fifth of a second, for which runs that are not refined need not wait.
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector

        self._count = partial(FrameTimecode, fps=30.0)  # frames are only counted: times are the pictures' own
        self._detector = AdaptiveDetector(min_scene_len=1, min_content_val=self.CHANGE)
        self._pictures: list[_Picture] = []
        self._open: list[_Cut] = []
        self._last = -math.inf
        self._ends: list[list[_Picture]] = []
        self._counted: list[int] = []

    def see(self, index: int, time: float, image: U8) -> Found:
        """Take the next picture (h, w, 3) RGB; return what is known since."""
        scale = self.SIDE / max(image.shape[:2])
        size = max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale))
        # Every so-many-th pixel: the mean colours of the whole picture are what counts.
        small = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), cv2.COLOR_RGB2BGR)
        picture = _picture(index, time, image, np.asarray(small, np.uint8))
        self._pictures.append(picture)
        found = Found()
        for change in self._open:
            self._compare(change, picture, found)
        for sudden in self._detector.process_frame(self._count(index), small):
            self._begin(int(sudden.frame_num), found)
        self._open = [
            change
            for change in self._open
            if change.first.index not in found.withdrawn and (time - change.first.time < self.LOOK or change.later < self.FEWEST)
        ]
        keep = max(self.FEWEST + 3, sum(time - other.time <= 2 * self.LOOK for other in self._pictures))
        self._pictures = self._pictures[-keep:]
        return found

    def _begin(self, index: int, found: Found) -> None:
        """There is a sudden change at this frame."""
        at = next((i for i, picture in enumerate(self._pictures) if picture.index == index), None)
        if at is None or self._pictures[at].time - self._last < self.APART:
            return
        first = self._pictures[at]
        past = [picture for picture in self._pictures[:at] if first.time - picture.time >= self.GUARD]
        near = max(self.FEWEST, sum(first.time - picture.time <= self.LOOK for picture in past))
        past = past[-near:]
        before = past[:: -max(1, len(past) // self.SAMPLES)]
        self._ends = [end for end in self._ends if first.time - end[0].time <= self.MEMORY]
        change = _Cut(first, before, list(self._ends))
        self._open.append(change)
        self._last = first.time
        found.cuts.append(index)
        for picture in self._pictures[at:]:
            self._compare(change, picture, found)

    def _compare(self, change: _Cut, picture: _Picture, found: Found) -> None:
        """See whether a picture after a cut shows what was seen before."""
        if picture.time - change.first.time < self.GUARD or change.first.index in found.withdrawn:
            return
        change.later += 1
        if any(self._same(picture, other) for other in change.before):
            found.withdrawn.append(change.first.index)
            self._last = max((other.first.time for other in self._open if other is not change), default=-math.inf)
            self._ends = change.earlier
        elif not change.returned:
            if change.later == 1:
                self._ends = [*change.earlier, change.before[:2]] if change.before else change.earlier
            for end in change.earlier:
                for other in end:
                    if not change.returned and self._same(picture, other):
                        change.returned = True
                        found.returns.append((change.first.index, other.index))

    def _same(self, one: _Picture, other: _Picture) -> bool:
        """Whether two pictures show the same view, or one that moved a little."""
        if one.colours.shape != other.colours.shape:
            return False
        difference = float(cv2.absdiff(one.colours, other.colours).mean())
        if difference < self.CHANGE:
            return True
        h, w = one.structure.shape
        middle = one.structure[h // 5 : h - h // 5, w // 5 : w - w // 5]
        alike = float(cv2.matchTemplate(other.structure, middle, cv2.TM_CCOEFF_NORMED).max())
        return alike >= (self.ALIKE if difference < self.OTHER else self.SURE)


def _picture(index: int, time: float, image: U8, small: U8) -> _Picture:
    h, w = small.shape[0] // 2, small.shape[1] // 2
    if (
        image.shape[1] > 8 * w and image.shape[0] > 8 * h
    ):  # the mean of 8x8 pixels is as good as that of all, which takes 2.5 ms in full HD
        image = np.asarray(cv2.resize(image, (8 * w, 8 * h), interpolation=cv2.INTER_NEAREST), np.uint8)
    grey = cv2.cvtColor(cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).astype(np.float32)
    structure = cv2.GaussianBlur(grey, (0, 0), 1) - cv2.GaussianBlur(grey, (0, 0), 4)
    return _Picture(index, time, np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2HSV), np.uint8), structure)


def _colours(result: Result) -> list[list[int]]:
    """Nine numbers for each person, 0..255."""
    people = result.people
    if len(people) == 0:
        return []
    squares = square_crops(people.boxes, CROP)
    crops = np.empty((len(people), _CROP_SIDE, _CROP_SIDE, 3), np.uint8)
    for square, crop in zip(squares, crops, strict=True):
        cut(result.frame.image, square, crop)
    shares = people.keypoints.copy()
    shares[:, :, :2] = (shares[:, :, :2] - squares[:, None, :2]) / squares[:, None, 2:] + np.float32(0.5)
    return np.round(255 * clothes(crops, shares)).astype(int).reshape(-1, 9).tolist()

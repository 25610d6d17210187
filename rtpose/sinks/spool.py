"""What the causal pass leaves for the refining one: the results, where the camera cuts, and what everybody wears."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..source import SourceInfo
from ..stages.keypoints import CROP, clothes, cut, square_crops
from ..types import U8, Result
from .data import JsonLinesSink, Provenance

_CROP_SIDE = 48
"""Side, px, of the crops from which the clothes' colours are taken."""


class SpoolSink(JsonLinesSink):
    """Spools the causal results into JSON Lines that anybody can read, with two fields more, for `rtpose.refine`.

    A person has `colours`: nine numbers 0..255, RGB of chest, waist and thighs. A frame has `cuts` where shots were found to begin:
    their frame numbers, which lie a little back. Arguments as for `JsonLinesSink`.
    """

    def __init__(self, path: Path, info: SourceInfo, provenance: Provenance, *, overwrite: bool = False) -> None:
        super().__init__(path, info, provenance, overwrite=overwrite)
        self._shots = Shots(float(info.rate))

    def _record(self, result: Result) -> dict[str, Any]:
        record = super()._record(result)
        if cuts := self._shots.see(result.frame.index, result.frame.image):
            record["cuts"] = cuts
        for person, colours in zip(record["people"], _colours(result), strict=True):
            person["colours"] = colours
        return record


class Shots:
    """Finds camera cuts, by PySceneDetect's AdaptiveDetector, which tells them from fast camera moves by the frames around.

    rate: frames a second.
    """

    SIDE = 160
    """Of the longer side of the pictures that are compared, px."""

    def __init__(self, rate: float) -> None:
        # Its import takes a fifth of a second, for which runs that are not refined need not wait.
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector

        self._time = partial(FrameTimecode, fps=rate)
        self._detector = AdaptiveDetector(min_scene_len=max(1, round(0.3 * rate)))

    def see(self, index: int, image: U8) -> list[int]:
        """Take the next picture; return the indices of first frames of shots that are known since."""
        scale = self.SIDE / max(image.shape[:2])
        size = max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale))
        # Every so-many-th pixel: the mean colours of the whole picture are what counts.
        small = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
        found = self._detector.process_frame(self._time(index), cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        return [int(cut.frame_num) for cut in found]


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

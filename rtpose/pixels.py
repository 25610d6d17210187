"""Pixels that are not square (sample aspect ratio, SAR): between a picture as it is stored and the same picture with square pixels.

All that measures lengths in pictures (crops, boxes, similarities, the tracker) and all networks need square pixels. So the stages of a
run see the picture stretched to them, between `ToSquare` and `ToStored`; what goes in and what comes out is in stored pixels. Square
pixels have neither stage.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np

from .body.camera import Camera
from .types import F32, U8, Boxes, Frame, People, Result

TOLERANCE = 0.01
"""Pixels whose aspect ratio differs from 1 by no more than this are square: encoders write such ratios when they round a size, and an
angle changes by less than a third of a degree."""


@dataclass(frozen=True)
class PixelScale:
    """How many square pixels a stored one is wide (x) and high (y), so that pictures only grow."""

    x: float
    y: float

    @staticmethod
    def of(aspect: Fraction | float, width: int, height: int) -> PixelScale | None:
        """For pictures of `width` x `height` stored pixels, `aspect` (width over height of a pixel); None where they are square."""
        if is_square(aspect):
            return None
        # Of whole pixels, so that points and pictures are scaled alike.
        return PixelScale(round(width * max(1.0, float(aspect))) / width, round(height * max(1.0, float(1 / aspect))) / height)

    @property
    def inverse(self) -> PixelScale:
        """From square pixels to stored ones."""
        return PixelScale(1 / self.x, 1 / self.y)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after scaling, px."""
        return max(1, round(width * self.x)), max(1, round(height * self.y))

    def image(self, image: U8) -> U8:
        """The picture (h, w, 3), scaled."""
        return np.asarray(cv2.resize(image, self.size(image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR), np.uint8)

    def boxes(self, xyxy: F32) -> F32:
        """Boxes (n, 4), scaled; half a pixel lies before the first pixel's centre."""
        return np.asarray((xyxy + 0.5) * np.array([self.x, self.y] * 2) - 0.5, np.float32)

    def keypoints(self, keypoints: F32) -> F32:
        """Keypoints (..., 3) of x, y and confidence, scaled."""
        scaled: F32 = keypoints.copy()
        scaled[..., :2] = (keypoints[..., :2] + 0.5) * np.array([self.x, self.y]) - 0.5
        return scaled

    def people(self, people: People) -> People:
        """The same people in the scaled picture."""
        return replace(
            people,
            boxes=self.boxes(people.boxes),
            keypoints=self.keypoints(people.keypoints),
            raw=self.keypoints(people.raw),
        )

    def camera(self, camera: Camera) -> Camera:
        """The same camera of the scaled picture."""
        cx, cy = (camera.cx + 0.5) * self.x - 0.5, (camera.cy + 0.5) * self.y - 0.5
        return Camera(camera.fx * self.x, camera.fy * self.y, cx, cy, camera.origin)


def is_square(aspect: Fraction | float) -> bool:
    """Whether pixels of this aspect ratio count as square."""
    return abs(float(aspect) - 1) <= TOLERANCE


@dataclass(frozen=True, slots=True)
class SquareFrame(Frame):
    """A frame stretched to square pixels. stored: as it was."""

    stored: Frame | None = None


class ToSquare:
    """The stage that stretches frames to square pixels, for the stages after it."""

    name = "to square pixels"

    def __init__(self, scale: PixelScale) -> None:
        self._scale = scale

    def __call__(self, result: Result) -> Result:
        stored = result.frame
        image = self._scale.image(stored.image)
        frame = SquareFrame(stored.index, stored.time, image, stored.arrival, stored.file, stored.independent, stored)
        return replace(result, frame=frame)


class ToStored:
    """The stage that gives frames back as they are stored, and with them what was found in their pixels. Bodies are metres and stay."""

    name = "to stored pixels"

    def __init__(self, scale: PixelScale) -> None:
        self._back = scale.inverse

    def __call__(self, result: Result) -> Result:
        frame, found = result.frame, result.detections
        if not isinstance(frame, SquareFrame) or frame.stored is None:
            raise ValueError("only frames that ToSquare has stretched can be given back")
        if found is not None:
            found = Boxes(self._back.boxes(found.xyxy), found.scores)
        return replace(result, frame=frame.stored, detections=found, people=self._back.people(result.people))

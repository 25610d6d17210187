"""People in frames that the caller has as arrays."""

from __future__ import annotations

import logging
import math
import time as clock
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from .app import Networks, check_use, make_stages, notes_of
from .backends import check_not_forked
from .errors import InputError
from .pipeline import Stage
from .settings import Settings, changed
from .source import SourceInfo
from .types import U8, Frame, Result

_log = logging.getLogger(__name__)


class Tracker:
    """Tracks the people of one scene through frames given one after the other, as `rtpose.track(..., live=False)` does for a file.

    settings: see `Settings`; each of its fields may also be given by itself. rate: nominal frames a second; how often new people are
    looked for depends on it. channels: the order of the colours in the arrays; OpenCV reads "bgr". Networks are loaded at the first
    frame, whose size the camera is guessed from. To be used from one thread at a time. `close` logs a warning where max_people was met.

        with rtpose.Tracker(rate=25, channels="bgr") as tracker:
            result = tracker.update(image, time)

    Raises InputError for a setting that cannot be.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        rate: float = 30.0,
        channels: Literal["rgb", "bgr"] = "rgb",
        **changes: Any,
    ) -> None:
        self._settings = changed(settings or Settings(), changes)
        if not (math.isfinite(rate) and rate > 0):
            raise InputError(f"rate {rate}: give frames a second, above 0")
        if channels not in ("rgb", "bgr"):
            raise InputError(f"channels {channels!r}: give rgb or bgr")
        self._rate, self._bgr = Fraction(rate).limit_denominator(1001), channels == "bgr"
        self._stages: list[Stage] | None = None
        self._closed = False
        self._index = 0
        self._time = -math.inf
        self._size: tuple[int, int] | None = None

    def update(self, image: U8, time: float) -> Result:
        """The people in the next frame.

        image: (h, w, 3) uint8; it is copied. time: seconds, later than that of the frame before. `Result.frame.image` is RGB. A frame of
        another size than the one before begins a new scene: nobody is followed across it. Raises InputError for an image or a time that
        cannot be; the frame is then not counted, and the next one may follow.
        """
        check_not_forked()
        if self._closed:
            raise InputError("this tracker was closed: make another")
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = f"an array of {image.dtype}" if isinstance(image, np.ndarray) else f"a {type(image).__name__}"
            raise InputError(f"the image is {kind}: give an array of uint8, values from 0 to 255")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InputError(f"the image has shape {image.shape}: give (height, width, 3)")
        if not (math.isfinite(time) and time > self._time):
            after = f", after {self._time:g}" if self._index else ""
            raise InputError(f"the frame's time is {time:g} s{after}: times are in seconds and increase from frame to frame")
        height, width = image.shape[:2]
        if self._stages is None:
            info = SourceInfo("frames", width, height, self._rate, Fraction(1, 90_000))
            check_use(self._settings, info, live=False)
            self._stages = make_stages(Networks(self._settings, info), info)
        rgb = np.array(image[..., ::-1] if self._bgr else image, order="C")
        anew = self._size is not None and self._size != (width, height)
        result = Result(Frame(self._index, float(time), rgb, clock.monotonic_ns(), independent=anew))
        self._index, self._time, self._size = self._index + 1, float(time), (width, height)
        for stage in self._stages:
            result = stage(result)
        return result

    def close(self) -> None:
        """Let go of the networks; no frame can follow."""
        for note in notes_of(self._stages or ()):
            _log.warning("%s", note)
        self._stages, self._closed = None, True

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

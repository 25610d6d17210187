"""A plain live window, through OpenCV."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from functools import cache

import cv2

from ..body.model import Lifted
from ..errors import InputError, Stop
from ..pixels import PixelScale
from ..render import draw
from ..settings import PARTS
from ..source import SourceInfo
from ..types import U8, Result

LARGEST = (1600, 900)
"""A window is opened no larger than this, px; the user may pull it."""


class WindowSink:
    """Shows the newest result; closed by its button, Esc or q, which ends the run well.

    lifted: draws the bodies, too. parts, mirror: as for `draw`.
    """

    name = "view"
    latest = True
    main_thread = True

    def __init__(
        self, info: SourceInfo, lifted: Lifted | None = None, *, parts: Collection[str] = PARTS, mirror: bool = False
    ) -> None:
        check_display()
        self._lifted, self._parts, self._mirror = lifted, parts, mirror
        self._title = f"rtpose: {info.name}"
        self._square = PixelScale.of(info.pixel_aspect, info.width, info.height)
        width, height = (info.width, info.height) if self._square is None else self._square.size(info.width, info.height)
        scale = min(1.0, LARGEST[0] / width, LARGEST[1] / height)
        self._size = (max(1, round(width * scale)), max(1, round(height * scale)))
        self._shown = False

    def write(self, result: Result) -> None:
        if not self._shown:
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
            cv2.resizeWindow(self._title, *self._size)
            self._shown = True
        cv2.imshow(self._title, cv2.cvtColor(self.picture(result), cv2.COLOR_RGB2BGR))
        self.idle()

    def picture(self, result: Result) -> U8:
        """What is shown of a result, (h, w, 3) RGB, with square pixels."""
        picture = draw(result, self._lifted, parts=self._parts, mirror=self._mirror)
        return picture if self._square is None else self._square.image(picture)

    def idle(self) -> None:
        """Let the window answer its user. Raises `Stop` if it was closed."""
        if not self._shown:
            return
        key = cv2.waitKey(1) & 0xFF
        if key in (27, ord("q")) or closed(self._title):
            raise Stop

    def close(self) -> None:
        if self._shown:
            cv2.destroyAllWindows()
            self._shown = False


def closed(title: str) -> bool:
    """Whether the window of this title, once opened, was closed by its user."""
    try:
        return bool(cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1)
    except cv2.error:  # what OpenCV's Qt windows say once the last one is gone
        return True


def check_display(instead: str = "leave out --view") -> None:
    """Raise InputError unless a window can be opened here. instead: what can be done without one."""
    if not display():
        raise InputError(f"there is no display to open a window on: {instead}, or set DISPLAY")


def display() -> bool:
    """Whether a window can be opened here."""
    places = tuple(os.environ.get(name, "") for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return any(places) and _opens(places)


@cache
def _opens(places: tuple[str, ...]) -> bool:
    """Whether the display that the environment names answers, tried in another process: Qt kills the one in which it does not."""
    trial = [sys.executable, "-c", "import cv2; cv2.namedWindow('trial')"]
    return subprocess.run(trial, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0

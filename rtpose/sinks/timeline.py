"""The times of a video that is written: those of the source, as far as the container takes them."""

from __future__ import annotations

from fractions import Fraction

from ..source import JUMP_SECONDS

_FINEST = Fraction(1, 1_000_000)
"""Seconds; ticks that are shorter make gaps too long for a container."""
MOST_TICKS = (1 << 31) - (1 << 22)
"""Between one picture or packet and the next, of a container's own ticks: mp4 has 31 bits for them. After a longer gap every later picture
would be shown for one tick, or FFmpeg's muxer would end the process."""


def ticks_of(source: Fraction) -> Fraction:
    """Seconds that a video counts in, for a source that counts in those."""
    return max(source, _FINEST)


class Timeline:
    """Turns seconds of the source into ticks of the video, which always increase.

    In a gap that is longer than the container takes, the last picture is to be written again. Where the clock leaps by more than `longest`
    the video goes on after one frame.

    base: seconds a tick. container: seconds that the container counts in, which may be finer. interval: seconds a frame. origin: seconds
    of the source at the video's zero. longest: seconds of a gap.
    """

    def __init__(
        self, base: Fraction, container: Fraction, interval: Fraction, *, origin: float = 0.0, longest: float = JUMP_SECONDS
    ) -> None:
        self._base, self._origin = base, origin
        self._most = max(1, int(MOST_TICKS * container / base))
        self._jump = longest / base
        self._frame = max(1, round(interval / base))
        self._last: int | None = None
        self._left_out: list[tuple[float, int]] = []
        """Where the clock leapt, seconds, and the ticks that are left out from there on, all together."""
        self.skipped = 0.0
        """Seconds that were left out before the latest picture."""

    def place(self, time: float) -> tuple[list[int], int]:
        """The ticks at which the last picture is to be written again, and those of the picture of `time` seconds."""
        out = self._left_out[-1][1] if self._left_out else 0
        ticks = round((time - self._origin) * self._base.denominator / self._base.numerator) - out
        if self._last is None:
            self._last = ticks
            return [], ticks
        self.skipped = 0.0
        if ticks - self._last > self._jump:
            self.skipped = float((ticks - self._last) * self._base)
            out += ticks - self._last - self._frame
            self._left_out.append((time, out))
            ticks = self._last + self._frame
        # A live source's times may lie closer together than its ticks.
        ticks = max(ticks, self._last + 1)
        again = list(range(self._last + self._most, ticks, self._most))
        self._last = ticks
        return again, ticks

    def left_out(self, time: float) -> Fraction:
        """Seconds that are left out before this time of the source."""
        return self._base * max((ticks for begin, ticks in self._left_out if begin <= time), default=0)

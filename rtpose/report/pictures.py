"""The pictures of a report: the video, small and with the run's own times, and a contact sheet with the results drawn in."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np

from ..body.model import Lifted
from ..pixels import PixelScale
from ..render import draw
from ..runs import Run
from ..sinks.data import Record, read_results
from ..source import InfoSource
from ..types import U8, Frame, Result

LONGER_SIDE = 640
"""px of the video in the page."""
TILES, TILE_WIDTH = 12, 320
_TICKS = 90_000
_GREY = 70


@dataclass(frozen=True)
class Pictures:
    """video: an mp4 whose time 0 is the run's first record, None where there are no pictures, which `note` explains. sheet: seconds since
    the first record, and a JPEG."""

    video: bytes | None
    note: str
    sheet: list[tuple[float, bytes]]


def look_through(run: Run, source: InfoSource | None, lifted: Lifted | None) -> Pictures:
    """Make the pictures of a run in one pass. source: its pictures, or None; lifted: where there are bodies."""
    tiles = set(np.linspace(0, len(run.times) - 1, TILES).round().astype(int).tolist())
    sheet: list[tuple[float, bytes]] = []
    encoder = _Encoder()
    shown = 0
    for number, (record, image) in enumerate(_pairs(run, source)):
        time = record.time - float(run.times[0])
        if image is not None:
            encoder.add(_scaled(image, LONGER_SIDE, max, run.header.pixel_aspect), time)
            shown += 1
        if number in tiles:
            blank = np.full((run.header.height, run.header.width, 3), _GREY, np.uint8)
            frame = Frame(record.frame, record.time, blank if image is None else image, 0)
            drawn = draw(Result(frame, None, record.people, record.bodies), lifted)
            sheet.append((time, _jpeg(_scaled(drawn, TILE_WIDTH, _width, run.header.pixel_aspect))))
    if source is None:
        note = f"No video: {run.header.source} is not there. Give it with --video."
    elif not shown:
        note = f"No video: {source.name} ends before the results begin."
    elif shown < len(run.times):
        note = f"The video ends before the results do, after {shown} of {len(run.times)} frames."
    else:
        note = ""
    return Pictures(encoder.finish() if shown else None, note, sheet)


def _pairs(run: Run, source: InfoSource | None) -> Iterator[tuple[Record, U8 | None]]:
    """Each record with its picture: None where there is none (any more)."""
    frames = source.frames() if source is not None else iter(())
    for record in read_results(run.path)[1]:
        frame = next((f for f in frames if f.index >= record.frame), None)
        fits = frame is not None and frame.index == record.frame
        yield record, frame.image if frame is not None and fits else None


def _width(width: int, height: int) -> int:
    return width


def _scaled(image: U8, most: int, side: Callable[[int, int], int], aspect: float) -> U8:
    """With square pixels (aspect: of those given), made smaller until `side` of its width and height is `most`, with even sides."""
    height, width = image.shape[:2]
    square = PixelScale.of(aspect, width, height)
    if square is not None:
        width, height = square.size(width, height)
    scale = most / side(width, height)
    size = [max(2, round(side * min(1.0, scale) / 2) * 2) for side in (width, height)]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(image: U8) -> bytes:
    return bytes(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1])


class _Encoder:
    """H.264 in an mp4 in memory, every picture at its time, quick to seek in."""

    def __init__(self) -> None:
        self._file = io.BytesIO()
        self._out = av.open(self._file, "w", format="mp4")
        self._stream: av.VideoStream | None = None
        self._last = -1

    def add(self, image: U8, time: float) -> None:
        if self._stream is None:
            stream = self._out.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS)
            stream.codec_context.gop_size, stream.codec_context.max_b_frames = 15, 0
            stream.options = {"crf": "27", "preset": "veryfast"}
            self._stream = stream
        if image.shape[:2] != (self._stream.height, self._stream.width):
            image = np.asarray(cv2.resize(image, (self._stream.width, self._stream.height)), np.uint8)
        frame = av.VideoFrame.from_ndarray(image, "rgb24")
        # Two frames may lie closer together than ticks.
        self._last = max(round(time * _TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._out.mux(self._stream.encode(frame))

    def finish(self) -> bytes:
        if self._stream is not None:
            self._out.mux(self._stream.encode(None))
        self._out.close()
        return self._file.getvalue()

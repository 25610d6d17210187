"""Where frames come from: video files, pictures, streams, cameras. `open_source` picks the kind from what it is given.

Files and pictures are read once, in full, in the thread that iterates. Streams and cameras are read by a thread of their own
that reopens them when they vanish, so that a device which sits in a read cannot hold the program.
"""

from __future__ import annotations

import glob
import itertools
import math
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, cast
from urllib.parse import unquote, urlsplit

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .colour import ToRgb
from .containers import SCHEMES, file_options, is_playlist, open_input, stream_options
from .deinterlace import Deinterlacer
from .errors import EndedEarly, InputError
from .frame_rate import nominal_rate, plausible_rate
from .pictures import AnimationSource, PictureSource, focal_from_film, is_animated, is_picture, natural_order, read_picture
from .pipeline import Channel, Closed
from .safe_text import mask_credentials
from .settings import check_deinterlace
from .source_info import InfoSource, SourceInfo
from .types import U8, Frame

__all__ = [
    "FileSource",
    "InfoSource",
    "LiveSource",
    "Paced",
    "SourceInfo",
    "files_like",
    "open_source",
    "read_picture",
    "seconds_of",
    "sound_of",
]

_T = TypeVar("_T")


OPEN_SECONDS = 10.0
"""A stream or camera that has not shown a picture after this time is unreachable."""

READ_SECONDS = 5.0
"""A stream that brings nothing for this time has vanished."""

LATE_SECONDS = 1.0
"""A stream that is decoded this late is too much for the machine: only its key frames are decoded until it is in time again."""

REACH_SECONDS = 0.1
"""A file whose longest stream ends so much earlier than the file says is not cut short: packets need not say how long they last."""

SCAN_PACKETS, SCAN_BYTES = 300, 32 << 20
"""So much of a file is read ahead to learn its frame rate from its time stamps."""
WIDEST_PIXEL = 4
"""Pixels that a file calls wider than so many times their height, or higher than so many times their width, are a mistake."""
GAP_SECONDS = 60.0
"""From this length on a gap between the frames of a file is told of."""

JUMP_SECONDS = 24 * 3600.0
"""Where the times of a file leap ahead by more, its clock was set, as where files were put together: no such time passed."""

BACK_OFF = (0.25, 2.0)
"""Seconds between attempts to reopen: the first wait, and the cap on its doubling."""


def seconds_of(text: str) -> float:
    """`75.5`, `1:15.5` or `0:01:15.5` as seconds. Raises InputError for what is no time."""
    parts = text.split(":")
    try:
        seconds = math.fsum(float(part) * 60**i for i, part in enumerate(reversed(parts)))
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0 and len(parts) <= 3):
        raise InputError(f"{text!r} is no time: give seconds, or h:mm:ss")
    return seconds


def open_source(
    spec: str | int | Path,
    *,
    sequence: bool = False,
    rate: float = 30.0,
    start: float = 0.0,
    end: float | None = None,
    playlists: bool = False,
    deinterlace: str = "auto",
) -> InfoSource:
    """Open a camera (number, /dev/videoN), a GStreamer pipeline (with "!"), a URL, a video, a picture, a folder or glob of them.

    sequence: the pictures follow each other `rate` times a second, else each stands for itself (times 0, 1, 2 ...). start, end:
    seconds from the first frame of a video file, of which only that part is read; frames keep their numbers and times. playlists:
    a file may be one that names other files and addresses. deinterlace: of video files and streams "auto" what is marked as
    interlaced, "on" every frame, "off" none.
    Raises InputError where nothing can be read, within `OPEN_SECONDS` or a little more for streams.
    """
    check_deinterlace(deinterlace)
    text = str(spec).strip()
    if not text:
        raise InputError("the source is empty: give a file, a folder, a URL or a camera's number")
    if text.lower().startswith("file://"):
        text = unquote(urlsplit(text).path)
    path = Path(text)
    there = os.path.exists(path)  # False also for what can be no file's name, as that of a long pipeline
    is_file = there and path.is_file() and not _stands_alone(path)
    if (start > 0 or end is not None) and not is_file:
        raise InputError(f"--start and --end take a part of a video file, which {mask_credentials(text)} is not")
    if isinstance(spec, int) or (re.fullmatch(r"-?\d+", text) and not there):
        return _camera(int(text))
    if device := re.fullmatch(r"/dev/video(\d+)", text):
        return _camera(int(device[1]))
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text):
        return _url(text, deinterlace)
    if there and path.is_dir():
        return PictureSource(text, list(path.iterdir()), sequence, rate)
    if is_file:
        return _file(path, start, end, deinterlace, playlists)
    if there:
        return AnimationSource(path) if is_animated(path) else PictureSource(text, [path], sequence, rate)
    if "!" in text:
        return _gstreamer(text)
    if glob.has_magic(text):
        return PictureSource(text, files_like(text), sequence, rate)
    raise InputError(f"no such file or folder: {text}")


def _stands_alone(path: Path) -> bool:
    """Whether the file is a picture, or an animated one that FFmpeg cannot read, unlike GIF."""
    return is_picture(path) and not (path.suffix.lower() in (".gif", ".apng") and is_animated(path))


def files_like(pattern: str) -> list[Path]:
    """The files that a glob matches, in the natural order of their names. Raises InputError where there is none."""
    found = sorted(map(Path, glob.glob(pattern, recursive=True)), key=natural_order)
    if not found:
        raise InputError(f"no file matches {pattern}")
    return found


class _Clock:
    """Strictly increasing times of the frames of a file.

    Every time stamp that comes after the one before it is the frame's time. A frame whose stamp is missing, or does not come after, gets a
    time between its neighbours, at most the interval of the nominal `rate` after the one before, so that the true stamps that follow
    win. Where the stamps have gone back for good (files put together), they are carried on from there.
    """

    RESTART = 8
    """Frames in a row without a stamp that comes after the last one, after which the stamps have gone back for good."""

    def __init__(self, time_base: Fraction, rate: Fraction) -> None:
        self.time_base = time_base
        self.step = float(1 / (rate * time_base))
        """Ticks between frames."""
        self.first: float | None = None
        """Ticks of the first frame, as `last` of the last one."""
        self.last: float | None = None
        self.mended = 0
        """Frames whose time is not their stamp."""
        self._offset = 0.0

    def times(self, stamped: Iterable[tuple[_T, int | None]]) -> Iterator[tuple[_T, float]]:
        """The frames with their times in seconds, one frame or few after they came. stamped: with their stamps, ticks or None."""
        waiting: list[tuple[_T, float | None]] = []
        """Frames without a time yet: the first has a good stamp (but at the very beginning), the others have none."""
        for item, stamp in stamped:
            now = None if stamp is None else stamp + self._offset if self._offset else stamp
            good = waiting[0][1] if waiting else None
            if now is None or (good is not None and not good < now and not self._leaps(good, now)):
                waiting.append((item, now))
                if len(waiting) > self.RESTART:
                    yield from self._restart(waiting)
                continue
            if good is not None and good > now:  # it is the good one that was wrong
                waiting[0] = (waiting[0][0], None)
            yield from self._between(waiting, now)
            waiting[:] = [(item, now)]
        yield from self._between(waiting, None)

    def _leaps(self, good: float, now: float) -> bool:
        """Whether the stamp before has leapt ahead alone, and this one goes on from the last time."""
        last = self.last
        return last is not None and last < now and good - last > 2 * self.step and now - last < good - now

    def _restart(self, waiting: list[tuple[_T, float | None]]) -> Iterator[tuple[_T, float]]:
        """Give all waiting frames but the last a time, and carry on from there."""
        stamps = [stamp for _, stamp in waiting[1:]]
        known = [stamp for stamp in stamps if stamp is not None]
        begin = waiting[0][1]
        if begin is not None and len(known) == len(stamps) and all(a < b for a, b in itertools.pairwise(known)):
            yield self._given(waiting[0][0], begin, waiting[0][1])
            shift = begin + self.step - known[0]
            self._offset += shift
            shifted = [(item, stamp + shift) for (item, _), stamp in zip(waiting[1:], known, strict=True)]
            for item, stamp in shifted[:-1]:
                yield self._given(item, stamp, None)
            waiting[:] = [shifted[-1]]
            return
        final = waiting.pop()
        yield from self._between(waiting, None)
        assert self.last is not None
        waiting[:] = [(final[0], self.last + self.step)]
        self.mended += 1

    def _between(self, waiting: list[tuple[_T, float | None]], until: float | None) -> Iterator[tuple[_T, float]]:
        """Give all waiting frames a time, those without a good stamp between the one before and `until` (ticks, None: not known)."""
        if not waiting:
            return
        items, begin = [item for item, _ in waiting], waiting[0][1]
        if begin is not None:
            yield self._given(items.pop(0), begin, begin if not self._offset else None)
        if self.last is None:  # the first stamp that is known tells when the ones before it began
            self.last = (0.0 if until is None else until - len(items) * self.step) - self.step
        step = self.step if until is None else min(self.step, (until - self.last) / (len(items) + 1))
        for item in items:
            yield self._given(item, self.last + step, None)

    def _given(self, item: _T, ticks: float, stamp: float | None) -> tuple[_T, float]:
        self.mended += stamp is None
        self.first = ticks if self.first is None else self.first
        self.last = ticks
        return item, self.seconds(ticks)

    def seconds(self, ticks: float) -> float:
        return ticks * self.time_base.numerator / self.time_base.denominator


class _Picture(NamedTuple):
    """A decoded picture: its time stamp, the upright RGB pixels, and `time.monotonic_ns()` at which its packet came."""

    pts: int | None
    image: U8
    arrival: int


class _Video:
    """The first real video stream of an open container, as upright RGB pictures, all of the size of the first."""

    def __init__(self, container: InputContainer, name: str, *, live: bool, deinterlace: str) -> None:
        streams = pictures_of(container)
        if not streams:
            raise InputError(f"{name} has no video stream")
        self.container, self._live = container, live
        self.stream: VideoStream = streams[0]
        context = self.stream.codec_context
        if context is None:
            raise InputError(f"{name}: no decoder for its video")
        context.copy_opaque = True
        # Frame threads delay a picture by as many frames as there are threads, which a live picture must not be.
        context.thread_type = "SLICE" if live else "AUTO"
        self.undecodable = self.damaged = self.resized = self.last_duration = 0
        self.odd_aspect: Fraction | None = None
        self.time_base = self.stream.time_base or Fraction(1, 90000)
        self.stream_seconds = None if self.stream.duration is None else self.stream.duration * self.time_base
        self.reached = Fraction(0)
        """Seconds up to which the packets that were read of any stream last."""
        # All streams tell how far a file reaches that says only how long the longest one is.
        self._read = (self.stream,) if live or self.stream_seconds is not None else tuple(container.streams)
        self._packets = self._demux()
        self._ahead: deque[Packet[Any]] = deque()
        self.rate = self._frame_rate()
        self._deinterlacer = Deinterlacer(deinterlace, context)
        self._to_rgb = ToRgb()
        self._frames = self._decode()
        first = next(self._frames, None)
        if first is None:
            raise InputError(f"{name}: not one frame of its video can be decoded")
        self._first: VideoFrame | None = first
        self._size = (first.width, first.height)
        self._upright = _Upright.of(first)

    def info(self, name: str, *, live: bool, path: Path | None = None) -> SourceInfo:
        width, height = self._size
        aspect = self.stream.sample_aspect_ratio or Fraction(1)
        if not 1 / WIDEST_PIXEL <= aspect <= WIDEST_PIXEL:
            self.odd_aspect, aspect = aspect, Fraction(1)
        if self._upright.swap:
            width, height, aspect = height, width, 1 / aspect
        return SourceInfo(
            name=name,
            width=width,
            height=height,
            rate=self.rate,
            time_base=self.time_base,
            frames=None if live else self.expected(),
            live=live,
            path=path,
            has_audio=path is not None and sound_of(self.container) is not None,
            pixel_aspect=aspect,
            focal=_focal_of_video(self.container, self.stream, float(width * aspect), height),
        )

    def pictures(self) -> Iterator[_Picture]:
        """The rest of the stream; raises `av.FFmpegError` where it cannot be read on."""
        for frame, arrival in self.decoded():
            yield _Picture(_stamp(frame), self.convert(frame), arrival)

    def decoded(self) -> Iterator[tuple[VideoFrame, int]]:
        """The same before they are converted, and when they came."""
        # What was read to learn the size waited for us: for the user it comes now.
        begin = time.monotonic_ns()
        if self._first is not None:
            first, self._first = self._first, None
            self.last_duration = first.duration
            yield first, begin
        for frame in self._frames:
            self.last_duration = frame.duration
            yield frame, max(begin, cast(int, frame.opaque))

    def notes(self) -> list[str]:
        counted = {
            "packets left out because they could not be decoded": self.undecodable,
            "damaged frames": self.damaged,
            "frames scaled because their size differs from the first": self.resized,
        }
        told = [f"{what}: {n}" for what, n in counted.items() if n]
        if self.odd_aspect is not None:
            told.append(f"pixels taken for square: the file says that they are {float(self.odd_aspect):g} times as wide as high")
        return told + self.changes()

    def changes(self) -> list[str]:
        """Notes on what was done to every picture."""
        return self._deinterlacer.notes() + self._to_rgb.notes()

    def expected(self) -> int | None:
        """How many frames there should be."""
        if self.stream.frames:
            return self.stream.frames
        seconds = self.seconds()
        return None if seconds is None else max(1, round(seconds * self.rate))

    def seconds(self) -> Fraction | None:
        """How long the container says the video is."""
        if self.stream_seconds is not None or self.container.duration is None:
            return self.stream_seconds
        return Fraction(self.container.duration, 1_000_000)

    def _frame_rate(self) -> Fraction:
        """The nominal rate: that of the first packets' stamps, which are read ahead; of a live stream the stated one, which is a guess."""
        stated = (self.stream.guessed_rate, self.stream.average_rate)
        likely = plausible_rate(*stated) or Fraction(25)
        if self._live:
            return likely
        size = 0
        with suppress(av.FFmpegError):  # met again where the packets are asked for
            while len(self._ahead) < SCAN_PACKETS and size < SCAN_BYTES and (packet := next(self._packets, None)) is not None:
                self._ahead.append(packet)
                size += packet.size
        stamps = [packet.pts for packet in self._ahead if packet.pts is not None]
        if len(stamps) < min(3, len(self._ahead)):
            return likely
        # A rate that is that of the ticks fits any times.
        known = [rate for rate in (plausible_rate(one) for one in stated) if rate is not None]
        return nominal_rate([float(stamp * self.time_base) for stamp in stamps], known) or likely

    def _demux(self) -> Iterator[Packet[Any]]:
        """The coded pictures, and an empty packet at the end.

        A packet that is cut off by the end of the file is left out: with it the frame threads would lose the whole pictures before.
        """
        cut: Packet[Any] | None = None
        flushed = False
        for packet in demuxed(self.container, *self._read):
            if packet.pts is not None and packet.time_base is not None:
                self.reached = max(self.reached, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream is not self.stream:
                continue
            packet.opaque = time.monotonic_ns()
            flushed |= not packet.size
            if cut is not None and packet.size:  # it was only damaged
                yield cut
            cut = packet if packet.is_corrupt and not self._live else None
            if cut is None:
                yield packet
        if not flushed:
            end: Packet[Any] = Packet()
            end.opaque = time.monotonic_ns()
            yield end

    def _decode(self) -> Iterator[VideoFrame]:
        try:
            for packet in itertools.chain(_taken(self._ahead), self._packets):
                try:
                    decoded = self.stream.decode(packet)
                except av.error.InvalidDataError:
                    self.undecodable += 1
                    continue
                for frame in decoded:
                    yield from self._deinterlacer(frame)
        except av.FFmpegError:
            # What still waits came before the place where the stream broke off.
            yield from self._deinterlacer.flush()
            raise
        yield from self._deinterlacer.flush()

    def convert(self, frame: VideoFrame) -> U8:
        """The upright RGB picture."""
        self.damaged += frame.is_corrupt
        width, height = self._size
        self.resized += (frame.width, frame.height) != self._size
        rgb = self._to_rgb(frame, width, height)
        return self._upright(cast(U8, rgb.to_ndarray()))


def _taken(queue: deque[_T]) -> Iterator[_T]:
    while queue:
        yield queue.popleft()


def _stamp(frame: VideoFrame) -> int | None:
    """A decoded frame's time stamp, in ticks of its stream."""
    return frame.pts if frame.pts is not None else frame.dts


class _Upright(NamedTuple):
    """How a stored picture is turned and mirrored to be shown: axes are swapped first, then each may be mirrored."""

    swap: bool
    mirror_x: bool
    mirror_y: bool

    @staticmethod
    def of(frame: VideoFrame) -> _Upright:
        """Read the frame's display matrix: rows are the images of the x and y axis, 16.16 fixed point."""
        data = cast("Mapping[str, Any]", frame.side_data).get("DISPLAYMATRIX")
        if data is None:
            return _Upright(False, False, False)
        xx, xy, _, yx, yy = np.frombuffer(bytes(data), "<i4")[:5].tolist()
        swap = abs(xy) > abs(xx)
        return _Upright(swap, (yx if swap else xx) < 0, (xy if swap else yy) < 0)

    def __call__(self, image: U8) -> U8:
        if self.swap:
            image = cast(U8, cv2.transpose(image))
        if self.mirror_x or self.mirror_y:
            image = cast(U8, cv2.flip(image, -1 if self.mirror_x and self.mirror_y else int(self.mirror_x)))
        return image


def pictures_of(container: InputContainer) -> list[VideoStream]:
    """The streams of moving pictures: no covers."""
    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]


def sound_of(container: InputContainer) -> AudioStream | None:
    """The first stream of sound that can be decoded. One that begins far behind the beginning may have no rate yet: it is none."""
    return next((s for s in container.streams.audio if s.codec_context is not None and s.codec_context.sample_rate), None)


def demuxed(container: InputContainer, *streams: Stream) -> Iterator[Packet[Any]]:
    """The packets of these streams."""
    packets = iter(container.demux(*streams))
    while True:
        try:
            packet = next(packets, None)
        except IndexError:  # PyAV's, at the end of data in which another stream began after they were opened
            return
        if packet is None:
            return
        yield packet


def _focal_of_video(container: InputContainer, stream: VideoStream, width: float, height: float) -> float | None:
    """In pixels of the height; width is in those, too."""
    for tags in (stream.metadata, container.metadata):
        for key, value in tags.items():
            if key.endswith("camera.focal_length.35mm_equivalent"):
                try:
                    return focal_from_film(float(value), width, height)
                except ValueError:
                    return None
    return None


def _reason(error: BaseException) -> str:
    """What went wrong, without the URL that PyAV appends (it may hold a password)."""
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {READ_SECONDS:.0f} s"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


class FileSource:
    """A video with a beginning and an end, all of whose frames, or those of a part, are wanted: read once.

    start, end: seconds from the first frame. Raises InputError for a part that cannot be.
    """

    status = ""

    def __init__(
        self,
        container: InputContainer,
        name: str,
        path: Path | None = None,
        *,
        start: float = 0.0,
        end: float | None = None,
        deinterlace: str = "auto",
    ) -> None:
        self.name = name
        self._video = _open_video(container, name, live=False, deinterlace=deinterlace)
        self.info = self._video.info(name, live=False, path=path)
        self.notes: list[str] = []
        self._seconds = self._video.seconds()
        self._closed = False
        self._last: float | None = None
        self._gaps: list[tuple[float, float]] = []
        self._jumps: list[tuple[float, float]] = []
        self._start, self._end = start, math.inf if end is None else end
        if start > 0 or end is not None:
            self._take_part()

    def _take_part(self) -> None:
        length = None if self._seconds is None else float(self._seconds)
        if self._start >= self._end:
            self._video.container.close()
            raise InputError(f"--start {self._start:g} s is not before --end {self._end:g} s")
        if length is not None and self._start >= length:
            self._video.container.close()
            raise InputError(f"--start {self._start:g} s lies after the end of {self.name}, which lasts {length:.3f} s")
        last = min(self._end, math.inf if length is None else length)
        frames = None if math.isinf(last) else max(1, round((last - self._start) * self.info.rate))
        self.info = replace(self.info, part=True, frames=frames)

    def frames(self) -> Iterator[Frame]:
        """All frames that are wanted. Raises `EndedEarly` where the file ends before it says that it should, InputError where it
        ends before the part that is wanted."""
        video = self._video
        clock = _Clock(video.time_base, video.rate)
        index = wanted = 0
        begin: float | None = None
        fault = ""
        past = False

        def stamped() -> Iterator[tuple[tuple[VideoFrame, int], int | None]]:
            nonlocal fault
            try:
                for decoded, arrival in video.decoded():
                    yield (decoded, arrival), _stamp(decoded)
            except av.FFmpegError as error:
                fault = _reason(error)

        try:
            for (decoded, arrival), now in clock.times(stamped()):
                if self._closed:
                    break
                begin = now if begin is None else begin
                if now - begin >= self._end:
                    past = True
                    break
                self._watch(now)
                # What lies before the part costs its decoding alone.
                if now - begin >= self._start:
                    yield Frame(index, now, video.convert(decoded), arrival)
                    wanted += 1
                index += 1
        finally:
            video.container.close()
            self.notes += video.notes()
            self._tell_gaps()
            if clock.mended:
                self.notes.append(f"time stamps mended because they were missing or did not increase: {clock.mended}")
        if past and wanted == 0:
            raise InputError(f"no frame of {self.name} lies between --start {self._start:g} s and --end {self._end:g} s")
        if self._closed or past:
            return
        where = f"after {index} frames, at {clock.seconds(clock.last or 0):.3f} s"
        if fault:
            raise EndedEarly(f"{self.name} breaks off {where}: {fault}")
        if self._is_cut(index, clock):
            raise EndedEarly(f"{self.name} breaks off {where}: the file is cut short")
        if wanted == 0:
            raise InputError(f"--start {self._start:g} s lies after the end of {self.name}, {where}")

    def _watch(self, now: float) -> None:
        """Count the gaps."""
        last, self._last = self._last, now
        if last is not None and now - last > JUMP_SECONDS:
            self._jumps.append((last, now))
        elif last is not None and now - last > GAP_SECONDS:
            self._gaps.append((last, now))

    def _tell_gaps(self) -> None:
        if self._gaps:
            begin, end = max(self._gaps, key=lambda gap: gap[1] - gap[0])
            self.notes.append(
                f"gaps without a frame, each over {GAP_SECONDS:.0f} s: {len(self._gaps)}, the longest from {begin:.3f} to {end:.3f} s"
            )
        if self._jumps:
            begin, end = self._jumps[0]
            self.notes.append(
                f"the file's clock leaps ahead, as where files were put together, times: {len(self._jumps)}, first from {begin:.3f} to"
                f" {end:.3f} s: the results keep its times"
            )

    def _is_cut(self, frames: int, clock: _Clock) -> bool:
        """Whether the file ends before it says that it should. How many frames it has is asked only where it was counted."""
        video, interval = self._video, float(1 / self._video.rate)
        if clock.first is None or clock.last is None or (video.stream.frames and frames >= video.stream.frames):
            return False
        if self.info.path is not None and _segment_is_cut(self.info.path):
            return True
        if self._seconds is None:
            return False
        length = float(self._seconds)
        if video.stream_seconds is None:
            # Of all streams together, whose packets need not say how long they last.
            end = max(clock.seconds(clock.last) + interval, float(video.reached))
            return end < length - max(1.5 * interval, REACH_SECONDS)
        if clock.mended:  # such files miscount by one
            return frames * interval < length - 1.5 * interval
        # A stream's own length counts from its first frame.
        end = clock.seconds(clock.last - clock.first + max(clock.step, video.last_duration))
        return end < length - interval / 2

    def close(self) -> None:
        self._closed = True


def _file(path: Path, start: float, end: float | None, deinterlace: str, playlists: bool) -> FileSource:
    return FileSource(_open_file(path, playlists), str(path), path, start=start, end=end, deinterlace=deinterlace)


def _segment_is_cut(path: Path) -> bool:
    """Whether the file is Matroska (or WebM) whose segment, by its own size, should reach beyond the file's end."""
    with open(path, "rb") as file:
        head = file.read(4096)
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return False
    header = _ebml_size(head, 4)
    if header is None or header[0] is None:
        return False
    begin = header[1] + header[0]
    if head[begin : begin + 4] != b"\x18\x53\x80\x67":
        return False
    segment = _ebml_size(head, begin + 4)
    return segment is not None and segment[0] is not None and segment[1] + segment[0] > path.stat().st_size


def _ebml_size(data: bytes, at: int) -> tuple[int | None, int] | None:
    """The size of an EBML element whose size field begins at `at` (None: unknown, as while it is being written), and where its content
    begins; None where the data are too short. RFC 8794, section 6."""
    if at >= len(data) or not data[at]:
        return None
    width = 9 - data[at].bit_length()
    if at + width > len(data):
        return None
    value = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), at + width


def _open_file(path: Path, playlists: bool) -> InputContainer:
    try:
        return open_input(f"file:{path}", options=file_options(playlists=playlists))
    except av.FFmpegError as error:
        refused = isinstance(error, av.error.ArgumentError)  # what FFmpeg says of a format that is not among those allowed
        if not playlists and isinstance(error, (av.error.ArgumentError, av.error.InvalidDataError)) and is_playlist(path):
            raise InputError(
                f"{path} is a playlist, which makes rtpose open other files and addresses: --allow-playlists if you trust it"
            ) from None
        if refused:
            raise InputError(f"{path} is not a video: it holds text, sound or data of another kind") from None
        if not isinstance(error, av.error.InvalidDataError):
            raise InputError(f"cannot open {path}: {_reason(error)}") from None
        raise InputError(f"{path} is not a video, or its beginning or index is damaged") from None


def _open_stream(url: str, name: str) -> InputContainer:
    """Open a stream, whose openings and reads are limited in time."""
    begin = time.monotonic()
    try:
        return open_input(url, options={**STREAM_OPTIONS, **stream_options()}, timeout=(OPEN_SECONDS, READ_SECONDS))
    except av.FFmpegError as error:
        # An opening that ran out of time says so, or calls the nothing that it got invalid.
        if time.monotonic() - begin > 0.9 * OPEN_SECONDS:
            raise InputError(f"nothing arrived from {name} within {OPEN_SECONDS:.0f} s") from None
        if not isinstance(error, av.error.InvalidDataError):
            raise InputError(f"cannot open {name}: {_reason(error)}") from None
        raise InputError(f"{name} is not a video, or its beginning is damaged") from None


def _open_video(container: InputContainer, name: str, *, live: bool, deinterlace: str) -> _Video:
    try:
        return _Video(container, name, live=live, deinterlace=deinterlace)
    except av.FFmpegError as error:
        container.close()
        raise InputError(f"{name}: no picture came: {_reason(error)}") from None
    except InputError:
        container.close()
        raise


class _LiveClock:
    """Strictly increasing seconds of a live source: its own, carried on by the real time that passed where those jump.

    A sender that restarts counts from zero again, with or without a broken connection. A time is believed if it does not go
    back and is not ahead of the real time by more than `SLACK`; right after a reconnect it must not be behind either.
    """

    SLACK = 1.0
    PAUSE = 0.5
    """Seconds; a longer step between frames tells nothing about the usual one."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._last: float | None = None
        self._step: float | None = None
        """Seconds between frames, as they have come so far."""
        self._lag = 0.0
        self.restarted = False
        self.late = 0.0
        """Seconds by which the last frame came later than the promptest one: what waits to be read and decoded."""

    def __call__(self, seconds: float | None, arrival: int, interval: float) -> float:
        """seconds: the source's, None if missing. arrival: monotonic ns. interval: between frames, seconds, until that is known."""
        real = arrival * 1e-9
        interval = interval if self._step is None else self._step
        if self._last is None:
            now = seconds or 0.0
            self._lag = real - now
        else:
            # What the source's clock should show by now: `lag` is the shortest time that a frame has taken to come.
            due = real - self._lag
            now = self._last + interval if seconds is None else seconds + self._offset
            jumped = now < self._last - self.SLACK or now > due + self.SLACK or (self.restarted and now < due - self.SLACK)
            if jumped:
                now = max(due, self._last + interval)
                self._offset = now - (seconds or 0.0)
            elif now <= self._last:
                # Half a step: so the true times that follow soon win again.
                now = self._last + interval / 2
            elif seconds is not None and now - self._last < self.PAUSE:
                step = now - self._last
                self._step = step if self._step is None else self._step + 0.1 * (step - self._step)
            # The floor rises by a thousandth, so that a slow clock on the other side never looks like lateness.
            self._lag = real - now if jumped else min(self._lag + 1e-3 * (now - self._last), real - now)
        self.restarted = False
        self._last = now
        self.late = real - now - self._lag
        return now


class _Connection(Protocol):
    """An opened live source that has shown its first picture."""

    info: SourceInfo

    def pictures(self) -> Iterator[tuple[float | None, U8, int]]:
        """Seconds of its own clock, pixels, arrival. Returns where the source properly ended; raises `_Vanished` where not."""

    def hurry(self, yes: bool) -> None:
        """Leave out what can be left out, until told otherwise: the reader does not keep up."""

    def changes(self) -> list[str]:
        """Notes on what was done to every picture."""

    def close(self) -> None: ...


class _Vanished(Exception):
    """A live source broke off."""


class LiveSource:
    """A camera or stream, read and decoded by its own thread as fast as it comes, and reopened when it vanishes.

    It is read from the moment it is opened; what comes before `frames` is called is dropped, so that the first frame is fresh.
    """

    def __init__(self, name: str, connect: Callable[[], _Connection]) -> None:
        self.name = name
        self.status = ""
        self.notes: list[str] = []
        self._connect = connect
        self._frames: Channel[Frame] = Channel(1)
        self._wanted = False
        self._closed = threading.Event()
        self._fault: BaseException | None = None
        self._reopenings = self._hurried = self._count = 0
        self._lost = ""
        self._changes: Callable[[], list[str]] = list
        self._hurrying = False
        self._opened = threading.Event()
        threading.Thread(target=self._read, name="rtpose-live", daemon=True).start()
        self._opened.wait()
        if self._fault is not None:
            raise self._fault

    def frames(self) -> Iterator[Frame]:
        """Frames as they come, until the stream properly ends or `close` is called."""
        self._wanted = True
        try:
            while True:
                yield self._frames.get()
        except Closed:
            pass
        self.notes += self._changes()
        if self._reopenings:
            self.notes.append(f"{self.name} vanished and was reopened, times: {self._reopenings}")
        if self._lost:
            self.notes.append(f"{self.name} ended and did not come back ({self._lost}); frames that came: {self._count}")
        if self._hurried:
            self.notes.append(
                f"decoding was too much for this machine, so that only key frames were read, times: {self._hurried}"
            )
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        """End `frames` now. The reading thread follows when its read returns or times out."""
        self._closed.set()
        self._frames.cancel()

    def _read(self) -> None:
        try:
            connection: _Connection | None = (first := self._connect())
            self.info = first.info
            self._opened.set()
            clock = _LiveClock()
            index = itertools.count()
            while connection is not None:
                connection = self._reopened(clock) if self._pass_on(connection, clock, index) else None
        except Closed:
            pass
        except BaseException as error:
            # It belongs to whoever waits for frames.
            self._fault = error
        finally:
            self._opened.set()
            self._frames.close()

    def _pass_on(self, connection: _Connection, clock: _LiveClock, index: Iterator[int]) -> bool:
        """Hand over what comes; True if it stopped but should go on."""
        self._changes = connection.changes
        interval = float(1 / connection.info.rate)
        behind_since: int | None = None
        size = (self.info.width, self.info.height)
        try:
            for seconds, image, arrival in connection.pictures():
                if image.shape[1::-1] != size:  # it came back with another one
                    image = cast(U8, cv2.resize(image, size, interpolation=cv2.INTER_AREA))
                frame = Frame(next(index), clock(seconds, arrival, interval), image, arrival)
                # If the frame before still waits, it is not the decoder that is slow, but who wants every frame.
                if clock.late < LATE_SECONDS / 4 or len(self._frames):
                    behind_since = None
                elif behind_since is None:
                    behind_since = arrival
                # For a while: after a silence frames are late too, such as the last one of a stream that ended, but those pass quickly.
                late = clock.late > LATE_SECONDS and behind_since is not None and arrival - behind_since > LATE_SECONDS * 1e9
                if (self._hurrying and behind_since is None) or (late and not self._hurrying):
                    self._hurry(connection)
                if self._wanted:
                    self._frames.put(frame)
                    self._count += 1
                if self._closed.is_set():
                    return False
        except _Vanished as error:
            self._lost = str(error)
            self.status = f"{self.name} vanished ({error})"
            return True
        finally:
            with suppress(av.FFmpegError, OSError):  # of a connection that is gone
                connection.close()
        return False

    def _hurry(self, connection: _Connection) -> None:
        """Begin or end to leave out what can be left out."""
        self._hurrying = not self._hurrying
        self._hurried += self._hurrying and self._wanted
        self.status = f"decoding {self.name} is too much for this machine: key frames only" if self._hurrying else ""
        connection.hurry(self._hurrying)

    def _reopened(self, clock: _LiveClock) -> _Connection | None:
        """Try until the source is there again; None if it was closed meanwhile."""
        self._hurrying = False
        wait, longest = BACK_OFF
        while not self._closed.wait(wait):
            try:
                connection = self._connect()
            except Exception as error:  # whatever is wrong with it now: it may be better soon
                self.status = f"{_reason(error)}, trying again"
                wait = min(2 * wait, longest)
            else:
                self.status = self._lost = ""
                self._reopenings += 1
                clock.restarted = True
                return connection
        return None


STREAM_OPTIONS = {
    # Enough to see one keyframe of a usual camera, and no more: this is time the user waits.
    "analyzeduration": "2000000",
    "flags": "low_delay",
    # A server that refuses TCP gets UDP, where packets are lost without a word.
    "rtsp_flags": "prefer_tcp",
    # A burst must not kill the reader of a datagram socket.
    "overrun_nonfatal": "1",
    "fifo_size": "200000",
}


ENDING = ("http", "https", "ftp", "sftp", "file", "pipe", "fd")
"""Protocols in which the end of the data is the sender's word that it has ended. In others (rtsp, rtmp, srt, udp, rtp, tcp) it looks
the same as a connection that broke."""


class _Stream:
    def __init__(self, url: str, name: str, container: InputContainer, deinterlace: str) -> None:
        self._ends = urlsplit(url).scheme.lower() in ENDING
        self._video = _open_video(container, name, live=True, deinterlace=deinterlace)
        self.info = self._video.info(name, live=True)

    def pictures(self) -> Iterator[tuple[float | None, U8, int]]:
        base = self._video.time_base
        try:
            for pts, image, arrival in self._video.pictures():
                yield (None if pts is None else float(pts * base)), image, arrival
        except Exception as error:  # whatever a library makes of what was sent: the stream is opened anew
            raise _Vanished(_reason(error)) from error
        if not self._ends:
            raise _Vanished("the sender closed the connection")

    def hurry(self, yes: bool) -> None:
        self._video.stream.codec_context.skip_frame = "NONKEY" if yes else "DEFAULT"

    def changes(self) -> list[str]:
        return self._video.changes()

    def close(self) -> None:
        self._video.container.close()


def _elsewhere(call: Callable[[], InputContainer]) -> InputContainer:
    """The result of `call`, from another thread: so that Ctrl-C is heard in a call that waits for the network."""
    done: Future[InputContainer] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, name="rtpose-open", daemon=True).start()
    return done.result()


def _url(url: str, deinterlace: str) -> InfoSource:
    name = mask_credentials(url)
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise InputError(f"{name}: an address begins with one of {', '.join(sorted(SCHEMES))}, not with {scheme}://")
    container = _elsewhere(lambda: _open_stream(url, name))
    if container.duration is not None and scheme in ("http", "https", "ftp", "sftp"):
        # A server that knows how long it is has a file; one that does not, a live stream.
        return FileSource(container, name, deinterlace=deinterlace)
    waiting = [container]

    def connect() -> _Stream:
        opened = waiting.pop() if waiting else _open_stream(url, name)
        return _Stream(url, name, opened, deinterlace)

    return LiveSource(name, connect)


class _Camera:
    """A device that OpenCV reads: no time stamps of its own, so the clock is ours, from `opened` (monotonic ns) on."""

    def __init__(self, name: str, capture: cv2.VideoCapture, opened: int) -> None:
        self._capture, self._opened = capture, opened
        ok, image = capture.read()
        if not ok:
            capture.release()
            raise InputError(f"{name} opens but gives no picture: is another program using it?")
        rate = plausible_rate(Fraction(capture.get(cv2.CAP_PROP_FPS)).limit_denominator(1001))
        self.info = SourceInfo(
            name=name,
            width=image.shape[1],
            height=image.shape[0],
            rate=rate or Fraction(30),
            time_base=Fraction(1, 1_000_000),
            live=True,
        )

    def pictures(self) -> Iterator[tuple[float | None, U8, int]]:
        while True:
            try:
                arrival, image = self._read()
            except cv2.error as error:
                raise _Vanished(_reason(error)) from error
            if image is not None:
                yield (arrival - self._opened) * 1e-9, image, arrival

    def _read(self) -> tuple[int, U8 | None]:
        """The next picture, None if it is broken, and when it came."""
        if not self._capture.grab():
            raise _Vanished("it gives no more pictures")
        arrival = time.monotonic_ns()
        ok, image = self._capture.retrieve()
        return arrival, cast(U8, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)) if ok else None

    def hurry(self, yes: bool) -> None:
        """A device keeps no more than a few pictures."""

    def changes(self) -> list[str]:
        return []

    def close(self) -> None:
        self._capture.release()


def _capture(name: str, open_device: Callable[[], cv2.VideoCapture], failure: str) -> LiveSource:
    opened = time.monotonic_ns()

    def connect() -> _Camera:
        capture = open_device()
        if not capture.isOpened():
            raise InputError(failure)
        return _Camera(name, capture, opened)

    return LiveSource(name, connect)


def _camera(number: int) -> LiveSource:
    if number < 0:
        raise InputError(f"no camera {number}: cameras are counted from 0")
    devices = sorted(glob.glob("/dev/video*"), key=lambda p: natural_order(Path(p)))
    failure = f"no camera {number} (devices: {', '.join(devices) or 'none'})"
    linux = sys.platform == "linux"
    if linux and f"/dev/video{number}" not in devices:
        raise InputError(failure)
    return _capture(f"camera {number}", lambda: cv2.VideoCapture(number, cv2.CAP_V4L2 if linux else cv2.CAP_ANY), failure)


def _gstreamer(pipeline: str) -> LiveSource:
    name = mask_credentials(pipeline)
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise InputError("this OpenCV was built without GStreamer: use one that has it (apt install python3-opencv), or a URL")
    return _capture(name, lambda: cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER), f"GStreamer cannot run {name}")


class Paced:
    """Another source at the pace of its own clock, as if it were being recorded now: what `--live` makes of a file."""

    status = ""

    def __init__(self, source: InfoSource) -> None:
        self._source = source
        self.name, self.info, self.notes = source.name, source.info, source.notes
        self._closed = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """The frames, each when its time has come."""
        begin: float | None = None
        for frame in self._source.frames():
            if begin is None:
                begin = time.monotonic() - frame.time
            if self._closed.wait(max(0.0, begin + frame.time - time.monotonic())):
                break
            yield replace(frame, arrival=time.monotonic_ns())

    def close(self) -> None:
        self._closed.set()
        self._source.close()

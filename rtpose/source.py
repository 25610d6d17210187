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
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from .errors import EndedEarly, InputError
from .pipeline import Channel, Closed, Source
from .types import U8, Frame

PICTURES = frozenset(
    (
        ".bmp",
        ".dib",
        ".hdr",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    )
)
"""File endings that are read as pictures."""

OPEN_SECONDS = 10.0
"""A stream or camera that has not shown a picture after this time is unreachable."""

READ_SECONDS = 5.0
"""A stream that brings nothing for this time has vanished."""

LATE_SECONDS = 1.0
"""A stream that is decoded this late is too much for the machine: only its key frames are decoded until it is in time again."""

GAP_SECONDS = 60.0
"""From this length on a gap between the frames of a file is told of."""

JUMP_SECONDS = 24 * 3600.0
"""Where the times of a file leap ahead by more, its clock was set, as where files were put together: no such time passed."""

BACK_OFF = (0.25, 2.0)
"""Seconds between attempts to reopen: the first wait, and the cap on its doubling."""


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source before its frames are read.

    name: for people to read, without passwords, users and query strings. width, height: of the frames, px, as shown. rate:
    nominal frames a second. time_base: seconds that the source counts in. frames: how many are expected, None where nobody
    can know. live: a camera or stream that does not wait. pictures: `Frame.file` is set. path: the file, None where there is
    none, or many. folder: where the pictures are, None if in several. has_audio: `path` has sound. pixel_aspect: width of a
    pixel over its height, as shown. part: only some of `path` is read. focal: px, where the metadata tells; of the first of
    several pictures.
    """

    name: str
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    frames: int | None = None
    live: bool = False
    pictures: bool = False
    path: Path | None = None
    folder: Path | None = None
    has_audio: bool = False
    pixel_aspect: Fraction = Fraction(1)
    part: bool = False
    focal: float | None = None


class InfoSource(Source, Protocol):
    """A source that can say what it is.

    notes: one-line messages for the user, complete when `frames` has ended. status: what it is doing about a fault just now
    ("reopening"), empty while all is well.
    """

    info: SourceInfo
    notes: list[str]
    status: str


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
    spec: str | int | Path, *, sequence: bool = False, rate: float = 30.0, start: float = 0.0, end: float | None = None
) -> InfoSource:
    """Open a camera (number, /dev/videoN), a GStreamer pipeline (with "!"), a URL, a video, a picture, a folder or glob of them.

    sequence: the pictures follow each other `rate` times a second, else each stands for itself (times 0, 1, 2 ...). start, end:
    seconds from the first frame of a video file, of which only that part is read; frames keep their numbers and times.
    Raises InputError where nothing can be read, within `OPEN_SECONDS` or a little more for streams.
    """
    text = str(spec).strip()
    if not text:
        raise InputError("the source is empty: give a file, a folder, a URL or a camera's number")
    path = Path(text)
    there = os.path.exists(path)  # False also for what can be no file's name, as that of a long pipeline
    is_file = there and path.is_file() and not _is_picture(path)
    if (start > 0 or end is not None) and not is_file:
        raise InputError(f"--start and --end take a part of a video file, which {display_name(text)} is not")
    if isinstance(spec, int) or (text.isdecimal() and not there):
        return _camera(int(text))
    if device := re.fullmatch(r"/dev/video(\d+)", text):
        return _camera(int(device[1]))
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text):
        return _url(text)
    if there and path.is_dir():
        return PictureSource(text, [p for p in path.iterdir() if _is_picture(p)], sequence, rate)
    if there:
        return PictureSource(text, [path], sequence, rate) if _is_picture(path) else _file(path, start, end)
    if "!" in text:
        return _gstreamer(text)
    if glob.has_magic(text):
        return PictureSource(text, [p for p in files_like(text) if _is_picture(p)], sequence, rate)
    raise InputError(f"no such file or folder: {text}")


def files_like(pattern: str) -> list[Path]:
    """The files that a glob matches, in the natural order of their names. Raises InputError where there is none."""
    found = sorted(map(Path, glob.glob(pattern, recursive=True)), key=_natural)
    if not found:
        raise InputError(f"no file matches {pattern}")
    return found


def display_name(spec: str) -> str:
    """The source's name without user, password, query and fragment of URLs, and secret properties of GStreamer elements."""
    # Everything up to the last @, since passwords hold @ and / that nobody escaped.
    spec = re.sub(r"://[^\s!\"']*@", "://", spec)
    spec = re.sub(r"(://[^\s!\"'?#]*)[?#][^\s!\"']*", r"\1", spec)
    return re.sub(r"(?i)\b([\w-]*(?:user|pass|pw|token|secret|key)[\w-]*)=(\"[^\"]*\"|\S+)", r"\1=...", spec)


class _Clock:
    """Strictly increasing times: the container's, or an interval after the last if those are missing or do not increase."""

    def __init__(self, time_base: Fraction, rate: Fraction) -> None:
        self.time_base = time_base
        self.step = max(1, round(1 / (rate * time_base)))
        self.first: int | None = None
        self.last: int | None = None
        self.mended = 0

    def __call__(self, pts: int | None) -> float:
        if pts is None or (self.last is not None and pts <= self.last):
            pts = 0 if self.last is None else self.last + self.step
            self.mended += 1
        self.first = pts if self.first is None else self.first
        self.last = pts
        return self.seconds(pts)

    def seconds(self, ticks: int) -> float:
        return ticks * self.time_base.numerator / self.time_base.denominator


class _Picture(NamedTuple):
    """A decoded picture: its time stamp, the upright RGB pixels, and `time.monotonic_ns()` at which its packet came."""

    pts: int | None
    image: U8
    arrival: int


class _Video:
    """The first real video stream of an open container, as upright RGB pictures, all of the size of the first."""

    def __init__(self, container: InputContainer, name: str, *, live: bool) -> None:
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
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
        self.rate = self.stream.guessed_rate or self.stream.average_rate or Fraction(25)
        self.time_base = self.stream.time_base or Fraction(1, 90000)
        self.stream_seconds = None if self.stream.duration is None else self.stream.duration * self.time_base
        self.sound_end = Fraction(0)
        # The sound tells how far a file reaches that says only how long the longest stream is.
        self._read = (self.stream,) if live or self.stream_seconds is not None else (self.stream, *container.streams.audio)
        self._reformatter = VideoReformatter()
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
            focal=_focal_of_video(self.container, self.stream, width, height),
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
        return [f"{what}: {n}" for what, n in counted.items() if n]

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

    def _packets(self) -> Iterator[Packet[Any]]:
        """The coded pictures, and an empty packet at the end.

        A packet that is cut off by the end of the file is left out: with it the frame threads would lose the whole pictures before.
        """
        cut: Packet[Any] | None = None
        for packet in self.container.demux(*self._read):
            if packet.stream is not self.stream:
                if packet.pts is not None:
                    self.sound_end = max(self.sound_end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                continue
            packet.opaque = time.monotonic_ns()
            if cut is not None and packet.size:  # it was only damaged
                yield cut
            cut = packet if packet.is_corrupt and not self._live else None
            if cut is None:
                yield packet

    def _decode(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
            try:
                yield from self.stream.decode(packet)
            except av.error.InvalidDataError:
                self.undecodable += 1

    def convert(self, frame: VideoFrame) -> U8:
        """The upright RGB picture."""
        self.damaged += frame.is_corrupt
        width, height = self._size
        self.resized += (frame.width, frame.height) != self._size
        rgb = self._reformatter.reformat(frame, width, height, "rgb24")
        return self._upright(cast(U8, rgb.to_ndarray()))


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


def sound_of(container: InputContainer) -> AudioStream | None:
    """The first stream of sound that can be decoded."""
    return next((s for s in container.streams.audio if s.codec_context is not None), None)


def _focal_of_video(container: InputContainer, stream: VideoStream, width: int, height: int) -> float | None:
    for tags in (stream.metadata, container.metadata):
        for key, value in tags.items():
            if key.endswith("camera.focal_length.35mm_equivalent"):
                try:
                    return _from_film(float(value), width, height)
                except ValueError:
                    return None
    return None


def _focal_of_picture(data: bytes, width: int, height: int) -> float | None:
    """From the EXIF part of a JPEG: the entry FocalLengthIn35mmFilm of the sub-directory that the first directory points to."""
    start = data.find(b"Exif\0\0", 0, 1 << 16) + 6
    order = {b"II": "<", b"MM": ">"}.get(data[start : start + 2])
    if start < 6 or order is None:
        return None
    tiff = data[start:]
    try:
        directory = int(struct.unpack_from(order + "I", tiff, 4)[0])
        for wanted in (0x8769, 0xA405):
            (count,) = struct.unpack_from(order + "H", tiff, directory)
            entries = [directory + 2 + 12 * i for i in range(count)]
            entry = next((e for e in entries if struct.unpack_from(order + "H", tiff, e)[0] == wanted), None)
            if entry is None:
                return None
            (kind,) = struct.unpack_from(order + "H", tiff, entry + 2)
            directory = int(struct.unpack_from(order + ("H" if kind == 3 else "I"), tiff, entry + 8)[0])
    except struct.error:
        return None
    return _from_film(directory, width, height)


def _from_film(millimetres: float, width: int, height: int) -> float | None:
    """px, from the focal length that gives the same view on 35 mm film, whose diagonal is 43.27 mm; cameras write 0 for unknown."""
    return millimetres / 43.27 * math.hypot(width, height) if millimetres > 0 else None


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
        self, container: InputContainer, name: str, path: Path | None = None, *, start: float = 0.0, end: float | None = None
    ) -> None:
        self.name = name
        self._video = _open_video(container, name, live=False)
        self.info = self._video.info(name, live=False, path=path)
        self.notes: list[str] = []
        self._seconds, self._expected = self._video.seconds(), self._video.expected()
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
        try:
            for decoded, arrival in video.decoded():
                if self._closed:
                    break
                now = clock(_stamp(decoded))
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
        except av.FFmpegError as error:
            fault = _reason(error)
        finally:
            video.container.close()
            self.notes += video.notes()
            self._tell_gaps()
            if clock.mended:
                self.notes.append(f"time stamps mended because they were missing or did not increase: {clock.mended}")
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
        """Frames are missing, and at the end: the count alone is also wrong where an edit list hides some."""
        if self._seconds is None or clock.first is None or clock.last is None or frames >= (self._expected or 0):
            return False
        video, rate = self._video, self._video.rate
        if clock.mended:  # such files miscount by one
            return frames / rate < self._seconds - Fraction(3, 2) / rate
        # A stream's own length counts from its first frame, a file's from zero.
        begin = 0 if video.stream_seconds is None else clock.first
        end = (clock.last - begin + max(clock.step, video.last_duration)) * clock.time_base
        return max(end, video.sound_end) < self._seconds - Fraction(1, 2) / rate

    def close(self) -> None:
        self._closed = True


def _file(path: Path, start: float = 0.0, end: float | None = None) -> FileSource:
    return FileSource(_open_container(f"file:{path}", str(path)), str(path), path, start=start, end=end)


def _open_container(url: str, name: str, stream_options: dict[str, str] | None = None) -> InputContainer:
    """Open a file or, with options, a stream, whose openings and reads are limited in time."""
    begin = time.monotonic()
    try:
        return av.open(url, options=stream_options or {}, timeout=(OPEN_SECONDS, READ_SECONDS) if stream_options else None)
    except av.FFmpegError as error:
        # An opening that ran out of time says so, or calls the nothing that it got invalid.
        if stream_options and time.monotonic() - begin > 0.9 * OPEN_SECONDS:
            raise InputError(f"nothing arrived from {name} within {OPEN_SECONDS:.0f} s") from None
        if not isinstance(error, av.error.InvalidDataError):
            raise InputError(f"cannot open {name}: {_reason(error)}") from None
        raise InputError(f"{name} is not a video, or its beginning or index is damaged") from None


def _open_video(container: InputContainer, name: str, *, live: bool) -> _Video:
    try:
        return _Video(container, name, live=live)
    except av.FFmpegError as error:
        container.close()
        raise InputError(f"{name}: no picture came: {_reason(error)}") from None
    except InputError:
        container.close()
        raise


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and path.is_file()


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key by which picture 10 comes after picture 9."""
    return [(int(part), "") if part.isdecimal() else (0, part.lower()) for part in re.split(r"(\d+)", str(path))]


def read_picture(path: Path) -> U8:
    """The picture as shown, (h, w, 3) RGB: turned as its EXIF says, grey and CMYK made RGB, alpha dropped, 16 bits cut to 8."""
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except cv2.error:
        image = None
    if image is None:
        raise InputError(f"{path} is not a picture that can be read, or it is damaged")
    return cast(U8, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


class PictureSource:
    """Pictures, in the natural order of their names."""

    status = ""

    def __init__(self, spec: str, paths: list[Path], sequence: bool, rate: float) -> None:
        if not paths:
            raise InputError(f"{spec} holds no pictures (looked for {' '.join(sorted(PICTURES))})")
        self.name = spec
        self._paths = sorted(paths, key=_natural)
        self._sequence = sequence
        self._closed = False
        self.notes: list[str] = []
        self._unreadable: list[str] = []
        pictures = self._read()
        first = next(pictures, None)
        if first is None:
            only = f"{paths[0]} is not a picture that can be read, or it is damaged"
            raise InputError(only if len(paths) == 1 else f"{spec}: not one of its {len(paths)} pictures can be read")
        self._pictures = pictures
        self._first: tuple[Path, U8, int] | None = first
        folders = {p.absolute().parent for p in paths}
        beat = Fraction(rate).limit_denominator(1001) if sequence else Fraction(1)
        self.info = SourceInfo(
            name=spec,
            width=first[1].shape[1],
            height=first[1].shape[0],
            rate=beat,
            time_base=1 / beat,
            frames=len(paths),
            pictures=True,
            path=paths[0] if len(paths) == 1 else None,
            folder=folders.pop() if len(folders) == 1 else None,
            focal=_focal_of_picture(first[0].read_bytes(), first[1].shape[1], first[1].shape[0]),
        )

    def _read(self) -> Iterator[tuple[Path, U8, int]]:
        for path in self._paths:
            arrival = time.monotonic_ns()
            try:
                image = read_picture(path)
            except InputError as error:
                self._unreadable.append(path.name)
                self.notes.append(str(error))
                continue
            yield path, image, arrival

    def frames(self) -> Iterator[Frame]:
        """All pictures that can be read. Raises `EndedEarly` at the end if some could not."""
        index = 0
        begin = time.monotonic_ns()
        while self._first is not None and not self._closed:
            path, image, arrival = self._first
            seconds = float(index * self.info.time_base)
            yield Frame(index, seconds, image, max(begin, arrival), file=path.name, independent=not self._sequence)
            index += 1
            self._first = next(self._pictures, None)
        if self._unreadable and not self._closed:
            some = ", ".join(self._unreadable[:5]) + (" ..." if len(self._unreadable) > 5 else "")
            raise EndedEarly(f"{len(self._unreadable)} of {len(self._paths)} pictures could not be read: {some}")

    def close(self) -> None:
        self._closed = True


class _LiveClock:
    """Strictly increasing seconds of a live source: its own, carried on by the real time that passed where those jump.

    A sender that restarts counts from zero again, with or without a broken connection. A time is believed if it does not go
    back and is not ahead of the real time by more than `SLACK`; right after a reconnect it must not be behind either.
    """

    SLACK = 1.0

    def __init__(self) -> None:
        self._offset = 0.0
        self._last: float | None = None
        self._lag = 0.0
        self.restarted = False
        self.late = 0.0
        """Seconds by which the last frame came later than the promptest one: what waits to be read and decoded."""

    def __call__(self, seconds: float | None, arrival: int, interval: float) -> float:
        """seconds: the source's, None if missing. arrival: monotonic ns. interval: between frames, seconds."""
        real = arrival * 1e-9
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
                now = self._last + interval
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
        self._vanished = self._hurried = 0
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
        if self._vanished:
            self.notes.append(f"{self.name} vanished and was reopened, times: {self._vanished}")
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
        interval = float(1 / connection.info.rate)
        in_time = time.monotonic_ns()
        size = (self.info.width, self.info.height)
        try:
            for seconds, image, arrival in connection.pictures():
                if image.shape[1::-1] != size:  # it came back with another one
                    image = cast(U8, cv2.resize(image, size, interpolation=cv2.INTER_AREA))
                frame = Frame(next(index), clock(seconds, arrival, interval), image, arrival)
                # If the frame before still waits, it is not the decoder that is slow, but who wants every frame.
                if clock.late < LATE_SECONDS / 4 or len(self._frames):
                    in_time = arrival
                # For a while: a network that stalls makes frames late too, but those pass quickly.
                late = clock.late > LATE_SECONDS and arrival - in_time > LATE_SECONDS * 1e9
                if (self._hurrying and in_time == arrival) or (late and not self._hurrying):
                    self._hurry(connection)
                if self._wanted:
                    self._frames.put(frame)
                if self._closed.is_set():
                    return False
        except _Vanished as error:
            self.status = f"{self.name} vanished ({error})"
            return True
        finally:
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
        self._vanished += 1
        self._hurrying = False
        wait, longest = BACK_OFF
        while not self._closed.wait(wait):
            try:
                connection = self._connect()
            except InputError as error:
                self.status = f"{error}, trying again"
                wait = min(2 * wait, longest)
            else:
                self.status = ""
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


class _Stream:
    def __init__(self, url: str, name: str, container: InputContainer) -> None:
        self._ends = urlsplit(url).scheme.lower() in ("http", "https")
        self._video = _open_video(container, name, live=True)
        self.info = self._video.info(name, live=True)

    def pictures(self) -> Iterator[tuple[float | None, U8, int]]:
        base = self._video.time_base
        try:
            for pts, image, arrival in self._video.pictures():
                yield (None if pts is None else float(pts * base)), image, arrival
        except av.FFmpegError as error:
            raise _Vanished(_reason(error)) from None
        if not self._ends:
            raise _Vanished("the sender closed the connection")

    def hurry(self, yes: bool) -> None:
        self._video.stream.codec_context.skip_frame = "NONKEY" if yes else "DEFAULT"

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


def _url(url: str) -> InfoSource:
    name = display_name(url)
    container = _elsewhere(lambda: _open_container(url, name, STREAM_OPTIONS))
    if container.duration is not None and urlsplit(url).scheme.lower() in ("http", "https", "ftp", "sftp", "file"):
        # A server that knows how long it is has a file; one that does not, a live stream.
        return FileSource(container, name)
    waiting = [container]

    def connect() -> _Stream:
        return _Stream(url, name, waiting.pop() if waiting else _open_container(url, name, STREAM_OPTIONS))

    return LiveSource(name, connect)


class _Camera:
    """A device that OpenCV reads: no time stamps of its own, so the clock is ours, from `opened` (monotonic ns) on."""

    def __init__(self, name: str, capture: cv2.VideoCapture, opened: int) -> None:
        self._capture, self._opened = capture, opened
        ok, image = capture.read()
        if not ok:
            capture.release()
            raise InputError(f"{name} opens but gives no picture: is another program using it?")
        rate = Fraction(capture.get(cv2.CAP_PROP_FPS) or 30).limit_denominator(1001)
        self.info = SourceInfo(
            name=name,
            width=image.shape[1],
            height=image.shape[0],
            rate=rate if rate > 0 else Fraction(30),
            time_base=Fraction(1, 1_000_000),
            live=True,
        )

    def pictures(self) -> Iterator[tuple[float | None, U8, int]]:
        while True:
            if not self._capture.grab():
                raise _Vanished("it gives no more pictures")
            arrival = time.monotonic_ns()
            ok, image = self._capture.retrieve()
            if ok:
                yield (arrival - self._opened) * 1e-9, cast(U8, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)), arrival

    def hurry(self, yes: bool) -> None:
        """A device keeps no more than a few pictures."""

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
    devices = sorted(glob.glob("/dev/video*"), key=lambda p: _natural(Path(p)))
    failure = f"no camera {number} (devices: {', '.join(devices) or 'none'})"
    linux = sys.platform == "linux"
    if linux and f"/dev/video{number}" not in devices:
        raise InputError(failure)
    return _capture(f"camera {number}", lambda: cv2.VideoCapture(number, cv2.CAP_V4L2 if linux else cv2.CAP_ANY), failure)


def _gstreamer(pipeline: str) -> LiveSource:
    name = display_name(pipeline)
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

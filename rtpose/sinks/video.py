"""Results drawn into a video that keeps the source's times and sound, or into pictures."""

from __future__ import annotations

import logging
import math
import mimetypes
import os
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream

from ..body.model import Lifted
from ..containers import file_options, open_input
from ..errors import InputError, RtposeError
from ..locks import IN_FOLDER
from ..pipeline import Sink
from ..render import draw
from ..settings import PARTS
from ..source import JUMP_SECONDS, SourceInfo, demuxed, pictures_of, sound_of
from ..types import Result
from . import check_folder, check_output, replacing
from .timeline import MOST_TICKS, Timeline, ticks_of

VIDEOS = (".mp4", ".mov", ".m4v", ".mkv")
WRITABLE_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

_COPIED_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
"""What common players understand in an mp4; everything else becomes AAC."""

_BT709 = 1

_log = logging.getLogger(__name__)

_ENCODER: Final = "libx264"
_ENCODER_OPTIONS = {"preset": "ultrafast", "crf": "22", "bf": "0"}


def open_overlay(
    target: str | Path, info: SourceInfo, *, overwrite: bool, lifted: Lifted | None = None, parts: Collection[str] = PARTS
) -> Sink:
    """The sink for `--out`: a video, or for pictures also a folder (or one picture for one). lifted: where there are bodies. parts:
    what is drawn.

    Raises InputError if it cannot be written; nothing is touched before the first frame.
    """
    path = Path(target)
    ending = path.suffix.lower()
    # A folder's name may have a dot in it: a / at its end says what is meant, and so does an ending that no kind of file has.
    folder = info.pictures and (os.path.isdir(path) or str(target).endswith("/") or mimetypes.guess_type(path.name)[0] is None)
    if ending in VIDEOS and not folder:
        return VideoSink(path, info, overwrite=overwrite, lifted=lifted, parts=parts)
    if folder or (info.pictures and info.frames == 1 and ending in WRITABLE_PICTURES):
        return PictureSink(path, info, overwrite=overwrite, lifted=lifted, parts=parts, single=not folder)
    if info.pictures:
        one = f"a name that ends in {', '.join(WRITABLE_PICTURES)}, " if info.frames == 1 else ""
        raise InputError(
            f"cannot write {path}: for pictures give {one}a folder (with / at the end if its name has a dot), or a video"
            f" ({', '.join(VIDEOS)})"
        )
    raise InputError(f"cannot write {path}: its name should end in {', '.join(VIDEOS)}")


class VideoSink:
    """H.264 with the time stamps and the sound of the source; it plays even if the program is killed while it writes.

    While it grows, an mp4 consists of a fragment for each frame; at the end it is turned into an ordinary one. The last two frames
    are still being coded; that is what a killed file lacks. Ticks are those of the source (mkv counts milliseconds). Live sources
    start at 0 instead and have no sound.
    """

    name = "out"
    latest = False
    main_thread = False

    def __init__(
        self,
        path: Path,
        info: SourceInfo,
        *,
        overwrite: bool = False,
        lifted: Lifted | None = None,
        parts: Collection[str] = PARTS,
    ) -> None:
        check_output(path, VIDEOS, overwrite=overwrite, source=info.path)
        _check_encoder(path, info)
        self._path, self._info, self._lifted, self._parts = path, info, lifted, parts
        self._out: OutputContainer | None = None
        self._whole = 0
        self._reformatter = VideoReformatter()
        self._failed = False

    def write(self, result: Result) -> None:
        image = draw(result, self._lifted, parts=self._parts)
        frame = result.frame
        try:
            if self._out is None:
                self._open(frame.width, frame.height, frame.time)
            elif (frame.width, frame.height) != self._size:
                raise InputError(
                    f"{self._path}: pictures of different sizes make no video ({frame.file} is {frame.width}x{frame.height}, "
                    f"the first was {self._size[0]}x{self._size[1]}): give a folder instead"
                )
            self._encode(image, frame.time)
        except av.FFmpegError as error:
            self._failed = True
            raise self._error(error) from None

    def close(self) -> None:
        out = self._out
        if out is None:
            return
        if self._failed:
            # It fails again for the reason that was told already; what was whole before stays.
            with suppress(av.FFmpegError):
                out.close()
            with suppress(OSError):
                os.truncate(self._path, self._whole)
            return
        try:
            with out:
                out.mux(self._video.encode(None))
                self._sound.finish(self._time, float(1 / self._info.rate))
                self._sound.close()
        except av.FFmpegError as error:
            raise self._error(error) from None
        if not self._path.exists():
            raise RtposeError(f"{self._path} was removed, or its folder, while it was written: nothing of it is left")

    def _error(self, error: av.FFmpegError) -> RtposeError:
        return RtposeError(f"cannot write {self._path}: {error.strerror}; what was written before is kept")

    def _open(self, width: int, height: int, start: float) -> None:
        info = self._info
        self._size = (width, height)
        self._base = ticks_of(info.time_base)
        options = {}
        if self._path.suffix.lower() != ".mkv":
            # delay_moov: the moov waits for the first fragment, else the start offset would be lost from a killed file.
            options["movflags"] = "+hybrid_fragmented+delay_moov"
            # A fragment (at least) a millisecond: one for each frame. The flag frag_every_frame displaces the sound.
            options["frag_duration"] = "1000"
            # Edit lists count in this; the default of milliseconds moves the first frame.
            scale = self._base.denominator
            while scale < 10000:
                scale *= 2
            options["movie_timescale"] = str(scale)
        else:
            # Matroska's fragments, in milliseconds.
            options["cluster_time_limit"] = "1"
        # Every packet reaches the system, so that a killed file ends at the border of a fragment.
        options["flush_packets"] = "1"
        try:
            # As a file: FFmpeg takes what stands before a colon for a protocol.
            self._out = av.open(f"file:{self._path}", "w", options=options)
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror}") from None
        video = self._out.add_stream(_ENCODER, rate=info.rate, options=_ENCODER_OPTIONS)
        video.width, video.height, video.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        # A fixed number of threads: another number gives other bytes.
        video.thread_count = 2
        video.gop_size = 10_000
        video.time_base = video.codec_context.time_base = self._base
        video.codec_context.sample_aspect_ratio = info.pixel_aspect
        context = video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        self._video: VideoStream = video
        self._sound = _Sound(self._out, info, start if info.part else -math.inf)
        self._out.start_encoding()
        # The container may count more finely than it was told.
        self._timeline = Timeline(
            self._base,
            self._video.time_base or self._base,
            1 / info.rate,
            origin=start if info.live else 0.0,
            longest=self._sound.longest,
        )
        self._sound.timeline = self._timeline
        self._picture: VideoFrame | None = None
        self._next_key = start
        self._time = start

    def _encode(self, image: np.ndarray, time: float) -> None:
        assert self._out is not None
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        rgb = VideoFrame.from_numpy_buffer(image, "rgb24")
        picture = self._reformatter.reformat(rgb, format="yuv420p", dst_colorspace=Colorspace.ITU709)
        again, ticks = self._timeline.place(time)
        for tick in again:
            assert self._picture is not None
            self._write_picture(self._picture, tick)
        if skipped := self._timeline.skipped:
            _log.warning(
                "%s goes on after one frame where the file's clock leaps by %.0f s, to %.3f s", self._path, skipped, time
            )
        # Somebody who looks for a place in the video need not decode more than a second, by the clock of the source.
        key = time >= self._next_key
        picture.pict_type = PictureType.I if key else PictureType.NONE
        if key:
            self._next_key = time + 1.0
        self._write_picture(picture, ticks)
        self._picture = picture
        self._sound.advance(time)
        self._time = time
        self._whole = self._path.stat().st_size

    def _write_picture(self, picture: VideoFrame, ticks: int) -> None:
        assert self._out is not None
        picture.pts, picture.time_base = ticks, self._base
        self._out.mux(self._video.encode(picture))
        picture.pict_type = PictureType.NONE


def _check_encoder(path: Path, info: SourceInfo) -> None:
    """Raise InputError where pictures of this size cannot be encoded (H.264 ends at 16384 px), or there is no encoder."""
    try:
        encoder = av.CodecContext.create(_ENCODER, "w")
    except (av.FFmpegError, ValueError):
        raise InputError(f"cannot write {path}: this build of PyAV has no encoder {_ENCODER}") from None
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height = info.width + info.width % 2, info.height + info.height % 2
    encoder.pix_fmt, encoder.time_base, encoder.options = "yuv420p", info.time_base, dict(_ENCODER_OPTIONS)
    encoder.thread_count = 1
    try:
        encoder.open()
    except av.FFmpegError:
        what = f"{info.width}x{info.height} px"
        instead = "give a folder for pictures" if info.pictures else "leave out --out, or make the video smaller first"
        raise InputError(f"cannot write {path}: no H.264 video holds pictures of {what}: {instead}") from None


class _Sound:
    """Carries the source's sound over from `start` seconds on, in step with the video: packets as they are where the file may hold
    them, else as AAC."""

    def __init__(self, out: OutputContainer, info: SourceInfo, start: float) -> None:
        self._out = out
        self._from = start
        self._in: InputContainer | None = None
        self._packets: Iterator[Packet[Any]] = iter(())
        self._waiting: deque[Packet[AudioStream]] = deque()
        self._last_picture = -math.inf
        """Seconds of the latest picture among the packets that were read."""
        self.timeline: Timeline | None = None
        self.longest = JUMP_SECONDS
        """Seconds of a gap that the file may hold."""
        self._leapt = False
        self._damaged = 0
        if not info.has_audio or info.path is None:
            return
        self._in = open_input(f"file:{info.path}", options=file_options())
        source = sound_of(self._in)
        assert source is not None
        matroska = out.format.name == "matroska"
        self._copy = source.codec_context.codec.canonical_name in (out.supported_codecs if matroska else _COPIED_AUDIO)
        # Matroska would move everything for the sake of a packet before zero, which an mp4 hides by an edit list.
        self._from_zero = matroska
        self._filter: BitStreamFilterContext | None = None
        self._end = -(1 << 62)
        if self._copy:
            self._stream: AudioStream = out.add_stream_from_template(source)
            if source.codec_context.codec.canonical_name == "aac" and not source.codec_context.extradata:
                # As broadcast: each packet has its own header, which neither mp4 nor Matroska takes.
                self._filter = BitStreamFilterContext("aac_adtstoasc", source)
        else:
            self._stream = out.add_stream("aac", rate=source.codec_context.rate, layout=source.codec_context.layout)
        if not matroska:
            self.longest = min(JUMP_SECONDS, MOST_TICKS / (source.codec_context.rate or 48000))
        self._source = source
        self._packets = demuxed(self._in, source, *pictures_of(self._in)[:1])

    def finish(self, last: float, interval: float) -> None:
        """Write what belongs to a video whose last picture, at `last` seconds, is shown for `interval` seconds: all the rest where the
        source has no later picture."""
        until = last + interval
        while self._last_picture < last + interval / 2 and (packet := self._next()) is not None:
            self._waiting.append(packet)
        self.advance(until if self._last_picture >= last + interval / 2 else None)

    def advance(self, until: float | None) -> None:
        """Write what begins before `until` seconds; None: all that is left. What is damaged is left out: sound stops no pictures."""
        while True:
            packet = self._waiting.popleft() if self._waiting else self._next()
            if packet is None:
                return
            if until is not None and packet.pts is not None and float(packet.pts * packet.time_base) >= until:
                self._waiting.appendleft(packet)
                return
            if packet.pts is not None and float(packet.pts * packet.time_base) < self._from:
                continue
            if self.timeline is not None and packet.pts is not None and packet.time_base is not None:
                out = round(self.timeline.left_out(float(packet.pts * packet.time_base)) / packet.time_base)
                packet.pts, packet.dts = packet.pts - out, None if packet.dts is None else packet.dts - out
            try:
                if self._copy:
                    self._pass_on(packet)
                else:
                    self._code(packet)
            except Exception as error:
                self._leave_out(error)

    def _leave_out(self, error: Exception) -> None:
        """Count a packet that cannot be written. Raises the error again where it is of the disk."""
        if isinstance(error, OSError):
            raise error
        if not self._damaged:
            _log.warning("%s: sound that is damaged is left out: %s", self._out.name.removeprefix("file:"), error)
        self._damaged += 1

    def _next(self) -> Packet[AudioStream] | None:
        """None at the end, which is also where a file breaks off: of that the source itself tells."""
        try:
            while (packet := next(self._packets, None)) is not None and packet.stream is not self._source:
                stamp = packet.dts if packet.pts is None else packet.pts
                if stamp is not None and packet.time_base is not None:
                    self._last_picture = max(self._last_picture, float(stamp * packet.time_base))
        except av.FFmpegError:
            return None
        return packet

    def close(self) -> None:
        if self._in is None:
            return
        if not self._copy:
            try:
                self._out.mux(self._stream.encode(None))
            except Exception as error:
                self._leave_out(error)
        self._in.close()
        self._in = None

    def _leaps(self, gap: Fraction) -> bool:
        """Whether so many seconds after the sound before are more than the file may hold: the pictures did not leap as well."""
        if self._end < 0 or gap <= self.longest:
            return False
        if not self._leapt:
            _log.warning("%s: its sound ends early: a gap of %.0f s in it is more than the file may hold", self._out.name, gap)
        self._leapt = True
        return True

    def _pass_on(self, packet: Packet[AudioStream]) -> None:
        # What does not come after the packet before, as in damaged files, no container takes.
        if packet.dts is None or packet.dts <= self._end or (self._from_zero and packet.dts < 0):
            return
        if self._leaps((packet.dts - self._end) * packet.time_base):
            return
        self._end = packet.dts
        for ready in self._filter.filter(packet) if self._filter else [packet]:
            ready.stream = self._stream
            self._out.mux(ready)

    def _code(self, packet: Packet[AudioStream]) -> None:
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:  # damaged: a gap
            return
        for frame in frames:
            # Coarse containers give times that overlap by some samples, which the encoder refuses: only gaps are real.
            base = Fraction(1, frame.sample_rate)
            begin = self._end if frame.pts is None else round(frame.pts * (frame.time_base or base) / base)
            if self._leaps((begin - self._end) * base):
                continue
            frame.pts, frame.time_base = (begin if begin > self._end + frame.sample_rate // 20 else max(0, self._end)), base
            self._end = frame.pts + frame.samples
            self._out.mux(self._stream.encode(frame))


_PICTURE_SIDES = {".webp": 16383, ".jpg": 65500, ".jpeg": 65500}
"""px of the longest side that these kinds of pictures have room for, as their encoders say."""


class PictureSink:
    """Annotated pictures under the names of the source's: in a folder, which is made if need be, or one file."""

    name = "out"
    latest = False
    main_thread = False

    def __init__(
        self,
        path: Path,
        info: SourceInfo,
        *,
        overwrite: bool = False,
        lifted: Lifted | None = None,
        parts: Collection[str] = PARTS,
        single: bool = False,
    ) -> None:
        self._path, self._lifted, self._parts, self._single = path, lifted, parts, single
        self._written: set[str] = set()
        self._begun = False
        if self._single:
            check_output(path, WRITABLE_PICTURES, overwrite=overwrite, source=info.path)
            most = _PICTURE_SIDES.get(path.suffix.lower())
            if most is not None and max(info.width, info.height) > most:
                raise InputError(
                    f"cannot write {path}: no {path.suffix} holds {info.width}x{info.height} px; give a name that ends in .png"
                )
            return
        if path.is_dir():
            check_folder(path)
            if any(file.name != IN_FOLDER for file in path.iterdir()) and not overwrite:
                raise InputError(f"{path} is a folder with files in it: choose another, or say --overwrite")
            if info.folder is not None and path.samefile(info.folder):
                raise InputError(f"{path} is the source itself: choose another output")
        elif path.exists():
            raise InputError(f"cannot write into {path}: it is not a folder")
        else:
            check_folder(path.absolute().parent)

    def write(self, result: Result) -> None:
        target = self._path if self._single else self._path / self._name(result.frame.file or f"{result.frame.index}.png")
        image = cv2.cvtColor(draw(result, self._lifted, parts=self._parts), cv2.COLOR_RGB2BGR)
        try:
            data = cv2.imencode(target.suffix, image)[1]
        except cv2.error:
            size = f"{image.shape[1]}x{image.shape[0]}"
            raise RtposeError(
                f"cannot write {target}: no {target.suffix} holds {size} px; give a name that ends in .png"
            ) from None
        try:
            if not (self._single or self._begun):
                self._path.mkdir(exist_ok=True)
            self._begun = True  # a folder that vanishes takes pictures with it, and is not made again
            with replacing(target) as file:
                file.write(data.tobytes())
        except OSError as error:
            raise RtposeError(f"cannot write {target}: {error.strerror or error}") from None

    def close(self) -> None:
        """Every picture was written whole."""

    def _name(self, name: str) -> str:
        """The picture's own name, as .png if its kind cannot be written, numbered where it came before (from another folder)."""
        path = Path(name) if Path(name).suffix.lower() in WRITABLE_PICTURES else Path(name).with_suffix(".png")
        number, free = 1, path.name
        while free in self._written:
            number += 1
            free = f"{path.stem}-{number}{path.suffix}"
        self._written.add(free)
        return free

"""Pictures as sources: single ones, folders and globs of them, and animated ones (WebP, PNG, AVIF) as sequences with their own times."""

from __future__ import annotations

import io
import math
import re
import struct
import time
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from pi_heif import HeifImageFile
from PIL import ExifTags, Image, ImageOps

from .errors import EndedEarly, InputError
from .source_info import SourceInfo
from .types import U8, Frame

PICTURES = frozenset(
    (
        ".apng",
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".hdr",
        ".heic",
        ".heif",
        ".hif",
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

UNSHOWN_SECONDS = 0.01
DEFAULT_SECONDS = 0.1
"""Browsers show a frame of an animation that asks for at most `UNSHOWN_SECONDS` for `DEFAULT_SECONDS`, and so files are made."""

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error, Image.DecompressionBombError)
"""What Pillow and libheif raise for damaged files."""


def is_picture(path: Path) -> bool:
    """Whether there is a file whose name says that it is a picture."""
    return path.suffix.lower() in PICTURES and path.is_file()


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort key by which picture 10 comes after picture 9."""
    return [(int(part), "") if part.isdecimal() else (0, part.lower()) for part in re.split(r"(\d+)", str(path))]


def some_names(paths: Sequence[Path]) -> str:
    """The names of the first five, for a message."""
    return ", ".join(path.name for path in paths[:5]) + (" ..." if len(paths) > 5 else "")


def focal_from_film(millimetres: float, width: float, height: float) -> float | None:
    """px, from the focal length that gives the same view on 35 mm film, whose diagonal is 43.27 mm; cameras write 0 for unknown."""
    return millimetres / 43.27 * math.hypot(width, height) if 0 < millimetres < math.inf else None


def focal_of_picture(path: Path, width: int, height: int) -> float | None:
    """px, from the EXIF entry FocalLengthIn35mmFilm; None where there is none. width, height: as shown, px."""
    try:
        with _opened(path.read_bytes()) as image:
            millimetres = float(image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLengthIn35mmFilm, 0))
    except (*_UNREADABLE, TypeError):
        return None
    return focal_from_film(millimetres, width, height)


def read_picture(path: Path) -> U8:
    """The picture as shown, (h, w, 3) RGB: turned as it says, grey and CMYK made RGB, alpha dropped, 16 bits cut to 8.

    Of an animated picture the first frame. Raises InputError for what is no picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    _check_pixels(path, data)
    # The content decides and not the name: telephones share HEIC files as .jpg.
    if data[4:8] == b"ftyp" or data[:4] == b"GIF8":
        try:
            with _opened(data) as image:
                return _shown(image)
        except _UNREADABLE:
            pass
    elif data:
        try:
            bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            bgr = None
        if bgr is not None:
            return cast(U8, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    raise InputError(f"{path} is not a picture that can be read, or it is damaged")


MAX_PIXELS = 200_000_000
"""Of one picture: decoded it takes three bytes a pixel, and its conversions as much again."""


def _check_pixels(path: Path, data: bytes) -> None:
    """Raise InputError where the header says that the picture has more than `MAX_PIXELS`."""
    try:
        with _opened(data) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise InputError(f"{path} has more than {MAX_PIXELS // 1_000_000} megapixels: make it smaller") from None
    except _UNREADABLE:
        return  # what Pillow does not know is left to OpenCV, which has a limit of its own
    if width * height > MAX_PIXELS:
        raise InputError(f"{path} is {width}x{height}, more than {MAX_PIXELS // 1_000_000} megapixels: make it smaller")


def _opened(data: bytes) -> Image.Image:
    """The picture by Pillow, not decoded yet."""
    file = io.BytesIO(data)
    if data[4:8] == b"ftyp" and not {b"avif", b"avis"} & set(_brands(data)):
        return cast(Image.Image, HeifImageFile(file))
    with warnings.catch_warnings():
        # A large photograph is no attack; what is larger still raises an error.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(file)


def _brands(data: bytes) -> Iterator[bytes]:
    """The kinds of file that an ISO base media file says it is."""
    (size,) = struct.unpack_from(">I", data)
    yield data[8:12]
    for at in range(16, min(size, len(data)), 4):
        yield data[at : at + 4]


def _shown(image: Image.Image) -> U8:
    """The decoded frame, upright, (h, w, 3) RGB.

    Both libraries give a HEIC or AVIF file's own rotation once: libheif turns the pixels and sets the EXIF orientation to 1, Pillow
    writes the rotation of an AVIF file over its EXIF orientation and leaves the pixels.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        grey = (np.asarray(upright).astype(np.uint16) >> 8).astype(np.uint8)
        return cast(U8, np.repeat(grey[..., None], 3, axis=2))
    return np.array(upright.convert("RGB"))


def is_animated(path: Path) -> bool:
    """Whether the picture has several frames that follow each other. A TIFF's are pages, a HEIC's pictures of their own."""
    try:
        with _opened(path.read_bytes()) as image:
            return image.format in ("AVIF", "GIF", "PNG", "WEBP") and bool(getattr(image, "is_animated", False))
    except _UNREADABLE:
        return False


class PictureSource:
    """Pictures, in the natural order of their names.

    paths: candidates; files that are no pictures are left out, with a note. Raises InputError where none is left that can be read.
    """

    status = ""

    def __init__(self, spec: str, paths: Sequence[Path], sequence: bool, rate: float) -> None:
        self.name = spec
        self.notes: list[str] = []
        self._paths = sorted(filter(is_picture, paths), key=natural_order)
        self._leave_out(sorted({p for p in paths if p.is_file() and p.name[0] != "."} - set(self._paths), key=natural_order))
        self._sequence = sequence
        self._closed = False
        self._unreadable: list[Path] = []
        self._animated: list[Path] = []
        pictures = self._read()
        first = next(pictures, None)
        if first is None:
            only = f"{self._paths[0]} is not a picture that can be read, or it is damaged"
            raise InputError(only if len(self._paths) == 1 else f"{spec}: not one of its {len(self._paths)} pictures can be read")
        self._pictures = pictures
        self._first: tuple[Path, U8, int] | None = first
        folders = {p.absolute().parent for p in self._paths}
        beat = Fraction(rate).limit_denominator(1001) if sequence else Fraction(1)
        self.info = SourceInfo(
            name=spec,
            width=first[1].shape[1],
            height=first[1].shape[0],
            rate=beat,
            time_base=1 / beat,
            frames=len(self._paths),
            pictures=True,
            path=self._paths[0] if len(self._paths) == 1 else None,
            folder=folders.pop() if len(folders) == 1 else None,
            focal=focal_of_picture(first[0], first[1].shape[1], first[1].shape[0]),
        )

    def _leave_out(self, others: list[Path]) -> None:
        if not self._paths and others:
            raise InputError(
                f"{self.name} holds no pictures, but {some_names(others)}: give one video by its name, or several to rtpose batch"
            )
        if not self._paths:
            raise InputError(f"{self.name} holds no pictures (looked for {' '.join(sorted(PICTURES))})")
        if others:
            self.notes.append(f"files left out because they are no pictures: {len(others)} ({some_names(others)})")

    def _read(self) -> Iterator[tuple[Path, U8, int]]:
        for path in self._paths:
            arrival = time.monotonic_ns()
            try:
                image = read_picture(path)
            except InputError as error:
                self._unreadable.append(path)
                self.notes.append(str(error))
                continue
            if is_animated(path):
                self._animated.append(path)
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
        if self._animated:
            self.notes.append(
                f"animated pictures of which only the first frame was read: {len(self._animated)} ({some_names(self._animated)});"
                " given alone, all are"
            )
        if self._unreadable and not self._closed:
            raise EndedEarly(
                f"{len(self._unreadable)} of {len(self._paths)} pictures could not be read: {some_names(self._unreadable)}"
            )

    def close(self) -> None:
        self._closed = True


class AnimationSource:
    """An animated picture as the frames of a video, each at its own time. Raises InputError where the first cannot be read."""

    status = ""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.notes: list[str] = []
        self._path = path
        self._closed = False
        self._broken = False
        # Their times are known when they have been decoded, and the rate when all have been.
        end, count, size = 0.0, 0, (0, 0)
        for seconds, duration, image in self._decoded():
            end, count = seconds + duration, count + 1
            size = size if size[0] else (image.shape[1], image.shape[0])
        if count == 0:
            raise InputError(f"{path} is not a picture that can be read, or it is damaged")
        self.info = SourceInfo(
            name=self.name,
            width=size[0],
            height=size[1],
            rate=Fraction(count / end).limit_denominator(1001),
            time_base=Fraction(1, 1000),
            frames=count,
            path=path,
            focal=focal_of_picture(path, *size),
        )

    def _decoded(self) -> Iterator[tuple[float, float, U8]]:
        """Time and duration of each frame, seconds, and its pixels, up to where the file is damaged."""
        seconds = 0.0
        try:
            with _opened(self._path.read_bytes()) as image:
                # A PNG's first picture may be there only for programs that show no animation.
                for index in range(int(bool(image.info.get("default_image"))), int(getattr(image, "n_frames", 1))):
                    image.seek(index)
                    image.load()
                    shown = _shown(image)
                    duration = float(image.info.get("duration") or 0) / 1e3
                    duration = duration if duration > UNSHOWN_SECONDS else DEFAULT_SECONDS
                    yield seconds, duration, shown
                    seconds += duration
        except _UNREADABLE:
            self._broken = True

    def frames(self) -> Iterator[Frame]:
        """All frames. Raises `EndedEarly` at the end if the file is damaged."""
        index = 0
        for seconds, _, image in self._decoded():
            if self._closed:
                return
            yield Frame(index, seconds, image, time.monotonic_ns())
            index += 1
        if self._broken and not self._closed:
            raise EndedEarly(f"{self.name} breaks off after {index} frames: it is damaged")

    def close(self) -> None:
        self._closed = True

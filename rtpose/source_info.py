"""What is known of a source of frames, whatever its kind."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from .pipeline import Source


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

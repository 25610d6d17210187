"""A saved run as a whole: who was there when, the body that was fitted, the pictures it was made from."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .body.camera import Camera, camera_for
from .body.model import BodyModel, load_body
from .body.smpl import open_body
from .errors import EndedEarly, InputError
from .frame_rate import nominal_rate
from .sinks.data import Header, Record, body_shapes, read_results
from .source import InfoSource, open_source
from .types import F32, F64, I64, U8, People

_SEEN = ("boxes", "scores", "keypoints", "status")
"""What is taken over from `types.People`."""
DEFAULT_RATE = 30.0
"""Frames a second of a run that is too short to have a rate."""


@dataclass(frozen=True)
class Person:
    """One identity over the whole run: an array row for every record that shows it.

    rows (n,): which records of the run those are; times (n,): their seconds. The other fields are as in `types.People` and
    `types.Bodies`; without bodies the latter have no columns, and where a record has none for this person its row is NaN.
    """

    id: int
    rows: I64
    times: F64
    boxes: F32
    scores: F32
    keypoints: F32
    status: U8
    rotations: F32
    betas: F32
    translation: F32
    joints3d: F32
    uncertainty: F32

    @property
    def duration(self) -> float:
        """Seconds from the first to the last record that shows the person."""
        return float(self.times[-1] - self.times[0])

    @property
    def posed(self) -> NDArray[np.bool_]:
        """(n,) True where there is a body."""
        whole = [np.isfinite(part).all(1) for part in (self.rotations.reshape(-1, 66), self.betas, self.translation)]
        return np.asarray(np.all(whole, 0) & bool(self.joints3d.shape[1]))

    def with_body(self) -> Person:
        """The same person, only those rows that have a body."""
        kept = self.posed
        arrays = {f.name: getattr(self, f.name)[kept] for f in fields(self) if f.name != "id"}
        return Person(id=self.id, **arrays)


@dataclass(frozen=True)
class Run:
    """What a results file holds. frames, times (f,), files: of every record, files None but for pictures. people: by id.
    partial: a crash cut the last line off."""

    path: Path
    header: Header
    frames: I64
    times: F64
    files: tuple[str | None, ...]
    people: dict[int, Person]
    partial: bool

    @cached_property
    def rate(self) -> float:
        """Nominal frames a second: what all times show, else what the header says."""
        stated = [] if self.header.rate is None else [Fraction(self.header.rate).limit_denominator(1001)]
        return float(nominal_rate(self.times, stated) or self.header.rate or DEFAULT_RATE)

    def check_whole(self) -> None:
        """Raise EndedEarly where a crash cut the last line off: when all that is there has been used."""
        if self.partial:
            raise EndedEarly(f"the last line of {self.path} is cut off; everything before it was used")

    def select(self, ids: Sequence[int] | None) -> list[Person]:
        """The people with these ids, everybody for None or none named. Raises InputError for an id that the run does not have."""
        known = ", ".join(map(str, self.people)) or "nobody"
        for identity in ids or ():
            if identity not in self.people:
                raise InputError(f"{self.path} has no person {identity}: there is {known}")
        return [self.people[identity] for identity in dict.fromkeys(ids or self.people)]

    def with_bodies(self, ids: Sequence[int] | None, purpose: str) -> list[Person]:
        """As `select`, only those who have a body, and only the rows that have it: nobody where nobody was found.

        purpose: what is not possible without bodies. Raises InputError for a run without any, which was made without a lifter.
        """
        people = self.select(ids)
        if self.header.joints3d_names is None and self.header.body is None:
            raise InputError(f"{self.path} holds no bodies, and {purpose} needs them: track again with a lifter")
        bodies = [person.with_body() for person in people]
        return [person for person in bodies if len(person.rows)]


def read_run(path: Path | str) -> Run:
    """Read a whole results file (.jsonl, .npz, or the .partial that a crash left). Raises InputError for one that is damaged."""
    path = Path(path)
    header, records = read_results(path)
    frames: list[int] = []
    times: list[float] = []
    files: list[str | None] = []
    shapes = body_shapes(header, records)
    gathered: dict[int, _Gathered] = {}
    for number, record in enumerate(records):
        if times and record.time <= times[-1]:
            raise InputError(
                f"{path}: the time of frame {record.frame}, {record.time:g} s, does not come after that of the one before"
            )
        frames.append(record.frame)
        times.append(record.time)
        files.append(record.file)
        ids = record.people.ids.tolist()
        if len(set(ids)) < len(ids):
            raise InputError(f"{path}: frame {record.frame} has two people of the same id")
        for row, identity in enumerate(ids):
            gathered.setdefault(identity, _Gathered(shapes)).add(number, row, record)
    if not times:
        raise InputError(f"{path} holds no frames")
    people = {identity: gathered[identity].person(identity) for identity in sorted(gathered)}
    return Run(path, header, np.array(frames, np.int64), np.array(times), tuple(files), people, records.partial)


class _Gathered:
    """The rows of one identity while the records go by, as plain bytes: to keep the records would take five times the memory.

    shapes: of a row of each array of its body.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self._rows, self._times, self._shapes = array("q"), array("d"), shapes
        self._data = {name: bytearray() for name in (*_SEEN, *shapes)}

    def add(self, number: int, row: int, record: Record) -> None:
        """The person is in this row of record `number`."""
        self._rows.append(number)
        self._times.append(record.time)
        for name in _SEEN:
            self._data[name] += getattr(record.people, name)[row].tobytes()
        for name, shape in self._shapes.items():
            found = None if record.bodies is None else getattr(record.bodies, name)[row]
            if found is None or found.shape != shape:
                found = np.full(shape, np.nan, np.float32)
            self._data[name] += found.tobytes()

    def person(self, identity: int) -> Person:
        n = len(self._rows)
        nobody = People.none()
        arrays: dict[str, Any] = {}
        for name in _SEEN:
            empty = getattr(nobody, name)
            arrays[name] = np.frombuffer(self._data[name], empty.dtype).reshape(n, *empty.shape[1:])
        for name, shape in self._shapes.items():
            arrays[name] = np.frombuffer(self._data[name], np.float32).reshape(n, *shape)
        return Person(id=identity, rows=np.array(self._rows, np.int64), times=np.array(self._times), **arrays)


def fitted_body(file: Path, header: Header, path: Path | None = None) -> BodyModel:
    """The body that the results in `file` were fitted with. path: an SMPL file, where it was not the bundled body.

    Raises InputError where it is another one.
    """
    body = load_body() if path is None else open_body(path)
    if header.body is not None and header.body[1] != body.sha256:
        name, checksum = header.body
        given = "the bundled body" if path is None else str(path)
        raise InputError(
            f"{file} was made with the body {name} (sha256 {checksum[:12]}...), not with {given}: give --body-model {name}"
        )
    return body


def cameras(header: Header) -> Callable[[int, int], Camera]:
    """The camera that the results were fitted with; pictures of other sizes than the first have one that is guessed."""

    def camera(width: int, height: int) -> Camera:
        known = header.camera if (width, height) == (header.width, header.height) else None
        return known or camera_for(width, height, pixel_aspect=header.pixel_aspect)

    return camera


def open_pictures(file: Path, header: Header, video: Path | None = None) -> InfoSource | None:
    """The pictures that the results in `file` are about, or None. video: where they are, if not where the header says.

    Raises InputError for a `video` that cannot be read, or of another size.
    """
    if video is not None:
        source = open_source(video)
    else:
        places = (Path(header.source), file.parent / Path(header.source).name)
        # The source may be a pipeline so long that it can be no file's name.
        found = next((p for p in places if os.path.isfile(p)), None)
        if found is None:
            return None
        source = open_source(found)
    if (source.info.width, source.info.height) != (header.width, header.height):
        size = f"{source.info.width}x{source.info.height}"
        source.close()
        raise InputError(
            f"{source.name} is {size}, the results in {file} are for {header.width}x{header.height}: give its own --video"
        )
    return source

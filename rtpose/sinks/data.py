"""Results as JSON Lines and as arrays (.npz), written and read. docs/results.md describes both for everybody else."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..archives import read_arrays
from ..body.camera import Camera
from ..body.model import Lifted
from ..errors import InputError, RtposeError, Stop
from ..integrity import RESULTS, check_own, open_own
from ..pipeline import Sink
from ..pixels import is_square
from ..source import SourceInfo
from ..types import KEYPOINT_NAMES, Bodies, People, Result, Status
from . import check_output, replacing

VERSION = 1
ENDINGS = (".jsonl", ".npz")
SPOOL = ".partial"
STATUS_NAMES = tuple(s.name.lower() for s in Status)

PIXEL_DECIMALS, SCORE_DECIMALS, METRE_DECIMALS, RADIAN_DECIMALS = 2, 4, 5, 5


@dataclass(frozen=True)
class Provenance:
    """How results come about, for their header. models: what computes them, by task. mode: "live" or "offline". lifted: where there
    are bodies. run: by what the run is known again, see `rtpose.journal.fingerprint`."""

    models: Mapping[str, str] = field(default_factory=dict)
    mode: str = "offline"
    lifted: Lifted | None = None
    run: str | None = None


def open_data(path: Path | None, info: SourceInfo, provenance: Provenance, *, overwrite: bool = False) -> Sink:
    """The sink for `--save`: JSON Lines (None: to the standard output), or an .npz. Arguments as for `JsonLinesSink`."""
    if path is not None:
        check_output(path, ENDINGS, overwrite=overwrite, source=info.path)
    if path is not None and path.suffix.lower() == ".npz":
        return NpzSink(path, info, provenance, overwrite=overwrite)
    return JsonLinesSink(path, info, provenance, overwrite=overwrite)


class JsonLinesSink:
    """Writes a header and one line a frame, each whole and handed to the system at once, so that a crash loses nothing written.

    path: a file, which is made (or emptied) at the first frame, or None for standard output. Raises InputError at once if it
    cannot be written.
    """

    name = "save"
    latest = False
    main_thread = False

    def __init__(self, path: Path | None, info: SourceInfo, provenance: Provenance, *, overwrite: bool = False) -> None:
        if path is not None:
            check_output(path, (".jsonl", SPOOL), overwrite=overwrite, source=info.path)
            if path.suffix == SPOOL:  # the user named another file
                check_own(path, RESULTS)
        elif sys.stdout is None:
            raise InputError("the standard output is closed: --save a file")
        self._path, self._info, self._provenance = path, info, provenance
        self._file = -1
        self._written = 0

    def write(self, result: Result) -> None:
        if self._file < 0:
            self._open()
            self._line(self._header(result))
        self._line(self._record(result))

    def close(self) -> None:
        if self._file >= 0 and self._path is not None:
            gone = os.fstat(self._file).st_nlink == 0
            os.close(self._file)
            self._file = -1
            if gone:
                raise RtposeError(f"{self._path} was removed, or its folder, while it was written: nothing of it is left")

    def _open(self) -> None:
        if self._path is None:
            self._file = sys.stdout.fileno()
            return
        try:
            if self._path.suffix == SPOOL:
                self._file = open_own(self._path, RESULTS, os.O_TRUNC)
            else:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror}") from None

    def _record(self, result: Result) -> dict[str, Any]:
        frame = result.frame
        return frame_record(Record(frame.index, frame.time, frame.file, result.people, result.bodies))

    def _header(self, result: Result) -> dict[str, Any]:
        known = self._provenance
        header: dict[str, Any] = {
            "rtpose": VERSION,
            "source": self._info.name,
            "width": self._info.width,
            "height": self._info.height,
            **({} if self._info.live else {"rate": float(self._info.rate)}),
            "skeleton": "coco17",
            "keypoint_names": KEYPOINT_NAMES,
            "models": dict(known.models),
            "mode": known.mode,
        }
        if not is_square(self._info.pixel_aspect):
            header["pixel_aspect"] = float(self._info.pixel_aspect)
        if known.run is not None:
            header["run"] = known.run
        if result.bodies is not None:
            header["joints3d_names"] = result.bodies.joint_names
        if known.lifted is not None:
            header["body"] = {"name": known.lifted.body.name, "sha256": known.lifted.body.sha256}
            header["camera"] = asdict(known.lifted.camera(self._info.width, self._info.height))
        return header

    def _line(self, record: Mapping[str, Any]) -> None:
        data = json_line(record)
        todo = memoryview(data)
        try:
            while todo:
                todo = todo[os.write(self._file, todo) :]
        except BrokenPipeError:
            raise Stop from None
        except OSError as error:
            if self._path is None:
                raise RtposeError(f"cannot write to standard output: {error.strerror}") from None
            with suppress(OSError):  # the half line stays where it cannot be cut off; readers stop before it
                os.ftruncate(self._file, self._written)
            raise RtposeError(f"cannot write {self._path}: {error.strerror}; the frames before are kept") from None
        self._written += len(data)


class NpzSink:
    """Spools JSON Lines into `FILE.npz.partial`, which a crash leaves behind readable, and turns them into arrays at the end.

    Arguments as for `JsonLinesSink`.
    """

    name = "save"
    latest = False
    main_thread = False

    def __init__(self, path: Path, info: SourceInfo, provenance: Provenance, *, overwrite: bool = False) -> None:
        check_output(path, (".npz",), overwrite=overwrite, source=info.path)
        self._path, self._spool = path, path.with_name(path.name + SPOOL)
        self._lines = JsonLinesSink(self._spool, info, provenance, overwrite=overwrite)
        self._begun = False

    def write(self, result: Result) -> None:
        self._begun = True
        self._lines.write(result)

    def close(self) -> None:
        self._lines.close()
        if self._begun:
            save_arrays(self._spool, self._path)
            self._spool.unlink()


def save_arrays(lines: Path, path: Path) -> None:
    """Turn results in JSON Lines, such as a spool that a crash left behind, into an .npz; a file of that name is replaced.

    The arrays grow on disk, so that the memory needed does not depend on how many frames there are. Raises InputError for lines that
    are none, RtposeError where the file cannot be written.
    """
    header, records = read_results(lines)
    try:
        with ExitStack() as opened, replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:

            def column(dtype: Any, *shape: int) -> _Column:
                return _Column(opened.enter_context(tempfile.TemporaryFile(dir=path.parent)), np.dtype(dtype), shape)

            with archive.open("header.npy", "w") as member:
                np.lib.format.write_array(member, np.array(next(_lines(lines))[1].decode().rstrip()), allow_pickle=False)
            for name, rows in _columns(header, records, column).items():
                # As numpy.savez_compressed does, which has no room for an array called "file".
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    rows.write(member)
    except OSError as error:
        raise RtposeError(f"cannot write {path}: {error.strerror}; the results are kept in {lines}") from None


class _Column:
    """An array that grows in a file. shape: of a row."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._file, self._dtype, self._shape = file, dtype, shape
        self._rows = 0

    def add(self, rows: Any) -> None:
        """rows (n, *shape)."""
        self._file.write(np.asarray(rows, self._dtype).reshape(len(rows), *self._shape).tobytes())
        self._rows += len(rows)

    def write(self, out: Any) -> None:
        """Write the whole array as an .npy file."""
        described = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._rows, *self._shape)}
        np.lib.format.write_array_header_1_0(out, described)
        self._file.seek(0)
        shutil.copyfileobj(self._file, out)


def _columns(header: Header, records: Records, column: Callable[..., _Column]) -> dict[str, _Column]:
    """The arrays of an .npz, filled from the records. column: makes an empty one, of a type and a row's shape."""
    frames, times, counts = column(np.int64), column(np.float64), column(np.int64)
    nobody = {name: getattr(People.none(), field) for name, field in _PEOPLE_ARRAYS.items()}
    people = {name: column(array.dtype, *array.shape[1:]) for name, array in nobody.items()}
    shapes = {} if header.joints3d_names is None else body_shapes(header, records)
    bodies = {name: column(np.float32, *shape) for name, shape in shapes.items()}
    files: list[str | None] = []
    for record in records:
        frames.add([record.frame])
        times.add([record.time])
        counts.add([len(record.people)])
        files.append(record.file)
        for name, rows in people.items():
            rows.add(getattr(record.people, _PEOPLE_ARRAYS[name]))
        known = record.bodies if record.bodies is not None and record.bodies.betas.size else None
        for name, rows in bodies.items():
            rows.add(np.full((len(record.people), *shapes[name]), np.nan) if known is None else getattr(known, name))
    named: dict[str, _Column] = {}
    if any(file is not None for file in files):
        named["file"] = column(f"<U{max(len(file or '') for file in files)}")
        named["file"].add([file or "" for file in files])
    return {"frame": frames, "time": times, "people": counts, **named, **people, **bodies}


def body_shapes(header: Header, records: Records) -> dict[str, tuple[int, ...]]:
    """What a row of each array of `Bodies` looks like in these results; where there are none it has no betas and no joints."""
    betas = 0
    if header.joints3d_names is not None:
        betas = next((r.bodies.betas.shape[1] for r in records if r.bodies is not None and r.bodies.betas.size), 0)
    return _body_shapes(betas, len(header.joints3d_names or ()))


def json_line(record: Mapping[str, Any]) -> bytes:
    """The record as one line of text. Bytes of names that are not UTF-8 become JSON's own escapes (\\udc80 to \\udcff)."""
    return (
        json.dumps(record, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
    )


def frame_record(found: Record) -> dict[str, Any]:
    """What is written of one frame, as JSON's types."""
    people, bodies = found.people, found.bodies
    record: dict[str, Any] = {"frame": found.frame, "time": found.time}
    if found.file is not None:
        record["file"] = found.file
    boxes = _numbers(people.boxes, PIXEL_DECIMALS)
    scores = _numbers(people.scores, SCORE_DECIMALS)
    keypoints, raw = _keypoints(people.keypoints), _keypoints(people.raw)
    persons: list[dict[str, Any]] = []
    for i, status in enumerate(people.status.tolist()):
        person: dict[str, Any] = {
            "id": int(people.ids[i]),
            "box": boxes[i],
            "score": scores[i],
            "keypoints": keypoints[i],
            "status": [STATUS_NAMES[s] for s in status],
        }
        if raw[i] != keypoints[i]:
            person["raw_keypoints"] = raw[i]
        if bodies is not None:
            person.update(_body(bodies, i))
        persons.append(person)
    record["people"] = persons
    return record


def _body(bodies: Bodies, i: int) -> dict[str, Any]:
    if not np.isfinite(bodies.joints3d[i]).all():
        return {"joints3d": None, "body": None, "uncertainty": None}
    return {
        "joints3d": _numbers(bodies.joints3d[i], METRE_DECIMALS),
        "body": {
            "rotations": _numbers(bodies.rotations[i], RADIAN_DECIMALS),
            "betas": _numbers(bodies.betas[i], METRE_DECIMALS),
            "translation": _numbers(bodies.translation[i], METRE_DECIMALS),
        },
        "uncertainty": _numbers(bodies.uncertainty[i], METRE_DECIMALS),
    }


def _numbers(values: NDArray[Any], decimals: int) -> Any:
    # In double precision: a rounded float32 has an endless tail of digits. Adding 0 turns -0 into 0.
    return (np.round(values.astype(np.float64), decimals) + 0.0).tolist()


def _keypoints(keypoints: NDArray[Any]) -> Any:
    rounded = keypoints.astype(np.float64)
    rounded[..., :2] = np.round(rounded[..., :2], PIXEL_DECIMALS)
    rounded[..., 2] = np.round(rounded[..., 2], SCORE_DECIMALS)
    return (rounded + 0.0).tolist()


@dataclass(frozen=True)
class Header:
    """The first line. joints3d_names is None where no bodies were written; `models` says by task what computed the
    results; body is the name and sha256 of the body's file, camera what it was fitted with; run is the same for the
    same file and settings; rate is the source's nominal frames a second, None where nobody knows them before they come. width and height
    are in stored pixels, each `pixel_aspect` times as wide as high."""

    source: str
    width: int
    height: int
    keypoint_names: tuple[str, ...]
    models: dict[str, str]
    mode: str
    joints3d_names: tuple[str, ...] | None
    body: tuple[str, str] | None = None
    camera: Camera | None = None
    run: str | None = None
    rate: float | None = None
    pixel_aspect: float = 1.0

    def __post_init__(self) -> None:
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"a rate of {self.rate} frames a second cannot be")
        if not (math.isfinite(self.pixel_aspect) and self.pixel_aspect > 0):
            raise ValueError(f"pixel_aspect {self.pixel_aspect!r} cannot be")


@dataclass(frozen=True)
class Record:
    """One frame's line: index, seconds, the picture's name if the source was pictures, and what was found."""

    frame: int
    time: float
    file: str | None
    people: People
    bodies: Bodies | None

    def __post_init__(self) -> None:
        if not (0 <= self.frame < 1 << 63 and math.isfinite(self.time) and isinstance(self.file, str | None)):
            raise ValueError(f"frame {self.frame!r}, time {self.time!r} and file {self.file!r} cannot be")


MAX_LINE = 64 << 20
"""Bytes of the longest line that is read: some 20,000 people with bodies in one frame."""


class Records:
    """The lines after the header, in order. `partial` turns True where the end was cut off or damaged by a crash; that is left out."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path, self._header = path, header
        self.partial = False

    def __iter__(self) -> Iterator[Record]:
        for record, _ in self.with_fields():
            yield record

    def with_fields(self) -> Iterator[tuple[Record, dict[str, Any]]]:
        """Every record, and all the fields of its line."""
        shape = 0
        for number, line in _lines(self._path):
            if not line.endswith(b"\n"):
                self.partial = True
            elif number > 1:
                where = f"{self._path}, line {number}"
                try:
                    fields = _parse(self._path, number, line)
                except InputError:
                    if not _is_broken_off(self._path, number):
                        raise
                    self.partial = True
                    return
                record = _record(fields, self._header, where)
                if record.bodies is not None and record.bodies.betas.size:
                    betas = record.bodies.betas.shape[1]
                    if betas != (shape := shape or betas):
                        raise InputError(f"{where}: bodies of {betas} shape numbers, before they had {shape}")
                yield record, fields


def read_results(path: Path | str) -> tuple[Header, Records]:
    """Open a file that `--save` wrote, or the .partial that a crash left of it.

    Raises InputError, here or while iterating, with the number of the line that is wrong.
    """
    path = Path(path)
    _, line = next(_lines(path), (1, b""))
    if line.startswith(b"PK"):
        return _read_arrays(path)
    header = _header(path, line)
    return header, Records(path, header)


def _header(path: Path, line: bytes) -> Header:
    record = _parse(path, 1, line) if line.startswith(b"{") and line.endswith(b"\n") else {}
    if record.get("rtpose") != VERSION:
        raise InputError(f'{path} holds no results of rtpose (its first line should start with {{"rtpose": {VERSION}}})')
    try:
        names, body, camera = (record.get(key) for key in ("joints3d_names", "body", "camera"))
        return Header(
            source=str(record["source"]),
            width=int(record["width"]),
            height=int(record["height"]),
            keypoint_names=tuple(record["keypoint_names"]),
            models=dict(record["models"]),
            mode=str(record["mode"]),
            joints3d_names=None if names is None else tuple(names),
            body=None if body is None else (str(body["name"]), str(body["sha256"])),
            camera=None if camera is None else _camera(**camera),
            run=None if "run" not in record else str(record["run"]),
            rate=None if record.get("rate") is None else float(record["rate"]),
            pixel_aspect=float(record.get("pixel_aspect", 1.0)),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise InputError(f"{path}, line 1: the header is not as it should be ({error!r})") from None


def _camera(fx: float, fy: float, cx: float, cy: float, origin: str = "given") -> Camera:
    if not (np.isfinite([fx, fy, cx, cy]).all() and fx > 0 and fy > 0):
        raise ValueError(f"no camera has fx, fy, cx, cy = {fx:g}, {fy:g}, {cx:g}, {cy:g}")
    return Camera(fx, fy, cx, cy, origin)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with open(path, "rb") as file:
            for number in itertools.count(1):
                line = file.readline(MAX_LINE + 1)
                if len(line) > MAX_LINE:
                    raise InputError(f"{path}, line {number}: longer than {MAX_LINE >> 20} MB, which no record of rtpose is")
                if not line:
                    return
                yield number, line
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _is_broken_off(path: Path, number: int) -> bool:
    """Whether from that line on there is nothing but what a power cut leaves: no record, and bytes that are no text."""
    binary = False
    for later, line in _lines(path):
        if later > number and line.startswith(b"{"):
            with suppress(InputError):
                _parse(path, later, line)
                return False
        binary = binary or (later >= number and _is_binary(line))
    return binary


def _is_binary(line: bytes) -> bool:
    try:
        return any(character < " " and character not in "\t\r\n" for character in line.decode())
    except UnicodeDecodeError:
        return True


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}, line {number}: not JSON ({error})") from None
    if not isinstance(record, dict):
        raise InputError(f"{path}, line {number}: not a JSON object")
    return record


def _record(record: dict[str, Any], header: Header, where: str) -> Record:
    try:
        people = record["people"]
        return Record(
            frame=int(record["frame"]),
            time=float(record["time"]),
            file=record.get("file"),
            people=_people(people),
            bodies=None if header.joints3d_names is None else _bodies(people, header.joints3d_names),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{where}: not a record of rtpose ({error!r})") from None


def _people(people: list[dict[str, Any]]) -> People:
    if not people:
        return People.none()
    return People(
        ids=np.array([p["id"] for p in people]),
        boxes=np.array([p["box"] for p in people], np.float32),
        scores=np.array([p["score"] for p in people], np.float32),
        keypoints=np.array([p["keypoints"] for p in people], np.float32),
        status=np.array([[STATUS_NAMES.index(s) for s in p["status"]] for p in people]),
        raw=np.array([p.get("raw_keypoints", p["keypoints"]) for p in people], np.float32),
    )


def _bodies(people: list[dict[str, Any]], names: tuple[str, ...]) -> Bodies:
    n = len(people)
    known = [(i, p) for i, p in enumerate(people) if p["body"] is not None]
    betas = len(known[0][1]["body"]["betas"]) if known else 0
    arrays = {k: np.full((n, *shape), np.nan, np.float32) for k, shape in _body_shapes(betas, len(names)).items()}
    for i, person in known:
        for name, array in arrays.items():
            array[i] = person[name] if name in person else person["body"][name]
    return Bodies(**arrays, joint_names=names)


_PEOPLE_ARRAYS = {
    "id": "ids", "box": "boxes", "score": "scores", "keypoints": "keypoints", "status": "status", "raw_keypoints": "raw",
}  # fmt: skip
"""Name in an .npz -> field of `People`."""


def _body_shapes(betas: int, joints: int) -> dict[str, tuple[int, ...]]:
    """The arrays of `Bodies`, one person's shape each."""
    return {"rotations": (22, 3), "betas": (betas,), "translation": (3,), "joints3d": (joints, 3), "uncertainty": (joints,)}


class _ArrayRecords(Records):
    """The frames of an .npz."""

    def __init__(self, path: Path, header: Header, arrays: dict[str, NDArray[Any]]) -> None:
        super().__init__(path, header)
        self._arrays = arrays

    def __iter__(self) -> Iterator[Record]:
        arrays, names = self._arrays, self._header.joints3d_names
        end = 0
        for i, count in enumerate(arrays["people"].tolist()):
            rows = slice(end, end := end + count)
            people = People(**{field: arrays[name][rows] for name, field in _PEOPLE_ARRAYS.items()})
            bodies = None
            if names is not None:
                bodies = Bodies(**{name: arrays[name][rows] for name in _body_shapes(0, 0)}, joint_names=names)
            file = str(arrays["file"][i]) if "file" in arrays else None
            yield Record(int(arrays["frame"][i]), float(arrays["time"][i]), file, people, bodies)


def _read_arrays(path: Path) -> tuple[Header, Records]:
    try:
        arrays = read_arrays(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: it is damaged, or no .npz of rtpose ({error})") from None
    header = _header(path, str(arrays.get("header", "")).encode() + b"\n")
    records = _ArrayRecords(path, header, arrays)
    try:
        if arrays["people"].min(initial=0) < 0 or arrays["people"].sum() != len(arrays["id"]):
            raise ValueError("people do not add up to the rows")
        if not len(arrays["people"]) == len(arrays["frame"]) == len(arrays["time"]):
            raise ValueError("frames and times differ in number")
        if arrays["status"].max(initial=0) >= len(STATUS_NAMES):
            raise ValueError("a status is none of " + ", ".join(STATUS_NAMES))
        for _ in records:  # what is in the arrays is checked where it is taken out
            pass
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: its arrays are not as rtpose writes them ({error})") from None
    return header, records

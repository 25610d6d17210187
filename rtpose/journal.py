"""What the networks said, kept on disk while a run goes on, so that a run that was cut off can be taken up again.

Everything else is cheap: a resumed run goes through the file from its beginning, reads the networks' answers from the journal as long as it
reaches, and asks them from there on. So whatever it writes is what one uninterrupted run would have written.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError, RtposeError
from .integrity import check_own, holds_zeros_only, open_own
from .types import F32

SUFFIX = ".journal"
VERSION = 2
_PROOF = b'{"rtpose journal":'
_ENTRY = struct.Struct("<BII8s")
"""Whose answer (or `_EXPORTS`), rows, columns, and the checksum of all that and of the data that follow: 4 bytes a number."""
_EXPORTS = 255
"""An entry whose data is the name of a folder that the run exports into, not an answer."""
_LONGEST = 1 << 26
"""Bytes of an entry's data at most; an answer has some thousand."""
_LINE = 1 << 16
"""Bytes of the first line at most."""
_EDGE = 1 << 20
"""Bytes at either end of a file by which it is recognised."""

Answer = Callable[[Any], F32]
"""A network: an array of what it is asked about in, an array of numbers out."""


def fingerprint(source: Path, **said: Any) -> str:
    """Sixteen hexadecimal digits that are the same for the same file and the same settings (anything that JSON can say)."""
    digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode())
    with open(source, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest.update(str(size).encode())
        for place in (0, max(0, size - _EDGE)):
            file.seek(place)
            digest.update(file.read(_EDGE))
    return digest.hexdigest()[:16]


def run_of(path: Path) -> str | None:
    """The fingerprint of the run that a journal is of; None where there is no journal, or nothing is left in it: the disk had no room for
    it to begin, or a power cut left zeros. Raises InputError for a link, and for a file that is no journal."""
    check_own(path, _PROOF)
    try:
        if not path.exists() or holds_zeros_only(path):
            return None
        with open(path, "rb") as file:
            header = _header(file.readline(_LINE))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if header is None:
        raise InputError(f"the beginning of {path} is damaged, so that nothing shows what it is of: remove it to begin anew")
    return header[1]


def exports_of(path: Path) -> set[str]:
    """The folders that the run of this journal exported into, as far as it is whole. Raises InputError as `run_of` does."""
    run = run_of(path)
    if run is None:
        return set()
    return {data.decode().rstrip() for whose, _, _, data, _ in _entries(path, run) if whose == _EXPORTS}


def _header(line: bytes) -> tuple[int, str] | None:
    """The version and the run that a journal's first line tells; None where it is damaged."""
    try:
        said = json.loads(line)
        return int(said["rtpose journal"]), str(said["run"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


class Journal:
    """Appends to `path`, after what an earlier run of the same fingerprint left there if `resume`.

    What is damaged, and all that follows it, is cut off: it is computed again, and `notes` says so. Raises InputError where the name is a
    link or a file that is no journal, RtposeError where it cannot be written.
    """

    def __init__(self, path: Path, run: str, *, resume: bool) -> None:
        self.path = path
        self.notes: list[str] = []
        self._run = run
        self._lock = threading.Lock()
        self._sources = 0
        self._begin = self._end = self._count = 0
        self._answered = False
        if resume and run_of(path) is not None:
            self._take_up()
        try:
            self._file = open_own(path, _PROOF, os.O_APPEND | (0 if self._end else os.O_TRUNC))
            if self._end:
                os.ftruncate(self._file, self._end)
            else:
                self._write(json.dumps({"rtpose journal": VERSION, "run": run}).encode() + b"\n")
        except OSError as error:
            raise RtposeError(f"cannot write {path}: {error.strerror}") from None

    def _take_up(self) -> None:
        """Find where the answers begin that are there already, and where the last whole one ends."""
        with open(self.path, "rb") as file:
            line = file.readline(_LINE)
        header = _header(line)
        if header is None or header[0] != VERSION:
            self.notes.append(f"{self.path} is of another version of rtpose: everything is computed again")
            return
        self._begin = self._end = len(line)
        for *_, end in _entries(self.path, self._run):
            self._end = end
            self._count += 1
        if lost := self.path.stat().st_size - self._end:
            self.notes.append(
                f"{self.path}: its last {lost} bytes are damaged or incomplete; what they were of is computed again"
            )

    def exports(self, folder: Path) -> None:
        """Note that the run exports into a folder, so that a resumed one knows the files in it for its own."""
        name = str(folder.absolute()).encode()
        name += b" " * (-len(name) % 4)
        self._append(_EXPORTS, 1, len(name) // 4, name)

    def keep(self, answer: Answer) -> Answer:
        """The same network, whose answers are kept, and read as long as there are some of an earlier run."""
        source, self._sources = self._sources, self._sources + 1
        known = self._answers(source)

        def kept(asked: Any) -> F32:
            before = next(known, None)
            if before is not None:
                return before
            found = answer(asked)
            rows = len(found)
            self._append(source, rows, found[0].size if rows else 0, np.ascontiguousarray(found, np.float32).tobytes())
            self._answered = True
            return found

        return kept

    def close(self, *, finished: bool) -> None:
        """A journal of a finished run is of no more use, and one without an answer of none at all."""
        os.close(self._file)
        if finished or not (self._answered or self._end):
            self.path.unlink(missing_ok=True)

    def _append(self, source: int, rows: int, columns: int, data: bytes) -> None:
        with self._lock:
            try:
                check = _checksum(self._run, self._count, source, rows, columns, data)
                self._write(_ENTRY.pack(source, rows, columns, check) + data)
                self._count += 1
            except OSError as error:
                raise RtposeError(f"cannot write {self.path}: {error.strerror}") from None

    def _write(self, data: bytes) -> None:
        todo = memoryview(data)
        while todo:
            todo = todo[os.write(self._file, todo) :]

    def _answers(self, source: int) -> Iterator[F32]:
        if not self._end:
            return
        with open(self.path, "rb") as file:
            file.seek(self._begin)
            while file.tell() < self._end:
                whose, rows, columns, _ = _ENTRY.unpack(file.read(_ENTRY.size))
                data = file.read(4 * rows * columns)
                if whose == source:
                    yield np.frombuffer(data, np.float32).reshape(rows, columns).copy()


def _checksum(run: str, number: int, source: int, rows: int, columns: int, data: bytes) -> bytes:
    """Eight bytes, never those of an empty entry. They depend on the run and on which entry of it this is: blocks of the disk that held
    another journal before, or this one elsewhere, do not fit."""
    head = f"{run} {number} {source} {rows} {columns} ".encode()
    return hashlib.blake2b(head + data, digest_size=8, person=b"rtpose journal").digest()


def _entries(path: Path, run: str) -> Iterator[tuple[int, int, int, bytes, int]]:
    """The whole entries of a journal of this version: whose, rows, columns, data, and the place in the file where it ends."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        header = _header(file.readline(_LINE))
        if header is None or header[0] != VERSION:
            return
        number = 0
        while len(head := file.read(_ENTRY.size)) == _ENTRY.size:
            source, rows, columns, checksum = _ENTRY.unpack(head)
            length = 4 * rows * columns
            if length > min(_LONGEST, size - file.tell()):
                return
            data = file.read(length)
            if _checksum(run, number, source, rows, columns, data) != checksum:
                return
            yield source, rows, columns, data, file.tell()
            number += 1

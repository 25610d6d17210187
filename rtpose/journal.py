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
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError, RtposeError
from .types import F32

SUFFIX = ".journal"
_ENTRY = struct.Struct("<BIII")
"""Whose answer, rows, columns, and the checksum of the numbers that follow."""
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
    """The fingerprint of the run that a journal is of; None where there is no journal, or the disk had no room for it to begin."""
    try:
        with open(path, "rb") as file:
            line = file.readline()
            return str(json.loads(line)["run"]) if line else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} is no journal of rtpose, or damaged: say --overwrite to begin anew") from None


class Journal:
    """Appends to `path`, after what an earlier run of the same fingerprint left there if `resume`.

    Raises RtposeError where it cannot be written.
    """

    def __init__(self, path: Path, run: str, *, resume: bool) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._sources = 0
        self._end = 0
        self._answered = False
        if resume and path.exists():
            self._begin, self._end = _whole(path)
            os.truncate(path, self._end)
        try:
            self._file = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (0 if self._end else os.O_TRUNC), 0o666
            )
            if not self._end:
                os.write(self._file, json.dumps({"rtpose journal": 1, "run": run}).encode() + b"\n")
        except OSError as error:
            raise RtposeError(f"cannot write {path}: {error.strerror}") from None

    def keep(self, answer: Answer) -> Answer:
        """The same network, whose answers are kept, and read as long as there are some of an earlier run."""
        source, self._sources = self._sources, self._sources + 1
        known = self._answers(source)

        def kept(asked: Any) -> F32:
            before = next(known, None)
            if before is not None:
                return before
            found = answer(asked)
            self._append(source, found)
            return found

        return kept

    def close(self, *, finished: bool) -> None:
        """A journal of a finished run is of no more use, and one without an answer of none at all."""
        os.close(self._file)
        if finished or not (self._answered or self._end):
            self.path.unlink(missing_ok=True)

    def _append(self, source: int, found: F32) -> None:
        rows = len(found)
        data = np.ascontiguousarray(found, np.float32).tobytes()
        columns = found[0].size if rows else 0
        with self._lock:
            try:
                os.write(self._file, _ENTRY.pack(source, rows, columns, zlib.crc32(data)) + data)
                self._answered = True
            except OSError as error:
                raise RtposeError(f"cannot write {self.path}: {error.strerror}") from None

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


def _whole(path: Path) -> tuple[int, int]:
    """Where the entries begin, and where the last whole one ends."""
    with open(path, "rb") as file:
        begin = end = len(file.readline())
        while len(head := file.read(_ENTRY.size)) == _ENTRY.size:
            _, rows, columns, checksum = _ENTRY.unpack(head)
            data = file.read(4 * rows * columns)
            if len(data) < 4 * rows * columns or zlib.crc32(data) != checksum:
                break
            end = file.tell()
    return begin, end

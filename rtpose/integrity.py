"""Whether a file is what rtpose wrote: checksums against accidental damage, and proof that a file may be replaced or deleted.

Checksums here guard against flipped bits, cut files and what a power cut leaves, not against somebody who forges them.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import time
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .errors import InputError

RESULTS = b'{"rtpose":'
"""How every results file begins, also one that is not finished."""
_BLOCK = 1 << 20
_SUMS = "checksums.json"
"""In a folder of a cache: size and CRC-32 of each of its files."""
_STALE = 3600.0
"""Seconds after which nobody fills a folder any more."""

Made = TypeVar("Made")

_log = logging.getLogger(__name__)


def file_crc(path: Path) -> tuple[int, int]:
    """Size in bytes and CRC-32 of a file. Raises OSError."""
    size = crc = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            size += len(block)
            crc = zlib.crc32(block, crc)
    return size, crc


def with_cache(folder: Path, make: Callable[[Path], Made]) -> Made:
    """What `make` makes with the help of the files that it left in a folder before, if those are as it left them.

    make: fills the folder that it is given, or uses what is in it. A folder that is damaged is cleared, and filled again, which a note
    says. It appears when it is whole; where that cannot be (a full disk), nothing is kept. Errors of `make` are passed on.
    """
    what = _damage(folder)
    if what is None:
        before = os.listdir(folder)
        made = make(folder)
        if os.listdir(folder) != before:  # it needed something else, too
            _write_sums(folder)
        return made
    if what:
        _log.warning("%s is damaged (%s): it is made again", folder, what)
    shutil.rmtree(folder, ignore_errors=True)
    for left in folder.parent.glob(f"{folder.name}.*.unfinished"):  # by a process that was killed
        if time.time() - left.stat().st_mtime > _STALE:
            shutil.rmtree(left, ignore_errors=True)
    new = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.unfinished")
    new.mkdir()
    try:
        made = make(new)
        try:
            _write_sums(new)
            os.rename(new, folder)
        except OSError as error:
            # Another process may have been first.
            if not folder.is_dir():
                _log.warning("%s is made again at every start: cannot write it (%s)", folder, error.strerror)
        return made
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _write_sums(folder: Path) -> None:
    sums = {path.name: file_crc(path) for path in sorted(folder.iterdir()) if path.name != _SUMS}
    (folder / _SUMS).unlink(missing_ok=True)
    (folder / _SUMS).write_text(json.dumps(sums), encoding="utf-8")


def _damage(folder: Path) -> str | None:
    """What is wrong with a folder of a cache: None if nothing is, empty where there is none."""
    if not folder.exists():
        return ""
    try:
        said = json.loads((folder / _SUMS).read_text(encoding="utf-8"))
        there = {path.name for path in folder.iterdir()} - {_SUMS}
        for name in there | set(said):
            if name not in there or said.get(name) != [*file_crc(folder / name)]:
                return name
    except OSError as error:
        return error.strerror or str(error)
    except (ValueError, AttributeError, RecursionError):
        return _SUMS
    return None


def check_own(path: Path, proof: bytes) -> None:
    """Raise InputError unless `path` may be written by rtpose without being asked: there is nothing, or a plain file of rtpose.

    proof: how rtpose's own file begins. A file that holds less than that, or zeros only (what a power cut leaves), holds nothing to lose.
    A link is refused, whatever it points to.
    """
    try:
        kind = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if stat.S_ISLNK(kind):
        raise InputError(f"{path} is a link, which rtpose does not follow there: remove it, or choose another name")
    if not stat.S_ISREG(kind) or not _is_own(path, proof):
        raise InputError(f"{path} is in the way and was not made by rtpose: move it away, or choose another name")


def _is_own(path: Path, proof: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(len(proof))
            return head == proof or (len(head) < len(proof) and proof.startswith(head)) or holds_zeros_only(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def holds_zeros_only(path: Path) -> bool:
    """Whether a file holds no byte but zero; also an empty one. Raises OSError."""
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            if block.strip(b"\0"):
                return False
    return True


def open_own(path: Path, proof: bytes, flags: int) -> int:
    """Open a file of rtpose's own for writing, made if it is not there, and never through a link; return its descriptor.

    flags: of `os.open`, beside those. Raises InputError as `check_own` does, and OSError.
    """
    check_own(path, proof)
    return os.open(path, flags | os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)

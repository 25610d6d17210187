"""Where results go, one file a kind."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError

UNFINISHED = ".unfinished"
"""What a file is called while it is written that takes its place at the end."""
_LONGEST = ".refined" + UNFINISHED
"""The most that is put behind a file's name while it is being written."""


def check_output(path: Path, endings: Collection[str], *, overwrite: bool, source: Path | None = None) -> None:
    """Raise InputError unless `path` can become an output file: call it before the work starts.

    endings: the suffixes, with their dot, that the caller can write. source: a file that its own result must not overwrite.
    """
    if path.suffix.lower() not in endings:
        raise InputError(f"cannot write {path}: its name should end in {', '.join(endings)}")
    for name in (path, path.with_name(path.name + _LONGEST)):
        try:
            os.stat(name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder")
    if path.exists() and not os.access(path, os.W_OK):
        raise InputError(f"cannot write {path}: it is write-protected")
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise InputError(f"{path} is the source itself: choose another output")
    if path.exists() and not overwrite and path.suffix == ".partial":
        raise InputError(f"{path} is what a run left that was cut off: say --resume to go on, or --overwrite")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: choose another name, or say --overwrite")
    check_folder(path.parent)


def check_distinct(outputs: Iterable[Path], inputs: Iterable[Path] = ()) -> None:
    """Raise InputError where two outputs are the same file, or an output is an input, also by way of links."""
    # os.path.exists, and not Path.exists, which raises where a name is too long: whoever opens the file says that better.
    read = [path for path in inputs if os.path.exists(path)]
    seen: set[Path] = set()
    for path in outputs:
        if any(os.path.exists(path) and path.samefile(one) for one in read):
            raise InputError(f"{path} is read by this run: choose another output")
        if path.resolve() in seen:
            raise InputError(f"{path} is to hold two outputs: give each a name of its own")
        seen.add(path.resolve())


def check_folder(folder: Path) -> None:
    """Raise InputError unless files can be made in `folder`."""
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}") from None


def make_folder(folder: Path) -> None:
    """Make `folder` in one that is there, unless it is there itself. Raises InputError where files cannot be made in it."""
    there = os.path.exists(folder)
    if there and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder")
    check_folder(folder if there else folder.parent)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when all of it was written: what was there stays where that fails.

    Raises OSError.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    if unfinished.is_symlink() and (unfinished.is_file() or not unfinished.exists()):
        raise OSError(errno.ELOOP, f"{unfinished} is a link, which is not followed", str(unfinished))
    try:
        with open(unfinished, "wb") as file:
            yield file
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise

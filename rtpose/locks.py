"""One run at a time writes an output: a lock on each, which ends with the process, however that ends.

The lock is the system's (flock), on a file `.NAME.lock` beside the output, which says who holds it and is removed at the end. A process
that was killed leaves that file, not the lock: the next run takes it over. Between machines it holds as far as the file system has it so
(NFS does; a machine that vanishes keeps its locks until the server forgets it).
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from os.path import exists, isdir, isfile
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import InputError
from .integrity import check_own

IN_FOLDER = ".rtpose.lock"
"""The lock of a folder in one that cannot be written."""
_PROOF = b'{"rtpose lock":'
_WITHOUT = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""What a file system says that has no locks."""

_log = logging.getLogger(__name__)


@contextmanager
def locked(*outputs: Path | str | None) -> Iterator[None]:
    """Hold these outputs, files or folders, each with all that is written beside it (journal, .partial). None and "-" are none.

    Raises InputError, which names the holder, where another run writes one of them. What cannot be written at all is passed over: whoever
    checks the output says so.
    """
    paths = [Path(output) for output in outputs if output is not None and str(output) != "-"]
    # In one order, so that of two runs with the same outputs one gets all of them.
    # os.path: what pathlib asks raises where a name is too long, of which whoever checks the output says more.
    named = [(Path(os.path.realpath(path)), path) for path in paths]
    places = {place: path for place, path in named if isdir(place) or isfile(place) or not exists(place)}
    with ExitStack() as held:
        for real, path in sorted(places.items()):
            _hold(real, path, held)
        yield


def _hold(real: Path, path: Path, held: ExitStack) -> None:
    name = real.name if len(os.fsencode(real.name)) < 240 else hashlib.blake2b(os.fsencode(real.name), digest_size=16).hexdigest()
    for place in (real.parent / f".{name}.lock", *([real / IN_FOLDER] if isdir(real) else [])):
        if not os.access(place.parent, os.W_OK):
            continue
        check_own(place, _PROOF)
        lock = FileLock(place, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(
                f"{path} is being written by another run of rtpose ({_holder(place)}): wait for it, or choose another name"
            ) from None
        except (OSError, NotImplementedError) as error:  # the latter is filelock's word for a file system without flock
            if isinstance(error, OSError) and error.errno not in _WITHOUT:
                raise InputError(f"cannot lock {path} by {place}: {error.strerror}") from None
            _log.warning("%s has no locks: nothing keeps another run from the same output", place.parent)
            return
        held.callback(_release, lock, place)
        _sign(place)
        return


def _sign(place: Path) -> None:
    said = {"rtpose lock": 1, "pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with suppress(OSError):  # a full disk: the lock holds all the same
        file = os.open(place, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(file, json.dumps(said).encode() + b"\n")
        finally:
            os.close(file)


def _holder(place: Path) -> str:
    try:
        with open(place, "rb") as file:
            said = json.loads(file.read(4096))
        return f"process {int(said['pid'])} on {said['host']}, since {said['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "one that has just begun"


def _release(lock: FileLock, place: Path) -> None:
    # While it is held: whoever waits for this file finds it gone, and takes a new one.
    with suppress(OSError):
        place.unlink()
    lock.release(force=True)

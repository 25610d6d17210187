"""Functions compiled by numba, whose machine code is kept on disk, checked before it is used, and compiled again where it is damaged.

numba itself believes whatever lies in its cache. So its files are written here with a checksum in front, by the same names but for the
ending of the function's (`-checked`), in the place that numba finds (see `folders.make_do`).
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.dispatcher import Dispatcher

Function = TypeVar("Function", bound=Callable[..., Any])

_MARK = b"rtpose machine code 1\n"
_DIGEST = 16
"""Bytes of the checksum that follows the mark."""

_log = logging.getLogger(__name__)


def jit(function: Function, **options: Any) -> Function:
    """Decorator: compile with numba (`numba.njit`, with these options), the machine code kept on disk."""
    compiled: Any = numba.njit(**options)(function)
    if isinstance(compiled, Dispatcher):  # else NUMBA_DISABLE_JIT is set
        cast(Any, compiled)._cache = _Cache(function)
    return cast(Function, compiled)


class _Files(IndexDataCacheFile):
    """The index of a function's machine code, and the code for each of its signatures: each file with its checksum.

    What cannot be read is not there, what cannot be written is left out: both cost a compilation at the next start.
    """

    def _load_index(self) -> dict[Any, str]:
        said = self._read(self._index_path)
        version, stamp, names = (None, None, {}) if said is None else pickle.loads(said)
        return names if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._write(self._index_path, pickle.dumps((self._version, self._source_stamp, overloads)))

    def _load_data(self, name: str) -> Any:
        said = self._read(self._data_path(name))
        if said is None:
            raise FileNotFoundError(name)  # as if it were not there: see `load`
        return pickle.loads(said)

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), self._dump(data))

    def _read(self, path: str) -> bytes | None:
        """What was written, None where there is nothing or it is damaged."""
        try:
            with open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            _say(path, f"cannot be read: {error.strerror}")
            return None
        begin = len(_MARK) + _DIGEST
        if data[:begin] != _MARK + _checksum(data[begin:]):
            _say(path, "is damaged")
            return None
        return data[begin:]

    def _write(self, path: str, data: bytes) -> None:
        try:
            with self._open_for_write(path) as file:
                file.write(_MARK + _checksum(data) + data)
        except OSError as error:
            _say(path, f"cannot be written: {error.strerror}")


class _Cache(FunctionCache):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        locator = self._impl.locator
        self._cache_file = _Files(self._cache_path, f"{self._impl.filename_base}-checked", locator.get_source_stamp())

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:  # the folder vanished, and cannot be made
            _say(self._cache_file._index_path, f"cannot be written: {error.strerror}")


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()


_told: set[str] = set()


def _say(path: str, what: str) -> None:
    """Once is enough for all that lies in a folder."""
    folder, name = os.path.split(path)
    if folder not in _told:
        _told.add(folder)
        _log.warning("compiled code in %s %s (%s): what is needed is compiled again", folder, what, name)

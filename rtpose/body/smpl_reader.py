"""Reads the pickles and archives of SMPL files in a process of its own, with limits on memory and time.

A pickle is a program. The unpickler here gives it stand-ins for every class and function that an SMPL file names, numpy's and scipy's
among them: they keep what they are given and build nothing. Arrays are then made of the kept bytes, after their shapes, types
and lengths have been checked. Run as `python -m rtpose.body.smpl_reader KEY...`: the file comes in by stdin; stdout is an .npz of those
keys that are there, or `E` and what is wrong.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import I64

MAX_BYTES = 512 << 20
"""Of an SMPL file; the largest that are published have some 100 MB."""
MAX_MEMORY = 2 << 30
"""Bytes of address space of the reading process."""
MAX_SECONDS = 60
"""Processor time of the reading process."""
MAX_NUMBERS = 1 << 27
"""Of one array. SMPL's largest has 6.2 million."""


class NotSmpl(Exception):
    """The file is not an SMPL file; the message says why, without the file's name."""


def read_smpl(path: Path, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays `keys` of an SMPL .pkl or .npz, those that are there. Raises OSError where it cannot be read, NotSmpl where it is none."""
    if path.stat().st_size > MAX_BYTES:
        raise NotSmpl(f"is larger than {MAX_BYTES >> 20} MB, which no SMPL file is")
    command = [sys.executable, "-m", "rtpose.body.smpl_reader", *keys]
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    paths = os.pathsep.join(filter(None, sys.path))
    with path.open("rb") as file:
        try:
            done = subprocess.run(
                command, stdin=file, capture_output=True, timeout=5 * MAX_SECONDS, env=os.environ | one | {"PYTHONPATH": paths}
            )
        except subprocess.TimeoutExpired:
            raise NotSmpl("takes too long to read: it is no SMPL file, or is damaged") from None
    if done.stdout[:1] == b"E":
        raise NotSmpl(done.stdout[1:].decode("utf-8", "replace"))
    if done.returncode or done.stdout[:2] != b"PK":
        raise NotSmpl(f"ended the process that read it (code {done.returncode}): it is no SMPL file, or is damaged")
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


class _Foreign(Exception):
    """The pickle asks for a class or function that no SMPL file needs."""


class _Kept:
    """Stands in for an object of a foreign class: keeps arguments and state, and does nothing."""

    __slots__ = ("args", "state")

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Kept):
    __slots__ = ()


class _Buffer(_Kept):
    __slots__ = ()


class _Scalar(_Kept):
    __slots__ = ()


class _Dtype(_Kept):
    __slots__ = ()


class _Ch(_Kept):
    __slots__ = ()


class _Select(_Kept):
    __slots__ = ()


class _Csc(_Kept):
    __slots__ = ()


class _Csr(_Kept):
    __slots__ = ()


class _Function:
    """Stands in for a function; unlike a real one it has nothing that a pickle could set."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise NotSmpl("is damaged (a function with a state)")


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 writes bytes into a pickle that Python 2 can read."""
    if encoding not in ("latin1", "latin-1"):
        raise _Foreign(f"_codecs.encode to {encoding}")
    return text.encode("latin1")


def _new(cls: Any, base: Any, state: Any) -> Any:
    """How Python 2 wrote objects: `copy_reg._reconstructor`."""
    if not (isinstance(cls, type) and issubclass(cls, _Kept)):
        raise _Foreign(f"copy_reg._reconstructor of {getattr(cls, '__name__', type(cls).__name__)}")
    return cls()


def _names() -> dict[tuple[str, str], Any]:
    """(module, name) as a pickle spells them -> its stand-in."""
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _Kept,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _Function(_latin1),
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = _Array
        names[f"{core}.multiarray", "scalar"] = _Scalar
        names[f"{core}.numeric", "_frombuffer"] = _Buffer
    for builtins in ("__builtin__", "builtins"):
        names[builtins, "set"] = names[builtins, "object"] = _Kept
    for registry in ("copy_reg", "copyreg"):
        names[registry, "_reconstructor"] = _Function(_new)
    names["chumpy.ch", "Ch"] = names["chumpy", "Ch"] = _Ch
    names["chumpy.reordering", "Select"] = _Select
    for stand, form in ((_Csc, "csc"), (_Csr, "csr")):
        for module in (f"scipy.sparse.{form}", f"scipy.sparse._{form}"):
            for kind in ("matrix", "array"):
                names[module, f"{form}_{kind}"] = stand
    return names


class _Inert(pickle.Unpickler):
    """Builds strings, numbers, containers and stand-ins, and nothing else."""

    names = _names()

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, fix_imports=False, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.names[module, name]
        except KeyError:
            raise _Foreign(f"{module}.{name}") from None


def _array(item: Any, depth: int = 0) -> Any:
    """The array that an unpickled item stands for. Raises ValueError, TypeError, KeyError or IndexError where it stands for none."""
    if depth > 8:
        raise ValueError("objects within objects")
    if isinstance(item, _Array):
        _, shape, dtype, fortran, data = item.state
        if isinstance(data, list):  # of objects; an .npz wraps what is no array in an array without axes
            if len(data) != 1:
                raise ValueError("an array of objects")
            return _array(data[0], depth + 1)
        return _of_bytes(data, dtype, shape, "F" if fortran else "C")
    if isinstance(item, _Buffer):
        data, dtype, shape, order = item.args
        return _of_bytes(data, dtype, shape, order)
    if isinstance(item, _Scalar):
        dtype, data = item.args
        return _of_bytes(data, dtype, (), "C")
    if isinstance(item, _Ch):
        return _array(item.state["x"], depth + 1)
    if isinstance(item, _Select):
        picked = np.ravel(_array(item.state["a"], depth + 1))[_array(item.state["idxs"], depth + 1)]
        return picked.reshape(_shape(item.state["preferred_shape"])) if "preferred_shape" in item.state else picked
    if isinstance(item, _Csc | _Csr):
        return _dense(item, depth)
    if isinstance(item, _Kept):
        raise ValueError("no array")
    if isinstance(item, np.ndarray):
        return item
    return np.array(item, np.float64)  # a number, or a list of them


def _shape(shape: Any) -> tuple[int, ...]:
    sizes = tuple(int(_array(size)) if isinstance(size, _Kept) else size for size in shape)
    if len(sizes) > 8 or not all(type(size) is int and 0 <= size <= MAX_NUMBERS for size in sizes):
        raise ValueError("no shape of an array")
    if math.prod(sizes) > MAX_NUMBERS:
        raise ValueError(f"more than {MAX_NUMBERS} numbers")
    return sizes


def _of_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    if isinstance(data, str):
        data = data.encode("latin1")  # Python 2 had one type for both
    code = dtype.args[0] if isinstance(dtype, _Dtype) and dtype.args else None
    byte_order = dtype.state[1] if isinstance(dtype, _Dtype) and dtype.state else "="
    if not (isinstance(code, str) and re.fullmatch(r"[fiu][1248]|b1", code) and byte_order in ("<", ">", "=", "|")):
        raise ValueError("not of plain numbers")
    kind, sizes = np.dtype(code if byte_order == "|" else byte_order + code), _shape(shape)
    if not isinstance(data, bytes | bytearray) or len(data) != math.prod(sizes) * kind.itemsize or order not in ("C", "F"):
        raise ValueError("its bytes do not fit its shape")
    return np.frombuffer(data, kind).reshape(sizes, order=order)


def _dense(item: _Csc | _Csr, depth: int) -> NDArray[Any]:
    """A compressed matrix of scipy as a dense one; entries named twice add up."""
    state = item.state
    rows, columns = _shape(state.get("_shape") or state["shape"])
    data, indices, indptr = (np.ravel(_array(state[name], depth + 1)) for name in ("data", "indices", "indptr"))
    major, minor = (columns, rows) if isinstance(item, _Csc) else (rows, columns)
    if len(indptr) != major + 1 or indptr[0] != 0 or indptr[-1] != len(data) or len(indices) != len(data):
        raise ValueError("no compressed matrix")
    counts: I64 = indptr[1:].astype(np.int64) - indptr[:-1].astype(np.int64)
    if (counts < 0).any() or (len(indices) and not (indices.min() >= 0 and indices.max() < minor)):
        raise ValueError("no compressed matrix")
    dense = np.zeros((major, minor), np.float64)
    np.add.at(dense, (np.repeat(np.arange(major), counts), indices.astype(np.int64)), data)
    return dense.T if isinstance(item, _Csc) else dense


def _member(content: bytes) -> Any:
    """One array of an .npz; an array of objects is a pickle after the header."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        return _Inert(file).load()
    if dtype.kind in "SU":
        return None  # words, such as the gender
    kept = _Dtype(dtype.str[1:])
    kept.state = (3, dtype.str[0])
    return _of_bytes(content[file.tell() :], kept, shape, "F" if fortran else "C")


def _load(content: bytes) -> Any:
    if content[:2] != b"PK":
        return _Inert(io.BytesIO(content)).load()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
            raise NotSmpl(f"unpacks to more than {MAX_BYTES >> 20} MB, which no SMPL file does")
        return {name.removesuffix(".npy"): _member(archive.read(name)) for name in archive.namelist()}


def _answer(content: bytes, keys: Sequence[str]) -> bytes:
    try:
        data = _load(content)
    except _Foreign as error:
        raise NotSmpl(
            f"is a pickle that wants to use {error}, which no SMPL file needs: it was refused, none of it was run"
        ) from None
    except (MemoryError, NotSmpl):
        raise
    except Exception as error:  # bytes that are no pickle make the unpickler raise almost anything
        raise NotSmpl(f"is not an SMPL file (.pkl or .npz), or is damaged ({error or type(error).__name__})") from None
    if not isinstance(data, dict):
        kind = "an object of a foreign class" if isinstance(data, _Kept) else f"a {type(data).__name__}"
        raise NotSmpl(f"is not an SMPL file: it holds {kind}, SMPL is a dictionary")
    arrays = {}
    for key in keys:
        if key in data:
            try:
                arrays[key] = _array(data[key])
            except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
                raise NotSmpl(f": {key} is not an array of numbers ({error})") from None
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def main() -> int:
    """Read stdin under the limits and answer on stdout."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = _answer(sys.stdin.buffer.read(), sys.argv[1:])
    except NotSmpl as error:
        answer = b"E" + str(error).encode("utf-8", "replace")
    except MemoryError:
        answer = b"Easks for more memory than there is: it is no SMPL file"
    sys.stdout.buffer.write(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())

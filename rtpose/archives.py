"""Archives of arrays (.npz) that users bring, and that may be damaged."""

from __future__ import annotations

import lzma
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)
"""What zipfile raises of a damaged archive; RuntimeError where it seems to have a password, or a compression that nobody knows."""

SPARE, RATIO = 64 << 20, 64
"""An archive may unpack to `SPARE` bytes, and to `RATIO` times its own size; results unpack to some four times theirs."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz. Raises OSError where it cannot be read, ValueError where it is none; a damaged one may raise either."""
    try:
        check_sizes(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (*DAMAGED, MemoryError) as error:  # a damaged header may ask for more memory than there is
        raise ValueError(str(error) or "it is damaged") from None


def check_sizes(path: Path) -> None:
    """Raise ValueError, before anything is unpacked, where an array's header does not fit its bytes, or all unpack to far too much."""
    with zipfile.ZipFile(path) as archive:
        total = 0
        for info in archive.infolist():
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read_header(member)
                if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != info.file_size - member.tell():
                    raise ValueError(f"{info.filename} has not the bytes of its shape")
            total += info.file_size
        if total > SPARE + RATIO * path.stat().st_size:
            raise ValueError(
                f"it unpacks to {total >> 20} MB, far more than its {path.stat().st_size >> 10} kB can hold of results"
            )

"""Archives of arrays (.npz) that users bring, and that may be damaged."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)
"""What zipfile raises of a damaged archive; RuntimeError where it seems to have a password, or a compression that nobody knows."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz. Raises OSError where it cannot be read, ValueError where it is none; a damaged one may raise either."""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is no .npz")
        with archive:
            return {name: archive[name] for name in archive.files}
    except (*DAMAGED, MemoryError) as error:  # a damaged header may ask for more memory than there is
        raise ValueError(str(error) or "it is damaged") from None

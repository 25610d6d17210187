"""Archives that were damaged on their way: read, or refused in one way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rtpose.archives import read_arrays


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_wherever_a_bit_is_flipped_the_file_is_read_or_said_to_be_damaged(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "x.npz"
    random = np.random.default_rng(0)
    written = {"numbers": random.normal(size=(20, 3)).round(1), "words": np.array(["one", "two"]), "none": np.zeros((0, 4))}
    save(path, **written)
    whole = path.read_bytes()
    assert {name: array.tolist() for name, array in read_arrays(path).items()} == {n: a.tolist() for n, a in written.items()}
    reasons: list[str] = []
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            read_arrays(path)
        except (OSError, ValueError) as error:
            reasons.append(str(error))
    assert all(reasons)
    assert len(reasons) > len(whole) / 2


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(FileNotFoundError):
        read_arrays(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="File is not a zip file"):
        read_arrays(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="File is not a zip file"):
        read_arrays(path)

"""Damaged small files of each format are read or refused with one line, and no size they claim is believed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtpose import pictures
from rtpose.archives import read_arrays
from rtpose.body.camera import read_calibration
from rtpose.errors import InputError
from rtpose.models.darknet import import_darknet
from rtpose.sinks import data
from rtpose.sinks.data import read_results


def test_a_line_without_an_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MAX_LINE", 1000)
    (tmp_path / "a.jsonl").write_bytes(b"{" + b" " * 5000)
    with pytest.raises(InputError, match="line 1: longer than"):
        read_results(tmp_path / "a.jsonl")


def test_an_archive_of_far_more_than_its_size_is_not_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(100 << 20, np.uint8))
    with pytest.raises(ValueError, match="unpacks to"):
        read_arrays(tmp_path / "bomb.npz")
    np.savez_compressed(tmp_path / "good.npz", a=np.arange(12.0).reshape(3, 4))
    assert np.array_equal(read_arrays(tmp_path / "good.npz")["a"], np.arange(12.0).reshape(3, 4))


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (64, 32)).save(tmp_path / "a.png")
    assert pictures.read_picture(tmp_path / "a.png").shape == (32, 64, 3)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 64 * 32 - 1)
    with pytest.raises(InputError, match="64x32, more than"):
        pictures.read_picture(tmp_path / "a.png")


def test_a_network_cannot_take_a_name_that_is_taken(tmp_path: Path) -> None:
    for name in ("default", "none", "../a"):
        with pytest.raises(InputError, match=r"called|exists"):
            import_darknet(tmp_path / "a.cfg", tmp_path / "a.weights", name=name, folder=tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_calibrations(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    whole = json.dumps({"K": [[500, 0, 320], [0, 500, 240], [0, 0, 1]], "image_size": [640, 480]})
    words = ["null", "1e999", "-1", "[]", "{}", '"x"', "[" * 2000, "9" * 400]
    path, lines = tmp_path / "c.json", list[str]()
    for _ in range(100):
        at = int(random.integers(1, len(whole)))
        path.write_text(whole[:at] + str(random.choice(words)) + whole[at + int(random.integers(0, 8)) :])
        try:
            assert read_calibration(path, 640, 480).fx > 0
        except InputError as error:
            lines.append(str(error))
    assert lines
    assert not any("\n" in line for line in lines)
    path.write_text(whole)
    assert read_calibration(path, 640, 480).fx == 500

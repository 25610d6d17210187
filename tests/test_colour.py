"""Colours of video: matrices, ranges, HDR and wide gamuts. Every clip is six fields of one colour."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtpose.colour import HLG, PQ, Coding, hlg_to_light, light_to_pq, pq_to_light, sdr_of
from rtpose.source import open_source

COLOURS = np.array([[200, 40, 60], [30, 180, 50], [40, 60, 210], [180, 180, 180], [60, 60, 60], [230, 230, 230]]) / 255
MATRICES = {5: (0.299, 0.114), 1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}
"""Colorspace of H.273 -> weights of red and blue."""


def clip_of(path: Path, rgb: Any, matrix: int, *, full: bool = False, deep: bool = False, tags: tuple[int, int] = (2, 2)) -> None:
    """rgb: code values 0 .. 1. tags: primaries and transfer. Written without loss."""
    red, blue = MATRICES[matrix]
    y = rgb @ np.array([red, 1 - red - blue, blue])
    planes = np.stack([y, (rgb[:, 2] - y) / 2 / (1 - blue), (rgb[:, 0] - y) / 2 / (1 - red)])
    scale = np.array([[255, 255, 255], [219, 224, 224]][not full])[:, None]
    values = planes * scale + np.array([[0 if full else 16], [128], [128]])
    kind = "yuv444p10le" if deep else "yuv444p"
    pixels = np.round(values * (4 if deep else 1)).astype("<u2" if deep else np.uint8)
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 16 * len(rgb), 16, kind
        context = video.codec_context
        context.colorspace, context.color_range = matrix, 2 if full else 1
        context.color_primaries, context.color_trc = tags
        frame = av.VideoFrame(16 * len(rgb), 16, kind)
        for plane, row in zip(frame.planes, pixels, strict=True):
            lines = np.zeros((plane.height, plane.line_size), np.uint8)
            line = np.repeat(row, 16).view(np.uint8)
            lines[:, : len(line)] = line
            plane.update(lines.tobytes())
        frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = matrix, 2 if full else 1, *tags
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        out.mux(video.encode(frame))
        out.mux(video.encode(None))


def seen(path: Path) -> tuple[Any, list[str]]:
    source = open_source(path)
    (frame,) = source.frames()
    return frame.image[8, 8::16].astype(float), source.notes


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", list(MATRICES))
def test_the_matrix_and_range_that_a_clip_is_tagged_with_are_used(tmp_path: Path, matrix: int, full: bool, deep: bool) -> None:
    clip_of(tmp_path / "clip.mkv", COLOURS, matrix, full=full, deep=deep)
    colours, notes = seen(tmp_path / "clip.mkv")
    assert np.abs(colours - 255 * COLOURS).max() < 4
    assert notes == []


def test_the_transfer_functions_have_their_published_values() -> None:
    # BT.2408 table 1: reference white, 203 cd/m2, is 58 % of PQ and 75 % of HLG; BT.2100: both ends.
    assert float(light_to_pq(np.float64(203))) == pytest.approx(0.58, abs=0.003)
    assert hlg_to_light(np.full(3, 0.75)) == pytest.approx(203, abs=1)
    assert hlg_to_light(np.ones(3)) == pytest.approx(1000, abs=0.1)
    assert float(pq_to_light(np.float64(1))) == pytest.approx(10000)
    light = np.geomspace(0.01, 10000, 50)
    assert pq_to_light(light_to_pq(light)) == pytest.approx(light, rel=1e-6)


def test_tone_mapping_keeps_middle_tones_order_and_white() -> None:
    grey = np.repeat(np.linspace(0, float(light_to_pq(np.float64(1000))), 100)[:, None], 3, axis=1)
    mapped = sdr_of(grey, Coding(PQ, 9, 1000.0))
    assert (np.diff(mapped[:, 0]) > 0).all()
    assert np.ptp(mapped, axis=1).max() < 0.005  # grey stays grey
    assert mapped[-1] == pytest.approx(1, abs=1e-6)
    middle = sdr_of(light_to_pq(np.full(3, 26.0)), Coding(PQ, 9, 1000.0))
    assert middle == pytest.approx((26 / 203) ** (1 / 2.4), abs=0.002)


BT709_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""ITU-R BT.2087-0, linear light."""


@pytest.mark.parametrize(("kind", "said"), [("pq", "HDR (PQ)"), ("hlg", "HDR (HLG)"), ("wide", "a wide gamut")])
def test_hdr_shows_ordinary_colours_as_they_are(tmp_path: Path, kind: str, said: str) -> None:
    """Colours darker than the knee of the tone mapping, coded as each kind has them, come out as they went in."""
    wanted = COLOURS * (0.75 if kind != "wide" else 1.0)
    light = np.maximum(wanted**2.4 @ BT709_TO_BT2020.T, 0)
    if kind == "pq":
        coded, transfer = light_to_pq(203 * light), PQ
    elif kind == "hlg":
        screen = 203 / 1000 * light
        scene = screen * (screen @ np.array([0.2627, 0.6780, 0.0593]))[:, None] ** (1 / 1.2 - 1)
        a = 0.17883277
        log = a * np.log(np.maximum(12 * scene - (1 - 4 * a), 1e-9)) + 0.5 - a * np.log(4 * a)
        coded, transfer = np.where(scene <= 1 / 12, np.sqrt(3 * scene), log), HLG
    else:
        coded, transfer = light ** (1 / 2.4), 14
    clip_of(tmp_path / "clip.mkv", coded, 9, deep=True, tags=(9, transfer))
    colours, notes = seen(tmp_path / "clip.mkv")
    assert np.abs(colours - 255 * wanted).max() < 6
    assert len(notes) == 1
    assert said in notes[0]
    assert "BT.709" in notes[0]

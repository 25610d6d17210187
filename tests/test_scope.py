"""What --region, --tiles and --people mean, and what is refused with one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpose.errors import InputError
from rtpose.scope import OVERLAP, grid_of, parts_of, people_of, region_of
from rtpose.settings import Settings

SIDES = st.integers(32, 5000)
SHARES = st.floats(0, 1)


def test_people() -> None:
    assert people_of("all") == people_of("main") == frozenset()
    assert people_of("4, 1,4") == {1, 4}


@pytest.mark.parametrize("track", ["", "0", "1,", "-2", "1.5", "players", "main,1", "²"])
def test_who_is_nobody(track: str) -> None:
    with pytest.raises(InputError, match=r"--people .*: give all, main, or the numbers of people"):
        Settings(track=track)


def test_regions_in_pixels_and_percentages() -> None:
    assert region_of(None, 640, 480) == (0, 0, 640, 480)
    assert region_of("10, 20,630,480", 640, 480) == (10, 20, 630, 480)
    assert region_of("0%,20%,50%,100%", 640, 480) == (0, 96, 320, 480)
    assert region_of("12.5%,0,320,99.5", 640, 480) == (80, 0, 320, 100)


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("1,2,3", "four numbers"),
        ("1,2,3,4,5", "four numbers"),
        ("left,0,10,10", "four numbers"),
        ("nan,0,10,10", "four numbers"),
        ("1e9,0,10,10", "four numbers"),
        ("", "four numbers"),
        ("-1,0,10,10", "not in the picture, which has 640x480 px"),
        ("0,0,641,480", "not in the picture"),
        ("0%,0%,100%,101%", "not in the picture"),
        ("10,10,10,20", "is empty"),
        ("300,0,200,480", "is empty"),
        ("0,0,0.1%,0.1", "is empty"),
    ],
)
def test_regions_that_cannot_be(region: str, words: str) -> None:
    with pytest.raises(InputError, match=f"--region .*{words}"):
        region_of(region, 640, 480)


def test_how_many_tiles() -> None:
    assert parts_of(None, "1", 640, 480) == [(0, 0, 640, 480)]
    assert grid_of("3x2", 100, 100) == (3, 2)
    assert grid_of("6", 1920, 1080) == (3, 2)
    assert grid_of("6", 1080, 1920) == (2, 3)
    assert grid_of("auto", 1280, 720) == (1, 1)
    assert grid_of("auto", 1920, 1080) == (2, 1)
    assert grid_of("auto", 3840, 2160) == (4, 2)


@pytest.mark.parametrize("tiles", ["", "0", "none", "2x0", "x2", "3x", "9x9", "65", "2.5", "-4", "2x2x2"])
def test_tiles_that_cannot_be(tiles: str) -> None:
    with pytest.raises(InputError, match=r"--tiles .*: give auto, a number from 1 to 64, or columns and rows such as 3x2"):
        Settings(tiles=tiles)


@given(SIDES, SIDES, st.integers(1, 8), st.integers(1, 8), SHARES, SHARES)
def test_who_is_small_is_whole_in_a_tile(width: int, height: int, columns: int, rows: int, across: float, down: float) -> None:
    around, *tiles = parts_of(None, f"{columns}x{rows}", width, height)
    assert around == (0, 0, width, height)
    assert len(tiles) == (columns * rows if columns * rows > 1 else 0)
    for x0, y0, x1, y1 in tiles:
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
    if tiles:
        least = (min(t[2] - t[0] for t in tiles), min(t[3] - t[1] for t in tiles))
        size = [max(0.0, OVERLAP * side - 2) for side in least]
        left, top = across * (width - size[0]), down * (height - size[1])
        assert any(t[0] <= left and left + size[0] <= t[2] and t[1] <= top and top + size[1] <= t[3] for t in tiles)


def test_tiles_are_of_the_region() -> None:
    around, *tiles = parts_of("100,50,500,350", "2x2", 640, 480)
    assert around == (100, 50, 500, 350)
    assert (min(t[0] for t in tiles), min(t[1] for t in tiles)) == (100, 50)
    assert (max(t[2] for t in tiles), max(t[3] for t in tiles)) == (500, 350)

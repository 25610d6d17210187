"""Where people are looked for, and who is followed: what `--region`, `--tiles` and `--people` mean."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from .errors import InputError

Rect = tuple[int, int, int, int]
"""A part of a picture: x0, y0, x1, y1 in px, without the column x1 and the row y1."""

OVERLAP = 0.2
"""Of a tile's side: so much of it is also in the next tile, so that small people are whole in one of them."""
FINE = 1280
"""px: the most that `--tiles auto` lets a side of a tile have."""
MOST = 64
"""Tiles of a picture."""
SMALLEST = 32
"""px: in a region or a tile whose sides are shorter, nobody is found."""

_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(%?)")


def people_of(track: str) -> frozenset[int]:
    """The numbers that `--people` names: none in `all` and `main`. Raises InputError for what is neither."""
    if track in ("all", "main"):
        return frozenset()
    parts = [part.strip() for part in track.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"--people {track}: give all, main, or the numbers of people, such as 1,4")
    return frozenset(map(int, parts))


def check_region(region: str) -> list[tuple[float, bool]]:
    """The four numbers of X0,Y0,X1,Y1, and which are percentages. Raises InputError where there are not four."""
    parts = [_NUMBER.fullmatch(part.strip()) for part in region.split(",")]
    found = [(float(part[1]), part[2] == "%") for part in parts if part]
    if len(parts) != 4 or len(found) != 4:
        raise InputError(f"--region {region}: give four numbers X0,Y0,X1,Y1, in px or as percentages (0%,20%,100%,100%)")
    if all(0 <= value <= 1 and not share for value, share in found):
        percentages = ",".join(f"{100 * value:g}%" for value, _ in found)
        raise InputError(f"--region {region} would be a single px: percentages are written {percentages}")
    return found


def region_of(region: str | None, width: int, height: int) -> Rect:
    """The region of a picture of this size, rounded to px; None is all of it.

    Raises InputError where it is empty or not in the picture.
    """
    if region is None:
        return 0, 0, width, height
    sides = zip(check_region(region), (width, height, width, height), strict=True)
    x0, y0, x1, y1 = (round(value * side / 100 if share else value) for (value, share), side in sides)
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
        raise InputError(f"--region {region} is not in the picture, which has {width}x{height} px")
    if x0 >= x1 or y0 >= y1:
        raise InputError(f"--region {region} is empty: X0 has to be less than X1, and Y0 less than Y1")
    return x0, y0, x1, y1


def check_scope(region: str | None, tiles: str, width: int, height: int) -> None:
    """Raise InputError where nobody could be found in the region of a picture of this size, or in its tiles."""
    x0, y0, x1, y1 = region_of(region, width, height)
    small = min(x1 - x0, y1 - y0)
    if region is not None and small < min(SMALLEST, width, height):
        raise InputError(
            f"--region {region} has {x1 - x0}x{y1 - y0} px, in which nobody can be found: give {SMALLEST} px or more"
        )
    if check_tiles(tiles) in ((0, 0), (1, 0), (1, 1)):
        return
    columns, rows = grid_of(tiles, x1 - x0, y1 - y0)
    if (x1 - x0) / columns < SMALLEST or (y1 - y0) / rows < SMALLEST:
        raise InputError(f"--tiles {tiles} would have {(x1 - x0) // columns}x{(y1 - y0) // rows} px: give fewer, or auto")


def check_tiles(tiles: str) -> tuple[int, int]:
    """Columns and rows of CxR; (0, 0) for `auto`, (n, 0) for a number of tiles. Raises InputError for anything else."""
    if tiles == "auto":
        return 0, 0
    if re.fullmatch(r"\d{1,4}(x\d{1,4})?", tiles, re.ASCII):
        columns, _, rows = tiles.partition("x")
        if 1 <= int(columns) * int(rows or 1) <= MOST:
            return int(columns), int(rows or 0)
    raise InputError(f"--tiles {tiles}: give auto, a number from 1 to {MOST}, or columns and rows such as 3x2")


def grid_of(tiles: str, width: int, height: int) -> tuple[int, int]:
    """How many columns and rows of tiles a part of a picture, of this size, is looked at in."""
    columns, rows = check_tiles(tiles)
    if columns == 0:
        return _pieces(width), _pieces(height)
    if rows:
        return columns, rows
    shapes = [(n, columns // n) for n in range(1, columns + 1) if columns % n == 0]
    return min(shapes, key=lambda shape: abs(math.log(width * shape[1] / (height * shape[0]))))


def parts_of(region: str | None, tiles: str, width: int, height: int, stretch: tuple[float, float] = (1.0, 1.0)) -> list[Rect]:
    """The parts of a picture of this size that the detector looks at: the region, and then the tiles of it, if there are several.

    stretch: how many of its pixels one of those is wide and high that the region is given in.
    """
    x, y = stretch
    a, b, c, d = region_of(region, round(width / x), round(height / y))
    x0, y0, x1, y1 = whole = round(a * x), round(b * y), round(c * x), round(d * y)
    columns, rows = grid_of(tiles, x1 - x0, y1 - y0)
    if columns * rows == 1:
        return [whole]
    return [whole, *((a, b, c, d) for b, d in _cut(y0, y1, rows) for a, c in _cut(x0, x1, columns))]


def _pieces(length: int) -> int:
    """Into how many tiles of at most FINE px a side is cut."""
    return max(1, math.ceil((length / FINE - OVERLAP) / (1 - OVERLAP)))


def _cut(begin: int, end: int, count: int) -> Iterator[tuple[int, int]]:
    """The ends of `count` pieces of equal length that overlap."""
    length = (end - begin) / (count - (count - 1) * OVERLAP)
    for k in range(count):
        first = begin + k * (1 - OVERLAP) * length
        yield math.floor(first), min(end, math.ceil(first + length))

"""Pieces of people that are put together, and kept apart."""

from __future__ import annotations

import numpy as np

from rtpose.refine.identities import Piece, stitch

RED, BLUE = np.tile([0.8, 0.1, 0.1], 3), np.tile([0.1, 0.1, 0.8], 3)


def piece(
    identity: int, begin: int, end: int, x: float, speed: float, colours: np.ndarray, shot: int = 0, view: int = -1
) -> Piece:
    """Somebody 200 px high who walks from x at `speed` px a second from frame `begin` to `end`, 30 a second."""
    made = Piece(identity, shot, begin, begin, view=view)
    for frame in range(begin, end + 1):
        at = x + speed * (frame - begin) / 30
        made.add(frame, frame / 30, np.array([at - 40, 100, at + 40, 300], np.float32), colours, None)
    return made


def identities(pieces: list[Piece]) -> list[list[int]]:
    return [[p.identity for p in person] for person in stitch(pieces)]


def test_somebody_hidden_for_two_seconds_is_the_same() -> None:
    assert identities([piece(1, 0, 60, 100, 100, RED), piece(5, 120, 180, 500, 100, RED)]) == [[1, 5]]


def test_clothes_tell_two_who_cross_apart() -> None:
    # Both vanish behind each other in the middle; the causal pass swapped their numbers.
    pieces = [
        piece(1, 0, 60, 100, 100, RED),
        piece(2, 0, 60, 500, -100, BLUE),
        piece(1, 80, 140, 240, -100, BLUE),
        piece(2, 80, 140, 360, 100, RED),
    ]
    assert identities(pieces) == [[1, 2], [2, 1]]


def test_a_camera_cut_keeps_apart() -> None:
    assert identities([piece(1, 0, 60, 100, 0, RED), piece(1, 61, 90, 100, 0, RED, shot=1)]) == [[1], [1]]


def test_others_are_others() -> None:
    far = piece(7, 70, 90, 1500, 0, RED)
    dressed_otherwise = piece(8, 70, 90, 300, 0, BLUE)
    too_late = piece(9, 400, 420, 300, 0, RED)
    assert identities([piece(1, 0, 60, 100, 100, RED), far, dressed_otherwise, too_late]) == [[1], [7], [8], [9]]


def test_nobody_is_in_two_places() -> None:
    assert identities([piece(1, 0, 60, 100, 0, RED), piece(2, 50, 90, 100, 0, RED)]) == [[1], [2]]


def test_order_does_not_matter() -> None:
    pieces = [piece(i, 40 * i, 40 * i + 30, 100.0 * i, 75, RED) for i in range(6)]
    assert identities(pieces) == identities(pieces[::-1]) == [[0, 1, 2, 3, 4, 5]]


def test_linking_is_best_for_all_and_not_for_the_first() -> None:
    # The one who stands fits the nearest newcomer best, but then nobody is left for the other one.
    pieces = [piece(1, 0, 60, 300, 0, RED), piece(2, 0, 60, 400, 0, RED)]
    pieces += [piece(3, 90, 120, 340, 0, RED), piece(4, 90, 120, 240, 0, RED)]
    assert identities(pieces) == [[1, 4], [2, 3]]


def test_who_stays_in_the_same_place_is_known_when_the_view_comes_back() -> None:
    before, away = piece(1, 0, 60, 300, 0, RED, shot=0, view=0), piece(2, 61, 120, 300, 0, RED, shot=1, view=1)
    after = piece(3, 121, 180, 305, 0, RED, shot=2, view=0)
    assert identities([before, away, after]) == [[1, 3], [2]]
    other = piece(4, 121, 180, 330, 0, RED, shot=2, view=0)
    assert identities([before, away, after, other]) == [[1], [2], [3], [4]]
    assert identities([before, away, piece(3, 121, 180, 305, 0, BLUE, shot=2, view=0)]) == [[1], [2], [3]]

"""Who is who in a whole file.

The causal pass' identities are parted where somebody was lost or the camera cut, and the pieces put together again: two are one
person where the way between them, the size and the clothes fit, judged from both ends and over all that each of them was seen,
which the causal pass could not.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..stages.follow import Part
from ..types import F32, F64

LOST = 0.5
"""Seconds unseen after which an identity has to be confirmed."""
MEMORY = 8.0
"""Seconds after which nobody is recognised."""
FIT = 0.2
"""The least that two pieces of one person must fit, 0..1."""
TRUST = 0.3
"""By how much more they fit where the causal pass, too, took them for one."""
_ENDS = 0.3
"""Seconds over which the velocity at the ends of a piece is taken."""


@dataclass
class Piece:
    """A stretch in which a person was followed without a doubt.

    identity: the causal pass'. shot: which. first, last: frame numbers; head, tail: (time, box) of the first and last moments.
    colours: sum over the frames of what the person wears, 9 numbers 0..1. betas: sum of the shapes, over `bodies` frames. part: how much
    the person takes part.
    """

    identity: int
    shot: int
    first: int
    last: int
    head: list[tuple[float, F32]] = field(default_factory=list)
    tail: deque[tuple[float, F32]] = field(default_factory=deque)
    frames: int = 0
    colours: F64 = field(default_factory=lambda: np.zeros(9))
    betas: F64 | None = None
    bodies: int = 0
    part: Part = field(default_factory=Part)

    def add(self, frame: int, time: float, box: F32, colours: F64, betas: F32 | None) -> None:
        """Another frame of the same person."""
        if not self.head or time - self.head[0][0] <= _ENDS:
            self.head.append((time, box))
        self.tail.append((time, box))
        while time - self.tail[0][0] > _ENDS:
            self.tail.popleft()
        self.last = frame
        self.frames += 1
        self.colours += colours
        if betas is not None and betas.size and np.isfinite(betas).all():
            self.betas = np.float64(betas) if self.betas is None else self.betas + betas
            self.bodies += 1

    @property
    def begin(self) -> float:
        return self.head[0][0]

    @property
    def end(self) -> float:
        return self.tail[-1][0]


def stitch(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """The people, in order of appearance, as the pieces of each in order of time."""
    ordered = sorted(pieces, key=lambda piece: (piece.first, piece.identity))
    links = []
    recent: list[int] = []
    for j, after in enumerate(ordered):
        recent = [i for i in recent if after.begin - ordered[i].end <= MEMORY]
        for i in recent:
            before = ordered[i]
            if before.shot == after.shot and before.last < after.first:
                fit = _fit(before, after) + (TRUST if before.identity == after.identity else 0.0)
                if fit >= FIT:
                    links.append((-fit, i, j))
        recent.append(j)
    following: dict[int, int] = {}
    followed: set[int] = set()
    for _, i, j in sorted(links):
        if i not in following and j not in followed:
            following[i] = j
            followed.add(j)
    people = []
    for i in range(len(ordered)):
        if i not in followed:
            chain = [i]
            while chain[-1] in following:
                chain.append(following[chain[-1]])
            people.append([ordered[k] for k in chain])
    return people


def _fit(before: Piece, after: Piece) -> float:
    """How well one piece continues the other, 0..1: in the way between them, in size and in clothes."""
    gap = after.begin - before.end
    (_, last), (_, first) = before.tail[-1], after.head[0]
    size = max(float((last[2:] - last[:2]).max()), 1.0)
    other = max(float((first[2:] - first[:2]).max()), 1.0)
    half = min(gap / 2, _ENDS)
    there = _middle(last) + half * _velocity(before.tail)
    here = _middle(first) - half * _velocity(after.head)
    way = float(np.hypot(*(here - there))) / (math.sqrt(size * other) * (0.5 + min(gap, 2.0)))
    apart = float(np.abs(before.colours / before.frames - after.colours / after.frames).mean())
    return math.exp(-(way**2) - 2 * math.log(size / other) ** 2 - (apart / 0.15) ** 2)


def _middle(box: F32) -> F64:
    return np.asarray((box[:2] + box[2:]) / 2, np.float64)


def _velocity(moments: list[tuple[float, F32]] | deque[tuple[float, F32]]) -> F64:
    """px a second."""
    (begin, first), (end, last) = moments[0], moments[-1]
    return (_middle(last) - _middle(first)) / (end - begin) if end > begin else np.zeros(2)

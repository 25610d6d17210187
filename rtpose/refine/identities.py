"""Who is who in a whole file.

The causal pass' identities are parted where somebody was lost or the camera cut, and the pieces put together again: two are one
person where the way between them, the size and the clothes fit, judged from both ends and over all that each of them was seen,
which the causal pass could not. Which pieces follow which is found for all of them at once: the links that are likeliest together.
An identity that was seen in every frame is never parted within a shot, however far apart the frames are.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..stages.follow import Part
from ..types import F32, F64

LOST = 0.5
"""Seconds unseen after which an identity has to be confirmed."""
MEMORY = 8.0
"""Seconds after which nobody is recognised; in time lapse ..."""
FRAMES = 16
"""... so many times the usual interval between frames."""
FIT = 0.2
"""The least that two pieces of one person must fit, 0..1."""
TRUST = 0.3
"""By how much more they fit where the causal pass, too, took them for one."""
SAME_VIEW = 0.75
"""The least that two pieces of one person must fit where the camera cut between them and came back to the same view; and twice as well as
either fits any other."""
_ENDS = 0.3
"""Seconds over which the velocity at the ends of a piece is taken; at least two frames."""


@dataclass
class Piece:
    """A stretch in which a person was followed without a doubt.

    identity: the causal pass'. shot: which. view: what the shot shows: shots of the same number show the same, but for -1. first, last:
    frame numbers; head, tail: (time, box) of the first and last moments. colours: sum over the frames of what the person wears, 9 numbers
    0..1. betas: sum of the shapes, over `bodies` frames. part: how much the person takes part.
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
    view: int = -1

    def add(self, frame: int, time: float, box: F32, colours: F64, betas: F32 | None) -> None:
        """Another frame of the same person."""
        if len(self.head) < 2 or time - self.head[0][0] <= _ENDS:
            self.head.append((time, box))
        self.tail.append((time, box))
        while len(self.tail) > 2 and time - self.tail[0][0] > _ENDS:
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


def stitch(pieces: Iterable[Piece], interval: float = 0.0) -> list[list[Piece]]:
    """The people, in order of appearance, as the pieces of each in order of time. interval: usual seconds from frame to frame."""
    ordered = sorted(pieces, key=lambda piece: (piece.first, piece.identity))
    memory = max(MEMORY, FRAMES * interval)
    fits: dict[tuple[int, int], float] = {}
    across: dict[tuple[int, int], float] = {}
    recent: list[int] = []
    for j, after in enumerate(ordered):
        recent = [i for i in recent if after.begin - ordered[i].end <= memory]
        for i in recent:
            before = ordered[i]
            if before.last >= after.first:
                continue
            if before.shot == after.shot:
                fit = _fit(before, after) + (TRUST if before.identity == after.identity else 0.0)
                if fit >= FIT:
                    fits[i, j] = fit
            elif before.view == after.view != -1:
                across[i, j] = _fit(before, after)
        recent.append(j)
    following = _likeliest(len(ordered), fits | _unmistakable(across))
    followed = set(following.values())
    people = []
    for i in range(len(ordered)):
        if i not in followed:
            chain = [i]
            while chain[-1] in following:
                chain.append(following[chain[-1]])
            people.append([ordered[k] for k in chain])
    return people


def _likeliest(n: int, fits: Mapping[tuple[int, int], float]) -> dict[int, int]:
    """Which of n pieces follows which: of all ways in which each has at most one before and one after it, that of the greatest product
    of fits, where one that nothing follows counts as `FIT`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    if not fits:
        return {}
    # Every piece has a place of its own to go to where nothing follows it. A one more on every edge changes nothing, and none is 0.
    rows, columns = (list(ends) for ends in zip(*fits, strict=True))
    most = math.log(1 + TRUST)
    costs = [1 + most - math.log(fit) for fit in fits.values()] + [1 + most - math.log(FIT)] * n
    edges = coo_array((costs, (rows + list(range(n)), columns + list(range(n, 2 * n)))), shape=(n, 2 * n))
    found = min_weight_full_bipartite_matching(edges.tocsr())
    return {i: j for i, j in zip(*(ends.tolist() for ends in found), strict=True) if j < n}


def _unmistakable(fits: Mapping[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    """Those links that fit very well, and that nothing else at either end comes near to."""
    ends: dict[tuple[str, int], list[float]] = defaultdict(list)
    for (i, j), fit in fits.items():
        ends["before", i].append(fit)
        ends["after", j].append(fit)
    rivals = {end: sorted(found)[-2] if len(found) > 1 else 0.0 for end, found in ends.items()}
    return {
        (i, j): fit
        for (i, j), fit in fits.items()
        if fit >= SAME_VIEW and fit >= 2 * max(rivals["before", i], rivals["after", j])
    }


def _fit(before: Piece, after: Piece) -> float:
    """How well one piece continues the other, 0..1: in the way between them, in size and in clothes."""
    gap = after.begin - before.end
    (_, last), (_, first) = before.tail[-1], after.head[0]
    size = max(float((last[2:] - last[:2]).max()), 1.0)
    other = max(float((first[2:] - first[:2]).max()), 1.0)
    there = _middle(last) + _reach(gap, before.tail) * _velocity(before.tail)
    here = _middle(first) - _reach(gap, after.head) * _velocity(after.head)
    way = float(np.hypot(*(here - there))) / (math.sqrt(size * other) * (0.5 + min(gap, 2.0)))
    apart = float(np.abs(before.colours / before.frames - after.colours / after.frames).mean())
    return math.exp(-(way**2) - 2 * math.log(size / other) ** 2 - (apart / 0.15) ** 2)


def _reach(gap: float, moments: Sequence[tuple[float, F32]]) -> float:
    """Seconds of a gap for which the velocity at an end of it is believed: as long as it was measured."""
    return min(gap / 2, max(_ENDS, moments[-1][0] - moments[0][0]))


def _middle(box: F32) -> F64:
    return np.asarray((box[:2] + box[2:]) / 2, np.float64)


def _velocity(moments: Sequence[tuple[float, F32]]) -> F64:
    """px a second."""
    (begin, first), (end, last) = moments[0], moments[-1]
    return (_middle(last) - _middle(first)) / (end - begin) if end > begin else np.zeros(2)

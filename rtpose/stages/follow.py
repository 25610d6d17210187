"""Who is followed: leaves out everybody but the main people, or those with certain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..errors import InputError
from ..scope import people_of
from ..types import F32, Result

STEP = 0.3
"""Seconds after which somebody's joints are compared with where they were: in less, they mostly tremble."""
GAP = 1.0
"""Seconds after which nobody knows what somebody who was not seen has done."""
CALM = 0.05
"""Sizes of a person a second: who does nothing takes part as if moving so fast."""
SHARE = 0.25
"""Who takes part so much as the one who does most is one of the main people."""
FADE = 10.0
"""Seconds in which, without the future, what somebody did falls to 1/e."""


class Part:
    """How much somebody takes part: the way of the joints, in sizes of the person, times the root of that size in px.

    So it grows with the time that they are seen, with how much they move, and with how near they are.
    """

    def __init__(self) -> None:
        self.weight = 0.0
        self._last = self._begin = -math.inf
        self._from: F32 = np.zeros((17, 3), np.float32)

    def add(self, time: float, box: F32, keypoints: F32, before: float = math.inf) -> None:
        """They were seen once more: box (4,) and keypoints (17, 3) px. before: time of the last frame; who was seen in it, was seen
        all the time, however far apart frames are."""
        size = max(float((box[2:] - box[:2]).max()), 1.0)
        if time - self._last <= GAP or self._last >= before:
            self.weight += math.sqrt(size) * CALM * (time - self._last)
        self._last = time
        passed = time - self._begin
        if passed < STEP:
            return
        if passed <= GAP or self._begin >= before:
            self.weight += _way(self._from, keypoints) / math.sqrt(size)
        self._begin, self._from = time, keypoints


def main_people(weights: Mapping[int, float]) -> frozenset[int]:
    """Those whose `Part` weighs enough."""
    least = SHARE * max(weights.values(), default=0.0)
    return frozenset(who for who, weight in weights.items() if weight >= least)


class Follow:
    """The stage. track: `main`, or numbers with commas.

    Without the future the main people are those of the last `FADE` seconds. `seen` has the numbers of
    all people who were there. Raises InputError for `main` in pictures that stand alone.
    """

    name = "follow"

    def __init__(self, track: str) -> None:
        self._main = track == "main"
        self._chosen = people_of(track)
        self._parts: dict[int, Part] = {}
        self._time = 0.0
        self.seen: set[int] = set()

    def __call__(self, result: Result) -> Result:
        self.seen.update(result.people.ids.tolist())
        chosen = self._judge(result) if self._main else self._chosen
        kept = np.array([who in chosen for who in result.people.ids.tolist()], np.bool_)
        return result if kept.all() else replace(result, people=result.people.only(kept))

    def _judge(self, result: Result) -> frozenset[int]:
        """The main people so far."""
        frame, people = result.frame, result.people
        if frame.independent:
            raise InputError("--track main is for people who move: say --sequence if the pictures follow each other")
        before, self._time = self._time, frame.time
        faded = math.exp(-max(frame.time - before, 0.0) / FADE)
        for part in self._parts.values():
            part.weight *= faded
        ids = people.ids.tolist()
        self._parts = {who: part for who, part in self._parts.items() if who in ids or part.weight > 1e-6}
        for row, who in enumerate(ids):
            self._parts.setdefault(who, Part()).add(frame.time, people.boxes[row], people.keypoints[row], before)
        return main_people({who: part.weight for who, part in self._parts.items()})


def _way(before: F32, after: F32) -> float:
    """How far, px, the joints (17, 3) got, by how sure both are."""
    sure = np.minimum(before[:, 2], after[:, 2])
    return float((np.linalg.norm(after[:, :2] - before[:, :2], axis=1) * sure).sum() / (sure.sum() + 1e-9))

"""Calms keypoints: a One-Euro filter per person and joint on real time differences.

Casiez, Roussel, Vogel, "1 EUR Filter", CHI 2012: a low-pass filter whose cut-off rises with speed. Speed is measured in sizes of
the person a second, so the filter does the same near and far; a joint seen with little confidence moves the estimate less.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..jit import jit
from ..types import F32, F64, Result


class Smoother:
    """The stage. cutoff: Hz at rest. speed: Hz added for each size of the person a second. forget: seconds after which a person
    who was away begins anew. What it changes keeps its value from the network in `raw`."""

    name = "smooth"

    def __init__(self, *, cutoff: float = 1.5, speed: float = 8.0, forget: float = 0.5) -> None:
        self._cutoff, self._speed, self._forget = cutoff, speed, forget
        self._states: dict[int, F64] = {}

    def __call__(self, result: Result) -> Result:
        frame, people = result.frame, result.people
        if frame.independent:
            self._states.clear()
            return result
        if len(people) == 0:
            return result
        smoothed = people.keypoints.copy()
        for row, person in enumerate(people.ids.tolist()):
            state = self._states.get(person)
            if state is None or frame.time - state[0] > self._forget:
                state = self._states[person] = np.zeros(1 + 17 * 5)
                state[0] = -np.inf
            box = people.boxes[row]
            size = float(max(box[2] - box[0], box[3] - box[1], 1.0))
            one_euro(state, smoothed[row], frame.time, size, self._cutoff, self._speed)
        for person in [p for p, state in self._states.items() if frame.time - state[0] > self._forget]:
            del self._states[person]
        return replace(result, people=replace(people, keypoints=smoothed))


@jit
def one_euro(state: F64, keypoints: F32, time: float, size: float, cutoff: float, speed: float) -> None:
    """Filter keypoints (17, 3) in place and step `state` (1 + 17 x 5): time, then x, y, dx, dy, weight for each joint.

    A state whose time is minus infinity takes the keypoints as they are.
    """
    elapsed = time - state[0]
    first = not np.isfinite(state[0])
    state[0] = time
    for j in range(len(keypoints)):
        s = state[1 + 5 * j : 6 + 5 * j]
        trust = max(keypoints[j, 2], 0.02)
        if first:
            s[0], s[1], s[2], s[3], s[4] = keypoints[j, 0], keypoints[j, 1], 0.0, 0.0, trust
            continue
        if elapsed <= 0.0:
            keypoints[j, 0], keypoints[j, 1] = s[0], s[1]
            continue
        ease = 1.0 - np.exp(-elapsed * 2.0 * np.pi)
        s[2] += ease * ((keypoints[j, 0] - s[0]) / elapsed - s[2])
        s[3] += ease * ((keypoints[j, 1] - s[1]) / elapsed - s[3])
        rate = cutoff + speed * np.hypot(s[2], s[3]) / size
        # The exact step of a low-pass filter, its rate weighted by how sure this sight is against those before.
        rate *= min(trust / s[4], 1.0)
        gain = 1.0 - np.exp(-elapsed * 2.0 * np.pi * rate)
        s[0] += gain * (keypoints[j, 0] - s[0])
        s[1] += gain * (keypoints[j, 1] - s[1])
        s[4] += gain * (trust - s[4])
        keypoints[j, 0], keypoints[j, 1] = s[0], s[1]

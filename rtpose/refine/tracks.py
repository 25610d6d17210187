"""One window of frames, refined person by person: keypoints smoothed, gaps bridged, bodies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..body.camera import Camera
from ..sinks.data import Record
from ..stages.lift import NAMES, SEEN, trusted
from ..types import F32, F64, U8, Bodies, People, Status
from .bodies import BodyRefiner, Stretch
from .smooth import smooth

BRIDGE = 1.0
"""Seconds for which somebody, or a joint, that was not seen is predicted."""
FADE = 0.1
"""Seconds in which the confidence of a joint that is not seen falls to 1/e."""
CUTOFF = 4.0
"""Hz, of keypoints and boxes."""
OUTLIER = 0.08
"""Distance from the curve, in sizes of the person, at which a keypoint counts a quarter."""


@dataclass
class Track:
    """A person in consecutive frames of a window, from `first` on; `present` (n,) where the causal pass saw them.

    times (n,) s; points (n, 17, 2) px; confidences (n, 17); status (n, 17); raw (n, 17, 3); boxes (n, 4); scores (n,).
    """

    first: int
    times: F64
    present: NDArray[np.bool_]
    points: F64
    confidences: F64
    status: U8
    raw: F32
    boxes: F64
    scores: F64

    @staticmethod
    def of(entries: Sequence[Record], places: Sequence[tuple[int, int]]) -> Track:
        """From the window's records and the (frame in the window, row) of the person, in order."""
        first = places[0][0]
        n = places[-1][0] - first + 1
        track = Track(
            first,
            np.array([entry.time for entry in entries[first : first + n]]),
            np.zeros(n, np.bool_),
            np.zeros((n, 17, 2)),
            np.zeros((n, 17)),
            np.full((n, 17), Status.PREDICTED, np.uint8),
            np.zeros((n, 17, 3), np.float32),
            np.zeros((n, 4)),
            np.zeros(n),
        )
        for frame, row in places:
            people, i = entries[frame].people, frame - first
            track.present[i] = True
            # What was smoothed with a lag is taken as the network gave it; what was corrected, as corrected.
            measured = people.status[row] == Status.MEASURED
            track.points[i] = np.where(measured[:, None], people.raw[row, :, :2], people.keypoints[row, :, :2])
            track.confidences[i] = people.keypoints[row, :, 2]
            track.status[i], track.raw[i] = people.status[row], people.raw[row]
            track.boxes[i], track.scores[i] = people.boxes[row], people.scores[row]
        return track

    def smooth(self) -> None:
        """Smooth keypoints and box without lag and predict what was not seen, in place."""
        here = self.present.astype(np.float64)
        size = float(np.median((self.boxes[self.present, 2:] - self.boxes[self.present, :2]).max(1)))
        for joint in range(17):
            weights = here * self.confidences[:, joint] ** 2
            self.points[:, joint] = smooth(self.times, self.points[:, joint], weights, CUTOFF, robust=OUTLIER * max(size, 1.0))
        self.boxes = smooth(self.times, self.boxes, here, CUTOFF)
        self.scores = np.interp(self.times, self.times[self.present], self.scores[self.present]) * np.where(self.present, 1, 0.5)
        bridged = self._bridged()
        better = bridged > self.confidences
        self.confidences = np.where(better, bridged, self.confidences)
        self.status = np.where(better, np.uint8(Status.PREDICTED), self.status)
        self.raw[~self.present, :, :2] = self.points[~self.present]

    def _bridged(self) -> F64:
        """What confidence (n, 17) is left, where nothing is seen, of the sights before and after; 0 where one is missing."""
        seen = self.confidences >= SEEN
        n = len(seen)
        index = np.arange(n)[:, None]
        before = np.maximum.accumulate(np.where(seen, index, -1), axis=0)
        after = np.minimum.accumulate(np.where(seen, index, n)[::-1], axis=0)[::-1]
        inside = ~seen & (before >= 0) & (after < n)
        before, after = np.maximum(before, 0), np.minimum(after, n - 1)
        since, until = self.times[:, None] - self.times[before], self.times[after] - self.times[:, None]
        left = np.minimum(np.take_along_axis(self.confidences, before, 0), np.take_along_axis(self.confidences, after, 0))
        return np.asarray(np.where(inside & (since + until <= BRIDGE), left * np.exp(-np.minimum(since, until) / FADE), 0.0))


class WindowRefiner:
    """Refines windows of records. name: the person from the causal identity and the frame number (None: left out); shapes: each
    person's betas; size: of the pictures, px; camera and bodies: where there are bodies."""

    def __init__(
        self,
        name: Callable[[int, int], int | None],
        shapes: dict[int, F64],
        size: tuple[int, int],
        camera: Camera | None,
        bodies: BodyRefiner | None,
    ) -> None:
        self._name, self._shapes, self._camera, self._bodies = name, shapes, camera, bodies
        self._size = size
        self._limit = np.array([*size, *size]) - 0.5

    def __call__(self, entries: Sequence[Record]) -> list[Record]:
        """The window's records, refined."""
        places: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for frame, entry in enumerate(entries):
            for row, identity in enumerate(entry.people.ids.tolist()):
                person = self._name(identity, entry.frame)
                if person is not None:
                    places[person].append((frame, row))
        rows: list[list[tuple[int, Track, dict[str, F32], int]]] = [[] for _ in entries]
        for person in sorted(places):
            for stretch in _unbroken(entries, places[person]):
                track = Track.of(entries, stretch)
                track.smooth()
                bodies = self._lift(track, person)
                for i in range(len(track.times)):
                    rows[track.first + i].append((person, track, bodies, i))
        return [self._record(entry, mine) for entry, mine in zip(entries, rows, strict=True)]

    def _lift(self, track: Track, person: int) -> dict[str, F32]:
        if self._bodies is None or self._camera is None:
            return {}
        confidences = trusted(track.points, track.confidences, self._size)
        stretch = Stretch(track.times, self._camera.rays(track.points), confidences)
        return self._bodies(stretch, self._shapes.get(person), self._camera)

    def _record(self, entry: Record, rows: list[tuple[int, Track, dict[str, F32], int]]) -> Record:
        people = People.none()
        if rows:
            people = People(
                ids=np.array([person for person, *_ in rows]),
                boxes=np.clip(np.stack([track.boxes[i] for _, track, _, i in rows]), -0.5, self._limit).astype(np.float32),
                scores=np.array([track.scores[i] for _, track, _, i in rows], np.float32),
                keypoints=np.stack(
                    [np.append(track.points[i], track.confidences[i, :, None], 1) for _, track, _, i in rows]
                ).astype(np.float32),
                status=np.stack([track.status[i] for _, track, _, i in rows]),
                raw=np.stack([track.raw[i] for _, track, _, i in rows]),
            )
        if self._bodies is None:
            return replace(entry, people=people, bodies=None)
        arrays = self._bodies.none() if not rows else {k: np.stack([b[k][i] for _, _, b, i in rows]) for k in rows[0][2]}
        return replace(entry, people=people, bodies=Bodies(**arrays, joint_names=NAMES))


def _unbroken(entries: Sequence[Record], places: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """The places of a person, parted where frames are missing in which nobody knows for too long where they are."""
    begin = 0
    for i in range(1, len(places)):
        before, after = places[i - 1][0], places[i][0]
        if after > before + 1 and entries[after].time - entries[before].time > BRIDGE:
            yield places[begin:i]
            begin = i
    yield places[begin:]

"""Seventeen keypoints for each person: square crops, one call of the network for all, and who is who from frame to frame."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ..backends import Arrays, Session
from ..errors import InputError
from ..jit import jit
from ..journal import Answer
from ..tracking import FEW, SEEN, Tracker, assign, iou
from ..types import F32, I64, OKS_SIGMAS, U8, People, Result, Status
from .posenet import STRIDE, decode_person

CROP = 1.15
"""Side of the crop over the longer side of the person's box."""

NARROW = (128 / 256, 160 / 256, 192 / 256)
"""A box beside which one of these shares of its crop's width leaves as much room as there is above it needs no more: a network whose
input width is free looks at the least of them alone."""

MIRRORED = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])
"""The keypoint that each one becomes in a mirrored picture."""

PAIRS = np.array([0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8])
"""What each keypoint is without left and right: nose, eye, ear, shoulder, elbow, wrist, hip, knee, ankle."""

CALIBRATIONS: dict[str, F32] = {
    "movenet": np.array(
        [
            (2.14, 1.98),
            (2.26, 1.82),
            (3.01, 1.65),
            (3.0, 1.81),
            (3.27, 1.53),
            (2.94, 1.51),
            (2.88, 1.11),
            (2.61, 1.29),
            (2.6, 1.13),
        ],
        np.float32,
    )[PAIRS],
    "posenet": np.tile(np.array([0, 1], np.float32), (17, 1)),
}
"""For each format and joint a and b of 1 / (1 + exp(-(a + b logit c))): the chance that a joint to which the network gives confidence c
is where it says, that is within 1.18 standard deviations of COCO's similarity, so that this is .5 or more. MoveNet's come from
`benchmarks/keypoints.py --calibrate`, on train2017; PoseNet's confidences are left as they are."""

_NOBODY = np.zeros((0, 17, 3), np.float32)
_NOTHING = np.zeros((0, 3, 3), np.float32)


def nobody(keypoints: F32) -> I64:
    """No row."""
    return np.zeros(0, np.int64)


class KeypointEstimator:
    """A keypoint network around a session, and the stage that keeps identities.

    session takes `image` (n, s, s, 3) uint8 RGB for any n; if its width is free, also the middle columns of such crops.
    max_people: at most so many people are looked at in a frame. every: people are looked at in every so-many-th frame, and where the
    detector has looked; in between they are moved on as they moved last, and marked as predicted. light: a cheaper form of the
    network, for people who are followed, where their crop shows nobody else or they are `FEW`. keep: see `rtpose.journal`.
    Raises InputError for an unknown decoder.
    """

    name = "keypoints"

    def __init__(
        self,
        session: Session,
        decoder: str = "movenet",
        *,
        max_people: int = 40,
        crop: float = CROP,
        every: int = 1,
        light: Session | None = None,
        keep: Callable[[Answer], Answer] = lambda answer: answer,
    ) -> None:
        if decoder not in DECODERS:
            raise InputError(f"unknown keypoint format {decoder!r}: choose one of {', '.join(DECODERS)}")
        if max_people < 1:
            raise InputError(f"at most {max_people} people cannot be tracked: give 1 or more")
        side = session.inputs["image"][0][1]
        if side is None:
            raise ValueError("a keypoint network's input must have a fixed size")
        self.tracker = Tracker(people=max_people)
        self.session, self._light = session, light or session
        self._decode = DECODERS[decoder]
        # Not a bound method: a stage that holds itself would keep its network in memory until the garbage collector comes by.
        self._answer = keep(partial(type(self)._infer, cast("KeypointEstimator", weakref.proxy(self))))
        self._calibration = CALIBRATIONS[decoder]
        self._crop = crop
        self.twice = True
        """Whether newcomers who may be somebody are looked at twice; may be changed from another thread, as may `every`."""
        self.every = every
        self._seen: deque[Seen] = deque(maxlen=2)
        self._batch: U8 = np.empty((1, side, side, 3), np.uint8)
        self._narrow = self._light.inputs["image"][0][2] is None
        # So that nothing is compiled or imported while somebody waits.
        narrow = [(self._light, round(share * side)) for share in NARROW] if self._narrow else []
        with ThreadPoolExecutor() as pool:
            pool.submit(assign, np.ones((1, 1)), 0.0)  # scipy is imported while networks are compiled
            for network, width in {(session, side), (self._light, side), *narrow}:
                network({"image": np.zeros((1, side, width, 3), np.uint8)})
        self._shares: F32 = _NOBODY  # the last poses, in shares of their crops
        self.upcoming: Callable[[], Result | None] = lambda: None
        """The result that comes next, if it is at hand: see `rtpose.pipeline.Stage`."""
        self._begun: Begun | None = None

    def notes(self) -> list[str]:
        """For the user, when the run has ended: one line for each limit that was met."""
        most, frames = self.tracker.people, self.tracker.crowded
        if not frames:
            return []
        return [f"--max-people {most} was met in {frames} frame{'' if frames == 1 else 's'}: give more to follow everybody"]

    def __call__(self, result: Result) -> Result:
        """Add the people: those tracked so far, and those whom the detector has found."""
        frame = result.frame
        if frame.independent:
            self.tracker.forget()
        elif result.detections is None and self._seen and frame.index - self._seen[-1].index < self.every:
            return replace(result, people=predicted(frame.time, *self._seen))
        people = self._look(result)
        self._seen.append(Seen(frame.index, frame.time, people))
        return replace(result, people=people)

    def _look(self, result: Result) -> People:
        """The people of the frame, as the network sees them."""
        frame = result.frame
        boxes, new = self.tracker.look(frame.time, result.detections, independent=frame.independent)
        if len(boxes) == 0:
            self.tracker.update(frame.time, _NOBODY, _NOTHING, (frame.height, frame.width))
            return People.none()
        longer = max(frame.height, frame.width)
        again = partial(self.tracker.promising, longer=longer) if self.twice else nobody
        keypoints = self.estimate(frame.image, boxes, new=new, again=again, ahead=self._ahead)
        colours = clothes(self._batch, self._shares)
        who = self.tracker.update(frame.time, keypoints, colours, (frame.height, frame.width), independent=frame.independent)
        raw = who.poses
        sure = raw.copy()
        calibrate(sure, frame.height, frame.width, self._calibration)
        sure[:, :, 2] *= who.worth[:, None]
        limit = np.array([frame.width, frame.height] * 2, np.float32) - 0.5
        inside = np.clip(who.boxes, np.float32(-0.5), limit)
        status = np.full(raw.shape[:2], Status.MEASURED, np.uint8)
        if not frame.independent:
            status[who.worth < 1] = Status.PREDICTED
        return People(who.ids, inside, who.scores, sure, status, raw)

    def _ahead(self) -> tuple[U8, F32] | None:
        """The picture that comes next, if it is at hand, and boxes (n, 4) px of it that will most likely be looked at."""
        result = self.upcoming()
        if result is None or result.frame.independent or self.every > 1:
            return None
        return result.frame.image, self.tracker.ahead(result.frame.time, result.detections)

    def estimate(
        self,
        image: U8,
        boxes: F32,
        *,
        new: int = 0,
        again: Callable[[F32], I64] = nobody,
        ahead: Callable[[], tuple[U8, F32] | None] = lambda: None,
    ) -> F32:
        """Keypoints (n, 17, 3) px, with the network's own confidence, of the person in each box (n, 4) px of the picture.

        The crops are black beyond the picture's border. The last `new` boxes are looked at whole. Then those (by their rows) that `again`
        chooses by the keypoints are looked at once more, mirrored, and where the two looks agree they are averaged: that costs as much
        again, and lifts AR by .01. Beside few people whom we follow hardly anybody else is there: new boxes are first seen as those who
        are followed, narrowly and by the cheaper form of the network, and only those that `again` chooses whole, twice.

        ahead: what is likely asked about next, if it can be told. That is begun while this is under way, and what is then asked about
        just so is taken from there, so that nothing but the time it takes depends on it.
        """
        count, side = len(boxes), self._batch.shape[1]
        if count > len(self._batch):
            self._batch = np.empty((count, side, side, 3), np.uint8)
        squares = square_crops(boxes, self._crop)
        self._cut(image, squares, self._batch)
        few = count - new <= FEW
        widths = self._widths(boxes, squares, few)
        followed = np.arange(count) < count - new
        lightly = ((followed & (widths < side)) | (few & (count > new))) & (self._light is not self.session)
        widths[~followed & ~lightly] = side  # whether somebody is there is decided on all of the crop
        asked = Asked(image, squares, self._batch[:count], widths, lightly, ahead)
        self._shares = self._answer(asked).reshape(-1, 17, 3)
        if new and len(rows := again(_placed(self._shares, squares))):
            first, crops = self._shares[rows], self._batch[rows]
            turned = np.ascontiguousarray(crops[:, :, ::-1])
            if lightly[rows].any():
                first, mirrored = np.split(self._seriously(np.concatenate([crops, turned])), 2)
            else:
                mirrored = self._seriously(turned)
            agree(first, mirrored)
            self._shares[rows] = first
        return _placed(self._shares, squares)

    def _seriously(self, crops: U8) -> F32:
        """The poses (n, 17, 3) in whole crops (n, s, s, 3), in shares of them, by the network itself."""
        count = len(crops)
        asked = Asked(None, np.zeros((count, 3), np.float32), crops, np.full(count, crops.shape[1]), np.zeros(count, np.bool_))
        return self._answer(asked).reshape(-1, 17, 3)

    def _widths(self, boxes: F32, squares: F32, few: bool) -> I64:
        """How many columns (n,) of each box's crop are worth looking at.

        Where more than a few are followed, whoever is seen together with somebody else is told apart by what stands around them, and seen
        whole; nor is anybody seen in the narrowest crops: in the street clip numbers change by it.
        """
        side = self._batch.shape[1]
        widths = np.full(len(boxes), side, np.int64)
        if not self._narrow:
            return widths
        wide, high = (boxes[:, 2:] - boxes[:, :2]).T
        for share in reversed(NARROW if few else NARROW[1:]):
            widths[wide + (self._crop - 1) * high < share * self._crop * high] = round(share * side)
        if not few:
            half = squares[:, 2:] / 2 * np.stack([widths / side, np.ones(len(boxes))], axis=1)
            seen = np.concatenate([squares[:, :2] - half, squares[:, :2] + half], axis=1).astype(np.float32)
            widths[(iou(seen, boxes) > 0).sum(axis=1) > 1] = side
        return widths

    def _cut(self, image: U8, squares: F32, crops: U8) -> None:
        """Draw the squares (n, 3) of the picture into crops (>= n, s, s, 3), but those that were drawn ahead."""
        begun = self._begun.asked if self._begun is not None and self._begun.asked.image is image else None
        drawn = {tuple(square): crop for square, crop in zip(begun.squares.tolist(), begun.crops, strict=True)} if begun else {}
        for k, square in enumerate(squares.tolist()):
            if tuple(square) in drawn:
                crops[k] = drawn[tuple(square)]
            else:
                cut(image, squares[k], crops[k])

    def _infer(self, asked: Asked) -> F32:
        """The poses (n, 17, 3) in the crops, in shares of them."""
        found = np.empty((len(asked.crops), 17, 3), np.float32)
        begun, taken = self._begun, np.full(len(found), -1)
        if begun is not None and asked.image is begun.asked.image:
            taken = begun.asked.same(asked)
        coming = self._coming(asked.ahead())
        waits = self._begin(asked, np.flatnonzero(taken < 0), aside=coming is not None)
        if coming is not None:
            self._begun = Begun(coming, self._begin(coming, np.arange(len(coming.crops)), aside=True))
        for rows, wait in waits:
            found[rows] = self._decode(wait())
        for rows, wait in begun.waits if begun is not None and (taken >= 0).any() else ():
            wanted, mine = np.nonzero(taken[:, None] == rows)
            if len(wanted):
                found[wanted] = self._decode(wait())[mine]
        return found

    def _coming(self, ahead: tuple[U8, F32] | None) -> Asked | None:
        """What will be asked about these boxes of that picture, of people who are followed and few."""
        if ahead is None or not len(ahead[1]):
            return None
        image, boxes = ahead
        squares = square_crops(boxes, self._crop)
        crops = np.empty((len(boxes), *self._batch.shape[1:]), np.uint8)
        self._cut(image, squares, crops)
        lightly = np.full(len(boxes), self._light is not self.session)
        return Asked(image, squares, crops, self._widths(boxes, squares, True), lightly)

    def _begin(self, asked: Asked, rows: I64, *, aside: bool) -> list[tuple[I64, Callable[[], Arrays]]]:
        """Rows that are seen together, and what waits for what is seen there. aside: begin with it now, where the network can."""
        side, waits = asked.crops.shape[1], []
        kinds = set(zip(asked.lightly[rows].tolist(), asked.widths[rows].tolist(), strict=True))
        for cheap, width in sorted(kinds, key=lambda kind: (kind[0], -kind[1])):  # what takes long first
            mine, left = rows[(asked.lightly[rows] == cheap) & (asked.widths[rows] == width)], (side - width) // 2
            network = self._light if cheap else self.session
            feeds = {"image": asked.crops[mine, :, left : left + width]}
            begin = getattr(network, "begin", None) if aside or len(kinds) > 1 else None
            waits.append((mine, (begin(feeds) if begin else None) or partial(network, feeds)))
        return waits


@dataclass(frozen=True)
class Asked:
    """What a network is asked: poses in crops (n, s, s, 3), seen in so many (n,) of their middle columns alone, by the cheaper form of
    the network or not (n,).

    image, squares: of what and where the crops are; None for those that are mirrored. ahead: see `KeypointEstimator.estimate`.
    """

    image: U8 | None
    squares: F32
    crops: U8
    widths: I64
    lightly: NDArray[np.bool_]
    ahead: Callable[[], tuple[U8, F32] | None] = lambda: None

    def same(self, other: Asked) -> I64:
        """For each row (n,) of the other, of the same picture, the one here that asks just the same, -1 where none does."""
        same = (self.squares == other.squares[:, None]).all(axis=2)
        same &= (self.widths == other.widths[:, None]) & (self.lightly == other.lightly[:, None])
        return np.where(same.any(axis=1), same.argmax(axis=1), -1)


@dataclass(frozen=True)
class Begun:
    """What was asked ahead: rows, and what waits for what is seen there."""

    asked: Asked
    waits: list[tuple[I64, Callable[[], Arrays]]]


@dataclass(frozen=True)
class Seen:
    """A frame that was looked at: its index, its time in seconds, and the people in it."""

    index: int
    time: float
    people: People


def predicted(time: float, *seen: Seen) -> People:
    """The people of the last of the frames seen, moved on to `time` as they have moved since the first, if there are two.

    Joints that were not seen in both move as the others do on average. Nobody moves on by more than twice what they have moved: of frames
    close together the way is mostly noise.
    """
    last, before = seen[-1], seen[0]
    people = last.people
    boxes, keypoints, raw = people.boxes.copy(), people.keypoints.copy(), people.raw.copy()
    span = last.time - before.time
    for i, identity in enumerate(people.ids):
        row = np.flatnonzero(before.people.ids == identity)
        if len(row) == 0 or span <= 0:
            continue
        then = before.people.keypoints[row[0]]
        sure = np.minimum(keypoints[i, :, 2], then[:, 2]) >= SEEN
        way = (keypoints[i, :, :2] - then[:, :2]) * np.float32(min((time - last.time) / span, 2.0))
        mean = way[sure].mean(axis=0) if sure.any() else np.zeros(2, np.float32)
        way[~sure] = mean
        keypoints[i, :, :2] += way
        raw[i, :, :2] += way
        boxes[i] += np.tile(mean, 2)
    status = np.full_like(people.status, Status.PREDICTED)
    return People(people.ids, boxes, people.scores, keypoints, status, raw)


def _placed(shares: F32, squares: F32) -> F32:
    """Poses (n, 17, 3) in shares of their crops -> in px of the picture."""
    keypoints: F32 = shares.copy()
    keypoints[:, :, :2] = squares[:, None, :2] + (shares[:, :, :2] - np.float32(0.5)) * squares[:, None, 2:]
    return keypoints


def square_crops(boxes: F32, scale: float) -> F32:
    """Squares (n, 3), centre x, y and side in px, around boxes (n, 4): `scale` times the longer side."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), np.float32(1.0)) * np.float32(scale)
    return np.asarray(np.concatenate([middle, side[:, None]], axis=1), np.float32)


REACH = 32766
"""px of the longest side of a picture that OpenCV's warpAffine takes."""


def _within_reach(image: U8, square: F32) -> tuple[U8, F32]:
    """The picture and the square, of a picture that is too large the part around the square, if need be with fewer pixels."""
    while max(image.shape[:2]) > REACH:
        size = np.array(image.shape[1::-1])
        # A square that lies outside the picture: any part of it will do.
        begin = np.clip(np.floor(square[:2] - square[2] / 2).astype(int) - 2, 0, size - 1)
        end = np.clip(np.ceil(square[:2] + square[2] / 2).astype(int) + 3, begin + 1, size)
        image = image[begin[1] : end[1], begin[0] : end[0]]
        square = np.array([*(square[:2] - begin), square[2]], np.float32)
        if max(image.shape[:2]) > REACH:
            image, square = image[::2, ::2], np.asarray(square / 2, np.float32)
    return np.ascontiguousarray(image), square


def cut(image: U8, square: F32, out: U8) -> None:
    """Draw the square (centre x, y, side in px) of the picture into `out` (s, s, 3); what lies outside the picture is black."""
    image, square = _within_reach(image, square)
    side = out.shape[0]
    scale = side / float(square[2])
    middle = (side - 1) / 2
    matrix = np.array([[scale, 0, middle - square[0] * scale], [0, scale, middle - square[1] * scale]])
    cv2.warpAffine(image, matrix, (side, side), dst=out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


@jit
def agree(poses: F32, mirrored: F32) -> None:
    """Bring poses (n, 17, 3) together with those (n, 17, 3) that were found in the mirrored crops, both in shares of the crop.

    Joints that agree within two standard deviations of COCO's labellers are averaged by their confidence; where they do not, the
    first stays, with the smaller confidence.
    """
    for n in range(len(poses)):
        pose, other = poses[n], mirrored[n]
        size = max(np.ptp(pose[:, 0]), np.ptp(pose[:, 1]))
        for j in range(len(pose)):
            x, y, score = 1 - other[MIRRORED[j], 0], other[MIRRORED[j], 1], other[MIRRORED[j], 2]
            if np.hypot(x - pose[j, 0], y - pose[j, 1]) < 2 * OKS_SIGMAS[j] * size:
                total = pose[j, 2] + score + np.float32(1e-9)
                pose[j, 0] += (x - pose[j, 0]) * score / total
                pose[j, 1] += (y - pose[j, 1]) * score / total
                pose[j, 2] = (pose[j, 2] + score) / 2
            else:
                pose[j, 2] = min(pose[j, 2], score)


@jit
def calibrate(poses: F32, height: int, width: int, table: F32) -> None:
    """Turn the network's confidence, in place, by a `CALIBRATIONS` (17, 2) into the chance that the joint is there.

    Beyond the border nothing was seen: 0.
    """
    for n in range(len(poses)):
        for j in range(poses.shape[1]):
            x, y, score = poses[n, j]
            if -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5:
                score = min(max(score, 1e-4), 1 - 1e-4)
                a, b = table[j]
                poses[n, j, 2] = 1 / (1 + np.exp(-a - b * np.log(score / (1 - score))))
            else:
                poses[n, j, 2] = 0


@jit
def clothes(crops: U8, poses: F32) -> F32:
    """Mean colours (n, 3, 3), 0..1, of chest, waist and thighs of the people in crops (>= n, s, s, 3); poses are in shares of the crop.

    Points between the shoulders and the hips, and between hips and knees, well inside the body.
    """
    side = crops.shape[1]
    colours = np.zeros((len(poses), 3, 3), np.float32)
    for n in range(len(poses)):
        pose = poses[n, :, :2] * side
        for part in range(3):
            for i in range(4):
                for k in range(4):
                    across = 0.2 + 0.2 * i
                    if part < 2:
                        down = 0.1 + 0.4 * part + 0.1 * k
                        point = (pose[5] * (1 - across) + pose[6] * across) * (1 - down) + (
                            pose[11] * (1 - across) + pose[12] * across
                        ) * down
                    else:
                        down = 0.1 * i + 0.3
                        point = pose[11 + k % 2] * (1 - down) + pose[13 + k % 2] * down
                    x = min(max(int(point[0]), 0), side - 1)
                    y = min(max(int(point[1]), 0), side - 1)
                    for c in range(3):
                        colours[n, part, c] += crops[n, y, x, c] / np.float32(16 * 255)
    return colours


def _movenet(outputs: Arrays) -> F32:
    """MoveNet: `keypoints` (n, 17, 3) y, x, score as shares of the whole crop, however much of it was seen."""
    return np.ascontiguousarray(outputs["keypoints"][:, :, [1, 0, 2]], dtype=np.float32)


def _posenet(outputs: Arrays) -> F32:
    """PoseNet: `scores`, `offsets`, `forward` and `backward` (n, 25, 25, c), of a crop of 24 x 16 + 1 px."""
    scores, offsets, forward, backward = (outputs[name] for name in ("scores", "offsets", "forward", "backward"))
    found = [decode_person(scores[k], offsets[k], forward[k], backward[k], STRIDE) for k in range(len(scores))]
    side = (scores.shape[1] - 1) * STRIDE + 1
    return np.asarray(np.stack(found) / np.array([side, side, 1], np.float32), np.float32)


DECODERS: dict[str, Callable[[Arrays], F32]] = {"movenet": _movenet, "posenet": _posenet}
"""Formats of keypoint networks by the name in model cards: outputs -> keypoints (n, 17, 3), x and y as shares of the crop."""

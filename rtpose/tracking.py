"""Who is who: identities that stay with people from frame to frame.

A tracked person predicts where to look in the next frame (`Tracker.look`), and the poses found there are given to the people whom
they fit best (`Tracker.update`). The detector's boxes start people, confirm them, and find again those that were lost; where it
did not look the keypoints alone carry on. All of it depends on the frames and their times only, so the same input gives the same
people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .jit import jit
from .types import F32, F64, I64, OKS_SIGMAS, Boxes

SEEN = 0.2
"""Keypoints below this confidence say nothing about where a person is."""

SAME = 0.6
"""From this OKS two poses are of one person; from this IoU a box is that of the person who was expected there."""

NOBODY = 0.1
"""Mean confidence of a pose that was found where nobody is."""

SNUG = 0.5
"""From this IoU of the box with the extent of the pose in it the two are taken for the same person's."""

DOUBT, STRANGE = 0.3, 0.1
"""What the pose of somebody is worth in whose box somebody else's was found: the person's own as it was a moment ago; and, in a stream,
as it was long ago, or that of somebody else, if no other was ever seen. The latter is not enough to draw it, or for a body: somebody who
stays hidden would lie on whoever is in front, frame after frame."""

FADE = 0.3
"""Seconds in which the worth of a pose that is not seen any more falls to 1/e."""

FEW = 2
"""So many people are not easily mixed up: where no more are followed, looks are saved that tell people of a crowd apart (on the street clip
of `benchmarks/identities.py` it costs changes of numbers to look at followed people by a cheaper network, and not to look twice at what is
already known)."""

UNLIKELY = 0.08
"""Chance of being there after one look below which another one is not worth its time: of the people reported in the pictures of
train2017 none had less than .15, and 30 % of those who were looked at had less than this."""

REFUSAL, SURER = 2.0, 0.2
"""Seconds for which a place where the detector saw somebody, and the keypoints nobody, is not looked at again, unless the detector is
surer by so much."""

MAX_COAST_S = 0.3
"""Seconds for which somebody of whom nothing is seen is still looked for where they should be by now: one picture that is black,
burnt out or torn shows nobody, and the detector may not look again for as long."""

REUNION = 1.0
"""Seconds after somebody was seen again in which it may turn out who is who."""

FORESEEN = 0.8
"""From this IoU of the box that the look before the last lets expect with that which the last one does, the former will do: it is known a
frame earlier, so that looks need not wait for each other."""

SOON = 5
"""Frames after which somebody who is not sure enough to be reported is looked at where the detector looks, and not in between."""

TRIAL = 3
"""Somebody who is not sure enough to be reported after so many looks of the detector is dropped."""

MARGINS = np.array([-0.066, -0.127, 0.073, 0.076], np.float32)
"""Between the outermost joints of a person and the person's box, in shares of the longer side."""

AMBIGUOUS = 0.3
"""Boxes of more IoU than this may be of one person."""

PRESENCE = np.array([-4.98, 1.96, 0.37, 1.14, 1.41, -0.65])
"""What speaks for a person: 1, logit of the detector's score, logit of the keypoints' mean confidence, IoU of the box with the extent of
the pose, log of the longer side (of a picture 416 px long), log of height over width. Logistic regression on what NanoDet and MoveNet
report on train2017, against the labelled boxes: `benchmarks/keypoints.py --calibrate`."""

WITHIN = 0.8
"""The same pose in a box that lies so far in the other is the same person, of whom the detector saw a part."""


@dataclass(frozen=True)
class Tracked:
    """The people of a frame, by id: ids (n,), boxes (n, 4) px, scores (n,), and their poses (n, 17, 3).

    scores: the chance that somebody is there, times the IoU of the box with the extent of the pose. worth (n,): what the pose is worth,
    less than 1 where only somebody else in front was seen in the box. The pose is then what the person's own has become by now; where it
    was never seen, that of the other.
    """

    ids: I64
    boxes: F32
    scores: F32
    poses: F32
    worth: F32


@dataclass(slots=True)
class _Person:
    """Somebody who may be there.

    sight: mean keypoint confidence, support: the detector's score, both moving averages. colours: of late; worn: as last seen; usual:
    over the time known. id is 0 until the person is reported for the first time. looks: how often the detector has looked since the
    person was found. back: when somebody lost was seen again. posed: when a pose of the person's own was last seen. side: the longer side
    of the box, px.
    """

    box: F32
    keypoints: F32
    colours: F32
    time: float
    sight: float
    support: float
    id: int = 0
    looks: int = 1
    back: float = -math.inf
    frames: int = 1
    posed: float = -math.inf
    side: float = field(init=False)
    worn: F32 = field(init=False)
    usual: F32 = field(init=False)
    velocity: F32 = field(default_factory=lambda: np.zeros(2, np.float32))
    before: tuple[F32, F32, float] | None = None
    """Box, velocity and time as they were before the last look."""

    def __post_init__(self) -> None:
        self.side = float((self.box[2:] - self.box[:2]).max())
        self.worn = self.usual = self.colours

    @property
    def evidence(self) -> float:
        return self.sight + self.support / 2

    @property
    def strange(self) -> bool:
        """Whether no pose of the person's own was ever seen."""
        return self.posed == -math.inf

    def worth(self, time: float, independent: bool) -> float:
        """What the pose is worth where that of somebody else is seen."""
        return DOUBT if independent else max(DOUBT * math.exp((self.posed - time) / FADE), STRANGE)


@dataclass(frozen=True, slots=True)
class _Look:
    """A place to look at.

    person: whose it is (None: the detector's find). score: the detector's there (None: it did not look). own: whether the box is
    the detector's own.
    """

    box: F32
    person: _Person | None
    score: float | None
    own: bool

    @property
    def support(self) -> float:
        """The detector's score here, or what it was when it looked last."""
        if self.score is not None:
            return self.score
        return self.person.support if self.person else 0.0


class Tracker:
    """Keeps the people of a stream.

    enter: with that chance of being there (`presence`) somebody is reported; hidden: in a stream, somebody of whom only the pose of
    somebody in front is seen, if there is as much evidence (mean confidence of the keypoints plus half the detector's score) as `hint`,
    which the second box that the detector puts about one person has not. Evidence alone is enough in a stream from `begin` on, because
    small people have less of a chance than they should: COCO labels few. hope: with that much evidence somebody is tracked who is not
    reported yet. keep: with less somebody is lost. memory: seconds for which the id of a lost person is kept.
    people: at most so many are looked at in a frame. newcomers: in a stream at most so many of them may be people whom only the detector
    saw.
    """

    def __init__(
        self,
        *,
        enter: float = 0.25,
        hidden: float = 0.5,
        hint: float = 0.3,
        begin: float = 0.56,
        hope: float = 0.42,
        keep: float = 0.25,
        memory: float = 5.0,
        people: int = 40,
        newcomers: int = 16,
    ) -> None:
        self.enter, self.hidden, self.hint = enter, hidden, hint
        self.begin, self.hope, self.keep = begin, hope, keep
        self.memory, self.people, self.newcomers = memory, people, newcomers
        self._tracked: list[_Person] = []
        self._lost: list[_Person] = []
        self._refused: list[tuple[float, F32, float]] = []
        self.crowded = 0
        """Times that `look` left somebody out because of `people`."""
        self._looks: list[_Look] = []
        self._waiting: list[_Person] = []
        self._next = 1
        self._time = -math.inf
        """Of the last frame."""

    def forget(self) -> None:
        """Begin anew: everybody who comes is new. Ids are never used twice."""
        self._tracked, self._lost, self._refused = [], [], []

    def look(self, time: float, detections: Boxes | None, *, independent: bool = False) -> tuple[F32, int]:
        """Boxes (m, 4) px in which to look for people at `time`, and how many of these, the last ones, only the detector saw.

        In a stream only the best of those are taken: the others can wait for its next look, as can people who are not reported `SOON`.
        """
        self._lose(time)
        self._waiting = [person for person in self._tracked if detections is None and person.id == 0 and person.frames > SOON]
        looked = [person for person in self._tracked if not any(person is other for other in self._waiting)]
        places = self._places(looked, time, detections, independent)
        self._looks = places[: self.people]
        self.crowded += len(places) > self.people
        new = sum(look.person is None for look in self._looks)
        few = len(self._looks) - new <= FEW
        boxes = [_foreseen(look, time) if few else look.box for look in self._looks]
        return np.array(boxes, np.float32).reshape(-1, 4), new

    def ahead(self, time: float, detections: Boxes | None) -> F32:
        """Boxes (m, 4) px that the next `look` will give to those who are reported, if they move as before; to be asked between a `look`
        and its `update`. No row where more than `FEW` are followed."""
        looked = [person for person in self._tracked if detections is not None or person.id or person.frames < SOON]
        places = self._places(looked, time, detections, False)[: self.people] if len(looked) <= FEW else []
        return np.array([look.box for look in places if look.person is not None and look.person.id], np.float32).reshape(-1, 4)

    def promising(self, keypoints: F32, longer: int) -> I64:
        """The rows of those whom only the detector saw and who may be somebody, and where `FEW` are tracked somebody else than they are,
        by the poses (m, 17, 3) that a first look found in the boxes of `look`; longer: longer side of the picture in px."""
        known = [pose for pose, look in zip(keypoints, self._looks, strict=True) if look.person is not None]
        known = known if len(known) <= FEW else []
        new = (m for m, look in enumerate(self._looks) if look.person is None)
        rows = np.array([m for m in new if not any(oks(keypoints[m], pose) > SAME for pose in known)], np.int64)
        boxes = np.array([self._looks[m].box for m in rows], np.float32).reshape(-1, 4)
        snug, sights = fit(boxes, keypoints[rows]), keypoints[rows, :, 2].mean(axis=1)
        chances = [
            presence(self._looks[m].support, sight, close, box, longer)
            for m, sight, close, box in zip(rows.tolist(), sights.tolist(), snug.tolist(), boxes, strict=True)
        ]
        return rows[np.array(chances) >= UNLIKELY]

    def update(self, time: float, keypoints: F32, colours: F32, size: tuple[int, int], *, independent: bool = False) -> Tracked:
        """Take the poses (m, 17, 3) found in the boxes that `look` gave, in a picture of size (h, w); return who is there.

        colours (m, 3, 3) in 0..1: of chest, waist and thighs. independent: the picture is one of its own, so one look decides.
        """
        looks = self._looks
        self._lost = [old for old in self._lost if time - old.time <= self.memory]
        boxes = np.array([look.box for look in looks], np.float32).reshape(-1, 4)
        snug = fit(boxes, keypoints)
        sights = keypoints[:, :, 2].mean(axis=1)
        promise = snug + sights + np.array([look.support for look in looks]) / 2
        inside = [m for m in np.argsort(-promise, kind="stable").tolist() if not _outside(keypoints[m], size[0], size[1])]
        rows, borrowed = distinct(keypoints, boxes, np.array(inside, np.int64))
        owners = self._owners(time, keypoints, colours, rows[~borrowed[rows] & (sights[rows] > NOBODY)].tolist())
        owned = {id(person) for person in owners.values()}
        here: list[tuple[_Person, int]] = []
        scores = np.zeros(len(looks), np.float32)
        own = set(rows.tolist())
        for m in inside:
            look, sight = looks[m], float(sights[m])
            if m in owners:
                person = owners[m]
                _follow(person, time, look, keypoints[m], colours[m], sight)
            elif look.person is None and m in own and sight > NOBODY:
                person = _Person(look.box, keypoints[m], colours[m], time, sight, look.support)
                if borrowed[m]:
                    person.sight *= DOUBT
                else:
                    person.posed = time
            elif look.person is not None and m in own and borrowed[m] and id(look.person) not in owned:
                person = look.person  # hidden behind somebody whose pose was seen instead
                _stay(person, time, look, DOUBT * sight)
            else:
                continue  # somebody else's pose, in a place where nobody was expected but its owner
            there = presence(person.support, sight if person.strange else person.sight, float(snug[m]), person.box, max(size))
            scores[m] = there * snug[m]
            if person.id == 0 and (there >= self.enter if independent else self._convinces(person, there, float(snug[m]))):
                self._name(person)
            if independent:
                stays = person.id > 0
            else:
                stays = self._stays(person) and (sight > NOBODY or bool(borrowed[m]))
            if stays:
                here.append((person, m))
        coasting = [] if independent else self._unseen(sights, [person for person, _ in here])
        self._time = time
        self._part(time, [person for person, _ in here], coasting, {m for _, m in here})
        for person in self._tracked:
            if time - person.back <= REUNION:
                self._untangle(person)
        shown = sorted(((person, m) for person, m in here if person.id), key=lambda pair: pair[0].id)
        mine = np.array([m for _, m in shown], np.int64)
        return Tracked(
            np.array([person.id for person, _ in shown], np.int64),
            np.array([person.box for person, _ in shown], np.float32).reshape(-1, 4),
            scores[mine],
            np.array([person.keypoints for person, _ in shown], np.float32).reshape(-1, *keypoints.shape[1:]),
            np.array([person.worth(time, independent) if borrowed[m] else 1 for person, m in shown], np.float32),
        )

    def _places(self, people: list[_Person], time: float, detections: Boxes | None, independent: bool) -> list[_Look]:
        """Where to look at `time` for these people and others."""
        places = [_Look(_moved(*_motion(person), time), person, None, False) for person in people]
        if detections is not None:
            places = self._with_detections(places, detections, independent)
        return places

    def _with_detections(self, looks: list[_Look], detections: Boxes, independent: bool) -> list[_Look]:
        """Tell the people tracked what the detector saw of them, and look where it saw anything else.

        A box is taken for somebody's own only where it is clear whose it is; else both places are looked at, and the poses decide.
        """
        overlap = iou(np.array([look.box for look in looks], np.float32).reshape(-1, 4), detections.xyxy)
        close = overlap > AMBIGUOUS
        clear = close & (close.sum(axis=0) == 1) & (close.sum(axis=1) == 1)[:, None]
        pairs = dict(assign(overlap, AMBIGUOUS))
        told = []
        for i, look in enumerate(looks):
            j = pairs.get(i)
            if j is None:
                told.append(_Look(look.box, look.person, 0.0, False))
            else:
                own = bool(clear[i, j])
                told.append(_Look(detections.xyxy[j] if own else look.box, look.person, float(detections.scores[j]), own))
        explained = {j for i, j in pairs.items() if told[i].own or overlap[i, j] > SAME}
        found = [j for j in range(len(detections)) if j not in explained]
        if not independent:
            refused = np.array([box for _, box, _ in self._refused], np.float32).reshape(-1, 4)
            scores = np.array([score for _, _, score in self._refused])
            no_news = (iou(detections.xyxy, refused) >= SAME) & (detections.scores[:, None] < scores + SURER)
            found = [j for j in found if not no_news[j].any()][: self.newcomers]
        return told + [_Look(detections.xyxy[j], None, float(detections.scores[j]), True) for j in found]

    def _owners(self, time: float, keypoints: F32, colours: F32, rows: list[int]) -> dict[int, _Person]:
        """Whose poses the rows are: each tracked person's is the one that fits best where that person should be by now."""
        tracked = [look.person for look in self._looks if look.person is not None]
        if not rows or not tracked:
            return {}
        expected = np.stack([person.keypoints for person in tracked])
        shift = np.stack([_shift(*_motion(person), time) for person in tracked])
        expected[:, :, :2] += shift[:, None]
        elapsed = np.array([time - person.time for person in tracked])
        alike = likeness(expected, keypoints[rows], 0.1 + 0.3 * np.minimum(elapsed, 1.0))
        alike *= 0.5 + 0.5 * matching(np.stack([person.colours for person in tracked]), colours[rows])
        strange = np.array([person.strange for person in tracked])
        alike[strange] = 0
        for k, m in enumerate(rows):
            if m < len(tracked):
                # The pose was found where this person was expected; whose pose was never seen takes what nobody else does.
                alike[m, k] += 0.1 if strange[m] else 0.05
        return {rows[k]: tracked[i] for i, k in assign(alike, 0.1)}

    def _convinces(self, person: _Person, there: float, snug: float) -> bool:
        """Whether somebody in a stream is to be reported from now on; there: the chance, snug: how well box and pose agree."""
        if person.strange:
            return there >= self.hidden and person.evidence >= self.hint
        return there >= self.enter or (snug >= SNUG and person.evidence >= self.begin)

    def _stays(self, person: _Person) -> bool:
        """Whether somebody in a stream is tracked on."""
        if person.id:
            return person.evidence >= self.keep
        return person.evidence >= self.hope and person.looks <= TRIAL

    def _name(self, person: _Person) -> None:
        """Give a person the id of somebody lost who fits, or a new one."""
        fits = [_fit(person, old) for old in self._lost]
        best = int(np.argmax(fits)) if fits else -1
        if best >= 0 and fits[best] > 0.2:
            old = self._lost.pop(best)
            person.id, person.usual, person.frames, person.back = old.id, old.usual, old.frames, person.time
        else:
            person.id, self._next = self._next, self._next + 1

    def _untangle(self, back: _Person) -> None:
        """When somebody is seen again beside another, the two may have been taken for each other while one hid the other.

        They change numbers where that fits what each of them usually wears much better.
        """
        for other in self._tracked:
            if other.id in (0, back.id) or overlap(_grown(other.box), _grown(back.box)) == 0:
                continue
            fits = matching(np.stack([back.worn, other.worn]), np.stack([back.usual, other.usual]))
            if fits[0, 1] * fits[1, 0] > 2 * fits[0, 0] * fits[1, 1] + 0.05:
                back.id, other.id = other.id, back.id
                back.usual, other.usual = other.usual, back.usual
                back.frames, other.frames = other.frames, back.frames
                back.back = -math.inf
                return

    def _unseen(self, sights: F32, here: list[_Person]) -> list[_Person]:
        """Those who are reported, are not here, and in whose place nobody's pose was found; sights (m,): mean confidence of the poses."""
        known = {id(person) for person in here}
        return [
            look.person
            for look, sight in zip(self._looks, sights.tolist(), strict=True)
            if look.person is not None and look.person.id and id(look.person) not in known and sight <= NOBODY
        ]

    def _lose(self, time: float) -> None:
        """Remember as lost those who were not seen in the last frame, nor for too long."""
        late = [person for person in self._tracked if person.id and person.time < min(self._time, time - MAX_COAST_S)]
        self._lost += late
        self._tracked = [person for person in self._tracked if not any(person is old for old in late)]

    def _part(self, time: float, here: list[_Person], coasting: list[_Person], taken: set[int]) -> None:
        """Track those who are here or were a moment ago; remember those with an id who are not, and where the detector's find was
        refused."""
        tracked = here + coasting
        self._lost += [old for old in self._tracked if old.id and not any(old is person for person in tracked)]
        self._tracked = tracked + self._waiting
        self._refused = [(when, box, score) for when, box, score in self._refused if time - when < REFUSAL]
        self._refused += [
            (time, look.box, look.support) for m, look in enumerate(self._looks) if look.person is None and m not in taken
        ]


def _follow(person: _Person, time: float, look: _Look, keypoints: F32, colours: F32, sight: float) -> None:
    """Step a person on to the pose that was found."""
    elapsed = time - person.time
    person.before = _motion(person)
    if person.strange:
        person.box = look.box
    elif elapsed > 0:
        way, carried = carry(person.box, person.keypoints, keypoints)
        person.velocity = person.velocity + _ease(elapsed, 0.1) * (way / np.float32(elapsed) - person.velocity)
        # Between two looks of the detector its box goes along with the pose, and slowly takes on the pose's own extent.
        box = look.box if look.own else carried
        person.box = np.asarray(box + _ease(elapsed, 0.5) * (extent(keypoints, box) - box), np.float32) if not look.own else box
    side = float((person.box[2:] - person.box[:2]).max())
    person.side = max(side, person.side + _ease(elapsed, 2.0) * (side - person.side))  # who is half hidden is as tall as before
    person.colours = person.colours + _ease(elapsed, 1.0) * (colours - person.colours)
    person.frames += 1
    person.worn = colours
    person.usual = person.usual + max(1 / person.frames, _ease(elapsed, 8.0)) * (colours - person.usual)
    person.sight += _ease(elapsed, 0.2) * (sight - person.sight)
    _heed(person, look)
    person.keypoints, person.time, person.posed = keypoints, time, time


def _stay(person: _Person, time: float, look: _Look, sight: float) -> None:
    """Step a person on whose pose cannot be seen: only the detector says where."""
    elapsed = time - person.time
    person.before = _motion(person)
    person.keypoints = person.keypoints + np.append(_shift(*person.before, time), np.float32(0))
    person.box, person.time = look.box, time
    person.velocity = person.velocity * (1 - _ease(elapsed, 0.3))
    person.sight += _ease(elapsed, 0.2) * (sight - person.sight)
    _heed(person, look)


def _heed(person: _Person, look: _Look) -> None:
    """Take in what the detector said."""
    if look.score is not None:
        person.support += 0.4 * (look.score - person.support)
        person.looks += 1


def _ease(elapsed: float, seconds: float) -> float:
    """The part of the way that a moving average of this time constant goes."""
    return 1.0 - math.exp(-elapsed / seconds)


def _motion(person: _Person) -> tuple[F32, F32, float]:
    """Where a person is, (4,) px, how fast, (2,) px a second, and when."""
    return person.box, person.velocity, person.time


def _shift(box: F32, velocity: F32, then: float, time: float) -> F32:
    """How far (2,) px a person should have moved by `time`: at most half the box, and after a gap nobody knows."""
    elapsed = time - then
    if elapsed > 0.5:
        return np.zeros(2, np.float32)
    reach = (box[2:] - box[:2]) / 2
    return np.asarray(np.clip(velocity * np.float32(elapsed), -reach, reach), np.float32)


def _moved(box: F32, velocity: F32, then: float, time: float) -> F32:
    shift = _shift(box, velocity, then, time)
    return np.asarray(box + np.concatenate([shift, shift]), np.float32)


def _foreseen(look: _Look, time: float) -> F32:
    """The box of a look, or what the look before let expect, if that is as good: see `FORESEEN`."""
    if look.own or look.person is None or look.person.before is None or not look.person.id:
        return look.box
    box = _moved(*look.person.before, time)
    return box if iou(box[None], look.box[None])[0, 0] >= FORESEEN else look.box


def _fit(new: _Person, old: _Person) -> float:
    """How well a newcomer fits somebody lost, 0..1: in size, and in the way from where that one was and was heading."""
    sides = new.side, old.side
    gap = new.time - old.time
    there = (old.box[:2] + old.box[2:]) / 2 + old.velocity * np.float32(min(gap, 0.3))
    way = float(np.hypot(*((new.box[:2] + new.box[2:]) / 2 - there)))
    place = float(np.exp(-((way / (sides[1] * (0.5 + min(gap, 2.0)))) ** 2) - 2 * np.log(sides[0] / sides[1]) ** 2))
    return place * float(matching(new.colours[None], old.colours[None])[0, 0])


def _grown(box: F32) -> F32:
    """The box with half its width more on either side."""
    half = (box[2] - box[0]) / 2
    return np.asarray(box + np.array([-half, 0, half, 0], np.float32), np.float32)


def matching(a: F32, b: F32) -> F64:
    """How alike the clothes (n, 3, 3) and (m, 3, 3) are, (n, m) in 0..1."""
    return np.asarray(np.exp(-((np.abs(a[:, None] - b[None]).mean(axis=(2, 3)) / 0.15) ** 2)), np.float64)


def assign(value: F64, least: float) -> list[tuple[int, int]]:
    """Pairs (row, column), each used once, of the greatest sum of values, none below `least`."""
    from scipy.optimize import linear_sum_assignment  # a fifth of a second to import, which can go on while networks are compiled

    rows, columns = linear_sum_assignment(np.where(value >= least, value, 0.0), maximize=True)
    return [(i, j) for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if value[i, j] >= least]


@jit
def oks(a: F32, b: F32) -> float:
    """Object keypoint similarity of two poses (17, 3), over the joints that either saw (none: 0), weighted by the smaller confidence, so
    that joints which one of them guessed tell nobody apart; the area is .53 of the smaller box."""
    area = np.inf
    for pose in (a, b):
        low_x, low_y, high_x, high_y = np.inf, np.inf, -np.inf, -np.inf
        for j in range(len(pose)):
            if pose[j, 2] > SEEN:
                low_x, high_x = min(low_x, pose[j, 0]), max(high_x, pose[j, 0])
                low_y, high_y = min(low_y, pose[j, 1]), max(high_y, pose[j, 1])
        area = min(area, 0.53 * max(high_x - low_x, 0.0) * max(high_y - low_y, 0.0))
    total, seen = 0.0, 0.0
    for j in range(len(a)):
        if a[j, 2] > SEEN or b[j, 2] > SEEN:
            weight = min(a[j, 2], b[j, 2])
            square = (a[j, 0] - b[j, 0]) ** 2 + (a[j, 1] - b[j, 1]) ** 2
            total += weight * np.exp(-square / (2 * (2 * OKS_SIGMAS[j]) ** 2 * max(area, 1.0)))
            seen += weight
    return total / seen if seen > 0 else 0.0


@jit
def within(a: F32, b: F32) -> float:
    """The part of the box a (4,) that lies in b (4,)."""
    common = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    return float(common / max((a[2] - a[0]) * (a[3] - a[1]), 1e-9))


@jit
def overlap(a: F32, b: F32) -> float:
    """Intersection over union of two boxes (4,)."""
    common = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return float(common / max(area_a + area_b - common, 1e-9))


@jit
def iou(a: F32, b: F32) -> F64:
    """Intersection over union (n, m) of boxes (n, 4) and (m, 4)."""
    value = np.empty((len(a), len(b)))
    for i in range(len(a)):
        for k in range(len(b)):
            value[i, k] = overlap(a[i], b[k])
    return value


@jit
def distinct(keypoints: F32, boxes: F32, order: I64) -> tuple[I64, NDArray[np.bool_]]:
    """Those rows of `order`, best first, that are people of their own; and whose (m,) poses are those of better rows all the same.

    The same pose in much the same box is the same person; in another box it is that of somebody in front.
    """
    kept = np.empty(len(order), np.int64)
    borrowed = np.zeros(len(keypoints), np.bool_)
    count = 0
    for m in order:
        twin = False
        for k in kept[:count]:
            if oks(keypoints[m], keypoints[k]) > SAME:
                borrowed[m] = True
                twin = twin or overlap(boxes[m], boxes[k]) > 0.5 or within(boxes[m], boxes[k]) > WITHIN
        if not twin:
            kept[count] = m
            count += 1
    return kept[:count], borrowed


@jit
def extent(keypoints: F32, otherwise: F32) -> F32:
    """Box (4,) of the person whose pose (17, 3) this is: the joints seen and the flesh around; `otherwise` if too few were.

    The margins are the medians of those between joints and labelled boxes on COCO's train2017.
    """
    low_x, low_y, high_x, high_y = np.inf, np.inf, -np.inf, -np.inf
    box: F32 = otherwise.copy()
    seen = 0
    for j in range(len(keypoints)):
        if keypoints[j, 2] > SEEN / 2:
            low_x, high_x = min(low_x, keypoints[j, 0]), max(high_x, keypoints[j, 0])
            low_y, high_y = min(low_y, keypoints[j, 1]), max(high_y, keypoints[j, 1])
            seen += 1
    if seen >= 4:
        box[0], box[1], box[2], box[3] = low_x, low_y, high_x, high_y
        box += MARGINS * np.float32(max(high_x - low_x, high_y - low_y))
    return box


@jit
def fit(boxes: F32, keypoints: F32) -> F64:
    """IoU (m,) of each box (m, 4) with the extent of the pose (m, 17, 3) that was found in it."""
    value = np.empty(len(boxes))
    for m in range(len(boxes)):
        value[m] = overlap(boxes[m], extent(keypoints[m], boxes[m]))
    return value


def presence(score: float, sight: float, snug: float, box: F32, longer: int) -> float:
    """The chance that a person is there, from what `traces` takes."""
    return 1 / (1 + math.exp(-float(PRESENCE @ traces(score, sight, snug, box, longer))))


def traces(score: float, sight: float, snug: float, box: F32, longer: int) -> F64:
    """What somebody leaves who may be there: the values (6,) that `PRESENCE` weighs.

    score: the detector's; sight: mean confidence of the keypoints; snug: IoU of the box (4,) with the extent of the pose in it;
    longer: longer side of the picture in px.
    """
    width, height = max(float(box[2] - box[0]), 1.0), max(float(box[3] - box[1]), 1.0)
    size = math.log(416 * max(width, height) / longer)
    return np.array([1.0, _logit(score), _logit(sight), snug, size, math.log(height / width)])


def _logit(chance: float) -> float:
    chance = min(max(chance, 1e-3), 1 - 1e-3)
    return math.log(chance / (1 - chance))


@jit
def likeness(a: F32, b: F32, spread: F64) -> F64:
    """How alike poses (n, 17, 3) and (m, 17, 3) are in place and shape, (n, m) in 0..1.

    A joint counts by the confidence of both; spread (n,) is the distance, in sizes of the person, at which it falls to .6.
    """
    value = np.zeros((len(a), len(b)))
    for i in range(len(a)):
        size = max((np.ptp(a[i, :, 0]) + np.ptp(a[i, :, 1])) / 2, 1.0)
        for k in range(len(b)):
            total, weights = 0.0, 1e-9
            for j in range(a.shape[1]):
                weight = np.sqrt(a[i, j, 2] * b[k, j, 2])
                square = (a[i, j, 0] - b[k, j, 0]) ** 2 + (a[i, j, 1] - b[k, j, 1]) ** 2
                total += weight * np.exp(-square / (2 * (spread[i] * size) ** 2))
                weights += weight
            value[i, k] = total / weights
    return value


@jit
def carry(box: F32, before: F32, after: F32) -> tuple[F32, F32]:
    """Move a box (4,) as the pose in it moved, (17, 3) to (17, 3): the mean way (2,) px of the joints, and the box, moved and scaled.

    Joints count by the confidence of both; the scale is that of their distances from their middle, at most a tenth.
    """
    middle, other = np.zeros(2, np.float32), np.zeros(2, np.float32)
    total = np.float32(1e-9)
    for j in range(len(before)):
        weight = before[j, 2] * after[j, 2]
        middle += weight * before[j, :2]
        other += weight * after[j, :2]
        total += weight
    middle /= total
    other /= total
    spread, spread_after = np.float32(1e-9), np.float32(1e-9)
    for j in range(len(before)):
        weight = before[j, 2] * after[j, 2]
        spread += weight * ((before[j, :2] - middle) ** 2).sum()
        spread_after += weight * ((after[j, :2] - other) ** 2).sum()
    scale = min(max(np.sqrt(spread_after / spread), np.float32(0.9)), np.float32(1.1))
    moved = np.empty(4, np.float32)
    for side in range(4):
        moved[side] = other[side % 2] + (box[side] - middle[side % 2]) * scale
    return other - middle, moved


@jit
def _outside(pose: F32, height: int, width: int) -> bool:
    """Whether most of what was seen of a pose (17, 3) lies beyond the border of the picture."""
    beyond, total = 0.0, 0.0
    for j in range(len(pose)):
        x, y, weight = pose[j]
        total += weight
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            beyond += weight
    return beyond > total / 2

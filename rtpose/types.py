"""What flows through the pipeline: one `Frame` goes in, one `Result` comes out.

All of it is immutable: dataclasses are frozen, arrays are checked for shape and made read-only. Pictures are RGB uint8,
pixel coordinates are x right, y down, with (0, 0) the *centre* of the top left pixel; metres live in the camera frame
(x right, y down, z forward); times are seconds of the source's own clock, latencies monotonic nanoseconds. The leading
axis is people, and nobody is an array of shape (0, ...), not None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

KEYPOINT_NAMES: tuple[str, ...] = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""The 17 keypoints of COCO, in its order; left and right are the person's own."""

SKELETON: tuple[tuple[int, int], ...] = (
    (5, 7), (7, 9), (6, 8), (8, 10), (5, 6), (5, 11), (6, 12), (11, 12),
    (11, 13), (13, 15), (12, 14), (14, 16), (0, 1), (0, 2), (1, 3), (2, 4),
)  # fmt: skip
"""Pairs of keypoints that are drawn as limbs."""

OKS_SIGMAS: F64 = np.array(
    [0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089]
)
"""Per-keypoint standard deviations of COCO's object keypoint similarity (half of the `2 sigma` in its formula)."""


class Status(IntEnum):
    """Where a keypoint's coordinates come from."""

    MEASURED = 0
    CORRECTED = 1
    PREDICTED = 2


def _freeze(owner: Any, name: str, dtype: Any, *shape: int | None) -> int:
    """Cast the array field to `dtype`, check its shape (None: any), make it read-only; return its first axis."""
    given = getattr(owner, name)
    array = np.ascontiguousarray(given, dtype=dtype)
    if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
        wanted = "(" + ", ".join("n" if s is None else str(s) for s in shape) + ")"
        raise ValueError(f"{type(owner).__name__}.{name} has shape {array.shape}, wanted {wanted}")
    if array is given and array.flags.writeable:
        array = array.view()
    array.setflags(write=False)
    object.__setattr__(owner, name, array)
    return int(array.shape[0])


def _agree(owner: Any, *lengths: int) -> None:
    if len(set(lengths)) > 1:
        raise ValueError(f"{type(owner).__name__}: fields disagree about the number of people: {lengths}")


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of the source.

    image: (h, w, 3) uint8 RGB, as shown (rotation applied). index: position in decoding order, from 0. time: seconds of
    the source's clock, strictly increasing. arrival: `time.monotonic_ns()` when the source was handed the packet.
    file: name of the picture, where the source is pictures. independent: True where this frame has nothing to do with the
    one before (a folder of pictures): identities and filters begin anew.
    """

    index: int
    time: float
    image: U8
    arrival: int
    file: str | None = None
    independent: bool = False

    def __post_init__(self) -> None:
        _freeze(self, "image", np.uint8, None, None, 3)

    @property
    def width(self) -> int:
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        return int(self.image.shape[0])


@dataclass(frozen=True, slots=True)
class Boxes:
    """What a detector saw: xyxy (n, 4) px, scores (n,) in 0..1, best first."""

    xyxy: F32
    scores: F32

    def __post_init__(self) -> None:
        _agree(self, _freeze(self, "xyxy", np.float32, None, 4), _freeze(self, "scores", np.float32, None))

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def none() -> Boxes:
        return Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True)
class People:
    """The tracked people of one frame.

    ids (n,) are positive and stay with a person; boxes (n, 4) xyxy px are the person's extent, not the padded crop; scores
    (n,) in 0..1; keypoints (n, 17, 3) are x, y in px and the calibrated chance that the joint is where it is said to be;
    status (n, 17) holds `Status`; raw (n, 17, 3) are the keypoints as the network gave them, before correction and smoothing.
    """

    ids: I64
    boxes: F32
    scores: F32
    keypoints: F32
    status: U8
    raw: F32

    def __post_init__(self) -> None:
        _agree(
            self,
            _freeze(self, "ids", np.int64, None),
            _freeze(self, "boxes", np.float32, None, 4),
            _freeze(self, "scores", np.float32, None),
            _freeze(self, "keypoints", np.float32, None, 17, 3),
            _freeze(self, "status", np.uint8, None, 17),
            _freeze(self, "raw", np.float32, None, 17, 3),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, kept: NDArray[np.bool_]) -> People:
        """Those for whom `kept` (n,) is true."""
        return People(*(getattr(self, name)[kept] for name in ("ids", "boxes", "scores", "keypoints", "status", "raw")))

    @staticmethod
    def none() -> People:
        empty = np.zeros((0, 17, 3), np.float32)
        return People(
            np.zeros(0, np.int64),
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            empty,
            np.zeros((0, 17), np.uint8),
            empty,
        )


@dataclass(frozen=True, slots=True)
class Bodies:
    """A body for each of a frame's people, row by row.

    rotations (n, 22, 3): axis-angle, each joint relative to its parent, the first one (pelvis) relative to the camera frame.
    betas (n, b): shape. translation (n, 3): metres, added after posing about the model's own origin. joints3d (n, j, 3): absolute
    metres in the camera frame, named by `joint_names`. uncertainty (n, j): metres, one standard deviation.
    A person of whom too little was seen for a body has a row of NaN.
    """

    rotations: F32
    betas: F32
    translation: F32
    joints3d: F32
    uncertainty: F32
    joint_names: tuple[str, ...]

    def __post_init__(self) -> None:
        j = len(self.joint_names)
        _agree(
            self,
            _freeze(self, "rotations", np.float32, None, 22, 3),
            _freeze(self, "betas", np.float32, None, None),
            _freeze(self, "translation", np.float32, None, 3),
            _freeze(self, "joints3d", np.float32, None, j, 3),
            _freeze(self, "uncertainty", np.float32, None, j),
        )

    def __len__(self) -> int:
        return len(self.translation)


@dataclass(frozen=True, slots=True)
class Result:
    """A frame and what the stages have found in it so far.

    detections is None where the detector did not look at this frame. bodies is None where no lifter runs, else one row a person.
    """

    frame: Frame
    detections: Boxes | None = None
    people: People = field(default_factory=People.none)
    bodies: Bodies | None = None

    def __post_init__(self) -> None:
        if self.bodies is not None:
            _agree(self, len(self.people), len(self.bodies))

"""Drops what is too unsure: whole people by their mean confidence, single keypoints by their own.

These are the two thresholds of PoseNet's demonstrations (tensorflow/tfjs-models), where a pose's confidence is the mean of its keypoints'.
"""

from __future__ import annotations

from dataclasses import replace

from ..types import Result, Status


class Threshold:
    """The stage. Both scores are the keypoint network's own confidences, 0..1; what is at a threshold stays.

    A keypoint below its threshold keeps its place and gets the confidence 0, which nothing downstream uses or draws; one that was
    corrected no longer depends on what the network thought, and stays.
    """

    name = "scores"

    def __init__(self, pose: float = 0.0, keypoint: float = 0.0) -> None:
        self._pose, self._keypoint = pose, keypoint

    def __call__(self, result: Result) -> Result:
        p = result.people
        if len(p) == 0:
            return result
        kept = p.raw[:, :, 2].mean(1) >= self._pose
        keypoints = p.keypoints.copy()
        keypoints[(p.raw[:, :, 2] < self._keypoint) & (p.status == Status.MEASURED), 2] = 0
        return replace(result, people=replace(p, keypoints=keypoints).only(kept))

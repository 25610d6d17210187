"""Makes results files of the walkers: people who come and go, at uneven times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from rtpose.sinks.data import Provenance, open_data
from rtpose.source import SourceInfo
from rtpose.stages.lift import NAMES
from rtpose.types import Bodies, Result

from .bodies import Walkers


def save_walk(
    path: Path,
    walkers: Walkers,
    times: Sequence[float],
    *,
    ids: Callable[[int], tuple[int, ...]] = lambda index: (1, 2),
    bodiless: Callable[[int, int], bool] = lambda index, identity: False,
    source: str = "nowhere.mp4",
    lifted: bool = True,
    all_joints: bool = False,
) -> list[Result]:
    """Write a run over the walkers at these times. ids: who is there in each frame; bodiless: whose body is not known.

    all_joints: those of the body, too, as the lifter gives them.
    """
    info = SourceInfo(source, walkers.width, walkers.height, Fraction(30), Fraction(1, 90000))
    sink = open_data(path, info, Provenance(lifted=walkers.lifted if lifted else None))
    results = []
    for index, time in enumerate(times):
        result = walkers.result(0, ids(index), at=time)
        result = replace(result, frame=replace(result.frame, index=index))
        if result.bodies is not None:
            if all_joints:
                result = replace(result, bodies=_with_all_joints(result.bodies, walkers))
            hidden = np.array([bodiless(index, identity) for identity in result.people.ids.tolist()], bool)
            result = replace(result, bodies=_without(result.bodies, hidden) if lifted and result.bodies else None)
        sink.write(result)
        results.append(result)
    sink.close()
    return results


def _with_all_joints(bodies: Bodies, walkers: Walkers) -> Bodies:
    poses = zip(bodies.rotations, bodies.betas, bodies.translation, strict=True)
    joints = [np.concatenate([bodies.joints3d[row], walkers.body.pose(*pose)[1]]) for row, pose in enumerate(poses)]
    sd = np.full((len(bodies), len(NAMES)), 0.03)
    return replace(bodies, joints3d=np.array(joints).reshape(-1, len(NAMES), 3), uncertainty=sd, joint_names=NAMES)


def _without(bodies: Bodies, hidden: np.ndarray) -> Bodies:
    arrays = {name: np.array(getattr(bodies, name)) for name in ("rotations", "betas", "translation", "joints3d", "uncertainty")}
    for array in arrays.values():
        array[hidden] = np.nan
    return Bodies(**arrays, joint_names=bodies.joint_names)

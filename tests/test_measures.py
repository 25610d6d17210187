"""Measures on bodies whose angles, speeds and steps are known because they were made so."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from rtpose.body.camera import Camera
from rtpose.body.model import JOINT_NAMES, load_body
from rtpose.errors import InputError
from rtpose.measures import (
    STANDS,
    Measures,
    angles,
    contacts,
    heights_of,
    joint_angles,
    measure,
    measure_run,
    save_measures,
    slopes,
)
from rtpose.reference import truth
from rtpose.runs import Person, Run, read_run
from rtpose.sinks.data import Header
from rtpose.stages.lift import NAMES

from .bodies import Walkers
from .conftest import REPOSITORY
from .saved import save_walk

J = {name: number for number, name in enumerate(JOINT_NAMES)}
BODY = load_body()
DOWN = {16: (0, 0, -np.pi / 2), 17: (0, 0, np.pi / 2)}
SD = 0.02


def standing(n: int = 1) -> np.ndarray:
    """Rotations (n, 22, 3) of somebody upright who faces the camera, with hanging arms."""
    rotations = np.zeros((n, 22, 3))
    rotations[:, 0] = [np.pi, 0, 0]
    for joint, turn in DOWN.items():
        rotations[:, joint] = turn
    return rotations


def person_of(rotations: np.ndarray, places: np.ndarray | None = None, times: np.ndarray | None = None) -> Person:
    """A person with these poses."""
    n = len(rotations)
    places = np.tile([0.0, 0, 4], (n, 1)) if places is None else places
    betas = np.zeros((n, BODY.betas))
    poses = zip(rotations, betas, places, strict=True)
    joints = np.array([np.concatenate([BODY.keypoints3d(*pose)[:17], BODY.pose(*pose)[1]]) for pose in poses])
    times = np.arange(n) / 30 if times is None else times
    keypoints = np.zeros((n, 17, 3))
    return Person(
        1, np.arange(n), times, np.zeros((n, 4)), np.ones(n), keypoints, np.zeros((n, 17)),
        rotations, betas, places, joints, np.full((n, len(NAMES)), SD),
    )  # fmt: skip


def run_of(person: Person, origin: str = "--focal") -> Run:
    header = Header("x.mp4", 640, 480, (), {}, "offline", NAMES, None, Camera(600, 600, 320, 240, origin))
    return Run(Path("x.jsonl"), header, person.rows, person.times, (None,) * len(person.times), {1: person}, False)


def angles_of(rotations: np.ndarray) -> dict[str, float]:
    person = person_of(rotations)
    found = angles(person, BODY, np.float64(person.joints3d[:, 17:]), np.float64(person.uncertainty[:, 17:]))
    assert all(series.unit == "deg" and (series.sd > 0).all() for series in found.values())
    return {name: float(series.values[0]) for name, series in found.items()}


def test_who_stands_upright_has_no_angles() -> None:
    for name, angle in angles_of(standing()).items():
        if "plane" not in name:
            assert angle == pytest.approx(0, abs=2.5 if "shoulder" in name else 0.2), name


BENDS = {
    "left_hip_flexion": ("left_hip", (-1, 0, 0)),
    "right_hip_flexion": ("right_hip", (-1, 0, 0)),
    "left_hip_abduction": ("left_hip", (0, 0, 1)),
    "right_hip_abduction": ("right_hip", (0, 0, -1)),
    "left_knee_flexion": ("left_knee", (1, 0, 0)),
    "right_knee_flexion": ("right_knee", (1, 0, 0)),
    "left_ankle_dorsiflexion": ("left_ankle", (-1, 0, 0)),
    "right_ankle_dorsiflexion": ("right_ankle", (-1, 0, 0)),
    "trunk_flexion": ("spine3", (1, 0, 0)),
    "trunk_lean_right": ("spine3", (0, 0, 1)),
}


@pytest.mark.parametrize("name", BENDS)
@given(degrees=st.floats(-60, 80))
@settings(max_examples=10)
def test_a_bent_joint_has_its_angle_and_no_other_changes(name: str, degrees: float) -> None:
    joint, axis = BENDS[name]
    rotations = standing()
    rotations[0, J[joint]] = np.radians(degrees) * np.array(axis)
    before, after = angles_of(standing()), angles_of(rotations)
    assert after[name] - before[name] == pytest.approx(degrees, abs=1e-3)
    for other in after:
        carried = joint == "spine3" and "shoulder" in other
        if other != name and "plane" not in other and not carried:
            assert after[other] == pytest.approx(before[other], abs=1e-3), other


HIP = (-40.0, 150.0, -60.0, 130.0)


@pytest.mark.parametrize("flexion", [-10.0, 0.0, 10.0, 40.0])
@pytest.mark.parametrize(("side", "outward"), [("left", 1), ("right", -1)])
def test_a_leg_that_goes_out_beyond_90_degrees_keeps_its_flexion(side: str, outward: int, flexion: float) -> None:
    """Flexion is not known at the pole itself, and its deviation says so."""
    out = np.linspace(0, 120, 31)
    rotations = standing(31)
    turns = Rotation.from_euler("XZ", np.stack([np.full(31, -flexion), outward * out], 1), degrees=True)
    rotations[:, J[f"{side}_hip"]] = turns.as_rotvec()
    person = person_of(rotations)
    found = angles(person, BODY, np.float64(person.joints3d[:, 17:]), np.float64(person.uncertainty[:, 17:]))
    abduction, bend = found[f"{side}_hip_abduction"], found[f"{side}_hip_flexion"]
    assert abduction.values == pytest.approx(out, abs=0.1)
    assert bend.values == pytest.approx(flexion, abs=0.1)
    assert abduction.sd == pytest.approx(abduction.sd[0], rel=0.01)
    near = np.abs(out - 90) < 5
    assert (bend.sd[near] > 5 * abduction.sd[near]).all()
    assert bend.sd.max() < 104
    assert bend.sd[0] == pytest.approx(abduction.sd[0], rel=1e-3)


@given(
    flexion=st.floats(-30, 90),
    swing=st.floats(0, 40),
    reach=st.floats(30, 120),
    rotation=st.floats(-40, 40),
)
@settings(max_examples=40)
def test_joint_angles_are_continuous_and_make_the_turn(flexion: float, swing: float, reach: float, rotation: float) -> None:
    phase = np.linspace(0, 2 * np.pi, 120)
    wanted = np.stack([flexion + swing * np.sin(phase), reach * np.sin(phase / 2) ** 2, np.full(120, rotation)], 1)
    turns = Rotation.from_euler("XZY", wanted, degrees=True)
    bend, aside = joint_angles(turns.as_matrix(), np.arange(120), HIP)
    assert np.abs(np.diff(aside)).max() < 10
    clear = np.abs(np.cos(np.radians(wanted[:, 1]))) > 0.05
    # Within a twentieth of a degree of the pole flexion is that of the frame before, and neither is exact there.
    assert bend[clear] == pytest.approx(wanted[clear, 0], abs=0.2)
    assert aside == pytest.approx(wanted[:, 1], abs=0.2)


def test_an_absence_begins_the_angles_anew() -> None:
    out = np.array([100.0, 104, 108, 10, 12, 14])
    turns = Rotation.from_euler("XZY", np.stack([np.full(6, 5.0), out, np.zeros(6)], 1), degrees=True).as_matrix()
    bend, aside = joint_angles(turns, np.array([0, 1, 2, 40, 41, 42]), HIP)
    assert bend == pytest.approx(5, abs=1e-6)
    assert aside == pytest.approx(out, abs=1e-6)


def test_a_knee_is_never_bent_by_more_than_180_degrees_and_makes_no_step() -> None:
    bent = np.concatenate([np.linspace(0, 200, 101), np.linspace(200, 0, 101)])
    rotations = standing(len(bent))
    rotations[:, J["left_knee"], 0] = np.radians(bent)
    person = person_of(rotations)
    found = angles(person, BODY, np.float64(person.joints3d[:, 17:]), np.float64(person.uncertainty[:, 17:]))
    values = found["left_knee_flexion"].values
    assert values.max() <= 180
    assert np.abs(np.diff(values)).max() < 2.1
    assert values == pytest.approx(np.minimum(bent, 360 - bent), abs=0.1)


def test_the_plane_of_a_lifted_arm_makes_no_step_behind_the_back() -> None:
    around = np.radians(np.linspace(90, 250, 81))
    rotations = standing(81)
    hanging = Rotation.from_rotvec(DOWN[J["left_shoulder"]])
    axes = np.stack([-np.sin(around), np.zeros(81), np.cos(around)], 1)
    rotations[:, J["left_shoulder"]] = (Rotation.from_rotvec(np.radians(60) * axes) * hanging).as_rotvec()
    person = person_of(rotations)
    found = angles(person, BODY, np.float64(person.joints3d[:, 17:]), np.float64(person.uncertainty[:, 17:]))
    plane = found["left_shoulder_plane"].values
    assert np.abs(np.diff(plane)).max() < 10
    assert np.ptp(plane) > 120


@given(degrees=st.floats(10, 150))
@settings(max_examples=10)
def test_elbows_and_shoulders(degrees: float) -> None:
    for side, sign in (("left", 1), ("right", -1)):
        rotations = standing()
        rotations[0, J[f"{side}_elbow"]] = [0, -sign * np.radians(degrees), 0]
        found = angles_of(rotations)
        assert found[f"{side}_elbow_flexion"] == pytest.approx(degrees, abs=0.2)
        for plane, axis in ((0.0, (0, 0, sign)), (90.0, (-1, 0, 0)), (-90.0, (1, 0, 0))):
            hanging = Rotation.from_rotvec(DOWN[J[f"{side}_shoulder"]])
            lifted = Rotation.from_rotvec(np.radians(degrees) * np.array(axis)) * hanging
            rotations = standing()
            rotations[0, J[f"{side}_shoulder"]] = lifted.as_rotvec()
            found = angles_of(rotations)
            assert found[f"{side}_shoulder_elevation"] == pytest.approx(degrees, abs=2.5)
            assert found[f"{side}_shoulder_plane"] == pytest.approx(plane, abs=15 if degrees < 25 or degrees > 140 else 5)


some_pose = st.integers(0, 10**6).map(lambda seed: np.random.default_rng(seed).normal(0, 0.5, (1, 22, 3)))


@given(pose=some_pose, turn=st.tuples(*[st.floats(-3, 3)] * 3))
@settings(max_examples=20)
def test_angles_do_not_depend_on_where_the_person_faces(pose: np.ndarray, turn: tuple[float, ...]) -> None:
    turned = pose.copy()
    turned[0, 0] = (Rotation.from_rotvec(turn) * Rotation.from_rotvec(pose[0, 0])).as_rotvec()
    one, other = angles_of(pose), angles_of(turned)
    for name in one:
        assert np.sin(np.radians(one[name] - other[name]) / 2) == pytest.approx(0, abs=1e-5), name


@given(pose=some_pose)
@settings(max_examples=20)
def test_a_mirrored_body_swaps_sides(pose: np.ndarray) -> None:
    mirror = [J[name.replace("left", "?").replace("right", "left").replace("?", "right")] for name in JOINT_NAMES]
    mirrored = pose[:, mirror] * [1, -1, -1]
    one, other = angles_of(pose), angles_of(mirrored)
    assert other["trunk_lean_right"] == pytest.approx(-one["trunk_lean_right"], abs=1e-5)
    for name in one:
        if name.startswith("left_"):
            # The bundled body is as good as symmetric.
            apart = np.sin(np.radians(one[name] - other[name.replace("left_", "right_")]) / 2)
            assert apart == pytest.approx(0, abs=0.02), name


def test_the_angles_of_the_reference_clip_are_those_of_its_truth() -> None:
    """Knee and elbow by their joints' centres, which is another way to them."""
    known = truth()
    for who in (0, 1):
        person = person_of(known.rotations[:, who].astype(float))
        found = angles(person, BODY, np.float64(person.joints3d[:, 17:]), np.float64(person.uncertainty[:, 17:]))
        for name, ends in (
            ("left_knee_flexion", ("left_hip", "left_knee", "left_ankle")),
            ("right_elbow_flexion", ("right_shoulder", "right_elbow", "right_wrist")),
        ):
            a, b, c = (person.joints3d[:, 17 + J[end]].astype(float) for end in ends)
            upper, lower = b - a, c - b
            cosine = (upper * lower).sum(1) / np.linalg.norm(upper, axis=1) / np.linalg.norm(lower, axis=1)
            bend = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
            # A knee that gives a little sideways is bent by its centres, too.
            assert np.abs(np.abs(found[name].values) - bend).mean() < 1.5


# --- speeds ---


def test_slopes_of_parabolas_are_exact_at_any_times() -> None:
    random = np.random.default_rng(0)
    times = np.cumsum(random.uniform(0.02, 0.06, 60))
    shape = random.normal(size=(3, 4, 3))
    points = shape[0] + shape[1] * times[:, None, None] + shape[2] * times[:, None, None] ** 2
    velocity, sd = slopes(np.arange(60), times, points, np.full((60, 4, 3), SD))
    assert velocity == pytest.approx(shape[1] + 2 * shape[2] * times[:, None, None], abs=1e-9)
    assert (sd > 0).all()
    alone = np.array([0, 1, 2, 10, 11, 20])
    velocity, sd = slopes(alone, times[alone], points[alone], np.full((6, 4, 3), SD))
    assert np.isnan(velocity[3:]).all(), "an absence is not bridged"
    assert np.isfinite(velocity[:3]).all()


def test_two_frames_close_together_take_no_more_memory_than_others() -> None:
    times = np.arange(3000) / 30
    points = np.sin(times)[:, None, None] * np.ones((1, 2, 3))
    paired = np.insert(times, 101, times[100] + 11e-6)
    speeds, peaks = [], []
    for when, where in ((times, points), (paired, np.insert(points, 101, points[100], axis=0))):
        tracemalloc.start()
        speeds.append(slopes(np.arange(len(when)), when, where, np.ones_like(where))[0])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]
    assert np.delete(speeds[1], 101, axis=0) == pytest.approx(speeds[0], abs=2e-3)


def test_the_deviation_of_a_speed_is_what_noise_makes_of_it() -> None:
    random = np.random.default_rng(1)
    times = np.arange(2000) / 30
    points = np.array([1.0, 0, 2])[None, None] * times[:, None, None] + random.normal(0, SD, (2000, 1, 3))
    velocity, sd = slopes(np.arange(2000), times, points, np.full((2000, 1, 3), SD))
    errors = velocity[10:-10] - [1, 0, 2]
    assert errors.std() == pytest.approx(sd[10:-10].mean(), rel=0.1)


def test_the_deviation_of_an_angle_is_what_noise_makes_of_it() -> None:
    random = np.random.default_rng(2)
    rotations = standing(1500)
    rotations[:, J["left_elbow"]] = [0, -1.2, 0]
    person = person_of(rotations)
    points = np.float64(person.joints3d[:, 17:]) + random.normal(0, SD, (1500, 22, 3))
    found = angles(person, BODY, points, np.full((1500, 22), SD))["left_elbow_flexion"]
    # The elbow belongs to both bones, which counts twice here and makes up for nothing.
    assert found.values.std() / found.sd.mean() == pytest.approx(1.2, abs=0.15)


@given(speed=st.floats(0.5, 8), stretch=st.floats(0.5, 2))
@settings(max_examples=10)
def test_speeds_are_in_metres_or_heights_of_real_time(speed: float, stretch: float) -> None:
    times = np.arange(20) / 30 * stretch
    places = np.array([0, 0, 5.0]) + np.arange(20)[:, None] / 30 * [speed, 0, 0]
    person = person_of(standing(20), places, times)
    known = measure(run_of(person), person, BODY)
    assert known.unit == "m"
    assert known.series["body_speed"].values == pytest.approx(np.full(20, speed / stretch), rel=1e-4)
    stature = np.ptp(BODY.vertices(np.zeros((22, 3)), np.zeros(BODY.betas), np.zeros(3))[:, 1])
    guessed = measure(run_of(person, "a guess (55 degrees)"), person, BODY)
    assert guessed.unit == "heights"
    assert guessed.series["body_speed"].values == pytest.approx(known.series["body_speed"].values / stature, rel=0.01)
    tall = measure(run_of(person, "a guess (55 degrees)"), person, BODY, 2.0)
    assert tall.unit == "m"
    assert tall.series["body_speed"].values == pytest.approx(2 * guessed.series["body_speed"].values, rel=1e-6)
    assert tall.series["left_knee_flexion"].values == pytest.approx(known.series["left_knee_flexion"].values)


# --- feet ---


@given(
    phases=st.lists(st.floats(0.25, 0.9), min_size=4, max_size=10),
    rate=st.sampled_from([15, 24, 30, 60]),
    begin=st.floats(0.1, 0.5),
)
@settings(max_examples=50)
def test_contacts_begin_and_end_where_the_foot_stops_and_starts(phases: list[float], rate: int, begin: float) -> None:
    edges = begin + np.cumsum(phases)
    times = np.arange(int((edges[-1] + 0.3) * rate)) / rate
    swing = np.searchsorted(edges, times) % 2 == 0
    pace = np.where(swing, 2.0, 0.05)
    found = contacts(np.arange(len(times)), times, pace, np.full(len(times), 0.05))
    want = [(a, b) for a, b in zip(edges[::2], [*edges[1::2], np.inf], strict=False)]
    assert len(found) == len(want)
    for contact, (a, b) in zip(found, want, strict=True):
        assert contact.begin == pytest.approx(a, abs=1 / rate)
        assert contact.sd[0] >= 0.28 / rate
        if contact.whole:
            assert contact.end == pytest.approx(b, abs=1 / rate)
        else:
            assert b > times[-1]


def test_short_losses_of_a_contact_and_absences() -> None:
    times = np.arange(40) / 30
    pace = np.full(40, 0.1)
    pace[:5], pace[20], pace[33:] = 2, 1, 2
    (one,) = contacts(np.arange(40), times, pace, np.full(40, 0.01))
    assert one.whole
    rows = np.concatenate([np.arange(25), np.arange(35, 50)])
    first, second = contacts(rows, rows / 30, pace, np.full(40, 0.01))
    assert (first.whole, second.whole) == (False, False)
    assert first.stretch != second.stretch
    assert STANDS > 0.1


def test_feet_that_come_down_together_are_no_steps() -> None:
    """Somebody who jumps on the spot."""
    times = np.arange(90) / 30
    places = np.tile([0.0, 0, 4], (90, 1))
    places[:, 1] = -0.4 * np.maximum(0, np.sin(2 * np.pi * times))
    person = person_of(standing(90), places, times)
    found = measure(run_of(person), person, BODY)
    assert len(found.contacts["left"]) == len(found.contacts["right"]) == 3
    assert not {"cadence", "left_step_time"} & set(found.figures)


@cache
def walked() -> Measures:
    """The walk of the reference clip, exactly known."""
    known = truth()
    person = person_of(known.rotations[:, 0].astype(float), known.translation[:, 0].astype(float))
    return measure(run_of(person), person, BODY)


def test_the_walk_of_the_reference_clip() -> None:
    found = walked()
    left, right = found.contacts["left"], found.contacts["right"]
    begins = sorted((c.begin, side) for side, feet in (("l", left), ("r", right)) for c in feet)
    assert "".join(side for _, side in begins) in ("rlrlr", "lrlrl", "rlrlrl", "lrlrlr")
    # An ordinary walk: 1.07 m/s at about 100 steps a minute, each foot down for three fifths of its stride.
    assert found.figures["cadence"].value == pytest.approx(101, abs=8)
    assert found.figures["body_speed_mean"].value == pytest.approx(1.07, abs=0.05)
    stride = 120 / found.figures["cadence"].value
    assert 0.5 < found.figures["left_contact_time"].value / stride < 0.7
    assert abs(found.figures["contact_time_symmetry"].value) < 2 * found.figures["contact_time_symmetry"].sd
    moved = np.linalg.norm(truth().translation[-1, 0] - truth().translation[0, 0])
    assert found.figures["body_speed_mean"].value * 89 / 30 == pytest.approx(moved, rel=0.06)


# --- the command ---


def test_the_command_and_its_files(tmp_path: Path) -> None:
    run = tmp_path / "walk.jsonl"
    save_walk_with_all_joints(run)
    words = [sys.executable, "-m", "rtpose", "measure", str(run), "--person-height", "2=1.7", "--out-dir", str(tmp_path / "out")]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "left_knee_flexion_range" in done.stdout
    figures = json.loads((tmp_path / "out" / "measures.json").read_text())
    assert [(p["id"], p["unit"]) for p in figures["people"]] == [(1, "heights"), (2, "m")]
    rows: list[dict[str, Any]] = list(csv.DictReader((tmp_path / "out" / "person-2-measures.csv").open()))
    assert len(rows) == 30
    (want,) = (m for m in measure_run(read_run(run), heights=["2=1.7"]) if m.id == 2)
    assert [float(r["left_hip_flexion [deg]"]) for r in rows] == pytest.approx(want.series["left_hip_flexion"].values, abs=1e-3)
    assert [float(r["body_speed_sd [m/s]"]) for r in rows] == pytest.approx(want.series["body_speed"].sd, abs=1e-3)
    again = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "measures.json exists" in again.stderr


def save_walk_with_all_joints(path: Path) -> None:
    save_walk(path, Walkers(160, 120), (np.arange(30) / 30).tolist(), all_joints=True)


def test_what_cannot_be(tmp_path: Path) -> None:
    save_walk(tmp_path / "flat.jsonl", Walkers(160, 120), [0.0, 0.1], lifted=False)
    with pytest.raises(InputError, match=r"holds no bodies, and measuring needs them"):
        measure_run(read_run(tmp_path / "flat.jsonl"))
    save_walk(tmp_path / "few.jsonl", Walkers(160, 120), [0.0, 0.1])
    with pytest.raises(InputError, match="does not hold the joints of the body"):
        measure_run(read_run(tmp_path / "few.jsonl"))
    people = [person_of(standing())]
    for word in ("tall", "0.1", "3", "2=1.8", "x=1.8"):
        with pytest.raises(InputError, match="--person-height"):
            heights_of([word], people)
    assert heights_of(["1.8"], people) == heights_of(["1=1.8"], people) == {1: 1.8}
    short = person_of(standing(1))
    assert "cadence" not in measure(run_of(short), short, BODY).figures
    with pytest.raises(InputError, match="no such folder"):
        save_measures([walked()], run_of(short), tmp_path / "none" / "out")

"""Exports read back by what the formats say; other people's readers read them in test_export_readers.py."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from rtpose.body.model import load_body
from rtpose.errors import EndedEarly, InputError, RtposeError
from rtpose.export import FORMATS, export
from rtpose.export.bvh import _angles
from rtpose.runs import read_run
from rtpose.sinks.data import read_results, save_arrays
from rtpose.types import Result

from .bodies import Walkers
from .conftest import REPOSITORY
from .saved import save_walk

TIMES = 1.5 + np.array([0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21]) / 25
"""A frame was dropped, twice."""
AWAY = range(8, 12)
UP = np.array([1, -1, -1])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Result]]:
    """A run: person 1 is always there, without a body in frame 3; 2 comes late and is away for a while."""
    path = tmp_path_factory.mktemp("run") / "walk.jsonl"
    results = save_walk(
        path,
        Walkers(160, 120),
        TIMES.tolist(),
        ids=lambda i: (1, 2) if i >= 2 and i not in AWAY else (1,),
        bodiless=lambda i, who: who == 1 and i == 3,
    )
    return path, results


@pytest.fixture(scope="module")
def files(saved: tuple[Path, list[Result]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "all"
    notes: list[str] = []
    written = export(saved[0], FORMATS, folder, note=notes.append)
    assert sorted(p.name for p in written) == sorted(p.name for p in folder.iterdir())
    assert len(written) == 2 * 3 + 3
    assert [n.split(":")[0] for n in notes] == ["2 people (1, 2) without a body in a part of the 20 frames"]
    return folder


def rows_of(path: Path, identity: int) -> tuple[list[int], list[tuple[Any, ...]]]:
    """The records in which a person has a body, and that body."""
    found = [
        (i, (r.bodies.rotations[k], r.bodies.betas[k], r.bodies.translation[k], r.bodies.joints3d[k]))
        for i, r in enumerate(read_results(path)[1])
        for k, who in enumerate(r.people.ids)
        if r.bodies is not None and who == identity and np.isfinite(r.bodies.translation[k]).all()
    ]
    return [i for i, _ in found], [pose for _, pose in found]


# --- BVH ---


def read_bvh(path: Path) -> tuple[float, dict[str, np.ndarray]]:
    """Seconds a frame, and the place of every joint in every frame."""
    lines = [line.split() for line in path.read_text().splitlines()]
    end = lines.index(["MOTION"])
    values = np.array(lines[end + 3 :], float)
    assert lines[end + 1] == ["Frames:", str(len(values))]
    places: dict[str, np.ndarray] = {}
    stack: list[tuple[np.ndarray, Rotation]] = []
    name, column, offset = "", 0, np.zeros(3)
    for line in lines[:end]:
        match line:
            case ["ROOT" | "JOINT", name]:
                pass
            case ["End", _]:
                name = ""
            case ["OFFSET", *numbers]:
                offset = np.array(numbers, float)
                if not name:
                    stack.append(stack[-1])
            case ["CHANNELS", count, *channels]:
                turns = Rotation.from_euler("ZXY", values[:, column + int(count) - 3 : column + int(count)], degrees=True)
                assert channels[-3:] == ["Zrotation", "Xrotation", "Yrotation"]
                if stack:
                    places[name] = stack[-1][0] + stack[-1][1].apply(offset)
                    turns = stack[-1][1] * turns
                else:
                    assert channels[:3] == ["Xposition", "Yposition", "Zposition"]
                    places[name] = values[:, :3] + offset
                stack.append((places[name], turns))
                column += int(count)
            case ["}"]:
                stack.pop()
    assert column == values.shape[1]
    return float(lines[end + 2][2]), places


def test_bvh_has_every_joint_where_the_body_has_it(saved: tuple[Path, list[Result]], files: Path) -> None:
    body = load_body()
    for identity in (1, 2):
        step, places = read_bvh(files / f"person-{identity}.bvh")
        assert step == pytest.approx(1 / 25, abs=1e-6)
        assert list(places) != list(body.joint_names), "depth first"
        rows, poses = rows_of(saved[0], identity)
        for row, pose in zip(rows, poses, strict=True):
            frame = round((TIMES[row] - TIMES[0]) * 25)
            want = body.pose(*pose[:3])[1] * UP
            got = np.stack([places[name][frame] for name in body.joint_names])
            assert got == pytest.approx(want, abs=1e-5)
        assert len(places["pelvis"]) == 22, "the whole run"


def test_bvh_bridges_and_holds(saved: tuple[Path, list[Result]], files: Path) -> None:
    _, places = read_bvh(files / "person-2.bvh")
    for name in ("left_wrist", "right_ankle"):
        assert places[name][0] == pytest.approx(places[name][2], abs=1e-6), "held before the first"
    rows, poses = rows_of(saved[0], 2)
    before, after = rows.index(7), rows.index(12)
    turns = Rotation.from_rotvec([poses[before][0][16], poses[after][0][16]])
    frame = 10  # 0.4 s: records 7 and 12 are at 8/25 and 13/25 s
    at = Slerp([8, 13], turns)(frame)
    shoulder, elbow = places["left_shoulder"][frame], places["left_elbow"][frame]
    ahead = Rotation.from_rotvec(poses[before][0][0])  # nothing between pelvis and arm turns but the arm
    want = (ahead * at).apply(load_body().offsets(poses[before][1])[18]) * UP
    assert elbow - shoulder == pytest.approx(want, abs=1e-5)


def test_any_rate_covers_the_whole_run(saved: tuple[Path, list[Result]], tmp_path: Path) -> None:
    export(saved[0], ["bvh", "trc"], tmp_path, rate=100, ids=[1])
    step, places = read_bvh(tmp_path / "person-1.bvh")
    assert step == pytest.approx(0.01)
    assert len(places["head"]) == 85
    header, times, _ = read_trc(tmp_path / "person-1.trc")
    assert times == pytest.approx(1.5 + np.arange(85) / 100, abs=1e-6)
    assert header["DataRate"] == "100.000000"
    assert header["OrigDataRate"] == "25.000000"


# --- TRC ---


def read_trc(path: Path) -> tuple[dict[str, str], np.ndarray, np.ndarray]:
    lines = path.read_text().split("\n")
    header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
    names = lines[3].split("\t")[2::3]
    header["names"] = " ".join(names)
    rows = [line.split("\t") for line in lines[6:-1]]
    width = 2 + 3 * int(header["NumMarkers"])
    assert {len(line.split("\t")) for line in lines[3:5]} == {len(row) for row in rows} == {width}
    assert [row[0] for row in rows] == [str(i + 1) for i in range(int(header["NumFrames"]))]
    values = np.array([[float(cell) for cell in row[1:]] for row in rows])
    return header, values[:, 0], values[:, 1:].reshape(len(rows), -1, 3)


def test_trc_has_the_joints_in_opensims_axes_and_nothing_in_gaps(saved: tuple[Path, list[Result]], files: Path) -> None:
    header, times, points = read_trc(files / "person-2.trc")
    run = read_run(saved[0])
    assert header["Units"] == "m"
    assert header["names"].split() == list(run.header.joints3d_names or ())
    assert times == pytest.approx(1.5 + np.arange(22) / 25, abs=1e-6)
    rows, poses = rows_of(saved[0], 2)
    for row, pose in zip(rows, poses, strict=True):
        x, y, z = pose[3].T
        want = np.stack([-z, -y, -x], 1)  # towards the camera, up, to the right of who faces the camera
        assert points[round((TIMES[row] - 1.5) * 25)] == pytest.approx(want, abs=1e-5)
    known = np.isfinite(points).all((1, 2))
    assert known.tolist() == [2 <= i < 9 or i >= 13 for i in range(22)]
    assert np.isnan(points[~known]).all()


# --- GLB ---


class Glb:
    """Reads and evaluates a GLB by the words of the glTF 2.0 specification."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        magic, version, total = struct.unpack("<4sII", data[:12])
        assert (magic, version, total) == (b"glTF", 2, len(data))
        length = struct.unpack("<I", data[12:16])[0]
        self.json = json.loads(data[20 : 20 + length])
        self.binary = data[28 + length :]

    def array(self, accessor: int) -> np.ndarray:
        a = self.json["accessors"][accessor]
        view = self.json["bufferViews"][a["bufferView"]]
        shape = {"SCALAR": (), "VEC3": (3,), "VEC4": (4,), "MAT4": (4, 4)}[a["type"]]
        kind = {5126: np.float32, 5121: np.uint8, 5125: np.uint32}[a["componentType"]]
        count = a["count"] * int(np.prod(shape))
        return np.frombuffer(self.binary, kind, count, view["byteOffset"]).reshape(a["count"], *shape)

    def vertices(self, time: float) -> np.ndarray:
        nodes = [dict(node) for node in self.json["nodes"]]
        animation = self.json["animations"][0]
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            times, values = self.array(sampler["input"]), self.array(sampler["output"])
            after = int(np.clip(np.searchsorted(times, np.float32(time), "right"), 1, len(times) - 1))
            share = np.clip((time - times[after - 1]) / (times[after] - times[after - 1]), 0, 1)
            path, target = channel["target"]["path"], nodes[channel["target"]["node"]]
            if sampler["interpolation"] == "STEP":
                value = values[after if time >= times[after] else after - 1]
            elif path == "rotation":
                value = Slerp([0, 1], Rotation.from_quat(values[after - 1 : after + 1]))(share).as_quat()
            else:
                values = values.reshape(len(times), -1)
                value = values[after - 1] + share * (values[after] - values[after - 1])
            target[path] = value
        world: dict[int, np.ndarray] = {}

        def place(node: int, above: np.ndarray) -> None:
            n = nodes[node]
            own = np.eye(4)
            own[:3, :3] = Rotation.from_quat(n.get("rotation", [0, 0, 0, 1])).as_matrix() * n.get("scale", np.ones(3))
            own[:3, 3] = n.get("translation", [0, 0, 0])
            world[node] = above @ own
            for child in n.get("children", []):
                place(child, world[node])

        for root in self.json["scenes"][0]["nodes"]:
            place(root, np.eye(4))
        skin, mesh = self.json["skins"][0], self.json["meshes"][0]
        inverse = self.array(skin["inverseBindMatrices"]).transpose(0, 2, 1)
        moves = np.stack([world[j] for j in skin["joints"]]) @ inverse
        primitive = mesh["primitives"][0]
        a = {name: self.array(accessor) for name, accessor in primitive["attributes"].items()}
        rest = a["POSITION"].astype(float)
        for weight, target in zip(nodes[1].get("weights", []), primitive.get("targets", []), strict=True):
            rest = rest + weight * self.array(target["POSITION"])
        blended = (a["WEIGHTS_0"][..., None, None] * moves[a["JOINTS_0"]]).sum(1)
        return np.einsum("vab,vb->va", blended, np.concatenate([rest, np.ones((len(rest), 1))], 1))[:, :3]


def test_glb_moves_every_vertex_as_the_body_at_the_true_times(saved: tuple[Path, list[Result]], files: Path) -> None:
    body = load_body()
    for identity in (1, 2):
        glb = Glb(files / f"person-{identity}.glb")
        rows, poses = rows_of(saved[0], identity)
        for row, pose in list(zip(rows, poses, strict=True))[::4]:
            want = body.vertices(*pose[:3], "full") * UP
            assert np.abs(glb.vertices(TIMES[row]) - want).max() < 1e-5
    assert Path(files / "person-1.glb").stat().st_size < 3e6


def test_glb_shows_nobody_in_gaps(files: Path) -> None:
    glb = Glb(files / "person-2.glb")
    for row in (0, 1, *AWAY):
        assert np.ptp(glb.vertices(TIMES[row] + 0.001), axis=0).max() == 0
    assert np.ptp(glb.vertices(TIMES[12]), axis=0).max() > 1


def test_glb_of_an_smpl_body_bends_as_it_does(tmp_path: Path) -> None:
    """Its vertices are also moved by the pose: morph targets."""
    from dataclasses import replace

    walkers = Walkers(160, 120)
    random = np.random.default_rng(0)
    mesh = walkers.body.meshes["full"]
    few = np.arange(300)
    faces = np.stack([few, np.roll(few, 1), np.roll(few, 2)], 1).astype(np.int32)
    small = replace(
        mesh,
        vertices=mesh.vertices[few],
        shapes=mesh.shapes[:, few],
        index=mesh.index[few],
        weights=mesh.weights[few],
        faces=faces,
        pose_shapes=random.normal(0, 0.01, (189, 300, 3)).astype(np.float32),
    )
    body = replace(walkers.body, meshes={"full": small, "light": small})
    save_walk(tmp_path / "walk.jsonl", walkers, [0.0, 0.1, 0.2], ids=lambda i: (1,))
    run = read_run(tmp_path / "walk.jsonl")
    from rtpose.export import glb
    from rtpose.export.motion import motion_of

    person = run.people[1].with_body()
    with open(tmp_path / "smpl.glb", "wb") as file:
        glb.write(file, run=run, person=person, motion=motion_of(person, body, run), body=body)
    for i in range(3):
        want = body.vertices(person.rotations[i], person.betas[i], person.translation[i], "full") * UP
        assert np.abs(Glb(tmp_path / "smpl.glb").vertices(run.times[i]) - want).max() < 1e-5


def test_times_before_zero_begin_at_zero_in_a_glb(tmp_path: Path) -> None:
    save_walk(tmp_path / "walk.jsonl", Walkers(160, 120), [-0.5, -0.4, -0.3], ids=lambda i: (1,))
    export(tmp_path / "walk.jsonl", ["glb"], tmp_path / "out")
    glb = Glb(tmp_path / "out" / "person-1.glb")
    times = glb.array(glb.json["animations"][0]["samplers"][0]["input"])
    assert times == pytest.approx([0, 0.1, 0.2])
    assert glb.json["animations"][0]["extras"] == {"source_time_of_0": -0.5}


# --- tables ---


def test_csv_and_npz_hold_what_the_run_holds(saved: tuple[Path, list[Result]], files: Path) -> None:
    rows = list(csv.DictReader((files / "people.csv").open()))
    records = list(read_results(saved[0])[1])
    assert [(int(r["frame"]), int(r["id"])) for r in rows] == [(r.frame, i) for r in records for i in r.people.ids.tolist()]
    again = list(read_results(files / "people.npz")[1])
    table = iter(rows)
    for one, other in zip(records, again, strict=True):
        assert one.bodies is not None
        assert other.bodies is not None
        assert np.array_equal(one.people.keypoints, other.people.keypoints)
        assert np.array_equal(one.bodies.joints3d, other.bodies.joints3d, equal_nan=True)
        for k in range(len(one.people)):
            row = next(table)
            assert float(row["time"]) == one.time
            assert np.float32(row["left_ankle_x"]) == one.people.keypoints[k, 15, 0]
            assert np.float32(row["left_ankle_score"]) == one.people.keypoints[k, 15, 2]
            assert row["left_ankle_status"] == "measured"
            want = one.bodies.joints3d[k, 15, 2]
            assert row["left_ankle_3d_z"] == "" if np.isnan(want) else np.float32(row["left_ankle_3d_z"]) == want
    export(files / "people.npz", ["npz", "csv"], files / "again")
    assert (files / "again" / "people.npz").read_bytes() == (files / "people.npz").read_bytes()
    assert (files / "again" / "people.csv").read_bytes() == (files / "people.csv").read_bytes()


def test_coco_holds_every_detection(saved: tuple[Path, list[Result]], files: Path) -> None:
    found = json.loads((files / "coco.json").read_text())
    records = [(r, k) for r in read_results(saved[0])[1] for k in range(len(r.people))]
    for one, (record, k) in zip(found, records, strict=True):
        assert one["image_id"] == record.frame
        assert one["track_id"] == record.people.ids[k]
        assert np.array_equal(np.float32(one["keypoints"]).reshape(17, 3), record.people.keypoints[k])
        x, y, w, h = one["bbox"]
        assert [x, y, x + w, y + h] == pytest.approx(record.people.boxes[k].tolist(), abs=0.011)


# --- nobody, and somebody for a moment ---


@pytest.mark.parametrize("ending", ["jsonl", "npz"])
def test_a_run_in_which_nobody_was_found_gives_tables_without_rows(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "empty.jsonl"
    save_walk(path, Walkers(160, 120), [0.0, 0.1, 0.2], ids=lambda i: ())
    if ending == "npz":
        save_arrays(path, tmp_path / "empty.npz")
    notes: list[str] = []
    out = tmp_path / "out"
    written = export(path.with_suffix(f".{ending}"), FORMATS, out, note=notes.append)
    assert sorted(p.name for p in written) == sorted(p.name for p in out.iterdir()) == ["coco.json", "people.csv", "people.npz"]
    assert notes == [f"nobody in {path.with_suffix(f'.{ending}')} has a body: there is no bvh, glb or trc"]
    assert json.loads((out / "coco.json").read_text()) == []
    assert len((out / "people.csv").read_text().splitlines()) == 1
    assert [len(record.people) for record in read_results(out / "people.npz")[1]] == [0, 0, 0]
    export(path, ["glb"], tmp_path / "other", note=notes.append)
    assert notes[1].endswith("there is no glb")


def test_measure_and_report_of_nobody(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    save_walk(path, Walkers(160, 120), [0.0, 0.1, 0.2], ids=lambda i: ())
    done = command("measure", path, "--out-dir", tmp_path / "measures")
    assert done.returncode == 0, done.stderr
    assert "has a body: there is nothing to measure" in done.stderr
    assert json.loads((tmp_path / "measures" / "measures.json").read_text())["people"] == []
    refused = command("measure", path, "--person-height", "1.80")
    assert (refused.returncode, "there is nobody with a body" in refused.stderr) == (2, True)
    done = command("report", path, "--out", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    assert "Nobody was found in this run." in (tmp_path / "page.html").read_text()


def test_whoever_is_seen_for_a_moment_gets_no_files_and_one_note_says_so(tmp_path: Path) -> None:
    path = tmp_path / "crowd.jsonl"
    times = (np.arange(20) / 10).tolist()
    save_walk(path, Walkers(160, 120), times, ids=lambda i: (1, 2, 10 + i // 2) if i < 6 else (1, 20 + i // 4))
    notes: list[str] = []
    out = tmp_path / "out"
    written = export(path, ["bvh", "trc", "csv"], out, note=notes.append)
    assert {p.stem for p in written} == {"person-1", "person-2", "people"}
    assert (
        notes[0]
        == "7 people (10, 11, 12, 21, 22, 23, 24) seen for less than 0.5 s: no bvh or trc (--min-duration 0 writes them all)"
    )
    assert notes[1].startswith("person 2 has a body in 6 of 20 frames")
    assert len(notes) == 2
    with (out / "people.csv").open() as table:
        assert {int(row["id"]) for row in csv.DictReader(table)} == {1, 2, 10, 11, 12, 21, 22, 23, 24}, "tables hold everybody"

    def whom(**more: Any) -> list[str]:
        return sorted(p.stem[7:] for p in export(path, ["bvh"], out, overwrite=True, **more))

    assert len(whom(min_duration=0)) == 9
    assert whom(min_duration=0.3) == ["1", "2", "22", "23", "24"]
    assert whom(ids=[10]) == ["10"], "who is named is written"
    assert whom(min_duration=60) == ["1"], "who is there all the time is written"
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"--min-duration .*: give seconds"):
            export(path, ["bvh"], out, min_duration=wrong)


def test_people_in_pictures_are_not_brief(tmp_path: Path) -> None:
    path = tmp_path / "pictures.jsonl"
    save_walk(path, Walkers(160, 120), [0.0, 1.0, 2.0], ids=lambda i: (1 + i,))
    lines = path.read_text().splitlines()
    named = [{**json.loads(line), "file": f"{i}.jpg"} for i, line in enumerate(lines[1:])]
    path.write_text("\n".join([lines[0], *map(json.dumps, named)]) + "\n")
    assert len(export(path, ["bvh"], tmp_path / "out")) == 3


# --- what cannot be ---


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "rtpose", *map(str, arguments)]
    return subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_the_command(saved: tuple[Path, list[Result]], tmp_path: Path) -> None:
    done = command("export", saved[0], "--to", "bvh", "csv", "--person", "2", "--out-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "out" / name) for name in ("person-2.bvh", "people.csv")]
    again = command("export", saved[0], "--to", "bvh", "csv", "--person", "2", "--out-dir", tmp_path / "out")
    assert again.returncode == 2
    assert again.stderr.count("\n") <= 2
    assert "person-2.bvh exists" in again.stderr


def test_export_at_the_end_of_a_run(person_clip: Path, tmp_path: Path) -> None:
    done = command(person_clip, "--export", "bvh", "csv", "--out-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    bodies = read_run(tmp_path / "out" / "run.jsonl").with_bodies(None, "bvh")
    skeletons = [f"person-{person.id}.bvh" for person in bodies]
    assert "person-1.bvh" in skeletons
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"people.csv", "run.jsonl", *skeletons}
    assert len(read_bvh(tmp_path / "out" / "person-1.bvh")[1]["head"]) == 30
    for words, said in (
        (("--export", "bvh"), "belong together"),
        (("--export", "bvh", "--out-dir", tmp_path / "out"), "person-1.bvh exists"),
        (("--export", "bvh", "--out-dir", tmp_path / "new", "--lifter", "none"), "needs bodies"),
        (("--export", "bvh", "--out-dir", tmp_path / "new", "--save", "-"), "give --save a file"),
    ):
        refused = command(person_clip, *words)
        assert refused.returncode == 2
        assert said in " ".join(refused.stderr.split())


def test_what_cannot_be_is_said_before_anything_is_written(saved: tuple[Path, list[Result]], tmp_path: Path) -> None:
    path, out = saved[0], tmp_path / "out"
    flat = tmp_path / "flat.jsonl"
    save_walk(flat, Walkers(160, 120), [0.0, 0.1], lifted=False)
    for name in ("bvh", "glb", "trc"):
        with pytest.raises(InputError, match=rf"flat\.jsonl holds no bodies, and {name} needs them"):
            export(flat, ["csv", name], out)
    with pytest.raises(InputError, match="has no person 7: there is 1, 2"):
        export(path, ["csv"], out, ids=[7])
    with pytest.raises(InputError, match="an npz holds everybody"):
        export(path, ["csv", "npz"], out, ids=[1])
    with pytest.raises(InputError, match="unknown format 'fbx': there are bvh, glb"):
        export(path, ["fbx"], out)
    for rate in (0, -1, float("nan"), 1e9):
        with pytest.raises(InputError, match="--rate"):
            export(path, ["bvh"], out, rate=rate)
    with pytest.raises(InputError, match="no such folder"):
        export(path, ["csv"], tmp_path / "none" / "out")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file: give a folder"):
        export(path, ["csv"], tmp_path / "file")
    other = tmp_path / "smpl.jsonl"
    other.write_text(path.read_text().replace(load_body().sha256, "0" * 64))
    with pytest.raises(InputError, match="was made with the body"):
        export(other, ["bvh"], out)
    assert not out.exists()


def test_corrupt_and_foreign_files(saved: tuple[Path, list[Result]], tmp_path: Path) -> None:
    lines = saved[0].read_text().splitlines(keepends=True)
    broken = {
        "empty": "",
        "foreign": '{"frames": []}\n',
        "noise": "\0\1\2\n",
        "half": lines[0] + lines[1][:-9] + "\n" + lines[2],
        "backwards": lines[0] + lines[2] + lines[1],
        "twins": lines[0] + lines[5].replace('"id":2', '"id":1'),
        "headless": lines[0],
        "deep": lines[0] + "[" * 100_000 + "\n",
        "far": lines[0] + lines[1].replace('"frame":0', '"frame":1e999'),
        "numerous": lines[0] + lines[5].replace('"id":2', f'"id":{10**30}'),
        "never": lines[0] + lines[1].replace('"time":', '"time":NaN,"was":'),
        "nameless": lines[0] + lines[1].replace('"frame":0', '"frame":0,"file":5'),
        "blind": lines[0].replace('"fx":', '"fx":0,"was":') + lines[1],
        "shapeless": lines[0] + lines[1] + re.sub(r'"betas":\[.*?\]', '"betas":[0,0]', lines[2]),
    }
    for name, text in broken.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text(text)
        with pytest.raises(InputError, match=f"{name}.jsonl") as said:
            export(path, ["csv"], tmp_path / "out")
        assert "\n" not in str(said.value)
    (tmp_path / "cut.npz").write_bytes(b"PK\3\4 no archive")
    with pytest.raises(InputError, match=r"cut\.npz: it is damaged"):
        export(tmp_path / "cut.npz", ["csv"], tmp_path / "out")
    save_arrays(saved[0], tmp_path / "odd.npz")
    arrays = dict(np.load(tmp_path / "odd.npz"))
    np.savez(tmp_path / "odd.npz", **{**arrays, "status": arrays["status"] + 3})
    with pytest.raises(InputError, match=r"odd\.npz: .*\(a status is none of measured"):
        export(tmp_path / "odd.npz", ["csv"], tmp_path / "out")
    with pytest.raises(InputError, match="cannot read"):
        export(tmp_path, ["csv"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cut_off_end_is_told_and_what_is_whole_is_exported(saved: tuple[Path, list[Result]], tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl.partial"
    cut.write_bytes(saved[0].read_bytes()[:-100])
    with pytest.raises(EndedEarly, match=r"the last line .* is cut off; everything before it was used"):
        export(cut, ["csv", "bvh"], tmp_path)
    rows = list(csv.DictReader((tmp_path / "people.csv").open()))
    assert int(rows[-1]["frame"]) == len(TIMES) - 2


def test_a_full_disk_leaves_what_was_there(saved: tuple[Path, list[Result]], tmp_path: Path) -> None:
    export(saved[0], ["bvh", "csv", "glb"], tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    (tmp_path / "person-1.glb.unfinished").symlink_to("/dev/full")
    with pytest.raises(RtposeError, match=r"cannot write .*person-1\.glb: No space left on device") as said:
        export(saved[0], ["bvh", "csv", "glb"], tmp_path, overwrite=True)
    assert said.value.exit_code == 1
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_disk_that_fills_in_the_middle(saved: tuple[Path, list[Result]], tmp_path: Path) -> None:
    run = tmp_path / "walk.jsonl"
    shutil.copy(saved[0], run)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    words = [sys.executable, "-m", "rtpose", "export", str(run), "--to", "bvh", "glb", "--out-dir", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, preexec_fn=limit, env=environment, check=False)
    assert done.returncode == 1, done.stderr
    assert "person-1.glb: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["person-1.bvh"]
    assert len(read_bvh(tmp_path / "out" / "person-1.bvh")[1]) == 22
    assert run.read_bytes() == saved[0].read_bytes()


def test_a_joint_that_turns_through_its_pole_makes_no_step_in_a_bvh() -> None:
    n = 200
    wanted = np.stack([30 * np.sin(np.arange(n) / 20), np.linspace(-20, 150, n), 20 * np.cos(np.arange(n) / 30)], 1)
    turns = Rotation.from_euler("ZXY", wanted, degrees=True)
    angles = _angles(turns.as_quat().reshape(n, 1, 4))[:, 0]
    assert angles == pytest.approx(wanted, abs=1e-6)
    assert np.abs(np.diff(angles, axis=0)).max() < 2
    assert (Rotation.from_euler("ZXY", angles, degrees=True) * turns.inv()).magnitude().max() < 1e-9

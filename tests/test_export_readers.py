"""The programs that people use read the exports and find what the run holds: Blender, three.js, OpenSim, bvhio, Khronos' validator,
COCO's tools, and the second most used reader of each format.

The run is the truth of the reference clip, with a gap.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rtpose.body.camera import Camera
from rtpose.body.model import Lifted, load_body
from rtpose.body.raster import depth_buffer, draw_mesh
from rtpose.export import export
from rtpose.reference import truth
from rtpose.runs import read_run
from rtpose.sinks.data import Provenance, open_data
from rtpose.source import SourceInfo
from rtpose.stages.lift import NAMES
from rtpose.types import Bodies, Frame, People, Result

from .environments import node_with, python_with
from .test_report import PUPPETEER, shots_folder

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
BLENDER = "bpy==5.0.1"
THREE = "three@0.180.0"
OPENSIM = "opensim==4.6"
VALIDATOR = "gltf-validator@2.0.0-dev.3.10"
NEIGHBOURS = ("pandas==3.1.1", "polars==2.1.0", "trimesh==5.2.0", "pygltflib==1.16.5")
POSE2SIM = "Pose2Sim==0.10.49"
POSE2SIM_NEEDS = ("anytree", "c3d==0.6.0", "matplotlib", "opencv-python-headless", "rtoml", "scipy")
"""What Pose2Sim's module for files imports: all that it names would be gigabytes."""
SCRIPTS = ("npyjs@1.2.0", "fflate@0.8.3", "papaparse@5.7.1")
UP = np.array([1, -1, -1])
AWAY = range(40, 50)
TENTH_MM = 1e-4


def true_results() -> list[Result]:
    """The truth of the reference clip as results at 30 frames a second; the second person is away for a while."""
    known, body = truth(), load_body()
    image = np.zeros((480, 640, 3), np.uint8)
    results = []
    for i in range(len(known.rotations)):
        rows = [0] if i in AWAY else [0, 1]
        keypoints = np.concatenate([known.keypoints[i, rows], np.full((len(rows), 17, 1), 0.9)], -1)
        boxes = np.concatenate([keypoints[..., :2].min(1), keypoints[..., :2].max(1)], 1)
        ids = np.array(rows) + 1
        people = People(ids, boxes, np.full(len(rows), 0.9), keypoints, np.zeros((len(rows), 17)), keypoints)
        poses = [(known.rotations[i, r], known.betas[i, r], known.translation[i, r]) for r in rows]
        joints = [np.concatenate([body.keypoints3d(*pose)[:17], body.pose(*pose)[1]]) for pose in poses]
        arrays = [np.array(part) for part in zip(*poses, strict=True)]
        bodies = Bodies(*arrays, np.array(joints), np.full((len(rows), len(NAMES)), 0.02), NAMES)
        results.append(Result(Frame(i, i / 30, image, time.monotonic_ns()), None, people, bodies))
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readers")
    camera = Camera(*truth().camera.tolist(), origin="truth")
    info = SourceInfo("clip.mp4", 640, 480, Fraction(30), Fraction(1, 30))
    sink = open_data(folder / "run.jsonl", info, Provenance(lifted=Lifted(load_body(), lambda width, height: camera)))
    for result in true_results():
        sink.write(result)
    sink.close()
    export(folder / "run.jsonl", ["bvh", "glb", "trc", "csv", "coco", "npz"], folder)
    return folder


@pytest.fixture(scope="module")
def joints(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Places (f, 2, 22, 3) of the run's joints, NaN in the gap, and vertices (f, v, 3) of the first person in some frames; y up."""
    run, body = read_run(folder / "run.jsonl"), load_body()
    places = np.full((90, 2, 22, 3), np.nan)
    for who in (0, 1):
        person = run.people[who + 1]
        for row, *pose in zip(person.rows, person.rotations, person.betas, person.translation, strict=True):
            places[row, who] = body.pose(*pose)[1] * UP
    one = run.people[1]
    shown = [body.vertices(one.rotations[i], one.betas[i], one.translation[i]) * UP for i in SOME]
    return places, np.array(shown)


SOME = [0, 17, 44, 89]


def _said(words: list[str], folder: Path) -> str:
    """What a program says that runs in the folder: some leave their logs where they are called."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def _blender(path: Path, times: list[float], out: Path) -> Any:
    _said([python_with("blender", BLENDER), str(HERE / "blender_reads.py"), str(path), str(out), *map(str, times)], out.parent)
    return np.load(out)


def test_bvhio_finds_every_joint(folder: Path, joints: tuple[np.ndarray, np.ndarray]) -> None:
    import bvhio

    for who in (0, 1):
        root = bvhio.readAsHierarchy(str(folder / f"person-{who + 1}.bvh"))
        bones = {name: root.filter(name, isEqual=True)[0] for name in load_body().joint_names}
        worst = 0.0
        for frame in range(0, 90, 3):
            root.loadPose(frame, recursive=True)
            got = np.array([list(bone.PositionWorld) for bone in bones.values()])
            worst = max(worst, float(np.nan_to_num(np.abs(got - joints[0][frame, who])).max()))
        print(f"bvhio, person {who + 1}: {1e3 * worst:.4f} mm")
        assert worst < TENTH_MM


def test_blender_animates_the_skeleton(folder: Path, joints: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    got = _blender(folder / "person-2.bvh", list(range(90)), tmp_path / "bvh.npz")
    x, minus_z, y = np.moveaxis(got["bones"], -1, 0)[[0, 1, 2]]
    bones = np.stack([x, y, -minus_z], -1)
    order = [got["names"].tolist().index(name) for name in load_body().joint_names]
    apart = np.abs(bones[:, order] - joints[0][:, 1])
    known = np.isfinite(apart)
    assert known.sum() == 80 * 22 * 3
    print(f"Blender {got['version']}, BVH: {1e3 * apart[known].max():.4f} mm")
    assert apart[known].max() < TENTH_MM
    assert np.abs(np.diff(bones[AWAY.start - 1 : AWAY.stop + 1], axis=0)).max() < 0.1, "it moves smoothly through the gap"


def test_blender_animates_the_mesh(folder: Path, joints: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    got = _blender(folder / "person-1.glb", [i / 30 for i in SOME], tmp_path / "glb.npz")
    vertices = np.stack([got["vertices"][..., 0], got["vertices"][..., 2], -got["vertices"][..., 1]], -1)
    assert vertices.shape == joints[1].shape
    apart = np.linalg.norm(vertices - joints[1], axis=-1).max()
    print(f"Blender {got['version']}, GLB: {1e3 * apart:.4f} mm")
    assert apart < TENTH_MM
    gone = _blender(folder / "person-2.glb", [0.0, 45 / 30], tmp_path / "gone.npz")["vertices"]
    assert np.ptp(gone[0], 0).max() > 1
    assert np.ptp(gone[1], 0).max() < 1e-5


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """A request is no news."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which this machine, and no other, finds the files of a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def three_draws(model: Path, camera: Camera, times: Sequence[float], shots: Path) -> tuple[np.ndarray, np.ndarray]:
    """What three.js makes of a GLB at these times: where it draws something (t, h, w), and vertices (t, v, 3); y up."""
    home = node_with("three", THREE, PUPPETEER)
    script = shutil.copy(HERE / "three_draws.js", home)
    shutil.copy(model, home)
    shots.mkdir(parents=True, exist_ok=True)
    seen = {"width": 640, "height": 480} | {name: getattr(camera, name) for name in ("fx", "fy", "cx", "cy")}
    with served(home) as url:
        words = ["node", str(script), url, model.name, json.dumps(seen), str(shots), *map(str, times)]
        vertices = np.array(json.loads(_said(words, home)))
    pictures = [cv2.imread(str(shots / f"{i}.png"), cv2.IMREAD_UNCHANGED) for i in range(len(times))]
    return np.array(pictures)[..., 3] > 0, vertices


def test_a_browser_draws_the_animated_mesh(folder: Path, joints: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    camera, faces = read_run(folder / "run.jsonl").header.camera, load_body().meshes["full"].faces
    assert camera is not None
    drawn, vertices = three_draws(folder / "person-1.glb", camera, [i / 30 for i in SOME], shots_folder(tmp_path, "three"))
    apart = np.linalg.norm(vertices - joints[1], axis=-1).max()
    print(f"three.js, GLB: {1e3 * apart:.4f} mm")
    assert apart < TENTH_MM
    for silhouette, body in zip(drawn, joints[1] * UP, strict=True):
        picture = np.zeros((480, 640, 3), np.uint8)
        draw_mesh(picture, body.astype(np.float32), faces, camera, (255, 255, 255), depth_buffer(picture))
        ours = picture.any(-1)
        overlap = (silhouette & ours).sum() / (silhouette | ours).sum()
        print(f"three.js, GLB: silhouettes overlap by {overlap:.4f} (IoU), {ours.sum()} px")
        assert overlap > 0.98
    gone, _ = three_draws(folder / "person-2.glb", camera, [0.0, 45 / 30], tmp_path / "gone")
    assert gone.any((1, 2)).tolist() == [True, False]


def test_khronos_validator_finds_nothing(folder: Path) -> None:
    home = node_with("gltf", VALIDATOR)
    script = (
        "const v = require('gltf-validator'), fs = require('fs');"
        "v.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1]))).then(r => console.log(JSON.stringify(r)));"
    )
    for who in (1, 2):
        words = ["node", "-e", script, str(folder / f"person-{who}.glb")]
        done = subprocess.run(words, cwd=home, capture_output=True, text=True, check=True)
        report = json.loads(done.stdout)
        assert report["issues"]["messages"] == []
        assert report["info"]["animationCount"] == 1
        assert report["info"]["totalVertexCount"] == 13718


def test_opensim_reads_the_markers(folder: Path, tmp_path: Path) -> None:
    run = read_run(folder / "run.jsonl")
    for who in (1, 2):
        out = tmp_path / f"{who}.npz"
        words = [python_with("opensim", OPENSIM), str(HERE / "opensim_reads.py"), str(folder / f"person-{who}.trc"), str(out)]
        _said(words, tmp_path)
        got = np.load(out)
        assert tuple(got["names"]) == run.header.joints3d_names
        assert got["units"].tolist() == ["m", "meters"]
        assert (float(got["rate"]), int(got["frames"])) == (30, 90)
        assert got["times"] == pytest.approx(np.arange(90) / 30, abs=1e-5)
        want = np.full((90, len(NAMES), 3), np.nan)
        person = run.people[who]
        x, y, z = np.moveaxis(np.float64(person.joints3d), -1, 0)
        want[person.rows] = np.stack([-z, -y, -x], -1)
        assert np.isnan(got["points"]).any((1, 2)).tolist() == [who == 2 and i in AWAY for i in range(90)]
        worst = np.nanmax(np.abs(got["points"] - want))
        print(f"OpenSim, person {who}: {1e3 * worst:.4f} mm")
        assert worst < TENTH_MM


def test_pycocotools_scores_the_results_against_themselves(folder: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found = json.loads((folder / "coco.json").read_text())
    labels: dict[str, Any] = {
        "images": [{"id": i, "width": 640, "height": 480} for i in range(90)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [],
    }
    known = truth().keypoints
    for number, one in enumerate(found, 1):
        points = np.concatenate([known[one["image_id"], one["track_id"] - 1], np.full((17, 1), 2)], 1)
        area = one["bbox"][2] * one["bbox"][3]
        more = {"id": number, "iscrowd": 0, "area": area, "num_keypoints": 17, "keypoints": points.reshape(-1).tolist()}
        labels["annotations"].append({**one, **more})
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    reference = COCO(str(tmp_path / "labels.json"))
    results = reference.loadRes(str(folder / "coco.json"))
    assert len(results.anns) == len(found) == 90 + 80
    score = COCOeval(reference, results, "keypoints")
    score.evaluate()
    score.accumulate()
    score.summarize()
    assert score.stats[0] == pytest.approx(1.0)
    assert score.stats[5] == pytest.approx(1.0)


def test_faster_coco_eval_scores_the_results_against_themselves(folder: Path) -> None:
    from faster_coco_eval import COCO, COCOeval_faster

    found = json.loads((folder / "coco.json").read_text())
    labels = [
        {**one, "id": k, "iscrowd": 0, "area": one["bbox"][2] * one["bbox"][3], "num_keypoints": 17}
        for k, one in enumerate(found, 1)
    ]
    images = [{"id": i} for i in range(90)]
    reference = COCO({"info": {}, "images": images, "categories": [{"id": 1, "name": "person"}], "annotations": labels})
    score = COCOeval_faster(reference, reference.loadRes(str(folder / "coco.json")), "keypoints", print_function=lambda *_: None)
    score.run()
    assert score.stats[0] == pytest.approx(1.0)


@pytest.fixture(scope="module")
def neighbours(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What pandas, polars, Pose2Sim, c3d, trimesh and pygltflib find in the exports."""
    out = tmp_path_factory.mktemp("neighbours")
    for path in (*folder.glob("*.trc"), *folder.glob("*.glb"), folder / "people.csv"):
        shutil.copy(path, out)
    python = python_with("neighbours", *NEIGHBOURS, *POSE2SIM_NEEDS, alone=(POSE2SIM,))
    _said([python, str(HERE / "neighbours_read.py"), str(out), str(out / "found.npz")], out)
    return np.load(out / "found.npz")


def test_pose2sim_and_pandas_read_the_markers(folder: Path, neighbours: Any) -> None:
    run = read_run(folder / "run.jsonl")
    names = list(run.header.joints3d_names or ())
    for who in (1, 2):
        person = run.people[who]
        want = np.full((90, len(NAMES), 3), np.nan)
        x, y, z = np.moveaxis(np.float64(person.joints3d), -1, 0)
        want[person.rows] = np.stack([-z, -y, -x], -1)
        assert neighbours[f"person-{who} names"].tolist() == neighbours[f"person-{who} c3d names"].tolist() == names
        assert neighbours[f"person-{who} frames"].tolist() == list(range(1, 91))
        assert neighbours[f"person-{who} times"] == pytest.approx(np.arange(90) / 30, abs=1e-5)
        assert neighbours[f"person-{who} points"] == pytest.approx(want, abs=TENTH_MM, nan_ok=True)
        plain = neighbours[f"person-{who} plain"]
        assert plain.shape == (90, 2 + 3 * len(NAMES))
        assert plain[:, 2:] == pytest.approx(want.reshape(90, -1), abs=TENTH_MM, nan_ok=True)
        assert neighbours[f"person-{who} c3d rate"] == pytest.approx(30)
        # Pose2Sim writes whole millimetres, and c3d gives 0 for a marker that is missing.
        assert neighbours[f"person-{who} c3d"] == pytest.approx(1000 * np.nan_to_num(want), abs=1.001)


def test_trimesh_and_pygltflib_read_the_mesh(folder: Path, neighbours: Any) -> None:
    body = load_body()
    mesh = body.meshes["full"]
    for who in (1, 2):
        betas = np.median(np.float64(read_run(folder / "run.jsonl").people[who].betas), 0)
        want = np.float64(mesh.vertices) + np.tensordot(betas, np.float64(mesh.shapes), 1)
        assert np.ptp(neighbours[f"person-{who} vertices"], 0) == pytest.approx(np.ptp(want, 0), abs=TENTH_MM)
        assert int(neighbours[f"person-{who} faces"]) == len(mesh.faces)
        assert neighbours[f"person-{who} nodes"].tolist() == [f"person-{who}", f"person-{who}-mesh", *body.joint_names]
        assert int(neighbours[f"person-{who} channels"]) == 23 + (who == 2)


def test_pandas_and_polars_read_the_table(folder: Path, neighbours: Any) -> None:
    run = read_run(folder / "run.jsonl")
    one, other = neighbours["pandas numbers"], neighbours["polars numbers"]
    assert np.array_equal(one, other, equal_nan=True)
    columns = [name for name in neighbours["pandas columns"].tolist() if not name.endswith("_status")]
    assert neighbours["polars columns"].tolist() == neighbours["pandas columns"].tolist()
    for who in (1, 2):
        rows = one[one[:, columns.index("id")] == who]
        person = run.people[who]
        assert rows[:, columns.index("time")].tolist() == person.times.tolist()
        assert np.float32(rows[:, columns.index("left_wrist_y")]) == pytest.approx(person.keypoints[:, 9, 1])
        assert np.float32(rows[:, columns.index("nose_3d_z")]) == pytest.approx(person.joints3d[:, 0, 2])


def test_javascript_reads_the_arrays_and_the_table(folder: Path) -> None:
    home = node_with("npyjs", *SCRIPTS)
    script = shutil.copy(HERE / "npyjs_reads.mjs", home)
    got = json.loads(_said(["node", str(script), str(folder / "people.npz"), str(folder / "people.csv")], home))
    with np.load(folder / "people.npz") as arrays:
        assert sorted(got["arrays"]) == sorted(arrays)
        for name, array in arrays.items():
            assert tuple(got["arrays"][name]["shape"]) == array.shape
            assert np.array_equal(np.array(got["arrays"][name]["data"], array.dtype).reshape(array.shape), array)
    assert (got["rows"], got["errors"]) == (90 + 80, [])
    assert got["first"]["id"] == 1
    assert all(isinstance(value, str if name.endswith("_status") else int | float) for name, value in got["first"].items())


def test_exports_of_nobody_are_read(tmp_path: Path) -> None:
    info = SourceInfo("clip.mp4", 640, 480, Fraction(30), Fraction(1, 30))
    camera = Camera(*truth().camera.tolist(), origin="truth")
    sink = open_data(tmp_path / "run.jsonl", info, Provenance(lifted=Lifted(load_body(), lambda width, height: camera)))
    for i in range(3):
        sink.write(Result(Frame(i, i / 30, np.zeros((480, 640, 3), np.uint8), time.monotonic_ns())))
    sink.close()
    export(tmp_path / "run.jsonl", ["bvh", "glb", "trc", "csv", "coco", "npz"], tmp_path)
    python = python_with("neighbours", *NEIGHBOURS, *POSE2SIM_NEEDS, alone=(POSE2SIM,))
    _said([python, str(HERE / "neighbours_read.py"), str(tmp_path), str(tmp_path / "found.npz")], tmp_path)
    found = np.load(tmp_path / "found.npz")
    assert len(found["pandas numbers"]) == len(found["polars numbers"]) == 0
    assert found["pandas columns"].tolist() == found["polars columns"].tolist()
    home = node_with("npyjs", *SCRIPTS)
    script = shutil.copy(HERE / "npyjs_reads.mjs", home)
    got = json.loads(_said(["node", str(script), str(tmp_path / "people.npz"), str(tmp_path / "people.csv")], home))
    assert got["arrays"]["people"]["data"] == [0, 0, 0]
    assert (got["rows"], got["errors"]) == (0, [])

"""Fine-tuning of HMR: the loss falls, a run that was killed goes on as if it had not been, and the result is a checkpoint again."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data

from rtpose.body.model import BodyModel
from rtpose.body.smpl import load_smpl
from rtpose.errors import InputError
from rtpose.evaluate import read_annotations

from ..body.smpl_files import human_arrays

pytestmark = pytest.mark.slow  # PyTorch comes with the extra `train`


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, an SMPL file, two pictures and labels of five people in them."""
    from ..hmr_reference import random_hmr, save

    folder = tmp_path_factory.mktemp("hmr")
    save(random_hmr(3), folder / "hmr.pt")
    (folder / "smpl.pkl").write_bytes(pickle.dumps(human_arrays(), protocol=4))
    pictures = folder / "pictures"
    pictures.mkdir()
    random = np.random.default_rng(0)
    said: dict[str, Any] = {"images": [], "annotations": []}
    for k, image in enumerate((data.astronaut(), data.coffee())):
        cv2.imwrite(str(pictures / f"{k}.jpg"), image[..., ::-1])
        said["images"].append({"id": k, "file_name": f"{k}.jpg"})
        for _ in range(2 + k):
            x, y = random.uniform(20, 200), random.uniform(20, 120)
            points = np.concatenate([random.uniform([x, y], [x + 120, y + 220], (17, 2)), np.full((17, 1), 2)], 1)
            said["annotations"].append({"image_id": k, "keypoints": points.ravel().tolist(), "bbox": [x, y, 120, 220]})
    (folder / "labels.json").write_text(json.dumps(said))
    return folder


@pytest.fixture(scope="module")
def body(files: Path) -> BodyModel:
    return load_smpl(files / "smpl.pkl")


def test_the_loss_falls_and_killed_and_resumed_is_the_same_curve(
    files: Path, body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rtpose.models.hmr import read_checkpoint
    from rtpose.train import hmr

    monkeypatch.setattr(hmr, "KEEP_EVERY", 3)
    pictures = read_annotations(files / "labels.json", files / "pictures")
    curves = {}
    for name, runs in (("whole", (9,)), ("broken", (4, 9))):
        for until in runs:
            model = hmr.train_hmr(pictures, files / "hmr.pt", body, tmp_path / name, steps=9, stop=until, batch=3)
        curves[name] = [json.loads(line) for line in (tmp_path / name / "curve.jsonl").read_text().splitlines()]
    assert curves["whole"] == curves["broken"]
    assert [row["step"] for row in curves["whole"]] == [0, 3, 6, 9]
    assert curves["whole"][-1]["batches"] < 0.9 * curves["whole"][0]["all"]
    assert "5 people" in model.origin
    one, two = (read_checkpoint(tmp_path / name / "hmr.pt") for name in ("whole", "broken"))
    assert all(np.array_equal(one[key], two[key]) for key in one)
    with pytest.raises(InputError, match="holds the state of another run"):
        hmr.train_hmr(pictures, files / "hmr.pt", body, tmp_path / "whole", steps=9, batch=2)


def test_the_command(files: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "rtpose",
        "train",
        "hmr",
        "--images",
        str(files / "pictures"),
        "--out",
        str(tmp_path / "out"),
    ]
    command += ["--annotations", str(files / "labels.json"), "--checkpoint", str(files / "hmr.pt")]
    done = subprocess.run(
        [*command, "--body-model", str(files / "smpl.pkl"), "--steps", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "out" / "hmr.json").read_text())
    assert card["task"] == "hmr"
    assert "says nothing about other pictures" in card["made"]


def test_annotations_of_other_pictures(files: Path, tmp_path: Path) -> None:
    from rtpose.train.hmr import Samples

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    with pytest.raises(InputError, match="none of the 2 pictures"):
        read_annotations(files / "labels.json", pictures)
    shutil.copy(files / "pictures" / "1.jpg", pictures / "1.jpg")
    cv2.imwrite(str(pictures / "0.jpg"), data.astronaut()[:100, :120])
    with pytest.raises(InputError, match=r"do not match the pictures: 0\.jpg is 120x100 px, its labels reach \d+"):
        Samples.of(read_annotations(files / "labels.json", pictures))
    said = json.loads((files / "labels.json").read_text())
    for one in said["annotations"]:
        one["keypoints"][2::3] = [2] * 7 + [0] * 10
    (tmp_path / "none.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match="nobody in the pictures has eight labelled joints"):
        Samples.of(read_annotations(tmp_path / "none.json", files / "pictures"))

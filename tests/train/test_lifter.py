"""Training of the lifter: what it is shown is what it is asked for, and a run that was killed goes on as if it had not been."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rtpose.backends import open_session
from rtpose.body.initial import FEATURES
from rtpose.body.model import load_body
from rtpose.body.rotations import to_axis_angle
from rtpose.errors import InputError

pytestmark = [pytest.mark.shared, pytest.mark.slow]  # torch comes with the extra `train`


def test_places_and_reprojection_agree_with_the_body(shared: Path) -> None:
    import torch

    from rtpose.train.lifter import Places, reprojection
    from rtpose.train.mocap import read_mocap
    from rtpose.train.samples import Bank, KeypointErrors, Sampler

    body = load_body()
    bank = Bank.of(read_mocap(shared / "data" / "mocap", body, ("humanoid3d_spinkick",)))
    sampler = Sampler(body, bank, KeypointErrors.load(), np.random.default_rng(0))
    x, world, betas, _ = (torch.from_numpy(array) for array in sampler(40))
    places = Places(body)
    assert torch.isfinite(x).all()
    ours = places(world, betas)
    local = world.double().numpy()
    local[:, 1:] = np.swapaxes(local[:, body.parents[1:]], -1, -2) @ local[:, 1:]
    for i in range(5):
        keypoints = body.keypoints3d(to_axis_angle(local[i]), betas[i].numpy(), np.zeros(3))[:17]
        np.testing.assert_allclose(ours[i, :17], keypoints - 0.5 * (keypoints[11] + keypoints[12]), atol=1e-5)
    there = ours[:, :17] + torch.tensor([0.2, -0.1, 4.0])
    labels = (x, there[..., :2] / there[..., 2:], torch.ones(40, 17), torch.full((40,), 0.4))
    assert reprojection(world, betas, labels, places) < 1e-3
    assert reprojection(world.roll(1, 0), betas, labels, places) > 0.01


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training that knows two short clips and ten drawn people, and keeps its state often."""
    from rtpose.train import lifter, poses, renders
    from rtpose.train.mocap import read_mocap

    def few(folder: Path, body: object) -> object:
        return read_mocap(folder, load_body(), ("humanoid3d_spinkick", "humanoid3d_roll"))

    monkeypatch.setattr(lifter, "read_mocap", few)
    monkeypatch.setattr(lifter, "KEEP_EVERY", 10)
    monkeypatch.setattr(poses, "SMALLEST", 600)
    monkeypatch.setattr(renders, "BLOCKS", range(1))
    monkeypatch.setattr(renders, "SEQUENCES", 10)


@pytest.mark.usefixtures("quick")
def test_killed_and_resumed_is_the_same_curve(shared: Path, tmp_path: Path) -> None:
    from rtpose.train import lifter

    said = {}
    for name, runs in (("whole", (40,)), ("broken", (20, 40))):
        for until in runs:
            path = lifter.train_lifter(shared / "data", tmp_path / name, steps=40, stop=until, made=tmp_path / "made")
        said[name] = [json.loads(line) for line in (tmp_path / name / "curve.jsonl").read_text().splitlines()]
        for row in said[name]:
            del row["seconds"]
    assert said["whole"] == said["broken"]
    session = open_session(path, precision="f32", threads=1)
    assert session({"keypoints": np.zeros((2, FEATURES), np.float32)})["six"].shape == (2, 18, 6)
    with pytest.raises(InputError, match="is of a run of 40 steps, not 50"):
        lifter.train_lifter(shared / "data", tmp_path / "whole", steps=50, made=tmp_path / "made")
    (tmp_path / "made" / "00.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(InputError, match="holds no drawn people"):
        lifter.train_lifter(shared / "data", tmp_path / "other", steps=40, made=tmp_path / "made")
    (tmp_path / "made" / "poses.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(InputError, match="holds no poses"):
        lifter.train_lifter(shared / "data", tmp_path / "other", steps=40, made=tmp_path / "made")


@pytest.mark.usefixtures("quick")
def test_training_without_a_part(shared: Path, tmp_path: Path) -> None:
    from rtpose.train import lifter

    lifter.train_lifter(shared / "data", tmp_path, steps=10, without=("wild", "poses", "renders", "window", "errors"))
    card = json.loads((tmp_path / "lifter.json").read_text())
    assert "without errors, poses, renders, wild, window" in card["made"]
    with pytest.raises(InputError, match="cannot train without luck: choose of wild, poses, renders, window, errors"):
        lifter.train_lifter(shared / "data", tmp_path, without=("luck",))


def test_a_state_that_is_not_ours(shared: Path, tmp_path: Path) -> None:
    from rtpose.train.lifter import Run

    (tmp_path / "state.pt").write_bytes(b"not a state")
    with pytest.raises(InputError, match=r"state\.pt is not of this lifter's training"):
        Run(tmp_path, load_body(), 10, 1e-3, np.random.default_rng(0))

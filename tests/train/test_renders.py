"""People drawn for training: the keypoint network finds their joints where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtpose.backends import open_session
from rtpose.body.model import load_body
from rtpose.models import find
from rtpose.train.mocap import read_mocap
from rtpose.train.renders import EVERY, MOMENTS, Studio, Wardrobe, backdrop
from rtpose.train.samples import STEPS, Bank, KeypointErrors, Sampler, SeenSampler

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def studio(shared: Path) -> Studio:
    body = load_body()
    clips = read_mocap(shared / "data" / "mocap", body, ("CMU_walkcycles/02_01",))
    sampler = Sampler(body, Bank.of(clips), KeypointErrors.load(), np.random.default_rng(3))
    model = find("movenet-thunder", "keypoints")
    return Studio(sampler, open_session(model.path, precision="f32", threads=1), model.decoder)


def test_the_network_sees_drawn_people_where_they_are(studio: Studio) -> None:
    seen = studio.sequences(12)  # some of them hurry: three are too few for what most do
    assert seen.rays.shape == (12, MOMENTS, 17, 2)
    scene = studio._scene()
    crop = studio._draw(scene, 0, studio._square(scene, 0))
    assert crop.shape == (studio.side, studio.side, 3)
    size = np.ptp(seen.rays[..., 1], axis=-1)[..., None]
    step = np.linalg.norm(np.diff(seen.rays, axis=1), axis=-1) / size[:, 1:]
    sure = seen.confidences[:, 1:] > 0.5
    assert sure.mean() > 0.5
    assert np.median(step[sure]) < 0.05, "walkers move little in a fifteenth of a second"
    x, world, _, confidences = SeenSampler(seen, load_body(), np.random.default_rng(0))(50)
    assert np.isfinite(x).all()
    np.testing.assert_allclose(world @ np.swapaxes(world, -1, -2), np.broadcast_to(np.eye(3), world.shape), atol=2e-3)
    np.testing.assert_array_equal((confidences > 0), x[:, 2:51:3] > 0)
    assert not (STEPS % EVERY).any()


def test_garments_cover_the_mesh_once_and_backdrops_differ() -> None:
    body = load_body()
    garments = Wardrobe.of(body).dress(np.random.default_rng(0))
    faces = np.concatenate([garment.vertices[garment.faces] for garment in garments])
    assert sorted(map(tuple, faces.tolist())) == sorted(map(tuple, body.meshes["full"].faces.tolist()))
    one, other = backdrop(np.random.default_rng(0)), backdrop(np.random.default_rng(1))
    assert one.shape == (512, 512, 3)
    assert (one != other).any()

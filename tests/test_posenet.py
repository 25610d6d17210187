"""PoseNet's decoders against what the npm package @tensorflow-models/posenet found (see scripts/posenet_golden.py)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rtpose.backends import Session, open_session
from rtpose.models import find
from rtpose.stages import posenet

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDEN = json.loads((REPOSITORY / "tests/posenet_golden.json").read_text())
PUBLIC = [row for row in GOLDEN["results"] if "/" not in row["picture"]]
COCO = [row for row in GOLDEN["results"] if "/" in row["picture"]]
PIXELS, SCORE = 0.5, 1e-3


@cache
def session() -> Session:
    return open_session(find("posenet", "keypoints").path, precision="f32")


@pytest.fixture(scope="module")
def maker() -> Iterator[Any]:
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    import posenet_golden

    yield posenet_golden
    sys.path.pop(0)


def agree(maker: Any, rows: list[dict[str, Any]]) -> int:
    """Check single and multiple poses of each picture; return how many poses there were."""
    poses = 0
    for row in rows:
        crop = maker.letterbox(maker.picture(row["picture"]), GOLDEN["size"])
        maps = {name: values[0] for name, values in session()({"image": crop[None]}).items()}
        single = posenet.decode_single(maps["scores"], maps["offsets"], posenet.STRIDE)
        close(single, row["single"]["keypoints"])
        assert single[:, 2].mean() == pytest.approx(row["single"]["score"], abs=SCORE)
        many, scores = posenet.decode_multi(maps["scores"], maps["offsets"], maps["forward"], maps["backward"], posenet.STRIDE)
        assert len(many) == len(row["multi"])
        for mine, score, theirs in zip(many, scores, row["multi"], strict=True):
            close(mine, theirs["keypoints"])
            assert score == pytest.approx(theirs["score"], abs=SCORE)
        poses += len(many)
    return poses


def close(mine: NDArray[np.float32], theirs: list[list[float]]) -> None:
    wanted = np.array(theirs)
    np.testing.assert_allclose(mine[:, :2], wanted[:, :2], atol=PIXELS)
    np.testing.assert_allclose(mine[:, 2], wanted[:, 2], atol=SCORE)


def test_a_public_picture_gives_what_tfjs_gives(maker: Any) -> None:
    assert agree(maker, PUBLIC) >= 1


@pytest.mark.shared
def test_real_pictures_give_what_tfjs_gives(maker: Any, shared: Path) -> None:
    assert (shared / "data/coco_images").is_dir()
    assert len(COCO) >= 20
    assert agree(maker, COCO) >= 40


def maps_of(*people: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Maps (25, 25, c) of a network that sees these people (17, 3) exactly."""
    scores, offsets = np.zeros((25, 25, 17), np.float32), np.zeros((25, 25, 34), np.float32)
    forward, backward = np.zeros((25, 25, 32), np.float32), np.zeros((25, 25, 32), np.float32)
    for person in people:
        cells = np.floor(person[:, :2] / 16 + 0.5).astype(int)
        for k, (x, y) in enumerate(cells):
            for r in range(max(0, y - 1), min(25, y + 2)):
                for c in range(max(0, x - 1), min(25, x + 2)):
                    offsets[r, c, k], offsets[r, c, k + 17] = person[k, 1] - 16 * r, person[k, 0] - 16 * c
            scores[y, x, k] = person[k, 2]
        for e, (parent, child) in enumerate(posenet.EDGES):
            for maps, here, there in ((forward, parent, child), (backward, child, parent)):
                x, y = cells[here]
                maps[y, x, [e, e + 16]] = person[there, [1, 0]] - person[here, [1, 0]]
    return scores, offsets, forward, backward


def person(x: float, y: float, size: float, score: float) -> NDArray[np.float32]:
    """Seventeen points of which each falls on a cell of its own."""
    k = np.arange(17)
    points = np.stack([x + size * (k % 4) / 4, y + size * (k // 4) / 4], 1)
    return np.concatenate([points, np.full((17, 1), score)], 1).astype(np.float32)


def test_two_people_are_told_apart_and_the_middle_one_is_the_crops() -> None:
    middle, aside = person(120, 120, 160, 0.8), person(300, 20, 80, 0.9)
    maps = maps_of(middle, aside)
    poses, scores = posenet.decode_multi(*maps, 16)
    assert len(poses) == 2
    np.testing.assert_allclose(poses[0], aside, atol=1e-3)
    np.testing.assert_allclose(poses[1], middle, atol=1e-3)
    np.testing.assert_allclose(scores, [0.9, 0.8], atol=1e-5)
    np.testing.assert_allclose(posenet.decode_person(*maps, 16), middle, atol=1e-3)


def test_limits_of_multiple_poses() -> None:
    maps = maps_of(*(person(60 * k, 60 * k, 50, 0.6 + 0.05 * k) for k in range(6)))
    assert len(posenet.decode_multi(*maps, 16)[0]) == 5
    assert len(posenet.decode_multi(*maps, 16, max_poses=2)[0]) == 2
    assert len(posenet.decode_multi(*maps, 16, root_score=0.79)[0]) == 2
    assert len(posenet.decode_multi(*maps, 16, nms_radius=1000)[0]) == 1


def test_an_empty_crop_still_has_places() -> None:
    maps = maps_of()
    poses, scores = posenet.decode_multi(*maps, 16)
    assert poses.shape == (0, 17, 3)
    assert scores.shape == (0,)
    assert posenet.decode_person(*maps, 16).shape == (17, 3)


def test_sigmoid_does_not_overflow() -> None:
    np.testing.assert_allclose(posenet.sigmoid(np.array([-1e4, 0, 1e4], np.float32)), [0, 0.5, 1], atol=1e-6)

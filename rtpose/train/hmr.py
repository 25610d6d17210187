"""Fine-tuning of HMR by re-projection: pictures with labelled joints teach it, no 3D truth is needed.

What the labels say in two dimensions is the loss; what they cannot tell, depth above all, is held to what the checkpoint said before.
Normalisation layers keep their statistics. The result is a checkpoint of the same layout.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..body.model import BodyModel
from ..errors import InputError
from ..models import Model, file_sha256, register
from ..models.hmr import (
    BETAS,
    DEVIATION,
    FEATURES,
    HIDDEN,
    JOINTS,
    MEAN,
    POSE,
    ROUNDS,
    SIDE,
    STAGES,
    STATE,
    interleaved,
    read_checkpoint,
)
from ..source import read_picture
from ..stages.hmr import CROP
from ..stages.keypoints import cut, square_crops
from ..types import F32
from . import HMR_STEPS, keep
from .lifter import Places

if TYPE_CHECKING:
    from ..evaluate import Picture

KEEP_EVERY = 20
"""Steps after which state and curve are kept."""
STAY, SHAPE = 0.1, 1e-3
"""Weights, beside the re-projection error in halves of the crop, of turning bones against the checkpoint and of betas squared."""


class Block(nn.Module):
    """A bottleneck of ResNet-50."""

    def __init__(self, before: int, channels: int, stride: int, *, first: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv3, self.bn3 = nn.Conv2d(channels, 4 * channels, 1, bias=False), nn.BatchNorm2d(4 * channels)
        shortcut = (nn.Conv2d(before, 4 * channels, 1, stride, bias=False), nn.BatchNorm2d(4 * channels))
        self.downsample = nn.Sequential(*shortcut) if first else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.bn1(self.conv1(x)))
        inner = torch.relu(self.bn2(self.conv2(inner)))
        return torch.relu(self.bn3(self.conv3(inner)) + self.downsample(x))


class Network(nn.Module):
    """HMR with the names of SPIN's checkpoints. Pictures (n, 3, 224, 224), normalised -> pose (n, 144), betas, weak camera (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, STAGES[0][0], 7, 2, 3, bias=False), nn.BatchNorm2d(STAGES[0][0])
        self.layer1, self.layer2, self.layer3, self.layer4 = (self._stage(stage) for stage in range(len(STAGES)))
        self.fc1, self.fc2 = nn.Linear(FEATURES + STATE, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.decpose, self.decshape, self.deccam = nn.Linear(HIDDEN, POSE), nn.Linear(HIDDEN, BETAS), nn.Linear(HIDDEN, 3)
        self.init_pose, self.init_shape, self.init_cam = (nn.Buffer(torch.zeros(1, n)) for n in (POSE, BETAS, 3))

    @staticmethod
    def _stage(stage: int) -> nn.Sequential:
        channels, blocks = STAGES[stage]
        before = 4 * STAGES[stage - 1][0] if stage else channels
        rows = [
            Block(before if block == 0 else 4 * channels, channels, 1 if block or not stage else 2, first=block == 0)
            for block in range(blocks)
        ]
        return nn.Sequential(*rows)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        features = self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))
        pose, betas, camera = (part.expand(len(x), -1) for part in (self.init_pose, self.init_shape, self.init_cam))
        for _ in range(ROUNDS):
            hidden = self.fc2(self.fc1(torch.cat([features, pose, betas, camera], 1)))
            pose, betas, camera = pose + self.decpose(hidden), betas + self.decshape(hidden), camera + self.deccam(hidden)
        return pose, betas, camera


@dataclass(frozen=True)
class Samples:
    """Crops (n, 224, 224, 3) uint8 of labelled people; labels (n, 17, 2) in halves of the crop about its middle; known (n, 17): 0, 1."""

    crops: torch.Tensor
    labels: torch.Tensor
    known: torch.Tensor

    @staticmethod
    def of(pictures: Sequence[Picture]) -> Samples:
        """Everybody with enough labelled joints. Raises InputError where labels lie outside their picture, and where nobody is left."""
        crops: list[Any] = []
        labels: list[Any] = []
        known: list[Any] = []
        for picture in pictures:
            image = read_picture(picture.path)
            height, width = image.shape[:2]
            reach = picture.keypoints[picture.keypoints[:, :, 2] > 0][:, :2]
            if len(reach) and ((reach < -1).any() or (reach > [width + 1, height + 1]).any()):
                x, y = reach.max(0)
                raise InputError(
                    f"the annotations do not match the pictures: {picture.path.name} is {width}x{height} px, its labels reach {x:g}, {y:g}"
                )
            people = picture.scored
            for square, keypoints in zip(square_crops(picture.boxes[people], CROP), picture.keypoints[people], strict=True):
                crop = np.empty((SIDE, SIDE, 3), np.uint8)
                cut(image, square, crop)
                crops.append(crop)
                labels.append((keypoints[:, :2] - square[:2]) / (square[2] / 2))
                known.append(np.float32(keypoints[:, 2] > 0))
        if not crops:
            raise InputError(
                "nobody in the pictures has eight labelled joints and a box of 80 px: label more, or give other pictures"
            )
        return Samples(*(torch.from_numpy(np.stack(parts)) for parts in (crops, labels, known)))

    def __len__(self) -> int:
        return len(self.crops)

    def pictures(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """What the network sees of these samples."""
        mean, deviation = (torch.tensor(part).view(3, 1, 1) for part in (MEAN, DEVIATION))
        return (self.crops[rows].permute(0, 3, 1, 2).float() / 255 - mean) / deviation


class Reading:
    """What a network's outputs mean: local rotations (n, 22, 3, 3), and where the keypoints fall in the crop (n, 17, 2)."""

    def __init__(self, body: BodyModel, mean: F32) -> None:
        self.body, self.places = body, Places(body)
        self.interleaved = interleaved(mean.reshape(JOINTS, 6))
        self.pelvis = torch.from_numpy(np.float32(body.offsets(np.zeros(body.betas))[0]))
        self.pelvis_shapes = torch.from_numpy(np.float32(body.offset_shapes()[:, 0]))

    def rotations(self, pose: torch.Tensor) -> torch.Tensor:
        six = pose.view(-1, JOINTS, 3, 2) if self.interleaved else pose.view(-1, JOINTS, 2, 3).transpose(2, 3)
        first = functional.normalize(six[:, :22, :, 0], dim=-1)
        other = six[:, :22, :, 1]
        second = functional.normalize(other - (first * other).sum(-1, keepdim=True) * first, dim=-1)
        return torch.stack([first, second, torch.cross(first, second, dim=-1)], -1)

    def keypoints(self, local: torch.Tensor, betas: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
        world = [local[:, 0]]
        for joint in range(1, 22):
            world.append(world[int(self.body.parents[joint])] @ local[:, joint])
        places = self.places(torch.stack(world, 1), betas)
        about_origin = places[:, :17] - places[:, 17:18] + (self.pelvis + betas @ self.pelvis_shapes)[:, None]
        return camera[:, None, :1] * (about_origin[..., :2] + camera[:, None, 1:])


def reprojection(at: torch.Tensor, samples: Samples, rows: torch.Tensor | slice) -> torch.Tensor:
    """Mean distance of keypoints (n, 17, 2) from the labels, in halves of the crop."""
    known = samples.known[rows]
    return (known * ((at - samples.labels[rows]).square().sum(-1) + 1e-8).sqrt()).sum() / known.sum()


def train_hmr(
    pictures: Sequence[Picture],
    checkpoint: Path,
    body: BodyModel,
    folder: Path,
    *,
    steps: int = HMR_STEPS,
    stop: int | None = None,
    batch: int = 8,
    rate: float = 5e-5,
    seed: int = 0,
) -> Model:
    """Fine-tune a checkpoint on labelled pictures; write `hmr.pt`, its card and `curve.jsonl` into `folder`.

    steps: of the whole run; stop: after which to stop this time. A run that was killed and is started again gives the same curve. Raises
    InputError for a checkpoint or pictures that cannot be used, and for a folder with another run's state.
    """
    torch.set_num_threads(1)
    weights = read_checkpoint(checkpoint)
    samples = Samples.of(pictures)
    network, reading = Network().eval(), Reading(body, weights["init_pose"])
    network.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    before = [torch.cat(parts) for parts in zip(*_said(network, reading, samples, batch), strict=True)]
    start = float(reprojection(before[1], samples, slice(None)))
    optimiser = torch.optim.Adam(network.parameters(), rate)
    folder.mkdir(parents=True, exist_ok=True)
    state, curve, begin = folder / "state.pt", folder / "curve.jsonl", 0
    run = f"{file_sha256(checkpoint)} {len(samples)} people, batch {batch}, rate {rate:g}, seed {seed}"
    if state.exists():
        kept = torch.load(state, weights_only=True)
        if kept["run"] != run:
            raise InputError(f"{folder} holds the state of another run ({kept['run']}): give another folder, or remove {state}")
        network.load_state_dict(kept["network"])
        optimiser.load_state_dict(kept["optimiser"])
        begin = kept["step"]
    lines = curve.read_text().splitlines() if begin else [json.dumps({"step": 0, "all": round(start, 5)})]
    curve.write_text("".join(f"{line}\n" for line in lines if json.loads(line)["step"] <= begin))
    total = 0.0
    for step in range(begin + 1, (stop or steps) + 1):
        rows = torch.from_numpy(np.random.default_rng([seed, step]).integers(0, len(samples), batch))
        pose, betas, camera = network(samples.pictures(rows))
        local = reading.rotations(pose)
        off = reprojection(reading.keypoints(local, betas, camera), samples, rows)
        loss = off + STAY * (local - before[0][rows]).square().sum((-1, -2)).mean() + SHAPE * betas.square().mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        total += float(off.detach())
        if step % KEEP_EVERY == 0:
            with curve.open("a") as out:
                out.write(json.dumps({"step": step, "batches": round(total / KEEP_EVERY, 5)}) + "\n")
            kept = {"run": run, "network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
            keep(kept, state)
            total = 0.0
    after = torch.cat([at for _, at in _said(network, reading, samples, batch)])
    end = float(reprojection(after, samples, slice(None)))
    path = folder / "hmr.pt"
    keep({"model": network.state_dict()}, path)
    return register(
        path,
        name="hmr-tuned",
        task="hmr",
        licence="as that of the checkpoint it began with",
        origin=f"{checkpoint.name} (sha256 {file_sha256(checkpoint)}), fine-tuned on {len(samples)} people of the user's pictures",
        made=f"rtpose train hmr, {stop or steps} steps of {batch}, seed {seed}: mean re-projection error on these very people from"
        f" {start:.4f} to {end:.4f} halves of the crop; says nothing about other pictures, nor about depth",
        input="a checkpoint for --lifter hmr --checkpoint",
        decoder="hmr",
    )


def _said(network: Network, reading: Reading, samples: Samples, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Local rotations and keypoints in the crop, for all samples in order."""
    with torch.no_grad():
        for start in range(0, len(samples), batch):
            pose, betas, camera = network(samples.pictures(slice(start, start + batch)))
            local = reading.rotations(pose)
            yield local, reading.keypoints(local, betas, camera)

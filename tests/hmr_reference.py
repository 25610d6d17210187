"""HMR in PyTorch as nkolot/SPIN lays it out, written for the tests alone, and checkpoints of it with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Bottleneck(nn.Module):
    def __init__(self, takes: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(takes, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        if stride > 1 or takes != 4 * channels:
            self.downsample = nn.Sequential(nn.Conv2d(takes, 4 * channels, 1, stride, bias=False), nn.BatchNorm2d(4 * channels))

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class Hmr(nn.Module):
    """rotations (n, 24, 3, 3), betas (n, 10), camera (n, 3) of pictures (n, 224, 224, 3) uint8; spin: SPIN's six numbers, else HMR2's."""

    def __init__(self, *, spin: bool = True) -> None:
        super().__init__()
        self.spin = spin
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        takes = 64
        for stage, (channels, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
            layers = []
            for block in range(blocks):
                layers.append(Bottleneck(takes, channels, 2 if stage > 1 and block == 0 else 1))
                takes = 4 * channels
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.fc1, self.fc2 = nn.Linear(2048 + 144 + 13, 1024), nn.Linear(1024, 1024)
        self.decpose, self.decshape, self.deccam = nn.Linear(1024, 144), nn.Linear(1024, 10), nn.Linear(1024, 3)
        self.register_buffer("init_pose", torch.zeros(1, 144))
        self.register_buffer("init_shape", torch.zeros(1, 10))
        self.register_buffer("init_cam", torch.tensor([[0.9, 0.0, 0.0]]))

    def forward(self, pictures: Any) -> tuple[Any, Any, Any]:
        x = torch.as_tensor(pictures).permute(0, 3, 1, 2).float() / 255
        x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        x = functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = functional.avg_pool2d(x, 7).flatten(1)
        pose, shape, camera = (part.expand(len(x), -1) for part in (self.init_pose, self.init_shape, self.init_cam))
        for _ in range(3):
            y = self.fc2(self.fc1(torch.cat([x, pose, shape, camera], 1)))
            pose, shape, camera = pose + self.decpose(y), shape + self.decshape(y), camera + self.deccam(y)
        return self.rotations(pose).view(-1, 24, 3, 3), shape, camera

    def rotations(self, pose: Any) -> Any:
        six = pose.reshape(-1, 3, 2) if self.spin else pose.reshape(-1, 2, 3).permute(0, 2, 1)
        first = functional.normalize(six[:, :, 0])
        second = functional.normalize(six[:, :, 1] - (first * six[:, :, 1]).sum(1, keepdim=True) * first)
        return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def random_hmr(seed: int = 0, *, spin: bool = True) -> Hmr:
    """Random weights that keep features near one and poses near a mean that looks at the camera."""
    torch.manual_seed(seed)
    network = Hmr(spin=spin).eval()
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.0)
                module.bias.normal_(0, 0.1)
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                if name.endswith("bn3"):
                    module.weight.mul_(0.3)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, 0.3 if name.startswith("dec") else 1.0)
        turned = torch.tensor(np.diag([1.0, -1, -1]), dtype=torch.float32)
        mean = torch.linalg.matrix_exp(0.2 * skew(torch.randn(24, 3)))
        mean[0] = turned @ mean[0]
        six = mean[:, :, :2] if spin else mean[:, :, :2].transpose(1, 2)
        network.init_pose[0] = six.reshape(-1)
        network.init_shape.normal_(0, 0.3)
    return network


def skew(w: Any) -> Any:
    zero = torch.zeros(len(w))
    rows = [zero, -w[:, 2], w[:, 1], w[:, 2], zero, -w[:, 0], -w[:, 1], w[:, 0], zero]
    return torch.stack(rows, -1).view(-1, 3, 3)


def save(network: Hmr, path: Path) -> Path:
    """As SPIN's trainer saves it, numbers of numpy and all."""
    torch.save({"model": network.state_dict(), "epoch": 3, "dataset_perm": np.arange(7), "total_step_count": np.int64(9)}, path)
    return path

"""Training of the lifter's initialiser: motion capture seen by random cameras and by keypoint networks that err, bodies drawn from
it and really seen by the keypoint network, and people of COCO, of whom only 2D labels are known: by re-projection, and as poses that the
lifter before made of them.

The network learns the world rotations of the bones, the shape, and how far off it may be.
"""

from __future__ import annotations

import json
import math
import pickle
import time
import warnings
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..body.initial import FEATURES, MOMENTS, PREDICTED
from ..body.model import BodyModel, load_body
from ..errors import InputError
from ..models import find, register
from ..types import F64
from . import LIFTER_STEPS, keep
from .mocap import HELD_OUT, TUNING, read_mocap
from .people import read_people, read_pictures
from .poses import make_poses, read_poses
from .renders import make_renders, read_renders
from .samples import Bank, Batch, KeypointErrors, Sampler, SeenSampler, WildBatch, WildSampler

KEEP_EVERY = 500
"""Steps after which state and curve are kept."""
BATCH, SEEN, WILD = 140, 64, 60
"""Of a step: people of the mocap with made-up errors, people drawn and seen, people of COCO."""
ABLATIONS = ("wild", "poses", "renders", "window", "errors")
"""What training can be told to do without: COCO's people by re-projection, their poses seen from elsewhere, drawn people, all moments but
now, the measured errors."""


_BEFORE = slice(51, 51 * len(MOMENTS))
"""Of the network's inputs those of all moments but now."""


class PosePrior:
    """How far local rotations are from those of the mocap: the share by which their Mahalanobis distances exceed the usual."""

    def __init__(self, body: BodyModel, bank: Bank) -> None:
        self.above = [int(p) for p in body.parents[list(PREDICTED[1:])]]
        local = bank.rotations[::3, list(PREDICTED[1:])].reshape(-1, len(PREDICTED) - 1, 9).astype(np.float64)
        mean = local.mean(0)
        off = local - mean
        covariance = np.einsum("nja,njb->jab", off, off) / len(off) + 0.03 * np.eye(9)
        self.mean, self.whiten = _tensor(mean), _tensor(np.linalg.inv(np.linalg.cholesky(covariance)))

    def __call__(self, world: torch.Tensor) -> torch.Tensor:
        local = world[:, self.above].transpose(-1, -2) @ world[:, list(PREDICTED[1:])]
        off = torch.einsum("jab,njb->nja", self.whiten, local.flatten(-2) - self.mean)
        return torch.relu(off.square().mean(-1) - 1.0).mean()


def reprojection(world: torch.Tensor, betas: torch.Tensor, wild: tuple[torch.Tensor, ...], places: Places) -> torch.Tensor:
    """How far the body's keypoints fall from the labels, in sizes of the person, wherever the body had best stand."""
    _, target, labelled, sizes = wild
    points = places(world, betas)[:, :17]
    u, v = target.unbind(-1)
    ru, rv = u * points[..., 2] - points[..., 0], v * points[..., 2] - points[..., 1]
    count = labelled.sum(1)
    su, sv = (labelled * u).sum(1) / count, (labelled * v).sum(1) / count
    du, dv = u - su[:, None], v - sv[:, None]
    # The least squares of `rtpose.body.fit.translate`, x and y eliminated.
    spread = (labelled * (du * du + dv * dv)).sum(1).clamp_min(1e-6)
    z = (-(labelled * (du * ru + dv * rv)).sum(1) / spread).clamp(0.8, 200)
    x, y = (labelled * ru).sum(1) / count + su * z, (labelled * rv).sum(1) / count + sv * z
    depth = (points[..., 2] + z[:, None]).clamp_min(0.3)
    off = torch.stack([(points[..., 0] + x[:, None]) / depth, (points[..., 1] + y[:, None]) / depth], -1) - target
    distance = (off.square().sum(-1) + 1e-8).sqrt() / sizes[:, None]
    return (labelled * distance.clamp(max=0.3)).sum() / labelled.sum()


def _tensor(array: F64) -> torch.Tensor:
    return torch.from_numpy(np.float32(array))


class Places:
    """World rotations (n, 22, 3, 3) and betas -> the 17 keypoints and 22 joints (n, 39, 3) about the middle of the hips."""

    def __init__(self, body: BodyModel) -> None:
        path = np.zeros((22, 22))  # path[j, i]: the bone that ends in i lies on the way to j
        for j in range(22):
            i = j
            while i > 0:
                path[j, i] = 1
                i = int(body.parents[i])
        of, by = np.nonzero(body.keypoint_weights[:17])
        self.above = [max(int(p), 0) for p in body.parents]
        self.of, self.by = torch.from_numpy(of), torch.from_numpy(by)
        self.path, self.weights = _tensor(path), _tensor(body.keypoint_weights[:17])
        self.offsets = _tensor(body.offsets(np.zeros(body.betas)))
        self.offset_shapes = _tensor(body.offset_shapes().reshape(body.betas, -1))
        self.local, self.local_shapes = (
            _tensor(body.keypoints[of, by]),
            _tensor(body.keypoint_shapes[:, of, by].reshape(body.betas, -1)),
        )

    def __call__(self, world: torch.Tensor, betas: torch.Tensor) -> torch.Tensor:
        n = len(world)
        offsets = self.offsets + (betas @ self.offset_shapes).view(n, 22, 3)
        bones = (world[:, self.above] @ offsets[..., None])[..., 0]
        joints = torch.einsum("ji,nia->nja", self.path, bones)
        local = self.local + (betas @ self.local_shapes).view(n, -1, 3)
        parts = (world[:, self.by] @ local[..., None])[..., 0]
        keypoints = torch.einsum("kj,nja->nka", self.weights, joints).index_add(1, self.of, parts)
        places = torch.cat([keypoints, joints], 1)
        return places - 0.5 * (keypoints[:, 11:12] + keypoints[:, 12:13])


class Network(nn.Module):
    """Residual blocks over the flat input. Says six numbers a bone, betas, and the logarithms of the errors it expects:
    radians a bone, metres a keypoint and joint."""

    def __init__(self, betas: int, width: int = 768, blocks: int = 3) -> None:
        super().__init__()
        self.enter = nn.Linear(FEATURES, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)) for _ in range(blocks)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.GELU())
        self.sizes = [len(PREDICTED) * 6, betas, len(PREDICTED), 39]
        self.say = nn.Linear(width, sum(self.sizes))
        with torch.no_grad():
            self.say.weight.mul_(0.1)
            self.say.bias.zero_()
            self.say.bias[: self.sizes[0]] = torch.tensor([1.0, 0, 0, 0, -1, 0]).repeat(len(PREDICTED))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        h = self.enter(x)
        for block in self.blocks:
            h = h + block(h)
        six, betas, turn_error, place_error = self.say(self.leave(h)).float().split(self.sizes, 1)
        return six.view(-1, len(PREDICTED), 6), betas, turn_error, place_error


def world_rotations(six: torch.Tensor, body: BodyModel) -> torch.Tensor:
    """What the network said (n, 18, 6) -> world rotations (n, 22, 3, 3); the bones it leaves out follow the ones above."""
    first = nn.functional.normalize(six[..., :3], dim=-1)
    second = nn.functional.normalize(six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first, dim=-1)
    said = torch.stack([first, second, torch.cross(first, second, dim=-1)], -1)
    index = [PREDICTED.index(j if j in PREDICTED else int(body.parents[j])) for j in range(22)]
    return said[:, index]


def losses(
    said: tuple[torch.Tensor, ...], truth: tuple[torch.Tensor, ...], places: Places, body: BodyModel
) -> dict[str, torch.Tensor]:
    """The parts of the loss; truth: a `Batch`."""
    six, betas, turn_error, place_error = said
    _, world, true_betas, _ = truth
    guess = world_rotations(six, body)
    off = (places(guess, betas) - places(world, true_betas)).square().sum(-1)
    turned = (guess - world)[:, list(PREDICTED)].square().sum((-1, -2))  # 8 sin^2(angle / 2)
    return {
        "place": (off + 1e-6).sqrt().mean(),
        "turn": (turned + 1e-4).sqrt().mean(),
        "shape": (betas - true_betas).square().mean(),
        "turn_nll": (turned.detach() / 12 * torch.exp(-2 * turn_error) + turn_error).mean(),
        "place_nll": (off.detach() / 6 * torch.exp(-2 * place_error) + place_error).mean(),
    }


WEIGHTS = {"place": 10.0, "turn": 0.6, "shape": 0.02, "turn_nll": 0.05, "place_nll": 0.05, "wild": 5.0, "likely": 0.1}


class Data:
    """Where a training run takes its samples from."""

    def __init__(self, data: Path, made: Path, body: BodyModel, rng: np.random.Generator, without: Collection[str]) -> None:
        clips = read_mocap(data / "mocap", body)
        errors = KeypointErrors.load()
        if "errors" in without:
            errors = KeypointErrors(errors.offsets[:0], errors.confidences[:0])
        self.bank = bank = Bank.of([c for c in clips if c.group not in HELD_OUT])
        made.mkdir(parents=True, exist_ok=True)
        self.wild = self.seen = None
        if not {"wild", "poses"} <= set(without):
            labels = read_people(data / "coco_keypoints" / "train2017_people.npz", list(read_pictures(data / "coco_images")))
            if "wild" not in without:
                self.wild = WildSampler(labels, errors, rng)
            if "poses" not in without:
                make_poses(made / "poses.npz", labels, body, self.bank)
                bank = self.bank.with_poses(read_poses(made / "poses.npz"))
        self.mocap = Sampler(body, bank, errors, rng)
        if "renders" not in without:
            make_renders(made, body, self.bank)
            self.seen = SeenSampler(read_renders(made), body, rng)
        self._now_only = "window" in without
        tuning = Bank.of([c for c in clips if c.group in TUNING])
        self.check = self._tensors(Sampler(body, tuning, KeypointErrors.load(), np.random.default_rng(1))(4096))

    def truths(self) -> tuple[torch.Tensor, ...]:
        """A `Batch`."""
        drawn = self.mocap(BATCH + (0 if self.seen else SEEN))
        if self.seen:
            drawn = Batch(*(np.concatenate(pair) for pair in zip(drawn, self.seen(SEEN), strict=True)))
        return self._tensors(drawn)

    def labels(self) -> tuple[torch.Tensor, ...] | None:
        """A `WildBatch`."""
        return self._tensors(self.wild(WILD)) if self.wild else None

    def _tensors(self, arrays: Batch | WildBatch) -> tuple[torch.Tensor, ...]:
        if self._now_only:
            arrays.x[:, _BEFORE] = 0
        return tuple(torch.from_numpy(a) for a in arrays)


class Run:
    """A training run: the network, its optimiser, how far it is, and the files that keep it."""

    def __init__(self, folder: Path, body: BodyModel, steps: int, rate: float, rng: np.random.Generator) -> None:
        self.network, self.rng, self.steps, self.rate = Network(body.betas), rng, steps, rate
        self.optimiser = torch.optim.AdamW(self.network.parameters(), rate, weight_decay=1e-3, betas=(0.9, 0.98))
        self.state, self.curve, self.step = folder / "state.pt", folder / "curve.jsonl", 0
        if self.state.exists():
            self._resume()

    def _resume(self) -> None:
        try:
            kept = torch.load(self.state, weights_only=True)
            if kept["steps"] != self.steps:
                raise InputError(f"{self.state} is of a run of {kept['steps']} steps, not {self.steps}: choose another folder")
            self.network.load_state_dict(kept["network"])
            self.optimiser.load_state_dict(kept["optimiser"])
            self.rng.bit_generator.state = json.loads(kept["rng"])
        except (RuntimeError, KeyError, ValueError, OSError, pickle.UnpicklingError) as error:
            line = str(error).splitlines()[0]
            raise InputError(
                f"{self.state} is not of this lifter's training ({line}): delete it or choose another folder"
            ) from None
        self.step = kept["step"]
        rows = self.curve.read_text().splitlines() if self.curve.exists() else []
        self.curve.write_text("".join(f"{row}\n" for row in rows if json.loads(row)["step"] <= self.step))

    def take(self, loss: torch.Tensor) -> None:
        """One step downhill; the rate rises quickly and falls as a cosine."""
        self.step += 1
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * min(1, self.step / 300) * (0.5 + 0.5 * math.cos(math.pi * self.step / self.steps)) + 1e-6
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()

    def keep(self, row: dict[str, float]) -> None:
        with self.curve.open("a") as out:
            out.write(json.dumps({"step": self.step} | row) + "\n")
        kept = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step}
        keep(kept | {"steps": self.steps, "rng": json.dumps(self.rng.bit_generator.state)}, self.state)


def train_lifter(
    data: Path,
    folder: Path,
    *,
    steps: int = LIFTER_STEPS,
    stop: int | None = None,
    rate: float = 1.5e-3,
    seed: int = 0,
    without: Collection[str] = (),
    made: Path | None = None,
) -> Path:
    """Train the initialiser and write `lifter.onnx` and its card into `folder`; continues what an earlier call left there.

    data: the folder with `mocap`, `coco_keypoints` and `coco_images` (whose people train nothing). steps: of the whole schedule;
    stop: after which to stop this time. without: of `ABLATIONS`. made: where drawn people and poses are kept, made first if they are
    not there; by default in `folder`. The state is kept in `state.pt`, the curve in `curve.jsonl`; a run that was killed and is started
    again gives the same curve. Returns the path of the ONNX file. Raises InputError where the data are not what they should be.
    """
    if unknown := set(without) - set(ABLATIONS):
        raise InputError(f"cannot train without {', '.join(sorted(unknown))}: choose of {', '.join(ABLATIONS)}")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    body, rng = load_body(), np.random.default_rng(seed)
    samples = Data(data, made or folder / "made", body, rng, without)
    places, prior = Places(body), PosePrior(body, samples.bank)
    run = Run(folder, body, steps, rate, rng)
    sums = dict.fromkeys(WEIGHTS, 0.0)
    started = time.process_time()
    while run.step < (stop or steps):
        parts = _parts(run.network, samples.truths(), samples.labels(), places, prior, body)
        run.take(torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum())
        for name, part in parts.items():
            sums[name] += float(part.detach())
        if run.step % KEEP_EVERY == 0:
            with torch.no_grad():
                unseen = losses(run.network(samples.check[0]), samples.check, places, body)
            row = {"seconds": round(time.process_time() - started, 1)}
            row |= {name: round(total / KEEP_EVERY, 5) for name, total in sums.items()}
            run.keep(row | {f"held_out_{name}": round(float(value), 5) for name, value in unseen.items()})
            sums = dict.fromkeys(WEIGHTS, 0.0)
    last = json.loads(run.curve.read_text().splitlines()[-1])
    figures = f"{run.step} steps; mean distance of unseen clips, all noise: {1e3 * last['held_out_place']:.0f} mm"
    if "poses" not in without:
        figures += f"; poses of COCO's people as the lifter with sha256 {find('lifter', 'lifter').sha256[:12]}... made them out"
    if without:
        figures += f"; without {', '.join(sorted(without))}"
    if "window" in without:
        with torch.no_grad():
            run.network.enter.weight[:, _BEFORE] = 0  # it never saw what a run will show it there
    return export(run.network.eval(), folder, figures)


def _parts(
    network: Network,
    truth: tuple[torch.Tensor, ...],
    labels: tuple[torch.Tensor, ...] | None,
    places: Places,
    prior: PosePrior,
    body: BodyModel,
) -> dict[str, torch.Tensor]:
    """The parts of the loss for people whose bodies are known and, perhaps, people of COCO."""
    known = len(truth[0])
    with torch.autocast("cpu", torch.bfloat16):
        said = network(truth[0] if labels is None else torch.cat([truth[0], labels[0]]))
    parts = losses(tuple(part[:known] for part in said), truth, places, body)
    if labels is not None:
        world = world_rotations(said[0][known:], body)
        parts["wild"] = reprojection(world, said[1][known:], labels, places)
        parts["likely"] = prior(world)
    return parts


def export(network: Network, folder: Path, figures: str) -> Path:
    """Write `lifter.onnx` and its card."""
    path = folder / "lifter.onnx"
    with warnings.catch_warnings():  # the exporter that is to replace this one needs another package
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.zeros(1, FEATURES),),
            str(path),
            input_names=["keypoints"],
            output_names=["six", "betas", "turn_error", "place_error"],
            dynamic_axes={name: {0: "n"} for name in ("keypoints", "six", "betas", "turn_error", "place_error")},
            opset_version=17,
            dynamo=False,
        )
    register(
        path,
        name="lifter",
        task="lifter",
        licence="Apache-2.0",
        origin="trained by this project on CMU mocap (free for all uses), DeepMimic's clips (MIT) and COCO's keypoint labels (CC BY 4.0)",
        made=f"rtpose train lifter ({figures}); these trained nothing: {', '.join(sorted(HELD_OUT))}",
        input=f"keypoints: f32 (n, {FEATURES}), as rtpose.body.initial makes them",
        decoder="lifter",
    )
    return path

"""The paper's regression of ankles from knees and hips: `rtpose train ankles --recipe paper`.

Four networks of dense 500-200-1 with ReLU, trained on the mean squared error: the right ankle's x from the right knee's x, its y from
the right knee's y and the right hip's y, and the same on the left. Beside the weights it writes the paper's figures: the
correlation of ankle, knee and hip coordinates, the curve of training and test error, and the table of variance inflation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..models import Model, register
from ..stages.ankles import GATES
from ..types import F32, F64
from .people import Labels, read_people, read_pictures, read_tags

LEGS = {"left": (11, 13, 15), "right": (12, 14, 16)}
"""Hip, knee and ankle of each side, by their places among COCO's keypoints."""

TRAINING, TEST = 700, 100
SIDE = 640.0
"""Coordinates are px of the picture, scaled so that its longer side has this many; COCO's have it already."""

HIDDEN = (500, 200)
EPOCHS, BATCH, RATE = 100, 32, 1e-3


@dataclass(frozen=True)
class Axis:
    """One of the four networks: the coordinate (joint, axis) that it predicts, and those that it predicts it from."""

    name: str
    target: tuple[int, int]
    sources: tuple[tuple[int, int], ...]


AXES: tuple[Axis, ...] = tuple(
    axis
    for side, (hip, knee, ankle) in LEGS.items()
    for axis in (
        Axis(f"{side}_x", (ankle, 0), ((knee, 0),)),
        Axis(f"{side}_y", (ankle, 1), ((knee, 1), (hip, 1))),
    )
)


def choose(people: Labels, tags: dict[int, str], others: Labels, seed: int) -> tuple[Labels, dict[str, int]]:
    """800 people with both legs labelled: of pictures tagged tennis first, then of other sports, then, if these are too few, any of
    `others`. Returns them shuffled, and how many came from where."""
    random = np.random.default_rng(seed)
    whole = np.flatnonzero((people.keypoints[:, 11:, 2] > 0).all(1))
    tagged = [[r for r in whole if ("tennis" in tags.get(int(people.images[r]), "")) == tennis] for tennis in (True, False)]
    tennis, sport = tagged[0], [r for r in tagged[1] if int(people.images[r]) in tags]
    rows = np.array([*random.permutation(tennis), *random.permutation(sport)], np.int64)[: TRAINING + TEST]
    rest = random.permutation(np.flatnonzero((others.keypoints[:, 11:, 2] > 0).all(1)))[: TRAINING + TEST - len(rows)]
    both = [(people[rows], others[rest])]
    chosen = Labels(
        *(np.concatenate([getattr(a, f), getattr(b, f)]) for a, b in both for f in ("keypoints", "boxes", "images", "sizes"))
    )
    origin = {"tennis": min(len(tennis), len(rows)), "other sports": len(rows) - min(len(tennis), len(rows)), "any": len(rest)}
    return chosen[random.permutation(len(chosen))], origin


def coordinates(people: Labels) -> F64:
    """x, y (n, 17, 2) of the keypoints in px of a picture whose longer side is `SIDE`."""
    return np.asarray(people.keypoints[:, :, :2] * (SIDE / people.sizes.max(1))[:, None, None], np.float64)


def variance_inflation(columns: F64) -> F64:
    """1 / (1 - R^2) of each column (n, k) regressed linearly on the others: 1 is independent, above 10 is held to be collinear."""
    standard = (columns - columns.mean(0)) / columns.std(0)
    return np.asarray(np.diag(np.linalg.inv(np.corrcoef(standard, rowvar=False))), np.float64)


def train_paper(data: Path, out: Path, *, seed: int = 0) -> Model:
    """Train on the COCO people in `data` (`coco_keypoints`, `coco_images/index.json`) and write weights, card, figures and tables to
    `out`. Pictures that the index lists are left out, since results are scored on them."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    scored = read_pictures(data / "coco_images")
    labels = data / "coco_keypoints"
    sports = read_people(labels / "val2017_people.npz", without=scored)
    others = read_people(labels / "train2017_people.npz", without=scored)
    people, origin = choose(sports, read_tags(labels / "val2017_sport_tags.csv"), others, seed)
    xy = coordinates(people)
    weights: dict[str, Any] = {f"{network}_gate": gate for network, gate in GATES.items()}
    curves: dict[str, Any] = {}
    errors: dict[str, F64] = {}
    for axis in AXES:
        inputs = np.stack([xy[:, j, a] for j, a in axis.sources], 1).astype(np.float32)
        wanted = xy[:, axis.target[0], axis.target[1]].astype(np.float32)[:, None]
        layers, curves[axis.name], predicted = _fit(inputs, wanted)
        errors[axis.name] = np.abs(predicted - wanted[TRAINING:])[:, 0]
        for k, (weight, bias) in enumerate(layers):
            weights[f"{axis.name}_w{k}"], weights[f"{axis.name}_b{k}"] = weight, bias
    path = out / "ankles-paper.npz"
    np.savez_compressed(path, **weights)
    figures(xy, curves, out)
    height = people.boxes[TRAINING:, 3] * SIDE / people.sizes[TRAINING:].max(1)
    report = {
        "people": origin,
        "test_people": TEST,
        **_accuracy(errors, height),
        "variance_inflation": _inflation(xy),
        "curves": curves,
    }
    (out / "ankles-paper.report.json").write_text(json.dumps(report, indent=1) + "\n")
    return register(
        path,
        name="paper",
        task="ankles",
        licence="Apache-2.0",
        origin="rtpose, trained on the annotations of COCO 2017 (CC BY 4.0)",
        made=f"rtpose train ankles --recipe paper, seed {seed}: {TRAINING} people for training and {TEST} for testing, of "
        + ", ".join(f"{count} {name}" for name, count in origin.items()),
        input=f"x and y of hips and knees in px of a picture whose longer side is {SIDE:g} px",
        decoder="paper",
    )


def _fit(inputs: F32, wanted: F32) -> tuple[list[tuple[F32, F32]], dict[str, list[float]], F32]:
    """Train one network on the first `TRAINING` rows. Returns its layers in px, its errors by epoch, its prediction of the rest.

    It is trained on coordinates divided by `SIDE`; the first and last layer are then given back the px.
    """
    import torch

    x, y = torch.from_numpy(inputs / SIDE), torch.from_numpy(wanted / SIDE)
    sizes = (inputs.shape[1], *HIDDEN, 1)
    linear = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
    network = torch.nn.Sequential(linear[0], torch.nn.ReLU(), linear[1], torch.nn.ReLU(), linear[2])
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    curve: dict[str, list[float]] = {"training": [], "test": []}
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(TRAINING), BATCH):
            loss = torch.nn.functional.mse_loss(network(x[rows]), y[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        schedule.step()
        with torch.no_grad():
            squares = ((network(x) - y) * SIDE) ** 2
        curve["training"].append(float(squares[:TRAINING].mean()))
        curve["test"].append(float(squares[TRAINING:].mean()))
    with torch.no_grad():
        predicted = (network(x[TRAINING:]) * SIDE).numpy()
    layers = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in linear]
    layers[0] = (layers[0][0] / np.float32(SIDE), layers[0][1])
    layers[-1] = (layers[-1][0] * np.float32(SIDE), layers[-1][1] * np.float32(SIDE))
    return layers, curve, predicted


def _accuracy(errors: dict[str, F64], height: F32) -> dict[str, Any]:
    """Mean absolute error of each network, and the distance and PCK of both ankles, in px and as a share of the box's height."""
    distance = np.concatenate([np.hypot(errors[f"{side}_x"], errors[f"{side}_y"]) for side in LEGS])
    share = distance / np.concatenate([height, height])
    return {
        "mean_absolute_error_px": {name: float(e.mean()) for name, e in errors.items()},
        "mean_distance_px": float(distance.mean()),
        "mean_distance_of_height": float(share.mean()),
        "pck": {"0.05": float((share < 0.05).mean()), "0.1": float((share < 0.1).mean())},
    }


def _inflation(xy: F64) -> dict[str, dict[str, float]]:
    tables = {}
    for side, (hip, knee, _) in LEGS.items():
        factors = variance_inflation(xy[:, [hip, hip, knee, knee], [0, 1, 0, 1]])
        tables[side] = dict(zip(("hip x", "hip y", "knee x", "knee y"), factors.tolist(), strict=True))
    return tables


def figures(xy: F64, curves: dict[str, Any], out: Path) -> None:
    """Draw the correlation matrix (correlation.png), the curves (curves.png) and the table of variance inflation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [f"{side} {joint} {axis}" for side in LEGS for joint in ("hip", "knee", "ankle") for axis in "xy"]
    columns = np.stack([xy[:, j, a] for legs in LEGS.values() for j in legs for a in (0, 1)], 1)
    matrix = np.asarray(np.corrcoef(columns, rowvar=False), np.float64)
    figure, axes = pyplot.subplots(figsize=(8, 7))
    shown = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color="white" if abs(value) > 0.5 else "black")
    axes.set_title("Correlation of leg coordinates")
    figure.colorbar(shown)
    figure.savefig(out / "correlation.png", dpi=120, bbox_inches="tight")

    figure, grid = pyplot.subplots(2, 2, figsize=(10, 7), sharex=True, layout="constrained")
    for axes, (name, curve) in zip(grid.flat, curves.items(), strict=True):
        for which, values in curve.items():
            axes.plot(values, label=which)
        axes.set(title=f"{name.replace('_', ' ankle ')}", yscale="log", xlabel="epoch", ylabel="mean squared error, px²")
        axes.legend()
    figure.savefig(out / "curves.png", dpi=120, bbox_inches="tight")

    figure, axes = pyplot.subplots(figsize=(6, 1.6))
    axes.axis("off")
    table = _inflation(xy)
    cells = [[f"{v:.1f}" for v in row.values()] for row in table.values()]
    axes.table(cells, rowLabels=list(table), colLabels=list(table["left"]), loc="center")
    axes.set_title("Variance inflation factors")
    figure.savefig(out / "inflation.png", dpi=120, bbox_inches="tight")
    pyplot.close("all")

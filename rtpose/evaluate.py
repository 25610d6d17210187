"""Any detector, keypoint network and ankle correction against labelled pictures: `rtpose evaluate`.

Labels are COCO's format for keypoints. AP and AR are COCO's own (by the package faster-coco-eval), over all that was reported; the
tables of joints and ankles are over labelled people with 8 joints or more and a box of 80 px or more, one reported person for each,
best score first, at an IoU of .5 or more. PCK@t is the share of labelled joints whose error is under t of the box's height.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from .errors import InputError, RtposeError
from .sinks import replacing
from .source import read_picture
from .stages.ankles import ANKLES, Weights, correct
from .tracking import iou
from .types import F32, F64, KEYPOINT_NAMES, OKS_SIGMAS, SKELETON, U8, Boxes, People

LEAST_JOINTS, LEAST_HEIGHT = 8, 80.0
LEVELS = np.arange(0.5, 0.951, 0.05)
AREA = 0.53
"""A person's area over that of the box, as COCO's people have it on average."""
PERSON = 1
"""The category of people, as COCO numbers it."""

Find = Callable[[U8], Boxes]
Estimate = Callable[[U8, F32], F32]


@dataclass(frozen=True)
class Picture:
    """A labelled picture. keypoints (n, 17, 3): x, y, v; boxes (n, 4) xyxy px; scored (n,): people whom the tables count."""

    id: int
    path: Path
    keypoints: F32
    boxes: F32
    scored: NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """The people reported in a picture: boxes (m, 4), scores (m,), keypoints (m, 17, 3) as measured and as corrected, with the
    keypoint network's own confidence in both, and which ankles moved (m, 2)."""

    boxes: F32
    scores: F32
    measured: F32
    corrected: F32
    moved: NDArray[np.bool_]


@dataclass
class Rows:
    """One row a scored person: OKS (0 where missed), and for joints (n, 17) the error over the box's height (infinite where missed, NaN
    where not labelled) as corrected and as measured, the network's confidence, COCO's v; the picture's place in the list."""

    oks: list[float] = field(default_factory=list)
    error: list[F64] = field(default_factory=list)
    measured_error: list[F64] = field(default_factory=list)
    confidence: list[F64] = field(default_factory=list)
    visible: list[F64] = field(default_factory=list)
    knee_ankle: list[F64] = field(default_factory=list)
    ankle_ankle: list[float] = field(default_factory=list)
    picture: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Labels:
    """What is compared with: the pictures that are there, and the truth about them, COCO's, in one normal form whatever shape the
    file has: one category (1), annotations numbered from 1, each with `num_keypoints`, `area` and `iscrowd`."""

    pictures: list[Picture]
    truth: dict[str, Any]


def read_labels(annotations: Path, pictures: Path) -> Labels:
    """Read a COCO keypoint file about the pictures of which there is a file in the folder `pictures`, by name, at any depth.

    Pictures without anybody count, too: what is reported there is wrong. People without labelled joints and crowds are nobody to be
    found, but neither are reports of them wrong. Raises InputError for a file that is none, for labels that cannot be, and where no
    picture is there or nobody is labelled in them.
    """
    try:
        content = json.loads(annotations.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{annotations} is no COCO keypoint file (JSON with images, annotations): {error}") from None
    try:
        images = _images(content["images"])
        category = _person_category(content.get("categories"))
        people: dict[int, list[dict[str, Any]]] = {number: [] for number in images}
        for place, one in enumerate(content["annotations"]):
            if category is None or int(one["category_id"]) == category:
                person = _person(one, place)
                people.setdefault(person["image_id"], []).append(person)
    except InputError as error:
        raise InputError(f"{annotations}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        lacking = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{annotations} is no COCO keypoint file (images, annotations): {lacking}") from None
    if strangers := sorted(people.keys() - images.keys()):
        raise InputError(f"{annotations}: somebody is in picture {strangers[0]}, which is not among its images")
    files = {path.name: path for path in sorted(pictures.rglob("*")) if path.is_file()}
    there = {number: files[Path(name).name] for number, name in images.items() if Path(name).name in files}
    if not there:
        raise InputError(f"none of the {len(images)} pictures that {annotations} names is in {pictures}")
    found = [_picture(number, path, people[number]) for number, path in there.items()]
    if not any(len(picture.boxes) for picture in found):
        raise InputError(f"{annotations} labels the joints of nobody in the {len(there)} pictures that are in {pictures}")
    rows = [{**person, "id": k} for k, person in enumerate((p for number in there for p in people[number]), 1)]
    truth = {
        "info": {},
        "images": [{"id": number, "file_name": path.name} for number, path in there.items()],
        "categories": [{"id": PERSON, "name": "person", "keypoints": list(KEYPOINT_NAMES)}],
        "annotations": rows,
    }
    return Labels(found, truth)


def read_annotations(annotations: Path, pictures: Path) -> list[Picture]:
    """The pictures of `read_labels` in which somebody is labelled."""
    return [picture for picture in read_labels(annotations, pictures).pictures if len(picture.boxes)]


def _images(images: Any) -> dict[int, str]:
    """The name of each picture's file by its number."""
    names: dict[int, str] = {}
    for image in images:
        number = int(image["id"])
        if number in names:
            raise InputError(f"two images have the id {number}")
        names[number] = str(image["file_name"])
    return names


def _person_category(categories: Any) -> int | None:
    """The number of the category whose keypoints are a person's; None where the file lists no categories."""
    if not categories:
        return None
    usable = [one for one in categories if one.get("keypoints")] or list(categories)
    if len(usable) > 1:
        usable = [one for one in usable if str(one.get("name")).lower() == "person"]
    if len(usable) != 1:
        names = ", ".join(str(one.get("name")) for one in categories)
        raise InputError(f"which of the categories {names} is people cannot be told: give one that is called person")
    keypoints = usable[0].get("keypoints")
    if keypoints:
        spelt = [str(name).lower().replace(" ", "_").replace("-", "_") for name in keypoints]
        if len(spelt) != len(KEYPOINT_NAMES):
            raise InputError(f"category {usable[0].get('name')} has {len(spelt)} keypoints, not COCO's {len(KEYPOINT_NAMES)}")
        if sorted(spelt) == sorted(KEYPOINT_NAMES) and spelt != list(KEYPOINT_NAMES):
            raise InputError(
                f"category {usable[0].get('name')} has its keypoints in another order than COCO's: {keypoints[0]}, ..."
            )
    return int(usable[0]["id"])


def _person(one: Any, place: int) -> dict[str, Any]:
    """An annotation in normal form, but for its number."""
    who = f"annotation {one.get('id', f'number {place + 1}')}"
    box = np.array(one.get("bbox", ()), np.float64)
    if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] < 0).any():
        raise InputError(f"{who} has no box: bbox should be x, y, width, height in px")
    keypoints = np.array(one.get("keypoints") or np.zeros(51), np.float64)
    if keypoints.shape != (51,) or not np.isfinite(keypoints).all():
        raise InputError(f"{who} has {keypoints.size} numbers as keypoints: 51 are needed, x, y and v of COCO's 17 joints")
    area = float(one.get("area") or 0) or AREA * float(box[2] * box[3])
    labelled = int((keypoints[2::3] > 0).sum())
    if not np.isfinite(area) or area < 0 or (labelled and not area):
        raise InputError(f"{who} has an area of {area:g}: give square px, or leave it out where the box has an area")
    return {
        "image_id": int(one["image_id"]),
        "category_id": PERSON,
        "iscrowd": int(bool(one.get("iscrowd"))),
        "num_keypoints": labelled,
        "keypoints": keypoints.tolist(),
        "bbox": box.tolist(),
        "area": area,
    }


def _picture(number: int, path: Path, people: Sequence[dict[str, Any]]) -> Picture:
    """Who is to be found in a picture."""
    wanted = [one for one in people if one["num_keypoints"] and not one["iscrowd"]]
    keypoints = np.array([one["keypoints"] for one in wanted], np.float32).reshape(-1, 17, 3)
    boxes = np.array([one["bbox"] for one in wanted], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scored = ((keypoints[:, :, 2] > 0).sum(1) >= LEAST_JOINTS) & (boxes[:, 3] - boxes[:, 1] >= LEAST_HEIGHT)
    return Picture(number, path, keypoints, boxes, scored)


def look(picture: Picture, find: Find | None, estimate: Estimate, ankles: Weights | None) -> Found:
    """Run the stages on one picture; without a detector (`find` None) the labelled boxes are taken."""
    image = read_picture(picture.path)
    seen = Boxes(picture.boxes, np.ones(len(picture.boxes), np.float32)) if find is None else find(image)
    measured = estimate(image, seen.xyxy)
    corrected, moved = measured.copy(), np.zeros((len(measured), 2), np.bool_)
    if ankles is not None:
        for row, person in enumerate(measured):
            places, moved[row] = correct(ankles, person, image.shape[1], image.shape[0])
            corrected[row, ANKLES:, :2] = places[:, :2]
    return Found(seen.xyxy, seen.scores * measured[:, :, 2].mean(1), measured, corrected, moved)


def match(found: Found | People, picture: Picture) -> dict[int, int]:
    """Labelled row -> reported row: best score first, each takes the free label of greatest IoU if that is .5 or more."""
    overlap = iou(found.boxes, picture.boxes)
    pairs: dict[int, int] = {}
    for row in np.argsort(-found.scores, kind="stable").tolist():
        free = [label for label in range(len(picture.boxes)) if label not in pairs]
        label = max(free, key=lambda k: overlap[row, k], default=None)
        if label is not None and overlap[row, label] >= 0.5:
            pairs[label] = row
    return pairs


def similarities(keypoints: F32, labels: F32, box: F32) -> F64:
    """The keypoint similarity (17,) of each joint of one person (17, 3) to the labels (17, 3), NaN where there is none, the area taken
    as `AREA` of the box's."""
    area = AREA * float(np.prod(box[2:] - box[:2]))
    square = ((keypoints[:, :2].astype(np.float64) - labels[:, :2]) ** 2).sum(1)
    return np.where(labels[:, 2] > 0, np.exp(-square / (2 * (2 * OKS_SIGMAS) ** 2 * area)), np.nan)


def similarity(keypoints: F32, labels: F32, box: F32) -> float:
    """COCO's object keypoint similarity: the mean of `similarities`."""
    each = similarities(keypoints, labels, box)
    return float(each[~np.isnan(each)].mean())


def compare(pictures: Sequence[Picture], found: Sequence[Found]) -> Rows:
    """Every scored person beside what was reported for it."""
    rows = Rows()
    for place, (picture, report) in enumerate(zip(pictures, found, strict=True)):
        pairs = match(report, picture)
        for label in np.flatnonzero(picture.scored).tolist():
            truth, box = picture.keypoints[label], picture.boxes[label]
            height = float(box[3] - box[1])
            labelled, row = truth[:, 2] > 0, pairs.get(label)
            nothing = np.where(labelled, np.inf, np.nan)
            errors = [nothing, nothing]
            if row is not None:
                away = [np.hypot(*(k[row, :, :2] - truth[:, :2]).T) / height for k in (report.corrected, report.measured)]
                errors = [np.where(labelled, a, np.nan) for a in away]
            rows.oks.append(0.0 if row is None else similarity(report.corrected[row], truth, box))
            rows.error.append(errors[0])
            rows.measured_error.append(errors[1])
            rows.confidence.append(np.zeros(17) if row is None else report.measured[row, :, 2].astype(np.float64))
            rows.visible.append(truth[:, 2].astype(np.float64))
            shins = np.hypot(*(truth[ANKLES:, :2] - truth[13:15, :2]).T) / height
            rows.knee_ankle.append(np.where(labelled[ANKLES:] & labelled[13:15], shins, np.nan))
            rows.ankle_ankle.append(
                float(np.hypot(*(truth[15, :2] - truth[16, :2])) / height) if labelled[ANKLES:].all() else float("nan")
            )
            rows.picture.append(place)
    return rows


def pck(errors: NDArray[Any], level: float) -> float:
    """The share of errors under the level; NaN where there are none."""
    known = errors[~np.isnan(errors)]
    return float((known < level).mean()) if len(known) else float("nan")


def recalls(oks: Sequence[float] | F64) -> F64:
    """Each person's part in AR (n,): the share of the levels of OKS .50:.05:.95 that it reaches."""
    return np.asarray((np.asarray(oks)[:, None] >= LEVELS - 1e-9).mean(axis=1), np.float64)


def average_recall(oks: Sequence[float]) -> float:
    """The mean over OKS .50:.05:.95 of the share of people at or above it."""
    return float(recalls(oks).mean()) if len(oks) else float("nan")


def _joints(rows: Sequence[F64]) -> F64:
    """(n, 17), also of nobody."""
    return np.array(rows, np.float64).reshape(-1, 17)


def ankle_groups(rows: Rows, gate: float) -> dict[str, NDArray[np.bool_]]:
    """Names of groups of ankles -> which of them (n, 2): by confidence, visibility, and the paper's failure cases, by quartiles."""
    labelled = ~np.isnan(_joints(rows.error)[:, ANKLES:])
    confidence, visible = _joints(rows.confidence)[:, ANKLES:], _joints(rows.visible)[:, ANKLES:]
    groups = {
        "all": labelled,
        f"confidence < {gate:g}": labelled & (confidence < gate),
        f"confidence >= {gate:g}": labelled & (confidence >= gate),
        "hidden (v = 1)": labelled & (visible == 1),
        "visible (v = 2)": labelled & (visible == 2),
    }
    spans = {
        "knee-ankle": np.array(rows.knee_ankle).reshape(-1, 2),
        "ankle-ankle": np.repeat(np.array(rows.ankle_ankle)[:, None], 2, 1),
    }
    for name, span in spans.items():
        known = labelled & ~np.isnan(span)
        edges = np.quantile(span[known], [0, 0.25, 0.5, 0.75, 1]) if known.any() else np.zeros(5)
        for k in range(4):
            inside = (span >= edges[k]) & ((span < edges[k + 1]) if k < 3 else (span <= edges[4]))
            groups[f"{name} {edges[k]:.2f}-{edges[k + 1]:.2f} of height"] = known & inside
    return groups


def tables(rows: Rows, gate: float) -> dict[str, Any]:
    """AR, PCK of each joint, and PCK of ankles by group, as corrected and as measured."""
    error, measured = _joints(rows.error), _joints(rows.measured_error)
    ankles = {
        name: {
            "ankles": int(which.sum()),
            **{
                f"{kind} PCK@{level:g}": pck(values[:, ANKLES:][which], level)
                for level in (0.05, 0.1)
                for kind, values in (("measured", measured), ("corrected", error))
            },
        }
        for name, which in ankle_groups(rows, gate).items()
    }
    joints = {
        name: {
            "joints": int((~np.isnan(error[:, j])).sum()),
            "PCK@0.05": pck(error[:, j], 0.05),
            "PCK@0.1": pck(error[:, j], 0.1),
        }
        for j, name in enumerate(KEYPOINT_NAMES)
    }
    return {"people": len(rows.oks), "AR of scored people": average_recall(rows.oks), "joints": joints, "ankles": ankles}


def coco_scores(labels: Labels, found: Sequence[Found]) -> dict[str, float]:
    """COCO's AP and AR of all that was reported; NaN where nobody of that size is labelled. Raises InputError where the package is
    missing."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ModuleNotFoundError:
        raise InputError("COCO's AP and AR need the package faster-coco-eval: pip install faster-coco-eval") from None
    reports = [
        {
            "image_id": picture.id,
            "category_id": PERSON,
            "keypoints": [float(v) for v in keypoints.ravel()],
            "score": float(score),
            "bbox": [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])],
        }
        for picture, report in zip(labels.pictures, found, strict=True)
        for keypoints, score, box in zip(report.corrected, report.scores, report.boxes, strict=True)
    ]
    names = ("AP", "AP50", "AP75", "AP medium", "AP large", "AR", "AR50", "AR75", "AR medium", "AR large")
    if not reports:
        return dict.fromkeys(names, 0.0)
    truth = COCO(labels.truth)
    scores = COCOeval_faster(truth, truth.loadRes(reports), "keypoints", print_function=lambda *_: None)
    scores.evaluate()
    scores.accumulate()
    scores.summarize()
    return {name: float(value) if value >= 0 else float("nan") for name, value in zip(names, scores.stats, strict=False)}


def evaluate(
    annotations: Path,
    pictures: Path,
    estimate: Estimate,
    *,
    find: Find | None = None,
    ankles: Weights | None = None,
    sheet: Path | None = None,
) -> dict[str, Any]:
    """Score the stages on the labelled pictures; `sheet`: where to write the contact sheet of the worst people (a picture file).

    find: a detector, or None for the labelled boxes. estimate: keypoints (n, 17, 3) of boxes (n, 4) in a picture.
    """
    labels = read_labels(annotations, pictures)
    labelled = labels.pictures
    found = [look(picture, find, estimate, ankles) for picture in labelled]
    rows = compare(labelled, found)
    if sheet is not None:
        write_sheet(sheet, labelled, found)
    gate = ankles.gate if ankles is not None else 0.3
    return {"pictures": len(labelled), "COCO": coco_scores(labels, found), **tables(rows, gate)}


def print_tables(figures: dict[str, Any], console: Console) -> None:
    """Show what `evaluate` returned."""
    summary = {**figures["COCO"], "AR of scored people": figures["AR of scored people"]}
    head = Table("score", "", title=f"{figures['pictures']} pictures, {figures['people']} scored people", title_justify="left")
    for name, value in summary.items():
        head.add_row(name, _shown(value))
    console.print(head)
    for title in ("joints", "ankles"):
        rows: dict[str, dict[str, float]] = figures[title]
        table = Table(title, *next(iter(rows.values())))
        for name, values in rows.items():
            table.add_row(name, *map(_shown, values.values()))
        console.print(table)


def _shown(value: float) -> str:
    """A count or a figure; - where nobody is there to take it of."""
    return str(value) if isinstance(value, int) else "-" if np.isnan(value) else f"{value:.3f}"


def save_figures(path: Path, figures: dict[str, Any]) -> None:
    """Write figures as JSON, null where there is none. Raises RtposeError where that fails."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items()}
        return None if isinstance(value, float) and np.isnan(value) else value

    try:
        with replacing(path) as file:
            file.write((json.dumps(plain(figures), indent=1, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise RtposeError(f"cannot write {path}: {error.strerror}") from None


TILE, COLUMNS, TILES = 240, 6, 30


def write_sheet(path: Path, pictures: Sequence[Picture], found: Sequence[Found]) -> None:
    """Draw the scored people with the lowest OKS, worst first: labels green, report blue, ankles that moved with a line from where
    they were measured."""
    worst = sorted(_failures(pictures, found), key=lambda f: f[0])[:TILES]
    tiles = [_tile(oks, picture, label, report, row) for oks, picture, label, report, row in worst]
    lines = -(-len(tiles) // COLUMNS)
    canvas = np.zeros((max(1, lines) * TILE, COLUMNS * TILE, 3), np.uint8)
    for k, tile in enumerate(tiles):
        y, x = divmod(k, COLUMNS)
        canvas[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE] = tile
    if not cv2.imwrite(str(path), canvas[:, :, ::-1]):
        raise InputError(
            f"cannot write the contact sheet {path}: give a file name that ends in .png or .jpg, in a folder that exists"
        )


def _failures(pictures: Sequence[Picture], found: Sequence[Found]) -> Iterator[tuple[float, Picture, int, Found, int | None]]:
    for picture, report in zip(pictures, found, strict=True):
        pairs = match(report, picture)
        for label in np.flatnonzero(picture.scored).tolist():
            row = pairs.get(label)
            oks = 0.0 if row is None else similarity(report.corrected[row], picture.keypoints[label], picture.boxes[label])
            yield oks, picture, label, report, row


def _tile(oks: float, picture: Picture, label: int, report: Found, row: int | None) -> U8:
    box = picture.boxes[label]
    side = float((box[2:] - box[:2]).max()) * 1.3
    scale = TILE / side
    corner = (box[:2] + box[2:]) / 2 - side / 2
    matrix = np.array([[scale, 0, -corner[0] * scale], [0, scale, -corner[1] * scale]])
    tile = np.asarray(cv2.warpAffine(read_picture(picture.path), matrix, (TILE, TILE)), np.uint8)

    def place(point: F32) -> tuple[int, int]:
        x, y = ((point[:2] - corner) * scale).round().astype(int).tolist()
        return x, y

    truth = picture.keypoints[label]
    for a, b in SKELETON:
        if truth[a, 2] > 0 and truth[b, 2] > 0:
            cv2.line(tile, place(truth[a]), place(truth[b]), (0, 220, 0), 1, cv2.LINE_AA)
        if row is not None:
            cv2.line(tile, place(report.corrected[row, a]), place(report.corrected[row, b]), (80, 140, 255), 1, cv2.LINE_AA)
    if row is not None:
        for side_of in np.flatnonzero(report.moved[row]):
            before, after = report.measured[row, ANKLES + side_of], report.corrected[row, ANKLES + side_of]
            cv2.arrowedLine(tile, place(before), place(after), (255, 200, 0), 2, cv2.LINE_AA)
    text = f"{picture.id} {'missed' if row is None else f'OKS {oks:.2f}'}"
    cv2.putText(tile, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return tile

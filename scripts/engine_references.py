"""Store what the bundled networks say in f32 to the pictures of the engines' self-check: engines/reference.npz.

    python scripts/engine_references.py

To be run again when the weights of a bundled network change (a test says so). The picture in the file stays as it is.
"""

from __future__ import annotations

import numpy as np

from rtpose import engines
from rtpose.backends import open_session
from rtpose.backends.tensorrt import REFERENCE
from rtpose.models import bundled_folder


def main() -> None:
    path = engines.RECIPES / engines.REFERENCE
    with np.load(path) as file:
        arrays = {"picture": file["picture"]}
    for recipe in engines.recipes().values():
        for model in recipe.networks():
            if model.path.parent != bundled_folder():
                continue
            feeds = engines.reference_feeds(recipe)
            # Pictures come as one and its mirror image, over and over.
            distinct = {name: feed[:2] if feed.ndim == 4 else feed for name, feed in feeds.items()}
            arrays[f"{model.name}/sha256"] = np.array(model.sha256)
            results = open_session(model.path, backend=REFERENCE, precision="f32", threads=1)(distinct)
            arrays |= {f"{model.name}/f32/{name}": values for name, values in results.items()}
    np.savez_compressed(path, **arrays)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

"""Run by a Python that has pandas, polars, Pose2Sim, c3d, trimesh and pygltflib: read exports as they do and save what they found.

neighbours_read.py FOLDER OUT.npz
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import c3d
import numpy as np
import pandas
import polars
import pygltflib
import trimesh
from Pose2Sim.common import convert_to_c3d, read_trc


def main(folder: str, out: str) -> None:
    found: dict[str, object] = {}
    for path in sorted(Path(folder).glob("*.trc")):
        table, frames, times, markers, _ = read_trc(path)
        found[f"{path.stem} names"], found[f"{path.stem} points"] = markers, table.to_numpy().reshape(len(table), -1, 3)
        found[f"{path.stem} frames"], found[f"{path.stem} times"] = frames.to_numpy(), times.to_numpy()
        plain = pandas.read_csv(path, sep="\t", skiprows=4)
        found[f"{path.stem} plain"] = plain.to_numpy()
        with open(convert_to_c3d(path), "rb") as file:
            reader = c3d.Reader(file)
            found[f"{path.stem} c3d names"] = [name.strip() for name in reader.point_labels]
            found[f"{path.stem} c3d rate"] = reader.point_rate
            found[f"{path.stem} c3d"] = [points[:, :3] for _, points, _ in reader.read_frames()]
    for path in sorted(Path(folder).glob("*.glb")):
        mesh = next(iter(trimesh.load(path).geometry.values()))
        found[f"{path.stem} vertices"], found[f"{path.stem} faces"] = np.array(mesh.vertices), len(mesh.faces)
        document = pygltflib.GLTF2().load(str(path))
        found[f"{path.stem} nodes"] = [node.name for node in document.nodes]
        found[f"{path.stem} channels"] = len(document.animations[0].channels)
    one, other = (
        pandas.read_csv(Path(folder) / "people.csv"),
        polars.read_csv(Path(folder) / "people.csv", infer_schema_length=None),
    )
    for name, table in (("pandas", one), ("polars", other)):
        numbers = [column for column in table.columns if not column.endswith("_status")]
        found[f"{name} columns"] = list(table.columns)
        found[f"{name} numbers"] = table[numbers].to_numpy().astype(float)
    np.savez(out, **{name: np.array(value) for name, value in found.items()})


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])

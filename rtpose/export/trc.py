"""TRC (track row column), the markers that OpenSim reads: metres, OpenSim's axes, a steady rate, `nan` where nobody was."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from ..runs import Person, Run
from ..types import F64
from .motion import points_at

TO_OPENSIM: F64 = np.array([[0.0, 0, -1], [0, -1, 0], [-1, 0, 0]])
"""Camera frame -> OpenSim's axes: x where a person looks who faces the camera, y up, z to that person's right."""


def write(file: BinaryIO, *, run: Run, person: Person, times: F64, rate: float) -> None:
    """Write the 3D joints of the person as markers at `times`, which are `rate` a second."""
    names = run.header.joints3d_names or ()
    points = points_at(run, person, np.float64(person.joints3d), times) @ TO_OPENSIM.T
    name = f"person-{person.id}.trc"
    header = [
        f"PathFileType\t4\t(X/Y/Z)\t{name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"{rate:.6f}\t{run.rate:.6f}\t{len(times)}\t{len(names)}\tm\t{run.rate:.6f}\t1\t{len(run.times)}",
        "Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t",
        "\t\t" + "\t".join(f"{axis}{i}" for i in range(1, len(names) + 1) for axis in "XYZ"),
        "",
    ]
    file.write(("\n".join(header) + "\n").encode())
    for number, (time, row) in enumerate(zip(times, points.reshape(len(times), -1), strict=True), 1):
        # As many cells as header line 5 has, or readers based on pandas shift every column. `nan` and not an empty cell: of a line
        # that ends in an empty cell OpenSim misses the last marker.
        cells = "\t".join(f"{v:.6f}" for v in row.tolist())
        file.write(f"{number}\t{time:.6f}\t{cells}\n".encode())

"""Run by a Python that has OpenSim: read a TRC as its tools do and save what it holds. opensim_reads.py FILE OUT.npz"""

from __future__ import annotations

import sys

import numpy as np
import opensim


def main(path: str, out: str) -> None:
    table = opensim.TimeSeriesTableVec3(path)
    markers = opensim.MarkerData(path)
    rows = [table.getRowAtIndex(i) for i in range(table.getNumRows())]
    points = [[[row[k][axis] for axis in range(3)] for k in range(table.getNumColumns())] for row in rows]
    np.savez(
        out,
        names=np.array(table.getColumnLabels()),
        times=np.array(table.getIndependentColumn()),
        points=np.array(points),
        units=np.array([table.getTableMetaDataString("Units"), markers.getUnits().getLabel()]),
        rate=markers.getDataRate(),
        frames=markers.getNumFrames(),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Every recipe's engine compiled ahead of time by TensorRT-RTX, for one GPU generation after another: bytes and seconds. Needs no GPU.

    pip install '.[tensorrt-rtx]'
    python benchmarks/engine_builds.py
    python benchmarks/engine_builds.py --targets sm75,sm80,sm86,sm89,sm120

YOLOv3 and HMR, which users bring, have random weights.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from engines import brought
from rtpose import __version__, engines
from rtpose.backends.tensorrt import RTX, compile_engine, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default="sm86,sm89,sm120")
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    targets, api, rows = given.targets.split(","), load(RTX), []
    with tempfile.TemporaryDirectory() as scratch:
        for recipe in engines.recipes().values():
            model = brought(recipe, Path(scratch))
            shapes = recipe.fitted(model).shapes
            for precision in recipe.precisions:
                graph = recipe.graph(model, precision)
                row: dict[str, Any] = {"network": recipe.network, "precision": precision, "onnx MB": len(graph) / 1e6}
                for target in targets:
                    begin = time.perf_counter()
                    size = len(compile_engine(api, graph, shapes, (target,)))
                    row[target] = {"MB": size / 1e6, "s": time.perf_counter() - begin}
                rows.append(row)
    table = Table("network", "precision", "ONNX", *targets, title=f"TensorRT-RTX {api.__version__}: MB, s")
    for row in rows:
        cells = [f"{row[target]['MB']:.1f} MB {row[target]['s']:.2f} s" for target in targets]
        table.add_row(row["network"], row["precision"], f"{row['onnx MB']:.1f} MB", *cells)
    Console(width=60 + 20 * len(targets)).print(table)
    if given.json:
        about = {"rtpose": __version__, "tensorrt_rtx": api.__version__, "machine": platform.machine(), "cores": os.cpu_count()}
        about["date"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
        given.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

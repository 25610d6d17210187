"""The real TensorRT-RTX compiles every recipe ahead of time, on a machine without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from rtpose import engines
from rtpose.engines import Store
from rtpose.models import graph, hmr, register
from rtpose.models.darknet import import_darknet

from .test_darknet import ANCHORS, convolution, random_weights, yolov3

TENSORRT_RTX = "tensorrt-rtx==1.7.1.116"
TARGETS = ["sm86", "sm89", "sm120"]


def yolov3_tiny(size: int) -> str:
    """The .cfg of YOLOv3-tiny, 24 layers."""
    text = f"[net]\nwidth={size}\nheight={size}\nchannels=3\n"
    for filters in (16, 32, 64, 128, 256, 512):
        text += convolution(filters, 3) + f"[maxpool]\nsize=2\nstride={1 if filters == 512 else 2}\n"
    head = "[yolo]\nmask={}\nanchors=" + ANCHORS + "\nclasses=80\nnum=9\n"
    text += convolution(1024, 3) + convolution(256, 1) + convolution(512, 3) + convolution(255, 1, last=True)
    text += head.format("3,4,5") + f"[route]\nlayers=-4\n{convolution(128, 1)}[upsample]\nstride=2\n[route]\nlayers=-1,8\n"
    return text + convolution(256, 3) + convolution(255, 1, last=True) + head.format("0,1,2")


def random_hmr_network(path: Path) -> None:
    """HMR with random weights, where a checkpoint's network would lie."""
    random = np.random.default_rng(0)
    weights = {key: np.float32(random.normal(0, 0.02, shape)) for key, shape in hmr.expected()}
    weights |= {key: np.ones_like(value) for key, value in weights.items() if key.endswith("running_var")}
    graph.save(hmr.convert(weights), path)
    card = {"licence": "CC0-1.0", "origin": "here", "made": "here", "input": "a picture", "decoder": "hmr"}
    register(path, name="hmr", task="hmr", **card)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has TensorRT-RTX beside everything this one has."""
    home = tmp_path_factory.mktemp("rtx")
    venv.create(home, with_pip=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "outer.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    interpreter = str(home / "bin" / "python")
    subprocess.run([interpreter, "-m", "pip", "install", "--quiet", TENSORRT_RTX], check=True)
    return interpreter


@pytest.fixture(scope="module")
def built(python: str, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Every recipe built in every precision; the networks that users bring have random weights."""
    folder = tmp_path_factory.mktemp("built")
    for name, cfg in (("yolov3", yolov3(416)), ("yolov3-tiny", yolov3_tiny(416))):
        (folder / f"{name}.cfg").write_text(cfg)
        random_weights(folder / f"{name}.cfg", folder / f"{name}.weights")
        import_darknet(folder / f"{name}.cfg", folder / f"{name}.weights", folder=folder / "data" / "models")
    (folder / "cache" / "networks").mkdir(parents=True)
    random_hmr_network(folder / "cache" / "networks" / "hmr.onnx")
    places = {"RTPOSE_DATA": str(folder / "data"), "RTPOSE_CACHE": str(folder / "cache")}
    command = [python, "-m", "rtpose", "engines", "build", "--precision", "all", "--targets", ",".join(TARGETS)]
    done = subprocess.run(command, env={**os.environ, **places}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return Store(folder / "cache" / "engines")


def test_every_recipe_compiles_in_every_precision_on_offer(built: Store) -> None:
    wanted = {(r.network, precision) for r in engines.recipes().values() for precision in r.precisions}
    found = {(e.key["network"], e.key["precision"]): e for e in built.entries()}
    assert set(found) == wanted
    for entry in found.values():
        assert entry.key["targets"] == TARGETS
        assert entry.size > 100_000
    for recipe in engines.recipes().values():
        if "f16" in recipe.precisions:
            assert found[recipe.network, "f16"].size < 0.7 * found[recipe.network, "f32"].size


@pytest.mark.parametrize("broken", ["garbage", "unknown operation"])
def test_a_broken_network_is_one_clear_line(python: str, tmp_path: Path, broken: str) -> None:
    import onnx

    path = tmp_path / "broken.onnx"
    if broken == "garbage":
        path.write_bytes(np.random.default_rng(0).bytes(1000))
    else:
        text = '<ir_version: 8, opset_import: ["" : 13]> g (float[n,3] x) => (float[n,3] y) { y = Frobnicate (x) }'
        onnx.save(onnx.parser.parse_model(text), path)
    code = (
        "import sys; from pathlib import Path; from rtpose.errors import InputError\n"
        "from rtpose.backends.tensorrt import RTX, compile_engine, load\n"
        "try: compile_engine(load(RTX), Path(sys.argv[1]).read_bytes(), {}, ('sm89',))\n"
        "except InputError as error: print(__import__('json').dumps(str(error)))\n"
    )
    done = subprocess.run([python, "-c", code, str(path)], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert "\n" not in said
    assert said.startswith("TensorRT cannot read the network: ")
    assert broken == "garbage" or "Frobnicate" in said


def test_what_somebody_with_a_gpu_will_run_works_on_a_processor_too(tmp_path: Path) -> None:
    """benchmarks/gpu.py, all but the GPU: every network and the whole program measured, one report written."""
    root = Path(__file__).resolve().parent.parent
    clip, report = tmp_path / "demo.mp4", tmp_path / "report.json"
    places = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, root / "scripts/make_demo_clip.py", clip, "20"], check=True, env=places)
    command = [sys.executable, root / "benchmarks/gpu.py", "--backend", "openvino", "--calls", "1"]
    subprocess.run([*command, "--json", report, "--clip", clip], check=True, env=places, capture_output=True)
    found = json.loads(report.read_text())
    measured = {(row["network"], row["precision"]) for row in found["networks"] if "ms" in row}
    assert {("nanodet", "f32"), ("movenet-thunder", "f32"), ("posenet", "f32"), ("lifter", "f32")} <= measured
    assert [run["frames"] for run in found["program"]] == [20, 20]

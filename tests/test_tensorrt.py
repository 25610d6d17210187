"""The TensorRT backend on a fake runtime: engines built, cached, refused and run. What a GPU alone can show, benchmarks/gpu.sh shows."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from rtpose import backends, engines
from rtpose.backends import Session, open_session, tensorrt
from rtpose.body.camera import camera_for
from rtpose.body.model import load_body
from rtpose.engines import Store
from rtpose.errors import InputError, Unfit
from rtpose.models import Model, bundled_folder, models, register, user_folder
from rtpose.models.darknet import import_darknet
from rtpose.stages.detect import Detector
from rtpose.stages.keypoints import KeypointEstimator
from rtpose.stages.lift import Lifter
from rtpose.types import Frame, People, Result

from .fake_tensorrt import FakeTensorRT, FakeTorch
from .test_darknet import random_weights, yolov3
from .test_engines_ahead import random_hmr_network, yolov3_tiny

RECIPES, ROOM = engines.recipes(), engines.RECIPES
TINY = """<ir_version: 8, opset_import: ["" : 13]>
tiny (uint8[n,h,w,3] image) => (float[n,17,3] keypoints)
<float full = {255}, int64[3] triples = {0, 17, 3}> {
    shade = Cast <to = 1> (image)
    scaled = Div (shade, full)
    normal = Transpose <perm = [0, 3, 1, 2]> (scaled)
    weight = Cast <to = 1> (weight_f16)
    heat = Conv (normal, weight)
    mean = GlobalAveragePool (heat)
    keypoints = Reshape (mean, triples)
}"""
RECIPE = {
    "network": "tiny",
    "precisions": ["f16", "f32"],
    "targets": ["sm86", "sm89"],
    "shapes": {"image": {"least": [1, 8, 8, 3], "usual": [4, 16, 16, 3], "most": [16, 32, 32, 3]}},
    "half": {"from": "normal", "to": ["heat"]},
    "needs": "nothing",
    "bounds": {"score": 0.05, "px": 0.5},
}


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network small enough to be built and checked in no time, with its recipe."""
    monkeypatch.setenv("RTPOSE_DATA", str(tmp_path / "data"))
    path = user_folder() / "tiny.onnx"
    path.parent.mkdir(parents=True)
    model = onnx.parser.parse_model(TINY)
    weight = np.random.default_rng(0).uniform(0.1, 0.5, (51, 3, 3, 3)).astype(np.float16)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight_f16"))
    onnx.save(model, path)
    card = {"licence": "CC0-1.0", "origin": "here", "made": "here", "input": "a picture", "decoder": "movenet"}
    register(path, name="tiny", task="keypoints", **card)
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "tiny.json").write_text(json.dumps(RECIPE))
    np.savez(recipes / "reference.npz", picture=noise(16, 16, 3))
    monkeypatch.setattr(engines, "RECIPES", recipes)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RTPOSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> FakeTorch:
    fake = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts another GPU into the machine."""

    def put(name: str = "NVIDIA GeForce RTX 4090", target: str = "sm89", driver: str = "12.8") -> None:
        monkeypatch.setattr(tensorrt, "find_gpu", lambda: tensorrt.Gpu(name, target, driver))

    put()
    return put


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def api(flavour: str, torch: FakeTorch, gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    fake = FakeTensorRT(torch)
    monkeypatch.setitem(sys.modules, flavour, fake)
    return fake


@pytest.fixture
def opened(api: FakeTensorRT, flavour: str, tiny: Path) -> Callable[..., Session]:
    def open_it(path: Path = tiny, **options: Any) -> Session:
        return open_session(path, backend=flavour, **options)

    return open_it


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_a_session_says_what_it_is(opened: Callable[..., Session], flavour: str) -> None:
    session = opened()
    assert (session.backend, session.device, session.precision) == (flavour, "cuda:0", "f16")
    assert session.inputs == {"image": ((None, None, None, 3), np.dtype(np.uint8))}
    assert session.outputs == {"keypoints": ((None, 17, 3), np.dtype(np.float32))}


@pytest.mark.parametrize("precision", ["f16", "f32"])
def test_any_number_of_people(opened: Callable[..., Session], tiny: Path, precision: str) -> None:
    """The profile ends at 16 rows; more go through in parts, fewer are padded, and none is none."""
    session = opened(precision=precision)
    crops = noise(19, 16, 16, 3)
    expected = open_session(tiny, backend="onnxruntime")({"image": crops})["keypoints"]
    for n in (1, 3, 0, 16, 19, 2):
        got = session({"image": crops[:n]})["keypoints"]
        assert got.shape == (n, 17, 3)
        np.testing.assert_allclose(got, expected[:n], atol=1e-3)


def test_outputs_are_the_callers_to_keep(opened: Callable[..., Session]) -> None:
    session = opened()
    first = session({"image": noise(1, 16, 16, 3)})["keypoints"]
    kept = first.copy()
    session({"image": noise(1, 16, 16, 3, seed=1)})
    session.close()
    np.testing.assert_array_equal(first, kept)
    with pytest.raises(ValueError, match="closed"):
        session({"image": noise(1, 16, 16, 3)})


def test_work_is_recorded_once_a_shape(opened: Callable[..., Session], torch: FakeTorch) -> None:
    session = opened()
    before = torch.captured  # the self-check's
    for size in ((16, 16), (8, 16), (16, 16), (8, 16)):
        session({"image": noise(4, *size, 3)})
    assert torch.captured == before + 1
    with pytest.raises(ValueError, match=r"built for \(8, 8, 3\) to \(32, 32, 3\)"):
        session({"image": noise(1, 64, 16, 3)})


def test_feeds_that_do_not_fit_are_refused(opened: Callable[..., Session]) -> None:
    with pytest.raises(ValueError, match="expected"):
        opened()({"image": np.zeros((1, 16, 16, 3), np.float32)})


def test_an_engine_is_built_and_checked_once(
    opened: Callable[..., Session], api: FakeTensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened()
    checks: list[Any] = []
    monkeypatch.setattr(tensorrt, "check", checks.append)
    opened()
    assert (api.builds, checks) == (1, [])


@pytest.mark.parametrize("flavour", ["tensorrt"], indirect=True)
@pytest.mark.parametrize(
    "change",
    [
        {"name": "NVIDIA RTX A6000"},
        {"driver": "13.0"},
        {"version": "10.16.1"},
        {"onnx": True},
        {"options": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_engine_that_does_not_fit_is_built_again_with_the_reason(
    opened: Callable[..., Session],
    api: FakeTensorRT,
    gpu: Callable[..., None],
    change: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened()
    if "version" in change:
        api.__version__ = change["version"]
    elif "onnx" in change:
        halved = engines.halved
        monkeypatch.setattr(engines, "halved", lambda *given: _renamed(halved(*given)))
    elif "options" in change:
        monkeypatch.setitem(tensorrt.OPTIONS, "optimization_level", 5)
    else:
        gpu(**change)
    opened()
    assert api.builds == 2
    assert "building tiny-f16-tensorrt-sm89 again: " in caplog.text
    for value in change.values():
        assert value is True or f"now '{value}'" in caplog.text
    opened()
    assert api.builds == 2


def _renamed(graph: bytes) -> bytes:
    model = onnx.load_from_string(graph)
    model.graph.name = "another"
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "no record", "record damaged", "unreadable", "is a folder"])
def test_a_damaged_engine_is_built_again(
    opened: Callable[..., Session], api: FakeTensorRT, cache: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    opened()
    (engine,) = cache.glob("*.engine")
    record = engine.with_suffix(".json")
    if damage == "truncated":
        engine.write_bytes(engine.read_bytes()[:-100])
    elif damage == "garbage":
        engine.write_bytes(noise(1000).tobytes())
    elif damage == "empty":
        engine.write_bytes(b"")
    elif damage == "no record":
        record.unlink()
    elif damage == "record damaged":
        record.write_text(record.read_text()[:50])
    elif damage == "unreadable":  # also for root: what lies there gives an input/output error
        engine.unlink()
        engine.symlink_to("/proc/self/mem")
    else:
        engine.unlink()
        engine.mkdir()
    opened()
    assert api.builds == 2
    assert "again: " in caplog.text
    if damage == "unreadable":
        assert "it cannot be read (Input/output error)" in caplog.text
    if damage != "is a folder":  # which stays in the way, so that nothing can be kept
        opened()
        assert api.builds == 2


def test_an_engine_that_tensorrt_refuses_is_built_again(
    opened: Callable[..., Session], api: FakeTensorRT, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The record fits, but TensorRT answers None: as where a driver update changed what it takes."""
    opened()
    (entry,) = Store().entries()
    other = FakeTensorRT(api.torch, version="9.9")
    plan = other.Builder(tensorrt._logger(api)).build_serialized_network(  # type: ignore[arg-type]
        type("N", (), {"graph": b""}), type("C", (), {"num_compute_capabilities": 0, "targets": {}, "profile": {}})
    )
    Store()._save(engines.Key(**{**entry.key, "targets": tuple(entry.key["targets"])}), plan, None, lambda said: None)
    opened()
    assert api.builds == 2
    assert "expecting version 10.13.3.9 got 9.9" in caplog.text


def test_an_engine_with_wrong_results_is_refused_with_the_figures(
    opened: Callable[..., Session], api: FakeTensorRT, flavour: str, caplog: pytest.LogCaptureFixture, tiny: Path
) -> None:
    api.spoil = lambda results: {"keypoints": results["keypoints"] + np.float32([0.05, 0, 0])}
    with pytest.raises(Unfit, match=r"refused: its results differ from f32: px 0\.8 \(at most 0\.5\)"):
        opened()
    backends._tell_once.cache_clear()
    # auto takes the next backend and says so; what was refused stays untrusted
    session = open_session(tiny, backend="auto")
    assert session.backend not in (flavour, "tensorrt", "tensorrt_rtx")
    assert f"backend {flavour} is not used: the f16 engine of tiny is refused" in caplog.text
    with pytest.raises(Unfit, match="refused"):
        opened()
    assert api.builds == 1


def test_not_a_number_is_refused(opened: Callable[..., Session], api: FakeTensorRT) -> None:
    api.spoil = lambda results: {name: values * np.nan for name, values in results.items()}
    with pytest.raises(Unfit, match="not a number inf"):
        opened()


def test_auto_takes_tensorrt_where_it_works(api: FakeTensorRT, flavour: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpose.backends.find_spec", lambda package: package in (flavour, "openvino"))
    assert open_session(tiny).backend == flavour


def test_a_builder_without_memory_is_one_clear_line(opened: Callable[..., Session], api: FakeTensorRT, cache: Path) -> None:
    api.fail = "Requested amount of GPU memory (9999 bytes) could not be allocated.\nThere may not be enough free memory."
    with pytest.raises(InputError, match=r"could not build the engine: Requested amount.*allocated\. There may") as caught:
        opened()
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("*.engine")) + list(cache.glob("*.partial"))
    api.fail = ""
    opened()


def test_a_gpu_without_room_to_run_is_one_clear_line(opened: Callable[..., Session], api: FakeTensorRT) -> None:
    api.no_room = True
    with pytest.raises(InputError, match="no room to run the engine"):
        opened()


def test_a_broken_network_is_one_clear_line(api: FakeTensorRT) -> None:
    with pytest.raises(InputError, match="TensorRT cannot read the network: Conv first: ") as caught:
        tensorrt.compile_engine(api, b"no network", {})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_without_a_driver(opened: Callable[..., Session], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(Unfit, match="TensorRT needs an NVIDIA GPU"):
        tensorrt.find_gpu()


def test_with_a_driver_too_old(api: FakeTensorRT, flavour: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", FakeTorch(cuda_works=False))
    with pytest.raises(Unfit, match=r"driver on your system is too old \(found version 11040\)\.$"):
        open_session(tiny, backend=flavour)


def test_without_the_package(flavour: str, gpu: Callable[..., None], tiny: Path) -> None:
    with pytest.raises(InputError, match=f"needs the package {flavour}: pip install"):
        open_session(tiny, backend=flavour)


def test_without_torch(opened: Callable[..., Session], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(Unfit, match="need torch: pip install"):
        opened()


def test_what_the_network_does_not_offer(opened: Callable[..., Session], tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(Unfit, match="tiny has no bf16 engine: choose auto or one of f16, f32"):
        opened(precision="bf16")
    with pytest.raises(InputError, match=r"no device 'cpu': choose cuda:0"):
        opened(device="cpu")
    (tmp_path / "own.onnx").write_bytes(tiny.read_bytes())
    with pytest.raises(Unfit, match=r"no engine recipe for own\.onnx"):
        opened(tmp_path / "own.onnx")


def test_a_cache_that_cannot_be_written(
    opened: Callable[..., Session], api: FakeTensorRT, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.mkdir()
    cache.write_text("in the way")
    for _ in range(2):
        opened()
    assert api.builds == 2
    assert "engines are built anew at every start: cannot write to" in caplog.text


def test_ahead_of_time_engines_serve_every_target(
    torch: FakeTorch, gpu: Callable[..., None], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built on one machine for several generations of GPUs, then used on two others."""
    api = FakeTensorRT(torch)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", api)
    built = list(tensorrt.build_engines(("tiny",), targets=("sm86", "sm89")))
    assert [(b.network, b.precision, b.targets) for b in built] == [("tiny", "f16", ("sm86", "sm89"))]
    for target in ("sm86", "sm89"):
        gpu(target=target)
        api.gpu = target
        open_session(tiny, backend="tensorrt_rtx")
    assert api.builds == 1
    gpu(target="sm120")
    api.gpu = "sm120"
    open_session(tiny, backend="tensorrt_rtx")
    assert api.builds == 2
    gpu(target="sm90")
    with pytest.raises(InputError, match="builds nothing for 'sm90': choose from sm86, sm89, sm120"):
        open_session(tiny, backend="tensorrt_rtx")


def test_build_takes_every_recipe_whose_weights_are_here(api: FakeTensorRT, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = engines.Recipe("absent", ("f32",), (), {}, ("", ()), {}, "import them first")
    known = {**engines.recipes(), "absent": absent}
    monkeypatch.setattr(engines, "recipes", lambda: known)
    built = {b.network: b for b in tensorrt.build_engines()}
    assert set(built) == set(known)
    assert built["absent"].skipped == "its weights are not here: import them first"
    assert built["tiny"].seconds is not None
    assert built["tiny"].size > 1000
    assert {b.seconds for b in tensorrt.build_engines()} == {None}
    with pytest.raises(InputError, match="weights of absent are not here: import them first"):
        list(tensorrt.build_engines(("absent",)))
    with pytest.raises(InputError, match=r"no engine recipe called 'eagle': choose from .*tiny"):
        list(tensorrt.build_engines(("eagle",)))


BUNDLED = [m for r in RECIPES.values() for m in r.networks() if m.path.parent == bundled_folder()]


@pytest.mark.parametrize("model", BUNDLED, ids=lambda model: model.name)
def test_the_stored_results_are_those_of_the_weights(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this fails after a network was changed: run scripts/engine_references.py."""
    monkeypatch.setattr(engines, "RECIPES", ROOM)
    recipe, _ = engines.recipe_of(model.path)
    feeds = engines.reference_feeds(recipe)
    stored = engines.reference_results(model, feeds)
    assert stored is not None
    figures = engines.deviation(model.decoder, feeds, open_session(model.path, backend="onnxruntime")(feeds), stored)
    assert all(value < 0.1 * recipe.bounds[name] for name, value in figures.items())
    assert engines.reference_results(replace(model, sha256="other"), feeds) is None


def test_a_stored_result_is_what_counts(opened: Callable[..., Session], tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (model,) = (m for m in models().values() if m.name == "tiny")
    wrong = np.full((2, 17, 3), 0.5, np.float32)
    stored = {"picture": noise(16, 16, 3), "tiny/sha256": np.array(model.sha256), "tiny/f32/keypoints": wrong}
    np.savez(engines.RECIPES / "reference.npz", **stored)
    with pytest.raises(Unfit, match="results differ from f32"):
        opened()


def test_bones_that_turn_are_millimetres() -> None:
    six = np.tile(np.float32([1, 0, 0, 0, 1, 0]), (1, 24, 1))
    turned = six.copy()
    turned[0, 3] = [1, 0, 0, 0, np.cos(0.02), np.sin(0.02)]
    others = {"betas": np.ones((1, 10), np.float32)}
    figures = engines.deviation("hmr", {}, {"six": turned, **others}, {"six": six, **others})
    assert figures["mm"] == pytest.approx(10, rel=1e-3)
    assert figures["relative"] == 0


def test_the_cache_lists_and_cleans(opened: Callable[..., Session], cache: Path) -> None:
    opened()
    (entry,) = Store().entries()
    assert entry.key["network"] == "tiny"
    assert entry.figures is not None
    assert set(entry.figures) == {"px", "score"}
    (cache / "half.partial").write_bytes(b"12")
    assert Store().clean() > entry.size
    assert Store().entries() == []


def _build_slowly(folder: Path, done: Any, seconds: float) -> None:
    key = engines.Key("net", "", "tensorrt", "1", "f32", ("sm89",), "", "", {}, {})

    def build() -> bytes:
        done.put("built")
        time.sleep(seconds)
        return b"engine" * 1000

    assert Store(folder).get(key, build) == b"engine" * 1000


def test_two_processes_that_want_one_engine_build_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    workers = [context.Process(target=_build_slowly, args=(tmp_path, done, 1.0)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert done.get() == "built"
    assert done.empty()


def test_a_builder_killed_halfway_poisons_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    worker = context.Process(target=_build_slowly, args=(tmp_path, done, 1e6))
    worker.start()
    assert done.get() == "built"
    worker.kill()
    worker.join()
    assert not list(tmp_path.glob("*.engine"))
    fresh = context.Queue()  # the one killed may hold a lock of the other
    _build_slowly(tmp_path, fresh, 0.0)
    assert fresh.get() == "built"


UNTAKEN = {"NonMaxSuppression", "NonZero", "Where", "TopK", "Loop", "If", "Scan", "Unique", "Compress", "RoiAlign"}
"""Operations the shape of whose output depends on the data, some that stand in for such, and control flow."""

SHAPING = {
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Resize": (1, 2, 3),
    "Expand": (1,),
    "Tile": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
}
SHAPING |= {"ConstantOfShape": (0,), "Squeeze": (1,), "Unsqueeze": (1,), "OneHot": (1,), "Split": (1,), "ReduceSum": (1,)}
"""Which inputs of an operation say what shape its output has."""


def network_for(recipe: engines.Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch, size: int = 416) -> Model:
    """The recipe's network: a bundled one, or with random weights what a user would bring."""
    monkeypatch.setattr(engines, "RECIPES", ROOM)
    if recipe.network == "hmr":
        random_hmr_network(user_folder() / "hmr.onnx")
    elif recipe.network.startswith("yolov3"):
        layers = yolov3(size) if recipe.network == "yolov3" else yolov3_tiny(size)
        cfg, weights = folder / f"{recipe.network}.cfg", folder / f"{recipe.network}.weights"
        cfg.write_text(layers)
        random_weights(cfg, weights)
        import_darknet(cfg, weights)
    (model,) = recipe.networks()
    return model


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.network)
def test_graphs_hold_what_tensorrt_takes(recipe: engines.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every precision on offer: no shape that depends on the data, the network's own inputs, f16 where it counts."""
    model = network_for(recipe, tmp_path, monkeypatch)
    fitted = recipe.fitted(model)
    for precision in recipe.precisions:
        graph = onnx.load_from_string(recipe.graph(model, precision))
        assert not {node.op_type for node in graph.graph.node} & UNTAKEN
        assert {port.name for port in graph.graph.input} == set(fitted.shapes)
        assert shaped_by_data(graph) == []
        if precision != "f16":
            continue
        wide = [t for t in graph.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
        assert sum(int(np.prod(t.dims)) for t in wide) < 0.05 * weights_in(graph)
        # HMR's regressor, which adds up small steps, stays in f32.
        kind = "Gemm" if recipe.network == "lifter" else "Conv"
        products = [node for node in graph.graph.node if node.op_type == kind]
        kinds = {t.name: t.data_type for t in graph.graph.initializer}
        assert products
        assert {kinds[name] for node in products for name in node.input[1:]} == {onnx.TensorProto.FLOAT16}


def shaped_by_data(graph: onnx.ModelProto) -> list[str]:
    """The nodes whose output's shape depends on more than constants and the shapes of inputs."""
    known = {tensor.name for tensor in graph.graph.initializer} | {""}
    found = []
    for node in graph.graph.node:
        if node.op_type == "Shape" or all(name in known for name in node.input):
            known.update(node.output)
        shaping = [node.input[k] for k in SHAPING.get(node.op_type, ()) if k < len(node.input)]
        if not known.issuperset(shaping):
            found.append(f"{node.op_type} {node.name}")
    return found


def weights_in(graph: onnx.ModelProto) -> int:
    return sum(int(np.prod(t.dims)) for t in graph.graph.initializer)


def test_a_shape_that_depends_on_the_data_is_found() -> None:
    planted = """<ir_version: 8, opset_import: ["" : 13]>
    planted (float[n,3] x) => (float[m,3] y) {
        zero = Constant <value = int64[1] {0}> ()
        most = ReduceMax <axes = [0, 1]> (x)
        last = Cast <to = 7> (most)
        one = Shape (zero)
        end = Reshape (last, one)
        y = Slice (x, zero, end, zero)
    }"""
    assert shaped_by_data(onnx.parser.parse_model(planted)) == ["Slice "]


@pytest.mark.parametrize("name", ["yolov3", "yolov3-tiny"])
def test_a_network_of_another_size_has_engines_of_that_size(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The .cfg that comes with YOLOv3 says 608, the tiny one 416, and both can be changed."""
    recipe = RECIPES[name]
    model = network_for(recipe, tmp_path, monkeypatch, 320)
    found, _ = engines.recipe_of(model.path)
    assert {shape[1:] for shape in found.shapes["image"]} == {(320, 320, 3)}
    assert found.shapes["image"][2][0] == recipe.shapes["image"][2][0]
    assert engines.reference_feeds(found)["image"].shape[1:] == (320, 320, 3)


class Watched:
    """A session that notes what shapes it is fed."""

    def __init__(self, session: Session) -> None:
        self.inputs, self.threads, self._session = session.inputs, session.threads, session
        self.fed: list[dict[str, tuple[int, ...]]] = []

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.fed.append({name: array.shape for name, array in feeds.items()})
        return self._session(feeds)


@pytest.mark.parametrize("name", ["nanodet", "movenet-thunder", "posenet", "lifter"])
def test_engines_take_what_their_stage_feeds_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of people is split by the session; every other size must lie in the profile."""
    monkeypatch.setattr(engines, "RECIPES", ROOM)
    model = models()[name]
    recipe, _ = engines.recipe_of(model.path)
    session = Watched(open_session(model.path, backend="onnxruntime"))
    random = np.random.default_rng(0)
    if name == "nanodet":
        detector = Detector(session, model.decoder)
        for size in ((480, 640), (1080, 1920), (1920, 1080), (64, 2048), (3000, 100), (1, 1), (333, 1000)):
            detector.detect(np.zeros((*size, 3), np.uint8))
        expected = {416}
    elif name == "lifter":
        lifter = Lifter(load_body(), session, camera_for)
        for count in (1, 3, 20):
            poses = np.float32(random.uniform(50, 300, (count, 17, 3)) * [1, 1, 0.003])
            boxes = np.tile(np.float32([40, 40, 310, 310]), (count, 1))
            people = People(np.arange(count), boxes, np.ones(count), poses, np.zeros((count, 17)), poses)
            lifter(Result(Frame(count, count / 30, np.zeros((480, 640, 3), np.uint8), 0), people=people))
        expected = {session.inputs["keypoints"][0][1]}
    else:
        estimator = KeypointEstimator(session, model.decoder)
        for count in (1, 2, 20):
            left, top = random.uniform(0, 3000, (2, count))
            slender = random.uniform(0.2, 1.5, count) * 100
            estimator.estimate(
                np.zeros((720, 4000, 3), np.uint8), np.float32(np.stack([left, top, left + slender, top + 100], 1))
            )
        expected = {385} if name == "posenet" else {256}
        assert name == "posenet" or {shape["image"][2] for shape in session.fed} == {128, 160, 192, 256}
    assert session.fed
    for fed in session.fed:
        for port, shape in fed.items():
            least, _, most = recipe.shapes[port]
            assert all(a <= b <= c for a, b, c in zip(least[1:], shape[1:], most[1:], strict=True)), (port, shape)
            assert expected & set(shape[1:])

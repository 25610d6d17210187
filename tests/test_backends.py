"""What every backend promises, checked on those that run on a processor; then what each one promises alone.

test_tensorrt.py checks the same of TensorRT.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from numpy.typing import NDArray

from rtpose.backends import BACKENDS, PRECISIONS, Session, open_session
from rtpose.backends import openvino as openvino_backend
from rtpose.engines import deviation, recipes, reference_feeds
from rtpose.errors import InputError
from rtpose.models import models

TINY = """<ir_version: 8, opset_import: ["" : 13]>
tiny (float[n,3] a, float[n,3] b) => (float[n,3] total, float[n,3] product) {
    total = Add (a, b)
    product = Mul (a, b)
}"""
NANODET = models()["nanodet"].path
PROCESSOR = ["openvino", "onnxruntime"]
THUNDER = models()["movenet-thunder"].path
LIFTER = models()["lifter"].path
POSENET = models()["posenet"].path

Opener = Callable[..., Session]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTPOSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=PROCESSOR)
def opener(request: pytest.FixtureRequest) -> Opener:
    def opened(path: Path, **options: Any) -> Session:
        return open_session(path, **{"backend": request.param, "threads": 1, **options})

    return opened


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    onnx.save(onnx.parser.parse_model(TINY), tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_a_session_says_what_it_is(opener: Opener) -> None:
    session = opener(THUNDER, precision="f32")
    assert session.backend in BACKENDS
    assert (session.device, session.precision, session.threads) == ("cpu", "f32", 1)
    assert session.inputs == {"image": ((None, 256, None, 3), np.dtype(np.uint8))}
    assert session.outputs == {"keypoints": ((None, 17, 3), np.dtype(np.float32))}
    session.close()


def test_names_decide_which_array_goes_where(opener: Opener, tiny: Path) -> None:
    a, b = np.float32([[1, 2, 3], [4, 5, 6]]), np.float32([[10, 20, 30], [40, 50, 60]])
    got = opener(tiny, precision="f32")({"b": b, "a": a})
    np.testing.assert_array_equal(got["total"], a + b)
    np.testing.assert_array_equal(got["product"], a * b)


def test_arrays_need_not_be_contiguous(opener: Opener, tiny: Path) -> None:
    a = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::2]
    np.testing.assert_array_equal(opener(tiny, precision="f32")({"a": a, "b": a})["total"], 2 * a)


@pytest.mark.parametrize("n", [0, 1, 2, 5, 12])
def test_any_number_of_rows(opener: Opener, tiny: Path, n: int) -> None:
    session = opener(tiny, precision="f32")
    for rows in (3, n, 1):
        a = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        got = session({"a": a, "b": a})
        assert got["total"].shape == got["product"].shape == (rows, 3)
        np.testing.assert_array_equal(got["product"], a * a)


def test_outputs_are_the_callers_to_keep(opener: Opener) -> None:
    session = opener(THUNDER, precision="f32")
    first = session({"image": noise(2, 256, 256, 3)})["keypoints"]
    kept = first.copy()
    session({"image": noise(2, 256, 256, 3, seed=1)})
    session.close()
    np.testing.assert_array_equal(first, kept)
    first[:] = 0  # and theirs to change


def test_a_person_is_seen_alike_alone_and_in_company(opener: Opener) -> None:
    session = opener(THUNDER, precision="f32")
    crops = noise(5, 256, 256, 3)
    together = session({"image": crops})["keypoints"]
    alone = np.concatenate([session({"image": crops[i : i + 1]})["keypoints"] for i in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("size", [(416, 416), (256, 416), (320, 192)])
def test_the_detector_takes_any_size_divisible_by_32(opener: Opener, size: tuple[int, int]) -> None:
    anchors = sum((size[0] // s) * (size[1] // s) for s in (8, 16, 32))
    got = opener(NANODET, precision="f32")({"image": noise(2, *size, 3)})
    assert got["scores"].shape == (2, anchors)
    assert got["distances"].shape == (2, anchors, 44)


def test_backends_agree() -> None:
    """In f32 the runtimes differ by rounding only."""
    crops = noise(3, 256, 256, 3)
    got = [open_session(THUNDER, backend=b, precision="f32", threads=1)({"image": crops})["keypoints"] for b in PROCESSOR]
    for other in got[1:]:
        np.testing.assert_allclose(got[0], other, atol=1e-3)


def test_sessions_on_threads_do_not_disturb_each_other(opener: Opener) -> None:
    crops = noise(4, 256, 256, 3)
    expected = opener(THUNDER, precision="f32")({"image": crops})["keypoints"]
    results: list[NDArray[Any]] = []

    def work() -> None:
        session = opener(THUNDER, precision="f32")
        results.extend(session({"image": crops})["keypoints"] for _ in range(2))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    for result in results:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"a": np.zeros((1, 3), np.float32)},
        {"a": np.zeros((1, 3), np.float32), "b": np.zeros((1, 3), np.float64)},
        {"a": np.zeros((1, 3), np.float32), "b": np.zeros((1, 4), np.float32)},
        {"a": np.zeros((1, 3), np.float32), "b": np.zeros(3, np.float32)},
        {"a": np.zeros((1, 3), np.float32), "b": np.zeros((2, 3), np.float32)},
        {"a": np.zeros((1, 3), np.float32), "b": np.zeros((1, 3), np.float32), "c": np.zeros((1, 3), np.float32)},
    ],
    ids=["nothing", "one missing", "dtype", "width", "rank", "rows", "one too many"],
)
def test_feeds_that_do_not_fit_are_refused(opener: Opener, tiny: Path, feeds: dict[str, NDArray[Any]]) -> None:
    with pytest.raises(ValueError, match=r"expected|takes|rows"):
        opener(tiny, precision="f32")(feeds)


@pytest.mark.parametrize(
    "content", [b"", b"this is no network", THUNDER.read_bytes()[:100_000]], ids=["empty", "text", "cut off"]
)
def test_a_broken_file_is_one_clear_line(opener: Opener, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.onnx is no network") as caught:
        opener(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(opener: Opener, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such network.*gone\.onnx"):
        opener(tmp_path / "gone.onnx")


def test_precisions_are_honoured_or_refused(opener: Opener, tiny: Path) -> None:
    for precision in PRECISIONS:
        try:
            session = opener(tiny, precision=precision)
        except InputError as error:
            assert precision in str(error)  # noqa: PT017
            assert precision not in ("auto", "f32")
        else:
            assert session.precision == precision or (precision == "auto" and session.precision in ("f32", "bf16"))


@pytest.mark.parametrize("wrong", [{"backend": "abacus"}, {"precision": "f7"}, {"device": "toaster"}])
def test_unknown_names_are_refused_with_those_there_are(opener: Opener, tiny: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong.values())) + r".*choose"):
        opener(tiny, **wrong)


def test_openvino_reads_precision_and_threads_back_from_the_compiled_network() -> None:
    for precision in ("f32", "bf16"):
        try:
            session = open_session(POSENET, backend="openvino", precision=precision, threads=1)
        except InputError:
            assert precision == "bf16"  # a processor without it
            continue
        assert isinstance(session, openvino_backend.OpenVinoSession)
        ((request,),) = session._requests.values()
        compiled = request._request.get_compiled_model()
        assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino_backend.PRECISIONS[precision][0]
        assert compiled.get_property("INFERENCE_NUM_THREADS") == session.threads == 1


def test_openvino_gives_the_same_bits_alone_and_in_company() -> None:
    session = open_session(THUNDER, backend="openvino", threads=2)
    assert isinstance(session, openvino_backend.OpenVinoSession)
    crops, others = noise(3, 256, 256, 3), set(threading.enumerate())
    before = session({"image": crops})["keypoints"]  # one after the other: what takes two at once is compiled meanwhile
    for compiling in set(threading.enumerate()) - others:
        compiling.join()
    assert {lanes for _, lanes in session._requests} == {1, 2}
    together = session({"image": crops})["keypoints"]  # two side by side, then one with both threads
    np.testing.assert_array_equal(before, together)
    for i in range(3):
        np.testing.assert_array_equal(session({"image": crops[i : i + 1]})["keypoints"][0], together[i])


def test_what_is_begun_gives_the_same_bits_in_any_order_of_asking() -> None:
    session = open_session(THUNDER, backend="openvino", threads=2)
    assert isinstance(session, openvino_backend.OpenVinoSession)
    crops, narrow, others = noise(5, 256, 256, 3), noise(2, 256, 128, 3), set(threading.enumerate())
    expected = session({"image": crops})["keypoints"], session({"image": narrow})["keypoints"]
    for compiling in set(threading.enumerate()) - others:
        compiling.join()
    first, second = session.begin({"image": crops}), session.begin({"image": narrow})
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(second()["keypoints"], expected[1])
    np.testing.assert_array_equal(session({"image": crops[:3]})["keypoints"], expected[0][:3])
    np.testing.assert_array_equal(first()["keypoints"], expected[0])
    unasked = session.begin({"image": crops})  # and a thread later that knows nothing of it
    assert unasked is not None
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(lambda: session({"image": crops[::-1]})["keypoints"]).result()
    np.testing.assert_array_equal(again, expected[0][::-1])


def test_nothing_is_begun_on_one_thread_or_while_it_is_compiled() -> None:
    one = open_session(THUNDER, backend="openvino", threads=1)
    two = open_session(THUNDER, backend="openvino", threads=2)
    for session in (one, two):
        assert isinstance(session, openvino_backend.OpenVinoSession)
        assert session.begin({"image": noise(1, 256, 256, 3)}) is None


def test_openvino_keeps_the_weights_of_vectors_in_eight_bits() -> None:
    full, short = (open_session(LIFTER, backend="openvino", precision=p, threads=1) for p in ("f32", "int8"))
    assert short.precision == "int8"
    shown = np.random.default_rng(0).normal(0, 0.5, (8, 256)).astype(np.float32)
    got, expected = short({"keypoints": shown}), full({"keypoints": shown})
    for name, said in expected.items():
        error = float(np.sqrt(np.mean((got[name] - said) ** 2)))
        assert 0 < error < 0.1 * said.std(), name


def test_a_process_that_ends_while_a_network_is_compiled_ends_well() -> None:
    # As in a run, whose stages have threads that do not outlive it.
    code = f"""
import threading
import numpy as np
from rtpose.backends import open_session
session = open_session({str(THUNDER)!r}, backend="openvino", precision="f32", threads=2)
crops = np.zeros((2, 256, 256, 3), np.uint8)
session({{"image": crops[:1]}})
stage = threading.Thread(target=session, args=({{"image": crops}},), daemon=True)
stage.start()
stage.join()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_openvino_says_the_same_of_vectors_one_by_one_and_two_by_two() -> None:
    session = open_session(LIFTER, backend="openvino", precision="f32", threads=1)
    shown = np.random.default_rng(0).normal(0, 0.5, (6, 256)).astype(np.float32)
    pairs = session({"keypoints": shown})
    for row in range(6):
        for name, said in session({"keypoints": shown[row : row + 1]}).items():
            np.testing.assert_allclose(pairs[name][row], said[0], atol=1e-4)


def test_openvino_keeps_compiled_networks(tmp_path: Path) -> None:
    open_session(POSENET, backend="openvino", threads=1)
    assert list((tmp_path / "cache" / "openvino").rglob("*.blob"))
    again = open_session(POSENET, backend="openvino", threads=1)
    assert isinstance(again, openvino_backend.OpenVinoSession)
    ((request,),) = again._requests.values()
    assert request._request.get_compiled_model().get_property("LOADED_FROM_CACHE")


def test_openvino_survives_a_damaged_cache(tmp_path: Path) -> None:
    crops = noise(1, 256, 256, 3)
    expected = open_session(THUNDER, backend="openvino", precision="f32")({"image": crops})["keypoints"]
    for blob in (tmp_path / "cache" / "openvino").rglob("*.blob"):
        blob.write_bytes(blob.read_bytes()[:1000])
    got = open_session(THUNDER, backend="openvino", precision="f32")({"image": crops})["keypoints"]
    np.testing.assert_array_equal(got, expected)


def test_openvino_runs_without_a_cache_and_says_so_once(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RTPOSE_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        open_session(tiny, backend="openvino", precision="f32")
    assert [r.getMessage() for r in caplog.records if "cannot write" in r.getMessage()] == [
        f"networks are compiled anew at every start: cannot write to {tmp_path / 'file' / 'openvino'} (Not a directory)"
    ]


def test_onnxruntime_runs_on_the_providers_it_was_given(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session(tiny, backend="onnxruntime")
    module = import_module("rtpose.backends.onnxruntime")  # a backend of its own extra
    assert isinstance(session, module.OnnxRuntimeSession)
    assert session._session.get_providers() == ["CPUExecutionProvider"]
    monkeypatch.setattr(module, "PROVIDERS", ["CPUExecutionProvider", "TensorrtExecutionProvider"])
    with pytest.warns(UserWarning, match="Tensorrt"), pytest.raises(InputError, match="not on"):
        open_session(tiny, backend="onnxruntime")


def test_openvino_runs_the_int8_form_in_eight_bits() -> None:
    """Also on a processor without instructions for it; how accurate it is, benchmarks/keypoints.py measures."""
    small = open_session(THUNDER, backend="openvino", precision="int8", threads=1)
    full = open_session(THUNDER, backend="openvino", precision="f32", threads=1)
    assert small.precision == "int8"
    assert (small.inputs.keys(), small.outputs.keys()) == (full.inputs.keys(), full.outputs.keys())
    recipe = recipes()[THUNDER.stem]
    got, expected = (session(reference_feeds(recipe)) for session in (small, full))
    figures = deviation(models()[THUNDER.stem].decoder, reference_feeds(recipe), got, expected)
    assert 0 < figures["px"] < 8


def test_openvino_says_where_there_is_no_int8_form(tiny: Path) -> None:
    with pytest.raises(InputError, match=r"no int8 form of tiny\.onnx"):
        open_session(tiny, backend="openvino", precision="int8")


def test_openvino_refuses_an_int8_form_that_is_none(tiny: Path) -> None:
    """A file of that name whose network is in f32 must not pass for int8."""
    model = openvino.Core().read_model(POSENET)
    openvino.save_model(model, tiny.with_name("tiny.int8.xml"))
    with pytest.raises(InputError, match=r"does not compute .* in int8"):
        open_session(tiny, backend="openvino", precision="int8")


def test_networks_that_are_compiled_at_once_leave_the_locale_as_it_was() -> None:
    # In a process of its own: what the others of this one have compiled is at hand there, too, but the locale is not theirs.
    code = f"""
import locale, threading
import numpy as np
from rtpose.backends import open_session
before = locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
sessions = [open_session({str(THUNDER)!r}, backend="openvino", precision="f32", threads=1) for _ in range(2)]
def look(session):
    for width in (128, 160, 192, 256):
        session({{"image": np.zeros((1, 256, width, 3), np.uint8)}})
threads = [threading.Thread(target=look, args=(session,)) for session in sessions]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert locale.setlocale(locale.LC_CTYPE) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)

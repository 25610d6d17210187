"""Every attribute of TensorRT that our code touches exists in the real bindings of each version we claim.

The stubs in tensorrt_api/ were read off the bindings by scripts/tensorrt_api.py; mypy checks our code against each set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
STUBS = HERE / "tensorrt_api"
BACKEND = HERE.parent / "rtpose" / "backends" / "tensorrt.py"
VERSIONS = ["10.3", "10.13", "10.16", "11.4", "rtx"]


def complaints(version: str, code: str, folder: Path) -> str:
    """What mypy says of the code where `tensorrt` is that version; TensorRT-RTX must do as `tensorrt` too."""
    stubs = folder / "stubs"
    source = "tensorrt_rtx" if version == "rtx" else "tensorrt"
    shutil.copytree(STUBS / version / source, stubs / "tensorrt", dirs_exist_ok=True)
    shutil.copytree(STUBS / "rtx" / "tensorrt_rtx", stubs / "tensorrt_rtx", dirs_exist_ok=True)
    module = folder / "module.py"
    # Relative imports have nothing to do with TensorRT.
    module.write_text(
        code.replace("from .. import", "from rtpose import")
        .replace("from ..", "from rtpose.")
        .replace("from . ", "from rtpose.backends ")
    )
    command = [sys.executable, "-m", "mypy", "--config-file=", "--ignore-missing-imports", "--follow-imports=skip"]
    command += ["--check-untyped-defs", "--python-version=3.10", "--cache-dir", str(folder.parent / "mypy-cache"), str(module)]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "MYPYPATH": str(stubs)}, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_what_we_touch_is_there(version: str, tmp_path: Path) -> None:
    code = BACKEND.read_text()
    if version == "rtx":
        # The test cannot be right for wrong reasons: the names that RTX alone has are found in its stubs.
        assert "num_compute_capabilities" in code
    assert "Success" in complaints(version, code, tmp_path)


@pytest.mark.parametrize(
    ("version", "planted", "missing"),
    [
        ("10.3", "api.BuilderFlag.DISTRIBUTIVE_INDEPENDENCE", "DISTRIBUTIVE_INDEPENDENCE"),
        ("10.3", "runtime.get_engine_validity(b'')", "get_engine_validity"),
        ("11.4", "api.BuilderFlag.FP16", "FP16"),
        ("11.4", "builder.platform_has_fast_fp16", "platform_has_fast_fp16"),
        ("10.16", "config.set_compute_capability(0, 0)", "set_compute_capability"),
        ("10.3", "context.is_stream_capturable(0)", "is_stream_capturable"),
    ],
    ids=lambda value: str(value).split("(")[0],
)
def test_a_planted_call_is_caught(version: str, planted: str, missing: str, tmp_path: Path) -> None:
    """Calls that 10.3 lacks, that 11.4 removed, that only RTX has; each passes against a version that has it."""
    code = BACKEND.read_text() + (
        "\n\ndef planted(api: Module) -> None:\n    log = _logger(api)\n    builder = api.Builder(log)\n"
        "    config = builder.create_builder_config()\n    runtime = api.Runtime(log)\n"
        "    engine: ICudaEngine = runtime.deserialize_cuda_engine(b'')\n    context = engine.create_execution_context()\n"
        f"    print(config, runtime, context, {planted})\n"
    )
    assert f'has no attribute "{missing}"' in complaints(version, code, tmp_path)
    elsewhere = {"FP16": "10.16", "platform_has_fast_fp16": "10.16", "DISTRIBUTIVE_INDEPENDENCE": "11.4"}.get(missing, "rtx")
    assert "Success" in complaints(elsewhere, code, tmp_path)


@pytest.mark.slow
def test_the_stubs_are_those_of_the_real_bindings(tmp_path: Path) -> None:
    """Read off anew, from the wheels as they are published; needs gcc."""
    subprocess.run([sys.executable, HERE.parent / "scripts" / "tensorrt_api.py", tmp_path], check=True)
    fresh = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.pyi")}
    assert fresh == {path.relative_to(STUBS): path.read_text() for path in STUBS.rglob("*.pyi")}

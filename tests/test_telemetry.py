"""No command contacts anybody or leaves files outside rtpose's own folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rtpose.reference import CLIP

COMMANDS = {
    "run": [str(CLIP), "--end", "0.2", "--save", "run.jsonl", "--out", "run.mp4", "--no-view"],
    "onnxruntime": [str(CLIP), "--end", "0.1", "--save", "run.jsonl", "--backend", "onnxruntime", "--no-view"],
    "doctor": ["doctor"],
    "models": ["models"],
    "help": ["--help"],
}
AUDIT = """
import sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"):
        print("AUDIT", event, arguments, file=sys.stderr, flush=True)
sys.addaudithook(hook)
"""


def _environment(folder: Path, **more: str) -> dict[str, str]:
    """A home of its own; compiled networks are those of everybody, since to make them takes long."""
    from rtpose.folders import cache_folder

    for name in ("home", "temporary"):
        (folder / name).mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "RAY_", "XDG_"))}
    own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "temporary"), "RTPOSE_CACHE": str(cache_folder())}
    return kept | own | {"RTPOSE_DATA": str(folder / "data")} | more


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("command", COMMANDS)
def test_no_python_code_opens_a_connection(command: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(AUDIT)
    words = [sys.executable, "-m", "rtpose", *COMMANDS[command]]
    environment = _environment(tmp_path, PYTHONPATH=str(tmp_path))
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "AUDIT" not in done.stderr
    assert _files(tmp_path / "home") == []


def test_the_hook_would_see_a_connection(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(AUDIT)
    code = "import socket\ntry: socket.getaddrinfo('localhost', 1)\nexcept OSError: pass"
    environment = _environment(tmp_path, PYTHONPATH=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "AUDIT socket.getaddrinfo" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_no_library_opens_a_connection(command: str, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    assert strace is not None, "needs the Debian package strace, which scripts/test --all installs"
    trace = tmp_path / "trace"
    words = [
        strace,
        "-f",
        "-e",
        "trace=connect,sendto,sendmmsg",
        "-o",
        str(trace),
        sys.executable,
        "-m",
        "rtpose",
        *COMMANDS[command],
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path, env=_environment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert [line for line in trace.read_text().splitlines() if "AF_INET" in line] == []
    assert _files(tmp_path / "home") == []


def test_whoever_wants_telemetry_has_it() -> None:
    code = "import os, rtpose; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['RAY_USAGE_STATS_ENABLED'])"
    plain = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED")
    }
    for own, said in (({}, "1 0"), ({"ORT_DISABLE_TELEMETRY": "0", "RAY_USAGE_STATS_ENABLED": "1"}, "0 1")):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=plain | own)
        assert done.stdout.strip() == said

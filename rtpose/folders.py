"""Where rtpose keeps what is the user's: data (imported networks) and what can be made again (compiled networks)."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from pathlib import Path

_log = logging.getLogger(__name__)


def data_folder() -> Path:
    """`$RTPOSE_DATA`, else `$XDG_DATA_HOME/rtpose`, else `~/.local/share/rtpose`. It need not exist."""
    return _folder("RTPOSE_DATA", "XDG_DATA_HOME", ".local/share")


def cache_folder() -> Path:
    """`$RTPOSE_CACHE`, else `$XDG_CACHE_HOME/rtpose`, else `~/.cache/rtpose`. It need not exist."""
    return _folder("RTPOSE_CACHE", "XDG_CACHE_HOME", ".cache")


def _folder(own: str, xdg: str, default: str) -> Path:
    if chosen := os.environ.get(own):
        return Path(chosen).expanduser()
    base = os.environ.get(xdg, "")
    # The XDG specification: a relative path is to be ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / default) / "rtpose"


def unwritable(folder: Path) -> str:
    """Why files cannot be made in the folder, which is made if need be; empty where they can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def make_do() -> None:
    """Let libraries start for a user without a home, or where nothing can be written: as in a container that runs as a bare number.

    To be called before numba is imported, which takes it for an error if it finds no place for compiled code.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"  # as Docker does
    if "NUMBA_CACHE_DIR" in os.environ or not unwritable(Path(__file__).parent / "__pycache__"):
        return
    folder = cache_folder() / "numba"
    if reason := unwritable(folder):
        _log.warning("code is compiled anew at every start: cannot write to %s (%s)", folder, reason)
        folder = Path(tempfile.mkdtemp(prefix="rtpose-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)

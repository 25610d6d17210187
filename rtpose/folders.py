"""Where rtpose keeps what is the user's: data (imported networks) and what can be made again (compiled networks)."""

from __future__ import annotations

import os
from pathlib import Path


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

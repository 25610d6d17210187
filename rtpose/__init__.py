"""2D and 3D human pose from cameras, streams and videos, in real time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .folders import make_do
from .telemetry import switch_off

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api import Tracker
    from .app import track
    from .settings import Settings
    from .sinks.data import read_results
    from .types import Result

__all__ = ["Result", "Settings", "Tracker", "__version__", "read_results", "track"]

_HOMES = {"Tracker": "api", "track": "app", "read_results": "sinks.data", "Result": "types", "Settings": "settings"}


def __getattr__(name: str) -> Any:
    # Loaded when first asked for, so that `rtpose --help` does not wait for OpenVINO and PyAV.
    if name not in _HOMES:
        raise AttributeError(f"module 'rtpose' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


make_do()
switch_off()

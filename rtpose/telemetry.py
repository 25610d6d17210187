"""Keeps libraries from contacting their makers and from leaving IDs in the home folder. Whoever wants that says so in the environment.

- OpenVINO (2026.4) sends an event when it is imported and writes an ID into ~/intel; without its package for that it does neither.
- ONNX Runtime (1.32) keeps a device ID and a database in ~/.cache/Microsoft and sends events, unless ORT_DISABLE_TELEMETRY is set before it
  is loaded.
- Ray reports usage unless RAY_USAGE_STATS_ENABLED is 0.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast

_SWITCHES = {"ORT_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0"}
_OPENVINO = "openvino_telemetry"


def switch_off() -> None:
    """Set the variables that libraries read when they are loaded; what the user has set stays."""
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)


@contextmanager
def without_openvino_telemetry() -> Iterator[None]:
    """Import OpenVINO in here: its telemetry package cannot be found meanwhile, unless it has been imported before."""
    if _OPENVINO in sys.modules:
        yield
        return
    sys.modules[_OPENVINO] = cast(ModuleType, None)  # what makes an import raise ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[_OPENVINO]

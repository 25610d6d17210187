"""TensorRT-RTX sessions: TensorRT for GeForce and RTX cards, whose engines can be built ahead of time on any machine."""

from __future__ import annotations

from functools import partial

from . import tensorrt

open_session = partial(tensorrt.open_session, flavour=tensorrt.RTX)

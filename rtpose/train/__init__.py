"""Training of the small networks; needs the extra `train`."""

from __future__ import annotations

from pathlib import Path

LIFTER_STEPS, HMR_STEPS = 80_000, 200
"""Batches of a whole run, unless said otherwise. They stand here, where PyTorch need not be loaded, for the command line."""


def keep(state: object, path: Path) -> None:
    """Save what torch can save, so that a run that is killed meanwhile finds the state before."""
    import torch

    partial = path.with_name(f"{path.name}.partial")
    torch.save(state, partial)
    partial.replace(path)

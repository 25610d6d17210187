"""Training of the small networks; needs the extra `train`."""

LIFTER_STEPS, HMR_STEPS = 24_000, 200
"""Batches of a whole run, unless said otherwise. They stand here, where PyTorch need not be loaded, for the command line."""

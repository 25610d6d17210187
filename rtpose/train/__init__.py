"""Training of the small networks; needs the extra `train`."""

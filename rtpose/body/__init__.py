"""The body as arrays: skinning, joints, fitting."""

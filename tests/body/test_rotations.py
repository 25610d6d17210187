"""Rotations: the axioms of their group, and parity with scipy."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from rtpose.body.rotations import from_six, to_axis_angle, to_matrix, to_six
from rtpose.types import F64

vectors = arrays(np.float64, (5, 3), elements=st.floats(-6, 6, allow_subnormal=False))


@given(vectors)
def test_a_matrix_is_a_rotation_and_agrees_with_scipy(w: F64) -> None:
    r = to_matrix(w)
    np.testing.assert_allclose(r @ np.swapaxes(r, -1, -2), np.tile(np.eye(3), (5, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(r), 1)
    np.testing.assert_allclose(r, Rotation.from_rotvec(w).as_matrix(), atol=1e-9)


@given(vectors)
def test_there_and_back_is_the_same_rotation(w: F64) -> None:
    r = to_matrix(w)
    back = to_axis_angle(r)
    assert (np.linalg.norm(back, axis=-1) <= np.pi + 1e-9).all()
    np.testing.assert_allclose(to_matrix(back), r, atol=1e-6)
    np.testing.assert_allclose(from_six(to_six(r)), r, atol=1e-12)


@given(vectors, vectors, vectors)
def test_group_axioms(a: F64, b: F64, c: F64) -> None:
    x, y, z = to_matrix(a), to_matrix(b), to_matrix(c)
    np.testing.assert_allclose((x @ y) @ z, x @ (y @ z), atol=1e-12)
    np.testing.assert_allclose(x @ to_matrix(-a), np.tile(np.eye(3), (5, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(to_matrix(np.zeros(3)), np.eye(3))


def test_half_turns_have_an_axis_angle() -> None:
    axes = np.random.default_rng(0).normal(size=(200, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    for less in (0.0, 1e-9, 1e-6, 1e-3, 0.1):
        r = to_matrix(axes * (np.pi - less))
        np.testing.assert_allclose(to_matrix(to_axis_angle(r)), r, atol=1e-7)


def test_six_numbers_are_columns_not_rows() -> None:
    r = to_matrix([0.3, -0.5, 0.9])
    np.testing.assert_array_equal(to_six(r), np.concatenate([r[:, 0], r[:, 1]]))
    np.testing.assert_allclose(from_six(2 * to_six(r)), r, atol=1e-12)

"""Live queueing on a virtual clock, where the answer is known without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpose.errors import InputError
from rtpose.pipeline import frames_let_in
from rtpose.simulate import Plan, Work, parse_stages, simulate


def plan(text: str, **more: Any) -> Plan:
    return Plan(parse_stages(text), **more)


def test_with_room_nothing_waits() -> None:
    (outcome,) = simulate(plan("source=1,detect=4,keypoints=9,lift=2", cores={"cpu": 4.0}))
    assert outcome.dropped == 0
    np.testing.assert_allclose(outcome.ages, 0.016, atol=1e-9)
    assert outcome.busy["cpu"] == pytest.approx(0.016 * 30 / 4, rel=0.01)


def test_the_slowest_stage_sets_the_rate_and_the_rest_is_dropped() -> None:
    (outcome,) = simulate(plan("source=1,keypoints=100", cores={"cpu": 4.0}))
    assert outcome.results / 60 == pytest.approx(10, abs=0.2)
    assert outcome.dropped / outcome.arrived == pytest.approx(2 / 3, abs=0.02)


@given(st.lists(st.floats(1, 200), min_size=1, max_size=5), st.floats(5, 120))
@settings(max_examples=40)
def test_age_stays_bounded_however_slow_a_stage_is(times: list[float], rate: float) -> None:
    text = "source=0.1," + ",".join(f"s{k}={ms:.3f}" for k, ms in enumerate(times))
    (outcome,) = simulate(plan(text, rate=rate, cores={"cpu": 16.0}, seconds=20.0))
    limit = frames_let_in(times)
    assert limit * max(times) <= 1.6 * sum(times)
    # A frame waits at the entrance, until the newest one comes or the gate opens, and then is one of `limit` under way.
    assert max(outcome.ages[5:], default=0.0) <= ((limit + 1) * max(times) + 2) / 1e3 + 1 / rate
    assert outcome.results + outcome.dropped <= outcome.arrived


def test_a_moment_of_much_work_costs_no_frame() -> None:
    usual = (0.009,) * 29
    stages = (Work("source", (0.001,)), Work("keypoints", (*usual, 0.09)), Work("lift", (0.002,)))
    (outcome,) = simulate(Plan(stages, rate=30.0))
    assert outcome.dropped == 0
    assert 0.09 < max(outcome.ages) < 0.12


def test_cameras_share_the_cores() -> None:
    one = simulate(plan("source=1,keypoints=10", cores={"cpu": 2.0}, rate=10.0))[0]
    many = simulate(plan("source=1,keypoints=10", cores={"cpu": 2.0}, rate=30.0, cameras=16))[0]
    assert one.dropped == 0
    assert many.busy["cpu"] > 0.99
    # 16 cameras decode all their frames (480 core ms a second); what is left computes keypoints.
    assert many.results / 60 == pytest.approx((2000 - 480) / 10, rel=0.05)


def test_a_splitter_deals_cameras_out_and_adds_its_delay() -> None:
    outcomes = simulate(plan("source=1,keypoints=10", cameras=16, machines=3, transfer=0.005, rate=5.0))
    assert [outcome.cameras for outcome in outcomes] == [6, 5, 5]
    assert min(min(outcome.ages) for outcome in outcomes) >= 0.0159


def test_a_device_of_its_own_leaves_the_cores_free() -> None:
    (outcome,) = simulate(plan("source=1,keypoints=30x1@gpu", cores={"cpu": 1.0, "gpu": 1.0}))
    assert outcome.busy["gpu"] == pytest.approx(0.9, abs=0.02)
    assert outcome.busy["cpu"] == pytest.approx(0.03, abs=0.01)


def test_calls_take_their_times_in_turn() -> None:
    assert parse_stages("detect=12/3x2@npu") == (Work("detect", (0.012, 1e-6, 1e-6), 2.0, "npu"),)


@pytest.mark.parametrize("text", ["keypoints", "keypoints=fast", "=3", ""])
def test_what_is_no_stage_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no stage"):
        parse_stages(text)


def test_a_device_nobody_described_is_refused() -> None:
    with pytest.raises(InputError, match="gpu"):
        simulate(plan("source=1,keypoints=9@gpu"))

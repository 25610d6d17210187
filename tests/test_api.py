"""Frames given as arrays."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import rtpose
from rtpose.errors import InputError

CLIP = Path(rtpose.__file__).parent / "reference" / "clip.mp4"


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_a_tracker_finds_what_a_run_over_the_file_does(channels: str) -> None:
    from rtpose.source import open_source

    source = open_source(str(CLIP))
    rate = float(source.info.rate)
    source.close()
    wanted = list(islice(rtpose.track(CLIP, live=False), 12))
    with rtpose.Tracker(rate=rate, channels=channels) as tracker:  # type: ignore[arg-type]
        buffer = np.empty_like(wanted[0].frame.image)
        for result in wanted:
            image = result.frame.image
            buffer[:] = image if channels == "rgb" else image[..., ::-1]  # one buffer for all, as cameras have
            got = tracker.update(buffer, result.frame.time)
            assert np.array_equal(got.frame.image, image)
            for name in ("ids", "boxes", "scores", "keypoints", "status"):
                assert np.array_equal(getattr(got.people, name), getattr(result.people, name), equal_nan=name != "ids"), name
            assert (got.bodies is None) == (result.bodies is None)
            if got.bodies is not None and result.bodies is not None:
                assert np.array_equal(got.bodies.translation, result.bodies.translation, equal_nan=True)
        assert len(wanted[-1].people.ids) > 0
        small = np.ascontiguousarray(wanted[-1].frame.image[::2, ::2])
        times = wanted[-1].frame.time + np.arange(1, 4) / rate
        last = [tracker.update(small, float(t)) for t in times][-1]
        assert last.frame.independent is False
        assert (last.people.boxes[:, 2] <= small.shape[1] + 1).all()


@pytest.mark.parametrize(
    ("image", "time", "said"),
    [
        (np.zeros((48, 64, 3), np.float32), 1.0, "array of float32: give an array of uint8"),
        (np.zeros((48, 64), np.uint8), 1.0, r"shape \(48, 64\): give \(height, width, 3\)"),
        ([[1]], 1.0, "a list: give an array"),
        (np.zeros((48, 64, 3), np.uint8), float("nan"), "nan s: times are in seconds"),
    ],
)
def test_what_is_no_frame_is_said(image: np.ndarray, time: float, said: str) -> None:
    with rtpose.Tracker() as tracker, pytest.raises(InputError, match=said):
        tracker.update(image, time)


def test_time_goes_forward_and_closed_is_closed() -> None:
    black = np.zeros((48, 64, 3), np.uint8)
    with rtpose.Tracker(lifter="none") as tracker:
        tracker.update(black, 1.0)
        with pytest.raises(InputError, match="time is 1 s, after 1: times"):
            tracker.update(black, 1.0)
        assert tracker.update(black, 1.5).frame.index == 1
    with pytest.raises(InputError, match="closed"):
        tracker.update(black, 2.0)
    with pytest.raises(InputError, match="unknown setting detecter"):
        rtpose.Tracker(detecter="x")


def test_that_there_are_more_people_than_are_followed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with rtpose.Tracker(lifter="none", max_people=1) as tracker:
        for result in islice(rtpose.track(CLIP, lifter="none"), 6):
            tracker.update(result.frame.image, result.frame.time)
        assert not caplog.records
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("rtpose.api", "WARNING")
    assert "--max-people 1 was met in" in record.getMessage()

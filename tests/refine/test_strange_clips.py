"""The second pass on the reference clip as strangers' files have it: it may not undo what the first pass had right."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import rtpose
from rtpose.doctor import BOUNDS
from rtpose.reference import CLIP, compare
from rtpose.types import U8

RATE, FRAMES = 30, 90
FLASHED = range(40, 42)
FROZEN = range(20, 38)
""".6 s."""


def shown_as(path: Path, pictures: Sequence[U8], seconds: Fraction) -> Path:
    """A clip with a picture every so many seconds."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=1 / seconds, options={"crf": "12", "preset": "ultrafast"})
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.time_base = video.codec_context.time_base = seconds
        for tick, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = tick, seconds
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("case", ["time lapse", "flash", "freeze"])
def test_the_reference_clip_keeps_its_two_people(case: str, tmp_path: Path) -> None:
    with av.open(str(CLIP)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == FRAMES
    seconds = Fraction(2, 3) if case == "time lapse" else Fraction(1, RATE)
    changed: range = {"flash": FLASHED, "freeze": FROZEN}.get(case, range(0))
    for index in changed:
        pictures[index] = np.full_like(pictures[0], 250) if case == "flash" else pictures[FROZEN[0]]
    clip = shown_as(tmp_path / "clip.mp4", pictures, seconds)

    results = list(rtpose.track(clip, refine=True, lifter="none"))
    assert [result.frame.time for result in results] == pytest.approx([float(k * seconds) for k in range(FRAMES)], abs=1e-3)
    assert {who for result in results for who in result.people.ids.tolist()} == {1, 2}
    figures = compare(result for result in results if result.frame.index not in changed)
    assert figures.found >= BOUNDS["found"]
    allowed = BOUNDS["misnamed"]
    if case == "time lapse":
        # Who was hidden for half a second now is for ten: the first pass takes the one for the other, and not more is asked here.
        allowed = compare(rtpose.track(clip, lifter="none")).misnamed
    assert figures.misnamed <= allowed

"""Interlaced clips, made here: a bar moves to the right 50 times a second, each frame holds two of its places."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtpose.errors import InputError
from rtpose.settings import Settings
from rtpose.source import open_source

from .media import make_clip

FRAMES = 12
STEP = 8


def _field(time: int) -> Any:
    picture = np.full((120, 160, 3), 40, np.uint8)
    picture[:, time * STEP // 2 + 10 : time * STEP // 2 + 40] = 220
    return picture


def interlaced(path: Path, codec: str = "libx264", options: dict[str, str] | None = None, rotation: int = 0) -> None:
    """With uneven times where the codec has them. FFmpeg's encoders mark frames from PyAV as bottom field first; ffv1 is told."""
    first = 0 if codec == "ffv1" else 1
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream(codec, rate=25, options=options or {"x264-params": "tff=1", "crf": "8"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p" if codec != "ffv1" else "yuv444p"
        uneven = codec != "mpeg2video"
        base = Fraction(1, 1000 if uneven else 25)
        video.time_base = video.codec_context.time_base = base
        if rotation:
            video.set_display_rotation(rotation)
        for index in range(FRAMES):
            picture = _field(2 * index)
            picture[1 - first :: 2] = _field(2 * index + 1)[1 - first :: 2]
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = (index * 40 + index % 3 if uneven else index), base
            out.mux(video.encode(frame))
        out.mux(video.encode(None))


def combs(image: Any) -> float:
    """How much neighbouring lines differ more than the next but one, mean grey levels."""
    grey = image.astype(float).mean(-1)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("avc.mp4", "libx264", None),
        ("hdv.mkv", "mpeg2video", {"flags": "+ildct+ilme", "b": "8000000"}),
        ("archive.mkv", "ffv1", {"field_order": "tt"}),  # whose frames are not marked, only the stream
    ],
)
def test_marked_clips_are_deinterlaced_with_every_frame_and_time_kept(
    tmp_path: Path, name: str, codec: str, options: dict[str, str] | None
) -> None:
    interlaced(tmp_path / name, codec, options)
    source, as_it_is = open_source(tmp_path / name), open_source(tmp_path / name, deinterlace="off")
    whole, combed = list(source.frames()), list(as_it_is.frames())
    assert [f.time for f in whole] == [f.time for f in combed]
    assert len(whole) == FRAMES
    assert combs(combed[5].image) > 4
    assert combs(whole[5].image) < 1
    for frame in whole[1:-1]:
        # The moment of the first field: that of the second would be 9 off.
        assert np.abs(frame.image.astype(int) - _field(2 * frame.index)).mean() < 4
    assert [n for n in source.notes if "deinterlaced" in n] == source.notes != []
    assert as_it_is.notes == []


def test_on_is_for_clips_that_are_not_marked_and_auto_leaves_those_alone(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 8)
    plain, auto = (list(open_source(tmp_path / "clip.mp4", deinterlace=mode).frames()) for mode in ("off", "auto"))
    assert all(np.array_equal(a.image, b.image) and a.time == b.time for a, b in zip(plain, auto, strict=True))
    interlaced(tmp_path / "unmarked.mp4", options={"crf": "8"})
    auto_source, on = open_source(tmp_path / "unmarked.mp4"), open_source(tmp_path / "unmarked.mp4", deinterlace="on")
    assert combs(list(auto_source.frames())[5].image) > 4
    assert auto_source.notes == []
    frames = list(on.frames())
    assert combs(frames[5].image) < 1
    assert len(frames) == FRAMES


def test_a_turned_interlaced_clip_is_deinterlaced_before_it_is_turned(tmp_path: Path) -> None:
    interlaced(tmp_path / "plain.mp4")
    interlaced(tmp_path / "turned.mp4", rotation=90)
    plain, turned = (list(open_source(tmp_path / n).frames()) for n in ("plain.mp4", "turned.mp4"))
    assert all(np.array_equal(np.rot90(a.image), b.image) for a, b in zip(plain, turned, strict=True))


def test_frames_that_wait_when_a_file_breaks_off_are_given(tmp_path: Path) -> None:
    interlaced(tmp_path / "clip.ts", "mpeg2video", {"flags": "+ildct+ilme", "g": "1"})
    data = (tmp_path / "clip.ts").read_bytes()
    (tmp_path / "clip.ts").write_bytes(data[: len(data) // 2])
    plain, whole = (list(open_source(tmp_path / "clip.ts", deinterlace=mode).frames()) for mode in ("off", "auto"))
    assert [f.time for f in plain] == [f.time for f in whole] != []


def test_other_modes_are_refused(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 2)
    with pytest.raises(InputError, match="--deinterlace perhaps: give auto, on, off"):
        open_source(tmp_path / "clip.mp4", deinterlace="perhaps")
    with pytest.raises(InputError, match="--deinterlace"):
        Settings(deinterlace="perhaps")

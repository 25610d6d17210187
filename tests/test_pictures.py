"""Pictures of telephones, animated ones, and folders that hold several kinds."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from rtpose.errors import EndedEarly, InputError
from rtpose.pictures import read_picture
from rtpose.sinks.video import open_overlay
from rtpose.source import open_source

from .media import astronaut, make_clip, number_of, numbered


def _box(kind: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind) + b"".join(parts)


def _full(kind: bytes, *parts: bytes, version: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24), *parts)


def make_heic(path: Path, image: Any, *, quarters: int = 0, exif: bytes = b"") -> None:
    """A HEIC file around a key frame of x265: ISO/IEC 23008-12. quarters: turned so often counter-clockwise to be shown."""
    encoder: Any = av.CodecContext.create("libx265", "w")
    encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = *image.shape[:2], "yuv420p", Fraction(1)
    encoder.options = {"x265-params": "log-level=0:crf=10"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24").reformat(format="yuv420p")
    frame.pts, frame.time_base = 0, Fraction(1)
    stream = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    units = [unit.rstrip(b"\0") for unit in stream.split(b"\0\0\1")[1:]]
    kinds = [unit[0] >> 1 & 63 for unit in units]
    arrays = b"".join(
        struct.pack(">BHH", 0x80 | kind, 1, len(unit)) + unit
        for kind, unit in zip(kinds, units, strict=True)
        if kind in (32, 33, 34)
    )
    # Main profile, level 4, 4:2:0, 8 bits, lengths of four bytes; three arrays: VPS, SPS, PPS.
    config = _box(b"hvcC", bytes.fromhex("01016000000090000000000078f000fcfdf8f800000f03"), arrays)
    coded = b"".join(struct.pack(">I", len(unit)) + unit for kind, unit in zip(kinds, units, strict=True) if kind < 32)
    items = [(1, b"hvc1", coded)] + ([(2, b"Exif", struct.pack(">I", 6) + b"Exif\0\0" + exif)] if exif else [])
    entries = [_full(b"infe", struct.pack(">HH4s", number, 0, kind), b"\0", version=2) for number, kind, _ in items]
    size = _full(b"ispe", struct.pack(">II", image.shape[1], image.shape[0]))
    properties = _box(b"ipco", config, size, _box(b"irot", bytes([quarters])))
    used = _full(b"ipma", struct.pack(">IHB", 1, 1, 3), bytes([0x81, 0x02, 0x83]))
    reference = [_full(b"iref", _box(b"cdsc", struct.pack(">HHH", 2, 1, 1)))] if exif else []

    def meta(begin: int) -> bytes:
        places = b""
        for number, _, content in items:
            places += struct.pack(">HHHII", number, 0, 1, begin, len(content))
            begin += len(content)
        return _full(
            b"meta",
            _full(b"hdlr", struct.pack(">I4s12x", 0, b"pict"), b"\0"),
            _full(b"pitm", struct.pack(">H", 1)),
            _full(b"iloc", struct.pack(">BBH", 0x44, 0, len(items)), places),
            _full(b"iinf", struct.pack(">H", len(items)), *entries),
            *reference,
            _box(b"iprp", properties, used),
        )

    kind = _box(b"ftyp", b"heic", struct.pack(">I", 0), b"mif1heic")
    begin = len(kind) + len(meta(0)) + 8
    path.write_bytes(kind + meta(begin) + _box(b"mdat", *(content for _, _, content in items)))


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[0xA405] = 28
    return exif


PHOTO = astronaut()[:400, :300]


@pytest.mark.parametrize("kind", ["heic", "avif"])
@pytest.mark.parametrize("orientation", [1, 6, 3, 8])
def test_pictures_of_telephones_are_turned_once(tmp_path: Path, kind: str, orientation: int) -> None:
    quarters = {1: 0, 6: 3, 3: 2, 8: 1}[orientation]
    path = tmp_path / f"photo.{kind}"
    if kind == "heic":
        # As telephones do, both the file and its EXIF part say how it is turned.
        make_heic(path, PHOTO, quarters=quarters, exif=_exif(orientation).tobytes().removeprefix(b"Exif\0\0"))
    else:
        Image.fromarray(PHOTO).save(path, exif=_exif(orientation).tobytes(), quality=90)
    source = open_source(path)
    (frame,) = source.frames()
    want = np.rot90(PHOTO, quarters)
    assert frame.image.shape == want.shape
    assert np.abs(frame.image.astype(int) - want).mean() < 6
    assert (source.info.pictures, source.info.frames, source.info.path) == (True, 1, path)
    assert source.info.focal == pytest.approx(28 / 43.27 * 500, rel=1e-3)


def test_the_content_decides_what_a_picture_is(tmp_path: Path) -> None:
    make_heic(tmp_path / "shared.jpg", PHOTO)
    assert np.abs(read_picture(tmp_path / "shared.jpg").astype(int) - PHOTO).mean() < 6


@pytest.mark.parametrize("name", ["photo.heic", "photo.avif", "photo.gif"])
def test_damaged_pictures_are_one_clear_line(tmp_path: Path, name: str) -> None:
    if name.endswith("heic"):
        make_heic(tmp_path / name, PHOTO)
    else:
        Image.fromarray(PHOTO).save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    for kept in (data[: len(data) // 4], data[:10]):
        (tmp_path / name).write_bytes(kept)
        with pytest.raises(InputError, match="not a picture that can be read, or it is damaged"):
            open_source(tmp_path / name)


# --- animated ---

DURATIONS = [100, 40, 40, 200, 300, 30, 50, 120]


def animate(path: Path, **more: Any) -> None:
    first, *others = (Image.fromarray(numbered(i)) for i in range(len(DURATIONS)))
    first.save(path, save_all=True, append_images=others, duration=DURATIONS, **more)


@pytest.mark.parametrize(
    ("name", "more"), [("a.webp", {"quality": 95}), ("a.gif", {}), ("a.png", {}), ("a.apng", {}), ("a.avif", {"quality": 95})]
)
def test_animated_pictures_are_sequences_with_their_own_times(tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    animate(tmp_path / name, **({"format": "PNG"} if name == "a.apng" else more))
    source = open_source(tmp_path / name)
    frames = list(source.frames())
    assert [f.time for f in frames] == pytest.approx([sum(DURATIONS[:i]) / 1e3 for i in range(len(DURATIONS))], abs=1e-3)
    assert [number_of(f.image) for f in frames] == list(range(len(DURATIONS)))
    assert not any(f.independent or f.file for f in frames)
    info = source.info
    assert (info.pictures, info.live, info.path) == (False, False, tmp_path / name)
    if name in ("a.webp", "a.png", "a.avif"):  # FFmpeg reads the others
        assert info.frames == len(DURATIONS)
        assert float(info.rate) == pytest.approx(8 / 0.88, rel=0.01)


def test_a_frame_without_a_duration_lasts_as_long_as_in_browsers(tmp_path: Path) -> None:
    first, second = (Image.fromarray(numbered(i)) for i in range(2))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second], duration=[0, 0])
    assert [f.time for f in open_source(tmp_path / "a.png").frames()] == [0, 0.1]


def test_a_damaged_animation_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    animate(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) * 6 // 10])
    source = open_source(tmp_path / "a.png")
    frames = source.frames()
    assert [next(frames).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(EndedEarly, match="breaks off after"):
        list(frames)


# --- folders ---


def test_a_folder_of_many_kinds_gives_its_pictures_and_names_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "shots.jpg"
    folder.mkdir()
    make_heic(folder / "1.HEIC", numbered(1))
    Image.fromarray(numbered(2)).save(folder / "2.avif", quality=95)
    Image.fromarray(numbered(3)).save(folder / "3.png")
    animate(folder / "4.webp", quality=95)
    make_clip(folder / "clip.mp4", 3)
    (folder / ".hidden").touch()
    for spec in (folder, folder / "*"):
        source = open_source(spec)
        frames = list(source.frames())
        assert [f.file for f in frames] == ["1.HEIC", "2.avif", "3.png", "4.webp"]
        assert [number_of(f.image) for f in frames] == [1, 2, 3, 0]
        assert source.info.frames == 4
        left_out, animated = source.notes
        assert "no pictures: 1 (clip.mp4)" in left_out
        assert "first frame was read: 1 (4.webp)" in animated


def test_a_folder_of_videos_points_at_batch(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 3)
    for spec in (tmp_path, tmp_path / "*.mp4"):
        with pytest.raises(InputError, match=r"no pictures, but clip\.mp4.*rtpose batch"):
            open_source(spec)


def test_a_folder_for_pictures_may_have_a_dot_in_its_name(tmp_path: Path) -> None:
    for i in range(2):
        Image.fromarray(numbered(i)).save(tmp_path / f"{i}.png")
    info = open_source(tmp_path).info
    (tmp_path / "there.mp4").mkdir()
    for name in (f"{tmp_path}/shots.v2", f"{tmp_path}/shots.jpg/", f"{tmp_path}/there.mp4"):
        assert type(open_overlay(name, info, overwrite=False)).__name__ == "PictureSink"
    for name in ("shots.jpg", "shots.heic", "shots.txt"):
        with pytest.raises(InputError, match="for pictures give a folder"):
            open_overlay(tmp_path / name, info, overwrite=False)

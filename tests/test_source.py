"""Sources on real files, pictures and streams; every made frame carries its number."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rtpose import source as module
from rtpose.errors import EndedEarly, InputError
from rtpose.safe_text import mask_credentials
from rtpose.source import InfoSource, SourceInfo, open_source
from rtpose.types import Frame

from .fakes import wait_until
from .media import RtspCamera, astronaut, make_clip, number_of, numbered, times_of


def read(source: InfoSource) -> tuple[list[Frame], EndedEarly | None]:
    """All frames, and how it broke off."""
    frames = []
    try:
        for frame in source.frames():
            frames.append(frame)
    except EndedEarly as early:
        return frames, early
    return frames, None


# --- video files ---


def test_a_clip_gives_every_frame_in_order_with_its_time(tmp_path: Path) -> None:
    times = make_clip(tmp_path / "clip.mp4", 40, b_frames=2, audio="aac")
    source = open_source(tmp_path / "clip.mp4")
    before = time.monotonic_ns()
    frames, early = read(source)
    assert early is None
    assert [f.time for f in frames] == times == times_of(tmp_path / "clip.mp4")[0]
    assert [number_of(f.image) for f in frames] == [f.index for f in frames] == list(range(40))
    assert all(before <= f.arrival <= time.monotonic_ns() for f in frames)
    assert all(f.image.shape == (120, 160, 3) and not f.image.flags.writeable for f in frames)
    assert not any(f.independent or f.file for f in frames)
    info = source.info
    assert (info.name, info.width, info.height, info.rate, info.frames) == (str(tmp_path / "clip.mp4"), 160, 120, 30, 40)
    assert info.has_audio
    assert not info.live
    assert source.notes == []


def test_colours_are_rgb(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 1)
    (frame,), _ = read(open_source(tmp_path / "clip.mp4"))
    assert np.abs(frame.image.astype(int) - numbered(0)).mean() < 5


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_variable_frame_rate_and_a_late_start_are_kept(tmp_path: Path, name: str) -> None:
    ticks = [990, 1023, 1040, 1500, 1501, 2600, 9000, 9033]
    times = make_clip(tmp_path / name, ticks, time_base=Fraction(1, 1000))
    frames, early = read(open_source(tmp_path / name))
    assert [f.time for f in frames] == pytest.approx(times, abs=1e-9)
    assert early is None


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_telephone_clip_is_turned_upright(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    make_clip(tmp_path / "plain.mp4", 3, pixel_aspect=Fraction(4, 3))
    make_clip(tmp_path / "turned.mp4", 3, rotation=rotation, mirrored=mirrored, pixel_aspect=Fraction(4, 3))
    plain, _ = read(open_source(tmp_path / "plain.mp4"))
    source = open_source(tmp_path / "turned.mp4")
    turned, _ = read(source)
    for a, b in zip(plain, turned, strict=True):
        # The matrix turns counter-clockwise, and mirrors after that.
        want = np.rot90(a.image, rotation // 90)
        assert np.array_equal(b.image, want[:, ::-1] if mirrored else want)
    assert (source.info.width, source.info.height) == turned[0].image.shape[1::-1]
    assert source.info.pixel_aspect == (Fraction(3, 4) if rotation % 180 else Fraction(4, 3))


def test_time_stamps_that_step_back_are_mended_and_told_once(tmp_path: Path) -> None:
    # AVI has no place for presentation times, so that coded order shows through wherever there are B-frames.
    make_clip(tmp_path / "clip.avi", 40, b_frames=2)
    raw, _ = times_of(tmp_path / "clip.avi")
    assert any(b <= a for a, b in itertools.pairwise(raw))
    source = open_source(tmp_path / "clip.avi")
    frames, early = read(source)
    assert early is None
    assert [number_of(f.image) for f in frames] == list(range(40))
    assert all(a.time < b.time for a, b in itertools.pairwise(frames))
    assert abs(frames[-1].time - raw[-1]) < 0.2
    assert len([n for n in source.notes if "time stamps" in n]) == 1


def test_missing_time_stamps_are_made(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.h264", 20)
    source = open_source(tmp_path / "clip.h264")
    frames, _ = read(source)
    assert [f.time for f in frames] == pytest.approx([i / float(source.info.rate) for i in range(20)])
    assert "time stamps" in source.notes[0]


def test_the_focal_length_is_read_where_a_telephone_wrote_it(tmp_path: Path) -> None:
    tags = {"com.apple.quicktime.camera.focal_length.35mm_equivalent": "26"}
    make_clip(tmp_path / "clip.mov", 2, tags=tags, options={"movflags": "use_metadata_tags"})
    assert open_source(tmp_path / "clip.mov").info.focal == pytest.approx(26 / 43.27 * 200, rel=1e-3)
    make_clip(tmp_path / "plain.mov", 2)
    assert open_source(tmp_path / "plain.mov").info.focal is None


@pytest.mark.parametrize(
    ("name", "options"), [("clip.mp4", {"movflags": "faststart"}), ("clip.mkv", {}), ("clip.avi", {}), ("clip.flv", {})]
)
def test_a_cut_file_gives_what_it_has_and_says_where_it_broke(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    whole, cut = tmp_path / name, tmp_path / f"cut-{name}"
    make_clip(whole, 60, options=options)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 6 // 10])
    frames, early = read(open_source(cut))
    assert early is not None
    assert 20 < len(frames) < 45
    assert f"after {len(frames)} frames, at {frames[-1].time:.3f} s" in str(early)
    assert early.exit_code == 3
    assert [number_of(f.image) for f in frames[:-1]] == list(range(len(frames) - 1))
    assert read(open_source(whole))[1] is None


def test_a_cut_file_gives_every_whole_frame_that_the_decoder_still_holds(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    make_clip(whole, 60, b_frames=2, options={"movflags": "faststart"})
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    begin = packets[40].pos
    assert begin is not None
    cut.write_bytes(whole.read_bytes()[: begin + packets[40].size // 2])
    frames, early = read(open_source(cut))
    assert early is not None
    assert [number_of(f.image) for f in frames] == list(range(40))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_sound_that_goes_on_after_the_picture_is_no_cut(tmp_path: Path, name: str) -> None:
    make_clip(tmp_path / name, 30, audio="aac", audio_seconds=3.0)
    frames, early = read(open_source(tmp_path / name))
    assert (len(frames), early) == (30, None)


def test_damage_in_the_middle_is_survived_and_told(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 60, gop=10)
    data = bytearray((tmp_path / "clip.mp4").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(i * 37 % 256 for i in range(600))
    (tmp_path / "clip.mp4").write_bytes(data)
    source = open_source(tmp_path / "clip.mp4")
    frames, early = read(source)
    assert early is None
    assert len(frames) > 50
    assert number_of(frames[-1].image) == 59
    assert any("damaged" in n or "could not be decoded" in n for n in source.notes)


def test_closing_ends_the_frames(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 30)
    source = open_source(tmp_path / "clip.mp4")
    frames = source.frames()
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


def test_the_focal_length_of_a_photograph(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif.get_ifd(0x8769)[0xA405] = 28
    _save(tmp_path / "photo.jpg", astronaut()[:400, :300], exif=exif)
    assert open_source(tmp_path / "photo.jpg").info.focal == pytest.approx(28 / 43.27 * 500, rel=1e-3)
    data = (tmp_path / "photo.jpg").read_bytes()
    at = data.index(b"Exif") + 6
    for broken in (data.replace(b"\xa4\x05", b"\xa4\x06"), data[: at + 4] + b"\xff" * 4 + data[at + 8 :]):
        (tmp_path / "photo.jpg").write_bytes(broken)
        assert open_source(tmp_path / "photo.jpg").info.focal is None


# --- bad input ---


def _without_video(path: Path) -> None:
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 48000, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _cut_photograph(path: Path) -> None:
    Image.fromarray(astronaut()).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:30_000])


def _without_frames(path: Path) -> None:
    """An mp4 whose header promises video that is not there."""
    whole = path.with_name("whole.mp4")
    make_clip(whole, 5, options={"movflags": "faststart"})
    data = whole.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("gone.mp4", lambda path: None, "no such file"),
        ("folder", lambda path: path.mkdir(), "no pictures"),
        ("*.png", lambda path: None, "no file matches"),
        ("text.mp4", lambda path: path.write_text("not a video at all\n" * 50), "not a video"),
        ("empty.mp4", lambda path: path.touch(), "not a video"),
        ("sound.mp4", _without_video, "no video stream"),
        ("frames.mp4", _without_frames, "not one frame"),
        ("text.png", lambda path: path.write_text("not a picture"), "not a picture"),
        ("empty.jpg", lambda path: path.touch(), "not a picture"),
        ("cut.jpg", _cut_photograph, "damaged"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path: Path, name: str, make: Any, said: str) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=said) as caught:
        open_source(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("spec", [97, "97", "/dev/video97"])
def test_no_such_camera(spec: int | str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="no camera 97"):
        open_source(spec)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("spec", [-1, "-1"])
def test_cameras_are_counted_from_zero(spec: int | str) -> None:
    with pytest.raises(InputError, match="no camera -1: cameras are counted from 0"):
        open_source(spec)


def test_a_gstreamer_pipeline_needs_an_opencv_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.cv2.videoio_registry, "hasBackend", lambda backend: False)
    with pytest.raises(InputError, match="without GStreamer"):
        open_source("nvarguscamerasrc ! nvvidconv ! appsink")


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("rtsp://me:p@ss/w@cam.local:554/live?token=abc#x", "rtsp://cam.local:554/live"),
        ("http://cam/video.mjpg?user=me&pwd=secret", "http://cam/video.mjpg"),
        ("rtspsrc location=rtsp://me:secret@cam/x?key=1 user-id=me user-pw=secret ! decodebin ! appsink",
         "rtspsrc location=rtsp://cam/x user-id=... user-pw=... ! decodebin ! appsink"),
        ("udp://0.0.0.0:1234", "udp://0.0.0.0:1234"),
    ],
)  # fmt: skip
def test_secrets_are_not_shown(spec: str, shown: str) -> None:
    assert mask_credentials(spec) == shown


# --- pictures ---


def _save(path: Path, image: Any, **more: Any) -> None:
    Image.fromarray(image).save(path, **more)


def test_pictures_come_in_natural_order_and_stand_for_themselves(tmp_path: Path) -> None:
    for i in (10, 9, 1, 2, 100):
        _save(tmp_path / f"p{i}.png", numbered(i))
    (tmp_path / "notes.txt").write_text("no picture")
    for spec in (tmp_path, tmp_path / "*.png", tmp_path / "p*"):
        source = open_source(spec)
        frames, early = read(source)
        assert early is None
        assert [number_of(f.image) for f in frames] == [1, 2, 9, 10, 100]
        assert [f.file for f in frames] == ["p1.png", "p2.png", "p9.png", "p10.png", "p100.png"]
        assert [f.time for f in frames] == [0, 1, 2, 3, 4]
        assert all(f.independent for f in frames)
        assert source.info.pictures
        assert (source.info.frames, source.info.live) == (5, False)
    frames, _ = read(open_source(tmp_path, sequence=True, rate=25))
    assert [f.time for f in frames] == [0, 0.04, 0.08, 0.12, 0.16]
    assert not any(f.independent for f in frames)
    (frame,), _ = read(open_source(tmp_path / "p9.png"))
    assert np.array_equal(frame.image, numbered(9))


def test_every_kind_of_picture_becomes_rgb(tmp_path: Path) -> None:
    photo = astronaut()
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    _save(tmp_path / "grey.png", grey)
    _save(tmp_path / "alpha.png", np.dstack([photo, grey]))
    cv2.imwrite(str(tmp_path / "deep.png"), (photo[..., ::-1].astype(np.uint16) << 8) + 77)
    cv2.imwrite(str(tmp_path / "deepgrey.tif"), grey.astype(np.uint16) * 257)
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    Image.fromarray(photo).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    _save(tmp_path / "photo.webp", photo, quality=90)
    want = {"grey.png": grey[..., None], "deepgrey.tif": grey[..., None]}
    for frame in read(open_source(tmp_path))[0]:
        assert frame.image.shape == (512, 512, 3)
        error = np.abs(frame.image.astype(int) - want.get(frame.file or "", photo)).mean()
        assert error < (8 if frame.file in ("cmyk.jpg", "palette.png", "photo.webp") else 1.01), frame.file


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    photo = astronaut()[:, :300]
    exif = Image.Exif()
    exif[0x0112] = orientation
    _save(tmp_path / "photo.jpg", photo, exif=exif, quality=95)
    (frame,), _ = read(open_source(tmp_path / "photo.jpg"))
    turned = {1: photo, 2: photo[:, ::-1], 3: photo[::-1, ::-1], 4: photo[::-1], 5: photo.transpose(1, 0, 2)}
    turned |= {6: np.rot90(photo, -1), 7: np.rot90(photo, 2).transpose(1, 0, 2), 8: np.rot90(photo, 1)}
    assert frame.image.shape == turned[orientation].shape
    assert np.abs(frame.image.astype(int) - turned[orientation]).mean() < 4


@pytest.mark.parametrize(("width", "height"), [(1, 1), (16384, 3), (3, 16384), (16384, 1)])
def test_extreme_pictures(tmp_path: Path, width: int, height: int) -> None:
    image = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    _save(tmp_path / "p.png", image)
    source = open_source(tmp_path / "p.png")
    (frame,), _ = read(source)
    assert np.array_equal(frame.image, image)
    assert (source.info.width, source.info.height) == (width, height)


def test_unreadable_pictures_among_others_are_told_and_end_the_run_early(tmp_path: Path) -> None:
    for i in range(4):
        _save(tmp_path / f"{i}.png", numbered(i))
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:100])
    (tmp_path / "3.png").write_text("nonsense")
    source = open_source(tmp_path)
    frames, early = read(source)
    assert [f.file for f in frames] == ["0.png", "2.png"]
    assert "2 of 4 pictures could not be read: 1.png, 3.png" in str(early)
    assert len(source.notes) == 2
    for name in ("0.png", "2.png"):
        (tmp_path / name).write_text("nonsense")
    with pytest.raises(InputError, match="not one of its 4 pictures"):
        open_source(tmp_path)


# --- live ---


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine senders and servers dawdle: only where it is the subject does a source lose patience with them."""
    for name in ("OPEN_SECONDS", "READ_SECONDS", "LATE_SECONDS"):
        monkeypatch.setattr(module, name, 300.0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _sender(clip: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("media.py")), str(clip), url])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _take(frames: Iterator[Frame], count: int) -> list[Frame]:
    return list(itertools.islice(frames, count))


@pytest.mark.parametrize("patience", [0.5, 300.0])
def test_a_killed_and_restarted_sender_comes_back_with_increasing_times(
    tmp_path: Path, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """patience: how long the source waits for a packet before it opens the stream anew."""
    silence = 2.0
    monkeypatch.setattr(module, "READ_SECONDS", patience)
    clip = tmp_path / "clip.ts"
    make_clip(clip, 1500, gop=10)
    address = f"udp://127.0.0.1:{_free_port()}"
    with _sender(clip, f"{address}?pkt_size=1316"):
        source = open_source(address)
        frames = source.frames()
        before = _take(frames, 40)
    stopped = time.monotonic()
    time.sleep(silence)
    with _sender(clip, f"{address}?pkt_size=1316"):
        after = _take(frames, 40)
        away = time.monotonic() - stopped
    source.close()
    assert list(frames) == []
    every = before + after
    assert all(a.time < b.time and a.index < b.index for a, b in itertools.pairwise(every))
    # The gap is as long in the frames' times as it really was: nobody seems to have jumped.
    gap = max(b.time - a.time for a, b in itertools.pairwise(every))
    assert silence / 2 < gap < away + silence / 2
    assert source.info.live
    assert any("vanished" in n for n in source.notes) == (patience < silence)


class _OneClient(threading.Thread):
    """A TCP server for one client at a time, which gets the next of `parts`.

    hold: with the second half of it only when `asked` is set, and the line open for ever after.
    """

    def __init__(self, parts: list[bytes], hold: bool) -> None:
        super().__init__(daemon=True)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._parts, self._hold = parts, hold
        self.asked = threading.Event()
        self.start()

    def run(self) -> None:
        for part in self._parts:
            client, _ = self._server.accept()
            with client, contextlib.suppress(ConnectionError):
                client.sendall(part[: len(part) // 2])
                if self._hold:
                    self.asked.wait()
                client.sendall(part[len(part) // 2 :])
                if self._hold:
                    threading.Event().wait()
        self._server.close()


@pytest.mark.parametrize("scheme", ["tcp", "rtsp", "http", "rtmp"])
def test_a_listener_that_sends_nothing_is_unreachable(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_SECONDS", 0.5)
    server = _OneClient([b""], hold=True)
    with pytest.raises(InputError, match="nothing arrived") as caught:
        open_source(f"{scheme}://me:secret@127.0.0.1:{server.port}/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["tcp", "rtsp", "rtmp", "http"])
def test_nobody_listens(scheme: str) -> None:
    with pytest.raises(InputError, match="Connection refused") as caught:
        open_source(f"{scheme}://me:secret@127.0.0.1:{_free_port()}/x/y")
    assert "secret" not in str(caught.value)


def test_close_ends_a_read_that_waits(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.ts", 300, gop=10)
    server = _OneClient([(tmp_path / "clip.ts").read_bytes()], hold=True)
    source: Any = open_source(f"tcp://127.0.0.1:{server.port}")
    got: list[int] = []
    reader = threading.Thread(target=lambda: got.extend(f.index for f in source.frames()), daemon=True)
    reader.start()
    # What came before somebody wanted frames is gone.
    wait_until(lambda: source._wanted)
    server.asked.set()
    wait_until(lambda: len(got) > 100)
    source.close()
    reader.join(60)  # far less than the read would wait
    assert not reader.is_alive()


def test_a_connection_that_breaks_is_opened_again(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.ts", 30, gop=10)
    data = (tmp_path / "clip.ts").read_bytes()
    server = _OneClient([data] * 20, hold=False)
    source = open_source(f"tcp://127.0.0.1:{server.port}")
    frames = _take(source.frames(), 70)
    source.close()
    assert all(a.time < b.time for a, b in itertools.pairwise(frames))
    assert [number_of(f.image) for f in frames].count(5) >= 2


def test_an_rtsp_camera_that_hangs_up_is_called_again(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.ts", 200, gop=10)
    camera = RtspCamera(tmp_path / "clip.ts")
    with pytest.raises(InputError, match="401 Unauthorized") as caught:
        open_source(f"rtsp://me:wrong@127.0.0.1:{camera.port}/x")
    assert "wrong" not in str(caught.value)
    source = open_source(f"rtsp://me:secret@127.0.0.1:{camera.port}/x")
    frames = source.frames()
    before = _take(frames, 30)
    camera.hang_up()
    # What the first call has sent may still come; then the second begins anew.
    after = list(itertools.takewhile(lambda f: not 10 <= number_of(f.image) < 20, frames))
    source.close()
    assert list(frames) == []
    assert all(a.time < b.time for a, b in itertools.pairwise(before + after))
    assert number_of(before[-1].image) >= 29  # as sent: numbers and times belong together
    assert 0 in [number_of(f.image) for f in after]
    assert source.notes == [f"rtsp://127.0.0.1:{camera.port}/x vanished and was reopened, times: 1"]


def test_a_stream_that_is_too_much_for_the_machine_does_not_fall_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert = module._Video.convert

    def slow(self: Any, frame: Any) -> Any:
        time.sleep(0.15)  # 7 pictures a second of a stream that has 30
        return convert(self, frame)

    monkeypatch.setattr(module, "LATE_SECONDS", 1.0)
    monkeypatch.setattr(module._Video, "convert", slow)
    make_clip(tmp_path / "clip.ts", 400, gop=10)
    camera = RtspCamera(tmp_path / "clip.ts")
    source = open_source(f"rtsp://me:secret@127.0.0.1:{camera.port}/x")
    frames = source.frames()
    frame = next(f for f in frames if camera.sent >= 300)
    behind = camera.sent - number_of(frame.image)
    source.close()
    assert list(frames) == []
    assert behind < 120  # else it would be at 70 of 300
    assert "too much for this machine" in source.notes[0]


def test_a_slow_clock_on_the_other_side_is_no_lateness() -> None:
    clock = module._LiveClock()
    for i in range(200_000):  # eight hours of 7 frames a second, 200 ppm slow
        clock(i / 7, int(i / 7 * 1.0002 * 1e9), 1 / 7)
    assert clock.late < 0.1


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves `data`, with its length if the path says file, else in chunks, so that only the last one tells the end.

    The second chunk is sent when `asked` is set.
    """

    protocol_version = "HTTP/1.1"
    data = b""
    asked: threading.Event

    def do_GET(self) -> None:
        whole = "file" in self.path
        self.send_response(200)
        self.send_header(*(("Content-Length", str(len(self.data))) if whole else ("Transfer-Encoding", "chunked")))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            if whole:
                self.wfile.write(self.data)
                return
            half = len(self.data) // 2
            self.wfile.write(b"%x\r\n%b\r\n" % (half, self.data[:half]))
            self.asked.wait()
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(self.data) - half, self.data[half:]))

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.mark.parametrize("kind", ["file", "live"])
def test_http_files_are_read_in_full_and_streams_end_where_the_server_ends(tmp_path: Path, kind: str) -> None:
    name = "clip.mp4" if kind == "file" else "clip.ts"
    times = make_clip(tmp_path / name, 200, options={"movflags": "faststart"} if kind == "file" else None)
    asked = threading.Event()
    handler = type("Handler", (_Handler,), {"data": (tmp_path / name).read_bytes(), "asked": asked})

    def ask() -> None:
        # What came before somebody wanted frames is gone.
        wait_until(lambda: source._wanted)
        asked.set()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source: Any = open_source(f"http://me:secret@127.0.0.1:{server.server_address[1]}/{kind}?token=1")
        if kind == "live":
            threading.Thread(target=ask, daemon=True).start()
        frames, early = read(source)
        server.shutdown()
    assert early is None
    assert source.info.live == (kind == "live")
    assert source.info.name.endswith(f"/{kind}")
    assert number_of(frames[-1].image) == 199
    if kind == "file":
        assert [f.time for f in frames] == times


class _Device:
    """Stands in for a camera, of which the machines that run the tests have none: gives pictures while it is plugged in."""

    def __init__(self, plugged: bool, size: tuple[int, int] = (160, 120)) -> None:
        self.plugged, self.size, self.released = plugged, size, False

    def isOpened(self) -> bool:
        return self.plugged

    def get(self, what: int) -> float:
        return 30.0

    def grab(self) -> bool:
        return self.plugged

    def retrieve(self) -> tuple[bool, Any]:
        time.sleep(0.005)
        return True, np.ascontiguousarray(numbered(7, *self.size)[..., ::-1])

    def read(self) -> tuple[bool, Any]:
        return (True, self.retrieve()[1]) if self.grab() else (False, None)

    def release(self) -> None:
        self.released = True


def test_a_camera_that_vanishes_is_opened_again() -> None:
    devices = [_Device(True), _Device(False), _Device(True, (320, 240))]
    used = iter(devices)
    source = module._capture("camera 0", lambda: next(used), "no camera 0")
    frames = source.frames()
    taken = _take(frames, 20)
    devices[0].plugged = False
    taken += _take(frames, 20)
    source.close()
    assert list(frames) == []
    assert all(a.time < b.time for a, b in itertools.pairwise(taken))
    assert {f.image.shape for f in taken} == {(120, 160, 3)}
    assert np.abs(taken[0].image.astype(int) - numbered(7)).max() == 0
    assert devices[0].released
    assert source.notes == ["camera 0 vanished and was reopened, times: 1"]


def _ended(source: Any) -> list[Frame]:
    """The frames of a live source that is closed when it waits for a sender that is gone."""
    got: list[Frame] = []
    reader = threading.Thread(target=lambda: got.extend(source.frames()), daemon=True)
    reader.start()
    wait_until(lambda: "trying again" in source.status)
    source.close()
    reader.join()
    return got


def test_a_sender_that_ended_for_good_was_not_reopened() -> None:
    devices = iter([_Device(True), _Device(False), *(_Device(False) for _ in range(1000))])
    first = next(devices)
    used = itertools.chain([first], devices)
    source = module._capture("camera 0", lambda: next(used), "no camera 0")
    threading.Timer(0.3, lambda: setattr(first, "plugged", False)).start()
    frames = _ended(source)
    assert source.notes == [f"camera 0 ended and did not come back (it gives no more pictures); frames that came: {len(frames)}"]


def test_a_last_frame_after_a_silence_is_not_too_much_for_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg holds the last picture of a stream until it gives up waiting for more."""
    monkeypatch.setattr(module, "LATE_SECONDS", 1.0)

    class Connection:
        info = SourceInfo("udp://x", 160, 120, Fraction(25), Fraction(1, 1000), live=True)
        hurried = 0

        def pictures(self) -> Iterator[tuple[float, Any, int]]:
            wait_until(lambda: bool(sources) and sources[0]._wanted)
            begin = 10**12
            for i in range(30):
                yield i / 25, numbered(i), begin + i * 40_000_000
            yield 30 / 25, numbered(30), begin + 30 * 40_000_000 + 5 * 10**9

        def hurry(self, yes: bool) -> None:
            self.hurried += 1

        def changes(self) -> list[str]:
            return ["interlaced"]

        def close(self) -> None:
            """Nothing is open."""

    sources: list[Any] = []
    connection = Connection()
    source = module.LiveSource("udp://x", lambda: connection)
    sources.append(source)
    assert len(list(source.frames())) == 31
    assert connection.hurried == 0
    assert source.notes == ["interlaced"]


def test_an_interlaced_hdr_stream_goes_the_way_of_files(tmp_path: Path) -> None:
    """With its last frame, which the filter holds until the end."""
    with av.open(str(tmp_path / "clip.ts"), "w") as out:
        video: Any = out.add_stream("libx264", rate=25, options={"x264-params": "tff=1:transfer=smpte2084:colorprim=bt2020"})
        video.width, video.height, video.pix_fmt = 160, 128, "yuv420p"
        for i in range(50):
            frame = av.VideoFrame.from_ndarray(numbered(i, 160, 128), "rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    whole = list(open_source(tmp_path / "clip.ts").frames())
    server = _OneClient([(tmp_path / "clip.ts").read_bytes()], hold=False)
    source: Any = open_source(f"tcp://127.0.0.1:{server.port}")
    frames = _ended(source)
    assert any("deinterlaced" in note for note in source.notes)
    assert any("HDR (PQ)" in note for note in source.notes)
    assert any(
        f"did not come back (the sender closed the connection); frames that came: {len(frames)}" in n for n in source.notes
    )
    assert np.array_equal(frames[-1].image, whole[-1].image)


@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.floats(-1e6, 1e6)), st.floats(0, 100), st.booleans()),
        min_size=1,
        max_size=50,
    )
)
def test_a_live_clock_always_goes_forward_and_never_runs_away(steps: list[tuple[float | None, float, bool]]) -> None:
    clock = module._LiveClock()
    real, last, first = 0.0, None, 0.0
    for n, (seconds, passed, restarted) in enumerate(steps):
        real += passed
        clock.restarted = restarted
        now = clock(seconds, int(real * 1e9), 0.04)
        if last is None:
            first = now - real
        else:
            assert now > last
            assert now - first <= real + clock.SLACK * (n + 1) + 0.04 * n + 1e-6
        last = now


# --- the clips of the development data ---


@pytest.mark.shared
def test_the_clips_of_the_development_data(shared: Path) -> None:
    clips = sorted((shared / "data" / "videos").glob("*.*"))
    assert len(clips) == 13
    for clip in clips:
        source = open_source(clip)
        assert [f.time for f in source.frames()] == times_of(clip)[0]
        assert source.notes == []
        assert source.info.frames == len(times_of(clip)[0])

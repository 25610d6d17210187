"""A local file opens nothing but itself, and only as a video."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from rtpose.containers import FORMATS, PLAYLISTS, PROTOCOLS
from rtpose.errors import InputError
from rtpose.source import open_source

PLAYLIST_TEXTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\nclip.ts\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile clip.ts\n",
    "camera.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a video, clip.ts."""
    with av.open(str(tmp_path / "clip.ts"), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    return tmp_path


@pytest.mark.parametrize("name", ["list.m3u8", "list.ffconcat", "camera.sdp", "match.mp4"])
def test_a_playlist_is_refused_whatever_its_name(name: str, folder: Path) -> None:
    (folder / name).write_text(PLAYLIST_TEXTS.get(name, PLAYLIST_TEXTS["list.m3u8"]))
    with pytest.raises(InputError, match=r"is a playlist, which makes rtpose open other files.*--allow-playlists"):
        open_source(folder / name)


@pytest.mark.parametrize("name", ["list.m3u8", "list.ffconcat"])
def test_a_playlist_that_is_trusted_is_read(name: str, folder: Path) -> None:
    (folder / name).write_text(PLAYLIST_TEXTS[name])
    source = open_source(folder / name, playlists=True)
    assert len(list(source.frames())) == 10


@pytest.mark.parametrize(
    "text", ["Dear diary\n" * 500, "1\n00:00:01,000 --> 00:00:02,000\nhello\n", "\x1b[31mred\x1b[0m\n" * 100]
)
@pytest.mark.parametrize("ending", [".txt", ".mp4", ".srt"])
def test_text_is_no_video(text: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"file{ending}"
    path.write_text(text)
    with pytest.raises(InputError, match="is not a video"):
        open_source(path)


def test_the_formats_exist_and_none_opens_others() -> None:
    known = {name for form in av.formats_available for name in (form, av.ContainerFormat(form).name)}
    assert {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "avi", "flv"} <= set(FORMATS) & known
    assert not set(FORMATS) & set(PLAYLISTS)
    assert "file" not in PROTOCOLS


@pytest.mark.parametrize("address", ["concat://a", "subfile://a", "pipe://0", "foo://bar"])
def test_an_address_of_another_kind(address: str) -> None:
    with pytest.raises(InputError, match=r"an address begins with one of .*rtsp"):
        open_source(address)


def test_a_file_by_its_address(folder: Path) -> None:
    assert len(list(open_source((folder / "clip.ts").as_uri()).frames())) == 10

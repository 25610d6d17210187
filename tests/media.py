"""Makes small pictures, clips and streams for tests, from scikit-image's public-domain photograph of an astronaut.

Every frame of a clip carries its number as a row of black and white blocks, which survive coding: `number_of` reads it again.
Run as a program it sends a clip in real time: `python tests/media.py CLIP URL [FORMAT]`.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

BITS = 12
U8 = NDArray[np.uint8]


@functools.cache
def astronaut() -> U8:
    """A woman in an orange suit, (512, 512, 3) RGB."""
    from skimage.data import astronaut as photograph

    picture: U8 = photograph()
    return picture


def numbered(index: int, width: int = 160, height: int = 120) -> U8:
    """Frame `index` of every clip made here, (height, width, 3): a view that moves over the photograph, and the number on top."""
    photo = astronaut()
    side = 300
    x, y = 100 + int(60 * np.sin(index / 9)), 10 + int(40 * np.cos(index / 13) + 40)
    view = photo[y : y + side * height // max(width, height), x : x + side * width // max(width, height)]
    image: U8 = cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA)
    block = width // BITS
    for bit in range(BITS):
        image[:block, bit * block : (bit + 1) * block] = 255 if index >> bit & 1 else 0
    return image


def number_of(image: U8) -> int:
    """The number that `numbered` wrote."""
    block = image.shape[1] // BITS
    middle = image[block // 2, block // 2 : BITS * block : block].mean(-1)
    return sum(int(value > 127) << bit for bit, value in enumerate(middle))


def make_clip(
    path: Path,
    times: int | Sequence[int] = 30,
    *,
    rate: int = 30,
    time_base: Fraction | None = None,
    size: tuple[int, int] = (160, 120),
    codec: str = "libx264",
    gop: int = 10,
    b_frames: int = 0,
    rotation: int = 0,
    mirrored: bool = False,
    audio: str | None = None,
    audio_seconds: float | None = None,
    pixel_aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
) -> list[float]:
    """Write a clip; return the frames' times in seconds.

    times: how many frames `rate` times a second, or each frame's ticks of `time_base`. rotation, mirrored: stored as a display
    matrix. audio: a codec's name.
    """
    base = time_base or Fraction(1, rate)
    ticks = list(range(times)) if isinstance(times, int) else list(times)
    with av.open(str(path), "w", options=options or {}) as out:
        video: Any = out.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        if codec in ("libx264", "mpeg4"):
            video.codec_context.gop_size = gop
            video.codec_context.max_b_frames = b_frames
        if codec == "libx264":
            video.options = {"preset": "ultrafast", "sc_threshold": "0", "crf": "18"}
        video.time_base = video.codec_context.time_base = base
        if pixel_aspect:
            video.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation or mirrored:
            video.set_display_rotation(rotation, hflip=mirrored)
        out.metadata.update(tags or {})
        sound: Any = out.add_stream(audio, rate=48000, layout="mono") if audio else None
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(numbered(number, *size), "rgb24")
            frame.pts, frame.time_base = tick, base
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if sound is not None:
            seconds = audio_seconds or float((ticks[-1] + 1) * base)
            for packet in _tone(sound, seconds):
                out.mux(packet)
    return [float(tick * base) for tick in ticks]


def _tone(stream: Any, seconds: float) -> list[Any]:
    """A rising tone, coded."""
    rate = 48000
    samples = np.arange(int(seconds * rate))
    wave = (np.sin(samples * 0.03 * (1 + samples / rate / 10)) * 8000).astype(np.int16)
    packets = []
    resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
    for begin in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, begin : begin + 1024], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        for ready in resampler.resample(frame):
            packets += stream.encode(ready)
    return packets + stream.encode(None)


def times_of(path: Path) -> tuple[list[float], list[float]]:
    """What PyAV says: times of the video's frames, and of the sound's packets; seconds."""
    with av.open(str(path)) as container:
        video = [frame.time for frame in container.decode(container.streams.video[0])]
    with av.open(str(path)) as container:
        streams = container.streams.audio
        sound = [float(p.pts * p.time_base) for p in container.demux(streams[0]) if p.size] if streams else []
    return video, sound


def playable(path: Path) -> int:
    """How many frames of a video play before the place where a program was killed in the middle of a write."""
    count = 0
    with contextlib.suppress(av.error.InvalidDataError), av.open(str(path)) as container:
        for _ in container.decode(video=0):
            count += 1
    return count


def send(clip: Path, url: Any, form: str, options: dict[str, str]) -> None:
    """Send the coded packets of a clip to `url` (or a file object), each at its time."""
    with av.open(str(clip)) as source, av.open(url, "w", format=form, options=options) as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        begin = time.monotonic()
        for packet in source.demux(stream):
            if packet.dts is None:
                continue
            due = begin + float(packet.dts * packet.time_base)
            time.sleep(max(0.0, due - time.monotonic()))
            packet.stream = copy
            out.mux(packet)


class RtspCamera(threading.Thread):
    """A camera that serves RTSP over TCP to one client after another, each from the beginning of the clip, at the clip's pace.

    The client must give the user "me" and the password "secret".
    """

    def __init__(self, clip: Path) -> None:
        super().__init__(daemon=True)
        self._clip = clip
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._client: socket.socket | None = None
        self.sent = 0
        """Pictures, to the client of the moment."""
        self.start()

    def hang_up(self) -> None:
        """Break the connection to the client of the moment."""
        if self._client is not None:
            self._client.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        while True:
            client, _ = self._server.accept()
            with client, contextlib.suppress(OSError, av.FFmpegError):
                self._client = client
                if self._agree(client):
                    self._play(client)

    def _agree(self, client: socket.socket) -> bool:
        """Answer until the client wants to see something; False if it leaves."""
        requests = client.makefile("rb")
        while line := requests.readline():
            method = line.split()[0].decode()
            fields = dict(f.decode().strip().split(": ", 1) for f in iter(requests.readline, b"\r\n") if b": " in f)
            more, body, status = "", "", "200 OK"
            if method == "DESCRIBE":
                body = (
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\n"
                    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track\r\n"
                )
                more = "Content-Type: application/sdp\r\n"
                if fields.get("Authorization") != "Basic " + base64.b64encode(b"me:secret").decode():
                    status, more, body = "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"\r\n', ""
            elif method == "SETUP":
                more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
            answer = f"RTSP/1.0 {status}\r\nCSeq: {fields['CSeq']}\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}"
            client.sendall(answer.encode())
            if method == "PLAY":
                return True
        return False

    def _play(self, client: socket.socket) -> None:
        self.sent = 0
        send(self._clip, _Interleaved(self, client), "rtp", {"packetsize": "1400"})


class _Interleaved:
    """A file to which FFmpeg writes one RTP packet at a time."""

    def __init__(self, camera: RtspCamera, client: socket.socket) -> None:
        self._camera, self._client = camera, client

    def write(self, packet: bytes) -> int:
        rtcp = 192 <= packet[1] <= 223
        self._client.sendall(struct.pack(">cBH", b"$", int(rtcp), len(packet)) + bytes(packet))
        last_of_picture = not rtcp and packet[1] >= 128
        self._camera.sent += last_of_picture
        return len(packet)


if __name__ == "__main__":
    send(Path(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "mpegts", dict(a.split("=") for a in sys.argv[4:]))

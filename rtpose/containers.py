"""What FFmpeg may open on our behalf: container formats that hold a video by themselves, and the protocols of networks.

FFmpeg recognises a file by what is in it, not by its name. Without limits a text file is drawn as video, and a playlist with a video's name
opens whatever files and addresses it lists.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

FORMATS = (
    # From cameras, phones, browsers, broadcast.
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpegtsraw", "mpeg", "mpegvideo", "flv", "kux", "ogg", "asf", "asf_o",
    "dv", "mxf", "gxf", "lxf", "wtv", "rm", "nut", "nsv", "nuv", "ivf", "vob", "ty", "pva", "dhav", "swf", "smjpeg", "mlv", "cine", "r3d",
    # A stream without a container.
    "h261", "h263", "h264", "hevc", "vvc", "evc", "av1", "obu", "m4v", "vc1", "vc1test", "mjpeg", "mpjpeg", "mjpeg_2000", "dirac",
    "cavsvideo", "avs2", "avs3", "dnxhd", "apv", "ipu", "yuv4mpegpipe",
    # Pictures that move.
    "gif", "apng", "jpegxl_anim",
)  # fmt: skip
"""Names of FFmpeg's demuxers that a file may need. Neither playlists (hls, concat, sdp, ...) nor devices, subtitles, text or raw data."""

PLAYLISTS = ("hls", "concat", "sdp", "rtsp", "webm_dash_manifest", "dash", "imf")
"""Demuxers of files that name other files or addresses."""

PROTOCOLS = (
    "http", "https", "httpproxy", "crypto", "data", "tcp", "tls", "udp", "udplite", "rtp", "srtp", "rtsp", "rtsps", "srt", "sctp", "ftp",
    "sftp", "mmsh", "mmst", "rtmp", "rtmpe", "rtmps", "rtmpt", "rtmpte", "rtmpts", "rist",
)  # fmt: skip
"""What an address may lead to, also by way of a playlist: networks, never this machine's files."""

SCHEMES = frozenset(PROTOCOLS) - {"httpproxy", "crypto", "data", "tls"}
"""What an address may begin with."""


def file_options(*, playlists: bool = False) -> dict[str, str]:
    """FFmpeg's options for opening a local file. playlists: also one that names other files and addresses."""
    if playlists:
        return {"format_whitelist": ",".join(FORMATS + PLAYLISTS), "protocol_whitelist": ",".join(("file", *PROTOCOLS))}
    return {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}


def stream_options() -> dict[str, str]:
    """FFmpeg's options for opening an address."""
    return {"protocol_whitelist": ",".join(PROTOCOLS)}


def open_input(name: str, **options: Any) -> InputContainer:
    """`av.open` for reading. Titles and other tags are often not in UTF-8: what is no text of it becomes U+FFFD, and is no error."""
    container: InputContainer = av.open(name, metadata_errors="replace", **options)
    return container


def is_playlist(path: Path) -> bool:
    """Whether the file begins as one that names other files and addresses: HLS, FFmpeg's concat, SDP, DASH."""
    with open(path, "rb") as file:
        head = file.read(1 << 10).removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith((b"#EXTM3U", b"ffconcat", b"v=0")) or (head.startswith(b"<?xml") and b"<MPD" in head)

"""Interlaced video: each frame holds two moments in alternate lines, and becomes one picture of the first of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import av
from av.codec.context import CodecContext
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from .settings import check_deinterlace

_MARKS_FRAMES = frozenset({"dvvideo", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "prores", "vc1", "wmv3"})
"""Decoders that tell of each frame whether it is interlaced: what they do not mark is not, whatever the stream says (films on DVD).
For others only the container can tell, of all frames at once."""

_PARITY = {2: "tff", 3: "bff", 4: "bff", 5: "tff"}
"""FFmpeg's AVFieldOrder of a stream -> the field that is shown first. 0 is unknown, 1 progressive."""

_SMALLEST = (3, 4)
"""Width and height below which the filter takes no frames."""


class Deinterlacer:
    """Frames of one stream in order, one out for one in, with the times, flags and colour tags that it had.

    mode: "auto" (what is marked as interlaced), "on" (every frame) or "off". As long as nothing is to be done, frames pass as they are;
    from then on each waits for the next one, in which the filter (FFmpeg's bwdif) looks for motion.
    """

    def __init__(self, mode: str, context: VideoCodecContext) -> None:
        check_deinterlace(mode)
        order = _PARITY.get(_field_order(context))
        stream_says = order is not None and context.name not in _MARKS_FRAMES
        self._mode = mode
        self._every = mode == "on" or (mode == "auto" and stream_says)
        self._order = order or "auto"
        self._graph: Graph | None = None
        self._layout: tuple[int, int, str] | None = None
        self._waiting: deque[tuple[VideoFrame, object]] = deque()
        self._used = False

    def __call__(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """Frames that are ready after this one has come."""
        wanted = self._mode != "off" and (self._every or frame.interlaced_frame)
        layout = (frame.width, frame.height, frame.format.name)
        if self._graph is not None and layout != self._layout:
            yield from self.flush()
        if self._graph is None:
            if not wanted or frame.width < _SMALLEST[0] or frame.height < _SMALLEST[1]:
                yield frame
                return
            self._open(frame)
            self._used = True
        assert self._graph is not None
        # PyAV forgets the object when any frame that has this very one is freed, and the filter keeps some: a new one is equal.
        opaque = frame.opaque
        self._waiting.append((frame, int(str(opaque)) if isinstance(opaque, int) else opaque))
        self._graph.push(frame)
        yield from self._ready()

    def flush(self) -> Iterator[VideoFrame]:
        """The frames that still wait; the next ones begin anew."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready()
        self._graph = None
        self._waiting.clear()

    def notes(self) -> list[str]:
        return ["interlaced frames were deinterlaced (--deinterlace off leaves them as they are)"] if self._used else []

    def _open(self, frame: VideoFrame) -> None:
        # A decoder that marks frames marks the order of their fields, too.
        parity = "auto" if frame.interlaced_frame else self._order
        graph = Graph()
        graph.link_nodes(
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base),
            graph.add("bwdif", f"mode=send_frame:parity={parity}:deint={'all' if self._every else 'interlaced'}"),
            graph.add("format", frame.format.name),
            graph.add("buffersink"),
        )
        graph.configure()
        self._graph, self._layout = graph, (frame.width, frame.height, frame.format.name)

    def _ready(self) -> Iterator[VideoFrame]:
        assert self._graph is not None
        while True:
            try:
                made = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            before, opaque = self._waiting.popleft()
            # The filter counts in ticks of its own.
            made.pts, made.dts, made.time_base = before.pts, before.dts, before.time_base
            made.duration, made.opaque = before.duration, opaque
            made.colorspace, made.color_range = before.colorspace, before.color_range
            made.color_primaries, made.color_trc = before.color_primaries, before.color_trc
            yield made


def _field_order(context: CodecContext) -> int:
    return int(getattr(context, "field_order", 0))

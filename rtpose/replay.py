"""`rtpose replay FILE`: results that were saved, shown in the viewer or drawn into their video again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np

from .body.model import Lifted
from .errors import EndedEarly, InputError
from .frame_rate import nominal_rate
from .pipeline import Control, Report, Sink, run
from .runs import cameras, fitted_body, open_pictures
from .settings import PARTS, Outputs
from .sinks.data import Header, Record, Records, read_results
from .sinks.video import open_overlay
from .sinks.viewer import ViewerSink
from .sinks.window import WindowSink, check_display, display
from .source import InfoSource, SourceInfo
from .types import Frame, Result

_BLANK = 70
"""Grey level of the pictures where there is no video."""


def replay(
    file: Path,
    *,
    video: Path | None = None,
    out: Path | None = None,
    view: bool | None = None,
    body_model: Path | None = None,
    screenshot: Path | None = None,
    overwrite: bool = False,
    loop: bool = False,
    parts: frozenset[str] = frozenset(PARTS),
    mirror: bool = False,
    control: Control | None = None,
) -> Report:
    """Play a .jsonl or .npz results file in the viewer, or draw it into a video.

    video: the pictures they were made from; by default the file's `source` if it is there, else grey ones. out: a video to
    write. view: None shows a window unless there is `out`, or a `screenshot` and no display. body_model: the body the results were
    fitted with, where it was not the bundled one. screenshot: where the viewer's last picture is written. loop: begin again at
    the end, until the window is closed. parts, mirror: as for `draw`; only what is shown is mirrored. Raises InputError for a
    file that does not fit.
    """
    header, records = read_results(file)
    lifted = None if header.joints3d_names is None else Lifted(fitted_body(file, header, body_model), cameras(header))
    if view is None:
        view = out is None and (screenshot is None or display())
    if not view and out is None and screenshot is None:
        raise InputError("--no-view leaves nothing to do: give --out VIDEO or --screenshot PICTURE")
    if loop and (not view or out is not None):
        raise InputError("--loop is for a window alone: leave out --out and --no-view, or --loop")
    Outputs(out=None if out is None else str(out), screenshot=screenshot, draw=parts, mirror=mirror).check_drawn(view=view)
    if view:
        check_display("say --out VIDEO to draw into a video, or --screenshot PICTURE for the last view")
    for _ in records if out is not None else ():  # what is wrong in one of them is said before an old video is replaced
        pass
    pictures = open_pictures(file, header, video)
    again = partial(open_pictures, file, header, video) if loop else None
    player = Player(file, header, records, pictures, paced=view, again=again)
    sinks: list[Sink] = []
    try:
        if out is not None:
            sinks.append(open_overlay(out, player.info, overwrite=overwrite, lifted=lifted, parts=parts))
        if screenshot is not None or (view and lifted is not None and find_spec("open3d") is not None):
            viewer = ViewerSink(
                lifted,
                window=view,
                screenshot=screenshot,
                overwrite=overwrite,
                pixel_aspect=player.info.pixel_aspect,
                parts=parts,
                mirror=mirror,
            )
            player.held = lambda: viewer.paused
            sinks.append(viewer)
        elif view:
            sinks.append(WindowSink(player.info, lifted, parts=parts, mirror=mirror))
        return run(player, [player.attach], sinks, control=control)
    finally:
        player.close()


class Player:
    """A source of the frames that results are about, and the stage `attach` that puts the results to them.

    paced: at the pace of their times, held while `held` says so, and lasting until it is closed, so that the last picture stays. again:
    opens the pictures once more, and all begins anew at the end.
    """

    name = "source"
    status = ""

    def __init__(
        self,
        file: Path,
        header: Header,
        records: Records,
        pictures: InfoSource | None,
        *,
        paced: bool,
        again: Callable[[], InfoSource | None] | None = None,
    ) -> None:
        self._file, self._header, self._records, self._pictures, self._paced = file, header, records, pictures, paced
        self._again = again
        self._waiting: dict[int, Record] = {}
        self._closed = threading.Event()
        self.held: Callable[[], bool] = lambda: False
        self.notes: list[str] = []
        self.info: SourceInfo = _info(header, records) if pictures is None else pictures.info

    def frames(self) -> Iterator[Frame]:
        yield from self._once()
        while self._again is not None and not self._closed.is_set():
            if self._pictures is not None:
                self._pictures.close()
            self._pictures = self._again()
            yield from self._once()
        if self._paced:
            self._closed.wait()

    def _once(self) -> Iterator[Frame]:
        begin: float | None = None
        for frame in self._pair():
            if self._paced:
                while self.held() and not self._closed.wait(0.02):
                    begin = None
                if begin is None:
                    begin = time.monotonic() - frame.time
                if self._closed.wait(max(0.0, begin + frame.time - time.monotonic())):
                    return
            yield replace(frame, arrival=time.monotonic_ns())

    def attach(self, result: Result) -> Result:
        """The stage: the saved results of this frame."""
        record = self._waiting.pop(result.frame.index)
        return replace(result, people=record.people, bodies=record.bodies)

    def close(self) -> None:
        self._closed.set()
        if self._pictures is not None:
            self._pictures.close()

    def _pair(self) -> Iterator[Frame]:
        blank = np.full((self._header.height, self._header.width, 3), _BLANK, np.uint8)
        pictures = None if self._pictures is None else self._pictures.frames()
        for record in self._records:
            image = blank
            if pictures is not None:
                frame = next((f for f in pictures if f.index >= record.frame), None)
                if frame is None or frame.index != record.frame:
                    raise EndedEarly(f"the video ends before the results in {self._file} do, at frame {record.frame}")
                image = frame.image
            self._waiting[record.frame] = record
            yield Frame(record.frame, record.time, image, 0, record.file)
        if self._records.partial:
            raise EndedEarly(f"the last line of {self._file} is cut off; everything before it was played")


def _info(header: Header, records: Records) -> SourceInfo:
    """What is known of results without their pictures: where no rate is in the header it is that of the first of them."""
    if header.rate is not None:
        rate = Fraction(header.rate).limit_denominator(1001)
    else:
        rate = nominal_rate([record.time for record in islice(records, 100)]) or Fraction(30)
    aspect = Fraction(header.pixel_aspect).limit_denominator(1000)
    return SourceInfo(header.source, header.width, header.height, rate, Fraction(1, 90_000), pixel_aspect=aspect)

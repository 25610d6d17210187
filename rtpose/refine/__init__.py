"""The refined mode: what the causal pass spooled, gone through again with the future known.

The spool is read twice. The first time everybody's pieces are gathered and put together into people (`identities`), each with one
shape for the whole file. The second time it goes through windows of frames that overlap, so that the memory needed does not
grow with the file (`tracks`): keypoints smoothed without lag, gaps bridged, bodies fitted anew (`bodies`).
"""

from __future__ import annotations

import json
import math
import os
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..body.model import Lifted
from ..errors import InputError, RtposeError
from ..frame_rate import nominal_rate
from ..integrity import RESULTS, check_own, open_own
from ..pixels import PixelScale
from ..scope import people_of
from ..sinks import UNFINISHED
from ..sinks.data import Record, Records, frame_record, json_line, read_results
from ..stages.follow import main_people
from ..stages.lift import Network
from ..types import F64, Status
from .bodies import BodyRefiner
from .identities import LOST, Piece, stitch
from .tracks import WindowRefiner

WINDOW = 1000
"""Frames that are refined at a time, ..."""
MARGIN = 2.0
"""... with so many seconds more on either side, whose results are left to their own windows; ..."""
MARGIN_FRAMES = 8
"""... and at least so many frames."""


@dataclass
class Summary:
    """What refining did. people: who are in the results; everybody: who would be if all were followed. joined: pieces that were found to be
    of somebody known; bridged: people and frames that were predicted; missing: people who were to be followed and are not there."""

    frames: int = 0
    people: int = 0
    everybody: int = 0
    shots: int = 1
    joined: int = 0
    bridged: int = 0
    missing: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        where = f" in {self.shots} shots" if self.shots > 1 else ""
        said = [f"refined: {_count(self.people, 'person', 'people') if self.people else 'nobody'}{where}"]
        if self.joined:
            said.append(f"somebody who had been out of sight was recognised {_count(self.joined, 'time')}")
        if self.bridged:
            said.append(f"{_count(self.bridged, 'missing pose')} filled in")
        if self.missing:
            said.append(f"nobody has the number {' or '.join(map(str, self.missing))}")
        return "; ".join(said)


def _count(n: int, one: str, many: str | None = None) -> str:
    """`1 shot`, `2 shots`."""
    return f"{n} {one if n == 1 else many or one + 's'}"


@dataclass(frozen=True)
class Cast:
    """Who is in a file. joined: how often somebody was recognised. followed: those whom the outputs contain. shapes: each person's
    betas. cuts: frame numbers at which shots begin, but for 0. times: of all frames, seconds."""

    people: int
    followed: frozenset[int]
    shapes: dict[int, F64]
    cuts: list[int]
    joined: int
    times: array[float]
    _names: dict[int, list[tuple[int, int]]]

    def name(self, identity: int, frame: int) -> int | None:
        """The person whom the causal pass called `identity` in this frame; None for somebody who is not followed."""
        pieces = self._names[identity]
        person = pieces[bisect_right(pieces, (frame, 1 << 62)) - 1][1]
        return person if person in self.followed else None

    @staticmethod
    def of(spool: Path, records: Records, track: str, scale: PixelScale | None = None) -> Cast:
        """Read the spool and see who is who, and who is to be followed. scale: of its pixels, where they are not square."""
        cuts, views = _shots(spool)
        pieces: list[Piece] = []
        current: dict[int, Piece] = {}
        times = array("d")
        for stored, fields in records.with_fields():
            record = _scaled(stored, scale)
            shot = bisect_right(cuts, record.frame)
            before = times[-1] if times else math.inf
            times.append(record.time)
            for row, identity in enumerate(record.people.ids.tolist()):
                piece = current.get(identity)
                # Whoever was there in the frame before was not lost, however long ago that was.
                if piece is None or piece.shot != shot or (piece.end < before and record.time - piece.end > LOST):
                    piece = current[identity] = Piece(identity, shot, record.frame, record.frame, view=views[shot])
                    pieces.append(piece)
                colours = np.array(fields["people"][row].get("colours", [0] * 9)) / 255
                betas = None if record.bodies is None else record.bodies.betas[row]
                piece.add(record.frame, record.time, record.people.boxes[row], colours, betas)
                piece.part.add(record.time, record.people.boxes[row], record.people.keypoints[row], before)
        names: dict[int, list[tuple[int, int]]] = defaultdict(list)
        shapes: dict[int, F64] = {}
        weights: dict[int, float] = {}
        joined = 0
        interval = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        for number, person in enumerate(stitch(pieces, interval), 1):
            joined += len(person) - 1
            for piece in person:
                names[piece.identity].append((piece.first, number))
            weights[number] = sum(piece.part.weight for piece in person)
            known = [(piece.betas, piece.bodies) for piece in person if piece.betas is not None]
            if known:
                shapes[number] = np.asarray(sum(betas for betas, _ in known) / sum(count for _, count in known))
        for mine in names.values():
            mine.sort()
        followed = main_people(weights) if track == "main" else people_of(track) or frozenset(weights)
        return Cast(len(weights), followed, shapes, cuts, joined, times, dict(names))


class Interrupted(Exception):
    """Somebody wants no more."""


def refine(
    spool: Path,
    out: Path,
    *,
    lifted: Lifted | None = None,
    network: Network | None = None,
    track: str = "all",
    stopped: Callable[[], bool] = lambda: False,
    advance: Callable[[int], None] = lambda frames: None,
) -> Summary:
    """Refine what `SpoolSink` wrote into `out` (JSON Lines, mode "refined"), which appears when it is whole.

    lifted, network: what the bodies were fitted with; needed where there are bodies. track: who is followed, see `Settings`; who is has the
    same number, whoever else is left out. Raises InputError for a spool that is none,
    RtposeError where `out` cannot be written, Interrupted soon after `stopped` says so. advance: called with how many more
    frames are done. The spool stays.
    """
    header, records = read_results(spool)
    bodies = None
    if header.joints3d_names is not None:
        if lifted is None or network is None:
            raise InputError(f"{spool} has bodies: to refine them, say what they were fitted with")
        bodies = BodyRefiner(lifted.body, network)
    # As in the first pass, everything is computed in square pixels.
    size, scale = (header.width, header.height), PixelScale.of(header.pixel_aspect, header.width, header.height)
    cast = Cast.of(spool, records, track, scale)
    camera = None if lifted is None else lifted.camera(*size)
    if scale is not None:
        size, camera = scale.size(*size), None if camera is None else scale.camera(camera)
    back = None if scale is None else scale.inverse
    window = WindowRefiner(cast.name, cast.shapes, size, camera, bodies)
    summary = Summary(shots=len(cast.cuts) + 1, joined=cast.joined)
    summary.missing = sorted(who for who in cast.followed if who > cast.people)
    summary.everybody = cast.people
    summary.people = len(cast.followed) - len(summary.missing)
    unfinished = out.with_name(out.name + UNFINISHED)
    check_own(unfinished, RESULTS)
    try:
        with open(spool, "rb") as source, open(open_own(unfinished, RESULTS, os.O_TRUNC), "wb") as target:
            written = json.loads(source.readline()) | {"mode": "refined"}
            if (rate := nominal_rate(cast.times)) is not None:
                written["rate"] = float(rate)
            target.write(json_line(written))
            for entries, core in _windows(_scaled(record, scale) for record in records):
                if stopped():
                    raise Interrupted
                for refined in window(entries)[core]:
                    record = _scaled(refined, back)
                    target.write(json_line(frame_record(record) | ({"cut": True} if record.frame in cast.cuts else {})))
                    summary.frames += 1
                    summary.bridged += int((record.people.status == Status.PREDICTED).all(1).sum())
                    advance(1)
        os.replace(unfinished, out)
    except OSError as error:
        raise RtposeError(f"cannot write {out}: {error.strerror}; the causal results are kept in {spool}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return summary


def _shots(spool: Path) -> tuple[list[int], list[int]]:
    """The frames at which shots begin, but for the first, and the number of each shot's view: the same where the same is shown.

    The spool says so a little later, and withdraws some that it said."""
    found: set[int] = set()
    returns: dict[int, int] = {}
    with open(spool, "rb") as lines:
        for line in lines:
            if any(f'"{name}":['.encode() in line for name in ("cuts", "withdrawn", "returns")) and line.endswith(b"\n"):
                fields = json.loads(line)
                found.update(fields.get("cuts", ()))
                found.difference_update(fields.get("withdrawn", ()))
                returns.update(fields.get("returns", ()))
    cuts = sorted(found)
    views = [0]
    for shot, cut in enumerate(cuts, 1):
        views.append(views[bisect_right(cuts, returns[cut])] if cut in returns else shot)
    return cuts, views


def _scaled(record: Record, scale: PixelScale | None) -> Record:
    """The record in other pixels."""
    return record if scale is None else replace(record, people=scale.people(record.people))


def _windows(records: Iterable[Record]) -> Iterator[tuple[list[Record], slice]]:
    """Records that overlap, and those among them that are to be kept: each once."""
    entries: list[Record] = []
    begin = 0
    for record in records:
        entries.append(record)
        end = begin + WINDOW
        if len(entries) >= end + MARGIN_FRAMES and record.time - entries[end - 1].time > MARGIN:
            yield entries, slice(begin, end)
            old = next(i for i, entry in enumerate(entries) if entry.time >= entries[end].time - MARGIN)
            old = max(0, min(old, end - MARGIN_FRAMES))
            entries, begin = entries[old:], end - old
    if begin < len(entries):
        yield entries, slice(begin, len(entries))

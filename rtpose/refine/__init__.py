"""The refined mode: what the causal pass spooled, gone through again with the future known.

The spool is read twice. The first time everybody's pieces are gathered and put together into people (`identities`), each with one
shape for the whole file. The second time it goes through windows of frames that overlap, so that the memory needed does not
grow with the file (`tracks`): keypoints smoothed without lag, gaps bridged, bodies fitted anew (`bodies`).
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..body.model import Lifted
from ..errors import InputError, RtposeError
from ..integrity import RESULTS, check_own, open_own
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
"""... with so many seconds more on either side, whose results are left to their own windows."""


@dataclass
class Summary:
    """What refining did. joined: pieces that were found to be of somebody known; bridged: people and frames that were predicted;
    missing: people who were to be followed and are not there."""

    frames: int = 0
    people: int = 0
    shots: int = 1
    joined: int = 0
    bridged: int = 0
    missing: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        missing = f"; nobody has the number {' or '.join(map(str, self.missing))}" if self.missing else ""
        return (
            f"refined: {self.people} people in {self.shots} shots; {self.joined} times somebody was recognised; "
            f"{self.bridged} gaps of a frame bridged{missing}"
        )


@dataclass(frozen=True)
class Cast:
    """Who is in a file, in how many pieces. followed: those whom the outputs contain. shapes: each person's betas. cuts: frame numbers at
    which shots begin, but for 0."""

    people: int
    followed: frozenset[int]
    shapes: dict[int, F64]
    cuts: list[int]
    pieces: int
    _names: dict[int, list[tuple[int, int]]]

    def name(self, identity: int, frame: int) -> int | None:
        """The person whom the causal pass called `identity` in this frame; None for somebody who is not followed."""
        pieces = self._names[identity]
        person = pieces[bisect_right(pieces, (frame, 1 << 62)) - 1][1]
        return person if person in self.followed else None

    @staticmethod
    def of(spool: Path, records: Records, track: str) -> Cast:
        """Read the spool and see who is who, and who is to be followed."""
        cuts = _cuts(spool)
        pieces: list[Piece] = []
        current: dict[int, Piece] = {}
        for record, fields in records.with_fields():
            shot = bisect_right(cuts, record.frame)
            for row, identity in enumerate(record.people.ids.tolist()):
                piece = current.get(identity)
                if piece is None or piece.shot != shot or record.time - piece.end > LOST:
                    piece = current[identity] = Piece(identity, shot, record.frame, record.frame)
                    pieces.append(piece)
                colours = np.array(fields["people"][row].get("colours", [0] * 9)) / 255
                betas = None if record.bodies is None else record.bodies.betas[row]
                piece.add(record.frame, record.time, record.people.boxes[row], colours, betas)
                piece.part.add(record.time, record.people.boxes[row], record.people.keypoints[row])
        names: dict[int, list[tuple[int, int]]] = defaultdict(list)
        shapes: dict[int, F64] = {}
        weights: dict[int, float] = {}
        for number, person in enumerate(stitch(pieces), 1):
            for piece in person:
                names[piece.identity].append((piece.first, number))
            weights[number] = sum(piece.part.weight for piece in person)
            known = [(piece.betas, piece.bodies) for piece in person if piece.betas is not None]
            if known:
                shapes[number] = np.asarray(sum(betas for betas, _ in known) / sum(count for _, count in known))
        for mine in names.values():
            mine.sort()
        followed = main_people(weights) if track == "main" else people_of(track) or frozenset(weights)
        return Cast(len(weights), followed, shapes, cuts, len(pieces), dict(names))


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
) -> Summary:
    """Refine what `SpoolSink` wrote into `out` (JSON Lines, mode "refined"), which appears when it is whole.

    lifted, network: what the bodies were fitted with; needed where there are bodies. track: who is followed, see `Settings`; who is has the
    same number, whoever else is left out. Raises InputError for a spool that is none,
    RtposeError where `out` cannot be written, Interrupted soon after `stopped` says so. The spool stays.
    """
    header, records = read_results(spool)
    bodies = None
    if header.joints3d_names is not None:
        if lifted is None or network is None:
            raise InputError(f"{spool} has bodies: to refine them, say what they were fitted with")
        bodies = BodyRefiner(lifted.body, network)
    cast = Cast.of(spool, records, track)
    camera = None if lifted is None else lifted.camera(header.width, header.height)
    window = WindowRefiner(cast.name, cast.shapes, (header.width, header.height), camera, bodies)
    summary = Summary(shots=len(cast.cuts) + 1, joined=cast.pieces - cast.people)
    summary.missing = sorted(who for who in cast.followed if who > cast.people)
    summary.people = len(cast.followed) - len(summary.missing)
    unfinished = out.with_name(out.name + UNFINISHED)
    check_own(unfinished, RESULTS)
    try:
        with open(spool, "rb") as source, open(open_own(unfinished, RESULTS, os.O_TRUNC), "wb") as target:
            target.write(json_line({**json.loads(source.readline()), "mode": "refined"}))
            for entries, core in _windows(records):
                if stopped():
                    raise Interrupted
                for record in window(entries)[core]:
                    target.write(json_line(frame_record(record) | ({"cut": True} if record.frame in cast.cuts else {})))
                    summary.frames += 1
                    summary.bridged += int((record.people.status == Status.PREDICTED).all(1).sum())
        os.replace(unfinished, out)
    except OSError as error:
        raise RtposeError(f"cannot write {out}: {error.strerror}; the causal results are kept in {spool}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return summary


def _cuts(spool: Path) -> list[int]:
    """The frames at which shots begin; the spool says so a little later."""
    found: set[int] = set()
    with open(spool, "rb") as lines:
        for line in lines:
            if b'"cuts":[' in line and line.endswith(b"\n"):
                found.update(json.loads(line)["cuts"])
    return sorted(found)


def _windows(records: Records) -> Iterator[tuple[list[Record], slice]]:
    """Records that overlap, and those among them that are to be kept: each once."""
    entries: list[Record] = []
    begin = 0
    for record in records:
        entries.append(record)
        end = begin + WINDOW
        if len(entries) > end and record.time - entries[end - 1].time > MARGIN:
            yield entries, slice(begin, end)
            old = next(i for i, entry in enumerate(entries) if entry.time >= entries[end].time - MARGIN)
            entries, begin = entries[old:], end - old
    if begin < len(entries):
        yield entries, slice(begin, len(entries))

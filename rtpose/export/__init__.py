"""`rtpose export`: saved results for other programs. docs/export.md says what each format holds, in which units and axes.

One file a format here. BVH, GLB and TRC become one file a person (`person-N`, N the run's id), the others one file a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError, RtposeError
from ..runs import Person, Run, fitted_body, read_run
from ..sinks import check_output, make_folder, replacing
from . import bvh, glb, tables, trc
from .motion import gaps, motion_of, run_gaps_told, steady_times

MOTIONS = ("bvh", "glb", "trc")
"""Formats of bodies, one file a person."""
TABLES = {"csv": "people.csv", "coco": "coco.json", "npz": "people.npz"}
FORMATS = (*MOTIONS, *TABLES)

MIN_DURATION = 0.5
"""Seconds between the first and the last sight of people who get files of their own: whoever is seen more briefly is rarely wanted."""

_Write = Callable[[Path], None]


def export(
    path: Path,
    formats: Sequence[str],
    folder: Path,
    *,
    ids: Sequence[int] | None = None,
    rate: float | None = None,
    min_duration: float | None = None,
    body_model: Path | None = None,
    overwrite: bool = False,
    keep: bool = False,
    note: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Write the results in `path` into `folder` (made if it is not there), in each of the formats; return the files.

    ids: whom; by default everybody. rate: frames a second of BVH and TRC; by default the run's nominal rate. body_model: the SMPL file
    that was fitted. min_duration: seconds that somebody must be seen for BVH, GLB and TRC, unless named by `ids` or there all the time;
    by default `MIN_DURATION`, for pictures 0. keep: leave files that are there as they are. note: called with what is worth knowing, a
    line each. Each file appears when it is whole.

    A run in which nobody was found gives tables without rows, and no BVH, GLB or TRC, which a note says.

    Raises InputError, before anything is written, for what cannot be; EndedEarly, at the end, where the results break off.
    """
    check_request(formats, rate, min_duration)
    run = read_run(path)
    chosen = _posed(run, formats, ids, min_duration, note)
    jobs = [(folder / name, write) for name, write in _jobs(run, formats, ids, chosen, rate or run.rate, body_model)]
    make_folder(folder)
    if keep:
        jobs = [(target, write) for target, write in jobs if not target.exists()]
    for target, _ in jobs:
        check_output(target, (target.suffix,), overwrite=overwrite, source=path)
    for target, write in jobs:
        try:
            write(target)
        except OSError as error:
            raise RtposeError(f"cannot write {target}: {error.strerror}; {path} and the files before it are whole") from None
    if gone := [target for target, _ in jobs if not target.exists()]:
        raise RtposeError(
            f"{gone[0]} was removed, or its folder, while the others were written: {path} is whole, export it again"
        )
    run.check_whole()
    return [target for target, _ in jobs]


def check_request(formats: Sequence[str], rate: float | None = None, min_duration: float | None = None) -> None:
    """Raise InputError for an unknown format, and for a rate and a duration that cannot be."""
    if unknown := [name for name in formats if name not in FORMATS]:
        raise InputError(f"unknown format {unknown[0]!r}: there are {', '.join(FORMATS)}")
    if rate is not None and not (math.isfinite(rate) and 0 < rate <= 1000):
        raise InputError(f"--rate {rate:g}: give frames a second, up to 1000")
    if min_duration is not None and not (math.isfinite(min_duration) and min_duration >= 0):
        raise InputError(f"--min-duration {min_duration:g}: give seconds, 0 for everybody")


def check_before_run(
    formats: Sequence[str], folder: Path, *, bodies: bool, overwrite: bool, min_duration: float | None = None
) -> None:
    """Raise InputError for what could not be exported when a run, with bodies or without, has ended; make the folder."""
    check_request(formats, min_duration=min_duration)
    if not bodies and (motions := [name for name in MOTIONS if name in formats]):
        raise InputError(f"--export {motions[0]} needs bodies: run with a lifter")
    make_folder(folder)
    names = [TABLES.get(name, f"person-*.{name}") for name in formats]
    if not overwrite and (there := sorted(path for name in names for path in folder.glob(name))):
        raise InputError(f"{there[0]} exists: choose another folder, or say --overwrite")


def tables_of(formats: Sequence[str], folder: Path) -> list[Path]:
    """The files, one a run, that an export writes."""
    return [folder / TABLES[name] for name in formats if name in TABLES]


def _posed(
    run: Run, formats: Sequence[str], ids: Sequence[int] | None, min_duration: float | None, note: Callable[[str], None]
) -> list[Person]:
    """Those who get files of their own, with the rows that have a body; one note for each reason why somebody gets none."""
    motions = [name for name in MOTIONS if name in formats]
    if not motions:
        return []
    files = " or ".join(filter(None, (", ".join(motions[:-1]), motions[-1])))
    posed = run.with_bodies(ids, motions[0])
    bodiless = sorted({person.id for person in run.select(ids)} - {person.id for person in posed})
    if not posed:
        note(f"nobody in {run.path} has a body: there is no {files}")
    elif bodiless:
        note(f"{_people(bodiless)} without a body: no {files}")
    if min_duration is None:
        min_duration = 0.0 if run.files[0] is not None else MIN_DURATION
    least = min(min_duration, float(run.times[-1] - run.times[0])) - 1e-6
    brief = [person.id for person in posed if not ids and run.people[person.id].duration < least]
    if brief:
        note(f"{_people(brief)} seen for less than {min_duration:g} s: no {files} (--min-duration 0 writes them all)")
    posed = [person for person in posed if person.id not in brief]
    absent = {person.id: missing for person in posed if (missing := gaps(run, person))}
    if absent and motions != ["glb"]:
        who = (
            f"person {next(iter(absent))} {next(iter(absent.values()))}"
            if len(absent) == 1
            else f"{_people(list(absent))} without a body in a part of the {len(run.times)} frames"
        )
        note(f"{who}: held or bridged in BVH, missing in TRC (see docs/export.md)")
    if posed and (told := run_gaps_told(run)):
        note(f"{told}: left out in BVH, which goes on with what follows, and in TRC, whose times show it; nobody is shown in GLB")
    return posed


def _people(ids: Sequence[int]) -> str:
    """How many, and who, of many only the first."""
    first = ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
    return f"person {first}" if len(ids) == 1 else f"{len(ids)} people ({first})"


def _jobs(
    run: Run,
    formats: Sequence[str],
    ids: Sequence[int] | None,
    posed: Sequence[Person],
    rate: float,
    body_model: Path | None,
) -> Iterator[tuple[str, _Write]]:
    """The name of each file, and what writes it. posed: whose bodies are written."""
    people = run.select(ids)
    times = steady_times(run, rate)
    if "trc" in formats:
        for person in posed:
            yield f"person-{person.id}.trc", _whole(partial(trc.write, run=run, person=person, times=times, rate=rate))
    if posed and ("bvh" in formats or "glb" in formats):
        body = fitted_body(run.path, run.header, body_model)
        for person in posed:
            motion = motion_of(person, body, run)
            if "bvh" in formats:
                yield f"person-{person.id}.bvh", _whole(partial(bvh.write, motion=motion, body=body, times=times, rate=rate))
            if "glb" in formats:
                yield f"person-{person.id}.glb", _whole(partial(glb.write, run=run, person=person, motion=motion, body=body))
    if "csv" in formats:
        yield TABLES["csv"], _whole(partial(tables.write_csv, run=run, people=people))
    if "coco" in formats:
        yield TABLES["coco"], _whole(partial(tables.write_coco, run=run, people=people))
    if "npz" in formats:
        if ids:
            raise InputError("an npz holds everybody: leave out --person, or npz")
        yield TABLES["npz"], partial(tables.write_npz, run.path)


def _whole(write: Callable[[BinaryIO], None]) -> _Write:
    """Write into a file that takes its place when it is whole."""

    def into(target: Path) -> None:
        with replacing(target) as file:
            write(file)

    return into

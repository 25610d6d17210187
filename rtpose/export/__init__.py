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
from ..runs import Run, fitted_body, read_run
from ..sinks import check_output, make_folder, replacing
from . import bvh, glb, tables, trc
from .motion import gaps, motion_of, run_gaps_told, steady_times

MOTIONS = ("bvh", "glb", "trc")
"""Formats of bodies, one file a person."""
TABLES = {"csv": "people.csv", "coco": "coco.json", "npz": "people.npz"}
FORMATS = (*MOTIONS, *TABLES)

_Write = Callable[[Path], None]


def export(
    path: Path,
    formats: Sequence[str],
    folder: Path,
    *,
    ids: Sequence[int] | None = None,
    rate: float | None = None,
    body_model: Path | None = None,
    overwrite: bool = False,
    note: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Write the results in `path` into `folder` (made if it is not there), in each of the formats; return the files.

    ids: whom; by default everybody. rate: frames a second of BVH and TRC; by default the run's median. body_model: the SMPL file
    that was fitted. note: called with what is worth knowing, a line each. Each file appears when it is whole.

    Raises InputError, before anything is written, for what cannot be; EndedEarly, at the end, where the results break off.
    """
    check_request(formats, rate)
    run = read_run(path)
    jobs = [(folder / name, write) for name, write in _jobs(run, formats, ids, rate or run.rate, body_model, note)]
    make_folder(folder)
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


def check_request(formats: Sequence[str], rate: float | None = None) -> None:
    """Raise InputError for an unknown format and a rate that cannot be."""
    if unknown := [name for name in formats if name not in FORMATS]:
        raise InputError(f"unknown format {unknown[0]!r}: there are {', '.join(FORMATS)}")
    if rate is not None and not (math.isfinite(rate) and 0 < rate <= 1000):
        raise InputError(f"--rate {rate:g}: give frames a second, up to 1000")


def check_before_run(formats: Sequence[str], folder: Path, *, bodies: bool, overwrite: bool) -> None:
    """Raise InputError for what could not be exported when a run, with bodies or without, has ended; make the folder."""
    check_request(formats)
    if not bodies and (motions := [name for name in MOTIONS if name in formats]):
        raise InputError(f"--export {motions[0]} needs bodies: run with a lifter")
    make_folder(folder)
    names = [TABLES.get(name, f"person-*.{name}") for name in formats]
    if not overwrite and (there := sorted(path for name in names for path in folder.glob(name))):
        raise InputError(f"{there[0]} exists: choose another folder, or say --overwrite")


def _jobs(
    run: Run,
    formats: Sequence[str],
    ids: Sequence[int] | None,
    rate: float,
    body_model: Path | None,
    note: Callable[[str], None],
) -> Iterator[tuple[str, _Write]]:
    """The name of each file, and what writes it."""
    people = run.select(ids)
    motions = [name for name in MOTIONS if name in formats]
    posed = run.with_bodies(ids, motions[0]) if motions else []
    for person in posed:
        if (missing := gaps(run, person)) and motions != ["glb"]:
            note(f"person {person.id} {missing}: held or bridged in BVH, empty in TRC (see docs/export.md)")
    if (told := run_gaps_told(run)) and motions:
        note(f"{told}: left out in BVH, which goes on with what follows, and in TRC, whose times show it; nobody is shown in GLB")
    times = steady_times(run, rate)
    if "trc" in formats:
        for person in posed:
            yield f"person-{person.id}.trc", _whole(partial(trc.write, run=run, person=person, times=times, rate=rate))
    if "bvh" in formats or "glb" in formats:
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

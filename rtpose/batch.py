"""`rtpose batch FILES... --out-dir DIR`: the same run over many files, of which one that fails does not keep the others from theirs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .app import process
from .errors import INTERRUPTED, InputError, RtposeError
from .settings import Outputs, Settings
from .sinks import check_folder
from .sinks.data import read_results


@dataclass(frozen=True)
class Outcome:
    """What became of a file: frames and people in its results, seconds it took; what went wrong, empty if nothing did."""

    file: Path
    frames: int = 0
    people: int = 0
    seconds: float = 0.0
    wrong: str = ""


def batch(
    files: Sequence[Path],
    folder: Path,
    settings: Settings,
    *,
    arrays: bool = False,
    overlay: bool = False,
    causal: bool = False,
    overwrite: bool = False,
    resume: bool = False,
) -> int:
    """Run every file into `folder` (made if need be), under its own name; print a table; return 0 if all went well, else 1.

    arrays: .npz in place of JSON Lines. overlay: the drawn video, too. The others as for `app.process`. Raises InputError for two files of
    one name, and for a folder that cannot be written.
    """
    twice = [name for name, count in Counter(file.stem for file in files).items() if count > 1]
    if twice:
        raise InputError(f"several files are called {twice[0]}: their results would have one name")
    if not files:
        raise InputError("say which files: rtpose batch FILES... --out-dir DIR")
    if not folder.is_dir():
        check_folder(folder.absolute().parent)
        folder.mkdir()
    check_folder(folder)
    console = Console(stderr=True, highlight=False)
    outcomes: list[Outcome] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("files", total=len(files))
        for file in files:
            progress.update(task, description=file.name)
            save = folder / f"{file.stem}.{'npz' if arrays else 'jsonl'}"
            out = str(folder / f"{file.stem}.mp4") if overlay else None
            outputs = Outputs(out=out, save=str(save), view=False, overwrite=overwrite, resume=resume)
            begin = time.monotonic()
            try:
                code = process(str(file), settings, outputs, causal=causal, console=Console(quiet=True))
            except RtposeError as error:
                outcomes.append(Outcome(file, *_found(save), time.monotonic() - begin, " ".join(str(error).split())))
                console.print(f"[red]rtpose:[/red] {escape(outcomes[-1].wrong)}", soft_wrap=True)
                continue
            outcomes.append(Outcome(file, *_found(save), time.monotonic() - begin, "" if code == 0 else "interrupted"))
            if code == INTERRUPTED:
                break
            progress.advance(task)
    console.print(_table(outcomes, len(files)))
    if outcomes[-1].wrong == "interrupted":
        return INTERRUPTED
    return int(any(outcome.wrong for outcome in outcomes))


def _found(save: Path) -> tuple[int, int]:
    """Frames and people in a file of results; none where there is none."""
    if not save.exists():
        return 0, 0
    frames, people = 0, set()
    for record in read_results(save)[1]:
        frames += 1
        people.update(record.people.ids.tolist())
    return frames, len(people)


def _table(outcomes: Sequence[Outcome], total: int) -> Table:
    good = sum(not outcome.wrong for outcome in outcomes)
    table = Table(title=f"{good} of {total} files done", title_justify="left")
    table.add_column("file", overflow="fold")
    for column in ("frames", "people", "s"):
        table.add_column(column, justify="right")
    table.add_column("", overflow="fold")
    for o in outcomes:
        table.add_row(escape(o.file.name), str(o.frames), str(o.people), f"{o.seconds:.1f}", escape(o.wrong) or "done")
    return table

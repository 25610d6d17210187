"""`rtpose batch FILES... --out-dir DIR`: the same run over many files, of which one that fails does not keep the others from theirs.

The files are run in a process of their own, which takes one after the other. What that process needs is imported there alone, so that the
batch itself begins at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from glob import escape as escape_glob
from glob import has_magic
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .errors import INTERRUPTED, InputError, RtposeError
from .safe_text import safe
from .settings import Outputs, Settings, parts_named
from .sinks import make_folder
from .terminal import for_messages, no_console, set_up, unexpected

BROKEN_OFF = "interrupted"
"""What went wrong with a file whose run was told to stop."""
VIDEOS = frozenset(
    (
        ".3gp",
        ".asf",
        ".avi",
        ".flv",
        ".m2ts",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".ogv",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
    )
)
"""By these endings the videos of a folder are known."""


@dataclass(frozen=True)
class Job:
    """A file and what is to become of it: arguments of `app.process`."""

    file: Path
    settings: Settings
    outputs: Outputs
    causal: bool = False
    part: tuple[float, float | None] = (0.0, None)

    def again(self) -> Job:
        """The same after a worker died over it: it goes on from what that one left, unless old files are to be replaced."""
        return replace(self, outputs=replace(self.outputs, resume=self.outputs.resume or not self.outputs.overwrite))


@dataclass(frozen=True)
class Outcome:
    """What became of a file: frames and people in its results, seconds it took; what went wrong, empty if nothing did; notes
    of its run."""

    file: Path
    frames: int = 0
    people: int = 0
    seconds: float = 0.0
    wrong: str = ""
    notes: tuple[str, ...] = ()


def batch(
    files: Sequence[Path],
    folder: Path,
    settings: Settings,
    *,
    arrays: bool = False,
    overlay: bool = False,
    causal: bool = False,
    part: tuple[float, float | None] = (0.0, None),
    export: Sequence[str] = (),
    min_duration: float | None = None,
    draw: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    ray: bool = False,
    address: str | None = None,
) -> int:
    """Run every file into `folder` (made if need be), under its own name; print a table; return 0 if all went well, else 1.

    files: also globs, and folders, of which all videos are taken. arrays: .npz in place of JSON Lines. overlay: the drawn video, too.
    part: where to begin and to end in each file, seconds. draw: the parts of the drawn video, with commas. export: formats, each
    file's into a folder of its name in `folder`. ray: on a Ray cluster, see `cluster.spread`, with its address. The others as for
    `app.process`.

    Raises InputError for two files of one name, a glob or a folder without any, a folder that cannot be written, and where there is
    no cluster.
    """
    if address is not None and not ray:
        raise InputError("--address is that of a Ray cluster: say --on ray, too")
    parts = parts_named(draw)
    files = [named for file in files for named in _named(file)]
    _check(files, folder)
    if draw is not None and not overlay:
        raise InputError("--draw chooses what is drawn: say --overlay, too, or leave it out")
    jobs = []
    for file in files:
        save = folder / f"{file.stem}.{'npz' if arrays else 'jsonl'}"
        outputs = Outputs(
            out=str(folder / f"{file.stem}.mp4") if overlay else None,
            save=str(save),
            view=False,
            overwrite=overwrite,
            resume=resume,
            export=tuple(export),
            draw=parts,
            export_dir=folder / file.stem if export else None,
            min_duration=min_duration,
        )
        jobs.append(Job(file, settings, outputs, causal, part))
    console = for_messages()
    if not console.is_terminal:
        console.print(
            f"{len(files)} {'file' if len(files) == 1 else 'files'} to track; a first run compiles for this machine, half a minute"
        )
    outcomes: list[Outcome] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(files))

        def show(name: str) -> None:
            progress.update(task, description=name)

        try:
            for outcome in _on_ray(jobs, address, show) if ray else _apart(jobs, show):
                outcomes.append(outcome)
                if outcome.wrong and outcome.wrong != BROKEN_OFF:
                    console.print(f"[red]rtpose:[/red] {escape(outcome.wrong)}", soft_wrap=True)
                elif not outcome.wrong and not console.is_terminal:
                    console.print(f"{len(outcomes)} of {len(files)}: {escape(_shown(outcome.file))}", soft_wrap=True)
                progress.advance(task)
        except KeyboardInterrupt:
            done = {outcome.file for outcome in outcomes}
            outcomes += [Outcome(file, wrong=BROKEN_OFF) for file in files if file not in done]
    console.print(_table(sorted(outcomes, key=lambda outcome: files.index(outcome.file)), len(files)))
    if any(outcome.wrong == BROKEN_OFF for outcome in outcomes):
        return INTERRUPTED
    return int(any(outcome.wrong for outcome in outcomes))


def _named(file: Path) -> list[Path]:
    """The file, or the videos of a folder, or what a glob matches: a shell hands a glob on as it is where it stands in quotes or nothing
    matches."""
    from .source import files_like

    if os.path.isdir(file):
        inside = files_like(os.path.join(escape_glob(str(file)), "*")) if os.listdir(file) else []
        found = [path for path in inside if path.suffix.lower() in VIDEOS and path.is_file()]
        if not found:
            raise InputError(f"{file} holds no videos (looked for {' '.join(sorted(VIDEOS))})")
        return found
    return files_like(str(file)) if has_magic(str(file)) and not os.path.exists(file) else [file]


def _check(files: Sequence[Path], folder: Path) -> None:
    """Raise InputError unless every file's results can go to the folder, which is made if need be."""
    counted = Counter(file.stem for file in files)
    twice = [file for file in files if counted[file.stem] > 1]
    if twice:
        raise InputError(f"several files are called {_shown(twice[0])}: their results would have one name")
    if not files:
        raise InputError("say which files: rtpose batch FILES... --out-dir DIR")
    make_folder(folder)


def _shown(file: Path) -> str:
    """A file's name as it may be shown, also of what turns out to be an address."""
    return Path(safe(str(file))).name


def _apart(jobs: Sequence[Job], show: Callable[[str], None]) -> Iterator[Outcome]:
    """One after the other in another process, until one is interrupted: a file that crashes a library ends that process, and another one
    takes the rest."""
    worker: _Worker | None = None
    try:
        with _forwarded(lambda: worker):
            for job in jobs:
                show(escape(_shown(job.file)))
                worker = worker or _Worker()
                outcome = worker.track(job)
                if outcome is None:
                    outcome = Outcome(job.file, wrong=f"{job.file}: its run ended without a word ({worker.end()})")
                    worker = None
                yield outcome
                if outcome.wrong == BROKEN_OFF:
                    return
    finally:
        if worker is not None:
            worker.end()


class _Worker:
    """A process in which files are run."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), name="rtpose-batch")
        self._process.start()
        theirs.close()

    def track(self, job: Job) -> Outcome | None:
        """What became of the file; None where the process died over it."""
        try:
            self._connection.send(job)
            found = self._connection.recv()
        except (EOFError, OSError):
            return None
        assert isinstance(found, Outcome)
        return found

    def signal(self, number: int) -> None:
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, number)

    def end(self) -> str:
        """Let it end, and say how it did."""
        self._connection.close()
        self._process.join()
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"


@contextmanager
def _forwarded(worker: Callable[[], _Worker | None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM go to the worker, which finishes or drops its file as a run does; with nobody at work they interrupt."""

    def heard(number: int, frame: FrameType | None) -> None:
        there = worker()
        if there is None:
            raise KeyboardInterrupt
        there.signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _work(connection: Connection) -> None:
    """What the worker does: files, until there are no more."""
    with suppress(OSError):
        os.setpgid(0, 0)  # a Ctrl-C reaches the batch alone, which hands it on
    set_up()
    threading.Thread(target=_end_with_parent, name="rtpose-parent", daemon=True).start()
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            connection.send(track_file(connection.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(INTERRUPTED)


def _on_ray(jobs: Sequence[Job], address: str | None, show: Callable[[str], None]) -> Iterator[Outcome]:
    from .app import processors
    from .cluster import ATTEMPTS, spread

    show("on Ray")
    threads = jobs[0].settings.threads
    for job, outcome in spread(_as_worker, jobs, Job.again, processors=processors(), threads=threads, address=address):
        yield outcome or Outcome(job.file, wrong=f"{job.file}: {ATTEMPTS} workers died over it")


def _as_worker(job: Job) -> Outcome:
    """Only who ends a worker interrupts its run: it then ends indeed, and another goes on."""
    outcome = track_file(job)
    if outcome.wrong == BROKEN_OFF:
        sys.exit(INTERRUPTED)
    return outcome


def track_file(job: Job) -> Outcome:
    """Run one file. Whatever goes wrong with it is told in the outcome: only KeyboardInterrupt ends more than this file."""
    from .app import process

    save, begin = Path(str(job.outputs.save)), time.monotonic()
    notes: list[str] = []
    try:
        start, end = job.part
        quiet = no_console()
        code = process(
            str(job.file), job.settings, job.outputs, causal=job.causal, start=start, end=end, console=quiet, notes=notes
        )
        wrong = BROKEN_OFF if code == INTERRUPTED else ""
    except RtposeError as error:
        wrong = " ".join(str(error).split())
    except KeyboardInterrupt:
        wrong = BROKEN_OFF
    except Exception as error:
        wrong = unexpected(error)
    return Outcome(job.file, *_found(save), time.monotonic() - begin, wrong, tuple(notes))


def _found(save: Path) -> tuple[int, int]:
    """Frames and people in a file of results, as far as it can be read: what is in the way of a run may be anything."""
    from .sinks.data import read_results

    frames, people = 0, set()
    with suppress(InputError):
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
        said = "; ".join([o.wrong or "done", *o.notes])
        table.add_row(escape(_shown(o.file)), str(o.frames), str(o.people), f"{o.seconds:.1f}", escape(said))
    return table

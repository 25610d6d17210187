"""The second pass of a refined run: from the spool to the data file and the overlay."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ..body.model import Lifted
from ..errors import RtposeError
from ..integrity import RESULTS, check_own
from ..pipeline import Control, Sink, run
from ..replay import Player
from ..settings import Outputs
from ..sinks import UNFINISHED, check_output
from ..sinks.data import ENDINGS, SPOOL, Provenance, read_results, save_arrays
from ..sinks.progress import ProgressSink
from ..sinks.spool import SpoolSink
from ..sinks.video import open_overlay
from ..source import InfoSource, SourceInfo
from ..stages.lift import Network
from ..types import Result
from . import Interrupted, Summary, refine


class SecondPass:
    """What is to become of a run over a video file, once its causal pass has spooled everything into `sink`.

    The spool is FILE.partial beside the data file (or the video, where there is no data file), and stays until everything is written.
    outputs: with neither file, the results are for `results` alone. reopen: the source once more, from its beginning. track: who is
    followed, and cuts: whether shots are found, see `Settings`.
    Raises InputError for an output that cannot be written.
    """

    def __init__(
        self,
        outputs: Outputs,
        info: SourceInfo,
        reopen: Callable[[], InfoSource],
        *,
        models: dict[str, str],
        lifted: Lifted | None,
        network: Network | None,
        track: str = "all",
        cuts: str = "auto",
        run: str | None = None,
    ) -> None:
        self._reopen, self._lifted, self._network, self._track = reopen, lifted, network, track
        self._save = Path(outputs.save) if outputs.save not in (None, "-") else None
        self._print = outputs.save == "-"
        if self._save is not None:
            check_output(self._save, ENDINGS, overwrite=outputs.overwrite, source=info.path)
        self._overlay: Sink | None = None
        if outputs.out is not None:
            self._overlay = open_overlay(Path(outputs.out), info, overwrite=outputs.overwrite, lifted=lifted, parts=outputs.draw)
        beside = self._save or (None if outputs.out is None else Path(outputs.out))
        self._folder = tempfile.TemporaryDirectory(prefix="rtpose-") if beside is None else None
        if beside is None:
            beside = Path(self._folder.name) / "results" if self._folder is not None else Path()
        self.lasting = self._folder is None
        """Whether the spool outlives this process, where it is not finished."""
        self.spool = beside.with_name(beside.name + SPOOL)
        self._lines = beside if beside.suffix.lower() == ".jsonl" else beside.with_name(beside.name + ".refined")
        if self._lines != self._save:
            check_own(self._lines, RESULTS)
        check_own(self._lines.with_name(self._lines.name + UNFINISHED), RESULTS)
        provenance = Provenance(models, "offline", lifted, run)
        self.sink = SpoolSink(self.spool, info, provenance, overwrite=outputs.overwrite, cuts=cuts)

    def finish(self, control: Control, refining: ProgressSink, drawing: ProgressSink) -> Summary:
        """Refine what was spooled and write the outputs. refining, drawing: told of each frame that is. Raises Interrupted when `control`
        is told to stop: the spool stays."""
        try:
            refining.begin()
            try:
                summary = self._refine(control, refining.advance)
            finally:
                refining.close()
            if self._overlay is not None:
                self._draw(self._overlay, control, drawing)
            if self._print:
                _print(self._lines)
        except BaseException:
            if self._save != self._lines:
                self._lines.unlink(missing_ok=True)
            raise
        if self._save != self._lines:
            if self._save is not None:
                save_arrays(self._lines, self._save)  # where that fails the lines stay, as it says
            self._lines.unlink()
        self.spool.unlink()
        self.close()
        return summary

    def results(self) -> Iterator[Result]:
        """Refine what was spooled and yield it with the pictures, which are read once more."""
        self._refine(Control())
        player = self._player()
        try:
            for frame in player.frames():
                yield player.attach(Result(frame))
        finally:
            player.close()

    def close(self) -> None:
        """Forget what lies in no file of the user's."""
        if self._folder is not None:
            self._folder.cleanup()

    def _refine(self, control: Control, advance: Callable[[int], None] = lambda frames: None) -> Summary:
        return refine(
            self.spool,
            self._lines,
            lifted=self._lifted,
            network=self._network,
            track=self._track,
            stopped=lambda: control.stopping,
            advance=advance,
        )

    def _player(self) -> Player:
        header, records = read_results(self._lines)
        return Player(self._lines, header, records, self._reopen(), paced=False)

    def _draw(self, overlay: Sink, control: Control, progress: Sink) -> None:
        player = self._player()
        report = run(player, [player.attach], [overlay, progress], control=control)
        if control.interrupted:
            raise Interrupted
        if report.ended_early is not None:
            raise report.ended_early


def _print(lines: Path) -> None:
    """Copy a file to the standard output."""
    try:
        with open(lines, "rb") as file, suppress(BrokenPipeError):
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.flush()
    except OSError as error:
        raise RtposeError(f"cannot write to standard output: {error.strerror}") from None

"""What rtpose says on its terminal: the only place that makes consoles and writes to the standard output and error.

All text goes through `safe_text.safe`. The standard error is for people: where it is closed, full or nobody reads it any more the work goes
on. The standard output is what was asked for: where it cannot be written the command fails.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO, cast

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.text import Text

from .errors import RtposeError
from .safe_text import safe

DEBUG = "RTPOSE_DEBUG"
"""The variable that makes an unexpected error show where it came from."""


class _Standard(io.TextIOBase):
    """One of the standard streams, whatever `sys` has for it at the time: also none."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _stream(self) -> TextIO | None:
        stream = getattr(sys, self._name)
        # While a progress bar is shown Rich puts its own in place of it, which would print here again.
        return cast("TextIO | None", getattr(stream, "rich_proxied_file", stream))

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream(), "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        stream = self._stream()
        return stream is not None and not stream.closed and stream.isatty()

    def fileno(self) -> int:
        stream = self._stream()
        if stream is None:
            raise io.UnsupportedOperation("fileno")
        return stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        stream = self._stream()
        if stream is not None:
            try:
                stream.write(text)
            except (OSError, ValueError) as error:
                self._failed(stream, error)
        return len(text)

    def flush(self) -> None:
        stream = self._stream()
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError) as error:
                self._failed(stream, error)

    def _failed(self, stream: TextIO, error: OSError | ValueError) -> None:
        raise NotImplementedError


class _Error(_Standard):
    """The standard error: what cannot be written is lost, and nothing else."""

    def _failed(self, stream: TextIO, error: OSError | ValueError) -> None:
        _discard(stream)


class _Output(_Standard):
    """The standard output. Raises RtposeError where it cannot be written, BrokenPipeError where nobody reads it any more."""

    def _failed(self, stream: TextIO, error: OSError | ValueError) -> None:
        _discard(stream)
        if isinstance(error, BrokenPipeError):
            raise error
        raise RtposeError(f"cannot write to standard output: {getattr(error, 'strerror', None) or error}") from None


def _discard(stream: TextIO) -> None:
    """Let what is written to it from now on go nowhere: also what is in its buffer, and what libraries in C write."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


_ERROR, _OUTPUT = _Error("stderr"), _Output("stdout")


class Console(rich.console.Console):
    """Rich's, which shows strings, tables and the descriptions of progress bars as `safe` has them, and takes no word for an emoji."""

    def render_str(self, text: str, **options: Any) -> Text:
        return _safe(super().render_str(text, **options))

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        return super().render(_safe(renderable) if isinstance(renderable, Text) else renderable, options)


def _safe(text: Text) -> Text:
    plain = safe(text.plain)
    if plain == text.plain:
        return text
    # The styles of its parts no longer fit, but for one at its beginning, as of "note:".
    kept = [span for span in text.spans if text.plain[: span.end] == plain[: span.end]]
    return Text(plain, text.style, justify=text.justify, overflow=text.overflow, no_wrap=text.no_wrap, end=text.end, spans=kept)


def for_messages(*, soft_wrap: bool = False) -> Console:
    """A console on the standard error."""
    return Console(file=cast("TextIO", _ERROR), highlight=False, emoji=False, soft_wrap=soft_wrap)


def for_output() -> Console:
    """A console on the standard output. What is printed raises RtposeError where it cannot be written."""
    return Console(file=cast("TextIO", _OUTPUT), emoji=False)


def no_console() -> Console:
    """One that shows nothing."""
    return Console(file=cast("TextIO", _ERROR), quiet=True)


def put(line: object) -> None:
    """Write a line to the standard output, for another program to read. Raises RtposeError where that cannot be."""
    _OUTPUT.write(safe(str(line)) + "\n")
    _OUTPUT.flush()


def say(message: str) -> None:
    """Show a line, which may have markup, on the standard error."""
    for_messages(soft_wrap=True).print(message)


def say_error(message: str) -> None:
    """Show what went wrong, in one line."""
    say(f"[red]rtpose:[/red] {escape(' '.join(message.split()))}")


def say_unexpected(error: BaseException) -> None:
    """Show an error that nobody foresaw: in one line, and with `DEBUG` where it came from."""
    if os.environ.get(DEBUG):
        _ERROR.write(safe("".join(traceback.format_exception(error))))
    say_error(unexpected(error))


def unexpected(error: BaseException) -> str:
    """The line about an error that nobody foresaw."""
    if isinstance(error, OSError) and error.strerror:
        what = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
        return safe(f"{what} ({DEBUG}=1 shows where)")
    said = " ".join(str(error).split())
    kind = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return safe(f"unexpected error, a fault of rtpose ({DEBUG}=1 shows where): {kind}")


class _Log(logging.Handler):
    """Shows the warnings of all libraries as notes of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            say(f"[yellow]note:[/yellow] {escape(record.getMessage())}")
        except Exception:
            self.handleError(record)


def set_up() -> None:
    """Prepare this process, which is rtpose's own, for what it will say: call it once, before anything else."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file to be opened would get the messages of libraries in C
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    root = logging.getLogger()
    if not any(isinstance(handler, _Log) for handler in root.handlers):
        root.addHandler(_Log(logging.WARNING))
    threading.excepthook = _in_thread


def _in_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
        say_unexpected(failed.exc_value)


def flush() -> None:
    """Hand everything that was written to the system. Raises RtposeError where the standard output cannot be written."""
    _ERROR.flush()
    _OUTPUT.flush()

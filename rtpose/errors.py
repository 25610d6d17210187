"""What can go wrong, and the exit code each kind ends the command with."""

from __future__ import annotations

from .safe_text import safe

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


class RtposeError(Exception):
    """An error whose message is one clear line for the user: what is wrong and what would be right."""

    exit_code = 1

    def __str__(self) -> str:
        return safe(super().__str__())


class InputError(RtposeError):
    """The user asked for something that cannot be: a missing file, an unknown name, an unwritable output."""

    exit_code = 2


class Unfit(InputError):
    """A backend cannot serve here, but another may: no GPU, a precision it lacks, results too far from f32."""


class EndedEarly(RtposeError):
    """The source broke off after some frames; what was decoded has been processed and kept."""

    exit_code = 3


class StageError(RtposeError):
    """A source, stage or sink failed while the pipeline ran; `stage` names it."""

    def __init__(self, stage: str, cause: BaseException) -> None:
        said = str(cause) or type(cause).__name__
        super().__init__(f"{stage}: {said}")
        self.stage = stage
        self.__cause__ = cause
        if isinstance(cause, RtposeError):
            self.exit_code = cause.exit_code


class Stop(Exception):
    """Raised by a sink that wants no more (its window was closed): the run drains and ends well."""

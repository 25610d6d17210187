"""Run the command line with a fault in one place: `python -m tests.faulty PLACE KIND FRAME ARGUMENTS...`.

PLACE is `source` or the name of a stage or sink. KIND: raises, ends, interrupt (Ctrl-C while it works), slow, kill (SIGKILL).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from rtpose import app, cli
from rtpose.errors import Stop
from rtpose.pipeline import stage_name


class Boom(Exception):
    pass


def main(place: str, kind: str, at: int) -> None:
    struck: list[int] = []

    def strike(index: int, is_sink: bool = False) -> None:
        if kind == "slow" and index >= at:
            time.sleep(0.1)
        if index < at or struck:
            return
        struck.append(index)
        if kind == "raises":
            raise Boom("struck")
        if kind == "ends":
            # What would end a careless loop without a word.
            raise Stop if is_sink else StopIteration
        if kind == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    hit: list[str] = []

    def open_source(*args: Any, **options: Any) -> Any:
        source = opened(*args, **options)
        if place == "source":
            hit.append(place)
            frames = source.frames

            def broken() -> Any:
                for frame in frames():
                    if frame.index == at and kind == "ends":
                        return
                    strike(frame.index)
                    yield frame

            source.frames = broken
        return source

    def make_stages(*args: Any, **options: Any) -> Any:
        def wrap(stage: Any) -> Any:
            def broken(result: Any) -> Any:
                strike(result.frame.index)
                return stage(result)

            broken.__name__ = stage_name(stage)
            if broken.__name__ != place:
                return stage
            hit.append(place)
            return broken

        return [wrap(stage) for stage in stages(*args, **options)]

    def make_sinks(*args: Any, **options: Any) -> Any:
        made = sinks(*args, **options)
        for sink in made:
            if sink.name == place:
                hit.append(place)

                def broken(result: Any, write: Any = sink.write) -> None:
                    strike(result.frame.index, is_sink=True)
                    write(result)

                sink.write = broken
        return made

    opened, stages, sinks = app.open_source, app.make_stages, app.make_sinks
    app.open_source, app.make_stages, app.make_sinks = open_source, make_stages, make_sinks
    try:
        cli.main()
    finally:
        if not hit:
            raise SystemExit(f"no such place: {place}")


if __name__ == "__main__":
    place, kind, at = sys.argv[1:4]
    sys.argv[1:4] = []
    main(place, kind, int(at))

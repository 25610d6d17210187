"""A user at the viewer's window, for the test under a virtual display: `python -m tests.sinks.viewer_session q|close`.

Prints what each key, drag and turn of the wheel did, then ends the run with the key q or by closing the window.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import cv2

from rtpose.pipeline import run
from rtpose.sinks.viewer import TITLE, ViewerSink
from rtpose.types import Result

from ..bodies import Walkers
from ..fakes import FakeSource


class Closable(ViewerSink):
    """Its window is taken away, as its close button would, when `leave` is set."""

    leave = False

    def idle(self) -> None:
        if self.leave:
            cv2.destroyWindow(TITLE)
        super().idle()


def main() -> None:
    walkers = Walkers()
    results = [walkers.result(i) for i in range(10)]
    sink = Closable(walkers.lifted)
    os.chdir(os.environ["SHOTS"])

    def stage(result: Result) -> Result:
        return replace(results[result.frame.index % 10], frame=replace(result.frame, image=results[0].frame.image))

    def tool(*command: str) -> None:
        subprocess.run(["xdotool", *command], check=True)

    def press(key: str, said: str, done: Callable[[], bool]) -> None:
        tool("search", "--name", f"^{TITLE}$", "windowfocus", "key", key)
        wait(said, done)

    def wait(said: str, done: Callable[[], bool]) -> None:
        for _ in range(2400):
            if done():
                print(said, flush=True)
                return
            time.sleep(0.05)
        print("not", said, flush=True)

    def user() -> None:
        while len(sink._shown) < 5:
            time.sleep(0.1)
        press("f", "follow 1", lambda: sink.followed == 1)
        press("m", "skeleton", lambda: sink.mode == "skeleton")
        press("c", "camera", lambda: sink.from_camera)
        press("r", "reset", lambda: not sink.from_camera and sink.followed is None and sink.view.azimuth < 0)
        press("space", "paused", lambda: sink.paused)
        azimuth, distance = sink.view.azimuth, sink.view.distance
        for step in (("mousemove", "500", "300"), ("mousedown", "1"), ("mousemove", "600", "340"), ("mouseup", "1")):
            tool(*step)
        wait("turned", lambda: sink.view.azimuth != azimuth)
        tool("click", "4")
        wait("zoomed", lambda: sink.view.distance < distance)
        press("s", "shot", lambda: os.path.exists("rtpose-000.png"))
        if sys.argv[1] == "close":
            sink.leave = True
        else:
            tool("search", "--name", f"^{TITLE}$", "windowfocus", "key", "q")

    threading.Thread(target=user, daemon=True).start()
    report = run(FakeSource(None, interval=0.03), [stage], [sink], live=True)
    print("stopped", report.stopped)


if __name__ == "__main__":
    main()

"""Live behaviour from a paced stream on loopback: age, drops and memory under overload, and what an outage costs.

    python benchmarks/live.py [CLIP] [--seconds 60] [--slow STAGE=SECONDS] [--outage] [--size 1280x720] [--rate 30] [--json FILE]

A process of its own (ffmpeg) sends the clip over and over, encoded beforehand and paced by its time stamps, as MPEG-TS over UDP.
Age is read-to-result: from the packet's arrival until the result has been written. With --slow one stage sleeps as long in every frame;
the bound is twice the sum of the mean stage times. With --outage the sender is killed in the middle and started again 1 s later.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from rtpose.app import Networks, make_stages
from rtpose.bench import about
from rtpose.pipeline import Control, Stage, run, stage_name
from rtpose.settings import Settings
from rtpose.source import open_source
from rtpose.types import Result


def prepare(clip: Path, folder: Path, size: str, rate: int) -> Path:
    """The clip as H.264 with the wanted size and rate, at least ten seconds of it, encoded once."""
    path = folder / "stream.ts"
    width, height = size.split("x")
    fit = f"fps={rate},scale={width}:{height}:force_original_aspect_ratio=decrease,pad={width}:{height}:-1:-1,setsar=1"
    encode = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-g", str(rate), "-pix_fmt", "yuv420p", "-an"]
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-stream_loop", "-1", "-t", "20", "-i", str(clip), "-vf", fit, *encode, str(path)],
        check=True,
    )
    return path


class Sender:
    """ffmpeg, sending the prepared clip over and over at its own pace."""

    def __init__(self, clip: Path, port: int) -> None:
        self._command = ["ffmpeg", "-v", "quiet", "-re", "-stream_loop", "-1", "-i", str(clip), "-c", "copy", "-f", "mpegts"]
        self._command.append(f"udp://127.0.0.1:{port}?pkt_size=1316")
        self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Watch:
    """A sink that notes the age of every result, who is there, and the process's memory."""

    name, latest, main_thread = "watch", False, False

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, tuple[int, ...]]] = []
        self.memory: list[int] = []

    def write(self, result: Result) -> None:
        now = time.monotonic_ns()
        self.rows.append((now * 1e-9, (now - result.frame.arrival) * 1e-9, tuple(result.people.ids.tolist())))
        if len(self.rows) % 50 == 1:
            self.memory.append(psutil.Process().memory_info().rss)

    def close(self) -> None:
        pass


def slowed(stage: Stage, seconds: float) -> Stage:
    def slow(result: Result) -> Result:
        time.sleep(seconds)
        return stage(result)

    slow.__name__ = stage_name(stage)
    return slow


def at(seconds: float, action: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--slow", help="STAGE=SECONDS")
    parser.add_argument("--outage", action="store_true")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--rate", type=int, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        folder = Path(name)
        clip = options.clip
        if clip is None:
            clip = folder / "demo.mp4"
            maker = Path(__file__).parent.parent / "scripts" / "make_demo_clip.py"
            subprocess.run(["python3", str(maker), str(clip)], check=True)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        row = measure(prepare(clip, folder, options.size, options.rate), port, options)
    print(json.dumps(row, indent=2))
    if options.json:
        options.json.write_text(json.dumps(row, indent=2) + "\n")


def measure(clip: Path, port: int, options: argparse.Namespace) -> dict[str, object]:
    sender = [Sender(clip, port)]
    control, watch = Control(), Watch()
    outage: dict[str, float] = {}
    try:
        source = open_source(f"udp://127.0.0.1:{port}")
        stages = make_stages(Networks(Settings(), source.info), source.info)
        slow, _, seconds = (options.slow or "").partition("=")
        if slow and slow not in [stage_name(s) for s in stages]:
            raise SystemExit(f"no stage {slow!r}: {', '.join(stage_name(s) for s in stages)}")
        stages = [slowed(s, float(seconds)) if stage_name(s) == slow else s for s in stages]
        if options.outage:

            def kill() -> None:
                sender[0].kill()
                outage["killed"] = time.monotonic()

            def restart() -> None:
                sender[0] = Sender(clip, port)
                outage["restarted"] = time.monotonic()

            at(options.seconds / 2, kill)
            at(options.seconds / 2 + 1, restart)
        at(options.seconds, control.stop)
        report = run(source, stages, [watch], live=True, control=control)
    finally:
        sender[0].kill()
    # The first seconds are the networks' and numba's warming up.
    ages = np.array([age for when, age, _ in watch.rows if when - watch.rows[0][0] > 2])
    total = sum(s.compute / s.calls for s in report.stages[1:] if s.calls)
    row: dict[str, object] = {
        **about(),
        "size": options.size,
        "rate": options.rate,
        "seconds": options.seconds,
        "slow": options.slow,
        "read": report.read,
        "frames": report.frames,
        "dropped": report.dropped,
        "mean_stage_ms": {s.name: round(1e3 * s.compute / s.calls, 2) for s in report.stages if s.calls},
        "age_ms": {f"p{p}": round(1e3 * float(np.percentile(ages, p)), 1) for p in (50, 95, 99)},
        "age_bound_ms": round(2e3 * total, 1),
        "age_p95_ms_by_tenth": [round(1e3 * float(np.percentile(part, 95)), 1) for part in np.array_split(ages, 10)],
        "memory_mb": [round(m / 1e6) for m in watch.memory[:: max(1, len(watch.memory) // 10)]],
    }
    if outage:
        before = [ids for when, _, ids in watch.rows if when < outage["killed"]][-1]
        after = [(when, ids) for when, _, ids in watch.rows if when > outage["restarted"] and ids]
        row["outage"] = {
            "tracked_again_s": round(after[0][0] - outage["restarted"], 2) if after else None,
            "ids_before": before,
            "ids_after": after[0][1] if after else None,
        }
    return row


if __name__ == "__main__":
    main()

"""Long files: what memory depends on, whether the rate stays, and whether a killed run goes on as if it had not been killed.

    python benchmarks/long.py [CLIP] [--minutes 20] [--short 5] [--rate 5] [--seed N] [--options='...'] [--json FILE]

CLIP (by default the bundled reference clip) is coded at a low rate, so that minutes cost little, and looped by ffmpeg, which copies its
packets. `rtpose` runs over the loop as over any file: refined, with --save and --out. Memory is the largest resident set of the process;
the causal pass is counted by the lines of its spool. Then the longer run is killed (SIGKILL) at a random time and resumed, and its files
are compared with those of the whole run: data byte by byte, of the video every decoded frame and its time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import numpy as np
from rich.console import Console
from rich.table import Table

from rtpose.bench import about
from rtpose.reference import CLIP
from rtpose.sinks.data import SPOOL

LOOK = 0.2
"""Seconds between two looks at a run."""


def looped(clip: Path, minutes: float, rate: int, folder: Path) -> Path:
    """The clip at so many frames a second, over and over."""
    once, path = folder / "once.mp4", folder / f"{minutes:g}.mp4"
    ffmpeg = ["ffmpeg", "-v", "error", "-y"]
    subprocess.run([*ffmpeg, "-i", str(clip), "-vf", f"fps={rate}", "-c:v", "libx264", "-an", str(once)], check=True)
    loop = ["-stream_loop", "-1", "-i", str(once), "-t", str(60 * minutes), "-c", "copy", str(path)]
    subprocess.run([*ffmpeg, *loop], check=True)
    return path


@dataclass(frozen=True)
class Run:
    """What a run over a file writes, and how it went: seconds, MB at most, lines of the spool over time, exit status."""

    save: Path
    out: Path
    seconds: float
    peak: float
    spooled: list[tuple[float, int]]
    code: int

    def rates(self, parts: int = 4) -> list[float]:
        """Frames a second of the causal pass in equal parts of its time, its start left out."""
        times, lines = np.array([(t, n) for t, n in self.spooled if n > 1]).T
        return list(np.diff(np.interp(np.linspace(times[0], times[-1], parts + 1), times, lines)) / (np.ptp(times) / parts))


def run(video: Path, folder: Path, *options: str, until: float = np.inf) -> Run:
    """Run rtpose over the video into the folder; kill it after so many seconds."""
    folder.mkdir(exist_ok=True)
    save, out = folder / "x.jsonl", folder / "x.mp4"
    begin, lines, place = time.monotonic(), 0, 0
    spooled: list[tuple[float, int]] = []
    command = [sys.executable, "-m", "rtpose", str(video), "--save", str(save), "--out", str(out), *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while True:
        done, status, used = os.wait4(process.pid, os.WNOHANG)
        seconds = time.monotonic() - begin
        if done:
            return Run(save, out, seconds, used.ru_maxrss / 1024, spooled, os.waitstatus_to_exitcode(status))
        if seconds > until:
            process.kill()
        spool = save.with_name(save.name + SPOOL)
        if spool.exists():
            with open(spool, "rb") as file:
                file.seek(place)
                new = file.read()
            place, lines = place + len(new), lines + new.count(b"\n")
            spooled.append((seconds, lines))
        time.sleep(LOOK)


def decoded(path: Path) -> Iterator[tuple[int, bytes]]:
    """The time and the picture of every frame."""
    with av.open(f"file:{path}") as container:
        for frame in container.decode(video=0):
            yield frame.pts, frame.to_ndarray().tobytes()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for minutes in (options.short, options.minutes):
        video = looped(options.clip, minutes, options.rate, folder)
        whole = run(video, folder / f"{minutes:g}", *options.options)
        frames = whole.save.read_bytes().count(b"\n") - 1
        rows[f"{minutes:g} minutes"] = {
            "frames": frames,
            "seconds": whole.seconds,
            "fps": frames / whole.seconds,
            "peak_mb": whole.peak,
            "causal_fps_by_quarter": whole.rates(),
        }
    short, long = (rows[f"{minutes:g} minutes"]["peak_mb"] for minutes in (options.short, options.minutes))
    chance = random.Random(options.seed)
    killed = run(video, folder / "again", *options.options, until=chance.uniform(0.1, 0.9) * whole.seconds)
    resumed = run(video, folder / "again", *options.options, "--resume")
    return rows | {
        "peak, long over short": long / short,
        "killed": {"seconds": killed.seconds, "code": killed.code, "spooled": killed.spooled[-1][1] if killed.spooled else 0},
        "resumed": {"seconds": resumed.seconds, "code": resumed.code, "peak_mb": resumed.peak},
        "data byte-identical": resumed.save.read_bytes() == whole.save.read_bytes(),
        "video frames and times identical": all(a == b for a, b in zip_longest(decoded(resumed.out), decoded(whole.out))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", default=CLIP)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--short", type=float, default=5)
    parser.add_argument("--rate", type=int, default=5, help="frames a second of the loop")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 16), help="of the time at which the run is killed")
    parser.add_argument("--options", type=shlex.split, default=[], help="of rtpose, as one word: --options='--threads 1'")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options, Path(folder))
    table = Table("", "", title=f"{options.clip.name} looped, {options.rate} frames a second, seed {options.seed}")
    for name, row in rows.items():
        table.add_row(name, json.dumps(row) if isinstance(row, dict) else f"{row:.3f}" if isinstance(row, float) else str(row))
    Console().print(table)
    if options.json is not None:
        said = {"clip": options.clip.name, "rate": options.rate, "options": options.options, "seed": options.seed, "rows": rows}
        options.json.write_text(json.dumps(about() | said, indent=1) + "\n")


if __name__ == "__main__":
    main()

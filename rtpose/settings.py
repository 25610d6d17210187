"""What a run can be told: plain values, so that the command line can show their defaults without loading anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from .errors import InputError
from .scope import check_region, check_tiles, people_of

Deinterlace = Literal["auto", "on", "off"]
"""Which frames of a video are deinterlaced: those that are marked as interlaced, all, none."""


def check_deinterlace(mode: str) -> None:
    """Raise InputError for what is none of `Deinterlace`."""
    if mode not in get_args(Deinterlace):
        raise InputError(f"--deinterlace {mode}: give {', '.join(get_args(Deinterlace))}")


@dataclass(frozen=True)
class Settings:
    """What a run is made of; the defaults are what `rtpose SOURCE` uses.

    detector, keypoints, ankles, lifter: names of networks; ankles and lifter may be "none". lifter "hmr" takes a checkpoint (a file) and an
    SMPL file as body_model, and looks at every lifter_every-th frame. threads is the budget of all networks
    together (0: the processors this process may use). detect_every and keypoints_every are in frames (detect_every None: five times
    a second by the frames' times).
    max_people bounds the people tracked at a time. track: who is in the outputs: "all", "main", or numbers ("1,4"). region: where
    people are looked for, "X0,Y0,X1,Y1" in px or percentages of the picture (None: everywhere). tiles: in how many overlapping parts the
    detector looks besides ("1": none; "auto", "6", "3x2"). min_pose_score and min_keypoint_score: people and keypoints of less
    confidence (the keypoint network's own) are dropped. cuts: "auto", or "none": a refined file is one shot. focal (px of the height),
    fov (degrees across the longer side), calibration (a file): at most one, the camera for bodies. body_model: an SMPL file in place of
    the bundled body. target_fps, max_latency (seconds): a live run that misses them does less, step by step. deinterlace: of the source
    "auto" what is marked as interlaced, "on" every frame, "off" none. allow_playlists: a local file may be one that makes rtpose open
    other files and addresses.
    """

    detector: str = "nanodet"
    keypoints: str = "movenet-thunder"
    ankles: str = "default"
    lifter: str = "lifter"
    checkpoint: Path | None = None
    lifter_every: int = 1
    backend: str = "auto"
    precision: str = "auto"
    threads: int = 0
    detect_every: int | None = None
    keypoints_every: int = 1
    max_people: int = 40
    track: str = "all"
    cuts: str = "auto"
    region: str | None = None
    tiles: str = "1"
    min_pose_score: float = 0.0
    min_keypoint_score: float = 0.0
    focal: float | None = None
    fov: float | None = None
    calibration: Path | None = None
    body_model: Path | None = None
    target_fps: float = 20.0
    max_latency: float = 0.25
    deinterlace: str = "auto"
    allow_playlists: bool = False

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise InputError(f"--threads {self.threads}: give 1 or more, or 0 for every processor")
        if self.detect_every is not None and self.detect_every < 1:
            raise InputError(f"--detect-every {self.detect_every}: give 1 or more")
        if self.keypoints_every < 1:
            raise InputError(f"--keypoints-every {self.keypoints_every}: give 1 or more")
        if self.lifter_every < 1:
            raise InputError(f"--lifter-every {self.lifter_every}: give 1 or more")
        hmr = self.lifter == "hmr"
        if hmr and (self.checkpoint is None or self.body_model is None):
            raise InputError("--lifter hmr needs files of yours: --checkpoint FILE (SPIN's) and --body-model FILE (SMPL's)")
        if not hmr and (self.checkpoint is not None or self.lifter_every != 1):
            raise InputError(f"--checkpoint and --lifter-every go with --lifter hmr, not with --lifter {self.lifter}")
        for option, given in (
            ("--focal", self.focal),
            ("--fov", self.fov),
            ("--calibration", self.calibration),
            ("--body-model", self.body_model),
        ):
            if given is not None and self.lifter == "none":
                raise InputError(f"{option} is for bodies, and --lifter none makes none: leave one of them out")
        if self.target_fps <= 0:
            raise InputError(f"--target-fps {self.target_fps:g}: give more than 0")
        if self.max_latency <= 0:
            raise InputError(f"--max-latency {1e3 * self.max_latency:g}: give more than 0")
        check_deinterlace(self.deinterlace)
        if self.max_people < 1:
            raise InputError(f"--max-people {self.max_people}: give 1 or more")
        people_of(self.track)
        if self.cuts not in ("auto", "none"):
            raise InputError(f"--cuts {self.cuts}: give auto or none")
        check_tiles(self.tiles)
        if self.region is not None:
            check_region(self.region)
        for option, score in (("--min-pose-score", self.min_pose_score), ("--min-keypoint-score", self.min_keypoint_score)):
            if not 0 <= score <= 1:
                raise InputError(f"{option} {score:g}: give a confidence from 0 to 1")


def changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """The settings with other values for the fields that `changes` names. Raises InputError for what is no field, or no value of one."""
    names = [field.name for field in fields(Settings)]
    for name in changes:
        if name not in names:
            close = get_close_matches(name, names, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
            raise InputError(f"unknown setting {name}: {hint}")
    return replace(settings, **changes)


PARTS = ("mesh", "boxes", "ids", "skeleton", "legend")
"""What can be drawn into pictures, in the order in which it is."""


def parts_named(names: str | None) -> frozenset[str]:
    """The parts that a list such as "skeleton,mesh" names; None: all. Raises InputError for an unknown one, and for none."""
    if names is None:
        return frozenset(PARTS)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise InputError(f"--draw names nothing: choose some of {','.join(PARTS)}")
    for name in wanted:
        if name not in PARTS:
            raise InputError(f"--draw {names}: there is no {name!r}; choose some of {','.join(PARTS)}")
    return frozenset(wanted)


@dataclass(frozen=True)
class Outputs:
    """Where results go: an overlay video (or a folder of pictures), a data file, a window (None: for live sources with a display).

    screenshot: where the last view of the bodies is written, which needs no display. resume: take up again what an earlier run into
    `save` left. export: formats that the results are written in
    at the end, into the folder export_dir (see `rtpose.export`), people who are seen for less than min_duration seconds left out. draw:
    which of `PARTS` are drawn. mirror: the window and the screenshot show the picture as a mirror does; files do not.
    """

    out: str | None = None
    save: str | None = None
    view: bool | None = None
    screenshot: Path | None = None
    overwrite: bool = False
    resume: bool = False
    export: tuple[str, ...] = ()
    export_dir: Path | None = None
    draw: frozenset[str] = frozenset(PARTS)
    mirror: bool = False
    min_duration: float | None = None

    def check_drawn(self, *, view: bool) -> None:
        """Raise InputError for --draw or --mirror where nothing is drawn or shown. view: whether a window is opened."""
        shown = view or self.screenshot is not None
        if self.mirror and not shown:
            raise InputError("--mirror is for what is shown, files are not mirrored: say --view, or leave it out")
        if self.draw != frozenset(PARTS) and not shown and self.out is None:
            raise InputError(
                "--draw chooses what is drawn, and nothing is: say --out (for batch --overlay) or --view, or leave it out"
            )

    def __post_init__(self) -> None:
        if bool(self.export) != (self.export_dir is not None):
            raise InputError("--export FORMAT... and --out-dir FOLDER belong together: give both")
        if self.min_duration is not None and not self.export:
            raise InputError("--min-duration chooses whom --export writes: say --export FORMAT..., too")
        if self.export and self.save == "-":
            raise InputError("--export reads the results again: give --save a file, or leave it out")
        if self.export_dir is not None and self.save is None:
            object.__setattr__(self, "save", str(self.export_dir / "run.jsonl"))
        if self.resume and self.save in (None, "-"):
            raise InputError("--resume goes on from what --save FILE has: give it a file")

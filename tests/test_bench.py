"""`rtpose bench`: what it measures is what ran, and what it writes can be read again."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rtpose.bench import LEAST, SWEEPS, Crowd, Loop, _long, bound, case_table, cases, loop_cost, measure, read
from rtpose.bench_page import page
from rtpose.errors import InputError
from rtpose.reference import CLIP
from rtpose.settings import Settings
from rtpose.source import open_source

FAST = Settings(lifter="none", detect_every=30)


def test_the_bound_is_the_slowest_stage_or_the_cores() -> None:
    assert bound(10.0, 12.0, 4) == pytest.approx(100.0)
    assert bound(10.0, 40.0, 2) == pytest.approx(50.0)


def test_a_loop_numbers_and_times_its_frames_on() -> None:
    frames = list(Loop(lambda: open_source(CLIP), 4.0).frames())
    times = np.array([frame.time for frame in frames])
    assert [frame.index for frame in frames] == list(range(120))
    assert np.diff(times) == pytest.approx(1 / 30, abs=1e-3)
    assert (frames[90].image == frames[0].image).all()


@pytest.mark.parametrize("people", [1, 4, 12])
def test_a_crowd_shows_so_many_people(people: int) -> None:
    frame = next(iter(Crowd(people, 1).frames()))
    tiles = frame.image.reshape(2, 360, 1280, 3)[:, :, : 6 * 213].reshape(2, 360, 6, 213, 3)
    assert sum(bool((tiles[r, :, c] != 127).any()) for r in range(2) for c in range(6)) == people


def test_a_short_source_is_gone_through_again_and_a_long_one_is_not() -> None:
    assert sum(1 for _ in _long(lambda: open_source(CLIP)).frames()) == LEAST
    assert sum(1 for _ in _long(lambda: Crowd(1, LEAST + 5)).frames()) == LEAST + 5


def test_every_sweep_has_cases_and_an_unknown_one_is_refused() -> None:
    for sweep in SWEEPS:
        assert [case for case in cases("clip.mp4", FAST, (sweep,), 1.0, 1) if case.name.startswith(f"{sweep} ")]
    with pytest.raises(InputError, match="unknown sweep"):
        cases("clip.mp4", FAST, ("colour",), 1.0, 1)


def test_offline_and_live_rows_say_what_ran(tmp_path: Path) -> None:
    offline, live = (measure(case) for case in cases(str(CLIP), FAST, (), 1.0, 1))
    assert offline["source"] == live["source"] == CLIP.name, "no path of this machine"
    assert (offline["mode"], offline["read"], offline["frames"], offline["dropped"]) == ("offline", LEAST, LEAST, {})
    assert offline["bottleneck"] in [stage["name"] for stage in offline["stages"]]
    assert offline["bound_fps"] > 0
    assert {network["precision"] for network in offline["networks"].values()} <= {"f32", "bf16", "f16", "int8"}
    assert live["read"] == 30
    assert live["frames"] + live["dropped"]["entrance"] == live["read"]
    assert live["age"]["p50"] <= live["age"]["p95"] <= live["age"]["p99"]
    assert live["display"] is not None

    about = {"date": "", "host": {"cores": 2}, "versions": {}, "first_result_s": {"cold": 2, "warm": 1}, "loop_us": 100}
    result = {**about, "rows": [offline, live, {"name": "precision int8", "cannot": "why"}]}
    saved = tmp_path / "bench.json"
    saved.write_text(json.dumps(result))
    before = {row["name"]: row for row in read(saved)["rows"]}
    text = io.StringIO()
    Console(file=text, width=200).print(case_table(result["rows"], before))
    assert re.search(r"offline .* 1\.00 +1\.00", text.getvalue())
    html = page(result)
    assert html.count("<rect") >= 2 * 3 * len(offline["stages"])
    assert not re.search(r"(src|href)=", html)


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    for text in ("{}", "[]", "no"):
        path = tmp_path / "other.json"
        path.write_text(text)
        with pytest.raises(InputError, match="no result of rtpose bench"):
            read(path)


def test_the_loop_itself_costs_something() -> None:
    assert 0 < loop_cost(frames=50) < 1e5

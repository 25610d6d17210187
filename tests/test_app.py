"""Whole runs from Python: the same bytes twice, threads equal to the loop, and loops that may be left."""

from __future__ import annotations

import gc
import inspect
import threading
import weakref
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import pytest

import rtpose
from rtpose.app import Networks, make_sinks, make_stages, process, with_preset
from rtpose.errors import InputError
from rtpose.pipeline import run, run_inline
from rtpose.settings import Outputs, Settings
from rtpose.source import SourceInfo, open_source

from .conftest import REPOSITORY


def lines_of(clip: Path, path: Path, runner, **settings) -> bytes:
    source = open_source(str(clip))
    networks = Networks(Settings(threads=2, **settings), source.info)
    sinks = make_sinks(Outputs(save=str(path), view=False), networks, source.info, live=False)
    runner(source, make_stages(networks, source.info), sinks)
    return path.read_bytes()


def test_the_same_bytes_twice_and_from_the_plain_loop(person_clip: Path, tmp_path: Path) -> None:
    first = lines_of(person_clip, tmp_path / "a.jsonl", run)
    assert first == lines_of(person_clip, tmp_path / "b.jsonl", run)
    assert first == lines_of(person_clip, tmp_path / "c.jsonl", run_inline)
    assert first.count(b"\n") > 10


def test_the_same_bytes_with_tiles_in_a_region_of_the_main_people(person_clip: Path, tmp_path: Path) -> None:
    chosen = {"lifter": "none", "track": "main", "region": "10%,0,95%,100%", "tiles": "2x1"}
    first = lines_of(person_clip, tmp_path / "a.jsonl", run, **chosen)
    assert first == lines_of(person_clip, tmp_path / "b.jsonl", run_inline, **chosen)
    assert b'"id":1' in first


def test_who_is_followed_in_every_output(person_clip: Path, tmp_path: Path) -> None:
    save = tmp_path / "a.jsonl"
    kept = Outputs(save=str(save), view=False, overwrite=True)
    everybody = Settings(lifter="none")
    assert process(str(person_clip), everybody, kept) == 0
    whole = save.read_bytes().split(b"\n", 1)[1]
    assert process(str(person_clip), replace(everybody, track="1"), kept) == 0
    assert save.read_bytes().split(b"\n", 1)[1] == whole
    with pytest.raises(InputError, match="other settings"):
        process(str(person_clip), replace(everybody, track="2"), replace(kept, overwrite=False, resume=True))
    for refine in (True, False):
        results = list(rtpose.track(person_clip, refine=refine, lifter="none", track="2"))
        assert [len(result.people) for result in results] == [0] * 30
    with pytest.raises(InputError, match="--region 0,0,700,480 is not in the picture, which has 640x480 px"):
        next(rtpose.track(person_clip, region="0,0,700,480"))


def test_settings_of_track_are_in_its_signature_and_checked_at_once(tmp_path: Path) -> None:
    shown = inspect.signature(rtpose.track).parameters
    assert {"tiles", "max_people", "fov"} < set(shown)
    assert shown["max_people"].default == rtpose.Settings.max_people
    with pytest.raises(InputError, match="unknown setting max_peple: did you mean max_people"):
        rtpose.track(tmp_path, max_peple=3)
    with pytest.raises(InputError, match="unknown setting speed: there are detector, keypoints"):
        rtpose.track(tmp_path, speed=3)
    with pytest.raises(InputError, match="--max-people 0"):
        rtpose.track(tmp_path, settings=rtpose.Settings(lifter="none"), max_people=0)


def test_every_setting_is_in_its_table() -> None:
    table = (REPOSITORY / "docs" / "settings.md").read_text()
    assert [field.name for field in fields(rtpose.Settings) if f"`{field.name}`" not in table] == []


def test_a_run_that_is_over_leaves_no_network_in_memory(person_clip: Path) -> None:
    source = open_source(str(person_clip))
    stages = make_stages(Networks(Settings(), source.info), source.info)
    source.close()
    alive = [weakref.ref(stage) for stage in stages]
    gc.disable()  # which would clear away what refers to itself, at some time
    try:
        del stages
        assert [stage() for stage in alive] == [None] * len(alive)
    finally:
        gc.enable()


def test_track_yields_every_frame(person_clip: Path) -> None:
    results = list(rtpose.track(person_clip))
    assert [r.frame.index for r in results] == list(range(len(results)))
    assert {tuple(r.people.ids.tolist()) for r in results[10:]} == {(1,)}


def test_track_refines_what_the_command_refines(person_clip: Path, tmp_path: Path) -> None:
    save = tmp_path / "a.jsonl"
    assert process(str(person_clip), Settings(), Outputs(save=str(save), view=False)) == 0
    header, records = rtpose.read_results(save)
    assert header.mode == "refined"
    results = list(rtpose.track(person_clip, refine=True))
    assert len(results) == 30
    for result, record in zip(results, records, strict=True):
        assert result.frame.image.shape == (480, 640, 3)
        assert result.frame.index == record.frame
        assert (result.people.keypoints == record.people.keypoints).all()
        assert (result.bodies.joints3d == record.bodies.joints3d).all()
    with pytest.raises(InputError, match="cannot be refined"):
        next(rtpose.track(person_clip, refine=True, live=True))


@pytest.mark.parametrize("refine", [False, True])
def test_track_logs_what_the_command_notes(refine: bool, caplog: pytest.LogCaptureFixture) -> None:
    two_people = Path(rtpose.__file__).parent / "reference" / "clip.mp4"
    assert len(list(rtpose.track(two_people, refine=refine, lifter="none", max_people=1))) == 90
    (said,) = [record.getMessage() for record in caplog.records if "--max-people 1 was met in" in record.getMessage()]
    assert said.endswith("frames: give more to follow everybody")


def test_leaving_the_loop_ends_the_run(person_clip: Path) -> None:
    for result in rtpose.track(person_clip):
        if result.frame.index == 3:
            break
    assert not [t for t in threading.enumerate() if t.name.startswith("rtpose-")]


def test_track_refuses_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        next(rtpose.track(tmp_path / "nothing.mp4"))


def test_the_papers_preset_takes_hmr_where_there_is_a_checkpoint() -> None:
    chosen = {"detector": "nanodet"}
    assert with_preset("paper", chosen, checkpoint=Path("spin.pt"))["lifter"] == "hmr"
    assert "lifter" not in with_preset("paper", chosen)
    assert with_preset("paper", {**chosen, "lifter": "none"}, checkpoint=Path("spin.pt"))["lifter"] == "none"


def test_only_auto_follows_people_in_eight_bits() -> None:
    info = SourceInfo("", 64, 64, Fraction(30), Fraction(1, 30))
    networks = Networks(Settings(lifter="none"), info)
    native = networks.keypoints.precision == "bf16"
    assert networks.describe()["precision"] == ("bf16+int8" if native else "f32")
    assert Networks(Settings(lifter="none", precision="f32"), info).describe()["precision"] == "f32"

"""From a spool to refined results, on people whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rtpose import refine as package
from rtpose.backends import open_session
from rtpose.body.model import Lifted, load_body
from rtpose.errors import InputError
from rtpose.models import find
from rtpose.refine import Summary, refine
from rtpose.settings import Settings
from rtpose.sinks.data import Provenance, Record, read_results
from rtpose.sinks.spool import Shots, SpoolSink
from rtpose.source import SourceInfo
from rtpose.stages.lift import Lifter, Network
from rtpose.stages.smooth import Smoother
from rtpose.types import F32, F64, U8, Frame, People, Result, Status

from ..stages.test_lift import CAMERA, FPS, HEIGHT, WIDTH, about_hips, seen, walk

INFO = SourceInfo("made up", WIDTH, HEIGHT, Fraction(30), Fraction(1, 90_000))
IMAGE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
LIMBS = slice(5, 17)


def somebody(identity: int, keypoints: F32) -> People:
    low, high = keypoints[:, :2].min(0), keypoints[:, :2].max(0)
    return People(
        np.array([identity]),
        np.concatenate([low, high])[None],
        np.full(1, 0.9),
        keypoints[None],
        np.full((1, 17), Status.MEASURED),
        keypoints[None],
    )


def results(keypoints: F32, times: F64, absent: range = range(0)) -> list[Result]:
    """One person, number 4, who is not seen in some frames."""
    return [
        Result(Frame(i, t, IMAGE, 0), people=People.none() if i in absent else somebody(4, keypoints[i]))
        for i, t in enumerate(times.tolist())
    ]


def refined(
    folder: Path,
    frames: list[Result],
    cut: int | None = None,
    *,
    lifted: Lifted | None = None,
    network: Network | None = None,
    track: str = "all",
) -> list[Record]:
    spool, out = folder / "x.jsonl.partial", folder / "x.jsonl"
    sink = SpoolSink(spool, INFO, Provenance(lifted=lifted), overwrite=True)
    for frame in frames:
        sink.write(frame)
    sink.close()
    if cut is not None:
        lines = spool.read_text().splitlines(keepends=True)
        lines[cut + 3] = lines[cut + 3].replace("}\n", f',"cuts":[{cut}]}}\n')
        spool.write_text("".join(lines))
    refine(spool, out, lifted=lifted, network=network, track=track)
    header, records = read_results(out)
    assert header.mode == "refined"
    return list(records)


def two(first: People, second: People) -> People:
    arrays = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in People.__slots__}
    return People(**arrays)


def test_only_who_is_followed_is_refined_and_keeps_the_number(tmp_path: Path) -> None:
    points, times = walk(load_body(), 120), np.arange(120) / FPS
    walking, standing = seen(points), np.tile(seen(points)[:1], (120, 1, 1))
    standing[:, :, 0] += 150
    frames = [
        replace(result, people=two(somebody(2, standing[i]), result.people)) for i, result in enumerate(results(walking, times))
    ]
    everybody = refined(tmp_path, frames)
    assert [r.people.ids.tolist() for r in everybody] == [[1, 2]] * 120
    for track, people in (("main", [2]), ("2", [2]), ("1,7", [1]), ("7", [])):
        chosen = refined(tmp_path, frames, track=track)
        assert [r.people.ids.tolist() for r in chosen] == [people] * 120
        for some, every in zip(chosen, everybody, strict=True):
            kept = np.isin(every.people.ids, people)
            assert (some.people.keypoints == every.people.keypoints[kept]).all()
    spool = tmp_path / "x.jsonl.partial"
    summary = refine(spool, tmp_path / "x.jsonl", track="1,7,9")
    assert (summary.people, summary.missing) == (1, [7, 9])
    assert str(summary).endswith("nobody has the number 7 or 9")


def errors(records: list[Record], truth: F64) -> F64:
    return np.array([np.linalg.norm(r.people.keypoints[0, LIMBS, :2] - truth[r.frame, LIMBS], axis=-1).mean() for r in records])


def test_keypoints_are_calmer_and_nearer_than_causally(tmp_path: Path) -> None:
    points = walk(load_body(), 120)
    truth, times = CAMERA.project(points[:, :17]), np.arange(120) / FPS
    smoother = Smoother()
    causal = [smoother(result) for result in results(seen(points, 4.0), times)]
    records = refined(tmp_path, causal)
    before = np.mean([np.linalg.norm(r.people.keypoints[0, LIMBS, :2] - truth[r.frame.index, LIMBS], axis=-1) for r in causal])
    assert errors(records, truth).mean() < 0.7 * before
    assert {tuple(r.people.ids) for r in records} == {(1,)}
    assert (records[50].people.raw == np.round(causal[50].people.raw.astype(float), 2).astype(np.float32))[..., :2].all()


def test_a_short_gap_is_bridged_and_marked_and_a_long_one_is_not(tmp_path: Path) -> None:
    points = walk(load_body(), 150)
    truth, times = CAMERA.project(points[:, :17]), np.arange(150) / FPS
    short = refined(tmp_path, results(seen(points), times, range(40, 52)))
    assert all(len(r.people) == 1 for r in short)
    predicted = [r.frame for r in short if (r.people.status == Status.PREDICTED).all()]
    assert predicted == list(range(40, 52))
    assert errors(short[40:52], truth).max() < 15
    assert short[45].people.scores[0] < short[20].people.scores[0]
    assert (short[45].people.raw[..., 2] == 0).all()
    long = refined(tmp_path, results(seen(points), times, range(40, 90)))
    assert [r.frame for r in long if len(r.people) == 0] == list(range(40, 90))
    assert {i for r in long for i in r.people.ids.tolist()} == {1}


def test_a_joint_that_nobody_saw_is_predicted(tmp_path: Path) -> None:
    points = walk(load_body(), 90)
    keypoints = seen(points)
    keypoints[40:50, 9] = 0, 0, 0.01
    records = refined(tmp_path, results(keypoints, np.arange(90) / FPS))
    truth = CAMERA.project(points[:, 9])
    for r in records[40:50]:
        assert r.people.status[0, 9] == Status.PREDICTED
        assert np.linalg.norm(r.people.keypoints[0, 9, :2] - truth[r.frame]) < 25
    assert {s for r in records[:38] for s in r.people.status.ravel().tolist()} == {Status.MEASURED}


def test_nothing_crosses_a_cut(tmp_path: Path) -> None:
    points = walk(load_body(), 80)
    keypoints = seen(points)
    keypoints[40:, :, 0] += 200
    records = refined(tmp_path, results(keypoints, np.arange(80) / FPS), cut=40)
    assert [r.people.ids.tolist() for r in records] == [[1]] * 40 + [[2]] * 40
    truth = CAMERA.project(points[:, :17])
    truth[40:, :, 0] += 200
    assert errors(records, truth).max() < 4
    assert b'"cut":true' in (tmp_path / "x.jsonl").read_bytes().splitlines()[41]


def test_real_times_count_not_frames(tmp_path: Path) -> None:
    points = walk(load_body(), 200)
    kept = np.sort(np.random.default_rng(0).choice(200, 140, replace=False))
    truth = CAMERA.project(points[kept, :17])
    records = refined(tmp_path, results(seen(points, 4.0)[kept], kept / FPS))
    assert errors(records, truth).mean() < 4


def test_windows_leave_no_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = results(seen(walk(load_body(), 300), 3.0), np.arange(300) / FPS, range(95, 105))
    whole = refined(tmp_path, frames)
    monkeypatch.setattr(package, "WINDOW", 50)
    parts = refined(tmp_path, frames)
    assert [r.frame for r in parts] == list(range(300))
    for a, b in zip(whole, parts, strict=True):
        assert np.abs(a.people.keypoints - b.people.keypoints).max() < 0.05


def test_bodies_know_the_future(tmp_path: Path) -> None:
    body = load_body()
    network = open_session(find("lifter", "lifter").path, precision="f32", threads=1)
    lifted = Lifted(body, lambda width, height: CAMERA)
    times = np.arange(150) / FPS
    before, after = [], []
    for yaw in 0.4 + np.pi / 2 * np.arange(4):  # towards the camera, away from it, and across the picture both ways
        points = walk(body, 150, yaw=yaw)
        lifter = Lifter(body, network, lifted.camera)
        causal = [lifter(result) for result in results(seen(points, 3.0), times)]
        frames = [replace(result, people=People.none(), bodies=lifter(Result(result.frame)).bodies) for result in causal[70:75]]
        records = refined(tmp_path, [*causal[:70], *frames, *causal[75:]], lifted=lifted, network=network)
        truth = about_hips(points)[:, LIMBS]

        def misses(places: F64, truth: F64 = truth) -> tuple[float, float]:
            off = about_hips(places)[:, LIMBS] - truth
            return np.linalg.norm(off, axis=-1).mean(), np.linalg.norm(np.diff(off, 2, axis=0), axis=-1).mean()

        before.append(misses(np.array([r.bodies.joints3d[0] for r in causal if r.bodies is not None], float)))
        after.append(misses(np.array([r.bodies.joints3d[0] for r in records if r.bodies is not None], float)))
        assert after[-1][1] < min(0.004, before[-1][1] / 3)
        shapes = np.array([r.bodies.betas[0] for r in records if r.bodies is not None])
        assert len(shapes) == 150
        assert (shapes == shapes[0]).all()
    assert np.mean(after, 0)[0] < np.mean(before, 0)[0]


def test_the_same_bytes_twice_and_only_from_a_spool(tmp_path: Path) -> None:
    frames = results(seen(walk(load_body(), 60), 3.0), np.arange(60) / FPS)
    refined(tmp_path, frames)
    first = (tmp_path / "x.jsonl").read_bytes()
    refined(tmp_path, frames)
    assert (tmp_path / "x.jsonl").read_bytes() == first
    (tmp_path / "other").write_text("something else\n")
    with pytest.raises(InputError, match="no results"):
        refine(tmp_path / "other", tmp_path / "y.jsonl")
    assert not (tmp_path / "y.jsonl").exists()


def test_shots() -> None:
    rng = np.random.default_rng(1)
    first, second = (np.repeat(np.repeat(rng.integers(0, 255, (12, 40, 3), np.uint8), 20, 0), 20, 1) for _ in range(2))
    pan = [first[:, 6 * i : 6 * i + 320] for i in range(30)]
    still = [second[:, :320]] * 30
    assert cuts([*pan, *still, *pan]) == [30, 60]


def cuts(images: list[U8], times: F64 | None = None) -> list[int]:
    """What is left of the cuts found in these pictures, 30 a second."""
    shots, left = Shots(), set[int]()
    for i, image in enumerate(images):
        found = shots.see(i, i / 30 if times is None else times[i], np.ascontiguousarray(image))
        left = (left | set(found.cuts)) - set(found.withdrawn)
    return sorted(left)


def views(n: int) -> list[U8]:
    """n different pictures of coloured squares."""
    rng = np.random.default_rng(n)
    return [np.repeat(np.repeat(rng.integers(0, 255, (12, 40, 3), np.uint8), 20, 0), 20, 1) for _ in range(n)]


def moving(view: U8, n: int, speed: int = 2) -> list[U8]:
    """n pictures of a camera that turns slowly."""
    return [view[:, speed * i : speed * i + 320] for i in range(n)]


FLASH, BLACK, HAND = (np.full((240, 320, 3), colour, np.uint8) for colour in ((255, 255, 255), (0, 0, 0), (150, 100, 80)))


@pytest.mark.parametrize(("spoiled", "frames"), [(FLASH, 2), (BLACK, 1), (HAND, 12)])
def test_what_passes_before_the_lens_is_no_cut(spoiled: U8, frames: int) -> None:
    pan = moving(views(1)[0], 90)
    assert cuts([*pan[:40], *[spoiled] * frames, *pan[40 + frames :]]) == []


def test_a_dim_picture_and_a_freeze_are_no_cuts() -> None:
    pan = moving(views(1)[0], 90)
    assert cuts([*pan[:40], pan[40] // 3, *pan[41:]]) == []
    assert cuts([*pan[:40], *[pan[40]] * 18, *pan[58:]]) == []


def test_cuts_are_found_beside_flashes_and_where_two_views_are_blended() -> None:
    first, second = (moving(view, 60) for view in views(2))
    assert cuts([*first, *second]) == [60]
    assert cuts([*first[:20], FLASH, *first[21:], *second]) == [60]
    assert cuts([*first, FLASH, *second]) == [60]
    first, second = (moving(view, 30, 0) for view in views(2))
    blended = ((first[-1].astype(int) + second[0]) // 2).astype(np.uint8)
    assert cuts([*first, blended, *second]) in ([30], [31])


def test_cuts_are_judged_by_time() -> None:
    first, second = (moving(view, 6, 4) for view in views(2))
    for interval in (0.2, 1.0, 10.0):
        times = interval * np.arange(12)
        assert cuts([*first, *second], times) == [6]
        assert cuts([*first[:5], FLASH, *first[5:]], times) == []
    # Of a stream of 240 pictures a second, a hand of .4 s is 96 of them.
    pan = [image for image in moving(views(1)[0], 30) for _ in range(10)]
    assert cuts([*pan[:100], *[HAND] * 96, *pan[196:]], np.arange(300) / 240) == []


def test_a_view_that_comes_back_is_known() -> None:
    first, second = (moving(view, 30, 0) for view in views(2))
    shots = Shots()
    found = [shots.see(i, i / 30, image) for i, image in enumerate([*first, *second, *first])]
    [(cut, earlier)] = [pair for one in found for pair in one.returns]
    assert cut == 60
    assert earlier < 30


@pytest.mark.parametrize("interval", [2 / 3, 1.0, 10.0])
def test_time_lapse_keeps_identities(tmp_path: Path, interval: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "WINDOW", 20)
    points = seen(walk(load_body(), 60))
    runner = points.copy()
    runner[:, :, 0] += 60 * (np.arange(60) % 8)[:, None]
    other = np.tile(points[:1], (60, 1, 1))
    frames = [
        replace(result, people=two(somebody(2, other[i]), result.people))
        for i, result in enumerate(results(runner, interval * np.arange(60)))
    ]
    records = refined(tmp_path, frames)
    assert [r.people.ids.tolist() for r in records] == [[1, 2]] * 60
    summary = refine(tmp_path / "x.jsonl.partial", tmp_path / "x.jsonl")
    assert str(summary) == "refined: 2 people"


def test_the_summary_is_a_sentence() -> None:
    assert str(Summary()) == "refined: nobody"
    assert str(Summary(people=1, joined=1, bridged=1)) == (
        "refined: 1 person; somebody who had been out of sight was recognised 1 time; 1 missing pose filled in"
    )
    assert str(Summary(people=3, shots=2, joined=2)) == (
        "refined: 3 people in 2 shots; somebody who had been out of sight was recognised 2 times"
    )


def test_no_cuts_where_none_are_wanted(tmp_path: Path) -> None:
    first, second = (moving(view, 20, 0) for view in views(2))
    for cuts, expected in (("auto", 1), ("none", 0)):
        sink = SpoolSink(tmp_path / "s.partial", INFO, Provenance(), overwrite=True, cuts=cuts)
        for i, image in enumerate([*first, *second]):
            sink.write(Result(Frame(i, i / 30, image, 0), people=People.none()))
        sink.close()
        assert (tmp_path / "s.partial").read_text().count('"cuts":[20]') == expected
    with pytest.raises(InputError, match="auto or none"):
        Settings(cuts="some")

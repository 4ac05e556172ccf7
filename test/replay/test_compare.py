"""Two replays compared: a difference that is there is found, and chance is not taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from figure import figure, smooth_noise
from records import a_record

from stsp_model.cli import main
from stsp_model.replay.compare import MEASURES, CompareError, compare, is_worse, records
from stsp_model.replay.compare_command import METRICS
from stsp_model.replay.compare_text import text
from stsp_model.replay.record import write_record
from stsp_model.skeleton import INDEX, JOINTS


def test_a_run_does_not_differ_from_itself() -> None:
    record = figure(90, gap=(30, 40), drops=0.1)
    result = compare([(record, record)])
    assert {row.key for row in result.rows} == {measure.key for measure in MEASURES}
    for row in result.rows + result.joints:
        assert (row.difference, row.low, row.high, row.better) == (0, 0, 0, "")
    assert not is_worse(result)
    assert "same" in text(result)


def test_velocity_and_acceleration_are_not_taken_across_a_pause() -> None:
    whole = figure(60, error=0.0)
    (track,) = whole.tracks
    joints = track.joints.copy()
    joints[30:, 1:] += 0.1  # a leap, at which the errors would be of a tenth of a metre
    leaping = replace(whole, tracks=(replace(track, joints=joints),))
    pause = np.where(np.arange(60) >= 30, 10 * 10**9, 0)
    paused = replace(leaping, stamps=leaping.stamps + pause)
    for key in ("mpjve", "acceleration_error"):
        assert compare([(leaping, leaping)]).row(key).a > 1
        assert compare([(paused, paused)]).row(key).a == pytest.approx(0, abs=1e-3)


def test_a_known_offset_is_found_and_attributed() -> None:
    exact, off = figure(120, error=0.0), figure(120, error=0.0, bias=0.05)
    result = compare([(exact, off)])
    # 16 of 17 joints are 50 mm off; the pelvis is the origin.
    row = result.row("mpjpe")
    assert (row.a, row.b) == pytest.approx((0, 50 * 16 / 17), abs=0.01)
    assert (row.low, row.high) == pytest.approx((row.difference, row.difference), abs=0.01)
    assert row.better == "a"
    assert is_worse(result)
    assert not is_worse(compare([(off, exact)]))
    assert compare([(off, exact)]).row("mpjpe").better == "b"
    # A shift of everything but the pelvis leaves speeds as they are.
    assert result.row("mpjve").b == pytest.approx(0, abs=0.01)
    assert [joint.title for joint in result.joints] == list(JOINTS[1:])
    assert all(joint.difference == pytest.approx(50, abs=0.01) for joint in result.joints)


def test_one_joint_that_is_worse_is_named() -> None:
    a = figure(300, error=0.01)
    joints = a.tracks[0].joints.copy()
    joints[:, INDEX["left_knee"], 2] += 0.06
    b = replace(a, tracks=(replace(a.tracks[0], joints=joints),))
    worse = [row.key for row in compare([(a, b)]).joints if row.better == "a"]
    assert worse == ["left_knee"]


def test_missing_poses_count_in_shares_and_not_in_distances() -> None:
    whole, holed = figure(300, error=0.01), figure(300, error=0.01, gap=(100, 189))
    result = compare([(whole, holed)])
    assert result.row("mpjpe").difference == pytest.approx(0, abs=1e-9)
    assert (result.row("coverage").a, result.row("coverage").b) == pytest.approx((100, 70))
    assert result.row("pck_150").b == pytest.approx(70, abs=0.5)
    assert result.row("pck_2d").b == pytest.approx(70, abs=0.5)


def test_more_is_better_for_shares() -> None:
    result = compare([(figure(300, drops=0.5), figure(300))])
    assert result.row("coverage").better == "b"
    assert is_worse(compare([(figure(300), figure(300, drops=0.5))]), "coverage")


def test_the_same_comparison_gives_the_same_interval() -> None:
    a, b = figure(90), figure(90, seed=1)
    assert compare([(a, b)]) == compare([(a, b)])


def test_frames_are_paired_by_stamp() -> None:
    whole = figure(200, error=0.0, bias=0.02)
    late = figure(200, error=0.0, bias=0.02)
    part = slice(50, 200)  # of a replay that began later
    track = whole.tracks[0]

    def cut(person):
        rows = {
            name: getattr(person, name)[part]
            for name in ("joints", "root", "joints_2d", "confidence", "variance", "box", "height")
        }
        return replace(person, frames=np.arange(150), **rows)

    late = replace(
        late,
        stamps=late.stamps[part],
        outcome=late.outcome[part],
        latency=late.latency[part],
        tracks=(cut(track),),
        truth=(cut(late.truth[0]),),
    )
    result = compare([(whole, late)])
    assert result.frames == 150
    assert result.row("mpjpe").difference == 0


def test_several_bags_are_compared_together() -> None:
    one = (figure(90, error=0.0), figure(90, error=0.0, bias=0.02))
    two = (figure(90, error=0.0), figure(90, error=0.0, bias=0.04))
    result = compare([one, two])
    assert result.frames == 180
    assert result.row("mpjpe").b == pytest.approx(30 * 16 / 17, abs=0.01)


def test_a_short_bag_says_how_little_it_tells() -> None:
    long = compare([(figure(600), figure(600, seed=1))])
    assert long.blocks == 10
    assert "tell little" not in text(long)
    short = compare([(figure(90), figure(90, seed=1))])
    assert short.blocks == 2
    assert "tell little" in text(short)
    shorter = compare([(figure(60), figure(60, bias=0.15))])
    assert shorter.blocks == 1
    assert shorter.row("mpjpe").difference > 50
    assert shorter.row("mpjpe").better == ""  # one block cannot tell it from chance


def test_shares_do_not_differ_by_more_than_all() -> None:
    # Half of B is wrong; by two blocks, Student's t alone would allow for -225 %.
    bias = np.where(np.arange(90) < 45, 0.0, 0.5)[:, None, None]
    worse = figure(90, error=0.0)
    track = worse.tracks[0]
    worse = replace(worse, tracks=(replace(track, joints=track.joints + bias * [1, 0, 0]),))
    row = compare([(figure(90, error=0.0), worse)]).row("pck_150")
    assert row.difference < -20
    assert (row.low, row.high) == (-100, 100)


def test_runs_that_do_not_fit_are_refused() -> None:
    record = figure(30)
    with pytest.raises(CompareError, match=r"run B \(bag made-up\.mcap\) has no ground truth"):
        compare([(record, figure(30, truth=False))])
    with pytest.raises(CompareError, match=r"no image stamps in common: A is of bag made-up\.mcap"):
        compare([(record, replace(record, bag="other.mcap", stamps=record.stamps + 7))])
    with pytest.raises(CompareError, match="other people in their truth"):
        compare([(record, figure(30, people=2))])
    moved = replace(record.truth[0], joints=record.truth[0].joints + np.float32(0.1))
    with pytest.raises(CompareError, match="another truth for child_0"):
        compare([(record, replace(record, truth=(moved,)))])
    hidden = replace(record.truth[0], confidence=np.zeros_like(record.truth[0].confidence))
    unseen = replace(record, truth=(hidden,))
    with pytest.raises(CompareError, match="no frame with truth"):
        compare([(unseen, unseen)])
    with pytest.raises(CompareError, match="no ground truth"):
        compare([(a_record(), a_record())])


def test_a_measure_that_the_runs_lack_is_named() -> None:
    off = figure(30)
    far = replace(off, tracks=())
    with pytest.raises(CompareError, match=r"no mpjpe in common; there is pck_150"):
        compare([(off, far)]).row("mpjpe")


def test_runs_are_found_in_their_folders(tmp_path: Path) -> None:
    with pytest.raises(CompareError, match=r"holds no record\.npz"):
        records(tmp_path)
    for name in ("bag_b", "bag_a"):
        (tmp_path / "many" / name).mkdir(parents=True)
        write_record(tmp_path / "many" / name / "record.npz", figure(5, bag=name))
    assert {name: r.bag for name, r in records(tmp_path / "many").items()} == {
        "bag_a": "bag_a",
        "bag_b": "bag_b",
    }
    assert list(records(tmp_path / "many" / "bag_a")) == [""]
    assert list(records(tmp_path / "many" / "bag_a" / "record.npz")) == [""]


def test_noise_of_the_tests_is_as_slow_as_it_says() -> None:
    noise = smooth_noise(np.random.default_rng(0), (4000, 3), 0.02)
    assert noise.std() == pytest.approx(0.02, rel=0.1)
    lagged = np.corrcoef(noise[15:, 0], noise[:-15, 0])[0, 1]
    assert lagged == pytest.approx(0.9**15, abs=0.1)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    """Folders of a run, and of a worse one."""
    for name, bias in (("before", 0.0), ("after", 0.03)):
        (tmp_path / name).mkdir()
        write_record(tmp_path / name / "record.npz", figure(120, error=0.01, bias=bias))
    return str(tmp_path / "before"), str(tmp_path / "after")


def test_the_command_fails_for_the_worse_run_only_where_asked(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = runs
    assert main(["compare", before, after]) == 0
    shown = capsys.readouterr().out
    assert "120 frames with truth" in shown
    assert "B is worse than A: MPJPE" in shown
    assert main(["compare", before, after, "--fail-if-worse"]) == 1
    assert main(["compare", after, before, "--fail-if-worse"]) == 0
    assert main(["compare", before, before, "--fail-if-worse"]) == 0
    assert main(["compare", before, after, "--fail-if-worse", "--metric", "mpjve"]) == 0

    file = tmp_path / "new" / "result.json"
    assert main(["compare", before, after, "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert (result["metric"], result["worse"], result["bags"]) == ("mpjpe", True, ["made-up.mcap"])
    row = result["rows"][0]
    assert row["key"] == "mpjpe"
    assert row["difference"] == pytest.approx(row["b"] - row["a"])
    assert 0 < row["low"] <= row["difference"] <= row["high"]
    assert {joint["key"] for joint in result["joints"]} == set(JOINTS[1:])


def test_the_command_says_what_does_not_fit(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = runs
    assert main(["compare", before, str(tmp_path / "nowhere")]) == 2
    assert "stsp compare:" in (error := capsys.readouterr().err)
    assert "holds no record.npz" in error
    write_record(Path(after) / "record.npz", figure(20, truth=False, trained=False))
    assert main(["compare", before, after]) == 2
    assert "has no ground truth" in capsys.readouterr().err
    (Path(after) / "record.npz").write_bytes(b"PK nothing of the kind")
    assert main(["compare", before, after]) == 2
    assert "no record of a replay" in capsys.readouterr().err
    many = tmp_path / "many" / "jump"
    many.mkdir(parents=True)
    write_record(many / "record.npz", figure(20))
    assert main(["compare", before, str(many.parent)]) == 2
    assert (
        "no bag in common: A has made-up.mcap alone, B has jump; of a run of several bags, the "
        "folder of one in there is compared"
    ) in capsys.readouterr().err
    other = tmp_path / "other" / "kick"
    other.mkdir(parents=True)
    write_record(other / "record.npz", figure(20))
    assert main(["compare", str(many.parent), str(other.parent)]) == 2
    assert "no bag in common: A has jump, B has kick" in capsys.readouterr().err


def test_bags_that_only_one_run_has_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run, bags in (("a", ("jump", "kick")), ("b", ("jump", "run"))):
        for bag in bags:
            (tmp_path / run / bag).mkdir(parents=True)
            record = figure(70, bag=f"{bag}.mcap", trained=run == "a")
            write_record(tmp_path / run / bag / "record.npz", record)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    shown = capsys.readouterr().out
    assert "left out, as only one of the runs has them: kick, run" in shown
    assert "70 frames with truth" in shown
    assert shown.count("untrained: its skeletons mean nothing") == 1


def test_a_run_that_was_stopped_is_named(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = runs
    assert main(["compare", before, after]) == 0
    assert "was stopped before" not in capsys.readouterr().out
    write_record(Path(after) / "record.npz", figure(100, bag="jump.mcap", complete=False))
    assert main(["compare", before, after]) == 0
    shown = capsys.readouterr().out
    assert "B was stopped before the end of jump.mcap: only images of both are compared" in shown
    assert "A was stopped before" not in shown
    assert "100 frames with truth" in shown


def test_every_measure_can_be_the_one_that_judges() -> None:
    assert [measure.key for measure in MEASURES] == list(METRICS)

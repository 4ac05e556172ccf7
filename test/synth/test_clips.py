"""Clips: the same from the same seed, true to themselves, and splits that share nothing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from figures import standing, write_dancers

from stsp_model.data.errors import DataError
from stsp_model.skeleton import BONES, INDEX, JOINTS
from stsp_model.synth.clips import ClipSettings, Take, make_clip, open_takes
from stsp_model.synth.rigs import CMU_RIG
from stsp_model.synth.textures import picture_files, picture_wall

TINY = {"width": 64, "height": 64, "frames": 8, "samples": 1}


@pytest.fixture(scope="module")
def mocap(tmp_path_factory):
    return write_dancers(tmp_path_factory.mktemp("mocap"))


@pytest.fixture(scope="module")
def takes(mocap):
    return open_takes([mocap], "train")


def test_the_same_number_is_the_same_clip(takes):
    settings = ClipSettings(3, "train", **TINY)
    first, again = make_clip(5, settings, takes), make_clip(5, settings, takes)
    assert first.jpegs == again.jpegs
    np.testing.assert_array_equal(first.joints_3d, again.joints_3d)
    assert make_clip(6, settings, takes).jpegs != first.jpegs


def test_splits_and_seeds_draw_other_children_and_cameras(takes):
    clips = [
        make_clip(0, ClipSettings(seed, split, **TINY), takes)
        for seed, split in ((0, "train"), (0, "validation"), (1, "train"))
    ]
    assert len({float(clip.heights[0]) for clip in clips}) == 3
    assert len({clip.camera.K.tobytes() for clip in clips}) == 3


def test_motions_of_a_split_are_its_own(mocap):
    assert {take.name for take in open_takes([mocap], "train")} == {"01_01"}
    assert {take.name for take in open_takes([mocap], "validation")} == {"02_04"}


@pytest.mark.parametrize("number", range(3))
def test_the_truth_agrees_with_itself(takes, number):
    clip = make_clip(number, ClipSettings(0, "train", **{**TINY, "frames": 12}), takes)
    flat = clip.camera.project(clip.joints_3d)
    np.testing.assert_allclose(flat, clip.joints_2d, atol=1e-9)
    inside = ((flat >= -0.5) & (flat < 63.5)).all(axis=-1)
    assert not (clip.visible & ~inside).any()
    for a, b in BONES:
        if JOINTS[b].endswith(("hip", "knee", "ankle", "elbow", "wrist")):  # the trunk bends
            length = np.linalg.norm(clip.joints_3d[:, 0, a] - clip.joints_3d[:, 0, b], axis=-1)
            assert np.ptp(length) < 2e-5
    intervals = np.diff(clip.stamps)
    assert np.ptp(intervals) < 1e-9
    assert 1 / 60.01 < intervals[0] < 1 / 14.99
    assert np.linalg.norm(clip.up, axis=1) == pytest.approx(np.ones(len(clip.up)))
    head = clip.joints_3d[:, 0, INDEX["head_top"]] - clip.joints_3d[:, 0, INDEX["pelvis"]]
    assert (head * clip.up).sum(axis=1).mean() > 0.2  # dancers hold their heads up
    assert 0.8 < clip.heights[0] < 1.9


def test_the_child_is_in_the_picture(takes):
    settings = ClipSettings(0, "train", **TINY)
    shares = [make_clip(number, settings, takes).visible.mean() for number in range(8)]
    assert np.mean(shares) > 0.5


def test_children_are_any_way_up_where_that_is_asked_for(takes):
    def heads(share):
        settings = ClipSettings(0, "train", tumbled=share, **TINY)
        clips = [make_clip(number, settings, takes) for number in range(8)]
        heights = [(clip.joints_3d[:, 0] * clip.up[:, None]).sum(axis=-1) for clip in clips]
        return np.array([h[:, INDEX["head_top"]] - h[:, INDEX["pelvis"]] for h in heights])

    assert (heads(0.0) > 0.2).all()
    assert 0 < (heads(1.0) < 0).any(axis=1).sum() < 8


def test_limbs_move_as_in_motions_of_their_own(takes):
    """Of somebody who stands still, some limbs move and others do not."""
    still = Take("still", lambda: standing(np.zeros(90)), CMU_RIG)

    def moving(share):
        settings = ClipSettings(0, "train", mixed=share, **TINY)
        clips = [make_clip(number, settings, [still, *takes]) for number in range(12)]
        poses = [clip.joints_3d[:, 0] for clip in clips if clip.motions == ("still",)]
        ends, trunk = [INDEX["left_wrist"], INDEX["left_ankle"]], [INDEX["thorax"], INDEX["pelvis"]]
        reach = [np.linalg.norm(pose[:, ends] - pose[:, trunk], axis=-1) for pose in poses]
        return np.array([np.ptp(r, axis=0) for r in reach]) > 1e-3

    assert not moving(0.0).any()
    arms, legs = moving(1.0).T
    assert 0 < arms.sum() < len(arms)
    assert 0 < legs.sum() < len(legs)
    assert (arms != legs).any()


def test_several_children_keep_apart(takes):
    clip = make_clip(1, ClipSettings(0, "train", people=(4, 4), **TINY), takes)
    assert len(clip.motions) >= 3
    pelvis = clip.joints_3d[:, :, INDEX["pelvis"]]
    for a in range(len(clip.motions)):
        for b in range(a):
            assert np.linalg.norm(pelvis[:, a] - pelvis[:, b], axis=-1).min() > 0.5


def test_nobody_at_all(takes):
    clip = make_clip(0, ClipSettings(0, "train", people=(0, 0), **TINY), takes)
    assert clip.joints_3d.shape == (8, 0, 17, 3)
    assert len(clip.jpegs) == 8


def test_a_users_pictures_become_walls(takes, tmp_path):
    magenta = np.full((40, 80, 3), (255, 0, 255), np.uint8)
    for index in range(5):
        assert cv2.imwrite(str(tmp_path / f"{index}.png"), magenta)
    train, validation = (picture_files(tmp_path, split) for split in ("train", "validation"))
    assert (len(train), len(validation)) == (4, 1)
    assert not set(train) & set(validation)
    settings = ClipSettings(0, "train", people=(0, 0), **TINY)
    seen = []
    for number in range(8):
        image = make_clip(number, settings, takes, train).image(0).astype(int)
        seen.append(
            ((image[..., 0] - image[..., 1] > 60) & (image[..., 2] - image[..., 1] > 60)).mean()
        )
    assert max(seen) > 0.05


def test_pictures_that_cannot_be_walls_are_named(tmp_path):
    (tmp_path / "1.png").write_bytes(b"none")
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((2000, 2, 3), np.uint8))
    absurd = bytearray(cv2.imencode(".bmp", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    absurd[18:26] = (200_000).to_bytes(4, "little") * 2  # width and height
    (tmp_path / "3.bmp").write_bytes(absurd)
    for name in ("1.png", "2.png", "3.bmp"):
        with pytest.raises(ValueError, match=f"background .*{name} "):
            picture_wall(tmp_path / name)


@pytest.mark.parametrize("folder", ["", "images"])
def test_pictures_that_report_scores_cannot_become_walls(tmp_path, folder):
    (tmp_path / "joints.mat").touch()
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match="belongs to a data set of people"):
        picture_files(tmp_path / folder, "train")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"split": "test"}, "split is 'test'"),
        ({"seed": -1}, "seed is -1"),
        ({"width": 10}, "width is 10"),
        ({"frames": 0}, "frames is 0"),
        ({"samples": 0}, "samples is 0"),
        ({"people": (2, 1)}, "people is 2 to 1"),
        ({"mixed": 1.5}, "mixed is 1.5"),
        ({"tumbled": -0.1}, "tumbled is -0.1"),
        ({"tumbled": float("nan")}, "tumbled is nan"),
    ],
)
def test_settings_out_of_range_are_told(change, told):
    with pytest.raises(ValueError, match=told):
        ClipSettings(**{"seed": 0, "split": "train", **change})


def test_motion_capture_that_is_damaged_is_told_though_there_is_more(mocap, tmp_path):
    whole = (mocap / "01_01.bvh").read_text()
    (tmp_path / "01_02.bvh").write_text(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"01_02\.bvh holds .* numbers, expected"):
        open_takes([mocap, tmp_path], "train")
    assert {take.name for take in open_takes([mocap, tmp_path], "validation")} == {"02_04"}


def test_motion_capture_that_is_not_there_is_told(tmp_path, mocap):
    with pytest.raises(DataError, match="does not exist"):
        open_takes([tmp_path / "nowhere"], "train")
    (mocap / "02_04.bvh").rename(mocap / "02_04.away")
    try:
        with pytest.raises(DataError, match="validation"):
            open_takes([mocap], "validation")
    finally:
        (mocap / "02_04.away").rename(mocap / "02_04.bvh")

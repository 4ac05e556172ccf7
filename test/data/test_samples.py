"""Samples refuse what does not fit, and readers' common checks tell a user's mistakes apart."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from people import standing, walking, write_images

from stsp_model.data.errors import DataError
from stsp_model.data.samples import (
    ImagePose,
    Motion,
    box_around,
    check_body,
    check_images,
    read_image,
)
from stsp_model.data.splits import LSP, LSPET, check_split, cmu_split, deepmimic_split
from stsp_model.skeleton import INDEX

IMAGE = np.zeros((48, 64, 3), np.uint8)


def image_pose(**changes):
    joints = np.full((17, 2), 20.0)
    values = {"visible": np.ones(17, bool), "box": np.array([0, 0, 9, 9]), "name": "a"}
    return ImagePose(**{"image": IMAGE, "joints": joints, **values, **changes})


def motion(**changes):
    values = {"joints": walking(3), "stamps": np.arange(3), "up": np.array([0, 0, 1])}
    return Motion(**{**values, "name": "a", "subject": "s", "action": "x", **changes})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image": IMAGE[..., 0]}, "image is"),
        ({"joints": np.zeros((14, 2))}, r"joints has shape \(14, 2\)"),
        ({"joints": np.full((17, 2), np.nan)}, "visible is True"),
        ({"visible": np.ones(3, bool)}, "visible has shape"),
        ({"box": np.zeros(3)}, "box has shape"),
        ({"joints_3d": np.zeros((17, 2))}, "joints_3d has shape"),
    ],
)
def test_an_image_pose_of_another_shape_is_refused(changes, told):
    assert image_pose().visible.all()
    with pytest.raises(ValueError, match=told):
        image_pose(**changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"joints": np.zeros((3, 14, 3))}, r"expected \(T, 17, 3\)"),
        ({"stamps": np.arange(4)}, "stamps has shape"),
        ({"stamps": np.array([0, 1, 1])}, "rise"),
        ({"stamps": np.array([0, 1, np.nan])}, "finite"),
        ({"up": np.array([0, 0, 2])}, "unit vector"),
        ({"joints": np.zeros((0, 17, 3)), "stamps": np.zeros(0)}, "no frame"),
        ({"joints_2d": np.zeros((2, 17, 2))}, "joints_2d has shape"),
    ],
)
def test_a_motion_of_another_shape_is_refused(changes, told):
    assert motion().mask.all()
    with pytest.raises(ValueError, match=told):
        motion(**changes)


def test_a_motion_may_not_know_which_way_is_up():
    assert np.isnan(motion(up=np.full(3, np.nan)).up).all()


def test_the_box_is_tight_around_the_known_points():
    points = np.array([[3, 9], [np.nan, 1], [5, 2]])
    assert box_around(points).tolist() == [3, 2, 5, 9]
    assert np.isnan(box_around(points[1:2])).all()


def test_a_body_in_order_and_in_metres_passes():
    check_body(walking(), "file")


def test_a_body_in_another_order_is_told():
    mixed = walking()[:, np.random.default_rng(0).permutation(17)]
    with pytest.raises(DataError, match=r"file: from .* in another order"):
        check_body(mixed, "file")


def test_a_body_in_millimetres_is_told():
    with pytest.raises(DataError, match=r"torso measures 500 m.*another unit"):
        check_body(1000 * walking(), "file")


def test_some_poses_in_an_image_tell_nothing_but_many_do():
    flat = walking(60)[..., [0, 2]]
    flat[:, INDEX["left_wrist"]] += 5
    check_body(flat[:20], "file")
    with pytest.raises(DataError, match="left_elbow to left_wrist"):
        check_body(flat, "file")


def test_missing_images_are_counted(tmp_path):
    write_images(tmp_path, ["a.jpg"])
    check_images(tmp_path, ["a.jpg"])
    with pytest.raises(DataError, match=r"lacks 2 of 3 images \(b.jpg first\)"):
        check_images(tmp_path, ["c.jpg", "a.jpg", "b.jpg"])
    with pytest.raises(DataError, match="missing, expected the folder"):
        check_images(tmp_path / "images", ["a.jpg"])


def test_an_image_that_is_cut_off_is_named(tmp_path):
    write_images(tmp_path, ["a.jpg"])
    assert read_image(tmp_path / "a.jpg").shape == (48, 64, 3)
    (tmp_path / "b.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"b\.jpg does not decode"):
        read_image(tmp_path / "b.jpg")
    (tmp_path / "e.ppm").write_bytes(b"P6 70000 70000 255 ")
    with pytest.raises(DataError, match=r"e\.ppm does not decode"):
        read_image(tmp_path / "e.ppm")
    # OpenCV would make up the second half.
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "c.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"c\.jpg: JPEG image is cut off"):
        read_image(tmp_path / "c.jpg")
    with pytest.raises(DataError, match=r"d\.jpg cannot be read: No such file"):
        read_image(tmp_path / "d.jpg")


def test_images_of_other_formats_are_read(tmp_path):
    image = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    for name in ("a.bmp", "a.png", "a.tiff"):
        cv2.imwrite(str(tmp_path / name), image)
        np.testing.assert_array_equal(read_image(tmp_path / name), image)


def test_what_reports_is_kept_out_of_training():
    held_out = ("02_04", "05_06", "05_17", "06_15", "10_06", "13_15", "13_31", "13_41", "09_12")
    assert {cmu_split(clip) for clip in held_out} == {"validation"}
    assert cmu_split("02_01") == "train"
    assert (deepmimic_split("cartwheel"), deepmimic_split("walk")) == ("validation", "train")
    for ranges in (LSPET, LSP):
        numbers = [n for first, last in ranges.values() for n in range(first, last + 1)]
        assert len(numbers) == len(set(numbers)) == max(numbers)


def test_an_unknown_split_is_told():
    check_split(None, ("train",))
    with pytest.raises(DataError, match="split is 'test', expected one of train, report"):
        check_split("test", ("train", "report"))


def test_the_figure_of_these_tests_faces_where_it_says():
    joints = standing()
    assert joints[INDEX["left_wrist"], 0] > 0 > joints[INDEX["right_wrist"], 0]
    assert joints[INDEX["nose"], 1] < joints[INDEX["head_top"], 1]

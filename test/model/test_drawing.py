"""Drawings show what they are given, where it is, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stsp_model.drawing import (
    SIDE_COLOURS,
    TITLE_HEIGHT,
    contact_sheet,
    draw_skeleton,
    shrink_to_width,
)
from stsp_model.skeleton import INDEX, JOINT_COUNT, SIDES


def canvas() -> np.ndarray:
    return np.zeros((240, 320, 3), np.uint8)


def spread_joints() -> np.ndarray:
    """Joints on a grid, 40 px apart, so that their discs do not touch."""
    index = np.arange(JOINT_COUNT)
    return np.stack([30.0 + 40 * (index % 6), 40.0 + 60 * (index // 6)], axis=1)


def test_each_joint_is_drawn_in_the_colour_of_its_side() -> None:
    image = canvas()
    joints = spread_joints()
    draw_skeleton(image, joints)
    for joint, (u, v) in enumerate(joints.astype(int)):
        assert tuple(image[v, u][::-1]) == SIDE_COLOURS[SIDES[joint]]


def test_an_unknown_joint_takes_its_bones_along() -> None:
    joints = np.full((JOINT_COUNT, 2), np.nan)
    joints[INDEX["left_hip"]] = 40, 40
    joints[INDEX["left_ankle"]] = 200, 200  # the knee between them is unknown
    image = canvas()
    draw_skeleton(image, joints)
    drawn = np.argwhere(image.any(axis=2))
    near = np.minimum(np.abs(drawn - [40, 40]).max(axis=1), np.abs(drawn - [200, 200]).max(axis=1))
    assert len(drawn) > 0
    assert near.max() < 12


def test_confidence_fades_to_grey() -> None:
    saturation = []
    for confidence in (0.0, 0.5, 1.0, np.nan):
        image = canvas()
        joints = spread_joints()
        draw_skeleton(image, joints, np.full(JOINT_COUNT, confidence))
        u, v = joints[INDEX["left_wrist"]].astype(int)
        saturation.append(int(np.ptp(image[v, u])))
    assert 0 < saturation[0] < saturation[1] < saturation[2]
    assert saturation[3] == saturation[0]


@given(
    joints=hnp.arrays(
        np.float64,
        (JOINT_COUNT, 2),
        elements=st.floats(-1e12, 1e12) | st.just(np.nan) | st.just(np.inf),
    )
)
def test_any_coordinates_can_be_drawn(joints: np.ndarray) -> None:
    draw_skeleton(canvas(), joints, label="a", box=[joints[0, 0], 0, 5, 5])


def test_without_a_joint_nothing_is_drawn() -> None:
    image = canvas()
    draw_skeleton(image, np.full((JOINT_COUNT, 2), np.nan), label="p1")
    assert not image.any()


def test_label_and_box_stay_in_the_picture() -> None:
    image = canvas()
    draw_skeleton(image, np.full((JOINT_COUNT, 2), np.nan), label="p1", box=[10, 0, 100, 120])
    assert image[:20, 8:40].any()
    assert image[60, 100].any()
    assert not image[150:, 150:].any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image": np.zeros((4, 4), np.uint8)}, r"image is \(4, 4\) uint8"),
        ({"image": np.zeros((4, 4, 3))}, "float64; expected"),
        ({"image": np.broadcast_to(np.uint8(0), (4, 4, 3))}, "read-only"),
        ({"joints_2d": np.zeros((16, 2))}, r"joints_2d has shape \(16, 2\); expected \(17, 2\)"),
        ({"confidence": np.zeros(3)}, r"confidence has shape \(3,\)"),
        ({"box": [1, 2]}, r"box has shape \(2,\)"),
    ],
)
def test_wrong_shapes_are_refused(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw_skeleton(**{"image": canvas(), "joints_2d": spread_joints(), **arguments})


def test_shrinking_keeps_the_aspect_and_never_enlarges() -> None:
    small, scale = shrink_to_width(np.full((200, 400, 3), 7, np.uint8), 100)
    assert (small.shape, scale) == ((50, 100, 3), 0.25)
    original = np.zeros((20, 40, 3), np.uint8)
    same, scale = shrink_to_width(original, 100)
    assert (same.shape, scale) == ((20, 40, 3), 1.0)
    same[:] = 1
    assert not original.any()


def test_tiles_stand_in_reading_order() -> None:
    tiles = [(np.full((60, 80, 3), 50 * (i + 1), np.uint8), "") for i in range(3)]
    sheet = contact_sheet(tiles, columns=2, gap=4)
    assert sheet.shape == (2 * 64 + 4, 2 * 84 + 4, 3)
    assert sheet[40, 40, 0] == 50
    assert sheet[40, 124, 0] == 100
    assert sheet[104, 40, 0] == 150


def test_a_title_takes_a_line_of_its_own() -> None:
    tiles = [(np.full((60, 80, 3), 90, np.uint8), "0.5 s")]
    sheet = contact_sheet(tiles, "title", columns=4, gap=4)
    assert sheet.shape == (TITLE_HEIGHT + 68, 88, 3)
    assert sheet[:TITLE_HEIGHT].max() > 200


def test_bad_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="tiles is empty"):
        contact_sheet([])
    with pytest.raises(ValueError, match="expected one for all"):
        contact_sheet([(np.zeros((4, 4, 3), np.uint8), ""), (np.zeros((4, 5, 3), np.uint8), "")])
    with pytest.raises(ValueError, match="columns is 0"):
        contact_sheet([(np.zeros((4, 4, 3), np.uint8), "")], columns=0)

"""Joint angles are what their definitions say, from wherever the body is seen."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from stsp_model.angles import ANGLE_NAMES, joint_angles
from stsp_model.losses import included_angles
from stsp_model.skeleton import ANGLES, FLIP, INDEX, JOINT_COUNT, JOINTS

Joints = npt.NDArray[np.float64]
Place = tuple[float, float, float]

# A child facing the camera in its axes (x right, y down, z away): its right hand is at -x, and
# what is in front of it is at -z.
FORWARD = -1.0
STANDING: dict[str, Place] = {
    "pelvis": (0, 0, 3),
    "spine": (0, -0.2, 3),
    "thorax": (0, -0.4, 3),
    "nose": (0, -0.5, 3 + 0.1 * FORWARD),
    "head_top": (0, -0.65, 3),
    **{
        f"{side}_{part}": (sign * x, y, 3)
        for side, sign in (("right", -1), ("left", 1))
        for part, x, y in (
            ("hip", 0.1, 0.0),
            ("knee", 0.1, 0.4),
            ("ankle", 0.1, 0.8),
            ("shoulder", 0.15, -0.4),
            ("elbow", 0.15, -0.15),
            ("wrist", 0.15, 0.05),
        )
    },
}
T_POSE: dict[str, Place] = {
    "right_elbow": (-0.4, -0.4, 3),
    "right_wrist": (-0.6, -0.4, 3),
    "left_elbow": (0.4, -0.4, 3),
    "left_wrist": (0.6, -0.4, 3),
}
SITTING: dict[str, Place] = {
    "right_knee": (-0.1, 0, 2.6),
    "right_ankle": (-0.1, 0.4, 2.6),
    "left_knee": (0.1, 0, 2.6),
    "left_ankle": (0.1, 0.4, 2.6),
}
# Bent over by 90 degrees on straight legs, the arms hanging.
BENT_OVER: dict[str, Place] = {
    "spine": (0, 0, 2.8),
    "thorax": (0, 0, 2.6),
    "right_shoulder": (-0.15, 0, 2.6),
    "right_elbow": (-0.15, 0.25, 2.6),
    "right_wrist": (-0.15, 0.45, 2.6),
    "left_shoulder": (0.15, 0, 2.6),
    "left_elbow": (0.15, 0.25, 2.6),
    "left_wrist": (0.15, 0.45, 2.6),
}
# Which joints each angle takes.
HIPS = {"right_hip", "left_hip"}
TAKES = {
    "trunk": HIPS | {"pelvis", "thorax", "right_ankle", "left_ankle"},
    **{
        f"{side}_{name}": {joint.replace("SIDE", side) for joint in joints}
        for side in ("right", "left")
        for name, joints in {
            "hip": HIPS | {"pelvis", "thorax", "SIDE_knee"},
            "knee": {"SIDE_hip", "SIDE_knee", "SIDE_ankle"},
            "shoulder": {"pelvis", "thorax", "SIDE_shoulder", "SIDE_elbow"},
            "elbow": {"SIDE_shoulder", "SIDE_elbow", "SIDE_wrist"},
        }.items()
    },
}


def body(**changes: Place) -> Joints:
    """Standing but for these joints."""
    return np.array([(STANDING | changes)[name] for name in JOINTS], np.float64)


def degrees(joints: Joints) -> dict[str, float]:
    return dict(zip(ANGLE_NAMES, np.degrees(joint_angles(joints)).tolist(), strict=True))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        (T_POSE, {"right_shoulder": 90, "left_shoulder": 90}),
        (
            SITTING,
            # The ankles are as far below the pelvis as in front of it.
            {"right_hip": 90, "left_hip": 90, "right_knee": 90, "left_knee": 90, "trunk": 45},
        ),
        (
            BENT_OVER,
            {
                "right_hip": 90,
                "left_hip": 90,
                "trunk": 90,
                "right_shoulder": 90,
                "left_shoulder": 90,
            },
        ),
        # The forearm held forwards from a hanging upper arm.
        ({"left_wrist": (0.15, -0.15, 2.8)}, {"left_elbow": 90}),
        # An arm straight up.
        (
            {"right_elbow": (-0.15, -0.65, 3), "right_wrist": (-0.15, -0.85, 3)},
            {"right_shoulder": 180},
        ),
        # The heel against the buttock: no more than 180.
        ({"right_ankle": (-0.1, 0.0, 3)}, {"right_knee": 180, "trunk": 0}),
        # Straight legs, one 30 degrees forwards and one 30 degrees backwards.
        (
            {
                "right_knee": (-0.1, 0.4 * math.cos(math.pi / 6), 2.8),
                "right_ankle": (-0.1, 0.8 * math.cos(math.pi / 6), 2.6),
                "left_knee": (0.1, 0.4 * math.cos(math.pi / 6), 3.2),
                "left_ankle": (0.1, 0.8 * math.cos(math.pi / 6), 3.4),
            },
            {"right_hip": 30, "left_hip": -30},
        ),
        # A leg spread sideways by 45 degrees is not flexed; the ankles' middle stays in the plane.
        ({"left_knee": (0.4, 0.3, 3), "left_ankle": (0.7, 0.6, 3)}, {}),
        # A trunk that leans sideways by 45 degrees, arms and all, neither.
        (
            {
                "thorax": (0.3, -0.3, 3),
                "right_shoulder": (0.2, -0.4, 3),
                "right_elbow": (0.1, -0.3, 3),
                "right_wrist": (0.0, -0.2, 3),
                "left_shoulder": (0.4, -0.2, 3),
                "left_elbow": (0.3, -0.1, 3),
                "left_wrist": (0.2, 0.0, 3),
            },
            {},
        ),
    ],
)
def test_angles_by_hand(changes: dict[str, Place], expected: dict[str, float]) -> None:
    found = degrees(body(**changes))
    assert found == pytest.approx({name: expected.get(name, 0.0) for name in ANGLE_NAMES}, abs=1e-5)


def test_a_bent_back_leans_backwards() -> None:
    """Leaning back by 30 degrees on straight legs: hips and trunk are extended."""
    found = degrees(body(thorax=(0, -0.4 * math.cos(math.pi / 6), 3.2)))
    for name in ("right_hip", "left_hip", "trunk"):
        assert found[name] == pytest.approx(-30)


def test_a_thigh_straight_to_the_side_has_no_flexion() -> None:
    found = degrees(body(left_knee=(0.5, 0.02, 3)))
    assert math.isnan(found["left_hip"])
    assert found["right_hip"] == 0


@pytest.mark.parametrize(("off_axis", "known"), [(9, False), (11, True)])
def test_flexion_is_known_from_ten_degrees_off_the_axis_on(off_axis: float, known: bool) -> None:
    up, across = 0.4 * math.sin(math.radians(off_axis)), 0.4 * math.cos(math.radians(off_axis))
    leg = degrees(body(left_knee=(0.1 + across, up, 3)))
    trunk = degrees(body(thorax=(across, -up, 3)))
    for angle in (leg["left_hip"], trunk["trunk"], trunk["left_hip"]):
        assert math.isfinite(angle) == known
    assert math.isfinite(leg["trunk"])


@pytest.mark.parametrize("joint", JOINTS)
def test_an_unknown_joint_leaves_unknown_what_takes_it_and_nothing_else(joint: str) -> None:
    joints = body(**T_POSE)
    joints[INDEX[joint]] = np.nan
    found = degrees(joints)
    assert {name for name, angle in found.items() if math.isnan(angle)} == {
        name for name in ANGLE_NAMES if joint in TAKES[name]
    }


def test_a_bone_without_length_has_no_angle() -> None:
    assert np.isnan(joint_angles(np.zeros((JOINT_COUNT, 3)))).all()
    found = degrees(body(right_elbow=STANDING["right_shoulder"]))
    assert {name for name, angle in found.items() if math.isnan(angle)} == {
        "right_shoulder",
        "right_elbow",
    }


def test_many_frames_at_once_are_as_each_by_itself() -> None:
    poses = [body(), body(**T_POSE), body(**SITTING), body(**BENT_OVER)]
    together = joint_angles(np.array(poses, np.float32).reshape(2, 2, JOINT_COUNT, 3))
    assert together.shape == (2, 2, len(ANGLE_NAMES))
    assert together.dtype == np.float64
    np.testing.assert_allclose(
        together.reshape(4, -1), [joint_angles(pose) for pose in poses], atol=1e-5
    )
    assert joint_angles(np.zeros((0, JOINT_COUNT, 3))).shape == (0, len(ANGLE_NAMES))


@pytest.mark.parametrize("shape", [(16, 3), (17, 2), (17,), ()])
def test_joints_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"joints has shape .*, expected \(\.\.\., 17, 3\)"):
        joint_angles(np.zeros(shape))


def bodies() -> st.SearchStrategy[Joints]:
    """Bodies near a T-pose, far from where an angle is undefined or turns from pi to -pi."""

    def scattered(noise: Joints) -> Joints:
        return body(**T_POSE) + noise

    return arrays(np.float64, (JOINT_COUNT, 3), elements=st.floats(-0.05, 0.05)).map(scattered)


def rotations() -> st.SearchStrategy[Rotation]:
    vector = arrays(np.float64, 3, elements=st.floats(-6, 6))
    return vector.map(Rotation.from_rotvec)


def assert_same(found: Joints, expected: Joints) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(bodies(), rotations(), arrays(np.float64, 3, elements=st.floats(-5, 5)), st.floats(0.3, 3))
def test_neither_place_nor_direction_nor_size_matters(
    joints: Joints, rotation: Rotation, shift: Joints, scale: float
) -> None:
    moved = scale * joints @ rotation.as_matrix().T + shift
    assert_same(joint_angles(moved), joint_angles(joints))


@given(bodies())
def test_a_mirrored_body_has_the_angles_of_the_other_side(joints: Joints) -> None:
    mirrored = (joints * [-1, 1, 1])[list(FLIP)]
    other = {"left": "right", "right": "left"}
    places = []
    for name in ANGLE_NAMES:
        side, _, part = name.partition("_")
        places.append(ANGLE_NAMES.index(f"{other[side]}_{part}" if part else name))
    assert_same(joint_angles(mirrored), joint_angles(joints)[places])


@given(bodies())
def test_knees_and_elbows_are_what_the_limits_of_eq_16_leave(joints: Joints) -> None:
    included = included_angles(torch.from_numpy(joints)).numpy()
    found = joint_angles(joints)
    for index, limit in enumerate(ANGLES):
        if limit.name.endswith(("knee", "elbow")):
            flexion = found[ANGLE_NAMES.index(limit.name)]
            assert flexion == pytest.approx(math.pi - included[index], abs=1e-6)


@given(bodies(), st.floats(-math.pi, math.pi))
def test_turning_a_leg_about_the_hips_adds_to_its_flexion(joints: Joints, turn: float) -> None:
    axis = joints[INDEX["right_hip"]] - joints[INDEX["left_hip"]]
    about = Rotation.from_rotvec(turn * axis / np.linalg.norm(axis))
    knee, hip = INDEX["left_knee"], INDEX["left_hip"]
    turned = joints.copy()
    turned[knee] = joints[hip] + about.apply(joints[knee] - joints[hip])
    at = ANGLE_NAMES.index("left_hip")
    change = joint_angles(turned)[at] - joint_angles(joints)[at]
    assert math.remainder(change - turn, 2 * math.pi) == pytest.approx(0, abs=1e-6)

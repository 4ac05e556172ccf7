"""Markers show what the poses say."""

from __future__ import annotations

import numpy as np
import pytest
from bench import FRAME, a_lost_pose, a_pose, an_image
from geometry_msgs.msg import Point
from rclpy.serialization import serialize_message
from visualization_msgs.msg import Marker

from stsp_model import bag, markers, messages
from stsp_model.camera import Camera
from stsp_model.estimator import Pose
from stsp_model.skeleton import BONES, INDEX, JOINT_COUNT
from stsp_ros.conversions import skeletons_message
from stsp_ros.markers import delete_all_markers, skeleton_markers

HEADER = an_image(12.5).header
CAMERA = Camera(np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]]), 64, 48)


def markers_of(*poses: Pose) -> list[Marker]:
    return skeleton_markers(poses, HEADER, CAMERA, distance=3.0, lifetime=0.75).markers


def place(point: Point) -> list[float]:
    return [point.x, point.y, point.z]


def test_bones_and_joints_stand_where_the_pose_is() -> None:
    pose = a_pose("p4")
    bones, joints, text = markers_of(pose)
    where = pose.joints + pose.root
    np.testing.assert_allclose([place(p) for p in joints.points], where)
    np.testing.assert_allclose([place(p) for p in bones.points], where[np.ravel(BONES)])
    assert (bones.type, joints.type) == (Marker.LINE_LIST, Marker.SPHERE_LIST)
    assert (text.type, text.text) == (Marker.TEXT_VIEW_FACING, "p4")
    for index, marker in enumerate((bones, joints, text)):
        assert marker.header == HEADER
        assert marker.header.frame_id == FRAME
        assert (marker.ns, marker.id, marker.action) == ("p4", index, Marker.ADD)
        assert (marker.lifetime.sec, marker.lifetime.nanosec) == (0, 750_000_000)
        rotation = marker.pose.orientation
        assert (rotation.x, rotation.y, rotation.z, rotation.w) == (0, 0, 0, 1)
        assert max(marker.scale.x, marker.scale.z) > 0


def test_the_name_stands_above_the_highest_joint() -> None:
    joints = a_pose().joints * [1, -1, 1]  # upright: y points down
    top = INDEX["head_top"]
    joints[top] = [0.04, -0.7, 0.02]
    _, _, text = markers_of(a_pose(joints=joints, root=np.array([0.1, 0.2, 3.0])))
    np.testing.assert_allclose(place(text.pose.position), [0.14, -0.5 - 0.15, 3.02])
    joints[INDEX["left_wrist"]] = [0.3, -0.9, 0.1]
    _, _, text = markers_of(a_pose(joints=joints, root=np.array([0.1, 0.2, 3.0])))
    np.testing.assert_allclose(place(text.pose.position), [0.4, -0.7 - 0.15, 3.1])


@pytest.mark.parametrize(
    ("image_rotation", "expected"),
    [(90, [-0.3 - 0.15, 0, 0]), (180, [0, 0.7 + 0.15, 0]), (270, [0.3 + 0.15, 0, 0])],
)
def test_the_name_stands_above_the_head_whichever_way_the_camera_hangs(
    image_rotation: int, expected: list[float]
) -> None:
    """Turned clockwise by 90 degrees, what is to the left in the image is up."""
    joints = np.zeros((JOINT_COUNT, 3))
    joints[INDEX["head_top"], 1] = -0.6
    joints[INDEX["left_ankle"], 1] = 0.7
    joints[INDEX["left_wrist"], 0], joints[INDEX["right_wrist"], 0] = 0.3, -0.3
    (*_, text) = skeleton_markers(
        [a_pose(joints=joints, root=np.zeros(3))], HEADER, CAMERA, image_rotation=image_rotation
    ).markers
    np.testing.assert_allclose(place(text.pose.position), expected, atol=1e-12)


def test_colours_tell_the_sides_and_stay_between_0_and_1() -> None:
    bones, joints, _ = markers_of(a_pose())
    assert len(bones.colors) == len(bones.points)
    assert len(joints.colors) == len(joints.points)
    for colour in [*bones.colors, *joints.colors]:
        assert 0 <= min(colour.r, colour.g, colour.b) <= max(colour.r, colour.g, colour.b) <= 1
        assert colour.a > 0
    assert joints.colors[INDEX["left_wrist"]] == joints.colors[INDEX["left_knee"]]
    assert joints.colors[INDEX["left_wrist"]] != joints.colors[INDEX["right_wrist"]]


def test_unknown_joints_are_left_out() -> None:
    joints = a_pose().joints.copy()
    joints[INDEX["left_elbow"]] = np.nan
    bones, spheres, _ = markers_of(a_pose(joints=joints))
    assert len(spheres.points) == len(spheres.colors) == JOINT_COUNT - 1
    assert len(bones.points) == len(bones.colors) == 2 * (len(BONES) - 2)
    assert np.isfinite([place(p) for p in bones.points + spheres.points]).all()


def test_without_any_joint_there_is_no_marker() -> None:
    assert markers_of(a_pose(joints=np.full((JOINT_COUNT, 3), np.nan))) == []


@pytest.mark.parametrize("pelvis_seen", [True, False])
def test_without_a_root_it_stands_grey_on_its_pixels_ray(pelvis_seen: bool) -> None:
    joints_2d = np.full((JOINT_COUNT, 2), np.nan)
    if pelvis_seen:
        joints_2d[INDEX["pelvis"]] = [82.0, 24.0]
    pose = a_pose(
        root=np.full(3, np.nan), joints_2d=joints_2d, box=np.array([72.0, 14.0, 92.0, 34.0])
    )
    _, joints, text = markers_of(pose)
    # The pixel (82, 24) is seen along (0.5, 0, 1).
    expected = 3.0 * np.array([0.5, 0.0, 1.0]) / np.sqrt(1.25)
    np.testing.assert_allclose(place(joints.points[INDEX["pelvis"]]), expected)
    assert len({(c.r, c.g, c.b) for c in joints.colors}) == 1
    assert text.color.r == text.color.g == text.color.b < 1


def test_a_lost_person_is_deleted() -> None:
    markers = markers_of(a_lost_pose("p9"), a_pose("p4"))
    deleted = [(m.ns, m.id) for m in markers if m.action == Marker.DELETE]
    assert deleted == [("p9", 0), ("p9", 1), ("p9", 2)]
    assert [m.ns for m in markers if m.action == Marker.ADD] == ["p4"] * 3


def test_delete_all() -> None:
    (marker,) = delete_all_markers(HEADER).markers
    assert (marker.action, marker.header) == (Marker.DELETEALL, HEADER)


def test_bags_written_without_ros_hold_the_same_messages() -> None:
    """Of one code with two sets of classes, which differ in what they leave unset."""
    without_root = a_pose("p5", root=np.full(3, np.nan), height=float("nan"))
    poses = [a_pose("p4"), without_root, a_lost_pose("p9")]
    types = bag.message_types()
    header = bag.header(12_500_000_000, FRAME)
    drawing = {"distance": 3.0, "lifetime": 0.75}
    for kind, without_ros, with_ros in (
        (
            bag.SKELETONS_TYPE,
            messages.skeletons_message(types, poses, header, 0.5),
            skeletons_message(poses, HEADER, 0.5),
        ),
        (
            bag.MARKERS_TYPE,
            markers.skeleton_markers(types, poses, header, CAMERA, **drawing),
            skeleton_markers(poses, HEADER, CAMERA, **drawing),
        ),
        (
            bag.MARKERS_TYPE,
            markers.delete_all_markers(types, header),
            delete_all_markers(HEADER),
        ),
    ):
        store = bag.typestore()
        # Through the same encoder: ROS leaves the gaps between fields as they were in memory.
        ours = bytes(store.serialize_cdr(without_ros, kind))
        theirs = serialize_message(with_ros)
        assert ours == bytes(store.serialize_cdr(store.deserialize_cdr(theirs, kind), kind))
        assert len(ours) == len(theirs)

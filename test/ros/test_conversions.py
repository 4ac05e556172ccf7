"""Messages become arrays and cameras, and poses become messages, without losing anything."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from bench import a_lost_pose, a_pose, an_image
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, JointState
from stsp.msg import Skeleton3D, Skeleton3DArray

from stsp_model.angles import ANGLE_NAMES, joint_angles
from stsp_model.camera_info import camera_from_info
from stsp_model.camera_source import CameraSource
from stsp_model.skeleton import INDEX, JOINT_COUNT, JOINTS
from stsp_ros.conversions import (
    image_from_message,
    image_message,
    joint_angles_message,
    skeletons_message,
    stamp_seconds,
)

HEADER = an_image(12.5).header


def an_info(**changes: object) -> CameraInfo:
    info = CameraInfo(width=640, height=480, distortion_model="plumb_bob")
    info.k = [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]
    info.p = [400.0, 0.0, 310.0, 0.0, 0.0, 400.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def test_a_bgr_image_is_a_view_of_its_message() -> None:
    message = an_image(1.0)
    image = image_from_message(message)
    message.data[0] = 99
    assert image[0, 0, 0] == 99


def test_images_survive_the_round_trip() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    for given in (image, image[:, ::-1], image[::2]):
        message = deserialize_message(serialize_message(image_message(given, HEADER)), Image)
        np.testing.assert_array_equal(image_from_message(message), given)
        assert message.header == HEADER


def test_an_unknown_encoding_goes_through_cv_bridge_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = an_image(1.0)
    message.encoding = "made-up"
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    with pytest.raises(ValueError, match=r"made-up.*cv_bridge cannot be imported"):
        image_from_message(message)

    bridge = types.ModuleType("cv_bridge")

    class CvBridge:
        def imgmsg_to_cv2(self, message: Image, encoding: str) -> np.ndarray:
            if message.width != 64:
                raise RuntimeError("no such thing")
            assert encoding == "bgr8"
            return np.full((48, 64, 3), 3, np.uint8)

    bridge.CvBridge = CvBridge
    monkeypatch.setitem(sys.modules, "cv_bridge", bridge)
    assert (image_from_message(message) == 3).all()
    message.width = 63
    with pytest.raises(ValueError, match=r"made-up.*cv_bridge refuses it: no such thing"):
        image_from_message(message)


def test_a_pose_fills_every_field_of_its_message() -> None:
    pose = a_pose("p3", height_given=True)
    array = skeletons_message([pose], HEADER, 0.02)
    array = deserialize_message(serialize_message(array), Skeleton3DArray)
    assert array.header == HEADER
    assert list(array.joint_names) == list(JOINTS)
    assert array.processing_time == pytest.approx(0.02)
    (skeleton,) = array.skeletons
    assert skeleton.header == HEADER
    assert skeleton.id == "p3"
    assert skeleton.tracking_state == Skeleton3D.TRACKING_OK
    assert skeleton.confidence == pytest.approx(0.75)
    assert (skeleton.root.x, skeleton.root.y, skeleton.root.z) == (0.1, 0.2, 3.0)
    np.testing.assert_allclose(skeleton.root_variance, [0.01, 0.01, 0.09], rtol=1e-6)
    assert skeleton.height == pytest.approx(1.25)
    assert skeleton.height_variance == pytest.approx(0.02)
    assert skeleton.scale_source == Skeleton3D.SCALE_GIVEN
    np.testing.assert_allclose(skeleton.box, [10, 5, 50, 45])
    assert skeleton.frames_used == 5
    offsets = [(j.offset.x, j.offset.y, j.offset.z) for j in skeleton.joints]
    np.testing.assert_array_equal(offsets, pose.joints)
    np.testing.assert_allclose([j.confidence for j in skeleton.joints], pose.confidence, rtol=1e-6)
    np.testing.assert_allclose([j.variance for j in skeleton.joints], pose.variance, rtol=1e-6)
    np.testing.assert_array_equal([(j.u, j.v) for j in skeleton.joints_2d], pose.joints_2d)
    np.testing.assert_allclose(
        [j.confidence for j in skeleton.joints_2d], pose.confidence_2d, rtol=1e-6
    )
    estimated = skeletons_message([a_pose()], HEADER, 0.0).skeletons[0]
    assert estimated.scale_source == Skeleton3D.SCALE_ESTIMATED


def test_a_lost_person_keeps_all_joints_as_nan() -> None:
    (skeleton,) = skeletons_message([a_lost_pose()], HEADER, float("nan")).skeletons
    assert skeleton.tracking_state == Skeleton3D.TRACKING_TERMINATE
    assert len(skeleton.joints) == len(skeleton.joints_2d) == JOINT_COUNT
    assert all(np.isnan(joint.offset.z) for joint in skeleton.joints)
    assert np.isnan(skeleton.root.x)


def test_joint_angles_are_named_by_person_and_leave_out_who_is_lost() -> None:
    unseen = a_pose("p7")
    unseen.joints[INDEX["left_ankle"]] = np.nan
    message = joint_angles_message([a_pose("p4"), a_lost_pose("p5"), unseen], HEADER)
    message = deserialize_message(serialize_message(message), JointState)
    assert message.header == HEADER
    assert message.name == [f"{person}/{name}" for person in ("p4", "p7") for name in ANGLE_NAMES]
    angles = dict(zip(message.name, message.position, strict=True))
    expected = dict(zip(ANGLE_NAMES, joint_angles(a_pose().joints), strict=True))
    assert angles["p4/right_elbow"] == expected["right_elbow"]
    assert angles["p7/right_hip"] == expected["right_hip"]
    assert np.isnan([angles["p7/left_knee"], angles["p7/trunk"]]).all()
    assert (len(message.velocity), len(message.effort)) == (0, 0)
    nobody = joint_angles_message([], HEADER)
    assert (nobody.name, len(nobody.position)) == ([], 0)


def test_stamps_are_seconds() -> None:
    assert stamp_seconds(HEADER.stamp) == 12.5


def a_matrix(focal: float, centre: float) -> list[float]:
    return [focal, 0.0, centre, 0.0, focal, centre, 0.0, 0.0, 1.0]


def test_camera_info_of_the_images_own_size() -> None:
    camera = camera_from_info(an_info(d=[0.1, -0.2, 0.0, 0.0, 0.05]), 640, 480)
    assert camera is not None
    np.testing.assert_array_equal(camera.K, [[500, 0, 320], [0, 510, 240], [0, 0, 1]])
    np.testing.assert_array_equal(camera.D, [0.1, -0.2, 0.0, 0.0, 0.05])
    assert (camera.width, camera.height) == (640, 480)


def test_rectified_takes_p_and_leaves_d() -> None:
    camera = camera_from_info(an_info(d=[0.1, 0.0, 0.0, 0.0, 0.0]), 640, 480, rectified=True)
    assert camera is not None
    np.testing.assert_array_equal(camera.K, [[400, 0, 310], [0, 400, 230], [0, 0, 1]])
    assert camera.D is None


def test_an_all_zero_matrix_counts_as_none() -> None:
    assert camera_from_info(CameraInfo(width=640, height=480), 640, 480) is None
    assert camera_from_info(an_info(p=[0.0] * 12), 640, 480, rectified=True) is None


def test_binning_and_region_move_and_shrink_the_matrix() -> None:
    info = an_info(binning_x=2, binning_y=2)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 40, 400, 300
    camera = camera_from_info(info, 200, 150)
    assert camera is not None
    # The centre of a pixel twice as large lies half a small pixel further: (220 + 0.5) / 2 - 0.5.
    np.testing.assert_allclose(camera.K, [[250, 0, 109.75], [0, 255, 99.75], [0, 0, 1]])


def test_a_resized_image_scales_the_matrix() -> None:
    camera = camera_from_info(an_info(), 1280, 960)
    assert camera is not None
    np.testing.assert_allclose(camera.K, [[1000, 0, 640.5], [0, 1020, 480.5], [0, 0, 1]])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"k": [float("nan"), 0.0, 1.0, 0.0, 5.0, 1.0, 0.0, 0.0, 1.0]}, "not finite"),
        ({"k": [-5.0, 0.0, 1.0, 0.0, 5.0, 1.0, 0.0, 0.0, 1.0]}, "focal"),
        ({"k": a_matrix(3.6, 320.0)}, "3.6.* in pixels"),  # millimetres
        ({"k": a_matrix(0.8, 0.5)}, "0.8.* in pixels"),  # shares of the image
        ({"k": a_matrix(500.0, 1e38)}, "1e\\+38.* in pixels"),
        ({"k": a_matrix(1e9, 320.0)}, "1e\\+09.* in pixels"),
        ({"distortion_model": "made-up", "d": [0.1]}, "made-up"),
        ({"d": [0.1, 0.2]}, "2 values"),
    ],
)
def test_bad_camera_info_says_what_is_wrong(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=f"camera_info.*{reason}"):
        camera_from_info(an_info(**changes), 640, 480)


def test_a_region_outside_the_sensor_is_refused() -> None:
    info = an_info()
    info.roi.x_offset, info.roi.width, info.roi.height = 600, 100, 100
    with pytest.raises(ValueError, match="outside its 640x480"):
        camera_from_info(info, 100, 100)


def test_the_camera_is_built_anew_only_for_something_new() -> None:
    source = CameraSource()
    assert source.camera(640, 480, rectified=False) is None
    source.receive(an_info())
    first = source.camera(640, 480, rectified=False)
    source.receive(an_info())
    assert source.camera(640, 480, rectified=False) is first
    assert source.camera(320, 240, rectified=False) is not first
    assert "calibrated" in source.state

    for _ in range(3):
        source.receive(an_info(k=[-1.0, *an_info().k[1:]]))
        assert source.camera(640, 480, rectified=False) is None
    assert source.bad == 3
    assert "focal" in source.problem
    source.receive(an_info())
    assert source.camera(640, 480, rectified=False) is not None
    assert source.problem == ""

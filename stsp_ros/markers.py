"""Skeletons as visualization_msgs, for RViz and Foxglove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Vector3
from std_msgs.msg import ColorRGBA, Header
from stsp.msg import Skeleton3D
from visualization_msgs.msg import Marker, MarkerArray

from stsp_model.camera import Camera
from stsp_model.drawing import SIDE_COLOURS
from stsp_model.skeleton import BONES, INDEX, SIDES

if TYPE_CHECKING:
    from stsp_model.estimator import Pose

Positions = npt.NDArray[np.float64]

BONES_ID, JOINTS_ID, TEXT_ID = 0, 1, 2  # within the namespace of one skeleton
_BONE_WIDTH, _JOINT_SIZE, _TEXT_HEIGHT = 0.03, 0.05, 0.12  # m
_TEXT_GAP = 0.15  # m above the head
_COLOURS = {
    side: ColorRGBA(r=r / 255, g=g / 255, b=b / 255, a=1.0)
    for side, (r, g, b) in SIDE_COLOURS.items()
}
_GREY = ColorRGBA(r=0.6, g=0.6, b=0.6, a=0.8)
_WHITE = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)


def skeleton_markers(
    poses: Sequence[Pose], header: Header, camera: Camera, *, distance: float, lifetime: float
) -> MarkerArray:
    """Bones, joints and id of each pose, in the frame of `header`; DELETE for a lost one.

    A pose without a root is drawn in grey with its pelvis `distance` metres along the ray of its
    pixel through `camera`, which may be a guessed one. Markers vanish `lifetime` seconds after
    the last (0: never).
    """
    markers: list[Marker] = []
    seconds, nanoseconds = divmod(round(lifetime * 1e9), 1_000_000_000)
    vanish = Duration(sec=seconds, nanosec=nanoseconds)
    for pose in poses:
        if int(pose.tracking_state) == Skeleton3D.TRACKING_TERMINATE:
            markers += [
                Marker(header=header, ns=pose.id, id=index, action=Marker.DELETE)
                for index in (BONES_ID, JOINTS_ID, TEXT_ID)
            ]
            continue
        known = bool(np.isfinite(pose.root).all())
        root = np.asarray(pose.root) if known else _on_its_ray(pose, camera, distance)
        positions = np.asarray(pose.joints, np.float64) + root
        markers += _markers_of(pose.id, positions, header, vanish, grey=not known)
    return MarkerArray(markers=markers)


def delete_all_markers(header: Header) -> MarkerArray:
    """Removes every marker of the topic."""
    return MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])


def _on_its_ray(pose: Pose, camera: Camera, distance: float) -> Positions:
    pixel = np.asarray(pose.joints_2d, np.float64)[INDEX["pelvis"]]
    if not np.isfinite(pixel).all():
        pixel = np.asarray(pose.box, np.float64).reshape(2, 2).mean(axis=0)
    u, v = camera.undistort(pixel)
    K = camera.K
    ray = np.array([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], 1.0])
    return distance * ray / np.linalg.norm(ray)


def _markers_of(
    name: str, positions: Positions, header: Header, vanish: Duration, *, grey: bool
) -> list[Marker]:
    drawable = np.asarray(np.isfinite(positions).all(axis=1))
    if not drawable.any():
        return []
    points = [Point(x=x, y=y, z=z) for x, y, z in positions.tolist()]
    colours = [_GREY if grey else _COLOURS[side] for side in SIDES]

    bones = Marker(header=header, ns=name, id=BONES_ID, type=Marker.LINE_LIST, lifetime=vanish)
    bones.scale = Vector3(x=_BONE_WIDTH)
    for parent, child in BONES:
        if drawable[parent] and drawable[child]:
            bones.points += [points[parent], points[child]]
            bones.colors += [colours[child], colours[child]]

    joints = Marker(header=header, ns=name, id=JOINTS_ID, type=Marker.SPHERE_LIST, lifetime=vanish)
    joints.scale = Vector3(x=_JOINT_SIZE, y=_JOINT_SIZE, z=_JOINT_SIZE)
    shown = np.flatnonzero(drawable)
    joints.points = [points[joint] for joint in shown]
    joints.colors = [colours[joint] for joint in shown]

    text = Marker(
        header=header,
        ns=name,
        id=TEXT_ID,
        type=Marker.TEXT_VIEW_FACING,
        lifetime=vanish,
        text=name,
        color=_GREY if grey else _WHITE,
    )
    text.scale.z = _TEXT_HEIGHT
    x, y, z = positions[drawable][np.argmin(positions[drawable, 1])].tolist()
    text.pose.position = Point(x=x, y=y - _TEXT_GAP, z=z)  # up is -y in the optical frame
    # An identity orientation is the default of geometry_msgs; a LINE_LIST of no points is refused.
    return [marker for marker in (bones, joints, text) if marker is text or marker.points]

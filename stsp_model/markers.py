"""Skeletons as visualization_msgs, for RViz and Foxglove."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .camera import Camera
from .drawing import SIDE_COLOURS
from .messages import MessageTypes
from .pose import Pose, TrackingState
from .skeleton import BONES, INDEX, SIDES
from .turns import turned_vectors

Positions = npt.NDArray[np.float64]

DISTANCE = 3.0  # m, at which a skeleton is drawn while its root is unknown
LIFETIME = 0.5  # s after which a marker that is not renewed disappears

BONES_ID, JOINTS_ID, TEXT_ID = 0, 1, 2  # within the namespace of one skeleton
# Constants of visualization_msgs/Marker
_DELETE, _DELETEALL = 2, 3
_LINE_LIST, _SPHERE_LIST, _TEXT_VIEW_FACING = 5, 7, 9
_BONE_WIDTH, _JOINT_SIZE, _TEXT_HEIGHT = 0.03, 0.05, 0.12  # m
_TEXT_GAP = 0.15  # m above the head
_Colour = tuple[float, float, float, float]  # red, green, blue, opacity
_COLOURS: dict[str, _Colour] = {
    side: (r / 255, g / 255, b / 255, 1.0) for side, (r, g, b) in SIDE_COLOURS.items()
}
_GREY: _Colour = (0.6, 0.6, 0.6, 0.8)
_WHITE: _Colour = (1.0, 1.0, 1.0, 1.0)


def skeleton_markers(
    types: MessageTypes,
    poses: Sequence[Pose],
    header: Any,
    camera: Camera,
    *,
    distance: float = DISTANCE,
    lifetime: float = LIFETIME,
    image_rotation: int = 0,
) -> Any:
    """Bones, joints and id of each pose, in the frame of `header`; DELETE for a lost one.

    A pose without a root is drawn in grey with its pelvis `distance` metres along the ray of its
    pixel through `camera`, which may be a guessed one. Markers vanish `lifetime` seconds after
    the last (0: never). The id stands above the head, which `image_rotation`, the estimator's,
    says where to find.
    """
    seconds, nanoseconds = divmod(round(lifetime * 1e9), 1_000_000_000)
    vanish = types.Duration(sec=seconds, nanosec=nanoseconds)
    up = turned_vectors([0.0, -1.0, 0.0], -image_rotation)  # -y in an upright optical frame
    markers: list[Any] = []
    for pose in poses:
        if pose.tracking_state == TrackingState.TERMINATE:
            markers += [
                types.Marker(header=header, ns=pose.id, id=index, action=_DELETE)
                for index in (BONES_ID, JOINTS_ID, TEXT_ID)
            ]
            continue
        known = bool(np.isfinite(pose.root).all())
        root = np.asarray(pose.root) if known else _on_its_ray(pose, camera, distance)
        positions = np.asarray(pose.joints, np.float64) + root
        markers += _markers_of(types, pose.id, positions, header, vanish, up, grey=not known)
    return types.MarkerArray(markers=markers)


def delete_all_markers(types: MessageTypes, header: Any) -> Any:
    """Removes every marker of the topic."""
    return types.MarkerArray(markers=[types.Marker(header=header, action=_DELETEALL)])


def _on_its_ray(pose: Pose, camera: Camera, distance: float) -> Positions:
    pixel = np.asarray(pose.joints_2d, np.float64)[INDEX["pelvis"]]
    if not np.isfinite(pixel).all():
        pixel = np.asarray(pose.box, np.float64).reshape(2, 2).mean(axis=0)
    u, v = camera.undistort(pixel)
    K = camera.K
    ray = np.array([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], 1.0])
    return distance * ray / np.linalg.norm(ray)


@functools.cache
def _palette(types: MessageTypes) -> Mapping[_Colour, Any]:
    """The colours as messages; they are many, and always the same."""
    return {
        (r, g, b, a): types.ColorRGBA(r=r, g=g, b=b, a=a)
        for r, g, b, a in (*_COLOURS.values(), _GREY, _WHITE)
    }


def _markers_of(
    types: MessageTypes,
    name: str,
    positions: Positions,
    header: Any,
    vanish: Any,
    up: Positions,
    *,
    grey: bool,
) -> list[Any]:
    drawable = np.asarray(np.isfinite(positions).all(axis=1))
    if not drawable.any():
        return []
    points = [types.Point(x=x, y=y, z=z) for x, y, z in positions.tolist()]
    palette = _palette(types)
    colours = [palette[_GREY if grey else _COLOURS[side]] for side in SIDES]
    bones = [(parent, child) for parent, child in BONES if drawable[parent] and drawable[child]]
    shown = np.flatnonzero(drawable).tolist()
    top = positions[drawable][np.argmax(positions[drawable] @ up)]
    x, y, z = (top + _TEXT_GAP * up).tolist()
    own = {"header": header, "ns": name, "lifetime": vanish}
    text = types.Marker(
        **own,
        id=TEXT_ID,
        type=_TEXT_VIEW_FACING,
        scale=types.Vector3(x=0.0, y=0.0, z=_TEXT_HEIGHT),
        pose=types.Pose(
            position=types.Point(x=x, y=y, z=z),
            orientation=types.Quaternion(x=0.0, y=0.0, z=0.0, w=1.0),
        ),
        text=name,
        color=palette[_GREY if grey else _WHITE],
    )
    joints = types.Marker(
        **own,
        id=JOINTS_ID,
        type=_SPHERE_LIST,
        scale=types.Vector3(x=_JOINT_SIZE, y=_JOINT_SIZE, z=_JOINT_SIZE),
        points=[points[joint] for joint in shown],
        colors=[colours[joint] for joint in shown],
    )
    if not bones:  # a LINE_LIST of no points is refused
        return [joints, text]
    lines = types.Marker(
        **own,
        id=BONES_ID,
        type=_LINE_LIST,
        scale=types.Vector3(x=_BONE_WIDTH, y=0.0, z=0.0),
        points=[points[end] for bone in bones for end in bone],
        colors=[colours[child] for _, child in bones for _ in range(2)],
    )
    return [lines, joints, text]

"""Poses as messages, built from ROS's own classes in the node, from those of `rosbags` in bags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .pose import Pose
from .skeleton import JOINTS

Message = Callable[..., Any]  # makes a message of its fields, given by name


@dataclass(frozen=True)
class MessageTypes:
    """What messages are made of. A Marker's fields that are not given have their defaults."""

    Duration: Message
    Point: Message
    Pose: Message
    Quaternion: Message
    Vector3: Message
    ColorRGBA: Message
    Marker: Message
    MarkerArray: Message
    Keypoint2D: Message
    Keypoint3D: Message
    Skeleton3D: Message
    Skeleton3DArray: Message


def skeletons_message(
    types: MessageTypes, poses: Sequence[Pose], header: Any, processing_time: float
) -> Any:
    """Everyone seen in one image; `header` is the image's, `processing_time` in seconds."""
    return types.Skeleton3DArray(
        header=header,
        joint_names=list(JOINTS),
        skeletons=[_skeleton(types, pose, header) for pose in poses],
        processing_time=processing_time,
    )


def _skeleton(types: MessageTypes, pose: Pose, header: Any) -> Any:
    variance = np.asarray(pose.variance, np.float32)
    joints = [
        types.Keypoint3D(
            offset=types.Vector3(x=x, y=y, z=z), confidence=confidence, variance=spread
        )
        for (x, y, z), confidence, spread in zip(
            np.asarray(pose.joints, np.float64).tolist(),
            np.asarray(pose.confidence, np.float64).tolist(),
            variance,
            strict=True,
        )
    ]
    joints_2d = [
        types.Keypoint2D(u=u, v=v, confidence=confidence)
        for (u, v), confidence in zip(
            np.asarray(pose.joints_2d, np.float64).tolist(),
            np.asarray(pose.confidence_2d, np.float64).tolist(),
            strict=True,
        )
    ]
    x, y, z = np.asarray(pose.root, np.float64).tolist()
    return types.Skeleton3D(
        header=header,
        id=pose.id,
        tracking_state=int(pose.tracking_state),
        confidence=float(pose.score),
        root=types.Point(x=x, y=y, z=z),
        root_variance=np.asarray(pose.root_variance, np.float32),
        height=float(pose.height),
        height_variance=float(pose.height_variance),
        scale_source=int(pose.height_given),  # SCALE_GIVEN is 1, SCALE_ESTIMATED 0
        joints=joints,
        joints_2d=joints_2d,
        box=np.asarray(pose.box, np.float32),
        frames_used=int(pose.frames_used),
    )

"""A rendered clip as a ROS bag: what a camera's driver would publish, and the true skeletons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stsp_model.bag import (
    CAMERA_INFO_TYPE,
    COMPRESSED_IMAGE_TYPE,
    SKELETONS_TYPE,
    BagWriter,
    camera_info,
    typestore,
)
from stsp_model.data.shards import RenderedClip
from stsp_model.skeleton import INDEX, JOINTS
from stsp_model.synth import CREDITS

IMAGE_TOPIC = "/camera/image/compressed"
CAMERA_INFO_TOPIC = "/camera/camera_info"
TRUTH_TOPIC = "/ground_truth/skeletons"
FRAME_ID = "camera_optical_frame"
_TRACKING_OK, _SCALE_GIVEN = 1, 1


def _skeleton(clip: RenderedClip, frame: int, person: int, header: Any) -> Any:
    """The truth about one child; a hidden joint has confidence 0 in 2D and keeps its place."""
    types = typestore().types
    vector, point = types["geometry_msgs/msg/Vector3"], types["geometry_msgs/msg/Point"]
    solid, flat = clip.joints_3d[frame, person], clip.joints_2d[frame, person]
    seen = clip.visible[frame, person]
    known = np.zeros(3, np.float32)
    root = solid[INDEX["pelvis"]]
    return types["stsp/msg/Skeleton3D"](
        header=header,
        id=f"child_{person}",
        tracking_state=_TRACKING_OK,
        confidence=1.0,
        root=point(*root.tolist()),
        root_variance=known,
        height=float(clip.heights[person]),
        height_variance=0.0,
        scale_source=_SCALE_GIVEN,
        joints=[
            types["stsp/msg/Keypoint3D"](offset=vector(*offset), confidence=1.0, variance=known)
            for offset in (solid - root).tolist()
        ],
        joints_2d=[
            types["stsp/msg/Keypoint2D"](u=u, v=v, confidence=float(shown))
            for (u, v), shown in zip(flat.tolist(), seen, strict=True)
        ],
        box=clip.boxes[frame, person].astype(np.float32),
        frames_used=0,
    )


def write_bag(path: str | Path, clip: RenderedClip) -> None:
    """Write a clip as an MCAP bag, the folder `path`. Raises BagError if it exists.

    The bag's metadata name the clip's motions and give the credits.
    """
    types = typestore().types
    with BagWriter(path) as bag:
        bag.note("motions", ", ".join(clip.motions))
        bag.note("credits", CREDITS)
        for topic, kind in (
            (CAMERA_INFO_TOPIC, CAMERA_INFO_TYPE),
            (IMAGE_TOPIC, COMPRESSED_IMAGE_TYPE),
            (TRUTH_TOPIC, SKELETONS_TYPE),
        ):
            bag.add_topic(topic, kind)
        for frame, stamp in enumerate(np.rint(clip.stamps * 1e9).astype(np.int64).tolist()):
            seconds, nanoseconds = divmod(stamp, 1_000_000_000)
            header = types["std_msgs/msg/Header"](
                stamp=types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds),
                frame_id=FRAME_ID,
            )
            image = np.frombuffer(clip.jpegs[frame], np.uint8)
            bag.write_message(CAMERA_INFO_TOPIC, stamp, camera_info(clip.camera, header))
            bag.write_message(
                IMAGE_TOPIC,
                stamp,
                types[COMPRESSED_IMAGE_TYPE](header=header, format="jpeg", data=image),
            )
            truth = types[SKELETONS_TYPE](
                header=header,
                joint_names=list(JOINTS),
                skeletons=[
                    _skeleton(clip, frame, person, header) for person in range(len(clip.motions))
                ],
                processing_time=float("nan"),
            )
            bag.write_message(TRUTH_TOPIC, stamp, truth)

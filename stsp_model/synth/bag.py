"""A rendered clip as a ROS bag: what a camera's driver would publish, and the true skeletons."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from stsp_model.bag import (
    CAMERA_INFO_TOPIC,
    CAMERA_INFO_TYPE,
    COMPRESSED_IMAGE_TYPE,
    FRAME_ID,
    IMAGE_TOPIC,
    SKELETONS_TYPE,
    BagWriter,
    camera_info,
    header,
    message_types,
    typestore,
)
from stsp_model.data.shards import RenderedClip
from stsp_model.messages import skeletons_message
from stsp_model.pose import Pose, TrackingState
from stsp_model.skeleton import INDEX, JOINT_COUNT
from stsp_model.synth import CREDITS

TRUTH_TOPIC = "/ground_truth/skeletons"


def _pose(clip: RenderedClip, frame: int, person: int) -> Pose:
    """The truth about one child; a hidden joint has confidence 0 in 2D and keeps its place."""
    solid = clip.joints_3d[frame, person]
    root = solid[INDEX["pelvis"]]
    return Pose(
        id=f"child_{person}",
        tracking_state=TrackingState.OK,
        joints=solid - root,
        variance=np.zeros((JOINT_COUNT, 3)),
        confidence=np.ones(JOINT_COUNT),
        joints_2d=clip.joints_2d[frame, person],
        confidence_2d=clip.visible[frame, person].astype(np.float64),
        root=root,
        root_variance=np.zeros(3),
        height=clip.heights[person],
        height_variance=0.0,
        height_given=True,
        box=clip.boxes[frame, person],
        score=1.0,
        frames_used=0,
    )


def write_bag(path: str | Path, clip: RenderedClip) -> None:
    """Write a clip as an MCAP bag, the folder `path`. Raises BagError if it exists.

    The bag's metadata name the clip's motions and give the credits.
    """
    compressed_image = typestore().types[COMPRESSED_IMAGE_TYPE]
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
            own = header(stamp, FRAME_ID)
            pixels = np.frombuffer(clip.jpegs[frame], np.uint8)
            image = compressed_image(header=own, format="jpeg", data=pixels)
            poses = [_pose(clip, frame, person) for person in range(len(clip.motions))]
            bag.write_message(CAMERA_INFO_TOPIC, stamp, camera_info(clip.camera, own))
            bag.write_message(IMAGE_TOPIC, stamp, image)
            truth = skeletons_message(message_types(), poses, own, math.nan)
            bag.write_message(TRUTH_TOPIC, stamp, truth)

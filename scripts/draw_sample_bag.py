"""Draw the sample bag: a child in a gym, three seconds at 30 Hz, with its true skeleton.

    python scripts/draw_sample_bag.py assets/sample.mcap

Nobody's picture: every pixel is computed. The same machine writes the same bytes each time.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sample_scene import HEIGHT, STANDING_HEIGHT, WIDTH, K, draw, project

from stsp_model.bag import (
    CAMERA_INFO_TYPE,
    COMPRESSED_IMAGE_TYPE,
    SKELETONS_TYPE,
    BagWriter,
    typestore,
)
from stsp_model.skeleton import JOINTS

RATE, FRAMES = 30, 90
FIRST_STAMP = 1_748_772_000_000_000_000  # ns; 1 June 2025, 10:00 UTC
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 70, cv2.IMWRITE_JPEG_OPTIMIZE, 1]


def messages(index: int) -> tuple[int, dict[str, Any]]:
    """Stamp (ns) and messages by topic of one frame."""
    types = typestore().types
    stamp = FIRST_STAMP + round(index * 1_000_000_000 / RATE)
    header = types["std_msgs/msg/Header"](
        stamp=types["builtin_interfaces/msg/Time"](
            sec=stamp // 1_000_000_000, nanosec=stamp % 1_000_000_000
        ),
        frame_id="camera_optical_frame",
    )
    image, mask, joints = draw(index / RATE)
    encoded = cv2.imencode(".jpg", image, JPEG)[1]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    vector, point = types["geometry_msgs/msg/Vector3"], types["geometry_msgs/msg/Point"]
    known = np.zeros(3, np.float32)
    skeleton = types["stsp/msg/Skeleton3D"](
        header=header,
        id="child",
        tracking_state=1,
        confidence=1.0,
        root=point(*joints[0].tolist()),
        root_variance=known,
        height=STANDING_HEIGHT,
        height_variance=0.0,
        scale_source=1,
        joints=[
            types["stsp/msg/Keypoint3D"](offset=vector(*offset), confidence=1.0, variance=known)
            for offset in (joints - joints[0]).tolist()
        ],
        joints_2d=[
            types["stsp/msg/Keypoint2D"](u=u, v=v, confidence=1.0)
            for u, v in project(joints).tolist()
        ],
        box=np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32),
        frames_used=0,
    )
    return stamp, {
        "/camera/camera_info": types[CAMERA_INFO_TYPE](
            header=header,
            height=HEIGHT,
            width=WIDTH,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=K.ravel(),
            r=np.eye(3).ravel(),
            p=np.hstack([K, np.zeros((3, 1))]).ravel(),
            binning_x=0,
            binning_y=0,
            roi=types["sensor_msgs/msg/RegionOfInterest"](
                x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
            ),
        ),
        "/camera/image/compressed": types[COMPRESSED_IMAGE_TYPE](
            header=header, format="jpeg", data=encoded.ravel()
        ),
        "/ground_truth/skeletons": types[SKELETONS_TYPE](
            header=header,
            joint_names=list(JOINTS),
            skeletons=[skeleton],
            processing_time=float("nan"),
        ),
    }


def write(path: Path, frames: int = FRAMES) -> None:
    """Write the bag as one .mcap file, replacing `path`."""
    with tempfile.TemporaryDirectory() as folder:
        with BagWriter(Path(folder) / path.stem) as bag:
            for index in range(frames):
                stamp, by_topic = messages(index)
                for topic, message in by_topic.items():
                    bag.add_topic(topic, message.__msgtype__)
                    bag.write_message(topic, stamp, message)
            file = bag.file
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", type=Path, help="the .mcap file to write")
    write(parser.parse_args().path)

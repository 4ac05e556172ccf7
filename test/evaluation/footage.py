"""A rendered clip for tests: two children before a wall of noise, as `stsp synth` stores it."""

import cv2
import numpy as np

from stsp_model.camera import Camera
from stsp_model.data.shards import INDEX_FILE, RenderedClip, save_clip
from stsp_model.evaluation import video
from stsp_model.skeleton import JOINT_COUNT

T = 5
CAMERA = Camera(np.array([[200.0, 0, 79.5], [0, 200, 59.5], [0, 0, 1]]), 160, 120)
HEIGHTS = (1.1, 1.4)


def clip(name="clip", heights=HEIGHTS):
    """Two children who stand 2.5 m away, 0.8 m apart, and drift to the right."""
    rng = np.random.default_rng(0)
    body = rng.uniform((-0.2, -0.5, -0.1), (0.2, 0.5, 0.1), (JOINT_COUNT, 3))
    way = np.linspace(0, 0.1, T)[:, None, None, None] * np.array([1.0, 0, 0])
    places = np.array([[-0.4, 0, 2.5], [0.4, 0, 2.5]])[: len(heights)]
    joints = body + places[:, None] + way
    flat = joints @ CAMERA.K.T
    flat = flat[..., :2] / flat[..., 2:]
    _, jpeg = cv2.imencode(".jpg", rng.integers(0, 255, (120, 160, 3), dtype=np.uint8))
    return RenderedClip(
        name=name,
        motions=("walk", "jump")[: len(heights)],
        camera=CAMERA,
        stamps=1 + np.arange(T) / 30,
        jpegs=[jpeg.tobytes()] * T,
        joints_3d=joints.astype(np.float32).astype(float),
        joints_2d=flat.astype(np.float32).astype(float),
        visible=np.ones(flat.shape[:-1], bool),
        boxes=np.concatenate([flat.min(axis=-2), flat.max(axis=-2)], axis=-1),
        heights=np.array(heights),
        up=np.tile([0, -1.0, 0], (T, 1)),
    )


def rendered(tmp_path, *clips):
    (tmp_path / INDEX_FILE).write_text('{"split": "validation"}')
    for one in clips:
        save_clip(tmp_path / f"{one.name}.safetensors", one)
    return list(video.rendered(tmp_path))

"""Pictures of stand-ins for people, bright rectangles, and a network that sees exactly those."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from stsp_model.camera import Camera
from stsp_model.epe import Observation
from stsp_model.estimator import PoseEstimator, TrackingState
from stsp_model.finder import FINDER_SIZE, FINDER_STRIDE
from stsp_model.lifter import Keypoints, Lifted, Lifter
from stsp_model.skeleton import JOINT_COUNT

CAMERA = Camera([[300, 0, 159.5], [0, 300, 119.5], [0, 0, 1]], 320, 240)
FRAME = 1 / 30  # s
OK, TERMINATE = TrackingState.OK, TrackingState.TERMINATE
CROP = 96
# Where a stand-in's joints lie in its rectangle: all over it, and on all four edges.
TEMPLATE = np.random.default_rng(4).uniform(size=(JOINT_COUNT, 2))
TEMPLATE = (TEMPLATE - TEMPLATE.min(0)) / (TEMPLATE.max(0) - TEMPLATE.min(0))


def picture(*boxes, size=(320, 240)):
    """A dim image (height, width, 3) with a red rectangle for each box x0 y0 x1 y1 (pixels)."""
    image = np.full((size[1], size[0], 3), 40, np.uint8)
    for x0, y0, x1, y1 in np.round(np.array(boxes).reshape(-1, 4)).astype(int):
        image[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = (0, 0, 255)
    return image


def person(x, y, width=30, height=60):
    """The rectangle (4,) centred at (x, y)."""
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def rectangles(image: Tensor):
    """Boxes (P, 4) of the red rectangles in an image (3, H, W) RGB 0..1."""
    red = ((image[0] > 0.6) & (image[2] < 0.4)).numpy().astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(red)
    stats = stats[1:][stats[1:, cv2.CC_STAT_AREA] >= 4].astype(float)
    return np.concatenate([stats[:, :2] - 0.5, stats[:, :2] + stats[:, 2:4] - 0.5], axis=1)


class SceneNet(nn.Module):
    """Sees the rectangles of `picture`, and can be told to fail.

    blind: sees nobody in crops. absent: sees all joints, but nobody whose they are. vague: sees
    somebody, but hardly any joint. doubting: is not quite sure of anybody in crops. lost: finds
    nobody in the frame. broken: gives NaN, in "observe" or in "lift".
    found: logits of the finder's boxes, from the top of the frame; the last for all further ones.
    finder_passes, crops_seen: how much work was asked for, a number for each call.
    saliency, keypoints, boxes: what the last call got.
    """

    def __init__(self):
        super().__init__()
        self.input_size, self.finder_size = (CROP, CROP), FINDER_SIZE
        self.trained, self.note, self.precision = False, "", "float32"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.lifter = Lifter(2)
        self.blind, self.absent, self.vague, self.doubting = False, False, False, False
        self.lost, self.broken = False, ""
        self.found = (4.0,)
        self.finder_passes, self.crops_seen = 0, []
        self.saliency = self.keypoints = self.boxes = None

    def find_people(self, frames: Tensor):
        self.finder_passes += 1
        count, _, height, width = frames.shape
        cells = (height // FINDER_STRIDE, width // FINDER_STRIDE)
        centres = torch.full((count, *cells), -10.0)
        distances = torch.ones(count, 4, *cells)
        for n, frame in enumerate(frames):
            boxes = [] if self.lost else rectangles(frame).tolist()
            for i, (x0, y0, x1, y1) in enumerate(boxes):
                column, row = (
                    int((v + 0.5) // FINDER_STRIDE) for v in ((x0 + x1) / 2, (y0 + y1) / 2)
                )
                x, y = (FINDER_STRIDE * v + (FINDER_STRIDE - 1) / 2 for v in (column, row))
                centres[n, row, column] = self.found[min(i, len(self.found) - 1)]
                distances[n, :, row, column] = torch.tensor([x - x0, y - y0, x1 - x, y1 - y])
        return centres, distances

    def begin(self, crops: Tensor) -> None:
        pass

    def observe(self, crops: Tensor, saliency: Tensor) -> Observation:
        self.crops_seen.append(len(crops))
        self.saliency = saliency
        count = len(crops)
        joints = torch.full((count, JOINT_COUNT, 2), CROP / 2)
        mass = torch.full((count, JOINT_COUNT), 0.02)
        present = torch.full((count,), -10.0)
        for n, crop in enumerate(crops):
            boxes = rectangles(crop)
            if len(boxes) == 0 or self.blind:
                continue
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2
            box = boxes[np.linalg.norm(centres - CROP / 2, axis=1).argmin()]
            joints[n] = torch.from_numpy(box[:2] + TEMPLATE * (box[2:] - box[:2]))
            mass[n], present[n] = 0.2 if self.vague else 0.9, 2.0 if self.doubting else 4.0
            if self.absent:
                present[n] = -10.0
        if self.broken == "observe":
            joints = joints * torch.nan
        return Observation(
            joints,
            mass,
            torch.eye(2).expand(count, JOINT_COUNT, 2, 2),
            mass.clone(),
            torch.zeros(count, JOINT_COUNT, 2),
            present,
            torch.zeros(count, JOINT_COUNT, CROP // 4, CROP // 4),
        )

    def lift_frame(self, keypoints: Keypoints, *rest) -> tuple[Lifted, list]:
        if self.broken == "lift":
            keypoints = Keypoints(
                keypoints.joints, keypoints.mass, keypoints.covariance * torch.nan, None
            )
        self.keypoints, self.boxes = keypoints, rest[0]
        return self.lifter.step(keypoints, *rest)


def estimator(**settings):
    """A PoseEstimator that sees rectangles."""
    return PoseEstimator(SceneNet(), **settings)


def states(poses):
    """(id, tracking_state) of every pose."""
    return [(pose.id, pose.tracking_state) for pose in poses]


def joints_of(box):
    """Pixels (17, 2) of a rectangle's joints."""
    return box[:2] + TEMPLATE * (box[2:] - box[:2]) - 0.5


def same(a, b):
    """Whether two lists of poses are equal in every number."""
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        for name in vars(one):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)

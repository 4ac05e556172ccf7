"""PoseEstimator with the real network, untrained: online equals offline, and all of it runs."""

import numpy as np
import pytest
import torch
from scene import CAMERA, FRAME, OK, person, same

from stsp_model.estimator import PoseEstimator
from stsp_model.network import Clip, STSPNet
from stsp_model.runtime import ONNXRUNTIME, TORCH
from stsp_model.runtime.backends import open_network


@pytest.fixture(scope="module")
def edge():
    torch.set_num_threads(1)
    return STSPNet("edge", seed=1).eval()


def textured(seed, size=(320, 240)):
    coarse = np.random.default_rng(seed).integers(0, 255, (size[1] // 16, size[0] // 16, 3))
    return np.kron(coarse, np.ones((16, 16, 1))).astype(np.uint8)


class Recorder:
    """The real network, writing down what it is asked."""

    def __init__(self, model):
        self.model, self.begun, self.crops, self.saliency, self.boxes = model, [], [], [], []

    def __getattr__(self, name):
        return getattr(self.model, name)

    def begin(self, crops):
        self.begun.append(crops)

    def observe(self, crops, saliency):
        assert crops is self.begun[-1]  # what a GPU has begun counts for these very crops
        self.crops.append(crops)
        self.saliency.append(saliency)
        return self.model.observe(crops, saliency)

    def lift_frame(self, keypoints, boxes, *rest):
        self.boxes.append(boxes)
        return self.model.lift_frame(keypoints, boxes, *rest)


@pytest.mark.parametrize("subject_height", [None, 1.25])
def test_online_equals_offline(edge, subject_height):
    """Frame by frame through the estimator, and the whole clip at once through forward."""
    recorder = Recorder(edge)
    estimate = PoseEstimator(recorder, subject_height=subject_height)
    # Uneven frame times, a dropped frame, and a gap that must empty the past.
    stamps = 1.7e9 + np.cumsum([0, 0.033, 0.034, 0.1, 0.03, 0.04, 0.8, 0.033, 0.033])
    poses, given = [], []
    for i, stamp in enumerate(stamps):
        box = person(140 + 5 * i, 120 - 2 * i, 70, 130)
        image = np.roll(textured(2), 3 * i, axis=1)
        (pose,) = estimate.step(image, stamp, CAMERA, boxes=[box])
        poses.append(pose)
        given.append(box)
    assert [pose.frames_used for pose in poses] == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    boxes = torch.from_numpy(np.array(given)).float()[None]
    torch.testing.assert_close(torch.stack(recorder.boxes, dim=1), boxes)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = 1.35 / 2 * (boxes[..., 2:] - boxes[..., :2]).amax(-1, keepdim=True)
    clip = Clip(
        crops=torch.stack(recorder.crops, dim=1),
        saliency=torch.stack(recorder.saliency, dim=1),
        crop_boxes=torch.cat([centre - half, centre + half], dim=-1),
        boxes=boxes,
        K=torch.from_numpy(CAMERA.K.copy()).float(),
        stamps=torch.from_numpy(stamps)[None],
        subject_height=None if subject_height is None else torch.tensor([subject_height]),
    )
    assert clip.saliency[:, 1:6].amax() > 0
    with torch.inference_mode():
        _, lifted = edge(clip)
    for i, pose in enumerate(poses):
        np.testing.assert_allclose(pose.joints, lifted.joints[0, i], atol=1e-5)
        np.testing.assert_allclose(pose.variance, lifted.variance[0, i], atol=1e-5)
        np.testing.assert_allclose(pose.confidence, lifted.confidence[0, i], atol=1e-5)
        assert pose.height == pytest.approx(float(lifted.height[0, i]), abs=1e-5)


def test_the_untrained_network_runs_the_whole_way_and_twice_alike(edge):
    results = []
    network = open_network(edge)
    for _ in range(2):
        estimate = PoseEstimator(network, max_people=2, min_confidence=0.0)
        poses = []
        for i in range(6):
            poses += estimate.step(np.roll(textured(3), 2 * i, axis=0), i * FRAME, CAMERA)
        results.append(poses)
    same(*results)
    live = [pose for pose in results[0] if pose.tracking_state == OK]
    assert len(live) >= 6
    assert all(np.isfinite(pose.joints).all() for pose in live)
    timings = estimate.last_timings
    parts = timings.find + timings.crop + timings.flow + timings.observe + timings.lift
    assert 0 < timings.observe < parts <= timings.total


def test_a_batch_of_people_gives_what_each_alone_gives(edge):
    boxes = [person(80, 100, 60, 100), person(220, 130, 70, 120)]
    network = open_network(edge)
    together = PoseEstimator(network).step(textured(5), 0.0, CAMERA, boxes=boxes)
    for box, pose in zip(boxes, together, strict=True):
        (alone,) = PoseEstimator(network).step(textured(5), 0.0, CAMERA, boxes=[box])
        np.testing.assert_allclose(pose.joints, alone.joints, atol=1e-5)


def test_the_callers_gradients_and_mode_are_left_alone(edge):
    expected = PoseEstimator(edge, backend="torch", min_confidence=0.0).step(textured(5), 0.0)
    assert expected
    edge.train()
    try:
        estimate = PoseEstimator(edge, backend="torch", min_confidence=0.0)
        same(estimate.step(textured(5), 0.0), expected)
        assert edge.training
    finally:
        edge.eval()
    assert torch.is_grad_enabled()
    assert all(parameter.requires_grad for parameter in edge.parameters())


def test_what_was_put_on_pytorch_stays_there(edge):
    network = open_network(edge, TORCH)
    assert PoseEstimator(network).network is network
    with pytest.raises(ValueError, match="on a backend already"):
        PoseEstimator(network, backend=ONNXRUNTIME)

"""The 2D protocol gives hand-worked figures, and shows the network what it says it shows."""

import numpy as np
import pytest
import torch

from stsp_model import STSPNet
from stsp_model.crop import crop_box, to_crop
from stsp_model.data.samples import ImagePose, box_around
from stsp_model.epe import Observation
from stsp_model.evaluation.pck import (
    LIMBS_12,
    LSP_JOINTS,
    Detections,
    detect,
    jittered_box,
    score,
)
from stsp_model.skeleton import INDEX, JOINT_COUNT, JOINTS, LSP_14


def figure(seed=0, size=100.0):
    """Joints (17, 2) of a person about `size` pixels tall, the nose unknown as in LSP."""
    joints = np.random.default_rng(seed).uniform(0, size, (JOINT_COUNT, 2)) + 50
    joints[INDEX["right_shoulder"]], joints[INDEX["left_hip"]] = (60, 60), (60, 100)  # torso 40
    joints[INDEX["nose"]] = np.nan
    return joints


def detections(joints, target, visible=None):
    joints, target = np.atleast_3d(joints), np.atleast_3d(target)
    joints, target = joints.reshape(-1, JOINT_COUNT, 2), target.reshape(-1, JOINT_COUNT, 2)
    visible = np.isfinite(target).all(-1) if visible is None else visible
    names = tuple(str(i) for i in range(len(target)))
    return Detections(names, joints, np.ones(joints.shape[:2]), target, visible)


class Marker(torch.nn.Module):
    """Sees every joint in the middle of the crop, and notes how many crops came at a time."""

    input_size = (64, 64)

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.batches = []

    def observe(self, crops, saliency):
        assert not self.training
        assert float(saliency.abs().max()) == 0
        self.batches.append(len(crops))
        middle = torch.full((len(crops), JOINT_COUNT, 2), 31.5)
        zeros = torch.zeros(len(crops), JOINT_COUNT)
        covariance = torch.zeros(len(crops), JOINT_COUNT, 2, 2)
        heatmaps = torch.zeros(len(crops), JOINT_COUNT, 16, 16)
        return Observation(middle, zeros, covariance, zeros + 0.5, zeros, zeros[:, 0], heatmaps)


def sample(joints, name="a", visible=None, size=(240, 240)):
    visible = np.isfinite(joints).all(-1) if visible is None else visible
    image = np.zeros((*size, 3), np.uint8)
    return ImagePose(image, joints, visible, box_around(joints[visible]), name)


def test_there_are_12_limb_joints_and_the_14_of_lsp():
    assert {JOINTS[i] for i in LIMBS_12} == set(LSP_14.points[:12])
    assert {JOINTS[i] for i in LSP_JOINTS} == {*LSP_14.points[:12], "thorax", "head_top"}


def test_truth_against_itself_is_everything():
    target = np.stack([figure(0), figure(1)])
    scored = score(detections(target, target))
    assert (scored.pck, scored.pck_limbs, scored.pckh) == (100, 100, 100)
    assert (scored.images, scored.skipped) == (2, 0)
    assert set(scored.per_joint.values()) == {100}


def test_a_joint_is_right_up_to_a_fifth_of_the_torso():
    target, found = figure(), figure()
    found[INDEX["left_knee"]] += (0, 8.0)  # torso 40
    found[INDEX["right_wrist"]] += (8.01, 0)
    found[INDEX["thorax"]] += (30, 0)
    found[INDEX["spine"]] += (300, 0)  # LSP has no such joint
    scored = score(detections(found, target))
    assert scored.per_joint["left_knee"] == 100
    assert scored.per_joint["right_wrist"] == 0
    assert scored.pck == pytest.approx(100 * 12 / 14)
    assert scored.pck_limbs == pytest.approx(100 * 11 / 12)


def test_the_other_diagonal_stands_in_and_without_either_the_image_is_skipped():
    target = np.stack([figure(), figure(), figure()])
    target[:, INDEX["left_shoulder"]], target[:, INDEX["right_hip"]] = (0, 0), (0, 10)
    visible = np.isfinite(target).all(-1)
    visible[1, INDEX["left_hip"]] = False  # torso 10 instead of 40
    visible[2, [INDEX["left_hip"], INDEX["right_hip"]]] = False
    found = target + np.array([4.0, 0])
    scored = score(detections(found, target, visible))
    assert (scored.images, scored.skipped) == (2, 1)
    assert scored.pck == pytest.approx(100 * 14 / 27)


def test_a_torso_without_length_is_none():
    target = figure()
    target[INDEX["left_hip"]] = target[INDEX["right_shoulder"]]
    visible = np.isfinite(target).all(-1)
    visible[INDEX["left_shoulder"]] = False
    assert score(detections(target, target, visible[None])).images == 0


def test_what_was_not_found_is_wrong_and_what_is_not_visible_does_not_count():
    target, found = figure(), figure()
    found[INDEX["left_knee"]] = np.nan
    found[INDEX["head_top"]] += 500
    visible = np.isfinite(target).all(-1)
    visible[INDEX["head_top"]] = False
    scored = score(detections(found, target, visible[None]))
    assert scored.pck == pytest.approx(100 * 12 / 13)
    assert np.isnan(scored.per_joint["head_top"])
    assert np.isnan(scored.pckh)


def test_pckh_allows_half_a_head():
    target = figure()
    target[INDEX["thorax"]], target[INDEX["head_top"]] = (60, 50), (60, 30)
    found = target.copy()
    found[INDEX["left_knee"]] += (10, 0)
    found[INDEX["left_ankle"]] += (10.1, 0)
    assert score(detections(found, target)).pckh == pytest.approx(100 * 13 / 14)


def test_a_point_seen_in_the_crops_middle_is_the_boxs_middle():
    joints = figure()
    found = detect(Marker(), [sample(joints)])
    x0, y0, x1, y1 = box_around(joints)
    np.testing.assert_allclose(found.joints[0], [[(x0 + x1) / 2, (y0 + y1) / 2]] * JOINT_COUNT)
    assert (found.confidence == 0.5).all()


def test_people_go_through_the_network_in_batches_and_come_back_in_order():
    model = Marker()
    empty = sample(figure(2), visible=np.zeros(JOINT_COUNT, bool))
    samples = [sample(figure(0) + 5 * i, str(i)) for i in range(5)]
    samples.insert(2, empty)
    found = detect(model, samples, batch=2)
    assert model.batches == [2, 2, 1]
    assert found.names == ("0", "1", "a", "2", "3", "4")
    assert np.isnan(found.joints[2]).all()
    known = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(np.diff(found.joints[known], axis=0), 5)


def test_a_last_person_without_a_box_does_not_hold_back_the_batch():
    samples = [sample(figure()), sample(figure(2), visible=np.zeros(JOINT_COUNT, bool))]
    assert np.isfinite(detect(Marker(), samples).joints[0]).all()


def test_who_shows_a_line_of_joints_has_a_box():
    joints = np.full((JOINT_COUNT, 2), np.nan)
    joints[[INDEX["left_hip"], INDEX["left_knee"]]] = (70, 60), (70, 100)
    np.testing.assert_allclose(detect(Marker(), [sample(joints)]).joints[0], [[70, 80]] * 17)


def test_the_network_is_left_in_the_modes_it_was_in():
    model = Marker()
    model.inner = torch.nn.BatchNorm2d(1).eval()
    detect(model, [sample(figure())])
    assert model.training
    assert not model.inner.training


def test_jitter_is_seeded_per_image_and_bounded():
    box = np.array([100.0, 100, 150, 300])
    boxes = np.stack([jittered_box(box, 1, i) for i in range(400)])
    np.testing.assert_array_equal(boxes[7], jittered_box(box, 1, 7))
    assert not np.array_equal(boxes[7], jittered_box(box, 2, 7))
    shift = (boxes[:, :2] + boxes[:, 2:]) / 2 - [125, 200]
    scale = (boxes[:, 3] - boxes[:, 1]) / 200
    assert abs(shift).max() <= 20  # a tenth of the longer side, on both axes
    assert abs(shift).max(axis=0).min() > 19
    assert 0.8 <= scale.min() < 0.82
    assert 1.22 < scale.max() <= 1.25
    assert 0.4 < (scale > 1).mean() < 0.6
    np.testing.assert_allclose((boxes[:, 2] - boxes[:, 0]) / 50, scale)


def test_jitter_moves_what_the_network_sees():
    joints = figure()
    seen = detect(Marker(), [sample(joints)], jitter=3).joints[0, 0]
    moved = jittered_box(box_around(joints), 3, 0)
    np.testing.assert_allclose(seen, (moved[:2] + moved[2:]) / 2)


def test_the_real_network_sees_the_same_in_any_batch():
    model = STSPNet("edge")
    generator = np.random.default_rng(0)
    samples = [
        ImagePose(
            generator.integers(0, 255, (240, 240, 3), dtype=np.uint8),
            figure(i),
            np.isfinite(figure(i)).all(-1),
            box_around(figure(i)),
            str(i),
        )
        for i in range(3)
    ]
    one, all_ = detect(model, samples, batch=1), detect(model, samples, batch=3)
    np.testing.assert_allclose(one.joints, all_.joints, atol=0.05)
    boxes = crop_box(np.stack([s.box for s in samples]), model.input_size)
    size = np.array(model.input_size, float)
    inside = to_crop(one.joints, boxes[:, None], size)
    assert ((inside >= -0.5) & (inside <= size - 0.5)).all()
    assert score(detect(model, samples)).images == 3

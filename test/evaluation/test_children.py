"""Motion capture in children's proportions: real children of the heights asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stsp_model.data.bvh import BVHDataset
from stsp_model.evaluation.lifting import CHILD_HEIGHTS, Protocol, child, trials
from stsp_model.losses import bone_lengths

pytest.importorskip("anny", reason="the extra [synth] is not installed")
CMU = Path(__file__).resolve().parents[3] / "shared" / "data" / "mocap" / "cmu_bvh60.tar.xz"
pytestmark = pytest.mark.skipif(not CMU.exists(), reason=f"the real data set {CMU} is not here")


@pytest.fixture(scope="module")
def data():
    return BVHDataset(CMU, "validation")


def test_children_have_all_joints_rigid_limbs_and_heights_as_asked_for(data):
    for index in range(5):
        motion, height = child(data, index, seed=3)
        assert CHILD_HEIGHTS[0] <= height <= CHILD_HEIGHTS[1]
        assert motion.mask.all()
        assert len(motion.stamps) == len(data[index].stamps)
        lengths = bone_lengths(torch.from_numpy(motion.joints)).numpy()
        limbs = [1, 2, 4, 5, 11, 12, 14, 15]  # of BONES: thighs, shins, upper arms, forearms
        assert np.ptp(lengths[:, limbs], axis=0).max() < 1e-3
        assert 0.15 < lengths[0, 1] / height < 0.3  # the thigh
        # Faster than the adult, as shorter legs are.
        assert motion.stamps[1] - motion.stamps[0] < 1 / 60
        assert np.ptp(motion.joints[..., 2]) > 0.5 * height  # z is up


def test_bodies_are_seeded_and_differ(data):
    (first, one), (again, same), (_, other) = (child(data, 0, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.joints, again.joints)
    assert one == same != other


def test_trials_of_children_are_resampled_and_know_their_height(data):
    protocol = Protocol(views=1, fps=30, children=True, seed=5)
    trial = next(trials(data, protocol))
    assert trial.height == child(data, 0, 5)[1]
    np.testing.assert_allclose(np.diff(trial.motion.stamps), 1 / 30)
    assert np.isfinite(trial.motion.joints_2d).all()

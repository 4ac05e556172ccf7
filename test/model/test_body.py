"""Running medians see known frames only, and bones take the lengths they are given."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from stsp_model.body import running_median, with_bone_lengths
from stsp_model.skeleton import BONES


@given(
    values=st.lists(
        st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=2), min_size=1, max_size=9
    ),
    data=st.data(),
)
def test_running_median_is_that_of_the_known_values(values, data):
    known = data.draw(
        st.lists(st.booleans(), min_size=len(values), max_size=len(values)).filter(any)
    )
    result = running_median(torch.tensor([values]), torch.tensor([known]))
    expected = np.median(np.float32(values)[known], axis=0)
    np.testing.assert_allclose(result[0], expected, rtol=1e-5, atol=1e-5)


@given(seed=st.integers(0, 10**6))
def test_bones_take_the_lengths_and_keep_their_directions(seed):
    rng = np.random.default_rng(seed)
    joints = rng.normal(size=(2, 17, 3)) * [[[1.0]], [[1e-3]]]
    joints -= joints[:, :1]
    lengths = rng.uniform(0.05, 0.5, (2, 16))
    result = with_bone_lengths(torch.from_numpy(joints), torch.from_numpy(lengths)).numpy()
    assert (result[:, 0] == 0).all()
    for bone, (parent, child) in enumerate(BONES):
        before = joints[:, child] - joints[:, parent]
        after = result[:, child] - result[:, parent]
        direction = before / np.linalg.norm(before, axis=-1, keepdims=True)
        np.testing.assert_allclose(after, direction * lengths[:, bone, None], atol=1e-9)


def test_a_pose_without_extent_stays_finite():
    joints = torch.zeros(1, 17, 3, requires_grad=True)
    result = with_bone_lengths(joints, torch.full((1, 16), 0.2))
    result.sum().backward()
    assert result.isfinite().all()
    assert joints.grad is not None
    assert joints.grad.isfinite().all()

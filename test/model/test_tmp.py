"""TMP corrects by known history only, and not at all without."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from stsp_model.gsr import LOG_VARIANCE_RANGE, WIDTH
from stsp_model.tmp import TAU, TMP, History


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = TMP().eval()
    nn.init.normal_(network.last.weight, std=0.05)  # as if trained
    return network


@pytest.fixture
def current():
    torch.manual_seed(1)
    joints = torch.randn(3, 17, 3) * 0.2
    joints = joints - joints[:, :1]
    return torch.randn(3, 17, WIDTH), joints, torch.randn(3, 17, 3) - 6


@pytest.fixture
def history():
    torch.manual_seed(2)
    age = torch.arange(TAU, 0, -1) / 30
    known = torch.ones(3, TAU, dtype=torch.bool)
    return History(
        torch.randn(3, TAU, 17, 3) * 0.2, torch.randn(3, TAU, 17, 3) - 6, age.expand(3, -1), known
    )


@torch.no_grad()
def test_without_history_the_pose_stays_to_the_bit(network, current, history):
    nobody = replace(history, known=torch.zeros_like(history.known))
    joints, log_variance = network(*current, nobody)
    assert torch.equal(joints, current[1])
    assert torch.equal(log_variance, current[2])


@torch.no_grad()
def test_with_history_the_pose_moves_and_the_pelvis_stays(network, current, history):
    joints, log_variance = network(*current, history)
    assert (joints - current[1])[:, 1:].abs().amax(dim=(1, 2)).min() > 1e-3
    assert (joints[:, 0] == 0).all()
    assert (log_variance >= LOG_VARIANCE_RANGE[0]).all()


@torch.no_grad()
def test_log_variances_stay_within_bounds_whatever_the_history(network, current, history):
    for sign, end in ((-1, 0), (1, 1)):
        network.last.bias[3:] = sign * 100.0
        assert (network(*current, history)[1] == LOG_VARIANCE_RANGE[end]).all()


@pytest.mark.parametrize("known", range(TAU))
@pytest.mark.parametrize("poison", [1e6, float("nan"), float("inf")])
@torch.no_grad()
def test_masked_history_has_no_influence(network, current, history, known, poison):
    mask = history.known.clone()
    mask[:, : TAU - known] = False
    clean = replace(history, known=mask)
    poisoned = History(
        torch.where(mask[..., None, None], history.joints, poison),
        torch.where(mask[..., None, None], history.log_variance, poison),
        torch.where(mask, history.age, poison),
        mask,
    )
    for expected, result in zip(network(*current, clean), network(*current, poisoned), strict=True):
        assert torch.equal(expected, result)


@pytest.mark.parametrize("known", [1, 3])
@torch.no_grad()
def test_masked_history_is_as_if_it_were_not_there(network, current, history, known):
    mask = history.known.clone()
    mask[:, : TAU - known] = False
    short = History(
        *(getattr(history, name)[:, -known:] for name in ("joints", "log_variance", "age", "known"))
    )
    expected = network(*current, short)[0]
    result = network(*current, replace(history, known=mask))[0]
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_every_known_frame_and_its_age_have_influence(network, current, history):
    joints, _ = network(*current, history)
    for frame in range(TAU):
        past = history.joints.clone()
        past[:, frame, 5] += 0.1
        assert not torch.equal(network(*current, replace(history, joints=past))[0], joints)
        age = history.age.clone()
        age[:, frame] += 0.05
        assert not torch.equal(network(*current, replace(history, age=age))[0], joints)


@torch.no_grad()
def test_frames_are_told_apart_by_age_not_by_place(network, current, history):
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = History(
        history.joints[:, order],
        history.log_variance[:, order],
        history.age[:, order],
        history.known[:, order],
    )
    expected = network(*current, history)[0]
    torch.testing.assert_close(network(*current, shuffled)[0], expected, atol=1e-5, rtol=0)

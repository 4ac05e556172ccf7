"""Trials: which cameras see which motions, how heights are given, and children in motion."""

import numpy as np
import pytest
from swinging import bvh_text

from stsp_model import STSPNet
from stsp_model.camera import Camera
from stsp_model.data.bvh import BVHDataset
from stsp_model.data.errors import DataError
from stsp_model.data.samples import Y_UP, Motion
from stsp_model.evaluation.lifting import Protocol, lift, take, trials
from stsp_model.evaluation.predictions import Prediction
from stsp_model.evaluation.scores import score
from stsp_model.evaluation.views import standing_height

CAMERA = Camera(np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), 640, 480, [-0.2, 0, 0, 0])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mocap")
    (folder / "02_04.bvh").write_text(bvh_text())
    (folder / "09_01.bvh").write_text(bvh_text(phase=1.0))
    return BVHDataset(folder)


@pytest.fixture(scope="module")
def model():
    return STSPNet("edge").eval()


def before_camera(data, **more):
    """The first motion, 4 m in front of a camera."""
    motion = data[0]
    turned = motion.joints * (1, -1, -1)
    joints = turned - turned[0, 0] + np.array([0, 0, 4.0])
    return Motion(joints, motion.stamps, "real", "s", "walk", np.array([0, -1.0, 0]), **more)


def test_every_motion_is_seen_by_so_many_cameras_alike_every_time(data):
    protocol = Protocol(views=3, noise=0.02, fps=30)
    first, second = list(trials(data, protocol)), list(trials(data, protocol))
    names = [trial.motion.name for trial in first]
    assert names == [f"{clip}/view{i}" for clip in ("02_04", "09_01") for i in (1, 2, 3)]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.motion.joints_2d, b.motion.joints_2d)
    assert len({trial.motion.joints[0, 0].tobytes() for trial in first}) == 6
    other = next(trials(data, Protocol(views=3, noise=0.02, fps=30, seed=1)))
    assert np.nanmax(abs(other.motion.joints - first[0].motion.joints)) > 0.1


def test_noise_changes_what_is_lifted_and_not_the_truth(data):
    exact, noisy = (next(trials(data, Protocol(noise=share))) for share in (0.0, 0.02))
    np.testing.assert_array_equal(exact.motion.joints, noisy.motion.joints)
    assert 0.5 < np.nanstd(exact.motion.joints_2d - noisy.motion.joints_2d) < 20


def test_a_motion_with_a_camera_is_seen_by_that_one_alone(data):
    motion = before_camera(data, camera=CAMERA)
    (trial,) = trials([motion], Protocol(views=3))
    assert trial.motion.camera is CAMERA
    np.testing.assert_allclose(
        CAMERA.undistort(trial.motion.joints_2d)[:, 1],
        (motion.joints @ CAMERA.K.T)[:, 1, :2] / motion.joints[:, 1, 2:],
        atol=1e-2,
    )
    detected = np.full((len(motion.stamps), 17, 2), 7.0)
    (trial,) = trials([before_camera(data, camera=CAMERA, joints_2d=detected)], Protocol())
    np.testing.assert_array_equal(trial.motion.joints_2d, detected)


def test_the_given_height_scales_the_pose_and_the_estimate_is_the_networks(data, model):
    trial = next(trials(data, Protocol(views=1)))
    assert trial.height == standing_height(data[0].joints)
    given, estimated = lift(model, trial, True), lift(model, trial, False)
    assert given.height is None
    np.testing.assert_allclose(
        estimated.joints * (trial.height / estimated.height)[:, None, None],
        given.joints,
        rtol=1e-4,
        atol=1e-5,
    )
    direct = model.lift(trial.motion.joints_2d, trial.motion.stamps, trial.motion.camera)
    np.testing.assert_array_equal(estimated.joints, direct)
    scored = score([take(trial, estimated)])
    error = abs(estimated.height - trial.height).mean() * 1000
    assert scored.average["height_error"] == pytest.approx(error)


def test_a_take_without_prediction_is_wrong_and_one_of_other_length_refused(data):
    trial = next(trials(data, Protocol(views=1)))
    whole = take(trial, Prediction(joints=trial.motion.joints))
    assert score([whole, take(trial, None)]).average["pck_150"] == 50
    with pytest.raises(DataError, match="has no 3D joints, expected 40 frames"):
        take(trial, Prediction(joints_2d=trial.motion.joints_2d))


def test_what_a_data_set_cannot_give_is_refused(data, model):
    with pytest.raises(DataError, match="BVH motion capture alone"):
        next(trials([data[0]], Protocol(children=True)))
    with pytest.raises(DataError, match="fps is 500"):
        next(trials(data, Protocol(fps=500)))
    tiny = Motion(data[0].joints / 10, data[0].stamps, "tiny", "s", "a", np.array(Y_UP))
    trial = next(trials([tiny], Protocol()))
    with pytest.raises(DataError, match=r"tiny/view1 has a standing height of 0\.1"):
        lift(model, trial, True)
    assert np.isfinite(lift(model, trial, False).joints).all()
    for wrong in ({"views": 0}, {"noise": -0.1}, {"fps": 0.0}, {"seed": -1}, {"noise": np.nan}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
            Protocol(**wrong)


def test_a_detectors_errors_come_with_how_sure_and_how_precise_it_is(data, model):
    pytest.importorskip("yaml")
    exact = next(trials(data, Protocol(views=1)))
    trial, again = (next(trials(data, Protocol(views=1, detector="edge"))) for _ in range(2))
    np.testing.assert_array_equal(trial.motion.joints_2d, again.motion.joints_2d)
    np.testing.assert_array_equal(trial.motion.joints, exact.motion.joints)
    missing = np.isnan(trial.motion.joints_2d).any(axis=-1)
    assert missing[:, [9, 10]].all()  # nose and head_top are unknown in this capture
    assert (trial.confidence[:, :9] == 0).sum() == missing[:, :9].sum()
    assert np.ptp(trial.confidence) > 0.3
    assert trial.covariance.shape == (40, 17, 2, 2)
    errors = np.linalg.norm(trial.motion.joints_2d - exact.motion.joints_2d, axis=-1)
    assert 0.5 < np.nanmedian(errors) < 50
    assert np.isfinite(lift(model, trial, True).joints).all()
    with pytest.raises(DataError, match="noise model 'none' is neither"):
        next(trials(data, Protocol(detector="none")))
    with pytest.raises(ValueError, match="noise and detector are both given"):
        Protocol(noise=0.1, detector="edge")

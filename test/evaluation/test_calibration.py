"""What confidences and variances are worth, on made-up claims whose worth is known."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stsp_model.evaluation.calibration import (
    Calibration,
    Claims,
    calibration,
    calibration_error,
    claims_2d,
    coverage,
    nominal,
    reliability,
)
from stsp_model.evaluation.pck import Detections
from stsp_model.evaluation.report import text_calibration
from stsp_model.evaluation.scores import Take
from stsp_model.skeleton import INDEX


def claims(times=1.0, count=100_000, seed=0):
    """Joints whose chance to be right is `times` their confidence."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0, 1, count)
    return Claims(confidence, rng.random(count) < times * confidence)


def take(times=1.0, frames=3000, **more):
    """Poses whose errors are normal, and `times` as large as their variances say."""
    rng = np.random.default_rng(1)
    target = rng.normal(0, 0.5, (frames, 17, 3))
    target[:, 0] = 0
    sigma = rng.uniform(0.01, 0.1, (frames, 17, 1)) * np.array([1.0, 1.0, 2.0])
    error = times * rng.normal(0, sigma)
    error[:, 0] = 0
    stamps = np.arange(frames) / 30
    return Take("t", "a", target + error, target, stamps, variance=sigma**2, **more)


def test_true_claims_have_no_calibration_error_and_exaggerated_ones_that_of_the_exaggeration():
    assert calibration_error(claims()) < 0.01
    # Right half as often as claimed: off by c / 2, on average over c from 0 to 1 by a quarter.
    assert calibration_error(claims(0.5)) == pytest.approx(0.25, abs=0.01)


def test_a_calibration_error_by_hand():
    # Two bins of two: claimed 0.2, half right; claimed 0.9, all right.
    few = Claims(np.array([0.9, 0.1, 0.9, 0.3]), np.array([True, False, True, True]))
    confidence, right, count = reliability(few, bins=2)
    np.testing.assert_allclose(confidence, [0.2, 0.9])
    np.testing.assert_allclose(right, [0.5, 1.0])
    np.testing.assert_allclose(count, [2, 2])
    assert calibration_error(few, bins=2) == pytest.approx((0.3 + 0.1) / 2)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60), st.integers(1, 12))
def test_bins_hold_every_joint_once_and_as_many_as_their_neighbours(pairs, bins):
    some = Claims(np.array([c for c, _ in pairs]), np.array([r for _, r in pairs], bool))
    confidence, right, count = reliability(some, bins)
    assert count.sum() == len(pairs)
    assert len(count) == min(bins, len(pairs))
    if not pairs:
        assert np.isnan(calibration_error(some, bins))
        return
    assert np.ptp(count) <= 1
    assert (np.diff(confidence) >= -1e-12).all()
    assert np.average(right, weights=count) == pytest.approx(some.right.mean())
    assert 0 <= calibration_error(some, bins) <= 1


@settings(max_examples=20)
@given(st.floats(0.3, 3))
def test_errors_lie_within_their_deviations_as_often_as_the_normal_distribution_says(times):
    found = calibration({}, [take(times)])
    assert found.deviations.shape == (3000 * 16, 3)  # the pelvis has no error to count
    for sigma in (0.5, 1, 2):
        expected = nominal(sigma / times)
        for share in (found.deviations.ravel(), *found.deviations.T):
            assert float(coverage(share, sigma)) == pytest.approx(expected, abs=0.01)


def test_an_error_of_just_so_many_deviations_lies_within_them():
    assert coverage(np.array([1.0, -1.0, 2.0]), [1, 2]).tolist() == [pytest.approx(2 / 3), 1]


def test_the_shares_of_a_normal_distribution():
    # From tables.
    assert nominal(1) == pytest.approx(0.682689, abs=1e-6)
    assert nominal(2) == pytest.approx(0.954500, abs=1e-6)


def test_joints_that_are_unknown_were_not_found_or_say_nothing_are_not_counted():
    one = take(frames=10, confidence=np.full((10, 17), 0.7))
    one.prediction[0] = np.nan
    one.target[1, 3] = np.nan
    one.variance[2, 4] = np.nan
    one.confidence[3, 5] = np.nan
    found = calibration({}, [one, Take("u", "a", one.prediction, one.target, one.stamps)])
    assert len(found.deviations) == 10 * 16 - 16 - 1 - 1
    assert len(found.claims["3D"]) == 10 * 16 - 16 - 1 - 1
    # A variance of nothing claims an exact joint: none but that is within it.
    one.variance[:] = 0
    assert float(coverage(calibration({}, [one]).deviations.ravel(), 1)) == 0
    exact = Take("e", "a", one.target, one.target, one.stamps, variance=one.variance)
    assert float(coverage(calibration({}, [exact]).deviations.ravel(), 1)) == 1


def test_a_joint_in_3d_is_right_within_150_mm():
    target = np.zeros((2, 17, 3))
    prediction = target.copy()
    prediction[0, 1:, 2], prediction[1, 1:, 2] = 0.149, 0.151
    stamps, confidence = np.array([0, 0.1]), np.full((2, 17), 0.5)
    one = Take("t", "a", prediction, target, stamps, confidence=confidence)
    found = calibration({}, [one]).claims["3D"]
    assert found.right.mean() == 0.5
    assert calibration_error(found, bins=1) == 0


def test_heights_count_where_they_are_estimated():
    height = np.array([1.2, 1.5, np.nan])
    more = {"true_height": 1.3, "height_variance": np.array([0.04, 0.01, np.nan])}
    found = calibration({}, [take(frames=3, height=height, **more)])
    np.testing.assert_allclose(found.heights, [-0.5, 2.0])
    assert found.values()["within_1_sigma"]["height"] == 50
    assert "height" not in calibration({}, [take(frames=3)]).errors()


def test_a_joint_in_an_image_is_right_within_a_fifth_of_the_torso():
    target = np.zeros((3, 17, 2))
    target[:, INDEX["left_hip"]] = (0, 100)  # from the right shoulder at 0: a torso of 100 px
    joints, visible = target.copy(), np.ones((3, 17), bool)
    joints[0] += (19, 0)
    joints[1] += (21, 0)
    visible[2, [INDEX["left_hip"], INDEX["right_hip"]]] = False  # no torso
    visible[1, INDEX["nose"]] = False
    joints[0, INDEX["nose"]] = np.nan
    names = ("a", "b", "c")
    found = claims_2d(Detections(names, joints, np.full((3, 17), 0.5), target, visible))
    assert len(found) == 32
    assert found.right.sum() == 16
    silent = Detections(names, joints, np.full((3, 17), np.nan), target, visible)
    assert not calibration({"true box": silent})
    assert text_calibration(calibration({"true box": silent})) == ""


def test_the_table_and_its_values():
    few = Claims(np.array([0.9, 0.1, 0.9, 0.3]), np.array([True, False, True, True]))
    both = Calibration({"2D, true box": few}, np.array([[0.5, -1.5, 3.0]]))
    lines = [line.split() for line in text_calibration(both).splitlines()]
    # Four bins of one joint: (0.1 + 0.7 + 0.1 + 0.1) / 4.
    assert lines[2] == ["2D,", "true", "box", "4", "55.0", "75.0", "25.0"]
    assert lines[-2:] == [
        ["1", "sigma", "33.3", "100.0", "0.0", "0.0", "68.3"],
        ["2", "sigma", "66.7", "100.0", "100.0", "0.0", "95.4"],
    ]
    values = both.values()
    assert values["2D, true box"] == pytest.approx(
        {"joints": 4, "mean_confidence": 55, "right": 75, "expected_calibration_error": 25}
    )
    assert values["within_2_sigma"] == pytest.approx(
        {"all axes": 200 / 3, "x": 100, "y": 100, "z": 0}
    )


@pytest.mark.parametrize("parts", ["both", "2D", "3D"])
def test_the_diagram_is_drawn_of_what_there_is(parts, tmp_path):
    pytest.importorskip("matplotlib")
    from stsp_model.evaluation.reliability import draw_reliability

    spread = calibration({}, [take(), take(2.0)]).deviations
    file = tmp_path / "reliability.png"
    claimed = {} if parts == "3D" else {"2D, true box": claims(), "2D, jittered box": claims(0.7)}
    draw_reliability(file, Calibration(claimed, spread[: 0 if parts == "2D" else None]), "title")
    image = cv2.imread(str(file))
    height, width = image.shape[:2]
    assert (width > 1.5 * height) == (parts == "both")
    # Something is drawn over all of it, in colours.
    colour = np.ptp(image.astype(int), axis=-1) > 60
    for half in np.array_split(colour, 2, axis=1):
        assert half.mean() > 0.002
    with pytest.raises(ValueError, match="neither a confidence nor a variance"):
        draw_reliability(file, Calibration(), "title")


@pytest.mark.parametrize("parts", ["both", "2D"])
def test_a_long_title_stays_within_the_diagram(parts, tmp_path):
    pytest.importorskip("matplotlib")
    from stsp_model.evaluation.reliability import draw_reliability

    spread = calibration({}, [take(), take(2.0)]).deviations
    file = tmp_path / "reliability.png"
    shown = Calibration({"2D": claims()}, spread[: 0 if parts == "2D" else None])
    draw_reliability(file, shown, f"edge on bag:/{'a/long/path/' * 20}")
    image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    assert image[:, :2].min() == image[:, -2:].min() == 255


def test_without_matplotlib_the_command_says_what_to_install(tmp_path):
    # In a process of its own: modules cannot be unimported.
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from stsp_model import cli\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    data = ("evaluate", "--data", f"bvh:{tmp_path}", "--split", "all", "--truth")
    command = [sys.executable, "-c", code, *data, "--reliability", str(tmp_path / "r.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "needs Matplotlib: pip install '.[report]' in stsp's checkout" in done.stderr
    assert "Traceback" not in done.stderr

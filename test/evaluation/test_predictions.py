"""The file of predictions comes back as it was, and anything else is refused in a sentence."""

import pickle
import zipfile

import numpy as np
import pytest

from stsp_model.data.errors import DataError
from stsp_model.evaluation.predictions import Prediction, load_predictions, save_predictions


def rows(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def write(path, **changes):
    arrays = {
        "format": np.array("stsp-predictions"),
        "version": np.array(1),
        "names": np.array(["a", "b"]),
        "lengths": np.array([2, 1]),
        "joints": rows(3, 17, 3),
        **changes,
    }
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def test_predictions_come_back_as_they_were(tmp_path):
    joints = rows(5, 17, 3)
    joints[2] = np.nan
    confidence = np.where(np.isnan(joints[..., 0]), np.nan, 0.5)
    saved = {
        "walk 1/ä": Prediction(joints, rows(5, 17, 2), rows(5), confidence, rows(5, 17, 3) ** 2),
        "jump": Prediction(joints_2d=rows(1, 17, 2, seed=3)),
    }
    save_predictions(tmp_path / "p.npz", saved)
    loaded = load_predictions(tmp_path / "p.npz")
    assert list(loaded) == list(saved)
    np.testing.assert_array_equal(loaded["walk 1/ä"].joints, joints)
    np.testing.assert_array_equal(loaded["walk 1/ä"].height, saved["walk 1/ä"].height)
    np.testing.assert_array_equal(loaded["walk 1/ä"].confidence, confidence)
    np.testing.assert_array_equal(loaded["walk 1/ä"].variance, saved["walk 1/ä"].variance)
    np.testing.assert_array_equal(loaded["jump"].joints_2d, saved["jump"].joints_2d)
    assert np.isnan(loaded["jump"].joints).all()


def test_a_file_as_the_documentation_says_is_read(tmp_path):
    joints = rows(3, 17, 3)
    loaded = load_predictions(write(tmp_path / "p.npz", joints=joints))
    np.testing.assert_array_equal(loaded["a"].joints, joints[:2])
    np.testing.assert_array_equal(loaded["b"].joints, joints[2:])
    assert loaded["a"].joints_2d is None
    images = write(
        tmp_path / "i.npz", joints=None, lengths=None, joints_2d=rows(2, 17, 2).astype("f4")
    )
    assert load_predictions(images)["b"].joints_2d.shape == (1, 17, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": np.array("other")}, "expected at least `format`"),
        ({"format": None}, "expected at least `format`"),
        ({"names": None}, "expected at least `format`"),
        ({"version": np.array(2)}, "has version 2, expected 1"),
        ({"names": np.array([1, 2])}, "different strings"),
        ({"names": np.array(["a", "a"])}, "different strings"),
        ({"lengths": np.array([2])}, "2 whole numbers"),
        ({"lengths": np.array([3, 0])}, "2 whole numbers"),
        ({"lengths": np.array([1.0, 2.0])}, "2 whole numbers"),
        ({"joints": None}, "neither `joints` nor `joints_2d`"),
        ({"joints": rows(4, 17, 3)}, r"`joints` has shape \(4, 17, 3\).*expected \(3, 17, 3\)"),
        ({"joints": rows(3, 16, 3)}, r"`joints` has shape \(3, 16, 3\)"),
        ({"joints": np.zeros((3, 17, 3), int)}, "of floats"),
        ({"height": rows(2)}, r"`height` has shape \(2,\)"),
        ({"confidence": np.full((3, 17), 1.5)}, "`confidence` must be NaN or 0 to 1, .* 1.5 to"),
        ({"variance": np.full((3, 17, 3), -1.0)}, "`variance` must be NaN or 0 to inf"),
    ],
)
def test_another_content_is_refused_with_what_was_expected(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load_predictions(write(tmp_path / "p.npz", **changes))


class Trap:
    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_nothing_in_a_file_is_executed(tmp_path):
    pickled = write(tmp_path / "p.npz", joints=np.array([Trap()], dtype=object))
    with pytest.raises(DataError, match="without pickles"):
        load_predictions(pickled)
    (tmp_path / "q.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="without pickles"):
        load_predictions(tmp_path / "q.npz")
    assert not Trap.sprung


def test_missing_damaged_and_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="do not exist"):
        load_predictions(tmp_path / "p.npz")
    whole = write(tmp_path / "p.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.save(tmp_path / "array.npy", rows(3))
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("cut.npz", "array.npy", "empty.npz"):
        with pytest.raises(DataError, match="cannot be read as an"):
            load_predictions(tmp_path / name)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,)}",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1%s,)}" % (b"0" * 30),
        b"{'descr': '<f8' 'fortran",
    ],
)
def test_arrays_that_say_absurd_things_of_themselves_are_refused(tmp_path, header):
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as archive:
        size = len(header).to_bytes(2, "little")
        archive.writestr("joints.npy", b"\x93NUMPY\x01\x00" + size + header)
    with pytest.raises(DataError, match="cannot be read as an"):
        load_predictions(tmp_path / "p.npz")


def test_what_cannot_be_saved_is_refused(tmp_path):
    path = tmp_path / "p.npz"
    for predictions, message in (
        ({}, "no predictions"),
        ({"a": Prediction()}, "a has arrays of"),
        ({"a": Prediction(rows(2, 17, 3), rows(3, 17, 2))}, "one length"),
        ({"a": Prediction(rows(2, 16, 3))}, r"joints of a has shape \(2, 16, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            save_predictions(path, predictions)
    assert not path.exists()

"""LSP and LSPet: two layouts of one file, told apart and read alike."""

from __future__ import annotations

import numpy as np
import pytest
from people import LSPET, needs, points_of, standing, write_images

from stsp_model.data.errors import DataError
from stsp_model.data.lsp import LSPDataset
from stsp_model.skeleton import INDEX, LSP_14

scipy_io = pytest.importorskip("scipy.io", reason="SciPy reads .mat files")
NECK, HEAD_TOP = LSP_14.points.index("neck"), LSP_14.points.index("head_top")
LEFT_HIP = LSP_14.points.index("left_hip")


def labels(count: int) -> np.ndarray:
    """(N, 14, 3): the standing figure from the front in pixels, all flags 1."""
    figure = standing()
    flat = np.stack([30 + 20 * figure[:, 0], 45 - 25 * figure[:, 2]], axis=1)
    points = points_of(LSP_14, np.broadcast_to(flat, (count, 17, 2)))
    return np.concatenate([points, np.ones((count, 14, 1))], axis=2)


def write_lspet(folder, joints):
    write_images(folder / "images", [f"im{i:05d}.jpg" for i in range(1, len(joints) + 1)])
    scipy_io.savemat(folder / "joints.mat", {"joints": joints.transpose(1, 2, 0)})


def write_lsp(folder, joints):
    write_images(folder / "images", [f"im{i:04d}.jpg" for i in range(1, len(joints) + 1)])
    scipy_io.savemat(folder / "joints.mat", {"joints": joints.transpose(2, 1, 0)})


def test_lspet_leaves_out_what_is_not_visible(tmp_path):
    joints = labels(3)
    joints[1, LEFT_HIP] = (0, -96, 0)  # as the real file holds the place of an unseen joint
    write_lspet(tmp_path, joints)
    data = LSPDataset(tmp_path)
    assert len(data) == 3
    whole, partial = data[0], data[1]
    assert whole.name == "im00001"
    assert whole.image.shape == (48, 64, 3)
    assert whole.joints[INDEX["thorax"]] == pytest.approx(joints[0, NECK, :2])
    assert whole.joints[INDEX["head_top"]] == pytest.approx(joints[0, HEAD_TOP, :2])
    assert np.isnan(whole.joints[INDEX["nose"]]).all()
    assert whole.visible.sum() == 16
    lacking = {name for name, i in INDEX.items() if not partial.visible[i]}
    assert lacking == {"nose", "left_hip", "pelvis", "spine"}
    assert np.isnan(partial.joints[INDEX["left_hip"]]).all()
    assert partial.box[1] == pytest.approx(joints[0, HEAD_TOP, 1])


def test_lsp_turns_the_flag_round_and_keeps_hidden_joints(tmp_path):
    joints = labels(2)
    joints[..., 2] = 0
    joints[1, LEFT_HIP, 2] = 1
    write_lsp(tmp_path, joints)
    data = LSPDataset(tmp_path)
    assert data[0].visible.sum() == 16
    hidden = data[1]
    assert not hidden.visible[INDEX["left_hip"]]
    assert hidden.joints[INDEX["left_hip"]] == pytest.approx(joints[1, LEFT_HIP, :2])


def test_a_split_that_the_download_does_not_reach_is_told(tmp_path):
    write_lspet(tmp_path, labels(2))
    assert len(LSPDataset(tmp_path, "train")) == 2
    with pytest.raises(DataError, match="holds 2 images, but split 'report' is 7001 to 7500"):
        LSPDataset(tmp_path, "report")
    with pytest.raises(DataError, match="split is 'test'"):
        LSPDataset(tmp_path, "test")


def test_half_a_download_is_told(tmp_path):
    write_lspet(tmp_path, labels(3))
    (tmp_path / "images" / "im00002.jpg").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of 3 images \(im00002.jpg first\)"):
        LSPDataset(tmp_path)
    (tmp_path / "joints.mat").write_bytes((tmp_path / "joints.mat").read_bytes()[:300])
    with pytest.raises(DataError, match="cannot be read as a MATLAB file"):
        LSPDataset(tmp_path)


def test_the_wrong_folder_is_told(tmp_path):
    with pytest.raises(DataError, match=r"expected the folder with joints.mat and images/"):
        LSPDataset(tmp_path)


def test_other_joints_are_told(tmp_path):
    scipy_io.savemat(tmp_path / "joints.mat", {"joints": np.zeros((16, 3, 5))})
    with pytest.raises(DataError, match=r"shape \(16, 3, 5\), expected \(14, 3, N\) of LSPet"):
        LSPDataset(tmp_path)
    scipy_io.savemat(tmp_path / "joints.mat", {"joints": "none"})
    with pytest.raises(DataError, match="`joints` holds something that is no number"):
        LSPDataset(tmp_path)
    scipy_io.savemat(tmp_path / "joints.mat", {"positions": np.zeros((14, 3, 5))})
    with pytest.raises(DataError, match="no variable `joints`"):
        LSPDataset(tmp_path)


def test_another_joint_order_is_told(tmp_path):
    joints = labels(60)
    write_lspet(tmp_path, joints)
    assert len(LSPDataset(tmp_path)) == 60
    write_lspet(tmp_path, joints[:, ::-1])
    with pytest.raises(DataError, match="in another order than expected"):
        LSPDataset(tmp_path)


@needs(LSPET)
def test_the_real_set_has_its_three_parts():
    sizes = {split: len(LSPDataset(LSPET, split)) for split in ("train", "selection", "report")}
    assert sizes == {"train": 6800, "selection": 200, "report": 500}
    first = LSPDataset(LSPET, "report")[0]
    assert first.name == "im07001"
    height, width = first.image.shape[:2]
    assert (first.box > 0).all()
    assert (first.box < (width, height, width, height)).all()

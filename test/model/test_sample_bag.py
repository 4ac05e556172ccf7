"""The sample bag is small, and its truth lies where the child is drawn."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from stsp_model.bag import SKELETONS_TYPE, BagReader
from stsp_model.skeleton import JOINTS
from stsp_model.sources import open_source

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "assets" / "sample.mcap"
TRUTH = "/ground_truth/skeletons"


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import sample_scene

    return sample_scene


def truth() -> list:
    with BagReader(SAMPLE) as reader:
        assert reader.topics[TRUTH].type == SKELETONS_TYPE
        return [reader.decode(record) for record in reader.records([TRUTH])]


def test_it_holds_three_seconds_and_fits_a_repository() -> None:
    assert SAMPLE.stat().st_size < 2_000_000
    source = open_source(SAMPLE)
    frames = list(source.frames())
    assert source.size == (640, 480)
    assert len(frames) == source.count == 90
    assert set(np.diff([f.stamp for f in frames])) <= {33_333_333, 33_333_334}
    assert {f.frame_id for f in frames} == {"camera_optical_frame"}


def test_the_truth_projects_onto_its_own_pixels() -> None:
    frames = list(open_source(SAMPLE).frames())
    messages = truth()
    assert [m.header.stamp.nanosec for m in messages] == [f.stamp % 10**9 for f in frames]
    for frame, message in zip(frames, messages, strict=True):
        (skeleton,) = message.skeletons
        root = np.array([skeleton.root.x, skeleton.root.y, skeleton.root.z])
        offsets = np.array([(j.offset.x, j.offset.y, j.offset.z) for j in skeleton.joints])
        pixels = (root + offsets) @ frame.camera_info.k.reshape(3, 3).T
        drawn = np.array([(j.u, j.v) for j in skeleton.joints_2d])
        np.testing.assert_allclose(pixels[:, :2] / pixels[:, 2:], drawn, atol=1e-3)
        assert message.joint_names == list(JOINTS)


def test_bones_keep_their_length() -> None:
    lengths = {("left_hip", "left_knee"): 0.300, ("right_elbow", "right_wrist"): 0.190}
    for message in truth()[::10]:
        joints = message.skeletons[0].joints
        for (a, b), expected in lengths.items():
            p, q = (joints[JOINTS.index(name)].offset for name in (a, b))
            length = np.linalg.norm([p.x - q.x, p.y - q.y, p.z - q.z])
            assert length == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("index", [0, 40, 80])
def test_the_script_draws_what_the_bag_holds(scene: ModuleType, index: int) -> None:
    image, mask, joints = scene.draw(index / 30)
    again, *_ = scene.draw(index / 30)
    assert (image == again).all()
    frame = list(open_source(SAMPLE).frames())[index]
    assert np.abs(frame.image.astype(int) - image).mean() < 3  # JPEG
    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5)))
    for name, (u, v) in zip(JOINTS, np.rint(scene.project(joints)).astype(int), strict=True):
        assert near[v, u], f"{name} lies beside the figure"

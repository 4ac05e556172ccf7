"""The sample bag is small, from held-out motion, and its truth lies where the child is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from ruamel.yaml import YAML

from stsp_model.bag import BagReader
from stsp_model.data.splits import cmu_split
from stsp_model.evaluation.video import Person, bag_people, poses_of
from stsp_model.skeleton import INDEX, PARENTS
from stsp_model.sources import Frame, open_source

SAMPLE = Path(__file__).resolve().parents[2] / "assets" / "sample.mcap"


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return list(open_source(SAMPLE).frames())


@pytest.fixture(scope="module")
def child() -> Person:
    (child,) = bag_people(SAMPLE)
    return child


def test_it_holds_three_and_a_half_seconds_and_fits_a_repository(frames: list[Frame]) -> None:
    assert SAMPLE.stat().st_size < 4_000_000
    source = open_source(SAMPLE)
    assert source.size == (640, 480)
    assert len(frames) == source.count == 105
    assert set(np.diff([f.stamp for f in frames])) <= {33_333_333, 33_333_334}
    assert {f.frame_id for f in frames} == {"camera_optical_frame"}


def test_its_motion_is_kept_out_of_training_and_credited() -> None:
    with SAMPLE.open("rb") as file:
        (record,) = make_reader(file).iter_metadata()
    about = YAML(typ="safe").load(record.metadata["serialized_metadata"])["custom_data"]
    assert cmu_split(about["motions"]) == "validation"
    assert "mocap.cs.cmu.edu" in about["credits"]
    assert "NSF EIA-0196217" in about["credits"]


def test_every_frame_has_its_truth_inside_the_picture(frames: list[Frame], child: Person) -> None:
    assert child.stamps.tolist() == [f.stamp / 1e9 for f in frames]
    assert child.joints_2d.min() > 10
    assert (child.joints_2d < (630, 470)).all()
    assert child.visible.sum(axis=1).min() >= 8
    assert 1.0 < child.height < 1.4


def test_the_pictures_show_the_child_where_the_truth_has_it(
    frames: list[Frame], child: Person
) -> None:
    """Her shoes, and next to nothing else, are bright green."""
    for row, frame in enumerate(frames):
        blue, green, red = np.moveaxis(frame.image.astype(int), -1, 0)
        shoe = (green > 1.5 * red) & (green > 1.5 * blue)
        assert shoe.mean() < 0.02
        for name in ("left_ankle", "right_ankle"):
            if child.visible[row, INDEX[name]]:
                u, v = np.rint(child.joints_2d[row, INDEX[name]]).astype(int)
                assert shoe[v - 2 : v + 13, u - 8 : u + 9].mean() > 0.1, (row, name)


def test_the_truth_in_space_projects_onto_that_in_the_picture(frames: list[Frame]) -> None:
    with BagReader(SAMPLE) as reader:
        messages = [reader.decode(r) for r in reader.records(["/ground_truth/skeletons"])]
    for frame, message in zip(frames, messages, strict=True):
        (pose,) = poses_of(message)
        assert not frame.camera_info.d.any()
        seen = (pose.root + pose.joints) @ frame.camera_info.k.reshape(3, 3).T
        np.testing.assert_allclose(seen[:, :2] / seen[:, 2:], pose.joints_2d, atol=1e-3)


def test_limbs_keep_their_length(child: Person) -> None:
    for name in ("knee", "ankle", "elbow", "wrist"):
        sides = [INDEX[f"left_{name}"], INDEX[f"right_{name}"]]
        bones = child.joints[:, sides] - child.joints[:, [PARENTS[joint] for joint in sides]]
        length = np.linalg.norm(bones, axis=-1)
        assert length == pytest.approx(length[0, 0], abs=1e-5)
        assert 0.1 < length[0, 0] / child.height < 0.3

"""The skeleton's tables are consistent, and other skeletons map onto it as declared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsp_model import skeleton
from stsp_model.skeleton import FLIP, INDEX, JOINTS, PARENTS, map_joints

SOURCES = (
    skeleton.COCO_17,
    skeleton.LSP_14,
    skeleton.HUMANEVA_15,
    skeleton.MPI_INF_3DHP_28,
    skeleton.MPI_INF_3DHP_17,
    skeleton.CMU_BVH,
    skeleton.ANNY,
)


def test_joints_are_those_of_the_messages():
    assert " ".join(JOINTS) == (
        "pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle spine thorax nose "
        "head_top left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist"
    )


def test_bones_form_a_tree_rooted_at_the_pelvis():
    assert PARENTS[0] == -1
    assert all(0 <= parent < joint for joint, parent in enumerate(PARENTS) if joint)
    assert len(skeleton.BONES) == 16
    assert (INDEX["left_elbow"], INDEX["left_wrist"]) in skeleton.BONES


def test_flip_swaps_sides_is_its_own_inverse_and_keeps_the_tree():
    for joint, mirrored in enumerate(FLIP):
        assert FLIP[mirrored] == joint
        assert {skeleton.SIDES[joint], skeleton.SIDES[mirrored]} in ({"left", "right"}, {"middle"})
        if joint:
            assert FLIP[PARENTS[joint]] == PARENTS[mirrored]
    assert FLIP[INDEX["left_wrist"]] == INDEX["right_wrist"]


def test_fourteen_joints_leave_out_spine_nose_and_head():
    left_out = set(range(17)) - set(skeleton.JOINTS_14)
    assert {JOINTS[i] for i in left_out} == {"spine", "nose", "head_top"}


def test_angle_limits_are_symmetric_and_cite_a_source():
    limits = {limit.name: limit for limit in skeleton.ANGLES}
    assert len(limits) == len(skeleton.ANGLES) == 9
    for limit in limits.values():
        assert 0 <= limit.min_deg < limit.max_deg <= 180
        assert "20" in limit.source or "19" in limit.source  # a year
        if limit.name.startswith("left_"):
            twin = limits[limit.name.replace("left_", "right_")]
            ends = (limit.start, limit.vertex, limit.end)
            assert tuple(FLIP[j] for j in ends) == (twin.start, twin.vertex, twin.end)
            assert limit.min_deg == twin.min_deg


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.name)
def test_weights_average_and_names_are_real(source):
    rows = source.matrix().sum(axis=1)
    assert np.all(np.isclose(rows, 1) | (rows == 0))
    assert len(set(source.points)) == len(source.points)
    assert source.near <= set(JOINTS)


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        (skeleton.COCO_17, {"head_top"}),
        (skeleton.LSP_14, {"nose"}),
        (skeleton.HUMANEVA_15, {"nose"}),
        (skeleton.MPI_INF_3DHP_28, {"nose"}),
        (skeleton.MPI_INF_3DHP_17, {"nose"}),
        (skeleton.CMU_BVH, {"nose", "head_top"}),
        (skeleton.ANNY, set()),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_joint_the_source_lacks_is_masked_and_nan(source, missing):
    joints, mask = map_joints(np.ones((len(source.points), 2)), source)
    assert {name for name, known in zip(JOINTS, mask, strict=True) if not known} == missing
    assert np.array_equal(np.isnan(joints).all(axis=-1), ~mask)
    assert np.all(joints[mask] == 1)


def test_coco_by_hand():
    points = np.zeros((17, 2))
    points[5], points[6] = (10, 20), (30, 20)  # shoulders
    points[11], points[12] = (12, 60), (28, 64)  # hips
    points[16] = (27, 120)  # right ankle
    joints, _ = map_joints(points, skeleton.COCO_17)
    assert joints[INDEX["pelvis"]].tolist() == [20, 62]
    assert joints[INDEX["thorax"]].tolist() == [20, 20]
    assert joints[INDEX["spine"]].tolist() == [20, 41]
    assert joints[INDEX["right_ankle"]].tolist() == [27, 120]


LIMBS = tuple(
    f"{side}_{part}"
    for side in ("left", "right")
    for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)


@pytest.mark.parametrize(
    ("source", "places"),
    [
        (skeleton.H36M_32, (17, 18, 19, 6, 7, 8, 25, 26, 27, 1, 2, 3)),
        (skeleton.COCO_17, (5, 7, 9, 11, 13, 15, 6, 8, 10, 12, 14, 16)),
        (skeleton.LSP_14, (9, 10, 11, 3, 4, 5, 8, 7, 6, 2, 1, 0)),
        (skeleton.HUMANEVA_15, (2, 3, 4, 8, 9, 10, 5, 6, 7, 11, 12, 13)),
        (skeleton.MPI_INF_3DHP_28, (9, 10, 11, 18, 19, 20, 14, 15, 16, 23, 24, 25)),
        (skeleton.MPI_INF_3DHP_17, (5, 6, 7, 11, 12, 13, 2, 3, 4, 8, 9, 10)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_limbs_are_where_the_data_sets_publish_them(source, places):
    joints, mask = map_joints(np.arange(len(source.points))[:, None], source)
    limbs = [INDEX[name] for name in LIMBS]
    assert mask[limbs].all()
    assert tuple(joints[limbs, 0].astype(int)) == places


def test_lsp_neck_is_the_thorax():
    points = np.zeros((14, 2))
    points[12] = (7, 9)
    joints, _ = map_joints(points, skeleton.LSP_14)
    assert joints[INDEX["thorax"]].tolist() == [7, 9]


def test_an_unseen_hip_takes_pelvis_and_spine_with_it():
    visible = np.ones(17, dtype=bool)
    visible[11] = False
    _, mask = map_joints(np.ones((17, 2)), skeleton.COCO_17, visible)
    gone = {name for name, known in zip(JOINTS, mask, strict=True) if not known}
    assert gone == {"left_hip", "pelvis", "spine", "head_top"}


def test_a_point_that_is_not_finite_does_not_spread():
    points = np.ones((4, 14, 3))
    points[2, 0] = np.nan
    joints, mask = map_joints(points, skeleton.LSP_14)
    assert not mask[2, INDEX["right_ankle"]]
    assert mask[[0, 1, 3], INDEX["right_ankle"]].all()
    assert np.isfinite(joints[mask]).all()


@given(st.sampled_from(SOURCES), st.integers(0, 2**32 - 1))
def test_mapping_commutes_with_moving_the_body(source, seed):
    rng = np.random.default_rng(seed)
    points, shift = rng.normal(size=(2, len(source.points), 3)), rng.normal(size=3)
    joints, mask = map_joints(points, source)
    moved, _ = map_joints(3.0 * points + shift, source)
    np.testing.assert_allclose(moved[:, mask[0]], (3.0 * joints + shift)[:, mask[0]], atol=1e-9)


def test_wrong_shapes_are_refused_by_name():
    with pytest.raises(ValueError, match=r"points has shape \(16, 2\).*COCO-17"):
        map_joints(np.ones((16, 2)), skeleton.COCO_17)
    with pytest.raises(ValueError, match="visible has shape"):
        map_joints(np.ones((17, 2)), skeleton.COCO_17, np.ones(16))

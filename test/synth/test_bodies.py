"""Children's bodies: as tall as children are, skinned as Anny does it, with our joints on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from figures import child, child_of
from scipy.spatial.transform import Rotation

from stsp_model.skeleton import INDEX
from stsp_model.synth.body import (
    _TABLE,
    SEGMENT,
    SEGMENTS,
    Phenotype,
    anatomy,
    joints,
    make_body,
    pose,
    sample_phenotype,
    skin,
)

# Medians of girls and boys together, m: WHO growth reference for 5-19 years (2007).
WHO = {5: 1.098, 7: 1.213, 9: 1.328, 11: 1.441, 13: 1.562}
REST = np.eye(3)[None, None].repeat(len(SEGMENTS), axis=1)


def test_children_are_as_tall_as_children():
    rng = np.random.default_rng(0)
    for age, median in WHO.items():
        heights = [
            make_body(replace(sample_phenotype(rng), age=float(age))).height for _ in range(6)
        ]
        assert np.mean(heights) == pytest.approx(median, abs=0.12)


def test_girls_and_boys_of_all_ages_and_builds_are_drawn():
    rng = np.random.default_rng(1)
    drawn = [sample_phenotype(rng) for _ in range(200)]
    girls = sum(p.gender > 0.5 for p in drawn)
    assert 70 < girls < 130
    for name, spread in (("age", 8.0), ("weight", 0.6), ("muscle", 0.6), ("proportions", 0.6)):
        assert np.ptp([getattr(p, name) for p in drawn]) > spread


def test_the_same_seed_draws_the_same_child():
    assert child(7).phenotype == child(7).phenotype != child(8).phenotype
    np.testing.assert_array_equal(child(7).vertices, child(7).vertices)


@pytest.mark.parametrize("age", [4.0, 14.0])
def test_height_is_from_the_floor_to_head_top(age):
    body = child_of(age)
    places = joints(body, pose(body, REST, body.pivots[:1]))[0]
    skin_of_body = body.vertices[np.unique(anatomy().faces["body"])]
    assert places[INDEX["head_top"], 2] - skin_of_body[:, 2].min() == pytest.approx(body.height)
    assert places[INDEX["head_top"], 2] == pytest.approx(skin_of_body[:, 2].max(), abs=0.004)
    face = skin_of_body[np.abs(skin_of_body[:, 2] - places[INDEX["nose"], 2]) < 0.02]
    assert places[INDEX["nose"], 1] == pytest.approx(face[:, 1].min(), abs=0.002)


@pytest.mark.parametrize(("age", "gender"), [(4.0, 1.0), (9.0, 0.0), (14.0, 0.5)])
def test_posing_agrees_with_anny(age, gender):
    import torch

    body, shared = child_of(age, gender), anatomy()
    turns = Rotation.random(len(SEGMENTS), rng=np.random.default_rng(3)).as_matrix()
    turns[0] = np.eye(3)
    root = np.array([0.3, -0.2, 1.1])
    transforms = pose(body, turns[None], root[None])

    mapping = shared.distribution.morphological_age_mapping
    scales = dict.fromkeys(("height", "weight", "muscle", "proportions"), 0.5)
    scales |= {
        "gender": gender,
        "age": mapping.morphological_to_anny_age(torch.tensor([age])).item(),
    }
    rest = shared.model(phenotype_kwargs=scales)["rest_bone_poses"][0]
    parameters = torch.eye(4).repeat(1, len(shared.model.bone_labels), 1, 1)
    for segment, (_, bones) in _TABLE.items():
        for bone in bones:
            i = shared.model.bone_labels.index(bone)
            turn = torch.from_numpy(turns[SEGMENT[segment]]).float()
            parameters[0, i, :3, :3] = turn @ rest[i, :3, :3]
    parameters[0, 0, :3, 3] = torch.from_numpy(root)
    posed = shared.model(pose_parameters=parameters, phenotype_kwargs=scales)
    vertices = skin(body.vertices, shared.weights, transforms)[0]
    assert np.abs(vertices - posed["vertices"][0].numpy()).max() < 1e-5

    places = joints(body, transforms)[0]
    heads = posed["bone_poses"][0, :, :3, 3].numpy()
    for joint, bone in (
        ("left_knee", "lowerleg01.L"),
        ("right_wrist", "wrist.R"),
        ("left_shoulder", "upperarm01.L"),
        ("right_ankle", "foot.R"),
        ("thorax", "neck01"),
    ):
        head = heads[shared.model.bone_labels.index(bone)]
        assert places[INDEX[joint]] == pytest.approx(head, abs=1e-5)


def test_every_bone_of_anny_moves_in_one_segment():
    bones = [bone for _, names in _TABLE.values() for bone in names]
    assert sorted(bones) == sorted(anatomy().model.bone_labels)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"age": 3.9}, "age is 3.9 years"),
        ({"age": 30.0}, "expected 4.0"),
        ({"weight": 1.2}, "weight"),
    ],
)
def test_a_phenotype_out_of_range_is_told(change, told):
    with pytest.raises(ValueError, match=told):
        make_body(replace(Phenotype(8.0, 0.5, 0.5, 0.5, 0.5, 0.5), **change))

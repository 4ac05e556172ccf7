"""Rendered clips on disk: what is read is what was written, and damage is told."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from people import standing
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from stsp_model.camera import Camera
from stsp_model.data.errors import DataError
from stsp_model.data.formats import open_dataset
from stsp_model.data.shards import (
    INDEX_FILE,
    RenderedClip,
    ShardClips,
    ShardPeople,
    load_clip,
    save_clip,
)
from stsp_model.training.datasets import People

K = np.array([[70.0, 0, 31.5], [0, 70.0, 23.5], [0, 0, 1]])
D = np.array([0.1, 0.0, 0.0, 0.0, 0.0])


def clip(name="train/000000", frames=3, people=2) -> RenderedClip:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (frames, 48, 64, 3), dtype=np.uint8)
    solid = standing() @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]) + [0, 1, 3]
    joints = np.tile(solid, (frames, people, 1, 1)) + 0.1 * np.arange(people)[:, None, None]
    camera = Camera(K, 64, 48, D)
    flat = camera.distort(joints[..., :2] / joints[..., 2:] * 70 + [31.5, 23.5])
    visible = np.ones((frames, people, 17), bool)
    visible[1, :1] = False
    return RenderedClip(
        name=name,
        motions=("walk", "jump")[:people],
        camera=camera,
        stamps=1 + np.arange(frames) / 30,
        jpegs=[cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures],
        joints_3d=joints,
        joints_2d=flat,
        visible=visible,
        boxes=np.tile([10.0, 5, 40, 45], (frames, people, 1)),
        heights=np.linspace(1.2, 1.4, people),
        up=np.tile([0.0, -1, 0], (frames, 1)),
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / INDEX_FILE).write_text(json.dumps({"split": "train"}))
    for index in range(2):
        save_clip(tmp_path / f"{index:06d}.safetensors", clip(f"train/{index:06d}"))
    return tmp_path


def test_a_clip_comes_back(tmp_path):
    save_clip(tmp_path / "a.safetensors", clip())
    again, ours = load_clip(tmp_path / "a.safetensors"), clip()
    assert (again.name, again.motions, list(again.jpegs)) == (ours.name, ours.motions, ours.jpegs)
    np.testing.assert_array_equal(again.stamps, ours.stamps)
    np.testing.assert_array_equal(again.visible, ours.visible)
    for name in ("joints_3d", "joints_2d", "boxes", "heights", "up"):
        np.testing.assert_allclose(getattr(again, name), getattr(ours, name), rtol=1e-6)
    np.testing.assert_array_equal(again.camera.K, K)
    np.testing.assert_array_equal(again.camera.D, D)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_same_clip_is_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_clip(tmp_path / f"{name}.safetensors", clip())
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_nobody_comes_back(tmp_path):
    save_clip(tmp_path / "a.safetensors", clip(people=0))
    assert load_clip(tmp_path / "a.safetensors").joints_3d.shape == (3, 0, 17, 3)


def test_people_of_all_pictures(folder):
    people = ShardPeople(folder, "train")
    assert len(people) == 2 * (3 * 2 - 1)  # one is hidden in one picture
    first, last = people[0], people[len(people) - 1]
    assert first.name == "train/000000/000[0]"
    assert last.name == "train/000001/002[1]"
    np.testing.assert_array_equal(last.image, clip().image(2))
    np.testing.assert_allclose(last.joints, clip().joints_2d[2, 1], rtol=1e-6)
    np.testing.assert_allclose(last.joints_3d, clip().joints_3d[2, 1], rtol=1e-6)
    assert last.camera is not None
    assert open_dataset(f"synth:{folder}", "train")[0].name == first.name


def test_everybody_in_a_picture(tmp_path):
    (tmp_path / INDEX_FILE).write_text(json.dumps({"split": "train"}))
    ours = clip(people=2)
    ours.boxes[:, 1] += 5
    save_clip(tmp_path / "000000.safetensors", ours)
    people = People((ShardPeople(tmp_path, "train"),))
    # Whoever is asked for, both are in picture 0; who is hidden in picture 1 is not there.
    for index, expected in ((0, [0, 1]), (1, [0, 1]), (2, [1]), (3, [0, 1])):
        image, boxes = people.picture(index)
        np.testing.assert_array_equal(image, people[index].image)
        np.testing.assert_allclose(boxes, ours.boxes[0, expected], rtol=1e-6)


def test_a_person_as_a_motion(folder):
    motion = ShardClips(folder)[1].motion(1)
    assert motion.name == "train/000001[1]"
    assert motion.action == "jump"
    assert motion.up.tolist() == [0, -1, 0]
    assert motion.joints_2d is not None
    flat = motion.joints[..., :2] / motion.joints[..., 2:] * 70 + [31.5, 23.5]
    np.testing.assert_allclose(motion.camera.undistort(motion.joints_2d), flat, atol=1e-3)


@pytest.mark.parametrize("keep", [0, 7, 200, 3000])
def test_a_file_cut_off_is_told(folder, keep):
    file = folder / "000000.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataError, match="no whole clip"):
        load_clip(file)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("jpeg_ends", lambda ends: ends + 1_000_000, "its pictures end at"),
        ("jpeg_ends", lambda ends: ends[::-1].copy(), "its pictures end at"),
        ("jpeg_ends", lambda ends: -ends, "its pictures end at"),
        ("jpeg_ends", lambda ends: ends[:1], r"stamps has shape \(3,\), expected \(1,\)"),
        ("joints_2d", lambda joints: joints[:1], r"joints_2d has shape \(1, 2, 17, 2\), expected"),
        ("visible", lambda visible: visible.ravel(), r"visible has shape \(102,\), expected"),
    ],
)
def test_arrays_that_do_not_fit_together_are_told(folder, name, change, told):
    file = folder / "000001.safetensors"
    arrays = load_file(file)
    with safe_open(file, framework="numpy") as opened:
        about = opened.metadata()
    save_file({**arrays, name: change(arrays[name])}, file, about)
    for read in (load_clip, lambda file: ShardPeople(file.parent)):
        with pytest.raises(DataError, match=f"000001.safetensors is no whole clip .*{told}"):
            read(file)


def test_a_damaged_picture_is_told(tmp_path):
    broken = clip()
    object.__setattr__(broken, "jpegs", [b"", *broken.jpegs[1:]])
    save_clip(tmp_path / "a.safetensors", broken)
    with pytest.raises(DataError, match="picture 0 of train/000000 does not decode"):
        load_clip(tmp_path / "a.safetensors").image(0)


def test_the_other_split_is_told(folder):
    with pytest.raises(DataError, match="holds the split 'train', not 'validation'"):
        ShardClips(folder, "validation")


def test_another_folder_is_told(tmp_path):
    with pytest.raises(DataError, match="no folder of `stsp synth`"):
        ShardPeople(tmp_path)
    (tmp_path / INDEX_FILE).write_text(json.dumps({"split": "train"}))
    with pytest.raises(DataError, match="holds no clip"):
        ShardPeople(tmp_path)


def test_truth_of_another_shape_is_told():
    ours = clip()
    with pytest.raises(ValueError, match="heights has shape"):
        RenderedClip(**{**ours.__dict__, "heights": np.ones(3)})

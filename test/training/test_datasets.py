"""What selects or reports cannot get into training, and wrong data are named."""

from __future__ import annotations

from dataclasses import replace

import minisets
import numpy as np
import pytest

from stsp_model.data import lsp
from stsp_model.data.errors import DataError
from stsp_model.data.shards import ShardPeople
from stsp_model.network import STSPNet
from stsp_model.training.datasets import (
    IMAGES,
    MOTIONS,
    SELECTED,
    TRAINED,
    People,
    open_selection,
    open_training,
)
from stsp_model.training.motions import collect
from stsp_model.training.stage_epe import epe_stage
from stsp_model.training.stage_finder import finder_stage
from stsp_model.training.stage_lift import lift_stage


def test_every_format_that_has_a_held_out_part_trains_on_the_other():
    for name, part in SELECTED.items():
        assert part is None or TRAINED[name] == "train" != part


def test_images_that_select_or_report_are_never_trained_on(lspet):
    (training,) = open_training([lspet], IMAGES)
    (selection,) = open_selection([], [lspet], IMAGES)
    assert list(training.numbers) == list(range(1, 6801))
    assert min(selection.numbers) == 6801
    assert not set(training.numbers) & set(selection.numbers)


@pytest.mark.parametrize(
    ("stage_of", "config"),
    [(epe_stage, minisets.epe_config()), (finder_stage, minisets.finder_config())],
)
def test_no_stage_opens_an_image_that_selects_or_reports(lspet, monkeypatch, stage_of, config):
    """Whatever a batch needs, people, negatives or frames, comes from images 1 to 6800."""
    stage = stage_of(STSPNet(minisets.TINY), config, [lspet])
    opened = []
    read = lsp.read_image
    monkeypatch.setattr(lsp, "read_image", lambda path: opened.append(path.stem) or read(path))
    for step in range(14):
        stage.batches.batch(step, 0, 1)
    numbers = {int(name.removeprefix("im")) for name in opened}
    assert len(numbers) > 100
    assert max(numbers) <= 6800


def test_takes_that_validate_are_never_trained_on(cmu):
    shoulder = np.array([0.1, 0, 0])
    names = set(collect(open_training([cmu], MOTIONS), shoulder).names)
    held_out = set(collect(open_selection([], [cmu], MOTIONS), shoulder).names)
    assert names == {"01_01", "03_02", "07_04"}
    assert held_out == {"02_04"}


def test_a_set_of_the_other_part_is_refused(films, lspet):
    train, validation = films
    with pytest.raises(DataError, match="holds the split 'validation', not 'train'"):
        open_training([validation], ("synth",))
    with pytest.raises(DataError, match="holds the split 'train', not 'validation'"):
        open_selection([train], [lspet], (*IMAGES, "synth"))


@pytest.mark.parametrize(
    ("stage_of", "config"),
    [(epe_stage, minisets.epe_config()), (finder_stage, minisets.finder_config())],
)
def test_motion_capture_is_no_data_for_what_sees_images(lspet, cmu, stage_of, config):
    with pytest.raises(DataError, match="this stage takes synth, not 'bvh'"):
        stage_of(STSPNet(minisets.TINY), config, [lspet, cmu])


def test_a_file_without_parts_cannot_train_and_select(tmp_path):
    spec = f"coco:{tmp_path / 'people.json'}"
    with pytest.raises(DataError, match="trained on and cannot select"):
        open_selection([spec], [spec], IMAGES)


def test_wrong_data_are_named(lspet, cmu):
    with pytest.raises(DataError, match="no data to train on"):
        open_training([], IMAGES)
    with pytest.raises(DataError, match="this stage takes lsp, lspet, coco, not 'bvh'"):
        open_training([cmu], IMAGES)
    with pytest.raises(DataError, match="no FORMAT:PATH"):
        open_training(["lspet"], IMAGES)
    with pytest.raises(DataError, match="name one with --select"):
        open_selection([], ["lsp:somewhere"], IMAGES)
    with pytest.raises(DataError, match="this stage takes"):
        lift_stage(STSPNet(minisets.TINY), minisets.lift_config(), [lspet])


def test_people_of_several_sets_are_one_list(lspet):
    (part,) = open_training([lspet], IMAGES)
    people = People((part, part))
    assert len(people) == 2 * len(part)
    assert people[len(part) + 3].name == part[3].name
    pose = people[0]
    image, boxes = people.picture(0)
    np.testing.assert_array_equal(boxes, pose.box[None])
    np.testing.assert_array_equal(image, pose.image)
    with pytest.raises(IndexError):
        people[len(people)]


def test_rendered_people_are_as_many_as_the_configurations_say(lspet, films, monkeypatch):
    taken = []
    original = ShardPeople.__getitem__
    monkeypatch.setattr(
        ShardPeople, "__getitem__", lambda self, index: taken.append(index) or original(self, index)
    )
    config = minisets.epe_config(steps_per_epoch=1)
    crops = epe_stage(STSPNet(minisets.TINY), config, [lspet, films[0]]).batches
    for step in range(6):
        for place in range(config.optimisation.batch):
            crops._crop(step, place)
    assert 0 < len(taken) <= 0.3 * 6 * config.optimisation.batch
    taken.clear()
    finder = replace(minisets.finder_config(), people=(0.0, 1.0, 0.0, 0.0, 0.0))
    frames = finder_stage(STSPNet(minisets.TINY), finder, [lspet, films[0]]).batches
    for step in range(200):
        frames.frame(step, 0)
    assert 0.4 < len(taken) / 200 < 0.6

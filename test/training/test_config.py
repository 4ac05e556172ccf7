"""Configurations: the files that ship are right, and a mistake in one is told in a sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from stsp_model.network import PRESETS
from stsp_model.training.config import ConfigError
from stsp_model.training.config_file import CONFIGS, load_config

PAPERS = ("epe", "lift", "finetune")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("stage", PAPERS)
def test_every_preset_and_stage_of_the_paper_has_a_file(preset, stage):
    config = load_config(preset, stage)
    assert (config.preset, config.stage) == (preset, stage)
    # The paper's settings.
    assert config.optimisation.epochs == 100
    assert (config.optimisation.plateau_patience, config.optimisation.plateau_factor) == (10, 0.1)
    if stage != "finetune":
        assert (config.optimisation.learning_rate, config.optimisation.batch) == (1e-3, 32)
    if stage == "epe":
        assert config.sizes[-1][1] == PRESETS[preset].crop


def test_the_finder_is_trained_alike_in_all_presets():
    """But for what a preset is trained on: the finder is the same network in each."""
    configs = [load_config(preset, "finder") for preset in PRESETS]
    alike = [
        replace(c, preset="", optimisation=replace(c.optimisation, precision="32-true", workers=0))
        for c in configs
    ]
    assert alike == [alike[0]] * len(PRESETS)


def test_there_is_no_file_beside_them():
    names = {f"{preset}_{stage}.yaml" for preset in PRESETS for stage in (*PAPERS, "finder")}
    assert {file.name for file in CONFIGS.iterdir()} == names


def test_values_can_be_changed_by_name():
    config = load_config("edge", "epe", changes=["optimisation.epochs=3", "sizes=[[0, 192]]"])
    assert config.optimisation.epochs == 3
    assert config.sizes == ((0, 192),)
    # As everybody writes it, though YAML 1.1 takes it for a word.
    change = "optimisation.learning_rate=1e-4"
    assert load_config("edge", "epe", changes=[change]).optimisation.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("optimisation.epoch=3", "changes nothing"),
        ("optimisation.epochs", "changes nothing"),
        ("optimisation.epochs=many", "epochs is 'many', expected a value of type int"),
        ("optimisation.epochs=0", "in optimisation: epochs is 0, expected 1 to"),
        ("optimisation.schedule=steps", "plateau or cosine"),
        ("optimisation.average_decay=1.0", "would never move"),
        ("optimisation.learning_rate=.nan", "learning_rate is nan"),
        ("optimisation.learning_rate=fast", "learning_rate is 'fast', expected a value of type"),
        ("rendered_share=0.5", "rendered_share is 0.5, expected 0 to 0.3"),
        ("sizes=[[0, 100]]", "100 px, expected a multiple of 32 from 64"),
        ("sizes=[[5, 128]]", "expected 0 first, then rising"),
        ("heatmaps.loss=l1", "cross_entropy or mse"),
        ("heatmaps=3", "expected keys and values"),
    ],
)
def test_a_wrong_value_is_named(change, reason):
    with pytest.raises(ConfigError, match=reason):
        load_config("edge", "epe", changes=[change])


@pytest.mark.parametrize(
    ("stage", "change", "reason"),
    [
        ("finder", "people=[1, 0, 0]", "five probabilities"),
        ("finder", "people=[0.5, 0.1, 0.1, 0.1, 0.1]", "add up to 1"),
        ("finder", "look.jpeg=2", "in look: jpeg is 2.0, expected 0 to 1"),
        ("lift", "noise.deviation=[0.1, 0.2]", "has 2 values, expected 1 or 17"),
        ("lift", "clips.rate=[60, 10]", r"\[least, most\]"),
        ("lift", "cameras.share=[0.5]", r"\[least, most\]"),
        ("lift", "noise.mass=[1.0]", "two numbers"),
        ("finetune", "optimisation.batch=30", "multiple of 4 whose half holds"),
        ("finetune", "total=[1.0, 1.0]", "three weights"),
    ],
)
def test_a_wrong_value_of_the_other_stages_is_named(stage, change, reason):
    with pytest.raises(ConfigError, match=reason):
        load_config("edge", stage, changes=[change])


def test_a_file_must_be_whole_and_of_the_stage(tmp_path):
    values = yaml.safe_load((CONFIGS / "edge_epe.yaml").read_text())
    file = tmp_path / "own.yaml"

    def load(content, stage="epe"):
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return load_config("edge", stage, file)

    assert load(values) == load_config("edge", "epe")
    with pytest.raises(ConfigError, match="lacks teacher"):
        load({key: value for key, value in values.items() if key != "teacher"})
    with pytest.raises(ConfigError, match="unknown frame"):
        load({**values, "frame": 3})
    with pytest.raises(ConfigError, match="is for preset 'base'"):
        load({**values, "preset": "base"})
    with pytest.raises(ConfigError, match="no YAML"):
        load("a: [")
    with pytest.raises(ConfigError, match="expected keys and values"):
        load("just text")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config("edge", "epe", tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="no YAML"):
        load("a: !!python/object/apply:os.system ['true']")
    with pytest.raises(ConfigError, match="stage is 'all'"):
        load_config("edge", "all")


def test_dataclasses_check_themselves():
    config = load_config("edge", "lift")
    with pytest.raises(ConfigError, match="frames is 0"):
        replace(config.clips, frames=0)

"""Reading a stage's configuration: a whole YAML file, or a sentence that says what is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from stsp_model.network import PRESETS
from stsp_model.training.config import ConfigError, EPEConfig, FinderConfig
from stsp_model.training.config_3d import FinetuneConfig, LiftConfig, StageConfig

CONFIGS = Path(__file__).parent / "configs"

Config = TypeVar("Config")
_TYPES: Mapping[str, type] = {
    "finder": FinderConfig,
    "epe": EPEConfig,
    "lift": LiftConfig,
    "finetune": FinetuneConfig,
}


def load_config(
    preset: str, stage: str, path: str | Path | None = None, changes: Sequence[str] = ()
) -> StageConfig:
    """The configuration of a stage.

    Args:
        preset, stage: names; the file must be of these.
        path: a YAML file; None: the one in configs/.
        changes: "key=value" each, the key dotted as in "optimisation.epochs=3", the value YAML.

    Raises:
        ConfigError: naming the file and the key that is wrong.
    """
    try:
        import yaml
    except ImportError:
        raise ConfigError(
            "training needs more packages: pip install '.[train]' in stsp's checkout"
        ) from None
    for name, value, known in (("preset", preset, tuple(PRESETS)), ("stage", stage, tuple(_TYPES))):
        if value not in known:
            raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(known)}")
    path = CONFIGS / f"{preset}_{stage}.yaml" if path is None else Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {error}") from None
    try:
        for change in changes:
            _apply(values, change, yaml.safe_load)
    except yaml.YAMLError as error:
        raise ConfigError(f"{change!r} has a value that is no YAML: {error}") from None
    try:
        config: Any = build(_TYPES[stage], values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if (config.preset, config.stage) != (preset, stage):
        raise ConfigError(
            f"{path} is for preset {config.preset!r}, stage {config.stage!r}, "
            f"not for {preset!r}, {stage!r}"
        )
    return typing.cast(StageConfig, config)


def _apply(values: Any, change: str, parse: Any) -> None:
    key, equals, text = change.partition("=")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.get(parent) if isinstance(values, dict) else None
    if not equals or not isinstance(values, dict) or last not in values:
        raise ConfigError(f"{change!r} changes nothing: expected KEY=VALUE with a key of the file")
    values[last] = parse(text)


def build(kind: type[Config], values: Any, name: str = "the file") -> Config:
    """A configuration dataclass from plain dictionaries, lists and numbers.

    Raises ConfigError for keys that lack or are too many, and for values of another type.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{name} is {values!r}, expected keys and values")
    hints = typing.get_type_hints(kind)
    lacking, foreign = sorted(hints.keys() - values), sorted(values.keys() - hints)
    if lacking or foreign:
        what = f"lacks {', '.join(lacking)}" if lacking else f"has unknown {', '.join(foreign)}"
        raise ConfigError(f"{name} {what}")
    try:
        return kind(**{key: _value(hints[key], values[key], key) for key in hints})
    except ConfigError as error:
        inner = "" if name == "the file" else f"in {name}: "
        raise ConfigError(f"{inner}{error}") from None


def _value(kind: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return build(typing.cast(type, kind), value, name)
    if typing.get_origin(kind) is tuple:
        arguments = typing.get_args(kind)
        if not isinstance(value, (list, tuple)):
            value = [value]
        if arguments[-1] is Ellipsis:
            return tuple(_value(arguments[0], item, name) for item in value)
        if len(arguments) != len(value):
            raise ConfigError(f"{name} holds {value!r}, expected {len(arguments)} values")
        return tuple(_value(kind, item, name) for kind, item in zip(arguments, value, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):
        # YAML 1.1 takes 1e-4 for a word, as it has no point.
        with contextlib.suppress(ValueError):
            return float(value)
    if type(value) is not kind:
        raise ConfigError(f"{name} is {value!r}, expected a value of type {kind.__name__}")
    return value

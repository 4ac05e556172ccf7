"""The node's parameters: each with its default, meaning and validity, in one place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from stsp_model.markers import DISTANCE, LIFETIME
from stsp_model.runtime import AUTO as AUTO_BACKEND
from stsp_model.runtime import BACKENDS

AUTO, RELIABLE, BEST_EFFORT = "auto", "reliable", "best_effort"
RAW, COMPRESSED = "raw", "compressed"


@dataclass(frozen=True)
class Rule:
    """What a parameter means and which values it takes."""

    meaning: str
    low: float | None = None
    high: float | None = None
    step: int = 1  # of whole numbers, from `low` on
    choices: tuple[str, ...] = ()
    at_start: bool = False  # read once, when the node starts
    unconfigured: bool = False  # changes only while the node is unconfigured
    lowest_but_zero: float | None = None  # 0 has a meaning of its own; other values start here


def _parameter(default: Any, meaning: str, **rule: Any) -> Any:
    return field(default=default, metadata={"rule": Rule(meaning, **rule)})


@dataclass(frozen=True)
class Settings:
    """Values of all parameters; the fields are their names and defaults."""

    autostart: bool = _parameter(
        True,
        "Configure and activate by itself at start; false leaves that to a lifecycle manager",
        at_start=True,
    )
    model: str = _parameter(
        "edge",
        "Preset whose shipped weights are used (edge, base, large), path of a .safetensors file "
        "or of a folder that stsp export wrote",
        unconfigured=True,
    )
    device: str = _parameter(
        "auto",
        "Where the network runs: cpu, cuda, cuda:0 ...; auto takes a GPU where there is one",
        unconfigured=True,
    )
    backend: str = _parameter(
        AUTO_BACKEND,
        "What runs the network; auto takes torch on a GPU, and on a CPU the first installed one "
        "of onnxruntime, openvino and torch",
        choices=BACKENDS,
        unconfigured=True,
    )
    image_transport: str = _parameter(
        RAW,
        "raw subscribes to the topic image, compressed to its JPEG or PNG sibling image/compressed",
        choices=(RAW, COMPRESSED),
    )
    image_reliability: str = _parameter(
        AUTO,
        "Reliability of the image subscription; auto is reliable while every publisher offers it",
        choices=(AUTO, RELIABLE, BEST_EFFORT),
    )
    rectified: bool = _parameter(
        False, "The images are undistorted already: use P of camera_info and ignore D"
    )
    image_rotation: int = _parameter(
        0,
        "Degrees clockwise (0, 90, 180 or 270) by which the images must be turned to show people "
        "upright, where the camera hangs on a side or upside down",
        low=0,
        high=270,
        step=90,
    )
    subject_height: float = _parameter(
        0.0,
        "Standing height of the people seen in metres (0.5 to 2.5); 0 estimates it",
        low=0.0,
        high=2.5,
        lowest_but_zero=0.5,
    )
    max_people: int = _parameter(1, "How many people to follow at most", low=1, high=20)
    max_gap: float = _parameter(
        0.5,
        "Seconds between images after which the past counts for nothing; also how far back a stamp "
        "may jump to be taken for a late image, which is dropped",
        low=0.05,
        high=10.0,
    )
    min_confidence: float = _parameter(
        0.3,
        "Where the score or the mean confidence of the 2D joints is below this (0 to 1) a person "
        "counts as not seen; who was not seen until now needs more, 0.4 where it is 0.3",
        low=0.0,
        high=1.0,
    )
    marker_distance: float = _parameter(
        DISTANCE,
        "Metres from the camera at which markers are drawn while the distance is unknown",
        low=0.1,
        high=100.0,
    )
    marker_lifetime: float = _parameter(
        LIFETIME,
        "Seconds after which a marker that is not renewed disappears; 0 keeps it",
        low=0.0,
        high=60.0,
    )


_FIELDS: Mapping[str, Field[Any]] = {entry.name: entry for entry in fields(Settings)}


def rule(name: str) -> Rule:
    """The rule of a parameter; KeyError for a name that is none of Settings."""
    found: Rule = _FIELDS[name].metadata["rule"]
    return found


def problem(name: str, value: Any) -> str:
    """Why `value` cannot be the parameter `name`, or an empty string."""
    limits, default = rule(name), _FIELDS[name].default
    if isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"{name} is {value!r}; expected a number"
        if not math.isfinite(value):
            return f"{name} is {value}; expected a finite number"
    elif type(value) is not type(default):
        return f"{name} is {value!r}; expected {type(default).__name__}"
    if limits.choices and value not in limits.choices:
        return f"{name} is {value!r}; expected one of {', '.join(limits.choices)}"
    if isinstance(value, str) and not value.strip():
        return f"{name} is empty"
    if limits.low is not None and limits.high is not None:
        lowest = limits.low if limits.lowest_but_zero is None else limits.lowest_but_zero
        if not (lowest <= value <= limits.high or (value == 0 and limits.low == 0)):
            zero = "0 or " if limits.lowest_but_zero is not None else ""
            return f"{name} is {value}; expected {zero}{lowest:g} to {limits.high:g}"
        if isinstance(default, int) and (value - limits.low) % limits.step:
            return f"{name} is {value}; expected a multiple of {limits.step}"
    return ""


def problem_with_change(parameters: Iterable[Parameter], *, loaded: Settings | None) -> str:
    """Why the node must refuse these values, or an empty string; names not ours pass.

    `loaded` is what a configured node runs with. Tools write back values that have not changed.
    """
    for parameter in parameters:
        if parameter.name not in _FIELDS:
            continue
        reason = problem(parameter.name, parameter.value)
        if reason:
            return reason
        fixed = rule(parameter.name).unconfigured and loaded is not None
        if fixed and parameter.value != getattr(loaded, parameter.name):
            return (
                f"{parameter.name} changes only while the node is unconfigured: "
                "deactivate and clean up first"
            )
    return ""


def declare(node: Node) -> Settings:
    """Declare every parameter on `node` and return the values it starts with.

    Raises ValueError naming the parameter for a value that it does not take.
    """
    for name, entry in _FIELDS.items():
        limits = rule(name)
        choices = f" [{', '.join(limits.choices)}]" if limits.choices else ""
        descriptor = ParameterDescriptor(
            description=limits.meaning + choices,
            read_only=limits.at_start,
            # A static double would refuse "ros2 param set ... 1"; problem() checks the type.
            dynamic_typing=isinstance(entry.default, float),
        )
        if limits.low is not None and limits.high is not None:
            if isinstance(entry.default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=limits.low, to_value=limits.high)
                ]
            else:
                descriptor.integer_range = [
                    IntegerRange(
                        from_value=int(limits.low), to_value=int(limits.high), step=limits.step
                    )
                ]
        try:
            value = node.declare_parameter(name, entry.default, descriptor).value
        except Exception as error:  # rclpy's words for a wrong type or range lack our units
            raise ValueError(f"parameter {name}: {error}") from error
        reason = problem(name, value)
        if reason:
            raise ValueError(f"parameter {reason}")
    return read(node)


def read(node: Node) -> Settings:
    """The current values on `node`."""
    values: dict[str, Any] = {}
    for name, entry in _FIELDS.items():
        value = node.get_parameter(name).value
        values[name] = float(value) if isinstance(entry.default, float) else value
    return Settings(**values)

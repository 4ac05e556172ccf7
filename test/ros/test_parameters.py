"""Parameters: declared with meaning, type and range; bad values refused with a reason."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml
from bench import Bench, FakeEstimator, wait_for
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, GetParameters
from rclpy.parameter import Parameter

from stsp_model.estimator import MOST_PEOPLE
from stsp_model.estimator import Settings as EstimatorSettings
from stsp_ros.estimation import estimator_options
from stsp_ros.parameters import Settings, problem, problem_with_change, rule

CONFIG = Path(__file__).parents[2] / "config" / "stsp.yaml"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("subject_height", 0.3, "0 or 0.5 to 2.5"),
        ("subject_height", 2.6, "0 or 0.5 to 2.5"),
        ("subject_height", -1.0, "0 or 0.5 to 2.5"),
        ("subject_height", float("nan"), "finite"),
        ("subject_height", True, "number"),
        ("subject_height", "tall", "number"),
        ("max_people", 0, "1 to 20"),
        ("max_people", 1.5, "int"),
        ("image_reliability", "perhaps", "auto, reliable, best_effort"),
        ("image_transport", "theora", "raw, compressed"),
        ("backend", "tflite", "auto, torch, onnxruntime, openvino, tensorrt"),
        ("model", " ", "empty"),
        ("rectified", 1, "bool"),
        ("min_confidence", 1.01, "0 to 1"),
        ("image_rotation", 45, "a multiple of 90"),
        ("image_rotation", -90, "0 to 270"),
        ("image_rotation", 360, "0 to 270"),
        ("image_rotation", 90.0, "int"),
    ],
)
def test_problems_name_the_parameter_and_what_it_takes(
    name: str, value: object, reason: str
) -> None:
    assert problem(name, value).startswith(name)
    assert reason in problem(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subject_height", 0),
        ("subject_height", 0.0),
        ("subject_height", 0.5),
        ("subject_height", 1),
        ("subject_height", 2.5),
        ("max_people", 20),
        ("image_rotation", 0),
        ("image_rotation", 90),
        ("image_rotation", 270),
        ("marker_lifetime", 0),
    ],
)
def test_limits_themselves_and_whole_numbers_are_fine(name: str, value: object) -> None:
    assert problem(name, value) == ""


def test_defaults_are_valid() -> None:
    for entry in fields(Settings):
        assert problem(entry.name, entry.default) == ""


def test_the_model_changes_only_while_unconfigured() -> None:
    change = [Parameter("model", value="base")]
    assert problem_with_change(change, loaded=None) == ""
    assert "unconfigured" in problem_with_change(change, loaded=Settings())
    assert problem_with_change([Parameter("use_sim_time", value=True)], loaded=Settings()) == ""


def test_all_parameters_may_be_written_back_as_they_are(bench: Bench) -> None:
    """As rqt and ros2 param load do; what is read-only to ROS they are used to."""
    bench.start(model="large")
    wait_for(lambda: bench.peer.state() == "active", "activity")
    for name, value in {**asdict(Settings()), "model": "large"}.items():
        if name != "autostart":
            assert bench.peer.set_parameter(name, value).successful, name
    assert not bench.peer.set_parameter("model", "edge").successful


def test_refusals_reach_the_caller_and_change_nothing(bench: Bench) -> None:
    node = bench.start()
    wait_for(lambda: bench.peer.state() == "active", "activity")
    for name, value, reason in [
        ("subject_height", 0.3, "0 or 0.5 to 2.5"),
        ("image_transport", "theora", "raw, compressed"),
        ("model", "base", "unconfigured"),
        ("device", "cpu", "unconfigured"),
        ("backend", "torch", "unconfigured"),
    ]:
        before = node.get_parameter(name).value
        result = bench.peer.set_parameter(name, value)
        assert not result.successful
        assert reason in result.reason
        assert node.get_parameter(name).value == before
    assert not bench.peer.set_parameter("autostart", False).successful
    assert not bench.peer.set_parameter("max_people", 99).successful
    assert not bench.peer.set_parameter("rectified", "yes").successful
    assert not bench.peer.set_parameter("image_rotation", 45).successful


def test_a_live_change_reaches_the_estimator_between_images(bench: Bench) -> None:
    fake = FakeEstimator()
    bench.start(fake)
    bench.peer.greet()
    bench.hold(fake, 70.0)
    assert bench.peer.set_parameter("subject_height", 1).successful  # a whole number is fine
    time.sleep(0.1)
    assert fake.options == {}  # the image at work keeps what it began with
    fake.gate.release(1000)
    wait_for(lambda: fake.options.get("subject_height") == 1.0, "the new height")
    assert isinstance(fake.options["subject_height"], float)


def test_every_live_change_of_an_estimators_option_reaches_it(bench: Bench) -> None:
    fake = FakeEstimator()
    bench.start(fake)
    wait_for(lambda: bench.peer.state() == "active", "activity")
    changes = {"max_people": 3, "max_gap": 2.0, "min_confidence": 0.7, "image_rotation": 90}
    for name, value in changes.items():
        assert bench.peer.set_parameter(name, value).successful
        wait_for(lambda n=name, v=value: fake.options.get(n) == v, f"{name} in the estimator")


def test_all_settings_of_the_estimator_are_parameters_alike() -> None:
    settings = Settings(
        subject_height=1.5, max_people=3, max_gap=2.0, min_confidence=0.7, image_rotation=180
    )
    names = [entry.name for entry in fields(EstimatorSettings)]
    assert estimator_options(settings) == {name: getattr(settings, name) for name in names}
    assert EstimatorSettings(**estimator_options(Settings())) == EstimatorSettings()
    assert rule("max_people").high == MOST_PEOPLE


def test_the_model_of_an_unconfigured_node_is_the_one_loaded_next(bench: Bench) -> None:
    models: list[str] = []

    def factory(settings: Settings) -> FakeEstimator:
        models.append(settings.model)
        return FakeEstimator()

    bench.start(factory, autostart=False)
    assert bench.peer.set_parameter("model", "base").successful
    assert bench.peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert models == ["base"]


def test_a_model_set_just_before_configuring_is_the_one_loaded(bench: Bench) -> None:
    models: list[str] = []

    def factory(settings: Settings) -> FakeEstimator:
        models.append(settings.model)
        return FakeEstimator()

    node = bench.start(factory, autostart=False)
    peer = bench.peer
    # The clients are connected now.
    assert peer.set_parameter("model", "edge").successful
    assert not peer.change_state(Transition.TRANSITION_ACTIVATE)
    busy, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        timer.cancel()
        busy.set()
        go_on.wait(30)

    timer = node.create_timer(0.01, hold)
    assert busy.wait(30)
    with ThreadPoolExecutor() as callers:  # both requests are there when the node looks again
        changed = callers.submit(peer.set_parameter, "model", "base")
        configured = callers.submit(peer.change_state, Transition.TRANSITION_CONFIGURE)
        time.sleep(0.3)
        go_on.set()
        assert changed.result().successful
        assert configured.result()
    assert models == ["base"]
    bench.peer.status(lambda values, _: values.get("model") == "base, trained")


def test_calls_are_answered_while_inference_goes_on(bench: Bench) -> None:
    fake = FakeEstimator()
    bench.start(fake)
    bench.peer.greet()
    bench.peer.set_parameter("marker_distance", 2.0)  # the clients are connected now
    bench.hold(fake, 70.0)
    assert bench.peer.set_parameter("marker_distance", 2.5).successful
    assert bench.peer.state() == "active"
    assert fake.at_work.is_set()  # all that time the same image was at work
    fake.gate.release(1000)


def test_parameters_describe_themselves(bench: Bench) -> None:
    bench.start()
    names = [entry.name for entry in fields(Settings)]
    answer = bench.peer.call(
        DescribeParameters, "describe_parameters", DescribeParameters.Request(names=names)
    )
    by_name = {descriptor.name: descriptor for descriptor in answer.descriptors}
    assert set(by_name) == set(names)
    assert all(len(descriptor.description) > 10 for descriptor in by_name.values())
    height = by_name["subject_height"]
    assert height.type == ParameterType.PARAMETER_DOUBLE
    assert (height.floating_point_range[0].from_value, height.floating_point_range[0].to_value) == (
        0.0,
        2.5,
    )
    people = by_name["max_people"]
    assert people.type == ParameterType.PARAMETER_INTEGER
    assert (people.integer_range[0].from_value, people.integer_range[0].to_value) == (1, 20)
    assert by_name["autostart"].read_only


@pytest.mark.parametrize(
    ("name", "value"), [("subject_height", 0.1), ("max_people", 0), ("image_transport", "x")]
)
def test_a_bad_first_value_is_one_clear_error(bench: Bench, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"parameter {name}"):
        bench.start(**{name: value})


def test_the_configuration_file_holds_every_default(bench: Bench) -> None:
    """Loaded by rclpy itself under a namespace, where a file without /**: would be ignored."""
    text = CONFIG.read_text()
    written = yaml.safe_load(text)
    assert list(written) == ["/**"]
    parameters = written["/**"]["ros__parameters"]
    assert parameters == {entry.name: entry.default for entry in fields(Settings)}
    for entry in fields(Settings):
        assert type(parameters[entry.name]) is type(entry.default), entry.name

    node = bench.start(ros_args=["--params-file", str(CONFIG)], namespace="/robot")
    for name, value in parameters.items():
        assert node.get_parameter(name).value == value


def test_the_configuration_file_is_heard_under_a_namespace(bench: Bench, tmp_path: Path) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text(CONFIG.read_text().replace("subject_height: 0.0", "subject_height: 1"))
    bench.start(ros_args=["--params-file", str(changed)], namespace="/robot")
    peer = bench.add_peer(namespace="/robot")
    request = GetParameters.Request(names=["subject_height"])
    value = peer.call(GetParameters, "get_parameters", request).values[0]
    assert value.integer_value == 1

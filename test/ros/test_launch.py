"""The launch file starts the node as told, and the RViz file fits what the node publishes."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from bench import Bench
from rcl_interfaces.srv import GetParameters

ROOT = Path(__file__).parents[2]
LAUNCH_FILE = ROOT / "launch" / "stsp.launch.py"


def test_the_rviz_file_shows_what_the_node_publishes() -> None:
    content = yaml.safe_load((ROOT / "rviz" / "stsp.rviz").read_text())
    displays = content["Visualization Manager"]["Displays"]
    topics = {d["Class"]: d["Topic"] for d in displays if "Topic" in d}
    assert topics["rviz_default_plugins/MarkerArray"]["Value"] == "/stsp/markers"
    assert topics["rviz_default_plugins/Image"]["Value"] == "/stsp/debug_image"
    for topic in topics.values():
        assert topic["Reliability Policy"] in ("Reliable", "Best Effort")
        assert topic["Durability Policy"] == "Volatile"  # transient local would match no publisher
    assert all("Class" in display for display in displays)


@pytest.fixture(scope="module")
def launch_file() -> ModuleType:
    # Our own folder launch/ answers to "import launch", so the other name tells.
    pytest.importorskip("launch_ros")
    spec = importlib.util.spec_from_file_location("stsp_launch", LAUNCH_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_argument_is_described_and_empty_by_default(launch_file: ModuleType) -> None:
    from launch.actions import DeclareLaunchArgument

    description = launch_file.generate_launch_description()
    declared = {e.name: e for e in description.entities if isinstance(e, DeclareLaunchArgument)}
    assert set(declared) == {
        "namespace",
        "params_file",
        "image",
        "camera_info",
        "image_transport",
        "backend",
        "device",
        "model",
        "subject_height",
        "max_people",
        "image_rotation",
        "rectified",
        "use_sim_time",
        "rviz",
        "fixed_frame",
        "fastdds_transports",
        "log_level",
    }
    for name, argument in declared.items():
        assert len(argument.description) > 10, name
        assert "".join(s.text for s in argument.default_value) == "", name


def test_an_argument_that_is_no_truth_value_is_refused(launch_file: ModuleType) -> None:
    assert launch_file.boolean("rviz", "True")
    assert not launch_file.boolean("rviz", "")
    with pytest.raises(ValueError, match=r"rviz is 'perhaps'; expected true or false"):
        launch_file.boolean("rviz", "perhaps")


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("max_people", "2.5", "a whole number"),
        ("image_rotation", "left", "a whole number"),
        ("subject_height", "1,3", "a number"),
    ],
)
def test_an_argument_that_is_no_number_is_refused(
    launch_file: ModuleType, name: str, text: str, kind: str
) -> None:
    with pytest.raises(ValueError, match=f"{name} is '{text}'; expected {kind}"):
        launch_file.number(name, text)


@pytest.mark.parametrize(
    ("name", "told"), [("nope.yaml", r"nope\.yaml"), ("~/nope.yaml", r"/home/of/nope\.yaml")]
)
def test_a_parameter_file_that_is_not_there_is_named(
    launch_file: ModuleType, name: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launch import LaunchContext

    monkeypatch.setenv("HOME", "/home/of")
    context = LaunchContext()
    given = dict.fromkeys(launch_file.ARGUMENTS, "") | {"params_file": name}
    context.launch_configurations.update(given)
    with pytest.raises(ValueError, match=f"params_file: there is no {told}"):
        launch_file.start(context)


@pytest.mark.usefixtures("launch_file")
def test_the_launched_node_hears_its_arguments(bench: Bench, tmp_path: Path) -> None:
    """Launched by launch itself, with an ament prefix in which the executable stands."""
    prefix = tmp_path / "prefix"
    (prefix / "lib" / "stsp").mkdir(parents=True)
    executable = prefix / "lib" / "stsp" / "pose_node"
    executable.write_text(
        f"#!{sys.executable}\nimport sys\nfrom stsp_ros.pose_node import main\nsys.exit(main())\n"
    )
    executable.chmod(0o755)
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "stsp").touch()
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text("/**:\n  ros__parameters:\n    autostart: false\n    model: base\n")
    runner = (
        "import sys\nfrom launch import LaunchDescription, LaunchService\n"
        "from launch.actions import IncludeLaunchDescription\n"
        "arguments = [tuple(a.split(':=', 1)) for a in sys.argv[2:]]\n"
        "service = LaunchService()\n"
        "service.include_launch_description(LaunchDescription([\n"
        "    IncludeLaunchDescription(sys.argv[1], launch_arguments=arguments)]))\n"
        "sys.exit(service.run())\n"
    )
    environment = {
        **os.environ,
        "AMENT_PREFIX_PATH": f"{prefix}:{os.environ.get('AMENT_PREFIX_PATH', '')}",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    }
    given = [
        "namespace:=robot",
        f"params_file:={parameters}",
        "image:=/front/image",
        "device:=cpu",
        "image_transport:=compressed",
        "subject_height:=1",
        "max_people:=3",
        "image_rotation:=270",
        "rectified:=true",
        "log_level:=warn",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", runner, str(LAUNCH_FILE), *given],
        env=environment,
        cwd=tmp_path,  # away from our folder launch/
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        peer = bench.add_peer(namespace="/robot")
        names = ["autostart", "model", "device", "image_transport", "use_sim_time"]
        names += ["subject_height", "max_people", "image_rotation", "rectified"]
        answer = peer.call(
            GetParameters, "get_parameters", GetParameters.Request(names=names), timeout=60
        ).values
        assert not answer[0].bool_value  # of the file
        assert answer[1].string_value == "base"  # of the file: an empty argument does not beat it
        assert answer[2].string_value == "cpu"
        assert answer[3].string_value == "compressed"
        assert not answer[4].bool_value
        assert answer[5].double_value == 1.0
        assert (answer[6].integer_value, answer[7].integer_value) == (3, 270)
        assert answer[8].bool_value
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=30)[0]
        assert process.returncode == 0, output
        assert "Traceback" not in output
    finally:
        process.kill()
        process.communicate()

"""Start the node, and RViz on request; "ros2 launch stsp stsp.launch.py -s" lists the arguments."""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

# An argument left empty is not passed on: it would silently beat the params_file.
ARGUMENTS = {
    "namespace": "Namespace of the node and its topics",
    "params_file": "YAML file of parameters, like share/stsp/config/stsp.yaml",
    "image": "Topic of the images (image)",
    "camera_info": "Topic of the camera's calibration (camera_info beside the images)",
    "image_transport": "raw or compressed",
    "backend": "What runs the network: auto, torch, onnxruntime, openvino or tensorrt",
    "device": "Where the network runs: auto, cpu, cuda, cuda:0 ...",
    "model": "Preset (edge, base, large), path of a .safetensors file or of what stsp export wrote",
    "use_sim_time": "true takes the time from /clock, as when a bag is played with --clock",
    "rviz": "true starts RViz as well",
    "fixed_frame": "Frame that RViz shows everything in: the camera's optical frame or one in tf",
    "fastdds_transports": "FASTDDS_BUILTIN_TRANSPORTS of what starts here; set it for the camera "
    "too, or for none: processes on different transports may never meet",
    "log_level": "debug, info, warn, error or fatal, of this node alone",
}
PARAMETERS = ("image_transport", "backend", "device", "model", "use_sim_time")
TOPICS = ("image", "camera_info")
BOOLEANS = {"true": True, "1": True, "false": False, "0": False, "": False}


def boolean(name: str, text: str) -> bool:
    """The value of a true-or-false argument; ValueError for anything else."""
    if text.lower() not in BOOLEANS:
        raise ValueError(f"launch argument {name} is {text!r}; expected true or false")
    return BOOLEANS[text.lower()]


def start(context: LaunchContext) -> list[SetEnvironmentVariable | Node]:
    """What to do once the arguments have values."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    given = {name: text for name, text in given.items() if text}
    namespace = given.get("namespace", "").strip("/")

    values: dict[str, str | bool] = {name: given[name] for name in PARAMETERS if name in given}
    if "use_sim_time" in values:
        values["use_sim_time"] = boolean("use_sim_time", given["use_sim_time"])
    parameters: list[str | dict[str, str | bool]] = []
    if "params_file" in given:
        if not Path(given["params_file"]).is_file():
            raise ValueError(f"launch argument params_file: there is no {given['params_file']}")
        parameters.append(given["params_file"])
    if values:
        parameters.append(values)
    logger = ".".join([*namespace.split("/"), "stsp"]).lstrip(".")
    arguments = ["--log-level", f"{logger}:={given['log_level']}"] if "log_level" in given else []

    actions: list[SetEnvironmentVariable | Node] = []
    if "fastdds_transports" in given:
        transports = given["fastdds_transports"]
        actions.append(SetEnvironmentVariable("FASTDDS_BUILTIN_TRANSPORTS", transports))
    # First, so that nothing runs on when there is no RViz.
    if boolean("rviz", given.get("rviz", "")):
        prefix = f"/{namespace}/stsp" if namespace else "/stsp"
        frame = ["-f", given["fixed_frame"]] if "fixed_frame" in given else []
        actions.append(
            Node(
                package="rviz2",
                executable="rviz2",
                name="rviz_stsp",
                arguments=[
                    "-d",
                    PathJoinSubstitution([FindPackageShare("stsp"), "rviz", "stsp.rviz"]),
                    *frame,
                ],
                parameters=[{"use_sim_time": bool(values.get("use_sim_time", False))}],
                remappings=[
                    (f"/stsp/{topic}", f"{prefix}/{topic}") for topic in ("markers", "debug_image")
                ],
                output="screen",
            )
        )
    actions.append(
        Node(
            package="stsp",
            executable="pose_node",
            name="stsp",
            namespace=namespace,
            parameters=parameters,
            remappings=[(topic, given[topic]) for topic in TOPICS if topic in given],
            ros_arguments=arguments,
            output="screen",
            emulate_tty=True,
        )
    )
    return actions


def generate_launch_description() -> LaunchDescription:
    """The entry point that ros2 launch looks for."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value="", description=description)
                for name, description in ARGUMENTS.items()
            ),
            OpaqueFunction(function=start),
        ]
    )

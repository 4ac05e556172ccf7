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
    "subject_height": "Standing height of the people seen in metres; 0 estimates it",
    "max_people": "How many people to follow at most",
    "image_rotation": "Degrees clockwise that turn the images upright: 0, 90, 180 or 270",
    "rectified": "true for images that are undistorted already",
    "use_sim_time": "true takes the time from /clock, as when a bag is played with --clock",
    "rviz": "true starts RViz as well",
    "fixed_frame": "Frame that RViz shows everything in: the camera's optical frame or one in tf",
    "fastdds_transports": "FASTDDS_BUILTIN_TRANSPORTS of what starts here; set it for the camera "
    "too, or for none: processes on different transports may never meet",
    "log_level": "debug, info, warn, error or fatal, of this node alone",
}
TEXTS = ("image_transport", "backend", "device", "model")
WHOLE_NUMBERS, NUMBERS = ("max_people", "image_rotation"), ("subject_height",)
BOOLEANS = ("rectified", "use_sim_time")
TOPICS = ("image", "camera_info")


def boolean(name: str, text: str) -> bool:
    """The value of a true-or-false argument; ValueError for anything else."""
    if text.lower() not in ("true", "1", "false", "0", ""):
        raise ValueError(f"launch argument {name} is {text!r}; expected true or false")
    return text.lower() in ("true", "1")


def number(name: str, text: str) -> float:
    """The value of a numerical argument, an int where it is one of WHOLE_NUMBERS; or ValueError."""
    try:
        return int(text) if name in WHOLE_NUMBERS else float(text)
    except ValueError:
        kind = "a whole number" if name in WHOLE_NUMBERS else "a number"
        raise ValueError(f"launch argument {name} is {text!r}; expected {kind}") from None


def start(context: LaunchContext) -> list[SetEnvironmentVariable | Node]:
    """What to do once the arguments have values."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    given = {name: text for name, text in given.items() if text}
    namespace = given.get("namespace", "").strip("/")

    values: dict[str, str | float] = {name: given[name] for name in TEXTS if name in given}
    values |= {n: number(n, given[n]) for n in (*WHOLE_NUMBERS, *NUMBERS) if n in given}
    values |= {name: boolean(name, given[name]) for name in BOOLEANS if name in given}
    parameters: list[str | dict[str, str | float]] = []
    if "params_file" in given:
        file = Path(given["params_file"]).expanduser()  # no shell does so after ":="
        if not file.is_file():
            raise ValueError(f"launch argument params_file: there is no {file}")
        parameters.append(str(file))
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

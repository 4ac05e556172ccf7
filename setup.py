"""Packaging of stsp for pip: the Python modules and the `stsp` command, without ROS.

colcon builds the same modules from CMakeLists.txt. The distribution is called stsp-pose because
rosidl installs the generated messages under the name stsp, which pip would take for this one.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def package_xml(tag: str) -> str:
    """Text of a top-level element of package.xml, which holds what pip and ROS both state."""
    text = ET.parse(HERE / "package.xml").getroot().findtext(tag)
    if not text:
        raise ValueError(f"package.xml has no <{tag}>")
    return text


def requirements(file: str) -> list[str]:
    """The requirements of a pip requirements file, without its comments."""
    lines = (HERE / file).read_text(encoding="utf-8").splitlines()
    return [line.split(" #")[0].strip() for line in lines if line and not line.startswith("#")]


setup(
    name="stsp-pose",
    version=package_xml("version"),
    description=package_xml("description"),
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[
        "stsp_model",
        "stsp_model.bench",
        "stsp_model.data",
        "stsp_model.evaluation",
        "stsp_model.msg",
        "stsp_model.replay",
        "stsp_model.runtime",
        "stsp_model.synth",
        "stsp_model.training",
        "stsp_ros",
    ],
    package_dir={"stsp_model.msg": "msg"},
    package_data={
        "stsp_model": ["py.typed", "weights/*"],
        "stsp_model.data": ["*.json"],
        "stsp_model.msg": ["*.msg"],
        "stsp_model.replay": ["*.html", "*.js"],
        "stsp_model.training": ["configs/*.yaml", "*.npz"],
        "stsp_ros": ["*.xml", "py.typed"],
    },
    install_requires=[
        "numpy>=1.26,<3",
        "opencv-python-headless>=4.5,<6",
        "rosbags>=0.11,<0.12",
        "safetensors>=0.4,<1",
        "torch>=2.4,<3",
        "tqdm>=4.62,<5",
    ],
    extras_require={
        # rclpy and the messages of ROS 2 Jazzy, for machines without ROS. Our own messages are then
        # built into the environment from a checkout: python scripts/build_messages.py
        "ros": requirements("requirements/ros-jazzy.txt"),
        "synth": ["anny>=0.6,<0.7", "scipy>=1.10", "warp-lang>=1.19,<2"],
        "train": [
            "lightning-fabric>=2.4,<3",
            "pyyaml>=6,<7",
            "scipy>=1.10",  # reads the data sets' .mat
            "tensorboard>=2.15,<3",
        ],
        "deploy": ["onnx>=1.16,<2", "onnxruntime>=1.18,<2", "openvino>=2024.3"],
        "ray": ["ray>=2.40,<3"],
        "report": ["matplotlib>=3.7,<4", "plotly>=6,<8"],
        "test": [
            "hypothesis>=6.100,<7",
            "mcap-ros2-support>=0.5.7,<0.7",
            "pytest>=7.4",
            "pytest-xdist>=3.5,<4",
            "scipy>=1.10",
            "selenium>=4.20,<5",
        ],
    },
    entry_points={"console_scripts": ["stsp = stsp_model.cli:main"]},
)

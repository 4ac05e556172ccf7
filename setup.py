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


setup(
    name="stsp-pose",
    version=package_xml("version"),
    description=package_xml("description"),
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=["stsp_model", "stsp_model.msg", "stsp_ros"],
    package_dir={"stsp_model.msg": "msg"},
    package_data={
        "stsp_model": ["py.typed", "weights/*"],
        "stsp_model.msg": ["*.msg"],
        "stsp_ros": ["py.typed"],
    },
    install_requires=[
        "numpy>=1.26,<3",
        "opencv-python-headless>=4.5,<6",
        "rosbags>=0.10,<0.12",
        "safetensors>=0.4,<1",
        "torch>=2.4,<3",
    ],
    entry_points={"console_scripts": ["stsp = stsp_model.cli:main"]},
)

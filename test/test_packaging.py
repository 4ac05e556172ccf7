"""package.xml, CMakeLists.txt, setup.py and the requirements agree with each other and the code."""

from __future__ import annotations

import ast
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DISTROS = ("jazzy", "kilted")


def package_xml(tag: str) -> list[str]:
    return [element.text or "" for element in ET.parse(ROOT / "package.xml").getroot().iter(tag)]


@pytest.fixture
def distribution():
    setuptools = pytest.importorskip("setuptools")  # before distutils, which it brings from 3.12 on
    from distutils.core import run_setup

    distribution = run_setup(str(ROOT / "setup.py"), stop_after="init")
    assert isinstance(distribution, setuptools.Distribution)
    return distribution


def cmake_lists() -> str:
    return (ROOT / "CMakeLists.txt").read_text()


def test_cmake_builds_every_message():
    built = re.findall(r"msg/(\w+)\.msg", cmake_lists())
    assert sorted(built) == sorted(file.stem for file in (ROOT / "msg").glob("*.msg"))


def test_pip_and_ros_state_the_same_version(distribution):
    assert [distribution.get_version()] == package_xml("version")


def test_pip_does_not_own_the_name_of_the_generated_messages(distribution):
    assert distribution.get_name() == "stsp-pose"
    assert package_xml("name") == ["stsp"]
    assert "stsp" not in distribution.packages


def test_every_python_package_is_installed_by_pip_and_by_colcon(distribution):
    on_disk = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for top in ("stsp_model", "stsp_ros")
        for file in (ROOT / top).rglob("__init__.py")
    }
    assert set(distribution.packages) == on_disk | {"stsp_model.msg"}
    colcon = re.findall(r"ament_python_install_package\((\w+)\)", cmake_lists())
    assert set(colcon) == {name.split(".")[0] for name in on_disk}


def test_message_definitions_and_type_markers_are_package_data(distribution):
    assert distribution.package_dir["stsp_model.msg"] == "msg"
    assert distribution.package_data["stsp_model.msg"] == ["*.msg"]
    for package in ("stsp_model", "stsp_ros"):
        assert "py.typed" in distribution.package_data[package]
        assert (ROOT / package / "py.typed").exists()


def test_every_other_file_beside_the_code_is_package_data(distribution):
    folders = {ROOT / Path(*name.split(".")): name for name in distribution.packages}
    for top in ("stsp_model", "stsp_ros"):
        for file in (ROOT / top).rglob("*"):
            if file.is_dir() or file.suffix in {".py", ".pyc"}:
                continue
            owner = next(folder for folder in file.parents if folder in folders)
            patterns = distribution.package_data.get(folders[owner], [])
            inside = file.relative_to(owner)
            assert any(inside.match(pattern) for pattern in patterns), f"{file} is not installed"


def test_every_executable_is_installed():
    installed = re.findall(r"\bbin/(\w+)", cmake_lists())
    assert sorted(installed) == sorted(file.name for file in (ROOT / "bin").iterdir())
    assert all(os.access(file, os.X_OK) for file in (ROOT / "bin").iterdir())


def ros_imports() -> set[str]:
    """ROS packages that the code imports, by their names in ROS."""
    names = set()
    for file in [*(ROOT / "stsp_ros").rglob("*.py"), *(ROOT / "launch").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").split(".")[0])
    return {
        name
        for name in names
        if name.endswith(("_msgs", "_srvs", "_interfaces"))
        or name in {"rclpy", "launch", "launch_ros", "ament_index_python"}
    }


def test_every_ros_package_that_is_imported_is_declared():
    declared = {*package_xml("depend"), *package_xml("exec_depend")}
    assert ros_imports() - declared == set()


@pytest.mark.parametrize("distro", DISTROS)
def test_every_ros_package_of_the_node_is_among_the_wheels(distro):
    text = (ROOT / "requirements" / f"ros-{distro}.txt").read_text()
    wheels = set(re.findall(r"^ros-([a-z0-9-]+)", text, re.MULTILINE))
    imported = ros_imports() - {"launch", "launch_ros"}  # not on PyPI: for machines with ROS
    assert {name.replace("_", "-") for name in imported} - wheels == set()


@pytest.mark.parametrize("distro", DISTROS)
def test_ros_wheels_are_pinned_exactly(distro):
    lines = (ROOT / "requirements" / f"ros-{distro}.txt").read_text().splitlines()
    loose = [line for line in lines if line.startswith("ros-") and "==" not in line]
    assert loose == []


def test_the_ros_extra_is_the_default_distro(distribution):
    assert "ros-rclpy[fastrtps]==7.1.6" in distribution.extras_require["ros"]
    assert set(distribution.extras_require) == {
        "deploy",
        "ray",
        "report",
        "ros",
        "synth",
        "test",
        "train",
    }

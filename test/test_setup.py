"""The set-up of make: what it refuses, when it does nothing, and what it keeps out."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
DISTROS = ("jazzy", "kilted")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


set_up = script("set_up")
build_messages = script("build_messages")


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the virtual environment is made from."""
    for name in ("CMakeLists.txt", "package.xml", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("cmake", "msg", "requirements", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


# What it refuses


@pytest.mark.parametrize("minor", [10, 11, 12])
def test_supported_pythons_pass(minor):
    set_up.check_python((3, minor, 0), "Linux", "x86_64", 64)


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 13, 0), (3, 14, 0), (2, 7, 18)])
def test_other_pythons_are_refused_with_the_way_out(version):
    with pytest.raises(
        set_up.SetUpError, match=r"3\.10, 3\.11 or 3\.12.*PYTHON=python3\.12"
    ) as why:
        set_up.check_python(version, "Linux", "x86_64", 64)
    assert ".".join(map(str, version)) in str(why.value)
    assert "\n" not in str(why.value)


@pytest.mark.parametrize(
    ("system", "machine", "bits"),
    [("Linux", "aarch64", 64), ("Linux", "x86_64", 32), ("Darwin", "x86_64", 64)],
)
def test_machines_without_wheels_are_sent_to_colcon(system, machine, bits):
    with pytest.raises(set_up.SetUpError, match="colcon"):
        set_up.check_python((3, 11, 2), system, machine, bits)


@pytest.fixture
def headers(tmp_path):
    (tmp_path / "Python.h").touch()
    return tmp_path


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_missing_c_compiler_is_named(monkeypatch, tmp_path, headers):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(set_up.SetUpError, match=r"a C compiler.*apt install build-essential"):
        set_up.check_tools(11, headers)


def test_a_missing_cpp_compiler_is_named(monkeypatch, tmp_path, headers):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    executable(tmp_path / "clang")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(set_up.SetUpError, match=r"a C\+\+ compiler.*apt install build-essential"):
        set_up.check_tools(11, headers)


def test_compilers_named_by_the_environment_are_taken(monkeypatch, tmp_path, headers):
    executable(tmp_path / "mycc")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "mycc -m64")
    monkeypatch.setenv("CXX", "mycc")
    set_up.check_tools(11, headers)


def test_missing_python_headers_are_named(monkeypatch, tmp_path):
    executable(tmp_path / "cc")
    executable(tmp_path / "c++")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(set_up.SetUpError, match=r"apt install python3\.12-dev"):
        set_up.check_tools(12, tmp_path)


def test_a_python_without_ensurepip_is_refused(monkeypatch, headers):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        set_up.importlib.util,
        "find_spec",
        lambda name: None if name == "ensurepip" else found(name),
    )
    with pytest.raises(set_up.SetUpError, match=r"ensurepip.*apt install python3\.10-venv"):
        set_up.check_tools(10, headers)


@pytest.mark.parametrize("distro", DISTROS)
def test_pinned_distros_pass(distro):
    set_up.check_distro(distro)


@pytest.mark.parametrize("distro", ["humble", "", "../jazzy"])
def test_other_distros_are_refused_naming_those_there_are(distro):
    with pytest.raises(set_up.SetUpError, match="jazzy or kilted"):
        set_up.check_distro(distro)


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ("cmake version 3.22.1", False),
        ("cmake version 4.1.0", False),
        ("cmake version 3.16.3", True),
        ("exit", True),
    ],
)
def test_cmake_comes_from_pip_where_it_is_missing_or_old(monkeypatch, tmp_path, answer, missing):
    executable(tmp_path / "cmake", f"#!/bin/sh\necho {answer}\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set_up.cmake_is_missing() is missing


def test_cmake_is_missing_where_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set_up.cmake_is_missing()


def test_set_up_asks_for_the_cmake_that_cmakelists_takes():
    least = re.search(
        r"cmake_minimum_required\(VERSION (\d+)\.(\d+)\)", (ROOT / "CMakeLists.txt").read_text()
    )
    assert least is not None
    assert tuple(map(int, least.groups())) == set_up.CMAKE


# When it does something


def test_the_fingerprint_of_an_unchanged_checkout_stays(checkout):
    assert set_up.fingerprint("jazzy", "3.11.2", checkout) == set_up.fingerprint(
        "jazzy", "3.11.2", checkout
    )


@pytest.mark.parametrize(
    "file",
    [
        "CMakeLists.txt",
        "cmake/drop_missing_include_folders.cmake",
        "msg/Skeleton3D.msg",
        "package.xml",
        "requirements/python.txt",
        "requirements/ros-jazzy.txt",
        "scripts/build_messages.py",
        "scripts/set_up.py",
        "setup.py",
    ],
)
def test_the_fingerprint_follows_every_file_the_environment_is_made_from(checkout, file):
    before = set_up.fingerprint("jazzy", "3.11.2", checkout)
    with (checkout / file).open("a") as text:
        text.write("\n")
    assert set_up.fingerprint("jazzy", "3.11.2", checkout) != before


def test_the_fingerprint_follows_a_renamed_message_the_distro_and_python(checkout):
    prints = {
        set_up.fingerprint("jazzy", "3.11.2", checkout),
        set_up.fingerprint("kilted", "3.11.2", checkout),
        set_up.fingerprint("jazzy", "3.11.3", checkout),
    }
    (checkout / "msg" / "Keypoint2D.msg").rename(checkout / "msg" / "Keypoint2E.msg")
    prints.add(set_up.fingerprint("jazzy", "3.11.2", checkout))
    assert len(prints) == 4


@pytest.fixture
def steps(monkeypatch):
    """The titles of the steps that set_up would run, recorded and not run."""
    titles: list[str] = []

    def record(title, command, _log):
        titles.append(title)
        if "venv" in command:
            (command[-1] / "bin").mkdir()
            (command[-1] / "bin" / "python").touch()

    monkeypatch.setattr(set_up, "run_step", record)
    monkeypatch.setattr(set_up, "check_tools", lambda _minor, _include: None)
    return titles


def test_a_second_run_does_nothing(steps, tmp_path):
    set_up.set_up("jazzy", tmp_path / "venv")
    assert steps[0] == "making venv"
    assert any("jazzy" in title for title in steps)
    steps.clear()
    set_up.set_up("jazzy", tmp_path / "venv")
    assert steps == []


def test_an_environment_whose_python_is_gone_is_made_anew(steps, tmp_path):
    set_up.set_up("jazzy", tmp_path / "venv")
    steps.clear()
    (tmp_path / "venv" / "bin" / "python").unlink()
    set_up.set_up("jazzy", tmp_path / "venv")
    assert steps[0] == "making venv"


def test_another_distro_in_the_same_folder_is_installed_anew(steps, tmp_path):
    set_up.set_up("jazzy", tmp_path / "venv")
    steps.clear()
    set_up.set_up("kilted", tmp_path / "venv")
    assert any("kilted" in title for title in steps)


def test_a_set_up_that_broke_off_is_not_taken_for_done(steps, tmp_path, monkeypatch):
    set_up.set_up("jazzy", tmp_path / "venv")

    def break_off(title, _command, _log):
        raise set_up.SetUpError(title)

    with monkeypatch.context() as broken:
        broken.setattr(set_up, "run_step", break_off)
        with pytest.raises(set_up.SetUpError):
            set_up.set_up("kilted", tmp_path / "venv")
    steps.clear()
    set_up.set_up("jazzy", tmp_path / "venv")
    assert any("messages" in title for title in steps)


def test_a_failing_step_shows_the_end_of_its_log(tmp_path, capsys):
    code = "import sys; print(*range(100), sep=chr(10), flush=True); sys.exit('no such wheel')"
    with pytest.raises(set_up.SetUpError, match=r"fetching failed.*setup\.log"):
        set_up.run_step("fetching", [sys.executable, "-c", code], tmp_path / "setup.log")
    output = capsys.readouterr()
    assert "set-up: fetching ... failed" in output.out
    assert "no such wheel" in output.err
    assert len(output.err.splitlines()) == set_up.LOG_TAIL
    assert "$ " in (tmp_path / "setup.log").read_text()


def test_a_step_that_goes_well_is_one_line(tmp_path, capsys):
    set_up.run_step("fetching", [sys.executable, "-c", "print('detail')"], tmp_path / "setup.log")
    assert re.fullmatch(r"set-up: fetching \.\.\. done in \d+ s\n", capsys.readouterr().out)
    assert "detail" in (tmp_path / "setup.log").read_text()


def test_only_files_of_this_environment_are_removed_before_a_new_build(tmp_path):
    inside, outside = tmp_path / "venv" / "old.py", tmp_path / "other" / "old.py"
    for file in (inside, outside):
        file.parent.mkdir()
        file.touch()
    manifest = tmp_path / "install_manifest.txt"
    manifest.write_text(f"{inside}\n{outside}\n{tmp_path / 'venv' / 'gone.py'}\n")
    build_messages.remove_installed(manifest, tmp_path / "venv")
    assert not inside.exists()
    assert outside.exists()


# The Makefile


def make(*arguments: str, **variables: str) -> str:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MAKE")}
    environment.pop("ROS_DISTRO", None)
    return subprocess.run(
        ["make", "--no-print-directory", "-C", str(ROOT), *arguments],
        env={**environment, **variables},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_a_sourced_ros_and_another_python_do_not_leak_in(tmp_path):
    shown = tmp_path / "show.mk"
    shown.write_text(f"include {ROOT}/Makefile\n.PHONY: show\nshow:\n\t@env\n")
    leaks = [
        "AMENT_PREFIX_PATH",
        "CMAKE_PREFIX_PATH",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "RMW_IMPLEMENTATION",
        "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
    ]
    output = make("-f", str(shown), "show", KEPT="leak", **dict.fromkeys(leaks, "leak"))
    assert [line for line in output.splitlines() if line.endswith("=leak")] == ["KEPT=leak"]


def test_ros_distro_chooses_the_environment_only_on_the_command_line():
    assert "\n.venv/bin/python -m pytest" in make("-n", "test")
    assert ".venv-kilted/bin/python -m pytest" in make("-n", "test", "ROS_DISTRO=kilted")
    output = make("-n", "test", ROS_DISTRO="humble")
    assert "humble is not used" in output
    assert ".venv/bin/python -m pytest" in output


def test_make_alone_lists_what_it_can_do():
    assert {"demo", "test", "lint", "clean"} <= set(
        re.findall(r"^make (\w+)", make(), re.MULTILINE)
    )

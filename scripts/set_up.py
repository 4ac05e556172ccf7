"""Prepare the virtual environment of `make`: dependencies, ROS 2, our messages, this project.

Standard library only, and readable by Python 3.6, so that an unsupported Python gets a sentence and
no traceback. The Makefile has cleaned the environment of a sourced ROS before it starts this.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ((3, 10), (3, 11), (3, 12))
CMAKE = (3, 22)  # the least that CMakeLists.txt takes
STAMP = "setup.stamp"
LOG = "setup.log"
LOG_TAIL = 60  # lines shown when a step fails


class SetUpError(Exception):
    """Why the set-up can't go on, in a sentence that names the way out."""


def check_python(version: "tuple", system: str, machine: str, bits: int) -> None:
    """Raise SetUpError unless the ROS wheels exist for this Python and machine."""
    if (system, machine, bits) != ("Linux", "x86_64", 64):
        raise SetUpError(
            f"The ROS wheels are for 64-bit Python on Linux x86_64, and this is {bits}-bit Python "
            f"on {system} {machine}: install ROS 2 itself there and build with colcon."
        )
    if tuple(version[:2]) not in PYTHONS:
        names = [f"{major}.{minor}" for major, minor in PYTHONS]
        raise SetUpError(
            f"stsp needs Python {', '.join(names[:-1])} or {names[-1]}, and {sys.executable} is "
            f"{'.'.join(map(str, version[:3]))}: install one of them with its -venv and -dev "
            f"packages and name it, as in: make demo PYTHON=python{names[-1]}"
        )


def check_tools(minor: int, include: Path) -> None:
    """Raise SetUpError unless venv, a C and C++ compiler and Python's headers are there.

    `minor` is Python's minor version, `include` the folder of its headers.
    """
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise SetUpError(
                f"{sys.executable} can't make virtual environments, it has no module {module}: "
                f"sudo apt install python3.{minor}-venv"
            )
    for language, variable, commands in (
        ("C", "CC", ("cc", "gcc", "clang")),
        ("C++", "CXX", ("c++", "g++", "clang++")),
    ):
        wanted = os.environ.get(variable, "").split()[:1] or commands
        if not any(shutil.which(command) for command in wanted):
            raise SetUpError(
                f"The messages need a {language} compiler, and there is no {' or '.join(wanted)}: "
                "sudo apt install build-essential"
            )
    if not (include / "Python.h").exists():
        raise SetUpError(
            f"The messages need Python's headers, and {include} has no Python.h: "
            f"sudo apt install python3.{minor}-dev"
        )


def check_distro(distro: str) -> None:
    """Raise SetUpError unless there are pinned ROS wheels of `distro`."""
    known = sorted(file.stem[4:] for file in (ROOT / "requirements").glob("ros-*.txt"))
    if distro not in known:
        raise SetUpError(
            f"There are no pinned wheels of ROS_DISTRO={distro!r}: choose {' or '.join(known)}, "
            "or build with colcon where that ROS is installed."
        )


def fingerprint(distro: str, version: str, root: Path = ROOT) -> str:
    """Hash of all that the virtual environment is made from; `version` is Python's."""
    files = [
        root / "CMakeLists.txt",
        root / "package.xml",
        root / "setup.py",
        root / "requirements" / "python.txt",
        root / "requirements" / f"ros-{distro}.txt",
        root / "scripts" / "build_messages.py",
        root / "scripts" / "set_up.py",
        *sorted((root / "cmake").glob("*.cmake")),
        *sorted((root / "msg").glob("*.msg")),
    ]
    digest = hashlib.sha256(f"{version} {sys.base_prefix} {root}".encode())
    for file in files:
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def run_step(title: str, command: "list", log: Path) -> None:
    """Run `command`, its output to `log` and, on a terminal, its latest line to the screen.

    Raises SetUpError, after showing the end of the log, if it fails.
    """
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns
    start = time.monotonic()
    print(f"set-up: {title} ... ", end="", flush=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(map(str, command))}\n")
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=str(ROOT),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            file.flush()
            if terminal:
                latest = f"set-up: {title} ... {line.strip()}"[: width - 1]
                print(f"\r\033[K{latest}", end="", flush=True)
        status = process.wait()
    if terminal:
        print(f"\r\033[Kset-up: {title} ... ", end="")
    print("failed" if status else f"done in {time.monotonic() - start:.0f} s", flush=True)
    if status:
        tail = log.read_text(encoding="utf-8").splitlines()[-LOG_TAIL:]
        print("\n".join(tail), file=sys.stderr)
        raise SetUpError(
            f"{title} failed; the end of {log} is above. "
            "Once the cause is gone, the same command goes on from here; make clean starts afresh."
        )


def has_pip_and_python(python: Path) -> bool:
    """Whether `python`, of a virtual environment, starts, has pip and comes from our own Python."""
    code = "import pip, platform, sys; print(platform.python_version(), sys.base_prefix)"
    try:
        output = subprocess.check_output(
            [str(python), "-c", code], stderr=subprocess.DEVNULL, encoding="utf-8"
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return output.strip() == f"{platform.python_version()} {sys.base_prefix}"


def cmake_is_missing() -> bool:
    """Whether the machine has no CMake, or one that is too old for CMakeLists.txt."""
    try:
        output = subprocess.check_output(["cmake", "--version"], encoding="utf-8")
    except (OSError, subprocess.CalledProcessError):
        return True
    version = re.search(r"(\d+)\.(\d+)", output)
    return version is None or tuple(map(int, version.groups())) < CMAKE


def set_up(distro: str, venv: Path) -> None:
    """Bring `venv` to what the repository asks for; nothing is done if it is there already."""
    wanted = fingerprint(distro, platform.python_version())
    stamp = venv / STAMP
    log = venv / LOG
    python = venv / "bin" / "python"
    stamped = stamp.read_text(encoding="utf-8") if stamp.exists() else ""
    if stamped == wanted and python.exists():
        return
    if stamp.exists():
        stamp.unlink()
    check_tools(sys.version_info.minor, Path(sysconfig.get_path("include")))

    start = time.monotonic()
    if not has_pip_and_python(python):
        if venv.exists():
            shutil.rmtree(str(venv))
        venv.mkdir(parents=True)
        # sys.executable may be the Python of the folder just removed.
        base = getattr(sys, "_base_executable", sys.executable)
        run_step(f"making {venv.name}", [base, "-m", "venv", venv], log)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    pip += ["--progress-bar", "off"]
    run_step(
        "installing the Python packages (PyTorch with CUDA is some GB)",
        [*pip, "-r", "requirements/python.txt"],
        log,
    )
    run_step(f"installing ROS 2 {distro}", [*pip, "-r", f"requirements/ros-{distro}.txt"], log)
    if cmake_is_missing():
        run_step("installing CMake", [*pip, "-r", "requirements/cmake.txt"], log)
    run_step("building the messages", [python, "scripts/build_messages.py"], log)
    own = [*pip, "--no-deps", "--no-build-isolation", "--editable", "."]
    run_step("installing stsp-pose", own, log)
    imports = "import cv2, rclpy, rosbags, safetensors, torch; from stsp.msg import Skeleton3DArray"
    run_step("checking that all of it imports", [python, "-c", imports], log)
    stamp.write_text(wanted, encoding="utf-8")
    print(f"set-up: {venv.name} is ready, {time.monotonic() - start:.0f} s", flush=True)


def main() -> int:
    """Command line of the set-up; returns the exit status."""
    parser = argparse.ArgumentParser(description="Prepare the virtual environment of make.")
    parser.add_argument("--ros-distro", required=True, help="jazzy or kilted")
    parser.add_argument("--venv", required=True, type=Path, help="folder of the environment")
    arguments = parser.parse_args()
    # In an activated environment of ours, python3 has the ROS libraries of that one already.
    for name in ("LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"):
        os.environ.pop(name, None)
    # Two runs of make at once would write the same environment: the second waits for the first.
    folder = os.open(str(ROOT), os.O_RDONLY)
    try:
        bits = 64 if sys.maxsize > 2**32 else 32
        check_python(tuple(sys.version_info), platform.system(), platform.machine(), bits)
        check_distro(arguments.ros_distro)
        fcntl.flock(folder, fcntl.LOCK_EX)
        set_up(arguments.ros_distro, ROOT / arguments.venv)
    except SetUpError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        os.close(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

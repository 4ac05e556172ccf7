"""Build the messages of msg/ with CMake into the virtual environment whose Python runs this file.

scripts/set_up.py calls it; by hand it serves any virtual environment that holds the packages of
requirements/ros-*.txt. The ROS wheels set LD_LIBRARY_PATH when their Python starts, and CMake and
the generators it runs need it, so CMake is started from here and not from a shell.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def remove_installed(manifest: Path, prefix: Path) -> None:
    """Remove the files an earlier build installed, so that a message that is gone leaves nothing.

    Only files below `prefix` are touched: the manifest of a copied folder names the original's.
    """
    for line in manifest.read_text(encoding="utf-8").splitlines():
        file = Path(line)
        if prefix in file.parents:
            file.unlink(missing_ok=True)


def main() -> None:
    """Configure, build and install; CalledProcessError if CMake or the compiler fails."""
    prefix = Path(sys.prefix)
    if sys.prefix == sys.base_prefix:
        sys.exit("build_messages.py installs into a virtual environment: run it with its Python")
    build = prefix / "build-messages"
    if (build / "install_manifest.txt").exists():
        remove_installed(build / "install_manifest.txt", prefix)
    shutil.rmtree(build, ignore_errors=True)

    # The make that may have started this hands its flags and colours down; CMake's make is another.
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("MAKE")}
    environment = {
        **inherited,
        "AMENT_PREFIX_PATH": str(prefix),
        "PATH": f"{prefix / 'bin'}{os.pathsep}{os.environ['PATH']}",  # a CMake from PyPI is there
    }
    options = {
        "BUILD_TESTING": "OFF",
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": prefix,
        "CMAKE_PREFIX_PATH": prefix,
        "Python3_EXECUTABLE": sys.executable,
        "STSP_MESSAGES_ONLY": "ON",
    }
    definitions = [f"-D{name}={value}" for name, value in options.items()]
    for command in (
        ["cmake", "-G", "Unix Makefiles", "-S", str(ROOT), "-B", str(build), *definitions],
        ["cmake", "--build", str(build), "--parallel", str(os.cpu_count() or 1)],
        ["cmake", "--install", str(build)],
    ):
        subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"building the messages failed: {error}")

"""The command line starts fast, needs no ROS by itself, and says what is missing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from stsp_model import cli, sources


def pretend_installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let find_spec know of these modules, out of rclpy, stsp and stsp.msg."""
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        if name not in ("rclpy", "stsp.msg"):
            return real(name, package)
        if name in names:
            return ModuleSpec(name, None)
        if name == "stsp.msg":
            raise ModuleNotFoundError("No module named 'stsp'")
        return None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


def test_the_command_line_imports_neither_ros_nor_torch() -> None:
    """Nor does what works without a network, as the import of PyTorch takes seconds."""
    code = (
        "import sys, stsp_model.cli as cli; cli.parser(); "
        "import stsp_model.bench.run, stsp_model.bench.stream; "
        "sys.exit(' '.join({'rclpy', 'torch', 'stsp_ros'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("stsp ")


@pytest.mark.parametrize("arguments", [[], ["dance"], ["demo", "--video", "a", "--bag", "b"]])
def test_a_wrong_command_line_shows_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: stsp" in capsys.readouterr().err


def test_without_ros_the_demo_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_installed(monkeypatch)
    assert cli.main(["demo"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "needs ROS 2" in said
    assert "make demo" in said


def test_without_our_messages_the_demo_says_how_to_build_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_installed(monkeypatch, "rclpy")
    assert cli.main(["demo"]) == 1
    assert "build_messages.py" in capsys.readouterr().err
    assert (Path(cli.__file__).parent.parent / "scripts" / "build_messages.py").exists()


def test_without_the_sample_bag_the_demo_asks_for_a_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pretend_installed(monkeypatch, "rclpy", "stsp.msg")
    for module in (cli, sources):
        monkeypatch.setattr(module, "SAMPLE", tmp_path / "sample.mcap")
    assert cli.main(["demo"]) == 1
    assert "comes with a checkout of stsp; name a bag or video" in capsys.readouterr().err


def test_ctrl_c_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "demo", interrupted)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_output_that_nobody_reads_to_its_end_is_no_traceback() -> None:
    program = """
import argparse
from stsp_model import cli, sources

class Parser:
    def parse_args(self, arguments):
        return argparse.Namespace(run=lambda options: print("line\\n" * 100_000) or 0)

cli.parser = Parser
raise SystemExit(cli.main())
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1

"""The executable itself: it works end to end, and ends well on Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from bench import FRAME, Bench, an_image, background, wait_for
from stsp.msg import Skeleton3D

from stsp_model import STSPNet, save
from stsp_model.skeleton import JOINT_COUNT

ROOT = Path(__file__).parents[2]
EXECUTABLE = [sys.executable, str(ROOT / "bin" / "pose_node")]
SIGNALS = [signal.SIGINT, signal.SIGTERM]
LAUNCH_KILLS_AFTER = 10.0  # s after Ctrl-C: SIGTERM after 5, SIGKILL after 5 more

# The executable with a network that says so and hangs, at its first image or while it loads.
HANGING = """
import functools, sys, time
from bench import FakeEstimator
from stsp_ros import node, pose_node

def hang(_=None):
    print("hanging", flush=True)
    time.sleep(3600)

def factory(_settings):
    return hang() if {loading} else FakeEstimator(answer=hang)

node.PoseNode = functools.partial(node.PoseNode, factory)
sys.exit(pose_node.main())
"""

# The executable with imports that take forever, as PyTorch's seem to on a slow disk.
IMPORTING = """
import sys, time
from stsp_ros import pose_node

class Endless:
    def find_spec(self, name, *_):
        if name == "torch":
            print("importing", flush=True)
            time.sleep(3600)

sys.meta_path.insert(0, Endless())
sys.exit(pose_node.main())
"""


class Running:
    """A process whose output is collected while it runs."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            background(command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    def says(self, text: str) -> bool:
        return any(text in line for line in list(self.lines))

    def end(self, by: signal.Signals) -> tuple[int, float, str]:
        """Exit code, seconds it took, and all that was said, after this signal."""
        began = time.monotonic()
        self.process.send_signal(by)
        code = self.process.wait(timeout=30)
        took = time.monotonic() - began
        self._reader.join(timeout=30)
        return code, took, "".join(self.lines)


@contextmanager
def running(command: list[str]) -> Iterator[Running]:
    child = Running(command)
    try:
        yield child
    finally:
        if child.process.poll() is None:
            child.process.kill()
            child.process.wait()


@contextmanager
def camera(bench: Bench) -> Iterator[None]:
    """An image of 640x480 every 33 ms while the block lasts."""
    over = threading.Event()

    def film() -> None:
        stamp = 1000.0
        while not over.wait(0.033):
            stamp += 0.033
            bench.peer.image.publish(an_image(stamp, 480, 640, value=90))

    thread = threading.Thread(target=film)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def assert_ended_well(code: int, took: float, output: str) -> None:
    assert code == 0, output
    assert took < LAUNCH_KILLS_AFTER, output
    assert "Traceback" not in output


@pytest.mark.parametrize("by", SIGNALS)
@pytest.mark.parametrize("loading", [False, True])
def test_a_signal_ends_it_though_the_network_hangs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, by: signal.Signals, loading: bool
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'test' / 'ros'}:{ROOT}")
    with running([sys.executable, "-c", HANGING.format(loading=loading)]) as child, camera(bench):
        wait_for(lambda: child.says("hanging"), "the network to hang", timeout=90)
        assert_ended_well(*child.end(by))


@pytest.mark.parametrize("by", SIGNALS)
def test_the_real_network_works_and_ends_in_mid_inference(
    bench: Bench, tmp_path: Path, by: signal.Signals
) -> None:
    # Untrained weights see a person in any picture.
    weights = tmp_path / "untrained.safetensors"
    save(STSPNet("edge"), weights)
    arguments = ["--ros-args", "-p", f"model:={weights}", "-p", "min_confidence:=0.0"]
    with running(EXECUTABLE + arguments) as child, camera(bench):
        wait_for(
            lambda: [m for m in list(bench.peer.skeletons) if m.skeletons], "skeletons", timeout=90
        )
        assert_ended_well(*child.end(by))
    message = next(m for m in bench.peer.skeletons if m.skeletons)
    assert message.header.frame_id == FRAME
    assert message.processing_time > 0
    skeleton = message.skeletons[0]
    assert skeleton.tracking_state == Skeleton3D.TRACKING_OK
    assert len(skeleton.joints) == JOINT_COUNT
    assert np.isfinite([j.offset.x for j in skeleton.joints]).all()
    assert skeleton.id == "p1"


@pytest.mark.parametrize("by", SIGNALS)
def test_a_signal_ends_an_idle_node(bench: Bench, by: signal.Signals) -> None:
    with running([*EXECUTABLE, "--ros-args", "-p", "autostart:=false"]) as child:
        bench.peer.status(lambda values, _: values.get("state") == "unconfigured")
        assert_ended_well(*child.end(by))


@pytest.mark.parametrize("by", SIGNALS)
def test_a_signal_ends_it_at_once_while_it_imports(by: signal.Signals) -> None:
    with running([sys.executable, "-c", IMPORTING]) as child:
        wait_for(lambda: child.says("importing"), "the import")
        assert_ended_well(*child.end(by))


@pytest.mark.usefixtures("domain")
@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        (
            ["-p", "image_transport:=theora"],
            "image_transport is 'theora'; expected one of raw, compressed",
        ),
        (["-p", "use_sim_time:=1"], "expecting type 'BOOL': use_sim_time"),
        (["-r", "__ns:=/robot/"], "namespace"),
    ],
)
def test_a_bad_argument_is_a_sentence_and_exit_code_1(argument: list[str], reason: str) -> None:
    child = subprocess.run(
        [*EXECUTABLE, "--ros-args", *argument],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert child.returncode == 1
    assert reason in child.stderr
    assert "Traceback" not in child.stderr


def test_a_parameter_file_that_is_not_there_is_no_traceback() -> None:
    node = subprocess.run(
        [sys.executable, "-m", "stsp_ros.pose_node", "--ros-args", "--params-file", "nope.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert node.returncode == 1
    assert "pose_node: " in node.stderr
    assert "nope.yaml" in node.stderr
    assert "Traceback" not in node.stderr

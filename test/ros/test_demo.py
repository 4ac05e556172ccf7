"""The demo as a user runs it: three processes over DDS, a bag, a picture, and nobody left."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bench import background, wait_for

from stsp_model.bag import SKELETONS_TYPE, BagReader, BagWriter, stamp_nanoseconds
from stsp_model.drawing import TITLE_HEIGHT
from stsp_model.sources import open_source
from stsp_ros.demo import DemoError, run, shared_height, true_people
from stsp_ros.recorder import TOPICS

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "assets" / "sample.mcap"
FRAMES = 105  # of the sample


def start_demo(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        background([sys.executable, "-m", "stsp_model.cli", "demo", *arguments]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def children(pid: int) -> set[int]:
    """Processes whose parent is `pid`."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The second field is the name in brackets, which may hold anything.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
        if parent == pid:
            found.add(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def figure(said: str, name: str) -> int:
    found = re.search(rf"^{name} +(\d+)", said, re.MULTILINE)
    assert found, said
    return int(found[1])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One run on the sample bag: its output folder and what it said."""
    out = tmp_path_factory.mktemp("demo") / "out"
    process = start_demo("--out", str(out))
    said, err = process.communicate(timeout=300)
    assert process.returncode == 0, said + err
    return out, said


def test_a_bag_of_skeletons_and_markers_is_there(finished: tuple[Path, str]) -> None:
    with BagReader(finished[0] / "skeletons") as reader:
        assert {topic.type for topic in reader.topics.values()} == {k for _, k in TOPICS.values()}
        assert reader.topics["/stsp/skeletons"].type == SKELETONS_TYPE
        assert reader.topics["/stsp/skeletons"].count >= 12  # however busy the machine
        assert reader.topics["/stsp/markers"].count >= 12  # however busy the machine
        messages = [reader.decode(r) for r in reader.records(["/stsp/skeletons"])]
    assert {m.header.frame_id for m in messages} == {"camera_optical_frame"}


def test_stamps_are_the_samples_moved_to_the_present(finished: tuple[Path, str]) -> None:
    played = json.loads((finished[0] / "log" / "played.json").read_text())
    stamps = {frame.stamp for frame in open_source(SAMPLE).frames()}
    with BagReader(finished[0] / "skeletons") as reader:
        records = [(r.log_time, reader.decode(r)) for r in reader.records(["/stsp/skeletons"])]
    assert {stamp_nanoseconds(m) - played["stamp_offset"] for _, m in records} <= stamps
    assert all(0 < time - stamp_nanoseconds(m) < 10**10 for time, m in records)


def test_every_frame_is_accounted_for(finished: tuple[Path, str]) -> None:
    said = finished[1]
    assert figure(said, "frames published") == FRAMES
    fates = ("processed", "dropped", "lost")
    assert sum(figure(said, f"frames {fate}") for fate in fates) == FRAMES
    for latency in (
        "arrival to publication",
        "estimation",
        "overhead",
        "stamp to publication",
    ):
        assert re.search(rf"^{latency} +p50 [\d.]+ ms, p99 [\d.]+ ms$", said, re.M)


def arrays(skeleton: Any) -> tuple[np.ndarray, np.ndarray]:
    """Joints of a message: (17, 3) m and (17, 2) px."""
    solid = [(j.offset.x, j.offset.y, j.offset.z) for j in skeleton.joints]
    return np.array(solid), np.array([(j.u, j.v) for j in skeleton.joints_2d])


def test_its_score_is_that_of_the_recorded_skeletons(finished: tuple[Path, str]) -> None:
    """The sample holds its truth, one child: the node is told her height."""
    folder, said = finished
    offset = json.loads((folder / "log" / "played.json").read_text())["stamp_offset"]
    with BagReader(SAMPLE) as reader:
        records = map(reader.decode, reader.records(["/ground_truth/skeletons"]))
        truth = {stamp_nanoseconds(m): m.skeletons[0] for m in records}
    with BagReader(folder / "skeletons") as reader:
        found = [reader.decode(r) for r in reader.records(["/stsp/skeletons"])]
    errors = []
    for message in found:
        child = truth[stamp_nanoseconds(message) - offset]
        solid, flat = arrays(child)
        for skeleton in message.skeletons:  # one at most
            joints, joints_2d = arrays(skeleton)
            if skeleton.tracking_state != 1:
                continue
            assert skeleton.height == pytest.approx(child.height, abs=1e-5)
            if np.linalg.norm(joints_2d - flat, axis=1).mean() <= 0.5 * np.ptp(flat, axis=0).max():
                errors.append(1000 * np.linalg.norm(joints - solid, axis=1))
    share = f"{len(errors)} of {FRAMES} frames, {100 * len(errors) / FRAMES:.1f} %"
    assert f"\ntruth with a skeleton  {share}\n" in said
    if errors:
        mean, right = np.mean(errors), 100 * np.mean(np.array(errors) <= 150)
        assert (
            f"\nMPJPE                  {mean:.1f} mm over {len(errors)} frames, height given\n"
            in said
        )
        assert f"\nPCK@150 mm             {right * len(errors) / FRAMES:.1f} %  " in said


def test_what_holds_no_usable_truth_is_not_scored(tmp_path: Path, capsys: Any) -> None:
    with BagWriter(tmp_path / "empty") as bag:
        bag.add_topic("/ground_truth/skeletons", SKELETONS_TYPE)
    assert tuple(true_people(tmp_path / "empty")) == ()
    assert true_people(tmp_path) == ()
    assert shared_height(()) == []
    assert capsys.readouterr().out == ""
    with BagWriter(tmp_path / "two") as bag:
        for topic in ("/ground_truth/skeletons", "/b/ground_truth/skeletons"):
            bag.add_topic(topic, SKELETONS_TYPE)
    assert true_people(tmp_path / "two") == ()
    assert re.match(r"not scored: bag .*two has 2 topics", capsys.readouterr().out)


def test_the_height_is_given_where_all_share_one_that_the_node_takes() -> None:
    (child,) = true_people(SAMPLE)
    (parameter,) = shared_height([child, child])
    assert parameter == f"subject_height:={child.height:.6f}"
    assert shared_height([child, replace(child, height=1.4)]) == []
    assert shared_height([replace(child, height=0.4)]) == []


def test_it_says_plainly_whether_the_weights_are_trained(finished: tuple[Path, str]) -> None:
    untrained = "not trained" in (finished[0] / "log" / "node.log").read_text()
    assert ("These weights are untrained: the skeletons are meaningless." in finished[1]) == (
        untrained
    )


def test_the_contact_sheet_shows_twelve_frames_with_skeletons(finished: tuple[Path, str]) -> None:
    sheet = cv2.imread(str(finished[0] / "contact_sheet.png"))
    assert sheet is not None
    assert sheet.shape == (TITLE_HEIGHT + 3 * (360 + 8) + 8, 4 * (480 + 8) + 8, 3)
    first = next(open_source(SAMPLE).frames()).image
    small = cv2.resize(first, (480, 360), interpolation=cv2.INTER_AREA)
    tile = sheet[TITLE_HEIGHT + 8 :, 8:][:360, :480]
    changed = np.abs(tile.astype(int) - small).max(axis=2) > 40
    assert 0.001 < changed.mean() < 0.5  # lines over the frame, not another picture


def test_a_second_run_replaces_the_first_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "skeletons").mkdir()
    (tmp_path / "skeletons" / "thesis.txt").write_text("mine")
    with pytest.raises(DemoError, match=r"thesis\.txt, which the demo did not write"):
        run(SAMPLE, tmp_path)
    assert (tmp_path / "skeletons" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_demo(tmp_path: Path, number: signal.Signals) -> None:
    process = start_demo("--out", str(tmp_path))
    # Node and recorder are being started or at work.
    started = wait_for(lambda: c if len(c := children(process.pid)) >= 2 else None, "the processes")
    time.sleep(1.0)
    started |= children(process.pid)
    process.send_signal(number)
    said, err = process.communicate(timeout=30)
    assert process.returncode == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    assert "Traceback" not in said + err
    wait_for(lambda: not any(map(alive, started)), "the end of all processes")


def test_a_damaged_video_is_a_sentence(tmp_path: Path) -> None:
    video = tmp_path / "film.mp4"
    video.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    process = start_demo("--video", str(video), "--out", str(tmp_path / "out"))
    said, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(r"^stsp demo: .*film\.mp4 (cannot be opened|holds no frame)", err, re.M)
    assert "Traceback" not in said + err


def test_a_node_that_cannot_start_is_reported_with_its_reason(tmp_path: Path) -> None:
    process = start_demo("--model", "nonsense", "--out", str(tmp_path))
    said, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the node does not start" in err
    assert "nonsense" in err
    assert "Traceback" not in said + err


def test_without_a_single_skeleton_it_fails_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for index in range(3):  # too small to be looked at
        cv2.imwrite(str(tmp_path / "frames" / f"{index}.png"), np.zeros((8, 8, 3), np.uint8))
    process = start_demo("--video", str(tmp_path / "frames"), "--out", str(tmp_path / "out"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.search(r"^stsp demo: no skeletons came: of 3 frames .*\(bad image \d\)", err, re.M)


def test_an_output_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DemoError, match="cannot write to"):
        run(SAMPLE, tmp_path / "file" / "out")

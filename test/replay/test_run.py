"""Bags are replayed as the node would, twice alike, whatever they look like."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bags
import numpy as np
import pytest
from bags import FIRST, INFO, PERIOD, film, info, messages, png, raw, records, stamps, write
from mcap_ros2.reader import read_ros2_messages
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from stsp_model import Camera, PoseEstimator, cli, load_model
from stsp_model.angles import ANGLE_NAMES, joint_angles
from stsp_model.bag import IMAGE_TYPE, SKELETONS_TYPE, BagError, BagReader, BagWriter, typestore
from stsp_model.lock import locked
from stsp_model.replay import run as run_module
from stsp_model.replay.images import ANGLES_TOPIC, MARKERS_TOPIC, SKELETONS_TOPIC
from stsp_model.replay.options import Options, ReplayError
from stsp_model.replay.record import OUTCOMES, read_record
from stsp_model.replay.run import METRICS, RECORD, REPORT, SKELETONS, replay
from stsp_model.skeleton import INDEX, JOINT_COUNT, JOINTS

pytestmark = pytest.mark.filterwarnings("ignore:no trained weights")


def skeletons(out: Path) -> list[bytes]:
    return [record.data for record in records(out / SKELETONS, SKELETONS_TOPIC)]


def joints(message: Any) -> np.ndarray:
    return np.array([[(j.offset.x, j.offset.y, j.offset.z) for j in s.joints] for s in message])


@pytest.fixture(scope="module", autouse=True)
def opened_once() -> Iterator[None]:
    """Each network is opened once: that takes longer than to replay a few images."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("load", "open_network"):
            patch.setattr(run_module, name, functools.cache(getattr(run_module, name)))
        yield


# --- what comes out ------------------------------------------------------------------------------


def test_the_skeletons_are_those_of_the_estimator(tmp_path: Path) -> None:
    metrics = replay(film(tmp_path / "bag"), tmp_path / "out", Options(max_people=2))
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(
        [SKELETONS, RECORD, REPORT, METRICS]
    )
    estimator = PoseEstimator(load_model("edge"), max_people=2)
    camera = read_record(tmp_path / "out" / RECORD).K
    assert camera is not None
    assert camera[0].tolist() == [300, 0, 159.5]
    seen = 0
    found = messages(tmp_path / "out" / SKELETONS, SKELETONS_TOPIC)
    for i, (message, stamp) in enumerate(zip(found, stamps(4), strict=True)):
        seconds, nanoseconds = divmod(stamp, 10**9)
        poses = estimator.step(
            bags.picture(i), seconds + 1e-9 * nanoseconds, Camera(camera, 320, 240)
        )
        assert message.header.frame_id == bags.FRAME_ID
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == (seconds, nanoseconds)
        assert math.isnan(message.processing_time)
        assert [s.id for s in message.skeletons] == [pose.id for pose in poses]
        for ours, pose in zip(joints(message.skeletons), poses, strict=True):
            assert np.array_equal(ours, pose.joints, equal_nan=True)
            seen += 1
    assert seen > 0
    assert metrics["outcomes"]["processed"] == metrics["images"] == 4
    assert metrics["complete"] is True
    assert metrics["seconds"] == pytest.approx(0.1, abs=1e-6)


def test_twice_the_same_gives_the_same_bytes(tmp_path: Path) -> None:
    bag = film(tmp_path / "bag")
    for name in ("a", "b"):
        replay(bag, tmp_path / name, Options())
    for topic in (SKELETONS_TOPIC, MARKERS_TOPIC):
        a, b = (records(tmp_path / name / SKELETONS, topic) for name in ("a", "b"))
        assert len(a) == 4
        assert a == b
    a, b = (read_record(tmp_path / name / RECORD) for name in ("a", "b"))
    assert a.weights_sha256 == b.weights_sha256


def test_storage_and_compression_make_no_difference(tmp_path: Path) -> None:
    def compressed(mode: CompressionMode, storage: StoragePlugin) -> Path:
        path = tmp_path / f"{mode.name}_{storage.name}"
        writer = Writer(path, version=8, storage_plugin=storage)
        writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer as bag:
            connections: dict[str, Any] = {}
            for i, stamp in enumerate(stamps(4)):
                for topic, kind, log_time, message in (info(stamp), png(stamp, i)):
                    if topic not in connections:
                        connections[topic] = bag.add_connection(topic, kind, typestore=typestore())
                    data = typestore().serialize_cdr(message, kind)
                    bag.write(connections[topic], log_time, data)
        return path

    every = [
        film(tmp_path / "raw_mcap"),
        film(tmp_path / "raw_sqlite", storage="sqlite3"),
        film(tmp_path / "png", image=png),
        compressed(CompressionMode.FILE, StoragePlugin.SQLITE3),
        compressed(CompressionMode.MESSAGE, StoragePlugin.SQLITE3),
        compressed(CompressionMode.STORAGE, StoragePlugin.MCAP),
        compressed(CompressionMode.FILE, StoragePlugin.MCAP),
    ]
    found = []
    for bag in every:
        replay(bag, tmp_path / "out" / bag.name, Options())
        found.append(skeletons(tmp_path / "out" / bag.name))
    assert len(found[0]) == 4
    assert all(one == found[0] for one in found)


def test_the_bag_of_skeletons_is_one_that_others_read(tmp_path: Path) -> None:
    replay(film(tmp_path / "bag"), tmp_path / "out", Options())
    metadata = (tmp_path / "out" / SKELETONS / "metadata.yaml").read_text()
    assert "version: 8" in metadata
    (file,) = (tmp_path / "out" / SKELETONS).glob("*.mcap")
    found: dict[str, list[Any]] = {}
    for message in read_ros2_messages(str(file)):  # by the definitions in the file
        found.setdefault(message.channel.topic, []).append(message)
    assert sorted(found) == [ANGLES_TOPIC, MARKERS_TOPIC, SKELETONS_TOPIC]
    for angles, skeletons in zip(found[ANGLES_TOPIC], found[SKELETONS_TOPIC], strict=True):
        poses = skeletons.ros_msg.skeletons
        assert angles.ros_msg.name == [f"{s.id}/{name}" for s in poses for name in ANGLE_NAMES]
        expected = joint_angles(joints(poses).reshape(-1, JOINT_COUNT, 3)).ravel()
        np.testing.assert_allclose(angles.ros_msg.position, expected, atol=1e-6)
        assert angles.ros_msg.header.frame_id == bags.FRAME_ID
    assert [m.log_time_ns for m in found[SKELETONS_TOPIC]] == [s + bags.DELAY for s in stamps(4)]
    assert found[SKELETONS_TOPIC][0].ros_msg.joint_names == list(JOINTS)
    drawn = [marker for m in found[MARKERS_TOPIC] for marker in m.ros_msg.markers]
    assert {marker.ns for marker in drawn} == {
        s.id for m in found[SKELETONS_TOPIC] for s in m.ros_msg.skeletons
    }
    assert drawn


def test_images_are_copied_if_asked_for(tmp_path: Path) -> None:
    bag = film(tmp_path / "bag", image=png)
    replay(bag, tmp_path / "out", Options(copy_images=True))
    topics = [f"{bags.IMAGE}/compressed", INFO]
    assert records(tmp_path / "out" / SKELETONS, *topics) == records(bag, *topics)
    page = (tmp_path / "out" / REPORT).read_text()
    assert "/9j/" not in page  # nothing that looks like a JPEG


def test_the_report_has_pictures_if_asked_for(tmp_path: Path) -> None:
    replay(film(tmp_path / "bag"), tmp_path / "out", Options(images=True))
    assert (tmp_path / "out" / REPORT).read_text().count("/9j/") >= 4


# --- the order of images, and live ---------------------------------------------------------------


def test_images_are_taken_in_the_order_of_their_stamps(tmp_path: Path) -> None:
    a, b, c, d = stamps(4)
    inside = [info(a), raw(a, 0), raw(c, 2), raw(b, 1), raw(d, 3), raw(d, 2)]
    times = [a + i * PERIOD for i in range(6)]
    mixed = [(t, k, at, m) for (t, k, _, m), at in zip(inside, times, strict=True)]
    metrics = replay(write(tmp_path / "mixed", mixed), tmp_path / "out", Options())
    replay(film(tmp_path / "sorted"), tmp_path / "sorted_out", Options())
    # Each with the log time of its image, so they stand in the bag as the images did.
    assert set(skeletons(tmp_path / "out")) == set(skeletons(tmp_path / "sorted_out"))
    record = read_record(tmp_path / "out" / RECORD)
    assert [OUTCOMES[i] for i in record.outcome] == ["processed"] * 4 + ["late"]
    assert record.stamps.tolist() == [a, b, c, d, d]
    assert np.isfinite(record.latency).tolist() == [True] * 4 + [False]
    (note,) = [note for note in metrics["notes"] if "late" in note]
    assert "1 of 5 images late, first at 1700000000.100 s: stamp is" in note


def test_a_clock_that_jumps_back_is_another_part_of_the_record(tmp_path: Path) -> None:
    stamped = [s + 10**9 for s in stamps(2)] + stamps(2)
    parts = [
        (topic, kind, FIRST + i * PERIOD, message)
        for i, stamp in enumerate(stamped)
        for topic, kind, _, message in (info(stamp), raw(stamp, i % 2))
    ]
    replay(write(tmp_path / "bag", parts), tmp_path / "out", Options())
    record = read_record(tmp_path / "out" / RECORD)
    a, b = stamps(2)
    assert record.stamps.tolist() == [a, b, a + 10**9, b + 10**9]
    assert (record.outcome == 0).all()
    later, earlier = record.tracks
    assert later.frames.tolist() == [2, 3]
    assert earlier.frames.tolist() == [0, 1]


def test_live_drops_what_the_node_would(tmp_path: Path) -> None:
    bag = film(tmp_path / "bag", frames=6)
    metrics = replay(bag, tmp_path / "out", Options(live=80.0))
    record = read_record(tmp_path / "out" / RECORD)
    names = [OUTCOMES[i] for i in record.outcome]
    # Done at 80 ms, 160 ms: of 33 and 67 the later, of 100 and 133 the later, then what is left.
    assert names == ["processed", "superseded", "processed", "superseded", "processed", "processed"]
    assert metrics["outcomes"]["superseded"] == 2
    found = messages(tmp_path / "out" / SKELETONS, SKELETONS_TOPIC)
    assert [m.header.stamp.nanosec for m in found] == [i * PERIOD for i in (0, 2, 4, 5)]
    replay(bag, tmp_path / "again", Options(live=80.0))
    assert skeletons(tmp_path / "again") == skeletons(tmp_path / "out")


def test_live_measured_takes_the_first_and_the_last(tmp_path: Path) -> None:
    replay(film(tmp_path / "bag", frames=6), tmp_path / "out", Options(live="measured"))
    names = [OUTCOMES[i] for i in read_record(tmp_path / "out" / RECORD).outcome]
    assert set(names) <= {"processed", "superseded"}
    assert names[0] == names[-1] == "processed"


# --- cameras -------------------------------------------------------------------------------------


def note(metrics: dict[str, Any], about: str) -> str:
    (found,) = [text for text in metrics["notes"] if about in text]
    return str(found)


def test_camera_info_that_comes_late_counts_from_the_start(tmp_path: Path) -> None:
    late = [raw(s, i) for i, s in enumerate(stamps(3))] + [info(FIRST + 2 * 10**9)]
    metrics = replay(write(tmp_path / "bag", late), tmp_path / "out", Options())
    assert "the first camera info comes 2.0 s after the first image" in note(metrics, "camera info")
    record = read_record(tmp_path / "out" / RECORD)
    assert record.K is not None
    assert any(np.isfinite(track.root[0]).all() for track in record.tracks)


def test_without_camera_info_distances_are_unknown(tmp_path: Path) -> None:
    images = [raw(s, i) for i, s in enumerate(stamps(2))]
    metrics = replay(write(tmp_path / "bag", images), tmp_path / "out", Options())
    assert "there is no camera info: 60 degrees" in note(metrics, "camera info")
    assert "there is no camera info: 60 degrees" in (tmp_path / "out" / REPORT).read_text()
    record = read_record(tmp_path / "out" / RECORD)
    assert record.K is None
    assert record.tracks
    assert all(np.isnan(track.root).all() for track in record.tracks)


def test_camera_info_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    images = [info(FIRST, focal=-1.0), raw(FIRST)]
    metrics = replay(write(tmp_path / "bag", images), tmp_path / "out", Options())
    assert "focal" in note(metrics, "camera_info")
    assert read_record(tmp_path / "out" / RECORD).K is None


def test_camera_info_of_a_camera_that_is_not_calibrated_is_named(tmp_path: Path) -> None:
    topic, kind, log_time, unset = info(FIRST)
    unset.k, unset.p = np.zeros(9), np.zeros(12)
    images = [raw(stamp, i) for i, stamp in enumerate(stamps(2))]
    late = (topic, kind, log_time + 2 * 10**9, unset)
    metrics = replay(write(tmp_path / "bag", [*images, late]), tmp_path / "out", Options())
    assert "the first camera info comes 2.0 s after" in note(metrics, "first camera info")
    assert "(all zeros): 60 degrees field of view are assumed" in note(metrics, "uncalibrated")
    assert read_record(tmp_path / "out" / RECORD).K is None


def test_images_that_change_their_size_are_named(tmp_path: Path) -> None:
    first, second, third = stamps(3)
    topic, kind, log_time, small = raw(second, 1)
    small.height, small.data = 120, small.data[: small.data.size // 2]
    images = [raw(first), (topic, kind, log_time, small), raw(third, 2)]
    bag = write(tmp_path / "bag", [info(FIRST), *images])
    metrics = replay(bag, tmp_path / "out", Options())
    assert metrics["outcomes"]["processed"] == 3
    assert metrics["image_size"] == [320, 240]
    assert "320x240 px to 320x120 px at 1700000000.033 s" in note(metrics, "size")
    same = replay(film(tmp_path / "same", frames=2), tmp_path / "same_out", Options())
    assert same["notes"] == []


def test_of_two_cameras_one_must_be_chosen(tmp_path: Path) -> None:
    two = [
        message
        for stamp in stamps(2)
        for message in (
            info(stamp, "/a/camera_info", 250.0),
            info(stamp, "/b/camera_info", 350.0),
            raw(stamp, 0, "/a/image"),
            raw(stamp, 1, "/b/image"),
        )
    ]
    bag = write(tmp_path / "bag", two)
    with pytest.raises(BagError, match=r"several topics \(/a/image, /b/image\); say which"):
        replay(bag, tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()
    metrics = replay(bag, tmp_path / "out", Options(image_topic="/b/image"))
    record = read_record(tmp_path / "out" / RECORD)
    assert metrics["images"] == 2
    assert record.image_topic == "/b/image"
    assert record.K is not None
    assert record.K[0, 0] == 350
    swapped = Options(image_topic="/b/image", camera_info_topic="/a/camera_info")
    replay(bag, tmp_path / "swapped", swapped)
    K = read_record(tmp_path / "swapped" / RECORD).K
    assert K is not None
    assert K[0, 0] == 250


def test_camera_info_of_others_is_not_taken(tmp_path: Path) -> None:
    foreign = [info(FIRST, "/a/camera_info"), info(FIRST, "/b/camera_info"), raw(FIRST)]
    metrics = replay(write(tmp_path / "bag", foreign), tmp_path / "out", Options())
    assert "say with --camera-info-topic" in note(metrics, "on 2 topics, none of them beside")


def test_the_only_camera_info_is_taken_with_a_word_where_it_may_be_anothers(tmp_path: Path) -> None:
    colour = raw(FIRST, topic="/color/image_raw")
    bag = write(tmp_path / "bag", [colour, info(FIRST, "/depth/camera_info")])
    metrics = replay(bag, tmp_path / "out", Options())
    told = "there is no camera info beside /color/image_raw: /depth/camera_info is taken"
    assert told in note(metrics, "camera info")
    named = Options(camera_info_topic="/depth/camera_info")
    assert replay(bag, tmp_path / "named", named)["notes"] == []


# --- bags that cannot be used, or in part --------------------------------------------------------


def test_bags_that_cannot_be_replayed_are_refused(tmp_path: Path) -> None:
    infos = write(tmp_path / "infos", [info(FIRST)])
    with pytest.raises(BagError, match="holds no images"):
        replay(infos, tmp_path / "out", Options())
    (whole,) = film(tmp_path / "whole").glob("*.mcap")
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(
        BagError, match=r"cut\.mcap cannot be read: .*; if it is cut off.*mcap recover"
    ):
        replay(cut, tmp_path / "out", Options())
    with pytest.raises(BagError, match="does not exist"):
        replay(tmp_path / "none.mcap", tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()


def test_after_damage_in_the_middle_there_is_what_came_before(tmp_path: Path) -> None:
    bag = film(tmp_path / "bag", frames=3)
    with BagWriter(tmp_path / "damaged") as damaged:
        damaged.add_topic(bags.IMAGE, IMAGE_TYPE)
        first, *_, last = records(bag, bags.IMAGE)
        damaged.write(bags.IMAGE, first.log_time, first.data)
        damaged.write(bags.IMAGE, last.log_time, last.data[:40])
    with pytest.raises(BagError, match="does not decode as sensor_msgs/msg/Image"):
        replay(tmp_path / "damaged", tmp_path / "out", Options())
    metrics = json.loads((tmp_path / "out" / METRICS).read_text())
    assert metrics["complete"] is False
    assert "stopped at damage" in note(metrics, "after 1 of 2 images")
    assert len(skeletons(tmp_path / "out")) == 1


def test_a_bad_image_is_counted_and_named(tmp_path: Path) -> None:
    a, b = stamps(2)
    topic, kind, log_time, broken = png(b)
    broken.data = broken.data[:100]
    two = [png(a), (topic, kind, log_time, broken)]
    metrics = replay(write(tmp_path / "bag", two), tmp_path / "out", Options())
    assert metrics["outcomes"] == {
        "processed": 1,
        "superseded": 0,
        "late": 0,
        "bad image": 1,
        "failed": 0,
    }
    assert "1 of 2 images bad image, first at 1700000000.033 s: PNG image" in note(
        metrics, "bad image"
    )
    assert len(skeletons(tmp_path / "out")) == 1


def test_a_stamp_of_zero_is_replaced_by_the_time_of_recording(tmp_path: Path) -> None:
    unset = [(t, k, s + bags.DELAY, m) for s in stamps(2) for t, k, _, m in (raw(0),)]
    bag = write(tmp_path / "bag", [*unset, raw(stamps(3)[2])])
    metrics = replay(bag, tmp_path / "out", Options())
    assert "2 of 3 images have a zero stamp; the time of recording" in note(metrics, "zero")
    record = read_record(tmp_path / "out" / RECORD)
    assert record.stamps.tolist() == [s + bags.DELAY for s in stamps(2)] + [stamps(3)[2]]
    found = messages(tmp_path / "out" / SKELETONS, SKELETONS_TOPIC)
    assert found[1].header.stamp.nanosec == PERIOD + bags.DELAY


def test_a_bag_that_holds_less_than_its_metadata_says_is_complete(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", [info(FIRST), raw(FIRST), raw(FIRST + PERIOD)], "sqlite3")
    (file,) = bag.glob("*.db3")
    with contextlib.closing(sqlite3.connect(file)) as rows:
        rows.execute("DELETE FROM messages WHERE topic_id = 1 OR id = 3")  # camera_info, the last
        rows.commit()
    metrics = replay(bag, tmp_path / "out", Options())
    assert (metrics["complete"], metrics["images"]) == (True, 1)
    assert "the bag says that it holds 2 images, and holds 1" in metrics["notes"]


# --- the folder of results -----------------------------------------------------------------------


def stopping_after(images: int) -> Callable[[], bool]:
    asked = iter(range(images))
    return lambda: next(asked, None) is None


def test_what_was_stopped_is_whole_and_run_again(tmp_path: Path) -> None:
    bag, out = film(tmp_path / "bag"), tmp_path / "out"
    metrics = replay(bag, out, Options(), stopped=stopping_after(2))
    assert metrics["complete"] is False
    assert "stopped on demand, after 2 of 4 images" in note(metrics, "stopped")
    part = skeletons(out)
    assert len(part) == len(read_record(out / RECORD).stamps) == 2
    assert (out / REPORT).exists()
    assert replay(bag, out, Options())["complete"] is True
    assert skeletons(out)[:2] == part


def test_ctrl_c_leaves_a_whole_part(tmp_path: Path) -> None:
    bag, out = film(tmp_path / "bag", frames=60), tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "stsp_model.cli", "replay", str(bag), "-o", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        while not list(out.glob("skeletons/*.mcap")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, told
    assert "stopped" in told
    assert "Traceback" not in told
    metrics = json.loads((out / METRICS).read_text())
    assert metrics["complete"] is False
    assert len(skeletons(out)) == metrics["images"] < 60
    shutil.rmtree(out)


def test_what_is_complete_is_not_run_again(tmp_path: Path) -> None:
    bag, out = film(tmp_path / "bag", frames=2), tmp_path / "out"
    metrics = replay(bag, out, Options(subject_height=1.2))
    written = (out / METRICS).stat().st_mtime_ns
    assert replay(bag, out, Options(subject_height=1.2)) == metrics
    assert (out / METRICS).stat().st_mtime_ns == written
    with pytest.raises(ReplayError, match="complete replay that differs in subject_height, live;"):
        replay(bag, out, Options(live=5.0))
    longer = film(tmp_path / "other" / "bag", frames=3)
    with pytest.raises(ReplayError, match="differs in bag_bytes;"):
        replay(longer, out, Options(subject_height=1.2))


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    bag = film(tmp_path / "bag", frames=2)
    (tmp_path / "out" / "skeletons").mkdir(parents=True)
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(ReplayError, match=r"holds other files \(thesis\.tex\)"):
        replay(bag, tmp_path / "out", Options())
    assert (tmp_path / "out" / "thesis.tex").exists()
    ours = tmp_path / REPORT
    ours.write_text("of another replay")
    with pytest.raises(ReplayError, match=r"report\.html is a file; choose a folder"):
        replay(bag, ours, Options())
    assert ours.read_text() == "of another replay"


def test_a_folder_that_another_process_writes_into_is_left_alone(tmp_path: Path) -> None:
    bag, out = film(tmp_path / "bag", frames=2), tmp_path / "out"
    (out / SKELETONS).mkdir(parents=True)
    with locked(out), pytest.raises(OSError, match=r"another process writes into .*/out; wait"):
        replay(bag, out, Options())
    assert (out / SKELETONS).exists()
    assert replay(bag, out, Options())["complete"] is True


def test_files_with_names_like_ours_are_left_alone(tmp_path: Path) -> None:
    bag, out = film(tmp_path / "bag", frames=2), tmp_path / "out"
    for name in ("skeletons_anna", "report.html.notes.txt", "record.npz.bak", ".report.html.old"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("by hand")
        with pytest.raises(ReplayError, match="holds other files"):
            replay(bag, out, Options())
        assert (out / name).read_text() == "by hand"
        (out / name).unlink()
    (out / f".{RECORD}.4711").touch()  # what a killed replay leaves
    assert replay(bag, out, Options())["complete"] is True
    assert not (out / f".{RECORD}.4711").exists()


def test_results_do_not_go_where_a_replay_reads(tmp_path: Path) -> None:
    bag = film(tmp_path / "run" / "skeletons", frames=2)
    with pytest.raises(ReplayError, match=r"skeletons lies in .*run, where the results go"):
        replay(bag, tmp_path / "run", Options())
    with pytest.raises(ReplayError, match="where the results go"):
        replay(bag, bag, Options())
    other = film(tmp_path / "bag", frames=2)
    with pytest.raises(ReplayError, match="where the results go"):
        replay(other, tmp_path / "run", Options(ground_truth=str(bag)))
    assert len(records(bag, INFO)) == len(records(other, INFO)) == 2


def test_a_disk_that_is_full_is_told(tmp_path: Path) -> None:
    bag = film(tmp_path / "bag")
    full = pytest.raises(OSError, match=r"File too large: '.*/out/skeletons'")
    with full, bags.full_disk(4096):
        replay(bag, tmp_path / "out", Options())
    assert not (tmp_path / "out" / METRICS).exists()  # it is not complete
    assert replay(bag, tmp_path / "out", Options())["complete"] is True


# --- options -------------------------------------------------------------------------------------


def test_the_height_and_that_images_are_rectified_reach_the_estimator(tmp_path: Path) -> None:
    topic, kind, log_time, calibration = info(FIRST)
    calibration.d = np.array([-0.3, 0.1, 0.001, 0, 0])
    calibration.p = np.array([260.0, 0, 150, 0, 0, 250, 110, 0, 0, 0, 1, 0])
    bag = write(tmp_path / "bag", [(topic, kind, log_time, calibration), raw(FIRST)])
    asked = ["--rectified", "--subject-height", "1.2"]
    assert cli.main(["replay", str(bag), "-o", str(tmp_path / "out"), *asked]) == 0
    record = read_record(tmp_path / "out" / RECORD)
    assert record.K is not None
    assert record.K.tolist() == [[260, 0, 150], [0, 250, 110], [0, 0, 1]]
    (message,) = messages(tmp_path / "out" / SKELETONS, SKELETONS_TOPIC)
    (skeleton,) = message.skeletons
    assert skeleton.height == np.float32(1.2)
    assert (skeleton.height_variance, skeleton.scale_source) == (0, skeleton.SCALE_GIVEN)


def test_a_bag_of_a_camera_upside_down_gives_the_same_people(tmp_path: Path) -> None:
    def over(stamp: int, number: int) -> bags.Message:
        topic, kind, log_time, message = raw(stamp, number)
        message.data = np.ascontiguousarray(bags.picture(number)[::-1, ::-1]).ravel()
        return topic, kind, log_time, message

    turned = film(tmp_path / "turned", image=over)
    asked = ["replay", str(turned), "-o", str(tmp_path / "out"), "--image-rotation", "180"]
    assert cli.main(asked) == 0
    replay(film(tmp_path / "bag"), tmp_path / "upright", Options())
    seen, upright = (
        messages(tmp_path / name / SKELETONS, SKELETONS_TOPIC) for name in ("out", "upright")
    )
    for message, other in zip(seen, upright, strict=True):
        assert len(message.skeletons) == 1
        np.testing.assert_allclose(
            joints(message.skeletons), joints(other.skeletons) * [-1, -1, 1], atol=1e-5
        )
    texts, before = (
        [
            [marker.pose.position.y for marker in message.markers if marker.text]
            for message in messages(tmp_path / name / SKELETONS, MARKERS_TOPIC)
        ]
        for name in ("out", "upright")
    )
    np.testing.assert_allclose(texts, -np.array(before), atol=1e-5)


def test_wrong_options_are_named(tmp_path: Path) -> None:
    for wrong, message in (
        ({"subject_height": 9.0}, "height"),
        ({"max_people": 0}, "max_people is 0"),
        ({"image_rotation": 45}, "image_rotation is 45, expected one of 0, 90, 180, 270"),
    ):
        with pytest.raises(ReplayError, match=message):
            Options(**wrong)
    bag = film(tmp_path / "bag", frames=1)
    for wrong, message in (
        ({"model": "huge"}, "neither a preset"),
        ({"device": "abacus"}, "device is 'abacus'"),
    ):
        with pytest.raises(ReplayError, match=message):
            replay(bag, tmp_path / "out", Options(**wrong))


# --- ground truth --------------------------------------------------------------------------------


def truth_from(out: Path, path: Path, shift: float) -> Path:
    """What was seen, as the truth; all joints but the pelvis `shift` metres further right."""
    with BagReader(out / SKELETONS) as reader, BagWriter(path) as bag:
        bag.add_topic("/robot/ground_truth/skeletons", SKELETONS_TYPE)
        for record in reader.records([SKELETONS_TOPIC]):
            message = reader.decode(record)
            for skeleton in message.skeletons:
                skeleton.id = "child"
                for joint in skeleton.joints:
                    joint.offset.x += shift
                skeleton.joints[INDEX["pelvis"]].offset.x -= shift
            bag.write_message("/robot/ground_truth/skeletons", record.log_time, message)
    return path


def test_truth_in_another_bag_is_scored_against(tmp_path: Path) -> None:
    bag = film(tmp_path / "bag")
    assert replay(bag, tmp_path / "out", Options())["truth"] is None
    truth = truth_from(tmp_path / "out", tmp_path / "truth", 0.1)
    told = Options(ground_truth=str(truth))
    metrics = replay(bag, tmp_path / "scored", told)
    scores = metrics["truth"]
    assert (scores["people"], scores["frames"], scores["coverage"]) == (1, 4, 100)
    expected = 100 * (JOINT_COUNT - 1) / JOINT_COUNT
    assert scores["3d"]["average"]["mpjpe"] == pytest.approx(expected, abs=1e-3)
    assert scores["3d"]["average"]["mpjve"] == pytest.approx(0, abs=1e-3)
    assert scores["root_error"] == pytest.approx(0, abs=1e-3)
    assert (scores["id_switches"], scores["height"]) == (0, "estimated")
    assert scores["2d"]["pck"] in (100, None)  # None: nothing that could be a torso is seen
    with pytest.raises(ReplayError, match="has nobody on a topic ground_truth/skeletons"):
        replay(bag, tmp_path / "none", Options(ground_truth=str(bag)))


def test_truth_that_fits_no_image_is_named(tmp_path: Path) -> None:
    bag = film(tmp_path / "bag")
    replay(bag, tmp_path / "out", Options())
    truth = truth_from(tmp_path / "out", tmp_path / "truth", 0.0)
    metrics = replay(
        film(tmp_path / "two", frames=2), tmp_path / "scored", Options(ground_truth=str(truth))
    )
    assert "2 true poses are at the stamp of no image" in note(metrics, "true poses")
    assert metrics["truth"]["frames"] == 2

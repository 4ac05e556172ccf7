"""The figures of a demo are those of its bag, and its score that of the skeletons there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stsp_model.bag import SKELETONS_TYPE, BagWriter, typestore
from stsp_model.evaluation.video import Person
from stsp_model.skeleton import JOINT_COUNT
from stsp_model.sources import Frame, Source
from stsp_ros.demo_report import Accuracy, Summary, accuracy_of, contact_sheet_of, summarise

TYPES = typestore().types
DIAGNOSTICS_TYPE = "diagnostic_msgs/msg/DiagnosticArray"
MILLISECOND = 1_000_000  # ns


def header(stamp: int) -> Any:
    time = TYPES["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return TYPES["std_msgs/msg/Header"](stamp=time, frame_id="camera")


def diagnostics(**values: str) -> Any:
    pair = TYPES["diagnostic_msgs/msg/KeyValue"]
    status = TYPES["diagnostic_msgs/msg/DiagnosticStatus"](
        level=0,
        name="stsp",
        message="",
        hardware_id="",
        values=[pair(key=k.replace("_", " "), value=v) for k, v in values.items()],
    )
    return TYPES[DIAGNOSTICS_TYPE](header=header(0), status=[status])


def write(path: Path, ages: list[int], *reports: Any) -> Path:
    """A bag with a message of each age (ns from stamp to publication), then the diagnostics."""
    with BagWriter(path) as bag:
        bag.add_topic("/stsp/skeletons", SKELETONS_TYPE)
        bag.add_topic("/diagnostics", DIAGNOSTICS_TYPE)
        for index, age in enumerate(ages):
            stamp = (index + 1) * 10**9
            message = TYPES[SKELETONS_TYPE](
                header=header(stamp), joint_names=[], skeletons=[], processing_time=0.0
            )
            bag.write_message("/stsp/skeletons", stamp + age, message)
        for index, report in enumerate(reports):
            bag.write_message("/diagnostics", 10**12 + index, report)
    return path


SUMMARY = Summary(
    published=10,
    received=9,
    processed=7,
    with_person=6,
    dropped={"superseded": 2, "late": 0},
    seconds=0.5,
    latencies={"stamp to publication": (0.0123, 0.0456)},
    trained=True,
    stamp_offset=0,
)
PLAYED = {"frames": 10, "seconds": 0.5, "stamp_offset": 7}


def test_figures_come_from_the_last_diagnostics_and_the_messages(tmp_path: Path) -> None:
    bag = write(
        tmp_path / "bag",
        [age * MILLISECOND for age in (10, 20, 30, 40, 50)],
        diagnostics(**{"frames_received": "3", "dropped:_superseded": "1"}),
        diagnostics(
            **{
                "frames_received": "8",
                "dropped:_superseded": "2",
                "dropped:_late": "1",
                "arrival_to_publication_p50_(ms)": "12.5",
                "arrival_to_publication_p99_(ms)": "20.0",
                "model": "edge, trained",
            }
        ),
    )
    summary = summarise(bag, PLAYED)
    assert (summary.published, summary.received, summary.processed) == (10, 8, 5)
    assert summary.lost == 2
    assert summary.with_person == 0
    assert summary.dropped == {"superseded": 2, "late": 1}
    assert summary.latencies["arrival to publication"] == pytest.approx((0.0125, 0.020))
    # NumPy's linear interpolation: rank 0.99 * 4 = 3.96, so 40 + 0.96 * 10.
    assert summary.latencies["stamp to publication"] == pytest.approx((0.030, 0.0496))
    assert summary.trained
    assert summary.stamp_offset == 7


def test_a_run_without_a_sign_of_the_node_counts_as_untrained_and_lost(tmp_path: Path) -> None:
    summary = summarise(write(tmp_path / "bag", []), PLAYED)
    assert (summary.processed, summary.lost, summary.trained) == (0, 10, False)
    assert summary.latencies == {}


def skeleton(joints: np.ndarray, joints_2d: np.ndarray, given: bool, state: int = 1) -> Any:
    point, vector = TYPES["geometry_msgs/msg/Point"], TYPES["geometry_msgs/msg/Vector3"]
    none = np.full(3, np.nan, np.float32)
    return TYPES["stsp/msg/Skeleton3D"](
        header=header(0),
        id="p1",
        tracking_state=state,
        confidence=0.9,
        root=point(x=0.0, y=0.0, z=3.0),
        root_variance=none,
        height=1.25,
        height_variance=0.0,
        scale_source=int(given),
        joints=[
            TYPES["stsp/msg/Keypoint3D"](vector(*offset), confidence=1.0, variance=none)
            for offset in joints.tolist()
        ],
        joints_2d=[
            TYPES["stsp/msg/Keypoint2D"](u=u, v=v, confidence=1.0) for u, v in joints_2d.tolist()
        ],
        box=np.zeros(4, np.float32),
        frames_used=0,
    )


def people() -> tuple[Person, ...]:
    """Two who stand side by side for ten frames; the second is hidden in the last one."""
    body = np.random.default_rng(0).uniform(-0.5, 0.5, (10, JOINT_COUNT, 3))
    body -= body[:, :1]
    return tuple(
        Person(
            name=f"child_{i}",
            action="bag",
            stamps=1 + np.arange(10) / 10,
            joints=body,
            joints_2d=200 * body[..., :2] + (200 + 250 * i, 240),
            visible=np.repeat(np.arange(10)[:, None] < 10 - i, JOINT_COUNT, axis=1),
            height=1.25,
        )
        for i in range(2)
    )


def scored(
    folder: Path,
    persons: Sequence[Person],
    shifts: Sequence[tuple[float, float, float]],
    *,
    given: bool = True,
    scale: float = 1.0,
) -> Accuracy | None:
    """What frames 0 to 6 score with every joint but the pelvis astray by `shifts` (m).

    In frame 3 the skeletons lie far from everybody, in frame 4 everybody is lost.
    """
    with BagWriter(folder / "bag") as bag:
        bag.add_topic("/stsp/skeletons", SKELETONS_TYPE)
        for row in range(7):
            found = []
            for person, shift in zip(persons, shifts, strict=True):
                joints = scale * person.joints[row]
                joints[1:] += shift
                flat = person.joints_2d[row] + (2000 if row == 3 else 3)
                found.append(skeleton(joints, flat, given, state=3 if row == 4 else 1))
            stamp = round(person.stamps[row] * 1e9) + 7
            message = TYPES[SKELETONS_TYPE](
                header=header(stamp), joint_names=[], skeletons=found[::-1], processing_time=0.0
            )
            bag.write_message("/stsp/skeletons", stamp, message)
    return accuracy_of(folder / "bag", persons, stamp_offset=7)


def test_a_known_error_comes_out(tmp_path: Path) -> None:
    found = scored(tmp_path, people(), [(0.06, 0, 0), (0, 0, -0.2)])
    assert found is not None
    assert (found.frames, found.found, found.height_given) == (10 + 9, 5 + 5, True)
    assert found.mpjpe == pytest.approx(16 / 17 * (60 + 200) / 2, abs=1e-3)
    # Right are all joints of one in 5 of 10 frames, and of the other the pelvis in 5 of 9.
    assert found.pck == pytest.approx(100 * (5 * 17 + 5) / (19 * 17), abs=1e-6)


def test_with_the_height_estimated_the_size_does_not_count(tmp_path: Path) -> None:
    found = scored(tmp_path, people()[:1], [(0, 0, 0)], given=False, scale=0.8)
    assert found is not None
    assert (found.frames, found.found, found.height_given) == (10, 5, False)
    assert found.mpjpe == pytest.approx(0, abs=1e-3)


def test_nobody_near_the_truth_is_no_score(tmp_path: Path) -> None:
    (person, _) = people()
    bag = write(tmp_path / "bag", [0, 0])
    found = accuracy_of(bag, [person], stamp_offset=0)
    assert found is not None
    assert (found.frames, found.found) == (10, 0)
    assert found.lines() == ["truth with a skeleton  0 of 10 frames, 0.0 %"]
    hidden = replace(person, visible=np.zeros_like(person.visible))
    assert accuracy_of(bag, [hidden], stamp_offset=0) is None


def test_pictures_of_another_size_fit_into_the_contact_sheets_tiles(tmp_path: Path) -> None:
    # Wide, tall and small ones, each of one colour.
    pictures = [
        np.full((*shape, 3), value, np.uint8)
        for shape, value in (((60, 80), 90), ((120, 40), 150), ((30, 20), 210))
    ]
    frames = [Frame((i + 1) * 10**9, image, "camera") for i, image in enumerate(pictures)]
    source = Source("mixed", (80, 60), 3, lambda: iter(frames))
    contact_sheet_of(source, write(tmp_path / "bag", [0, 0, 0]), SUMMARY, tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape[1] == 3 * 80 + 4 * 8
    bottom = sheet[sheet.shape[0] - 8 - 60 : -8]  # the tiles, above the last gap
    widths = {value: int((bottom[50, :, 0] == value).sum()) for value in (90, 150, 210)}
    assert widths == {90: 80, 150: 20, 210: 40}


def test_the_score_in_words() -> None:
    summary = replace(SUMMARY, accuracy=Accuracy(90, 88, True, 57.26, 91.04))
    assert summary.lines()[-3:] == [
        "truth with a skeleton  88 of 90 frames, 97.8 %",
        "MPJPE                  57.3 mm over 88 frames, height given",
        "PCK@150 mm             91.0 %  (without a skeleton: wrong)",
    ]
    estimated = replace(SUMMARY, accuracy=Accuracy(90, 88, False, 57.26, 91.04), trained=False)
    assert estimated.lines()[-3:] == [
        "N-MPJPE                57.3 mm over 88 frames, height estimated",
        "PCK@150 mm             91.0 %  (without a skeleton: wrong)",
        "These weights are untrained: the skeletons are meaningless.",
    ]


def test_lines_for_people() -> None:
    assert SUMMARY.lines() == [
        "frames published       10  in 0.5 s",
        "frames processed       7  (6 with a skeleton)",
        "frames dropped         2 (superseded 2)",
        "frames lost            1  (before they reached the node)",
        "stamp to publication   p50 12.3 ms, p99 45.6 ms",
    ]

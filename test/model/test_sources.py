"""Bags, videos and folders give the same kind of frames, with stamps one can rely on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stsp_model.bag import (
    CAMERA_INFO_TYPE,
    COMPRESSED_IMAGE_TYPE,
    IMAGE_TYPE,
    BagError,
    BagWriter,
    typestore,
)
from stsp_model.sources import FIRST_STAMP, SourceError, open_source

TYPES = typestore().types


def header(stamp: int) -> Any:
    time = TYPES["builtin_interfaces/msg/Time"](
        sec=stamp // 1_000_000_000, nanosec=stamp % 1_000_000_000
    )
    return TYPES["std_msgs/msg/Header"](stamp=time, frame_id="left_optical")


def grey(value: int) -> np.ndarray:
    return np.full((24, 32, 3), value, np.uint8)


def compressed(stamp: int, value: int, cut: bool = False) -> Any:
    data = cv2.imencode(".png", grey(value))[1].ravel()
    return TYPES[COMPRESSED_IMAGE_TYPE](
        header=header(stamp), format="png", data=data[:50] if cut else data
    )


def raw(stamp: int, encoding: str = "bgr8") -> Any:
    return TYPES[IMAGE_TYPE](
        header=header(stamp),
        height=24,
        width=32,
        encoding=encoding,
        is_bigendian=0,
        step=96,
        data=grey(9).ravel(),
    )


def camera_info(stamp: int, focal: float) -> Any:
    return TYPES[CAMERA_INFO_TYPE](
        header=header(stamp),
        height=24,
        width=32,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array([focal, 0, 16, 0, focal, 12, 0, 0, 1.0]),
        r=np.eye(3).ravel(),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=TYPES["sensor_msgs/msg/RegionOfInterest"](
            x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        ),
    )


def write(path: Path, *messages: tuple[str, Any]) -> Path:
    with BagWriter(path) as bag:
        for time, (topic, message) in enumerate(messages):
            bag.add_topic(topic, message.__msgtype__)
            bag.write_message(topic, time, message)
    return path


def test_a_bags_frames_keep_stamp_and_frame_id(tmp_path: Path) -> None:
    bag = write(
        tmp_path / "bag",
        ("/cam/image/compressed", compressed(5_000_000_001, 10)),
        ("/cam/image/compressed", compressed(5_033_000_000, 20)),
    )
    source = open_source(bag)
    assert (source.size, source.count, source.name) == ((32, 24), 2, "bag")
    for _ in range(2):  # each pass starts afresh
        frames = list(source.frames())
        assert [f.stamp for f in frames] == [5_000_000_001, 5_033_000_000]
        assert [int(f.image[0, 0, 0]) for f in frames] == [10, 20]
        assert {f.frame_id for f in frames} == {"left_optical"}
        assert frames[0].camera_info is None


def test_camera_info_is_the_latest_and_there_from_the_first_frame(tmp_path: Path) -> None:
    bag = write(
        tmp_path / "bag",
        ("/image", raw(1)),
        ("/camera_info", camera_info(1, 30.0)),
        ("/image", raw(2)),
        ("/camera_info", camera_info(3, 40.0)),
        ("/image", raw(3)),
    )
    infos = [f.camera_info for f in open_source(bag).frames()]
    assert [info.k[0] for info in infos if info] == [30.0, 30.0, 40.0]


def test_an_undecodable_image_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bag = write(
        tmp_path / "bag",
        ("/image/compressed", compressed(1, 10)),
        ("/image/compressed", compressed(2, 20, cut=True)),
        ("/image/compressed", compressed(3, 30)),
    )
    source = open_source(bag)
    with caplog.at_level(logging.WARNING):
        assert [f.stamp for f in source.frames()] == [1, 3]
    assert "left out: PNG image is cut off" in caplog.text


def test_a_bag_of_undecodable_images_is_refused(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", ("/image", raw(1, "32FC1")))
    with pytest.raises(SourceError, match="holds no frame that can be decoded"):
        open_source(bag)


def test_the_camera_can_be_chosen(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", ("/a/image", raw(1)), ("/b/image", raw(2)))
    with pytest.raises(BagError, match="several topics"):
        open_source(bag)
    assert [f.stamp for f in open_source(bag, "/b/image").frames()] == [2]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "film.avi", [grey(value) for value in (10, 100, 200)])


def write_video(path: Path, frames: Sequence[np.ndarray], code: str = "MJPG") -> Path:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 25.0, (width, height))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write videos")
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def test_a_videos_stamps_follow_its_rate_and_are_never_zero(video: Path) -> None:
    source = open_source(video)
    frames = list(source.frames())
    assert (source.size, source.count, len(frames)) == ((32, 24), 3, 3)
    assert [f.stamp - FIRST_STAMP for f in frames] == [0, 40_000_000, 80_000_000]
    assert frames[0].stamp > 0
    for frame, value in zip(frames, (10, 100, 200), strict=True):
        assert abs(int(frame.image[12, 16, 0]) - value) < 6


def paced(video: Path, steps: Sequence[tuple[int, int]]) -> None:
    """Change how long the frames of an MP4 file take: runs of (frames, ticks of its clock).

    In all they must take as long as before.
    """
    data = bytearray(video.read_bytes())
    table = data.index(b"stts") + 4
    entries = b"".join(n.to_bytes(4, "big") + ticks.to_bytes(4, "big") for n, ticks in steps)
    assert data[table + 4 : table + 8] == b"\0\0\0\1"  # one run; its ends with the file's data
    assert data.index(b"mdat") < table  # which stays where it is
    data[table + 4 : table + 16] = len(steps).to_bytes(4, "big") + entries
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        at = data.index(box) - 4
        size = int.from_bytes(data[at : at + 4], "big") + len(entries) - 8
        data[at : at + 4] = size.to_bytes(4, "big")
    video.write_bytes(data)


def test_a_videos_stamps_are_its_own_where_its_rate_varies(tmp_path: Path) -> None:
    video = write_video(tmp_path / "film.mp4", [grey(40 * value) for value in range(6)], "mp4v")
    assert [f.stamp - FIRST_STAMP for f in open_source(video).frames()][1] == 40_000_000
    ticks = int.from_bytes(video.read_bytes().split(b"stts")[1][12:16], "big")  # of 40 ms
    paced(video, [(1, ticks), (1, ticks // 2), (1, ticks + ticks // 2), (3, ticks)])
    stamps = [(f.stamp - FIRST_STAMP) // 1_000_000 for f in open_source(video).frames()]
    assert stamps == [0, 40, 60, 120, 160, 200]


def test_where_a_videos_own_times_stand_still_its_rate_counts(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 0.0, 100.0])
    whole = cv2.VideoCapture

    class Capture:
        """Tells times that do not advance, as of containers without an index."""

        def __init__(self, path: str) -> None:
            self.inner = whole(path)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def get(self, what: int) -> float:
            return next(times) if what == cv2.CAP_PROP_POS_MSEC else self.inner.get(what)

    source = open_source(video)
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    stamps = [frame.stamp - FIRST_STAMP for frame in source.frames()]
    assert stamps == [0, 40_000_000, 100_000_000]


def test_a_video_that_breaks_off_says_how_much_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    video = write_video(tmp_path / "film.avi", list(noise))
    with caplog.at_level(logging.WARNING):
        assert len(list(open_source(video).frames())) == 40
        assert caplog.messages == []
        video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
        source = open_source(video)
        assert caplog.messages == []  # for what nobody has asked for
        frames = len(list(source.frames()))
    assert 10 < frames < 30
    assert caplog.messages == [
        f"{video} says that it holds 40 frames, and cannot be read beyond {frames} of them; it may "
        "be cut off or damaged"
    ]


def test_a_damaged_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    with pytest.raises(
        SourceError, match=r"film\.mp4 (cannot be opened as a video|holds no frame)"
    ):
        open_source(path)


def test_a_folder_of_images_plays_in_the_order_of_names(tmp_path: Path) -> None:
    for name, value in (("b.png", 20), ("a.PNG", 10), ("c.png", 30)):
        (tmp_path / name).write_bytes(cv2.imencode(".png", grey(value))[1].tobytes())
    (tmp_path / "notes.txt").write_text("no image")
    source = open_source(tmp_path)
    frames = list(source.frames())
    assert source.count == 3
    assert [int(f.image[0, 0, 0]) for f in frames] == [10, 20, 30]
    assert [f.stamp - FIRST_STAMP for f in frames] == [0, 33_333_333, 66_666_667]


def test_numbers_in_a_folders_names_count_as_numbers(tmp_path: Path) -> None:
    names = ["1.png", "2.png", "10.png", "a1b2.png", "a1b10.png", "a02b1.png", "a2b2.png"]
    for value, name in enumerate(names):
        (tmp_path / name).write_bytes(cv2.imencode(".png", grey(value))[1].tobytes())
    frames = open_source(tmp_path).frames()
    assert [int(frame.image[0, 0, 0]) for frame in frames] == list(range(len(names)))


def test_an_undecodable_file_of_a_folder_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    huge = bytearray(cv2.imencode(".jpg", grey(10))[1].tobytes())
    size = huge.index(b"\xff\xc0") + 5
    huge[size : size + 4] = b"\xff\xdc\xff\xdc"  # 65500x65500
    (tmp_path / "1.jpg").write_bytes(cv2.imencode(".jpg", grey(10))[1].tobytes())
    (tmp_path / "2.jpg").write_bytes(huge)
    (tmp_path / "3.jpg").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        assert len(list(open_source(tmp_path).frames())) == 1
    assert "2.jpg is left out: it does not decode" in caplog.text
    assert "3.jpg is left out: it does not decode" in caplog.text


@pytest.mark.parametrize("kind", ["bag", "folder", "video"])
def test_a_later_start_leaves_out_the_frames_before_it(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "bag":
        images = [raw(10**9), raw(10**9 + 20_000_000, "32FC1"), raw(10**9 + 40_000_000)]
        path = write(
            tmp_path / "bag",
            ("/camera_info", camera_info(1, 30.0)),
            ("/image", images[0]),
            ("/camera_info", camera_info(2, 40.0)),
            ("/image", images[1]),
            ("/image", images[2]),
            ("/image", raw(10**9 + 80_000_000)),
        )
    elif kind == "folder":
        path = tmp_path
        for name in "abcd":
            (path / f"{name}.png").write_bytes(cv2.imencode(".png", grey(10))[1].tobytes())
    else:
        path = request.getfixturevalue("video")
    stamps = [frame.stamp for frame in open_source(path).frames()]
    caplog.clear()
    source = open_source(path, start=0.04)
    frames = list(source.frames())
    assert caplog.text == ""  # what is left out was not even decoded
    assert [frame.stamp for frame in frames] == [s for s in stamps if s >= stamps[0] + 40_000_000]
    assert len(frames) == 2
    assert source.count == 0
    if kind == "bag":
        assert [frame.camera_info.k[0] for frame in frames] == [40.0, 40.0]
    if kind == "video":
        assert abs(int(frames[0].image[12, 16, 0]) - 100) < 6
    with pytest.raises(SourceError, match=r"holds no frame, 0\.5 s after its first frame or later"):
        open_source(path, start=0.5)


def test_a_bags_late_frames_are_there_as_they_came(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", *(("/image", raw(stamp)) for stamp in (50, 40, 60)))
    assert [frame.stamp for frame in open_source(bag).frames()] == [50, 40, 60]


def test_a_topic_is_of_bags_alone(video: Path) -> None:
    for path in (video, video.parent):
        with pytest.raises(SourceError, match="is no bag, which has topics: leave out --image-top"):
            open_source(path, "/camera/image")


@pytest.mark.parametrize("topic", [None, "/camera/image"])
def test_what_an_interrupted_recording_leaves_is_known_by_its_file(
    topic: str | None, tmp_path: Path
) -> None:
    (tmp_path / "run_0.mcap").write_bytes(b"")
    with pytest.raises(
        BagError, match=r"no metadata.yaml, as when .* interrupted; pass .*run_0\.mcap .* reindex"
    ):
        open_source(tmp_path, topic)


def test_nothing_to_read_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere\.mp4 does not exist"):
        open_source(tmp_path / "nowhere.mp4")
    with pytest.raises(SourceError, match=r"is no bag \(no metadata.yaml\) and holds no \.jpg"):
        open_source(tmp_path)

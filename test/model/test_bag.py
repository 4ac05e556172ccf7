"""Bags are written so that others can read them, and damage is reported as such."""

from __future__ import annotations

import contextlib
import math
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from ruamel.yaml import YAML

from stsp_model.bag import (
    CAMERA_INFO_TYPE,
    COMPRESSED_IMAGE_TYPE,
    IMAGE_TYPE,
    SKELETONS_TYPE,
    BagError,
    BagReader,
    BagWriter,
    camera_info_topic,
    image_topic,
    message_definitions,
    stamp_nanoseconds,
    typestore,
)
from stsp_model.skeleton import JOINT_COUNT, JOINTS
from stsp_model.sources import SourceError, open_source

TYPES = typestore().types


def header(stamp: int) -> Any:
    time = TYPES["builtin_interfaces/msg/Time"](
        sec=stamp // 1_000_000_000, nanosec=stamp % 1_000_000_000
    )
    return TYPES["std_msgs/msg/Header"](stamp=time, frame_id="camera")


def skeleton_array(stamp: int) -> Any:
    vector, point = TYPES["geometry_msgs/msg/Vector3"], TYPES["geometry_msgs/msg/Point"]
    joints = [
        TYPES["stsp/msg/Keypoint3D"](
            offset=vector(x=0.1 * j, y=math.nan, z=1.0),
            confidence=0.5,
            variance=np.full(3, 0.25, np.float32),
        )
        for j in range(JOINT_COUNT)
    ]
    skeleton = TYPES["stsp/msg/Skeleton3D"](
        header=header(stamp),
        id="p1",
        tracking_state=1,
        confidence=0.75,
        root=point(x=0.0, y=0.0, z=3.5),
        root_variance=np.full(3, math.nan, np.float32),
        height=1.25,
        height_variance=0.0,
        scale_source=1,
        joints=joints,
        joints_2d=[TYPES["stsp/msg/Keypoint2D"](u=1.0, v=2.0, confidence=0.0)] * JOINT_COUNT,
        box=np.array([1, 2, 3, 4], np.float32),
        frames_used=5,
    )
    return TYPES[SKELETONS_TYPE](
        header=header(stamp),
        joint_names=list(JOINTS),
        skeletons=[skeleton],
        processing_time=0.0125,
    )


def write_bag(path: Path, storage: str = "mcap", count: int = 4) -> Path:
    with BagWriter(path, storage) as bag:
        bag.add_topic("/stsp/skeletons", SKELETONS_TYPE)
        for i in range(count):
            bag.write_message("/stsp/skeletons", 1_000 + i, skeleton_array(2_000_000_000 + i))
    return path


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("as_folder", [True, False])
def test_what_is_written_reads_back(tmp_path: Path, storage: str, as_folder: bool) -> None:
    bag = write_bag(tmp_path / "bag", storage)
    with BagReader(bag if as_folder else next(bag.glob("bag.*"))) as reader:
        assert reader.topics["/stsp/skeletons"].type == SKELETONS_TYPE
        assert reader.topics["/stsp/skeletons"].count == 4
        records = list(reader.records())
        assert [r.log_time for r in records] == [1000, 1001, 1002, 1003]
        message = reader.decode(records[2])
    assert stamp_nanoseconds(message) == 2_000_000_002
    assert message.joint_names == list(JOINTS)
    skeleton = message.skeletons[0]
    assert (skeleton.id, skeleton.tracking_state, skeleton.height) == ("p1", 1, 1.25)
    assert skeleton.joints[3].offset.x == pytest.approx(0.3)
    assert math.isnan(skeleton.joints[3].offset.y)


def test_a_note_stands_in_the_metadata_of_folder_and_file(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.note("credits", "whose motion it is")
    yaml = YAML(typ="safe")
    about = yaml.load(tmp_path / "bag" / "metadata.yaml")["rosbag2_bagfile_information"]
    assert about["custom_data"] == {"credits": "whose motion it is"}
    with (tmp_path / "bag" / "bag.mcap").open("rb") as file:
        (record,) = make_reader(file).iter_metadata()
    assert yaml.load(record.metadata["serialized_metadata"])["custom_data"] == about["custom_data"]


def test_an_independent_reader_decodes_our_messages(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag")
    with (bag / "bag.mcap").open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        messages = [message for *_, message in reader.iter_decoded_messages()]
    assert len(messages) == 4
    skeleton = messages[3].skeletons[0]
    assert messages[3].header.stamp.nanosec == 3
    assert messages[3].processing_time == pytest.approx(0.0125)
    assert len(skeleton.joints) == len(skeleton.joints_2d) == JOINT_COUNT
    assert skeleton.joints[16].offset.x == pytest.approx(1.6)
    assert list(skeleton.box) == [1, 2, 3, 4]
    assert skeleton.frames_used == 5


@pytest.mark.parametrize(("storage", "identifier"), [("mcap", "mcap"), ("sqlite3", "sqlite3")])
def test_metadata_has_a_version_that_humble_reads(
    tmp_path: Path, storage: str, identifier: str
) -> None:
    bag = write_bag(tmp_path / "bag", storage)
    information = YAML(typ="safe").load(bag / "metadata.yaml")["rosbag2_bagfile_information"]
    assert information["version"] == 8
    assert information["storage_identifier"] == identifier
    assert information["message_count"] == 4


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compressed_bags_are_read(tmp_path: Path, mode: CompressionMode) -> None:
    path = tmp_path / "bag"
    writer = Writer(path, version=8, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/s", SKELETONS_TYPE, typestore=typestore())
        data = typestore().serialize_cdr(skeleton_array(7), SKELETONS_TYPE)
        writer.write(connection, 5, data)
    with BagReader(path) as reader:
        (record,) = reader.records()
        assert record.data == bytes(data)


def test_raw_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    data = bytes(typestore().serialize_cdr(skeleton_array(1), SKELETONS_TYPE))
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/s", SKELETONS_TYPE)
        bag.write("/s", 3, data)
    with BagReader(tmp_path / "bag") as reader:
        assert [r.data for r in reader.records(["/s"])] == [data]


def test_messages_come_in_log_order_whatever_order_they_were_written_in(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for topic in ("/a", "/b"):
            bag.add_topic(topic, SKELETONS_TYPE)
        for topic, time in (("/a", 30), ("/b", 10), ("/a", 20), ("/b", 40)):
            bag.write_message(topic, time, skeleton_array(time))
    with BagReader(tmp_path / "bag") as reader:
        assert [(r.topic, r.log_time) for r in reader.records()] == [
            ("/b", 10),
            ("/a", 20),
            ("/a", 30),
            ("/b", 40),
        ]
        assert [r.log_time for r in reader.records(["/a"])] == [20, 30]


def test_an_interrupted_block_still_leaves_a_valid_bag(tmp_path: Path) -> None:
    def record() -> None:
        with BagWriter(tmp_path / "bag") as bag:
            bag.add_topic("/s", SKELETONS_TYPE)
            bag.write_message("/s", 3, skeleton_array(3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record()
    with BagReader(tmp_path / "bag") as reader:
        assert len(list(reader.records())) == 1


def test_a_bag_without_messages_is_valid(tmp_path: Path) -> None:
    with BagReader(write_bag(tmp_path / "bag", count=0)) as reader:
        assert list(reader.records()) == []


def test_definitions_come_from_the_msg_files() -> None:
    definitions = message_definitions()
    assert sorted(definitions) == [
        f"stsp/msg/{name}" for name in ("Keypoint2D", "Keypoint3D", "Skeleton3D", "Skeleton3DArray")
    ]
    assert TYPES["stsp/msg/Skeleton3D"].JOINT_COUNT == JOINT_COUNT


def test_the_joint_constants_are_the_skeletons_joints() -> None:
    kind = TYPES["stsp/msg/Skeleton3D"]
    assert [getattr(kind, f"JOINT_{name.upper()}") for name in JOINTS] == list(range(JOINT_COUNT))


def test_what_a_bag_says_of_its_other_types_matters_not(tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        own = writer.add_connection("/s", SKELETONS_TYPE, typestore=typestore())
        odd = "int32[<=5 what no parser takes"
        writer.add_connection("/odd", "my/msg/Odd", msgdef=odd, rihs01="RIHS01_0")
        writer.write(own, 5, typestore().serialize_cdr(skeleton_array(7), SKELETONS_TYPE))
    assert read_all(tmp_path / "bag") == 1


def test_what_a_bag_does_not_define_is_as_ros_defines_it(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    with BagWriter(bag, "sqlite3") as writer:
        writer.add_topic("/image", IMAGE_TYPE)  # defined
        writer.add_topic("/s", SKELETONS_TYPE)  # not, as where the recorder's machine lacks it
        writer.write_message("/s", 5, skeleton_array(7))
    with contextlib.closing(sqlite3.connect(next(bag.glob("*.db3")))) as rows:
        rows.execute("DELETE FROM message_definitions WHERE topic_type = ?", [SKELETONS_TYPE])
        rows.commit()
    assert read_all(bag) == 1


def test_definitions_in_idl_are_read(tmp_path: Path) -> None:
    parts = {
        "Outer": "struct Outer { my::msg::Inner a; };",
        "Inner": "struct Inner { double x; };",
    }
    line = "=" * 80
    text = "".join(
        f"{line}\nIDL: my/msg/{name}\nmodule my {{ module msg {{ {body} }}; }};\n"
        for name, body in parts.items()
    )
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection("/o", "my/msg/Outer", msgdef=text, rihs01="RIHS01_0")
        writer.write(topic, 5, b"\0\1\0\0" + struct.pack("<d", 0.5))
    with BagReader(tmp_path / "bag") as reader:
        (record,) = reader.records()
        assert reader.decode(record).a.x == 0.5


# --- bags that cannot be used -------------------------------------------------------------------


def test_a_missing_bag(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r"nowhere does not exist"):
        BagReader(tmp_path / "nowhere")


def test_a_folder_without_metadata_points_to_its_file(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag")
    (bag / "metadata.yaml").unlink()
    with pytest.raises(BagError, match=r"no metadata.yaml, as when .* pass .*bag\.mcap to read"):
        BagReader(bag)
    with pytest.raises(BagError, match=r"no metadata.yaml; `stsp bag` makes one of .* images$"):
        BagReader(tmp_path)


def test_what_a_recorder_left_beside_an_sqlite_file_is_not_lost(tmp_path: Path) -> None:
    (file,) = write_bag(tmp_path / "whole", "sqlite3").glob("*.db3")
    with contextlib.closing(sqlite3.connect(file)) as recorder:
        recorder.execute("PRAGMA journal_mode = WAL")  # "resilient" among the presets of rosbag2
        recorder.execute(
            "INSERT INTO messages SELECT 9, topic_id, 2000, data FROM messages LIMIT 1"
        )
        recorder.commit()
        shutil.copytree(file.parent, tmp_path / "cut")  # as it is when the power fails
    cut = tmp_path / "cut" / file.name
    for path in (cut, cut.parent):
        with pytest.raises(BagError, match=r"whole\.db3-wal holds messages .*journal_mode=DELETE"):
            BagReader(path)
    with contextlib.closing(sqlite3.connect(cut)) as mended:
        mended.execute("PRAGMA journal_mode=DELETE")
    assert read_all(cut) == 5


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"0")
    with pytest.raises(
        BagError, match=r"or a \.mcap or \.db3 file; `stsp bag` makes one of a video"
    ):
        BagReader(tmp_path / "film.mp4")


def test_a_bag_of_another_kind_says_what_to_do(tmp_path: Path) -> None:
    for name, words in (
        ("old.bag", r"old\.bag is a bag of ROS 1; `rosbags-convert .*makes one of ROS 2"),
        ("part_0.db3.zstd", "is a compressed part of a bag; give the bag's folder"),
    ):
        (tmp_path / name).touch()
        with pytest.raises(BagError, match=words):
            BagReader(tmp_path / name)
        with pytest.raises(SourceError, match=words):
            open_source(tmp_path / name)


def test_a_broken_description_says_what_helps(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", "sqlite3")
    (bag / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    with pytest.raises(
        BagError, match=r"`ros2 bag reindex` writes a metadata\.yaml anew"
    ) as caught:
        BagReader(bag)
    assert "Could not load YAML" in str(caught.value)
    assert "\\n" not in str(caught.value)


def read_all(path: Path) -> int:
    with BagReader(path) as reader:
        return sum(1 for record in reader.records() if reader.decode(record))


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("encoded")
    yield {
        suffix: next(write_bag(folder / suffix, storage).glob(f"*.{suffix}")).read_bytes()
        for suffix, storage in (("mcap", "mcap"), ("db3", "sqlite3"))
    }
    shutil.rmtree(folder)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keep=st.floats(0, 0.999), suffix=st.sampled_from(["mcap", "db3"]))
def test_a_cut_off_bag_is_refused_unless_nothing_is_lost(
    tmp_path: Path, encoded: dict[str, bytes], keep: float, suffix: str
) -> None:
    file = tmp_path / f"cut.{suffix}"
    file.write_bytes(encoded[suffix][: int(len(encoded[suffix]) * keep)])
    try:
        # The last page of an SQLite file ends with room for more.
        assert (read_all(file), suffix) == (4, "db3")
    except BagError as error:
        assert f"cut.{suffix}" in str(error)  # noqa: PT017 - either outcome is right


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 0.999), value=st.integers(0, 255))
def test_damage_never_shows_as_anything_but_a_bag_error(
    tmp_path: Path, encoded: dict[str, bytes], place: float, value: int
) -> None:
    data = bytearray(encoded["mcap"])
    data[int(len(data) * place)] = value
    file = tmp_path / "damaged.mcap"
    file.write_bytes(data)
    try:
        assert read_all(file) <= 4
    except BagError as error:
        assert "damaged.mcap" in str(error)  # noqa: PT017 - a harmless byte may change


def test_an_unknown_topic_is_named_with_those_there_are(tmp_path: Path) -> None:
    with (
        BagReader(write_bag(tmp_path / "bag")) as reader,
        pytest.raises(BagError, match="no topic /else, but /stsp/skeletons"),
    ):
        list(reader.records(["/else"]))


def test_writing_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag")
    with pytest.raises(BagError, match="exists already"):
        BagWriter(bag)
    with pytest.raises(BagError, match="storage is 'zip'; expected one of mcap, sqlite3"):
        BagWriter(tmp_path / "other", "zip")
    with BagWriter(tmp_path / "third") as writer:
        with pytest.raises(BagError, match=r"type 'foo/msg/Bar' of topic /x is unknown"):
            writer.add_topic("/x", "foo/msg/Bar")
        with pytest.raises(BagError, match="topic /x has not been added"):
            writer.write("/x", 1, b"")


# --- which topics hold the camera ---------------------------------------------------------------


def camera_bag(path: Path, *topics: tuple[str, str]) -> BagReader:
    """A bag with one (undecodable) message on each topic."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for name, kind in topics:
            writer.write(writer.add_connection(name, kind, typestore=store), 1, b"\0\1\0\0")
    return BagReader(path)


@pytest.mark.parametrize(
    ("topics", "image", "info"),
    [
        ([("/cam/image_raw", IMAGE_TYPE)], "/cam/image_raw", None),
        (
            [
                ("/cam/image_raw/compressed", COMPRESSED_IMAGE_TYPE),
                ("/cam/camera_info", CAMERA_INFO_TYPE),
                ("/back/camera_info", CAMERA_INFO_TYPE),
            ],
            "/cam/image_raw/compressed",
            "/cam/camera_info",
        ),
        (
            [
                ("/image", IMAGE_TYPE),
                ("/image/compressed", COMPRESSED_IMAGE_TYPE),
                ("/image/compressedDepth", COMPRESSED_IMAGE_TYPE),
                ("/calibration", CAMERA_INFO_TYPE),
            ],
            "/image",
            "/calibration",
        ),
    ],
)
def test_the_camera_is_found(
    tmp_path: Path, topics: list[tuple[str, str]], image: str, info: str | None
) -> None:
    with camera_bag(tmp_path / "bag", *topics) as reader:
        assert image_topic(reader) == image
        assert camera_info_topic(reader, image) == info


def test_the_camera_info_can_be_chosen(tmp_path: Path) -> None:
    topics = [("/image", IMAGE_TYPE), ("/a/info", CAMERA_INFO_TYPE), ("/b/info", CAMERA_INFO_TYPE)]
    with camera_bag(tmp_path / "bag", *topics) as reader:
        assert camera_info_topic(reader, "/image", "/b/info") == "/b/info"
        with pytest.raises(BagError, match="no camera info on /c; it has camera info on: /a/info"):
            camera_info_topic(reader, "/image", "/c")


def test_a_choice_of_cameras_is_left_to_the_user(tmp_path: Path) -> None:
    with camera_bag(tmp_path / "bag", ("/a/image", IMAGE_TYPE), ("/b/image", IMAGE_TYPE)) as reader:
        with pytest.raises(BagError, match=r"several topics \(/a/image, /b/image\)"):
            image_topic(reader)
        assert image_topic(reader, "/b/image") == "/b/image"
        with pytest.raises(BagError, match="no images on /c; it has images on: /a/image, /b/image"):
            image_topic(reader, "/c")


def test_a_topic_without_a_single_image_is_no_camera(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/image", IMAGE_TYPE)
    with BagReader(tmp_path / "bag") as reader:
        with pytest.raises(BagError, match="no images on /image; it has images on: no topic"):
            image_topic(reader, "/image")
        with pytest.raises(BagError, match="holds no images; its topics: /image"):
            image_topic(reader)


def test_a_bag_without_images_says_what_it_has(tmp_path: Path) -> None:
    with (
        BagReader(write_bag(tmp_path / "bag")) as reader,
        pytest.raises(BagError, match="holds no images; its topics: /stsp/skeletons"),
    ):
        image_topic(reader)


def test_an_undecodable_message_names_its_topic(tmp_path: Path) -> None:
    with camera_bag(tmp_path / "bag", ("/image", IMAGE_TYPE)) as reader:
        (record,) = reader.records()
        with pytest.raises(BagError, match=r"on /image in bag .* does not decode as sensor_msgs"):
            reader.decode(record)

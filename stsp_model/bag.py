"""Read and write ROS 2 bags (MCAP or SQLite) with `rosbags`, on machines with or without ROS."""

from __future__ import annotations

import functools
import importlib.resources
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from .angles import named_angles
from .camera import Camera
from .files import naming
from .messages import MessageTypes
from .pose import Pose

SKELETONS_TYPE = "stsp/msg/Skeleton3DArray"
MARKERS_TYPE = "visualization_msgs/msg/MarkerArray"
IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
JOINT_STATE_TYPE = "sensor_msgs/msg/JointState"
# Of the bags that we make of other things.
IMAGE_TOPIC, CAMERA_INFO_TOPIC = "/camera/image/compressed", "/camera/camera_info"
FRAME_ID = "camera_optical_frame"

STORAGE_SUFFIXES = (".mcap", ".db3")  # of the files that hold a bag's messages
_BAG_VERSION: Literal[8] = 8  # of metadata.yaml; Humble cannot read 9
_REPAIR = (
    "if it is cut off or damaged, `mcap recover` (the tool of mcap.dev) saves what is whole in a "
    ".mcap file, and `ros2 bag reindex` writes a metadata.yaml anew"
)
# Files that are no bag, but have to do with one; by suffix.
NO_BAGS = {
    ".bag": "a bag of ROS 1; `rosbags-convert --src FILE --dst FOLDER`, which comes with stsp, "
    "makes one of ROS 2 of it",
    ".zstd": "a compressed part of a bag; give the bag's folder",
}
_MAKE = "`stsp bag` makes one of a video or a folder of images"
_STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}


class BagError(ValueError):
    """A bag that cannot be read or written, or lacks what is asked of it."""


@dataclass(frozen=True)
class Topic:
    """A topic of a bag: its name, message type and number of messages."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class Record:
    """A message as it stands in a bag: CDR bytes and the time at which it was logged (ns)."""

    topic: str
    type: str
    log_time: int
    data: bytes


def message_definitions() -> dict[str, str]:
    """The text of this package's .msg files by type, for example "stsp/msg/Skeleton3D"."""
    folder: Any = Path(__file__).resolve().parent.parent / "msg"
    if not folder.is_dir():  # installed: the same files are package data
        folder = importlib.resources.files("stsp_model.msg")
    return {
        f"stsp/msg/{file.name[: -len('.msg')]}": file.read_text(encoding="utf-8")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".msg")
    }


@functools.cache
def typestore() -> Typestore:
    """The message types of ROS 2 and of this package, as classes, with their CDR encoding."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for name, text in message_definitions().items():
        types.update(get_types_from_msg(text, name))
    store.register(types)
    return store


@functools.cache
def message_types() -> MessageTypes:
    """The classes of `typestore` that poses are written with."""
    types = typestore().types
    vector, point = types["geometry_msgs/msg/Vector3"], types["geometry_msgs/msg/Point"]
    pose, quaternion = types["geometry_msgs/msg/Pose"], types["geometry_msgs/msg/Quaternion"]
    colour, duration = types["std_msgs/msg/ColorRGBA"], types["builtin_interfaces/msg/Duration"]
    unset = header(0, "")
    marker = partial(
        types[MARKERS_TYPE.removesuffix("Array")],
        ns="",
        id=0,
        type=0,
        action=0,
        pose=pose(point(0.0, 0.0, 0.0), quaternion(0.0, 0.0, 0.0, 1.0)),
        scale=vector(0.0, 0.0, 0.0),
        color=colour(0.0, 0.0, 0.0, 0.0),
        lifetime=duration(0, 0),
        frame_locked=False,
        points=[],
        colors=[],
        texture_resource="",
        texture=types[COMPRESSED_IMAGE_TYPE](unset, "", np.empty(0, np.uint8)),
        uv_coordinates=[],
        text="",
        mesh_resource="",
        mesh_file=types["visualization_msgs/msg/MeshFile"]("", np.empty(0, np.uint8)),
        mesh_use_embedded_materials=False,
    )
    return MessageTypes(
        Duration=duration,
        Point=point,
        Pose=pose,
        Quaternion=quaternion,
        Vector3=vector,
        ColorRGBA=colour,
        Marker=marker,
        MarkerArray=types[MARKERS_TYPE],
        Keypoint2D=types["stsp/msg/Keypoint2D"],
        Keypoint3D=types["stsp/msg/Keypoint3D"],
        Skeleton3D=types["stsp/msg/Skeleton3D"],
        Skeleton3DArray=types[SKELETONS_TYPE],
    )


def header(stamp: int, frame_id: str) -> Any:
    """A std_msgs/Header of the classes in `typestore`; `stamp` in ns."""
    types = typestore().types
    seconds, nanoseconds = divmod(stamp, 1_000_000_000)
    return types["std_msgs/msg/Header"](
        stamp=types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds),
        frame_id=frame_id,
    )


def camera_info(camera: Camera, header: Any) -> Any:
    """A sensor_msgs/CameraInfo of the classes in `typestore`, for images that are not rectified."""
    types = typestore().types
    return types[CAMERA_INFO_TYPE](
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model,
        d=np.zeros(5) if camera.D is None else camera.D,
        k=camera.K.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([camera.K, np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    )


def joint_angles_message(poses: Sequence[Pose], header: Any) -> Any:
    """The joint angles of everyone seen in one image, as the node publishes them."""
    names, angles = named_angles(poses)
    none = np.empty(0)
    return typestore().types[JOINT_STATE_TYPE](
        header=header, name=names, position=angles, velocity=none, effort=none
    )


def stamp_nanoseconds(message: Any) -> int:
    """The header stamp of a message in nanoseconds."""
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def is_bag(path: str | Path) -> bool:
    """Whether a path looks like a bag: a rosbag2 folder, or a .mcap or .db3 file."""
    path = Path(path)
    return path.suffix in STORAGE_SUFFIXES or (path / "metadata.yaml").exists()


def bag_name(path: str | Path) -> str:
    """What a bag is called: the name of its folder, or of its file without .mcap or .db3."""
    return Path(path).name.removesuffix(".mcap").removesuffix(".db3")


class BagReader:
    """An open bag: a rosbag2 folder, or a single .mcap or .db3 file. Use it in a `with` block.

    Each message type comes from the bag itself where it holds that, else from `typestore`. Any
    damage is a BagError that names the bag, when opening or at the message concerned.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise BagError(f"bag {self.path} does not exist")
        if self.path.is_dir() and not (self.path / "metadata.yaml").exists():
            files = sorted(f.name for s in STORAGE_SUFFIXES for f in self.path.glob(f"*{s}"))
            hint = f"; {_MAKE}"
            if files:
                hint = (
                    f", as when its recording was interrupted; pass {self.path / files[0]} to read "
                    "that file alone, or let ros2 bag reindex write what is missing"
                )
            raise BagError(f"{self.path} is no bag: it has no metadata.yaml{hint}")
        if self.path.suffix in NO_BAGS and not self.path.is_dir():
            raise BagError(f"{self.path} is {NO_BAGS[self.path.suffix]}")
        if not self.path.is_dir() and self.path.suffix not in STORAGE_SUFFIXES:
            raise BagError(
                f"{self.path} is no bag: expected a rosbag2 folder, or a .mcap or .db3 file; "
                f"{_MAKE}"
            )
        self._check_nothing_is_beside()
        try:
            self._reader = Reader(self.path)
            self._reader.open()
        except Exception as error:  # damage shows as whatever the parsing code stumbles over
            raise self._unreadable(error) from error
        self._types: dict[str, Typestore] = {}  # by the message type that each is for
        self.topics = {
            name: Topic(name, info.msgtype or "", info.msgcount)
            for name, info in self._reader.topics.items()
        }

    def _check_nothing_is_beside(self) -> None:
        """SQLite's write-ahead log of a recording that was cut off: `rosbags` reads without it."""
        folder, name = (self.path, "") if self.path.is_dir() else (self.path.parent, self.path.name)
        for log in sorted(folder.glob("*.db3-wal")):
            file = log.name.removesuffix("-wal")
            if name in ("", file) and log.stat().st_size:
                raise BagError(
                    f"{log} holds messages that are not in {file} yet: its recording goes on, or "
                    f"was cut off; then `sqlite3 {file} 'PRAGMA journal_mode=DELETE'` brings them "
                    "in"
                )

    def _unreadable(self, error: Exception) -> BagError:
        reason = " ".join(str(error).split())  # YAML's has several lines
        return BagError(
            f"bag {self.path} cannot be read: {type(error).__name__}: {reason}; {_REPAIR}"
        )

    def records(self, topics: Collection[str] | None = None) -> Iterator[Record]:
        """Messages of `topics` (all if None) in the order in which they were logged.

        That is the order in which a live subscriber got them, so late stamps come late here too.
        Raises BagError for a topic that is not in the bag, and at a damaged message.
        """
        wanted = list(self.topics) if topics is None else topics
        for name in wanted:
            if name not in self.topics:
                raise BagError(
                    f"bag {self.path} has no topic {name}, but {', '.join(self.topics) or 'none'}"
                )
        connections = [c for c in self._reader.connections if c.topic in wanted]
        if not connections:
            return
        messages = self._reader.messages(connections)
        while True:
            try:
                connection, log_time, data = next(messages)
            except StopIteration:
                return
            except Exception as error:
                raise self._unreadable(error) from error
            yield Record(connection.topic, connection.msgtype, log_time, bytes(data))

    def decode(self, record: Record) -> Any:
        """The message of a record, as an object with the fields of its ROS type.

        Raises BagError if that is impossible.
        """
        try:
            if record.type not in self._types:
                self._types[record.type] = self._types_for(record.type)
            return self._types[record.type].deserialize_cdr(record.data, record.type)
        except Exception as error:
            raise BagError(
                f"a message on {record.topic} in bag {self.path} does not decode as {record.type}: "
                f"{error!r}; of a compressed bag give the folder, whose metadata.yaml says how"
            ) from error

    def _types_for(self, type: str) -> Typestore:
        """Those of the bag that make up one message type; what it says of others may be odd."""
        for connection in self._reader.connections:
            form, text = connection.msgdef.format, connection.msgdef.data
            if connection.msgtype != type or form == MessageDefinitionFormat.NONE or not text:
                continue
            store = get_typestore(Stores.EMPTY)
            if form == MessageDefinitionFormat.MSG:
                store.register(get_types_from_msg(text, type))
            else:  # between lines that name them, the type and those that it consists of
                store.register(get_types_from_idl(re.sub("^(=+|IDL: .*)$", "", text, flags=re.M)))
            return store
        return typestore()

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def image_topic(reader: BagReader, wanted: str | None = None) -> str:
    """The topic of a bag that holds its images, raw or compressed.

    `wanted` names it where there are several. Of a topic and its /compressed sibling the raw one
    is taken. Raises BagError when there is none, or more than one to choose from.
    """
    found = [
        t.name
        for t in reader.topics.values()
        if t.type in (IMAGE_TYPE, COMPRESSED_IMAGE_TYPE) and t.count
    ]
    if wanted is not None:
        if wanted in found:
            return wanted
        raise BagError(
            f"bag {reader.path} has no images on {wanted}; "
            f"it has images on: {', '.join(found) or 'no topic'}"
        )
    cameras = [
        name
        for name in found
        if not name.endswith("/compressedDepth")
        and name.removesuffix("/compressed") not in set(found) - {name}
    ]
    if not cameras:
        raise BagError(
            f"bag {reader.path} holds no images; its topics: {', '.join(reader.topics) or 'none'}"
        )
    if len(cameras) > 1:
        raise BagError(
            f"bag {reader.path} has images on several topics ({', '.join(cameras)}); "
            "say which with --image-topic"
        )
    return cameras[0]


def camera_info_topic(reader: BagReader, image: str, wanted: str | None = None) -> str | None:
    """The CameraInfo topic beside an image topic, the bag's only one if none is, or None.

    `wanted` names another. Raises BagError if there is none of that name.
    """
    infos = [t.name for t in reader.topics.values() if t.type == CAMERA_INFO_TYPE and t.count]
    if wanted is not None and wanted not in infos:
        raise BagError(
            f"bag {reader.path} has no camera info on {wanted}; "
            f"it has camera info on: {', '.join(infos) or 'no topic'}"
        )
    sibling = camera_info_beside(image)
    if wanted is not None or sibling in infos:
        return wanted or sibling
    return infos[0] if len(infos) == 1 else None


def camera_info_beside(image: str) -> str:
    """Where a driver publishes the CameraInfo of an image topic."""
    return image.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"


class BagWriter:
    """A new bag, a folder with one MCAP or SQLite file. Use it in a `with` block.

    The bag is readable once it is closed. Raises BagError when `path` exists or `storage` is
    neither "mcap" nor "sqlite3", and OSError with its path when the disk is full.
    """

    def __init__(self, path: str | Path, storage: str = "mcap") -> None:
        self.path = Path(path)
        if storage not in _STORAGES:
            raise BagError(f"storage is {storage!r}; expected one of {', '.join(_STORAGES)}")
        if os.path.lexists(self.path):
            raise BagError(f"{self.path} exists already and is not overwritten")
        self._writer = Writer(self.path, version=_BAG_VERSION, storage_plugin=_STORAGES[storage])
        self._writer.open()
        self._connections: dict[str, Connection] = {}

    def add_topic(self, name: str, type: str) -> None:
        """Declare a topic before writing to it. Raises BagError for an unknown message type."""
        if type not in typestore().types:
            raise BagError(f"message type {type!r} of topic {name} is unknown")
        if name not in self._connections:
            # What writes it is generated when first asked for, in as long as several images take.
            typestore().get_msgdef(type)
            self._connections[name] = self._writer.add_connection(name, type, typestore=typestore())

    def note(self, key: str, text: str) -> None:
        """Put a line about the bag into its metadata, as custom_data; an MCAP file holds it too."""
        self._writer.set_custom_data(key, text)

    def write(self, topic: str, log_time: int, data: bytes | memoryview) -> None:
        """Append a message's CDR bytes as they are. `log_time` in ns."""
        connection = self._connection(topic)
        with naming(self.path):
            self._writer.write(connection, log_time, data)

    def write_message(self, topic: str, log_time: int, message: Any) -> None:
        """Append a message made of the classes in `typestore`. `log_time` in ns."""
        kind = self._connection(topic).msgtype
        self.write(topic, log_time, typestore().serialize_cdr(message, kind))

    def _connection(self, topic: str) -> Connection:
        if topic not in self._connections:
            raise BagError(f"topic {topic} has not been added to bag {self.path}")
        return self._connections[topic]

    def close(self) -> None:
        with naming(self.path):
            self._writer.close()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

"""Messages to arrays and back: images, camera models, skeletons and their joint angles."""

from __future__ import annotations

import array
from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import ColorRGBA, Header
from stsp.msg import Keypoint2D, Keypoint3D, Skeleton3D, Skeleton3DArray
from visualization_msgs.msg import Marker, MarkerArray

from stsp_model import messages, pose
from stsp_model.angles import named_angles
from stsp_model.images import UnknownEncodingError, decode_compressed, decode_image

_JPEG_QUALITY = 80
TYPES = messages.MessageTypes(
    Duration=Duration,
    Point=Point,
    Pose=Pose,
    Quaternion=Quaternion,
    Vector3=Vector3,
    ColorRGBA=ColorRGBA,
    Marker=Marker,
    MarkerArray=MarkerArray,
    Keypoint2D=Keypoint2D,
    Keypoint3D=Keypoint3D,
    Skeleton3D=Skeleton3D,
    Skeleton3DArray=Skeleton3DArray,
)
skeletons_message = partial(messages.skeletons_message, TYPES)


def stamp_seconds(stamp: Any) -> float:
    """Seconds of a builtin_interfaces/Time."""
    return float(stamp.sec) + 1e-9 * float(stamp.nanosec)


def image_from_message(message: Image | CompressedImage) -> npt.NDArray[np.uint8]:
    """Pixels (H, W, 3) uint8 BGR of a raw or compressed image; a view of the message for bgr8.

    An encoding that we do not know goes through cv_bridge where that is installed. Raises
    ValueError with the reason for an image that cannot be decoded.
    """
    if isinstance(message, CompressedImage):
        return decode_compressed(message.data, message.format)
    try:
        return decode_image(
            message.height,
            message.width,
            message.encoding,
            message.step,
            message.data,
            bool(message.is_bigendian),
        )
    except UnknownEncodingError as error:
        return _through_cv_bridge(message, error)


def _through_cv_bridge(message: Image, unknown: UnknownEncodingError) -> npt.NDArray[np.uint8]:
    try:
        # Imported only when needed: a cv_bridge built for NumPy 1 breaks under NumPy 2.
        from cv_bridge import CvBridge
    except Exception as error:
        raise ValueError(f"{unknown} (and cv_bridge cannot be imported: {error})") from error
    try:
        return np.asarray(CvBridge().imgmsg_to_cv2(message, "bgr8"), np.uint8)
    except Exception as error:
        raise ValueError(f"{unknown} (and cv_bridge refuses it: {error})") from error


def image_message(image: npt.NDArray[np.uint8], header: Header) -> Image:
    """A bgr8 message of (H, W, 3) uint8 BGR pixels."""
    height, width = image.shape[:2]
    # Image.data takes an array.array as it is; bytes or a list would be copied one by one.
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(image).data.cast("B"))
    return Image(
        header=header,
        height=height,
        width=width,
        encoding="bgr8",
        is_bigendian=0,
        step=3 * width,
        data=data,
    )


def jpeg_message(image: npt.NDArray[np.uint8], header: Header) -> CompressedImage:
    """A JPEG of (H, W, 3) uint8 BGR pixels."""
    encoded, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not encoded:
        raise ValueError(f"image of shape {image.shape} does not encode as JPEG")
    message = CompressedImage(header=header, format="bgr8; jpeg compressed bgr8")
    message.data.frombytes(jpeg.tobytes())
    return message


def joint_angles_message(poses: Sequence[pose.Pose], header: Header) -> JointState:
    """The joint angles, in radians, of everyone seen in one image, named `<id>/left_knee`.

    Unknown angles are NaN; who is lost has none.
    """
    names, angles = named_angles(poses)
    return JointState(header=header, name=names, position=array.array("d", angles))

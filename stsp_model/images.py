"""Pixels of ROS image messages, raw or compressed, as BGR arrays; from the fields, without ROS."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

# OpenCV names a Bayer pattern by the second row's second and third pixel, ROS from the corner on.
_BAYER = {
    "bayer_rggb8": cv2.COLOR_BayerBG2BGR,
    "bayer_bggr8": cv2.COLOR_BayerRG2BGR,
    "bayer_gbrg8": cv2.COLOR_BayerGR2BGR,
    "bayer_grbg8": cv2.COLOR_BayerGB2BGR,
}
# Encoding -> bytes a pixel and OpenCV's conversion to BGR; None where it is BGR already.
_PACKED: dict[str, tuple[int, int | None]] = {
    "bgr8": (3, None),
    "8UC3": (3, None),
    "rgb8": (3, cv2.COLOR_RGB2BGR),
    "bgra8": (4, cv2.COLOR_BGRA2BGR),
    "8UC4": (4, cv2.COLOR_BGRA2BGR),
    "rgba8": (4, cv2.COLOR_RGBA2BGR),
    "mono8": (1, cv2.COLOR_GRAY2BGR),
    "8UC1": (1, cv2.COLOR_GRAY2BGR),
    "mono16": (2, cv2.COLOR_GRAY2BGR),
    "16UC1": (2, cv2.COLOR_GRAY2BGR),
    "yuv422": (2, cv2.COLOR_YUV2BGR_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2BGR_YUYV),
    "yuyv": (2, cv2.COLOR_YUV2BGR_YUYV),
    **{pattern: (1, conversion) for pattern, conversion in _BAYER.items()},
}
_SIXTEEN_BIT = ("mono16", "16UC1")
_NV21 = "nv21"  # planar: height rows of luma, then height / 2 rows of interleaved V and U
ENCODINGS = (*_PACKED, _NV21)

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


class UnknownEncodingError(ValueError):
    """The encoding is none of ENCODINGS; another converter may know it."""


def decode_image(
    height: int, width: int, encoding: str, step: int, data: Any, is_bigendian: bool = False
) -> Image:
    """Pixels of a sensor_msgs/Image as (H, W, 3) uint8 BGR.

    `data` is anything with the buffer interface (bytes, array.array, a uint8 array); `step` is the
    length of a row in bytes, padding included. bgr8 is a view of `data`, read-only where `data` is
    and strided where rows are padded. 16-bit pixels keep their upper byte.

    Raises UnknownEncodingError, and ValueError for sizes that contradict each other.
    """
    if encoding not in ENCODINGS:
        raise UnknownEncodingError(
            f"image encoding {encoding!r} is not supported; expected one of {', '.join(ENCODINGS)}"
        )
    if height < 1 or width < 1:
        raise ValueError(f"image is {width}x{height}; expected at least 1x1 pixels")
    if encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv", _NV21) and width % 2:
        raise ValueError(f"{encoding} image is {width} wide; expected an even width")
    if encoding == _NV21 and height % 2:
        raise ValueError(f"{encoding} image is {height} high; expected an even height")

    pixel, conversion = _PACKED.get(encoding, (1, cv2.COLOR_YUV2BGR_NV21))
    rows = height * 3 // 2 if encoding == _NV21 else height
    if step < width * pixel:
        raise ValueError(
            f"image step is {step} bytes; a row of {width} {encoding} pixels has {width * pixel}"
        )
    buffer = memoryview(data).cast("B")
    needed = step * (rows - 1) + width * pixel  # the last row may come without its padding
    if len(buffer) < needed:
        raise ValueError(
            f"image data is cut off: {len(buffer)} bytes came, a {width}x{height} {encoding} image "
            f"with a step of {step} has {needed}"
        )

    view: Image
    if encoding in _SIXTEEN_BIT:
        high = buffer if is_bigendian else buffer[1:]  # the upper byte of each pixel
        view = np.ndarray((rows, width), np.uint8, high, strides=(step, 2))
    elif pixel == 1:
        view = np.ndarray((rows, width), np.uint8, buffer, strides=(step, 1))
    else:
        view = np.ndarray((rows, width, pixel), np.uint8, buffer, strides=(step, pixel, 1))
    if conversion is None:
        return view
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(view), conversion), np.uint8)


def is_compressed(encoded: bytes) -> bool:
    """Whether bytes begin as a format does that `decode_compressed` takes."""
    return encoded.startswith((_JPEG_START, _PNG_START))


def decode_compressed(data: Any, format: str = "") -> Image:
    """Pixels of a sensor_msgs/CompressedImage (JPEG or PNG) as (H, W, 3) uint8 BGR.

    An EXIF rotation is ignored: the camera matrix belongs to the stored pixels. `format` is the
    message's field; image_transport's "rgb8; png compressed rgb8" means swapped red and blue, and
    "bayer_rggb8; png compressed " that the sensor's mosaic was compressed as it is.

    Raises ValueError when it is another format, cut off or does not decode.
    """
    encoded = bytes(data)
    if encoded.startswith(_JPEG_START):
        # Entropy-coded data holds neither marker, so an end after the last scan means it is whole.
        name, whole = "JPEG", encoded.rfind(_JPEG_END) > encoded.rfind(_JPEG_SCAN)
    elif encoded.startswith(_PNG_START):
        name, whole = "PNG", _PNG_END in encoded
    else:
        raise ValueError(
            f"compressed image of format {format!r} ({len(encoded)} bytes) is neither JPEG nor PNG"
        )
    if not whole:
        raise ValueError(f"{name} image is cut off: its end is missing after {len(encoded)} bytes")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error as error:  # of a size beyond all reason, say
        raise ValueError(
            f"{name} image of {len(encoded)} bytes does not decode: {error.err}"
        ) from error
    if image is None:
        raise ValueError(f"{name} image of {len(encoded)} bytes does not decode")
    pattern = format.partition(";")[0].replace("16", "8")
    if "compressed rgb" in format:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    elif pattern in _BAYER and format.rstrip().endswith("compressed"):
        image = cv2.cvtColor(np.ascontiguousarray(image[..., 0]), _BAYER[pattern])
    return np.asarray(image, np.uint8)

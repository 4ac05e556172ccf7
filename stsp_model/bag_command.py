"""`stsp bag`: a video or a folder of images as a bag, such as a camera's driver would record."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from stsp_model.bag import (
    CAMERA_INFO_TOPIC,
    CAMERA_INFO_TYPE,
    COMPRESSED_IMAGE_TYPE,
    FRAME_ID,
    IMAGE_TOPIC,
    BagWriter,
    camera_info,
    header,
    is_bag,
    typestore,
)
from stsp_model.camera import Camera
from stsp_model.sources import Source, SourceError, open_source

_QUALITY = 95  # of the JPEGs


def write_bag(
    source: Source, path: Path, field_of_view: float | None = None, bar: bool = False
) -> int:
    """Write the frames of a source as JPEG into a new MCAP bag, the folder `path`.

    Args:
        field_of_view: degrees that the picture's longer side is across, for camera info of a lens
            without distortion; None: the bag gets none.
        bar: whether to show a progress bar.

    Returns:
        how many frames there were.

    Raises:
        ValueError, SourceError, BagError: with a sentence. OSError: if `path` cannot be written.
            No part of a bag stays behind then, nor after Ctrl-C.
    """
    camera = None
    if field_of_view is not None:
        camera = Camera.of_field_of_view(field_of_view, *source.size)
    bag = BagWriter(path)
    try:
        with bag:
            bag.note("source", source.name)
            bag.add_topic(IMAGE_TOPIC, COMPRESSED_IMAGE_TYPE)
            if camera:
                bag.add_topic(CAMERA_INFO_TOPIC, CAMERA_INFO_TYPE)
            frames = tqdm(
                source.frames(), total=source.count or None, unit=" images", disable=not bar
            )
            count = 0
            for frame in frames:
                count += 1
                own = header(frame.stamp, FRAME_ID)
                height, width = frame.image.shape[:2]
                if camera:
                    info = camera_info(camera.scaled(width, height), own)
                    bag.write_message(CAMERA_INFO_TOPIC, frame.stamp, info)
                options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
                encoded, jpeg = cv2.imencode(".jpg", frame.image, options)
                if not encoded:
                    raise SourceError(
                        f"image of {width}x{height} px at {frame.stamp / 1e9:.3f} s cannot be a "
                        "JPEG; leave it out, or make it smaller"
                    )
                image = typestore().types[COMPRESSED_IMAGE_TYPE](
                    header=own, format="bgr8; jpeg compressed bgr8", data=jpeg.ravel()
                )
                bag.write_message(IMAGE_TOPIC, frame.stamp, image)
    except BaseException:
        shutil.rmtree(path)
        raise
    return count


def bag(options: argparse.Namespace) -> int:
    """Run `stsp bag`; returns the exit code."""
    try:
        if is_bag(options.source):
            raise SourceError(f"{options.source} is a bag already")
        source = open_source(options.source)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        frames = write_bag(source, options.out, options.fov, sys.stderr.isatty())
    except (ValueError, OSError) as error:
        print(f"stsp bag: {error}", file=sys.stderr)
        return 1
    calibration = (
        f"and {CAMERA_INFO_TOPIC}" if options.fov is not None else "and no camera info (see --fov)"
    )
    print(f"{options.out}: {frames} images on {IMAGE_TOPIC}, {calibration}")
    return 0


def add_command(commands: Any) -> None:
    """Add `bag` to the subparsers of the `stsp` command."""
    command = commands.add_parser(
        "bag",
        help="make a bag of a video or a folder of images",
        description=(
            "Write a video's frames as JPEG into a bag (MCAP), with the video's own times as "
            "stamps, from 1 s on. The bag holds pictures of whoever is in the video."
        ),
    )
    command.add_argument("source", type=Path, metavar="VIDEO", help="or a folder of images")
    command.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="BAG",
        help="a folder, which must not exist",
    )
    command.add_argument(
        "--fov",
        type=float,
        metavar="DEG",
        help="what the picture's longer side is across, for camera info; without it distances "
        "stay unknown",
    )
    command.set_defaults(run=bag)

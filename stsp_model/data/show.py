"""Contact sheets of data sets with the joints drawn in, to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stsp_model.crop import crop, crop_box
from stsp_model.data.childplay import Clip, Head
from stsp_model.data.errors import DataError
from stsp_model.data.formats import VIDEO, open_dataset, split_spec
from stsp_model.data.samples import FloatArray, ImagePose, Motion
from stsp_model.drawing import Image, contact_sheet, draw_skeleton, draw_text
from stsp_model.skeleton import INDEX
from stsp_model.sources import Frame, open_source

TILE, FIGURE_WIDTH = 320, 480  # px; side of a tile, width of one with two figures
_MARGIN = 1.6  # of a tile around the person's box
_HIDDEN = 0.15  # confidence that a labelled but hidden joint is drawn with
_MOMENTS = 4  # of each motion, where there are several
_BACKGROUND, _GROUND = (74, 68, 64), (120, 112, 106)
_CHILD, _ADULT = (80, 200, 255), (190, 190, 190)  # BGR of head boxes


def _evenly(length: int, count: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, length - 1, min(count, length))})


def image_tile(sample: ImagePose) -> Image:
    """The surroundings of one person (TILE, TILE, 3), labelled but hidden joints faded."""
    box = sample.box
    if not np.isfinite(box).all() or not (box[2:] > box[:2]).all():
        height, width = sample.image.shape[:2]
        box = np.array([0.0, 0.0, width - 1.0, height - 1.0])
    box = crop_box(box, (TILE, TILE), _MARGIN)
    tile = crop(sample.image, box, (TILE, TILE))
    scale = TILE / (box[2:] - box[:2])
    place = (sample.joints - box[:2]) * scale - 0.5
    draw_skeleton(tile, place, np.where(sample.visible, 1.0, _HIDDEN))
    return tile


def figure_axes(motion: Motion) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The person's right, up and front (3,) where the motion begins, in the axes of its joints.

    Where the motion's up is unknown, that of the camera is taken.
    """
    up = motion.up if np.isfinite(motion.up).all() else np.array([0.0, -1.0, 0.0])
    hips = motion.joints[:, INDEX["right_hip"]] - motion.joints[:, INDEX["left_hip"]]
    right = hips - (hips @ up)[:, None] * up
    length = np.linalg.norm(right, axis=1)
    steady = np.flatnonzero(length > 0.05)  # m; of somebody on his side the hips lie above another
    if not len(steady):
        raise DataError(f"{motion.name} has no frame with both hips side by side")
    first = right[steady[0]] / length[steady[0]]
    return first, up, np.cross(up, first)


def motion_tiles(motion: Motion, count: int) -> list[tuple[Image, str]]:
    """Moments of a motion, each as a stick figure from the front and from its right side.

    The view is that of the first frame throughout; the pelvis stays in the middle, and heights are
    above the lowest joint of the whole motion.
    """
    right, up, front = figure_axes(motion)
    # Only frames with a pelvis: sets mark some as invalid.
    known = np.flatnonzero(motion.mask[:, INDEX["pelvis"]])
    height = motion.joints @ up
    ground = float(np.nanmin(height))
    offsets = motion.joints[known] - motion.joints[known][:, [INDEX["pelvis"]]]
    reach = max(float(np.nanmax(np.abs(offsets @ axis))) for axis in (right, front))
    panel = FIGURE_WIDTH / 2
    tall = max(float(np.nanmax(height)) - ground, 1.6)  # m
    scale = min(0.82 * TILE / tall, 0.48 * panel / reach)  # px per m
    base = 0.92 * TILE
    tiles = []
    for moment in _evenly(len(known), count):
        frame = known[moment]
        tile = np.full((TILE, FIGURE_WIDTH, 3), _BACKGROUND, np.uint8)
        cv2.line(tile, (0, round(base)), (FIGURE_WIDTH, round(base)), _GROUND, 1)
        down = base - (height[frame] - ground) * scale
        for middle, across in ((0.5 * panel, -right), (1.5 * panel, front)):
            draw_skeleton(tile, np.stack([middle + offsets[moment] @ across * scale, down], axis=1))
        tiles.append((tile, f"{motion.name} {motion.stamps[frame]:.2f} s"))
    return tiles


def _shrunk(image: npt.NDArray[np.uint8]) -> tuple[Image, float]:
    """The image with its longer side TILE px, and the scale that took it there."""
    height, width = image.shape[:2]
    scale = TILE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _head_tile(frame: Frame, heads: tuple[Head, ...]) -> Image:
    image, scale = _shrunk(frame.image)
    tile = np.full((TILE, TILE, 3), _BACKGROUND, np.uint8)  # clips differ in shape
    height, width = image.shape[:2]
    x, y = (TILE - width) // 2, (TILE - height) // 2
    tile[y : y + height, x : x + width] = image
    for head in heads:
        corners = np.round(head.box.reshape(2, 2) * scale + (x, y)).astype(int)
        colour = _CHILD if head.is_child else _ADULT
        cv2.rectangle(tile, corners[0].tolist(), corners[1].tolist(), colour, 2)
        left, top = corners[0].tolist()
        draw_text(tile, "child" if head.is_child else "adult", (left, max(12, top - 4)), 8)
    return tile


def _first_heads(clip: Clip) -> Iterator[tuple[Image, str]]:
    for frame, heads in clip.frames():
        if heads:
            yield _head_tile(frame, heads), clip.name
            return


def _video_tiles(path: Path, count: int) -> list[tuple[Image, str]]:
    source = open_source(path)
    wanted = set(_evenly(max(source.count, 1), count))
    tiles: list[tuple[Image, str]] = []
    first: int | None = None
    for number, frame in enumerate(source.frames()):
        first = frame.stamp if first is None else first
        if number in wanted:
            tiles.append((_shrunk(frame.image)[0], f"{(frame.stamp - first) / 1e9:.2f} s"))
        if len(tiles) == len(wanted):
            break
    return tiles


def sheet(spec: str, count: int, split: str | None = None) -> Image:
    """The contact sheet of "FORMAT:PATH", about `count` tiles spread evenly over the set.

    FORMAT is one of `FORMATS`, or "video" for a video, a folder of images or a bag.

    Raises:
        DataError, SourceError, BagError: if the set cannot be read.
    """
    if count < 1:
        raise DataError(f"count is {count}, expected at least 1")
    name, path = split_spec(spec)
    if name == VIDEO:
        if split is not None:
            raise DataError(f"split is {split!r}, but a video has none")
        return contact_sheet(_video_tiles(path, count), path.name)
    data: Any = open_dataset(spec, split)
    part = "" if split is None else f", {split}"
    title = f"{path.resolve().name}{part}: {len(data)} item{'s' * (len(data) != 1)}"
    tiles: list[tuple[Image, str]] = []
    moments = count if len(data) == 1 else min(_MOMENTS, count)
    single = data[0]
    for index in _evenly(len(data), count // moments if isinstance(single, Motion) else count):
        item = data[index]
        if isinstance(item, Motion):
            tiles += motion_tiles(item, moments)
        elif isinstance(item, ImagePose):
            tiles.append((image_tile(item), item.name))
        else:
            tiles += _first_heads(item)
    if not tiles:
        raise DataError(f"{path} holds nothing that could be drawn")
    return contact_sheet(tiles, title)

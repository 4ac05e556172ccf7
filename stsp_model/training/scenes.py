"""Pictures of nobody and of several people, made from pictures of one: for the finder.

Data sets of sport show one annotated person each. A frame with several is put together from as many
pictures, one of nobody from what lies beside people.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from stsp_model.crop import whole_image
from stsp_model.data.samples import FloatArray
from stsp_model.finder import FINDER_SIZE, FINDER_STRIDE
from stsp_model.training.augment import Image, warp
from stsp_model.training.datasets import Picture

_MARGIN = 0.15  # around a box of joints, of its sides: heads, hands and feet stick out of it
_OVERLAP = 0.05  # of a region that may lie within somebody's box, where it stands alone
_LEAST_REGION = 16  # px; smaller pieces show nothing
_VISIBLE = 0.4  # of a box that must be in the frame for somebody to count as being there
_TRIES = 12
_FAR = 0.4  # chance of small people, far away in a wide picture
_PIECE = (0.2, 0.6)  # of the frame's sides: what a far person's picture takes of it


def empty_region(
    rng: np.random.Generator,
    size: tuple[int, int],
    people: FloatArray,
    ratio: float,
    overlap: float = _OVERLAP,
) -> FloatArray | None:
    """A part (4,) of a picture in which nobody is, or None if none was found.

    Args:
        size: (width, height) of the picture.
        people: (P, 4) their boxes.
        ratio: width over height of the part.
        overlap: share of the part that may lie within somebody's box.
    """
    grown = people.copy()
    margin = _MARGIN * (people[:, 2:] - people[:, :2])
    grown[:, :2] -= margin
    grown[:, 2:] += margin
    largest = min(size[0] / ratio, size[1])
    for _ in range(_TRIES):
        height = largest * rng.uniform(0.15, 0.7)
        width = height * ratio
        if min(width, height) < _LEAST_REGION:
            continue
        x, y = rng.uniform(0, size[0] - width), rng.uniform(0, size[1] - height)
        region = np.array([x, y, x + width, y + height]) - 0.5
        low = np.maximum(grown[:, :2], region[:2])
        high = np.minimum(grown[:, 2:], region[2:])
        if (np.prod(np.clip(high - low, 0, None), axis=1) <= overlap * width * height).all():
            return region
    return None


def nobody(
    rng: np.random.Generator, picture: Picture, size: tuple[int, int], overlap: float = _OVERLAP
) -> Image:
    """A picture of `size` (width, height) that shows nobody; `overlap` as in `empty_region`."""
    image, people = picture
    whole = (image.shape[1], image.shape[0])
    region = empty_region(rng, whole, people, size[0] / size[1], overlap)
    if region is None:
        return texture(rng, size)
    scale = np.array(size) / (region[2:] - region[:2])
    if rng.random() < 0.5:
        region, scale[0] = region[[2, 1, 0, 3]], -scale[0]  # mirrored
    matrix = np.array([[scale[0], 0, 0], [0, scale[1], 0]])
    matrix[:, 2] = -region[:2] * scale - 0.5
    return warp(image, matrix, size)


def texture(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """A smooth random pattern of two scales, like a wall, a lawn or the sky."""
    width, height = size
    total = np.full((height, width, 3), rng.uniform(30, 220, 3))
    for cells, strength in ((rng.integers(2, 6), 50.0), (rng.integers(12, 60), 25.0)):
        coarse = rng.normal(0, strength * rng.random(), (int(cells), int(cells), 3))
        total += cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    return np.clip(total, 0, 255).astype(np.uint8)


def scene(rng: np.random.Generator, count: int, pick: Callable[[int], Picture]) -> Picture:
    """A frame with `count` annotated people, 0 to 4, and their boxes (P, 4) in it.

    One is left in the picture as it was taken, letterboxed or cut. Several are put side by side.
    In some frames all are far away: small, before one wide background. Fewer boxes come back when
    too little of somebody is in the frame, more when a picture shows more people than one.

    Args:
        pick: gives the n-th picture to take; asked for 0 to `count` - 1, and for 0 at least.
    """
    size = FINDER_SIZE
    if count == 0:
        return nobody(rng, pick(0), size), np.zeros((0, 4))
    if rng.random() < _FAR:
        return _far(rng, [pick(number) for number in range(count)], size)
    if count == 1:
        return _placed(rng, pick(0), size, whole=True)
    frame = np.empty((size[1], size[0], 3), np.uint8)
    boxes = []
    for number, (x0, y0, x1, y1) in enumerate(_cells(rng, count, size)):
        part, found = _placed(rng, pick(number), (x1 - x0, y1 - y0), whole=False)
        frame[y0:y1, x0:x1] = part
        boxes.append(found + np.array([x0, y0, x0, y0]))
    return frame, np.concatenate(boxes)


def _far(rng: np.random.Generator, pictures: list[Picture], size: tuple[int, int]) -> Picture:
    """People in small pieces of a frame, before a background that shows nobody."""
    frame = nobody(rng, pictures[0], size, overlap=0.0)
    taken = np.zeros((0, 4))
    boxes = [np.zeros((0, 4))]
    for picture in pictures:
        share = math.exp(rng.uniform(math.log(_PIECE[0]), math.log(_PIECE[1])))
        side = np.maximum(np.array(size) * share * rng.uniform(0.8, 1.25, 2), _LEAST_REGION)
        width, height = (int(x) for x in np.minimum(side, size))
        for _ in range(_TRIES):
            x, y = rng.integers(size[0] - width + 1), rng.integers(size[1] - height + 1)
            cell = np.array([x, y, x + width, y + height], dtype=np.float64)
            low, high = np.maximum(taken[:, :2], cell[:2]), np.minimum(taken[:, 2:], cell[2:])
            if not (high > low).all(axis=1).any():
                break
        else:
            continue
        taken = np.concatenate([taken, cell[None]])
        piece, found = _placed(rng, picture, (width, height), whole=False)
        frame[y : y + height, x : x + width] = piece
        boxes.append(found + np.array([x, y, x, y]))
    return frame, np.concatenate(boxes)


def _cells(
    rng: np.random.Generator, count: int, size: tuple[int, int]
) -> list[tuple[int, int, int, int]]:
    """The frame cut into `count` parts: columns, two of which may be cut once more."""
    columns = {2: (1, 1), 3: ((1, 2), (2, 1), (1, 1, 1))[rng.integers(3)], 4: (2, 2)}[count]
    cuts = [round(size[0] * (i + rng.uniform(-0.15, 0.15)) / len(columns)) for i in range(1, 3)]
    edges = [0, *cuts[: len(columns) - 1], size[0]]
    cells = []
    for rows, x0, x1 in zip(columns, edges[:-1], edges[1:], strict=True):
        middle = round(size[1] * rng.uniform(0.4, 0.6))
        for y0, y1 in ((0, size[1]),) if rows == 1 else ((0, middle), (middle, size[1])):
            cells.append((x0, y0, x1, y1))
    return cells


def _placed(
    rng: np.random.Generator, picture: Picture, size: tuple[int, int], whole: bool
) -> Picture:
    """A picture scaled and moved into a frame; `whole`: about as it is, else about one person."""
    image, people = picture
    extent = np.array(size, dtype=np.float64)
    whole_box = whole_image(image.shape[1], image.shape[0])
    if whole or not len(people):
        scale = (extent / (whole_box[2:] - whole_box[:2])).min() * rng.uniform(0.6, 1.4)
        centre = (whole_box[:2] + whole_box[2:]) / 2
        moved = extent * rng.uniform(-0.15, 0.15, 2)
    else:
        box = people[rng.integers(len(people))]
        sides = np.maximum(box[2:] - box[:2], 8)
        scale = (extent / sides).min() * math.exp(rng.uniform(math.log(0.35), math.log(1.0)))
        centre = (box[:2] + box[2:]) / 2
        moved = rng.uniform(-0.5, 0.5, 2) * np.clip(extent - scale * sides, 0, None)
    mirror = -1 if rng.random() < 0.5 else 1
    linear = np.array([scale * mirror, scale])
    shift = extent / 2 - 0.5 + moved - linear * centre
    frame = warp(image, np.stack([[linear[0], 0, shift[0]], [0, linear[1], shift[1]]]), size)
    corners = people.reshape(-1, 2, 2) * linear + shift
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    inside = np.clip(boxes, -0.5, np.tile(extent, 2) - 0.5)
    kept = _area(inside) >= _VISIBLE * _area(boxes)
    return frame, inside[kept & (_area(inside) > 0)]


def _area(boxes: FloatArray) -> FloatArray:
    area: FloatArray = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return area


def finder_targets(
    boxes: FloatArray,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """What the finder should say of a frame with people in boxes (P, 4).

    Returns:
        centres (h/8, w/8): a Gaussian per person, as wide as a tenth of the box, exactly 1 in the
        cell that holds the box's centre; distances (4, h/8, w/8) from a cell's centre to the box's
        edges, in and around the centre's cell, and where they are given (h/8, w/8). The smaller of
        two people goes before the larger.
    """
    width, height = (side // FINDER_STRIDE for side in FINDER_SIZE)
    centres = np.zeros((height, width), np.float32)
    distances = np.ones((4, height, width), np.float32)
    known = np.zeros((height, width), dtype=bool)
    y, x = np.mgrid[:height, :width]
    px, py = (FINDER_STRIDE * grid + (FINDER_STRIDE - 1) / 2 for grid in (x, y))
    for box in boxes[np.argsort(-_area(boxes), kind="stable")]:
        middle = (box[:2] + box[2:]) / 2
        column, row = (
            int(np.clip(round((m - (FINDER_STRIDE - 1) / 2) / FINDER_STRIDE), 0, n - 1))
            for m, n in zip(middle, (width, height), strict=True)
        )
        spread = np.maximum((box[2:] - box[:2]) / FINDER_STRIDE / 10, 0.6)
        away = ((x - column) / spread[0]) ** 2 + ((y - row) / spread[1]) ** 2
        centres = np.maximum(centres, np.exp(-away / 2).astype(np.float32))
        sides = np.stack([px - box[0], py - box[1], box[2] - px, box[3] - py])
        near = (abs(x - column) <= 1) & (abs(y - row) <= 1) & (sides > 0.5).all(axis=0)
        near[row, column] = True
        distances[:, near] = np.maximum(sides[:, near], 0.5)
        known |= near
    return centres, distances, known

"""Pictures for people: a skeleton drawn over its frame, and a contact sheet of such frames."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from stsp_model.skeleton import BONES, JOINT_COUNT, SIDES

Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

# RGB, 0..255, told apart by people with red-green blindness too.
SIDE_COLOURS: dict[str, Colour] = {
    "left": (64, 200, 255),
    "right": (255, 150, 40),
    "middle": (245, 240, 225),
}
_GREY = (128, 128, 128)
_DARK = (32, 28, 26)
_PAPER = (250, 250, 250)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SUBPIXEL_BITS = 4
TITLE_HEIGHT = 44  # px, of a contact sheet
_FARTHEST = 20_000.0  # px; OpenCV's fixed-point coordinates overflow far beyond


def _bgr(side: str, confidence: float) -> Colour:
    """The side's colour, fading to grey as confidence falls."""
    weight = 0.25 + 0.75 * min(max(confidence, 0.0), 1.0)
    mixed = [
        round(weight * c + (1 - weight) * g) for c, g in zip(SIDE_COLOURS[side], _GREY, strict=True)
    ]
    return mixed[2], mixed[1], mixed[0]


def _fixed(point: npt.NDArray[np.floating]) -> tuple[int, int]:
    return round(float(point[0]) * (1 << _SUBPIXEL_BITS)), round(
        float(point[1]) * (1 << _SUBPIXEL_BITS)
    )


def draw_text(image: Image, text: str, origin: tuple[int, int], height: float) -> None:
    """Write `text` on `image` in place, on a dark ground.

    Its baseline starts at `origin`; capitals are about `height` px tall.
    """
    scale = height / 22.0  # the font's capitals are 22 px tall at scale 1
    thickness = max(1, round(height / 12.0))
    (width, ascent), descent = cv2.getTextSize(text, _FONT, scale, thickness)
    margin = max(2, round(height / 5))
    x, y = origin
    cv2.rectangle(
        image,
        (x - margin, y - ascent - margin),
        (x + width + margin, y + descent // 2 + margin),
        _DARK,
        cv2.FILLED,
    )
    cv2.putText(image, text, origin, _FONT, scale, _PAPER, thickness, cv2.LINE_AA)


def draw_skeleton(
    image: Image,
    joints_2d: npt.ArrayLike,
    confidence: npt.ArrayLike | None = None,
    *,
    label: str = "",
    box: npt.ArrayLike | None = None,
) -> None:
    """Draw one skeleton on `image` (H, W, 3) uint8 BGR, in place.

    `joints_2d` (17, 2) px, NaN where unknown: such joints and their bones are left out.
    `confidence` (17,) in 0..1 fades a joint to grey; without it all are drawn in full colour.
    `box` (4,) x0 y0 x1 y1 px and `label` are drawn as well where given. Lines grow with the image.

    Raises ValueError for other shapes or an image that cannot be drawn on.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image is {image.shape} {image.dtype}; expected (H, W, 3) uint8")
    if not (image.flags.writeable and image.flags.c_contiguous):
        raise ValueError("image is read-only or not contiguous; pass a copy to draw on")
    points = np.asarray(joints_2d, np.float64)
    if points.shape != (JOINT_COUNT, 2):
        raise ValueError(f"joints_2d has shape {points.shape}; expected ({JOINT_COUNT}, 2)")
    trust = np.ones(JOINT_COUNT) if confidence is None else np.asarray(confidence, np.float64)
    if trust.shape != (JOINT_COUNT,):
        raise ValueError(f"confidence has shape {trust.shape}; expected ({JOINT_COUNT},)")
    trust = np.nan_to_num(trust)
    drawable = np.all(np.abs(points) < _FARTHEST, axis=1)  # False for NaN

    unit = max(1.0, min(image.shape[:2]) / 240.0)
    width = max(2, round(2 * unit))
    corner = None
    if box is not None:
        edges = np.asarray(box, np.float64)
        if edges.shape != (4,):
            raise ValueError(f"box has shape {edges.shape}; expected (4,)")
        if (np.abs(edges) < _FARTHEST).all():
            corner = edges[:2]
            cv2.rectangle(
                image,
                _fixed(edges[:2]),
                _fixed(edges[2:]),
                _PAPER,
                max(1, round(unit)),
                cv2.LINE_AA,
                _SUBPIXEL_BITS,
            )

    bones = [(a, b) for a, b in BONES if drawable[a] and drawable[b]]
    for outline in (True, False):  # all outlines first, so that none cuts through a bone
        for a, b in bones:
            side = SIDES[b] if SIDES[b] != "middle" else SIDES[a]
            colour = _DARK if outline else _bgr(side, float(min(trust[a], trust[b])))
            thickness = width + 2 if outline else width
            cv2.line(
                image,
                _fixed(points[a]),
                _fixed(points[b]),
                colour,
                thickness,
                cv2.LINE_AA,
                _SUBPIXEL_BITS,
            )
    for joint in np.flatnonzero(drawable):
        for colour, radius in (
            (_DARK, 1.0 * width + 1),
            (_bgr(SIDES[joint], float(trust[joint])), 1.0 * width),
        ):
            cv2.circle(
                image,
                _fixed(points[joint]),
                round(radius * (1 << _SUBPIXEL_BITS)),
                colour,
                cv2.FILLED,
                cv2.LINE_AA,
                _SUBPIXEL_BITS,
            )

    if label:
        if corner is None and drawable.any():
            corner = points[drawable].min(axis=0) - 4 * unit
        if corner is not None:
            height = 9 * unit
            x = min(max(float(corner[0]), 2.0), image.shape[1] - 2.0)
            y = min(max(float(corner[1]) - 3 * unit, height + 2), image.shape[0] - 2.0)
            draw_text(image, label, (round(x), round(y)), height)


def shrink_to_width(image: Image, width: int) -> tuple[Image, float]:
    """A copy of `image` (H, W, 3) at most `width` px wide, and its scale (0..1]."""
    scale = min(1.0, width / image.shape[1])
    if scale == 1.0:
        return image.copy(), 1.0
    size = (width, max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def contact_sheet(
    tiles: Sequence[tuple[Image, str]], title: str = "", *, columns: int = 4, gap: int = 8
) -> Image:
    """Pictures in rows under a title, each with its caption in the top left corner.

    `tiles` holds (image (H, W, 3) uint8 BGR, caption) pairs; all images must have one size.
    Returns (rows * (H + gap) + gap + title line, columns * (W + gap) + gap, 3) uint8 BGR, with no
    more columns than tiles. Raises ValueError without tiles or for unequal sizes.
    """
    if not tiles:
        raise ValueError("tiles is empty; a contact sheet needs at least one picture")
    if columns < 1:
        raise ValueError(f"columns is {columns}; expected at least 1")
    sizes = {image.shape for image, _ in tiles}
    if len(sizes) > 1:
        raise ValueError(f"tiles have the shapes {sorted(sizes)}; expected one for all")
    height, width = tiles[0][0].shape[:2]
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    top = TITLE_HEIGHT if title else 0
    sheet = np.full(
        (top + rows * (height + gap) + gap, columns * (width + gap) + gap, 3), _DARK, np.uint8
    )
    if title:
        draw_text(sheet, title, (gap, round(0.68 * TITLE_HEIGHT)), 0.36 * TITLE_HEIGHT)
    caption_height = max(9.0, width / 40)
    for index, (image, caption) in enumerate(tiles):
        y = top + gap + (index // columns) * (height + gap)
        x = gap + (index % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = image
        draw_text(sheet, caption, (x + 6, y + round(1.7 * caption_height)), caption_height)
    return sheet

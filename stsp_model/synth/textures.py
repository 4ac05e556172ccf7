"""Grounds and walls as textures, drawn at random or taken from a user's pictures; linear RGB."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from stsp_model.synth.looks import colour
from stsp_model.synth.scene import ImageArray

GROUND_SIZE = 256  # texels on a side
WALL_SIZE = (192, 768)  # rows, columns
_LSP_LABELS = "joints.mat"  # beside the pictures of Leeds Sports Pose
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


def cloud(rng: np.random.Generator, rows: int, columns: int, cells: int) -> ImageArray:
    """Smooth noise (rows, columns) from 0 to 1 in about `cells` bumps a side; its edges meet."""
    small = rng.random((cells, cells)).astype(np.float32)
    wide = np.pad(small, ((2, 2), (2, 2)), mode="wrap")
    scale_x, scale_y = columns / cells, rows / cells
    large = cv2.resize(
        wide,
        (round((cells + 4) * scale_x), round((cells + 4) * scale_y)),
        interpolation=cv2.INTER_CUBIC,
    )
    top, left = round(2 * scale_y), round(2 * scale_x)
    return np.clip(large[top : top + rows, left : left + columns], 0, 1).astype(np.float32)


def _mixed(
    a: tuple[float, ...], b: tuple[float, ...], share: npt.NDArray[np.floating]
) -> ImageArray:
    share = share[..., None]
    return (np.array(a) * (1 - share) + np.array(b) * share).astype(np.float32)


def _grainy(image: ImageArray, rng: np.random.Generator, strength: float) -> ImageArray:
    rows, columns = image.shape[:2]
    grain = (
        cloud(rng, rows, columns, 5)
        + cloud(rng, rows, columns, 40)
        + cloud(rng, rows, columns, 128)
    )
    return (image * (1 + strength * (grain[..., None] - 1.5))).astype(np.float32)


def ground(rng: np.random.Generator) -> ImageArray:
    """(GROUND_SIZE, GROUND_SIZE, 3): concrete, planks, tiles, mats, grass, or a marked court."""
    size = GROUND_SIZE
    y, x = np.indices((size, size))
    kind = rng.choice(["concrete", "planks", "tiles", "mats", "grass", "court"])
    first, second = colour(rng, (0, 0.6)), colour(rng, (0, 0.6))
    if kind == "concrete":
        return _grainy(_mixed(first, second, 0.3 * cloud(rng, size, size, 6)), rng, 0.25)
    if kind == "planks":
        width = int(rng.choice([16, 32]))
        boards = rng.random(size // width)[x // width] * 0.5
        image = _mixed(
            (0.45, 0.26, 0.12), (0.22, 0.12, 0.06), boards + 0.3 * cloud(rng, size, size, 64)
        )
        image[x % width == 0] *= 0.5
        return _grainy(image, rng, 0.15)
    if kind in ("tiles", "mats"):
        side = int(rng.choice([32, 64] if kind == "tiles" else [128, 256]))
        image = _mixed(first, second, ((x // side + y // side) % 2).astype(np.float32))
        image[(x % side < 2) | (y % side < 2)] *= rng.uniform(0.3, 0.9)
        return _grainy(image, rng, 0.1)
    if kind == "grass":
        share = 0.5 * cloud(rng, size, size, 128) + 0.5 * cloud(rng, size, size, 12)
        return _grainy(_mixed((0.03, 0.12, 0.02), (0.13, 0.25, 0.05), share), rng, 0.5)
    image = _mixed(first, second, np.zeros((size, size)))
    for _ in range(int(rng.integers(1, 4))):
        at, line = int(rng.integers(size)), colour(rng)
        if rng.random() < 0.5:
            image[at : at + 4] = line
        else:
            image[:, at : at + 4] = line
    return _grainy(image, rng, 0.12)


def wall(rng: np.random.Generator) -> ImageArray:
    """WALL_SIZE x 3: a painted hall, bricks, trees, or houses, with things in front of them."""
    rows, columns = WALL_SIZE
    y, x = np.indices(WALL_SIZE)
    kind = rng.choice(["hall", "bricks", "trees", "houses"])
    first, second = colour(rng, (0, 0.5)), colour(rng, (0, 0.5))
    image = _mixed(first, second, (y > rows * rng.uniform(0.3, 0.8)).astype(np.float32))
    if kind == "bricks":
        step = y // 8
        image = _mixed(first, second, 0.6 * cloud(rng, rows, columns, 96))
        image[(y % 8 == 0) | ((x + 8 * (step % 2)) % 16 == 0)] = colour(rng, (0, 0.1))
    elif kind == "trees":
        leaves = 0.6 * cloud(rng, rows, columns, 20) + 0.4 * cloud(rng, rows, columns, 90)
        image = _mixed((0.02, 0.07, 0.01), (0.2, 0.32, 0.08), leaves)
        skyline = rows * (0.1 + 0.4 * cloud(rng, 1, columns, 12)[0])
        image[y < skyline[None]] = (0.7, 0.8, 1.0)
    elif kind == "houses":
        for left in range(0, columns, 64):
            high = int(rng.uniform(0.0, 0.5) * rows)
            image[high:, left : left + 64] = colour(rng, (0, 0.4))
            image[:high, left : left + 64] = (0.65, 0.75, 0.95)
            for row in range(high + 8, rows - 20, 24):
                image[row : row + 12, left + 10 : left + 22] = colour(rng, (0, 0.3))
                image[row : row + 12, left + 40 : left + 52] = colour(rng, (0, 0.3))
    for _ in range(int(rng.integers(0, 14))):  # posters, doors, bars, distant clutter
        width, height = rng.integers(6, 90), rng.integers(6, 120)
        left, top = int(rng.integers(columns)), int(rng.integers(rows // 5, rows))
        image[top : top + height, left : left + width] = colour(rng)
    blurred = cv2.GaussianBlur(_grainy(image, rng, 0.15), (0, 0), rng.uniform(0.4, 2.5))
    return np.asarray(blurred, np.float32)


def picture_files(folder: str | Path, split: str) -> list[Path]:
    """A folder's pictures for a split: every fifth is for validation and the others for training.

    Raises:
        ValueError: if none is left, or the folder is of Leeds Sports Pose: its pictures show
            people, and those that report scores must not come in through the background.
    """
    folder = Path(folder)
    labels = [*folder.rglob(_LSP_LABELS), *folder.resolve().parent.glob(_LSP_LABELS)]
    if labels:
        raise ValueError(
            f"{folder} belongs to a data set of people ({labels[0]}); expected pictures of nobody"
        )
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in PICTURE_SUFFIXES)
    chosen = [f for i, f in enumerate(files) if (i % 5 == 4) == (split == "validation")]
    if not chosen:
        raise ValueError(
            f"{folder} holds {len(files)} pictures ({', '.join(PICTURE_SUFFIXES)}), of which none "
            f"is left for {split}; expected at least 5 to have some for both splits"
        )
    return chosen


def picture_wall(file: Path) -> ImageArray:
    """A picture beside its mirror image, so that its edges meet; linear RGB, at most 384 rows.

    Raises:
        ValueError: if it cannot be decoded, or is too narrow to be made smaller.
    """
    try:
        picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError(f"background {file} cannot be decoded")
        scale = min(1.0, 384 / picture.shape[0])
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    except cv2.error as error:
        raise ValueError(f"background {file} is of no size to be used: {error.err}") from None
    both = np.hstack([picture, picture[:, ::-1]])[..., ::-1]
    return ((both / 255.0) ** 2.2).astype(np.float32)

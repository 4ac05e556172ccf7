"""From the pixels of a frame to what the network takes and to where its finder sees people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from . import tracking
from .crop import Image, crop, crop_box, to_image, whole_image
from .epe import motion_saliency
from .finder import FINDER_STRIDE, decode_people
from .hrnet import STRIDE
from .runtime.running import Network

FloatArray = npt.NDArray[np.float64]

_SPARE_BOXES = 8  # looked at beyond the people wanted: doubles and other people are among them
_PART = 2 / 3  # of the longer side: half of what one end shows the other shows, too
_LARGER = 1.25  # how much larger it must show people, or it is not worth a look
_KEPT_SIDE = 1920  # pixels of the frame kept for the flow, which sees a quarter of a crop's pixels


@dataclass(frozen=True)
class PreviousFrame:
    """The frame before, for the flow: grey, perhaps reduced, and never the caller's memory."""

    grey: Image
    stamp: float
    size: tuple[int, int]  # width, height of the image it was

    @classmethod
    def of(cls, image: Image, stamp: float) -> PreviousFrame:
        """What to keep of an image (H, W, 3) BGR."""
        height, width = image.shape[:2]
        reduce = math.ceil(max(height, width) / _KEPT_SIDE)
        small: Image = image
        if reduce > 1:
            size = (width // reduce, height // reduce)
            small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)
        return cls(grey, stamp, (width, height))

    def crop(self, box: FloatArray, size: tuple[int, int]) -> Image:
        """Cut a box given in pixels of the original image."""
        ratio = np.array(self.grey.shape[::-1]) / self.size
        return crop(self.grey, (box + 0.5) * np.tile(ratio, 2) - 0.5, size)


def network_images(
    images: Sequence[Image], size: tuple[int, int], device: torch.device | str = "cpu"
) -> Tensor:
    """BGR uint8 images of (width, height) as a batch (N, 3, H, W), RGB, 0..1, channels last."""
    batch = np.empty((len(images), size[1], size[0], 3), np.uint8)
    for image, own in zip(images, batch, strict=True):
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=own)
    return torch.from_numpy(batch).to(device).permute(0, 3, 1, 2) / 255


def part_to_search(limits: FloatArray, size: tuple[int, int], turn: int) -> FloatArray:
    """Which part (4,) of an image to look over for people in this turn, 0, 1 ...

    In turn all of `limits` and either end of its longer side, where that shows people larger: in a
    wide picture letterboxed to the finder's frame somebody far away is hardly there.

    Args:
        limits: (4,) x0 y0 x1 y1 pixels.
        size: (width, height) of the finder's frame.
    """
    sides = limits[2:] - limits[:2]
    axis = int(sides.argmax())
    part = sides.copy()
    part[axis] *= _PART
    searched = limits.copy()
    if turn % 3 and (sides / size).max() >= _LARGER * (part / size).max():
        if turn % 3 == 1:
            searched[axis + 2] = limits[axis] + part[axis]
        else:
            searched[axis] = limits[axis + 2] - part[axis]
    return searched


def find_people(
    network: Network,
    image: Image,
    limits: FloatArray,
    most: int,
    least_score: float,
    turn: int = 0,
) -> FloatArray:
    """Boxes (P, 4) of people centred in a part of an image, best first.

    Args:
        most: how many people are wanted; some more may come, as the best may be of somebody else.
        limits: (4,) x0 y0 x1 y1 pixels within the image; what lies outside is not looked at.
        turn: what of it to look at, see `part_to_search`.
    """
    size = network.finder_size
    searched = part_to_search(limits, size, turn)
    x0, y0 = np.floor(searched[:2] + 0.5).astype(int)
    x1, y1 = np.ceil(searched[2:] + 0.5).astype(int)
    part = image[y0:y1, x0:x1]
    letterbox = crop_box(whole_image(x1 - x0, y1 - y0), size, margin=1)
    frames = network_images([crop(part, letterbox, size)], size)
    boxes, scores = decode_people(*network.find_people(frames), limit=most + _SPARE_BOXES)
    kept = scores[0].numpy() >= max(least_score, 1e-6)
    corners = boxes[0].double().numpy()[kept].reshape(-1, 2, 2)
    found = to_image(corners, letterbox, np.array(size)) + np.array([x0, y0])
    # Whom a border within the limits cuts is seen whole from the other end, or in all of them.
    inner, cell = searched != limits, FINDER_STRIDE * (letterbox[2] - letterbox[0]) / size[0]
    people = []
    for box in found.reshape(-1, 4):
        cut = inner & (np.concatenate([box[:2] - searched[:2], searched[2:] - box[2:]]) < cell)
        clipped = tracking.clipped(box, searched)
        if clipped is not None and not cut.any() and tracking.centred(box, searched):
            people.append(clipped)
    array = np.array(people).reshape(-1, 4)
    return array[tracking.without_doubles(array, tracking.DOUBLE)]


def person_crops(image: Image, boxes: FloatArray, size: tuple[int, int]) -> list[Image]:
    """Crops (H, W, 3) BGR of boxes (N, 4)."""
    return [crop(image, box, size) for box in boxes]


def crops_motion(
    crops: Sequence[Image],
    boxes: FloatArray,
    size: tuple[int, int],
    previous: PreviousFrame | None,
    stamp: float,
) -> npt.NDArray[np.float32]:
    """Motion saliency (N, 1, H/4, W/4) of the crops of boxes (N, 4), W and H those of `size`.

    Both frames are cut with the current box, so that standing still means no flow.
    """
    motion = np.zeros((len(crops), 1, size[1] // STRIDE, size[0] // STRIDE), np.float32)
    if previous is not None:
        for own, now, box in zip(motion, crops, boxes, strict=True):
            grey = np.asarray(cv2.cvtColor(now, cv2.COLOR_BGR2GRAY), np.uint8)
            before = previous.crop(box, size)
            own[0] = motion_saliency(before, grey, stamp - previous.stamp)
    return motion


def still_inputs(
    image: Image, boxes: FloatArray, size: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """What `observe` takes of boxes (N, 4) of a picture that has no frame before it."""
    cut = person_crops(image, boxes, size)
    motion = crops_motion(cut, boxes, size, None, 0.0)
    return network_images(cut, size, device), torch.from_numpy(motion).to(device)

"""COCO keypoints: a JSON file of annotations beside a folder of images, several people in each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from stsp_model.data.errors import DataError
from stsp_model.data.samples import (
    FloatArray,
    ImagePose,
    box_around,
    check_body,
    check_images,
    read_image,
    read_json,
)
from stsp_model.skeleton import COCO_17, map_joints

_POINTS = len(COCO_17.points)
_LABELLED, _VISIBLE = 1, 2  # lowest values of COCO's flag; 0 is no label


def _annotations(path: Path) -> dict[str, Any]:
    content = read_json(path)
    lacking = {"images", "annotations", "categories"}
    lacking -= set(content if isinstance(content, dict) else ())
    if lacking:
        raise DataError(f"{path} has no {', '.join(sorted(lacking))}, as COCO's annotations do")
    return content


def _find_images(path: Path) -> Path:
    """COCO's own layout (annotations/person_keypoints_val2017.json, val2017/), or beside it."""
    places = [path.parent.parent / path.stem.split("_")[-1], path.parent / "images"]
    for place in places:
        if place.is_dir():
            return place
    raise DataError(
        f"no folder of images for {path}: neither {places[0]} nor {places[1]} exists; pass it"
    )


def _corners(boxes: npt.ArrayLike) -> FloatArray:
    """(P, 4) x0 y0 x1 y1 px of boxes x, y, width, height.

    COCO's keypoints count pixels, its boxes count their edges: those of the first are at 0 and 1.
    """
    array = np.array(boxes, np.float64).reshape(-1, 4)
    return np.concatenate([array[:, :2], array[:, :2] + array[:, 2:]], axis=1) - 0.5


class COCOKeypoints(Dataset[ImagePose]):
    """One item per annotated person; crowds and people without any keypoint are left out.

    A joint marked hidden keeps its place and is not `visible`. The box is the annotation's own.

    Args:
        path: the JSON file, such as annotations/person_keypoints_val2017.json.
        images: the folder of the images; by default COCO's own, or images/ beside the JSON file.

    Raises:
        DataError: for another file, other keypoints, or images that are missing.
    """

    def __init__(self, path: str | Path, images: str | Path | None = None) -> None:
        path = Path(path)
        content = _annotations(path)
        self.folder = _find_images(path) if images is None else Path(images)
        try:
            self._take(content, path)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{path} is not laid out as COCO's person_keypoints_*.json are ({error!r})"
            ) from None

    def _take(self, content: dict[str, Any], path: Path) -> None:
        """Keep what is needed of a file's content; any error says that it is made otherwise."""
        orders = {
            category["id"]: tuple(category["keypoints"])
            for category in content["categories"]
            if "keypoints" in category
        }
        if not orders:
            raise DataError(f"{path} has no keypoints; expected one of person_keypoints_*.json")
        for order in orders.values():
            if order != COCO_17.points:
                raise DataError(
                    f"{path} has the keypoints {', '.join(order)}; expected COCO's "
                    f"{', '.join(COCO_17.points)}"
                )
        people = [
            person
            for person in content["annotations"]
            if person["category_id"] in orders
            and not person.get("iscrowd")
            and any(person.get("keypoints", ())[2::3])
        ]
        if not people:
            raise DataError(f"{path} holds nobody with keypoints")
        lengths = {len(person["keypoints"]) for person in people}
        if lengths != {3 * _POINTS}:
            raise DataError(
                f"{path} has {sorted(lengths)} numbers a person, expected {3 * _POINTS}"
            )
        # Arrays, since the file's dictionaries take ten times the room in every worker.
        self._keypoints = np.array([person["keypoints"] for person in people], np.float32)
        self._keypoints = self._keypoints.reshape(-1, _POINTS, 3)
        boxes = [person.get("bbox") or [np.nan] * 4 for person in people]
        self._boxes = np.array(boxes, np.float32).reshape(-1, 4)
        self._images = [person["image_id"] for person in people]
        everybody: dict[Any, list[list[float]]] = {image: [] for image in self._images}
        crowds: dict[Any, list[list[float]]] = {image: [] for image in self._images}
        for person in content["annotations"]:
            image = person["image_id"]
            if person.get("bbox") and image in everybody:
                (crowds if person.get("iscrowd") else everybody)[image].append(person["bbox"])
        self._everybody = {image: _corners(found) for image, found in everybody.items()}
        self._crowds = {image: _corners(found) for image, found in crowds.items()}
        self._names = [f"{person['image_id']}#{person['id']}" for person in people]
        files = {
            image["id"]: (image["file_name"], image["width"], image["height"])
            for image in content["images"]
        }
        try:
            self._files = [files[person["image_id"]] for person in people]
        except KeyError as error:
            raise DataError(f"{path} annotates image {error}, which it does not list") from None
        check_images(self.folder, {name for name, _, _ in self._files})
        sample = self._keypoints[:1000]
        check_body(map_joints(sample[..., :2], COCO_17, sample[..., 2] > 0)[0], str(path))

    def __len__(self) -> int:
        return len(self._names)

    def boxes(self, index: int) -> FloatArray:
        """(P, 4) x0 y0 x1 y1 px of everybody in the image of item `index`; crowds are left out."""
        return self._everybody[self._images[index]]

    def crowds(self, index: int) -> FloatArray:
        """(P, 4) x0 y0 x1 y1 px of the crowds there: people whom nobody has told apart."""
        return self._crowds[self._images[index]]

    def __getitem__(self, index: int) -> ImagePose:
        name, width, height = self._files[index]
        image = read_image(self.folder / name)
        if image.shape[:2] != (height, width):
            raise DataError(
                f"{name} has {image.shape[1]}x{image.shape[0]} pixels, but its annotations are for "
                f"{width}x{height}; are the images resized?"
            )
        points, flags = self._keypoints[index, :, :2], self._keypoints[index, :, 2]
        joints, _ = map_joints(points, COCO_17, flags >= _LABELLED)
        _, visible = map_joints(points, COCO_17, flags >= _VISIBLE)
        (box,) = _corners(self._boxes[index])
        whole = np.isfinite(box).all() and (box[2:] > box[:2]).all()
        return ImagePose(
            image=image,
            joints=joints,
            visible=visible,
            box=box if whole else box_around(joints),
            name=self._names[index],
        )

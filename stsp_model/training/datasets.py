"""Which data a stage trains on and is selected by: "FORMAT:PATH" to the right part of the set.

Training opens only the parts in `TRAINED`, and nothing here can be asked for another one. So what
selects or reports cannot get into training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset

from stsp_model.crop import BORDER_BGR, Image
from stsp_model.data.errors import DataError
from stsp_model.data.formats import open_dataset, split_spec
from stsp_model.data.samples import FloatArray, ImagePose
from stsp_model.data.shards import RenderedClip, ShardClips

# The part of each set that trains; None: a file of that format is one part by itself.
TRAINED: Mapping[str, str | None] = {
    "lsp": "train",
    "lspet": "train",
    "coco": None,
    "bvh": "train",
    "deepmimic": "train",
    "h36m": "train",
    "humaneva": "train",
    "mpi_inf_3dhp": None,
    "synth": "train",
}
# The part that selects: by it, training stops and the best weights are kept.
SELECTED: Mapping[str, str | None] = {
    "lspet": "selection",
    "coco": None,
    "bvh": "validation",
    "deepmimic": "validation",
    "mpi_inf_3dhp": None,
    "synth": "validation",
}
# A picture (H, W, 3) BGR, and the boxes (P, 4) px of the people in it.
Picture = tuple[Image, FloatArray]

IMAGES = ("lsp", "lspet", "coco")
RENDERED = "synth"
MOTIONS = ("bvh", "deepmimic", "h36m", "humaneva", "mpi_inf_3dhp")


def open_training(specs: Sequence[str], formats: Sequence[str]) -> list[Any]:
    """The training parts of data sets.

    Args:
        specs: "FORMAT:PATH" each, of one of `formats`.

    Raises:
        DataError: if there is none, or one of another format, or as the reader does.
    """
    if not specs:
        raise DataError(f"no data to train on: give FORMAT:PATH, FORMAT one of {_list(formats)}")
    return [open_dataset(spec, TRAINED[_format(spec, formats)]) for spec in specs]


def open_selection(
    specs: Sequence[str], training: Sequence[str], formats: Sequence[str]
) -> list[Any]:
    """The parts of data sets that select.

    Args:
        specs: "FORMAT:PATH" each; empty: of the training sets, those that have such a part.
        training: what `open_training` was given.

    Raises:
        DataError: if there is none, or one of `specs` is all trained on.
    """
    chosen = list(specs)
    for spec in specs:
        name = _format(spec, [n for n in formats if n in SELECTED])
        if SELECTED[name] is None and _place(spec) in map(_place, training):
            raise DataError(f"{spec} is trained on and cannot select as well")
    if not chosen:
        # Rendered sets hold one part each, so that a training set has none to select by.
        names = {spec: split_spec(spec)[0] for spec in training}
        chosen = [s for s, name in names.items() if SELECTED.get(name) and name != RENDERED]
    if not chosen:
        having = [name for name in formats if name in SELECTED]
        raise DataError(
            f"none of {', '.join(training)} has a part to select by: name one with --select, "
            f"FORMAT one of {_list(having)}"
        )
    return [open_dataset(spec, SELECTED[split_spec(spec)[0]]) for spec in chosen]


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _format(spec: str, formats: Sequence[str]) -> str:
    name, _ = split_spec(spec)
    if name not in formats:
        raise DataError(f"{spec}: this stage takes {_list(formats)}, not {name!r}")
    return name


def _place(spec: str) -> Path:
    return split_spec(spec)[1].resolve()


@dataclass(frozen=True, eq=False)
class People:
    """Annotated people of several image sets, one after the other."""

    sets: tuple[Any, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.sets)

    def __getitem__(self, index: int) -> ImagePose:
        part, index = self._find(index)
        item = part[index]
        assert isinstance(item, ImagePose)
        return item

    def picture(self, index: int) -> Picture:
        """The picture of item `index`, and the boxes of everybody known to be in it.

        Crowds are covered: their people have no boxes, and must not pass for nobody.
        """
        pose = self[index]
        part, index = self._find(index)
        everybody: Callable[[int], FloatArray] | None = getattr(part, "boxes", None)
        boxes = pose.box[None] if everybody is None else everybody(index)
        boxes = boxes[np.isfinite(boxes).all(axis=1)]
        crowds: Callable[[int], FloatArray] | None = getattr(part, "crowds", None)
        image = pose.image if crowds is None else _covered(pose.image, crowds(index), boxes)
        return image, boxes

    def _find(self, index: int) -> tuple[Any, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"index is {index}, expected 0 to {len(self) - 1}")
        for part in self.sets:
            if index < len(part):
                return part, index
            index -= len(part)
        raise AssertionError


def _covered(image: Image, crowds: FloatArray, people: FloatArray) -> Image:
    """The image with a neutral colour over the boxes of crowds, but for the boxes of people."""
    if not len(crowds):
        return image
    hidden = np.zeros(image.shape[:2], bool)
    for boxes, value in ((crowds, True), (people, False)):
        # From edge to edge of pixels, whose centres lie at whole numbers.
        for x0, y0, x1, y1 in np.clip(np.rint(boxes + 0.5), 0, None).astype(int).tolist():
            hidden[y0:y1, x0:x1] = value
    return np.where(hidden[..., None], np.array(BORDER_BGR, np.uint8), image)


def open_people(specs: Sequence[str]) -> tuple[People, People | None]:
    """The training parts of image sets, and of rendered sets where there are any.

    Raises DataError if there are no images, or a set is of neither kind.
    """
    images = of_format(specs, IMAGES)
    drawn = [spec for spec in specs if spec not in images]
    real = People(tuple(open_training(images or specs, IMAGES)))
    return real, People(tuple(open_training(drawn, (RENDERED,)))) if drawn else None


def open_clips(
    specs: Sequence[str], parts: Mapping[str, str | None]
) -> ConcatDataset[RenderedClip]:
    """Rendered clips: `parts` is TRAINED or SELECTED. Raises DataError if there are none."""
    if not specs:
        use, option = ("train on", "data") if parts is TRAINED else ("select by", "select")
        raise DataError(
            f"no rendered video to {use}: give --{option} {RENDERED}:DIR, as "
            f"`stsp synth --split {parts[RENDERED]}` writes it"
        )
    return ConcatDataset(ShardClips(split_spec(spec)[1], parts[RENDERED]) for spec in specs)


def of_format(specs: Sequence[str], formats: Sequence[str]) -> list[str]:
    """Those of "FORMAT:PATH" that are of one of `formats`."""
    return [spec for spec in specs if split_spec(spec)[0] in formats]

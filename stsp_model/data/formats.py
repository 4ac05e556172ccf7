"""FORMAT:PATH, as commands name data sets, to the reader of that format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stsp_model.data.errors import DataError

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from stsp_model.data.childplay import Clip
    from stsp_model.data.samples import ImagePose, Motion

FORMATS = (
    "lsp",
    "lspet",
    "coco",
    "h36m",
    "humaneva",
    "mpi_inf_3dhp",
    "bvh",
    "deepmimic",
    "childplay",
    "synth",
)
VIDEO = "video"  # for `stsp data show` alone: videos, folders of images and bags have no labels


def split_spec(spec: str) -> tuple[str, Path]:
    """The format and the path of "FORMAT:PATH". Raises DataError for another form."""
    name, _, path = spec.partition(":")
    if not (name and path):
        raise DataError(f"{spec!r} is no FORMAT:PATH, such as lspet:PATH")
    return name, Path(path).expanduser()


def check_format(name: str, allowed: Sequence[str]) -> None:
    """Raise DataError unless the format is one of `allowed`."""
    if name not in allowed:
        raise DataError(f"format is {name!r}, expected one of {', '.join(allowed)}")


def open_dataset(
    spec: str, split: str | None = None
) -> Dataset[ImagePose] | Dataset[Motion] | Dataset[Clip]:
    """The data set that "FORMAT:PATH" names.

    Args:
        spec: FORMAT is one of `FORMATS`; PATH is what that format's reader takes.
        split: of the set; None takes all.

    Raises:
        DataError: for an unknown format, or as the reader does.
    """
    name, path = split_spec(spec)
    check_format(name, FORMATS)
    # A reader is imported when it is asked for: each brings PyTorch.
    if name in ("lsp", "lspet"):
        from stsp_model.data.lsp import LSPDataset

        return LSPDataset(path, split)
    if name == "h36m":
        from stsp_model.data.videopose3d import h36m

        return h36m(path, split)
    if name == "humaneva":
        from stsp_model.data.videopose3d import humaneva

        return humaneva(path, split)
    if name == "bvh":
        from stsp_model.data.bvh import BVHDataset

        return BVHDataset(path, split)
    if name == "deepmimic":
        from stsp_model.data.deepmimic import DeepMimicDataset

        return DeepMimicDataset(path, split)
    if name == "childplay":
        from stsp_model.data.childplay import ChildPlay

        return ChildPlay(path, split)
    if name == "synth":
        from stsp_model.data.shards import ShardPeople

        return ShardPeople(path, split)
    if split is not None:
        raise DataError(f"split is {split!r}, but with {name} each file is a split of its own")
    if name == "coco":
        from stsp_model.data.coco import COCOKeypoints

        return COCOKeypoints(path)
    from stsp_model.data.mpi_inf_3dhp import MPIINF3DHP

    return MPIINF3DHP(path)

"""Leeds Sports Pose, and its extended training set: joints.mat beside a folder of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from stsp_model.data.errors import DataError
from stsp_model.data.samples import (
    BoolArray,
    FloatArray,
    ImagePose,
    box_around,
    check_body,
    check_images,
    read_image,
)
from stsp_model.data.splits import LSP, LSPET, check_split
from stsp_model.skeleton import LSP_14, map_joints

_POINTS = len(LSP_14.points)


def _read_mat(path: Path) -> FloatArray:
    if not path.is_file():
        raise DataError(f"{path} does not exist, expected the folder with joints.mat and images/")
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DataError(
            f"{path} is read with SciPy: pip install '.[train]' in stsp's checkout"
        ) from None
    try:
        content = loadmat(path, variable_names=["joints"])
    except Exception as error:  # SciPy raises many kinds for a file that is cut off
        raise DataError(f"{path} cannot be read as a MATLAB file: {error}") from None
    if "joints" not in content:
        raise DataError(f"{path} has no variable `joints`, as LSP's joints.mat does")
    try:
        return np.asarray(content["joints"], dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{path}: `joints` holds something that is no number") from None


class LSPDataset(Dataset[ImagePose]):
    """LSP (2,000 images) or LSPet (10,000, or the first of them), told apart by joints.mat's shape.

    LSP's joints are (3, 14, N) with a flag that is 1 where a joint is hidden, and hidden joints
    have their place. LSPet's are (14, 3, N) with a flag that is 1 where it is visible, and the
    others hold placeholders, which become NaN. The box is around the visible joints.

    Args:
        path: the folder with joints.mat and images/.
        split: "train", "selection" (LSPet) or "report" by `splits`; None takes all.

    Raises:
        DataError: for another folder, shape or joint order, or images that are missing.
    """

    def __init__(self, path: str | Path, split: str | None = None) -> None:
        path = Path(path)
        raw = _read_mat(path / "joints.mat")
        self.extended = raw.shape[:2] == (_POINTS, 3)
        if raw.ndim != 3 or raw.shape[:2] not in ((_POINTS, 3), (3, _POINTS)):
            raise DataError(
                f"{path / 'joints.mat'} holds joints of shape {raw.shape}, expected "
                f"({_POINTS}, 3, N) of LSPet or (3, {_POINTS}, N) of LSP"
            )
        raw = raw.transpose(2, 0, 1) if self.extended else raw.transpose(2, 1, 0)
        seen = raw[..., 2] == (1 if self.extended else 0)
        labelled = seen if self.extended else np.ones_like(seen)
        points = raw[..., :2]
        self.joints: FloatArray = map_joints(points, LSP_14, labelled)[0]
        self.visible: BoolArray = map_joints(points, LSP_14, seen)[1]
        check_body(self.joints, str(path / "joints.mat"))

        ranges = LSPET if self.extended else LSP
        check_split(split, tuple(ranges))
        first, last = (1, len(raw)) if split is None else ranges[split]
        self.numbers = range(first, min(last, len(raw)) + 1)
        if not self.numbers:
            raise DataError(
                f"{path} holds {len(raw)} images, but split {split!r} is {first} to {last}"
            )
        self.folder = path / "images"
        check_images(self.folder, (self.file_name(number) for number in self.numbers))

    def file_name(self, number: int) -> str:
        """The file of image `number`, which counts from 1."""
        return f"im{number:05d}.jpg" if self.extended else f"im{number:04d}.jpg"

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> ImagePose:
        number = self.numbers[index]
        joints, visible = self.joints[number - 1], self.visible[number - 1]
        return ImagePose(
            image=read_image(self.folder / self.file_name(number)),
            joints=joints,
            visible=visible,
            box=box_around(np.where(visible[:, None], joints, np.nan)),
            name=self.file_name(number).removesuffix(".jpg"),
        )

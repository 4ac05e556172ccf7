"""BVH motion capture as a data set: clips, our joints of them, and the frames that are sound.

The CMU captures in cgspeed's "Daz-friendly" skeleton have eyes, but neither a nose nor a top of
the head: those two joints are NaN. The bones around them would have to be made up, and the
proportions of that skeleton are one generic body's anyway: bodies come from stsp_model.synth.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from stsp_model.data.bvh_file import CENTIMETRE, Capture, bvh_texts, parse_bvh, read_bvh
from stsp_model.data.errors import DataError, NothingOfSplitError
from stsp_model.data.samples import Y_UP, FloatArray, Motion
from stsp_model.data.splits import check_split, cmu_split
from stsp_model.skeleton import CMU_BVH, map_joints

# Faster than anybody: a joint against the pelvis, and the pelvis. Steps above are faults of the
# capture (frames between two sets of Euler angles, the rest pose before the first frame), and
# resampling has smeared each over the frames around it.
MAX_JOINT_SPEED, MAX_PELVIS_SPEED = 14.0, 9.0  # m/s
_SMEARED = 0.05  # s on either side
_SHORTEST = 0.5  # s; shorter remains between two faults are left out


def capture_joints(capture: Capture) -> FloatArray:
    """Our joints (T, 17, 3) m of a capture, NaN where CMU_BVH has none.

    Raises DataError if the capture lacks one of the points of CMU_BVH.
    """
    index = {name: i for i, name in enumerate(capture.names)}
    lacking = [name for name in CMU_BVH.points if name not in index]
    if lacking:
        raise DataError(
            f"the BVH skeleton lacks {', '.join(lacking)}, expected the joints of {CMU_BVH.name}; "
            f"it has {', '.join(capture.names)}"
        )
    return map_joints(capture.positions[:, [index[name] for name in CMU_BVH.points]], CMU_BVH)[0]


def plausible_spans(joints: npt.ArrayLike, fps: float) -> list[tuple[int, int]]:
    """Stretches [start, stop) of a motion in which nothing moves faster than a person can.

    Args:
        joints: (T, 17, 3) m; joints that are NaN are not looked at.
        fps: frames a second.

    Returns:
        Spans of at least half a second, clear of the faults between them by 0.05 s; a shorter
        motion as a whole, if it has two frames or more.
    """
    joints = np.asarray(joints, dtype=np.float64)
    pelvis = joints[:, :1]
    step = np.nan_to_num(np.linalg.norm(np.diff(joints - pelvis, axis=0), axis=-1)).max(axis=1)
    travel = np.nan_to_num(np.linalg.norm(np.diff(pelvis[:, 0], axis=0), axis=-1))
    faults = np.flatnonzero((step * fps > MAX_JOINT_SPEED) | (travel * fps > MAX_PELVIS_SPEED))
    usable = np.ones(len(joints), dtype=bool)
    margin = max(round(_SMEARED * fps), 1)  # of few frames a second one at either side
    for fault in faults:  # between the frames `fault` and `fault` + 1
        usable[max(0, fault + 1 - margin) : fault + 1 + margin] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[False], usable, [False]])))
    shortest = max(min(_SHORTEST * fps, len(joints)), 2)
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a >= shortest]


class BVHDataset(Dataset[Motion]):
    """The plausible spans (`plausible_spans`) of BVH clips, each a `Motion` in the clip's axes.

    The clips of a folder are read when asked for; those of an archive, which can only be read from
    its beginning, are kept as text. All are gone through once at the start to find the spans.

    Args:
        path: a .bvh file, a folder or a tar archive of them.
        split: "train" or "validation" by `splits.cmu_split`; None takes all.
        unit: metres per unit of the files.

    Raises:
        DataError: if there is no clip, or one is not what it should be.
    """

    def __init__(
        self, path: str | Path, split: str | None = None, unit: float = CENTIMETRE
    ) -> None:
        check_split(split, ("train", "validation"))
        self.path, self.unit = Path(path), unit
        self._texts: dict[str, str] = {}
        self._spans: list[tuple[str, int, int, bool]] = []
        for file, text in bvh_texts(path):
            if split not in (None, cmu_split(Path(file).stem)):
                continue
            capture = parse_bvh(text, file, unit)
            spans = plausible_spans(capture_joints(capture), capture.fps)
            frames = len(capture.positions)
            self._spans += [(file, a, b, (a, b) == (0, frames)) for a, b in spans]
            if spans and self.path.is_file():
                self._texts[file] = text
        if not self._spans:
            raise NothingOfSplitError(f"{path} holds no plausible motion for split {split!r}")

    def __len__(self) -> int:
        return len(self._spans)

    def clip(self, index: int) -> str:
        """The name of the clip that item `index` is from: its path within, without .bvh."""
        return Path(self._spans[index][0]).with_suffix("").as_posix()

    def capture(self, index: int) -> Capture:
        """All bones of item `index`, in the frames of its span."""
        file, start, stop, _ = self._spans[index]
        if file in self._texts:
            whole = parse_bvh(self._texts[file], file, self.unit)
        else:
            whole = read_bvh(self.path / file, self.unit)
        return replace(
            whole, rotations=whole.rotations[start:stop], positions=whole.positions[start:stop]
        )

    def __getitem__(self, index: int) -> Motion:
        _, start, stop, whole = self._spans[index]
        capture = self.capture(index)
        name = self.clip(index)
        clip = Path(name).name
        return Motion(
            joints=capture_joints(capture),
            stamps=np.arange(start, stop) / capture.fps,
            name=name if whole else f"{name}[{start}:{stop}]",
            subject=clip.split("_")[0],
            action=clip,
            up=np.array(Y_UP),
        )

"""Children's bodies for the lifter: lengths of their segments, drawn from Anny's statistics.

bodies.npz holds bodies of children of 4 to 14 years, girls and boys, made once with the extra
[synth] by `python -m stsp_model.training.bodies`; so training the lifter needs no body model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stsp_model.data.samples import FloatArray
from stsp_model.skeleton import ANNY, BONES, INDEX, JOINTS, map_joints

TABLE = Path(__file__).parent / "bodies.npz"
COUNT, SEED = 1000, 20250  # of the table
VALIDATION = 100  # of them, the last ones, are never trained on


@dataclass(frozen=True, eq=False)
class Bodies:
    """B bodies. All but the height are shares of it.

    height (B,): m, floor to head_top. lengths (B, 16): of the bones, in the order of BONES.
    shoulder (B, 3): from thorax to the left shoulder; neck (B, 3): from thorax to where the head
    turns; nose, head_top (B, 3): from there. To the left, up and forwards, in the axes of the
    chest, of the neck and of the head.
    """

    height: FloatArray
    lengths: FloatArray
    shoulder: FloatArray
    neck: FloatArray
    nose: FloatArray
    head_top: FloatArray

    @property
    def leg(self) -> FloatArray:
        """(B,) m, hip to ankle over the knee."""
        bones = [i for i, (_, child) in enumerate(BONES) if JOINTS[child] in _LEG]
        return self.height * self.lengths[:, bones].sum(axis=1)

    def __getitem__(self, rows: npt.ArrayLike | slice) -> Bodies:
        """Some of the bodies."""
        return Bodies(*(getattr(self, name)[rows] for name in _FIELDS))

    def __len__(self) -> int:
        return len(self.height)

    def varied(self, factors: FloatArray) -> Bodies:
        """The same with every length multiplied: factors (B, 7) of hips, thigh, shin, trunk,
        shoulders, arms and head. Left and right stay alike; the height changes as it must."""
        hips, thigh, shin, trunk, shoulders, arms, head = factors.T
        by_joint = {
            "hip": hips,
            "knee": thigh,
            "ankle": shin,
            "spine": trunk,
            "thorax": trunk,
            "shoulder": shoulders,
            "elbow": arms,
            "wrist": arms,
            "nose": head,
            "head_top": head,
        }
        lengths = self.lengths.copy()
        for bone, (_, child) in enumerate(BONES):
            lengths[:, bone] *= by_joint[JOINTS[child].replace("left_", "").replace("right_", "")]
        bone_of = {JOINTS[child]: bone for bone, (_, child) in enumerate(BONES)}
        upright = [bone_of[name] for name in ("left_knee", "left_ankle", "spine", "thorax")]
        grown = lengths[:, upright].sum(axis=1) - self.lengths[:, upright].sum(axis=1)
        grown = 1 + grown + (self.neck + self.head_top)[:, 1] * (head - 1)
        return Bodies(
            self.height * grown,
            lengths / grown[:, None],
            self.shoulder * (shoulders / grown)[:, None],
            self.neck * (head / grown)[:, None],
            self.nose * (head / grown)[:, None],
            self.head_top * (head / grown)[:, None],
        )


_LEG = ("left_knee", "left_ankle")
_FIELDS = ("height", "lengths", "shoulder", "neck", "nose", "head_top")


def children(validation: bool = False) -> Bodies:
    """The bodies to train on, or those kept for validation."""
    with np.load(TABLE, allow_pickle=False) as table:
        every = Bodies(*(table[name].astype(np.float64) for name in _FIELDS))
    return every[-VALIDATION:] if validation else every[:-VALIDATION]


def from_anny(count: int, seed: int) -> Bodies:
    """Random children's bodies, measured in Anny's rest pose. Needs the extra [synth]."""
    from stsp_model.synth.body import SEGMENT, make_body, sample_phenotype

    rng = np.random.default_rng(seed)
    heights, joints, skulls = [], [], []
    for _ in range(count):
        body = make_body(sample_phenotype(rng))
        heights.append(body.height)
        joints.append(_turned(map_joints(body.markers, ANNY)[0]) / body.height)
        skulls.append(_turned(body.pivots[SEGMENT["head"]]) / body.height)
    rest, skull = np.stack(joints), np.stack(skulls)
    parents, ends = ([bone[i] for bone in BONES] for i in (0, 1))
    from_thorax = rest - rest[:, INDEX["thorax"], None]
    return Bodies(
        np.array(heights),
        np.linalg.norm(rest[:, ends] - rest[:, parents], axis=-1),
        from_thorax[:, INDEX["left_shoulder"]],
        skull - rest[:, INDEX["thorax"]],
        rest[:, INDEX["nose"]] - skull,
        rest[:, INDEX["head_top"]] - skull,
    )


def _turned(places: FloatArray) -> FloatArray:
    """Anny's axes, to the left, back and up, as left, up and forwards."""
    return places[..., [0, 2, 1]] * (1, 1, -1)


if __name__ == "__main__":
    made = from_anny(COUNT, SEED)
    np.savez_compressed(TABLE, **{name: getattr(made, name).astype("f4") for name in _FIELDS})
    print(f"{TABLE}: {COUNT} bodies, {made.height.min():.2f} to {made.height.max():.2f} m")

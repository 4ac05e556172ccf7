"""Print how far the bones of retargeted children point from those of the captured motions.

    python scripts/retargeting_error.py ../shared/data/mocap/cmu_bvh60.tar.xz

Every clip is performed by another random child. Degrees: mean, 99th percentile and maximum.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from stsp_model.data.bvh import BVHDataset
from stsp_model.data.deepmimic import CHARACTER_FILE, DeepMimicDataset
from stsp_model.synth.body import make_body, sample_phenotype
from stsp_model.synth.retarget import angle_errors
from stsp_model.synth.rigs import CMU_RIG, DEEPMIMIC_RIG


def main(path: Path, seed: int) -> None:
    humanoid = (path / CHARACTER_FILE).exists()
    clips = DeepMimicDataset(path) if humanoid else BVHDataset(path)
    rig = DEEPMIMIC_RIG if humanoid else CMU_RIG
    rng = np.random.default_rng(seed)
    errors: dict[str, list[np.ndarray]] = {}
    for index in range(len(clips)):
        body = make_body(sample_phenotype(rng))
        of_clip = angle_errors(clips.capture(index), clips[index].joints, body, rig)
        for bone, angles in of_clip.items():
            errors.setdefault(bone, []).append(angles)
    for bone, parts in errors.items():
        angles = np.concatenate(parts)
        print(
            f"{bone:30} {angles.mean():8.4f} {np.percentile(angles, 99):8.4f} {angles.max():8.4f}"
        )
    print(f"{len(clips)} clips, {len(angles)} frames")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "path", type=Path, help="BVH file, folder or archive, or DeepMimic's folder"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    main(options.path, options.seed)

"""The mean of a lifter before and after stage finetune: nearly as good on video as the latter.

    python -m stsp_model.training.mean BEFORE AFTER OUT [SHARE]

SHARE, 0 to 1 and 0.5 if not given, is that of BEFORE: 1 joins AFTER's keypoints to BEFORE's lifter.

Stage finetune knows only the motions that were rendered, and forgets some of what the lifter learnt
from motion capture. Halfway between the two sets of weights most of both is kept (Wortsman et al.,
Robust fine-tuning of zero-shot models, CVPR 2022). Calibrate OUT afterwards, see calibrate.py.
"""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path

import torch

from stsp_model.checkpoint import load_model, save


@torch.no_grad()
def main(before: str = "", after: str = "", out: str = "", share: str = "0.5") -> None:
    """Write AFTER with the mean of both lifters.

    Raises:
        ValueError, OSError: if an argument or a file is missing or wrong, or their presets differ.
    """
    if not (before and after and out):
        raise ValueError("three files are needed: BEFORE AFTER OUT")
    try:
        weight = float(share)
    except ValueError:
        weight = math.nan
    if not 0 <= weight <= 1:
        raise ValueError(f"SHARE is {share!r}, expected 0 to 1")
    network = load_model(Path(after))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that BEFORE may be half trained is no news
        earlier = load_model(Path(before))
    if earlier.preset != network.preset:
        raise ValueError(f"{before} and {after} hold weights of different presets")
    own = network.lifter.state_dict()
    for name, value in earlier.lifter.state_dict().items():
        own[name].lerp_(value, weight)
    save(
        network, out, f"{network.note}\nmean: {weight:g} of the lifter of {earlier.note or before}"
    )


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, TypeError, ValueError) as error:
        sys.exit(f"mean: {error}")

"""The mean of a lifter before and after stage finetune: nearly as good on video as the latter.

    python -m stsp_model.training.mean BEFORE AFTER OUT

Stage finetune knows only the motions that were rendered, and forgets some of what the lifter learnt
from motion capture. Halfway between the two sets of weights most of both is kept (Wortsman et al.,
Robust fine-tuning of zero-shot models, CVPR 2022). Calibrate OUT afterwards, see calibrate.py.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch

from stsp_model.checkpoint import load_model, save


@torch.no_grad()
def main(before: str = "", after: str = "", out: str = "") -> None:
    """Write AFTER with the mean of both lifters.

    Raises:
        ValueError, OSError: if an argument or a file is missing, or their presets differ.
    """
    if not (before and after and out):
        raise ValueError("three files are needed: BEFORE AFTER OUT")
    network = load_model(Path(after))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that BEFORE may be half trained is no news
        earlier = load_model(Path(before))
    if earlier.preset != network.preset:
        raise ValueError(f"{before} and {after} hold weights of different presets")
    own = network.lifter.state_dict()
    for name, value in earlier.lifter.state_dict().items():
        own[name].lerp_(value, 0.5)
    save(network, out, f"{network.note}\nmean: the lifter halfway back to before finetune")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, TypeError, ValueError) as error:
        sys.exit(f"mean: {error}")

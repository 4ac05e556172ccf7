"""The mean of weights before and after more training: nearly as good at the new, forgets less.

    python -m stsp_model.training.mean BEFORE AFTER OUT [--share 0.5] [--modules lifter]

Stage finetune knows only some of the motions that the lifter learnt, and forgets others. Between
the two sets of weights most of both is kept (Wortsman et al., Robust fine-tuning of zero-shot
models, CVPR 2022). A share of 1 joins the modules of BEFORE to the rest of AFTER. Calibrate OUT
afterwards, see calibrate.py.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

import torch

from stsp_model.checkpoint import load_model, save

MODULES = ("finder", "epe", "lifter")


@torch.no_grad()
def mean(before: str, after: str, out: str, share: float, modules: Sequence[str]) -> None:
    """Write AFTER with the weighted mean of some of its modules and those of BEFORE.

    Args:
        share: of BEFORE, 0 to 1.
        modules: of MODULES.

    Raises:
        ValueError, OSError: if the share or a file is wrong, or the presets differ.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}, expected 0 to 1")
    network = load_model(after)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that BEFORE may be half trained is no news
        earlier = load_model(before)
    if earlier.preset != network.preset:
        raise ValueError(f"{before} and {after} hold weights of different presets")
    for module in modules:
        own = network.get_submodule(module).state_dict()
        for name, value in earlier.get_submodule(module).state_dict().items():
            if value.is_floating_point():
                own[name].lerp_(value, share)
    save(network, out, f"{network.note}\nmean: {share:g} of {', '.join(modules)} of {before}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see the top of the file. Raises what `mean` raises."""
    parser = argparse.ArgumentParser(
        "python -m stsp_model.training.mean", description="Mean of some modules of two weights."
    )
    for name in ("before", "after", "out"):
        parser.add_argument(name, metavar=name.upper())
    parser.add_argument("--share", type=float, default=0.5, help="of BEFORE; default: 0.5")
    parser.add_argument(
        "--modules", nargs="+", choices=MODULES, default=["lifter"], help="default: lifter"
    )
    given = parser.parse_args(arguments)
    mean(given.before, given.after, given.out, given.share, given.modules)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"mean: {error}")

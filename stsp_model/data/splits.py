"""Which part of each data set trains, selects and reports: the one place that says so.

A part that reports is never trained on, selected on, or used as background.
"""

from __future__ import annotations

from stsp_model.data.errors import DataError

# Image numbers, first and last. LSPet's are the project's own: its authors give all to training.
LSPET = {"train": (1, 6800), "selection": (6801, 7000), "report": (7001, 7500)}
LSP = {"train": (1, 1000), "report": (1001, 2000)}

CMU_VALIDATION_CLIPS = frozenset(
    {"02_04", "05_06", "05_17", "06_15", "10_06", "13_15", "13_31", "13_41"}
)
CMU_VALIDATION_SUBJECTS = frozenset({"09"})
DEEPMIMIC_VALIDATION = frozenset({"cartwheel"})

# The subjects that nearly every paper on these sets trains and reports on.
H36M = {"train": ("S1", "S5", "S6", "S7", "S8"), "report": ("S9", "S11")}
HUMANEVA = {
    "train": ("Train/S1", "Train/S2", "Train/S3"),
    "report": ("Validate/S1", "Validate/S2", "Validate/S3"),
}


def check_split(split: str | None, allowed: tuple[str, ...]) -> None:
    """Raise DataError unless `split` is None (everything) or one of `allowed`."""
    if split is not None and split not in allowed:
        raise DataError(f"split is {split!r}, expected one of {', '.join(allowed)}, or None")


def cmu_split(clip: str) -> str:
    """ "train" or "validation" for a CMU clip SUBJECT_MOTION such as "02_04"."""
    held_out = clip in CMU_VALIDATION_CLIPS or clip.split("_")[0] in CMU_VALIDATION_SUBJECTS
    return "validation" if held_out else "train"


def deepmimic_split(action: str) -> str:
    """ "train" or "validation" for a DeepMimic clip such as "cartwheel"."""
    return "validation" if action in DEEPMIMIC_VALIDATION else "train"

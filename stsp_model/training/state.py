"""What a run must remember to go on exactly where it was."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from stsp_model.files import replacing
from stsp_model.network import STSPNet
from stsp_model.training.config import ConfigError
from stsp_model.training.config_3d import StageConfig

CHECKPOINT = "last.ckpt"
BEST = "best.safetensors"
_VERSION = 2
# What may change between two parts of a run without changing its result.
_FREE = ("workers", "checkpoint_steps")


@dataclass
class Progress:
    """How far a run is, all of it plain numbers.

    step: done. best: score, NaN before the first. stale, stale_rate: epochs since the best score,
    and since that or the last reduction of the learning rate. reductions: of the rate.
    guarded: the guarded score at the start, NaN where there is none.
    history: the scores of each epoch, with "epoch" among them.
    """

    step: int = 0
    best: float = float("nan")
    stale: int = 0
    stale_rate: int = 0
    reductions: int = 0
    stopped: bool = False
    guarded: float = float("nan")
    history: list[dict[str, float]] = field(default_factory=list)


class Average:
    """Moving average of a network's weights and statistics, which scores better than the last ones.

    Early on it follows faster, as there is nothing worth keeping yet.

    Args:
        network: being trained, on its device. Its tensors must stay the same ones.
        decay: of the average, once it is slow.
    """

    def __init__(self, network: STSPNet, decay: float) -> None:
        self.network = copy.deepcopy(network).eval()
        self.decay = decay
        # Listed once: that takes as long as the average itself.
        pairs = list(
            zip(self.network.state_dict().values(), network.state_dict().values(), strict=True)
        )
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after `step` steps into account."""
        # All at once: on a GPU each call of its own would cost more than what it computes.
        mean = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        mean([old for old, _ in self._averaged], [new for _, new in self._averaged], step)
        for old, new in self._copied:
            old.copy_(new)


def identity(config: StageConfig, data: Any, select: Any) -> str:
    """What must not change within a run, as text."""
    values = asdict(config)
    # How long training may last makes no difference to any step but in the cosine's.
    lasting = ("epochs",) if config.optimisation.schedule == "plateau" else ()
    for name in (*_FREE, *lasting):
        del values["optimisation"][name]
    return json.dumps({"config": values, "data": data, "select": select}, sort_keys=True)


def save_checkpoint(
    folder: Path,
    run: str,
    progress: Progress,
    network: STSPNet,
    average: dict[str, Tensor],
    optimiser: dict[str, Any],
) -> None:
    """Write the checkpoint of a run; `run` is its `identity`, `network` as it is now.

    Raises OSError if it cannot be written; the one before then stays.
    """
    content = {
        "version": _VERSION,
        "run": run,
        "progress": asdict(progress),
        "network": network.state_dict(),
        "note": network.note,
        "trained": network.trained,
        "average": average,
        "optimiser": optimiser,
    }
    path = folder / CHECKPOINT
    with replacing(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # what torch makes of an OSError in its writer
            raise OSError(f"{path} cannot be written ({error}); the disk may be full") from None


def load_checkpoint(folder: Path, run: str) -> tuple[Progress, dict[str, Any]]:
    """The progress of a run and its weights: "network", "average", "optimiser".

    "note" and "trained" are those of the network that the run began with.

    Raises:
        ConfigError: if there is none, it is damaged, or it is of another run.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise ConfigError(f"{folder} holds no {CHECKPOINT} to resume from")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        version, stored = content["version"], content["run"]
    except Exception as error:  # torch raises many kinds for a damaged file
        # PyTorch tells of a file that is no archive how to load it unsafely.
        unsafe = isinstance(error, pickle.UnpicklingError)
        reason = "it is another kind of file" if unsafe else str(error).splitlines()[0]
        raise ConfigError(f"{path} is damaged or no checkpoint ({reason})") from None
    if version != _VERSION:
        raise ConfigError(f"{path} has version {version}, expected {_VERSION}")
    if stored != run:
        changed = ", ".join(_differences(json.loads(stored), json.loads(run)))
        raise ConfigError(
            f"{path} is of another run: {changed} differ; resume with what it began with, or give "
            "another --out"
        )
    return Progress(**content["progress"]), content


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(old.keys() | new.keys()):
            found += _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        return found
    return [] if old == new else [f"{name} ({old} -> {new})"]

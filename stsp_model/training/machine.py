"""What a run uses of its machines: devices and processes, and workers that make batches ahead."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader, Dataset

from stsp_model.data.errors import DataError
from stsp_model.training.config import ConfigError, Optimisation
from stsp_model.training.stage import Batches


def make_fabric(device: str) -> Fabric:
    """Fabric for this process: on its own, or one of those that torchrun started.

    Its own mixed precision is left off: it would round what goes into a forward, pixels and stamps
    among it, to 16 bits; see `mixed`.

    Args:
        device: "auto", "cpu" or "cuda".

    Raises:
        ConfigError: if there is no such device.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # Fabric's hints, such as to use more workers, are not for the user of a command.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device is 'cuda', but PyTorch sees no GPU here: install its build for CUDA and the "
            "driver, or take --device cpu"
        )
    fabric = Fabric(
        accelerator=device,
        devices=here if processes > 1 else 1,
        num_nodes=max(processes // here, 1),
        strategy="ddp" if processes > 1 else "auto",
    )
    fabric.launch()
    return fabric


class _Steps(Dataset[Any]):
    """The micro-batches of one process: item n is the n-th it works on."""

    def __init__(self, batches: Batches, rank: int, processes: int, accumulate: int) -> None:
        self.batches, self.rank = batches, rank
        self.processes, self.accumulate = processes, accumulate

    def __getitem__(self, number: int) -> Any:
        # Each worker would otherwise use every core for itself.
        torch.set_num_threads(1)
        step, micro = divmod(number, self.accumulate)
        part = micro * self.processes + self.rank
        return self.batches.batch(step, part, self.processes * self.accumulate)


def _end_quietly(_worker: int) -> None:
    """A worker ends on SIGTERM as one does that is done.

    `timeout` and containers send it to all processes at once, and of a worker that it kills
    DataLoader makes an error, which would hide the interruption of the run.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def mixed(precision: str, device: torch.device) -> torch.autocast:
    """The context for "bf16-mixed": convolutions and matrix products in 16 bits, else nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed")


def load(fabric: Fabric, batches: Batches, settings: Optimisation, steps: range) -> Iterator[Any]:
    """This process's micro-batches of some steps, in turn, on its device."""
    accumulate, workers = settings.accumulate, settings.workers
    own = _Steps(batches, fabric.global_rank, fabric.world_size, accumulate)
    loader: DataLoader[Any] = DataLoader(
        own,
        sampler=range(steps.start * accumulate, steps.stop * accumulate),
        batch_size=None,
        num_workers=workers,
        pin_memory=fabric.device.type == "cuda",
        prefetch_factor=2 if workers else None,
        worker_init_fn=_end_quietly,
    )
    threads = torch.get_num_threads()
    try:
        for batch in loader:
            torch.set_num_threads(threads)
            yield fabric.to_device(batch)
    except DataError as error:
        # A worker's error comes with its traceback for a text, whose last line is the sentence.
        told = str(error).strip().splitlines()[-1]
        raise DataError(told.removeprefix(f"{DataError.__module__}.DataError: ")) from None

"""The training loop of all stages, on Lightning Fabric: one process or many, resumable anywhere.

Step n makes its batch from the seed and n alone, so a run that goes on from a checkpoint, or that
is shared among processes or micro-batches, takes the steps of one uninterrupted process.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from stsp_model.checkpoint import load_model, save
from stsp_model.data.formats import split_spec
from stsp_model.files import replacing
from stsp_model.network import STSPNet
from stsp_model.training.config import ConfigError, Optimisation
from stsp_model.training.config_3d import StageConfig
from stsp_model.training.machine import load, make_fabric, mixed
from stsp_model.training.plan import places
from stsp_model.training.stage import Stage
from stsp_model.training.state import (
    BEST,
    CHECKPOINT,
    Average,
    Progress,
    identity,
    load_checkpoint,
    save_checkpoint,
)
from stsp_model.training.sync import share_batch_norm

_LOG_STEPS = 20  # between two entries of the log
HISTORY = "history.json"


class TrainingError(RuntimeError):
    """Training that cannot go on."""


@dataclass(frozen=True)
class Run:
    """One stage being trained.

    Args:
        config: of the stage.
        stage: what to train.
        out: the folder of its checkpoint, weights and logs.
        data, select: what it learns from and what was named to select by, "FORMAT:PATH" each: a
            run goes on only with the same.
    """

    config: StageConfig
    stage: Stage
    out: Path
    data: tuple[str, ...]
    select: tuple[str, ...] = ()


def learning_rate(settings: Optimisation, step: int, total: int, reductions: int) -> float:
    """The learning rate of a step, of `total` in the run, after `reductions` on a plateau."""
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    if settings.schedule == "cosine":
        slope = 0.5 * (1 + math.cos(math.pi * step / total))
    else:
        slope = settings.plateau_factor**reductions
    return settings.learning_rate * warm * slope


def train(
    model: STSPNet, run: Run, *, resume: bool = False, device: str = "auto"
) -> list[dict[str, float]]:
    """Train a stage to its end.

    Args:
        model: whose weights change; that of `run.stage`.
        run: what to do and where to put it.
        resume: go on from the checkpoint in `run.out`.
        device: "auto", "cpu" or "cuda".

    Returns:
        the scores before the first epoch and after each, "epoch" and "loss" among them. The best
        averaged weights lie in `run.out`, if those of any epoch were better than the first.

    Raises:
        ConfigError: if there is nothing to resume from, or something already.
        TrainingError: if the loss is no longer finite.
    """
    return _Trainer(model, run, device).train(resume)


class _Trainer:
    def __init__(self, model: STSPNet, run: Run, device: str) -> None:
        self.run, self.stage, self.model = run, run.stage, model
        self.settings = run.config.optimisation
        self.total = self.settings.epochs * self.stage.steps_per_epoch
        self.fabric = make_fabric(device)
        self.parts = self.fabric.world_size * self.settings.accumulate
        try:
            for count in self.stage.shared:
                places(count, 0, self.parts)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        model.requires_grad_(False)
        for group in self.stage.groups:
            for parameter in group.parameters:
                parameter.requires_grad_(True)
        if self.fabric.world_size > 1 and not self.stage.frozen_norm:
            share_batch_norm(model)
        optimiser = torch.optim.AdamW(
            [{"params": list(group.parameters)} for group in self.stage.groups],
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
        )
        self.losses: Any
        self.optimiser: Any
        self.losses, self.optimiser = self.fabric.setup(self.stage.losses, optimiser)
        self.average = Average(model, self.settings.average_decay)
        self.identity = identity(run.config, list(run.data), list(run.select))
        self.progress = Progress()

    def train(self, resume: bool) -> list[dict[str, float]]:
        if resume:
            self._load()
        else:
            self._begin()
        progress = self.progress
        lead = self.fabric.is_global_zero
        log = SummaryWriter(self.run.out / "log", purge_step=progress.step) if lead else None
        if not progress.history:
            self._score(log)
        bar = tqdm(
            total=self.total,
            initial=progress.step,
            unit="step",
            disable=not lead,
            smoothing=0.1,
            mininterval=0.5 if sys.stderr.isatty() else 60,  # a log wants a line now and then
        )
        left = range(progress.step, self.total)
        micro = load(self.fabric, self.stage.batches, self.settings, left)
        try:
            self._steps(micro, bar, log)
        finally:
            bar.close()
            if log is not None:
                log.close()
        if lead:
            self._calibrate()
        self.fabric.barrier()
        return progress.history

    def _calibrate(self) -> None:
        """Make the best weights' confidences and variances mean what they say."""
        best = self.run.out / BEST
        if best.exists():
            network = load_model(best, self.fabric.device, self.model.preset)
            self.stage.calibrate(network)
            save(network, best)

    def _begin(self) -> None:
        out = self.run.out
        if (out / CHECKPOINT).exists():
            raise ConfigError(f"{out} holds a run already: --resume it, or give another --out")
        if (out / BEST).exists():
            raise ConfigError(f"{out} holds a {BEST} of another run: give another --out")
        if self.fabric.is_global_zero:
            out.mkdir(parents=True, exist_ok=True)
        self.fabric.barrier()

    def _load(self) -> None:
        self.progress, content = load_checkpoint(self.run.out, self.identity)
        self.model.note, self.model.trained = content["note"], content["trained"]
        self.model.load_state_dict(content["network"])
        self.average.network.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])

    def _save(self) -> None:
        if not self.fabric.is_global_zero:
            return
        save_checkpoint(
            self.run.out,
            self.identity,
            self.progress,
            self.model,
            self.average.network.state_dict(),
            self.optimiser.state_dict(),
        )

    def _steps(self, micro: Iterator[Any], bar: Any, log: SummaryWriter | None) -> None:
        progress, settings = self.progress, self.settings
        sums: dict[str, Tensor] = {}
        seen, started, waited = 0, time.monotonic(), 0.0
        while progress.step < self.total and not progress.stopped:
            asked = time.monotonic()
            batches = [next(micro) for _ in range(settings.accumulate)]
            waited += time.monotonic() - asked
            for name, value in self._step(batches).items():
                sums[name] = sums[name] + value if name in sums else value
            seen += 1
            progress.step += 1
            self.average.update(progress.step)
            bar.update()
            epoch_ends = progress.step % self.stage.steps_per_epoch == 0
            if seen == _LOG_STEPS or epoch_ends:
                means = self._means(sums, seen)
                took = (time.monotonic() - started) / seen
                bar.set_postfix(
                    loss=f"{means['loss']:.4g}", best=f"{progress.best:.4g}", refresh=False
                )
                if log is not None:
                    for name, mean in means.items():
                        log.add_scalar(f"loss/{name}", mean, progress.step)
                    log.add_scalar("time/step_s", took, progress.step)
                    log.add_scalar("time/waiting_for_data_s", waited / seen, progress.step)
                sums, seen, started, waited = {}, 0, time.monotonic(), 0.0
            if epoch_ends:
                self._score(log, means["loss"])
                started = time.monotonic()
            elif progress.step % settings.checkpoint_steps == 0:
                self._save()

    def _step(self, batches: list[Any]) -> dict[str, Tensor]:
        """Take one step; returns this process's share of each loss."""
        settings, fabric = self.settings, self.fabric
        rate = learning_rate(settings, self.progress.step, self.total, self.progress.reductions)
        for group, entry in zip(self.stage.groups, self.optimiser.param_groups, strict=True):
            entry["lr"] = rate * group.rate
        self.losses.train()
        if self.stage.frozen_norm:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        torch.manual_seed(settings.seed + self.progress.step)
        counts = [self.stage.losses.counts(batch) for batch in batches]
        names = list(self.stage.weights)
        own = torch.stack([torch.stack([c[n] for c in counts]).sum().float() for n in names])
        whole = fabric.all_reduce(own, reduce_op="sum")
        assert isinstance(whole, Tensor)
        totals = dict(zip(names, whole.clamp_min(1), strict=True))
        zero = torch.zeros((), device=fabric.device)
        shares: dict[str, Tensor] = {}
        for i, (batch, count) in enumerate(zip(batches, counts, strict=True)):
            last = i == len(batches) - 1
            with fabric.no_backward_sync(self.losses, enabled=not last):
                with mixed(settings.precision, fabric.device):
                    losses = self.losses(batch)
                parts = {
                    name: losses[name] * count[name].clamp_min(1) / totals[name] for name in names
                }
                loss = torch.stack([parts[name] * self.stage.weights[name] for name in names]).sum()
                # Processes average their gradients, but their shares add up.
                fabric.backward(loss * fabric.world_size)
            for name, share in {**parts, "loss": loss}.items():
                shares[name] = shares.get(name, zero) + share.detach()
        if not bool(torch.isfinite(shares["loss"])):
            raise TrainingError(
                f"the loss is {float(shares['loss'])} at step {self.progress.step}; begin anew, in "
                f"another --out, with a lower optimisation.learning_rate, from {BEST} if there is "
                "one: the same run would come to the same loss again"
            )
        if settings.clip_norm:
            fabric.clip_gradients(self.losses, self.optimiser, max_norm=settings.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return shares

    def _means(self, sums: dict[str, Tensor], steps: int) -> dict[str, float]:
        values = self.fabric.all_reduce(torch.stack(list(sums.values())), reduce_op="sum")
        assert isinstance(values, Tensor)
        return dict(zip(sums, (values / steps).tolist(), strict=True))

    def _score(self, log: SummaryWriter | None, loss: float = math.nan) -> None:
        """Score the averaged weights, keep the best, and draw the conclusions; then save."""
        progress, stage, settings = self.progress, self.stage, self.settings
        epoch = progress.step // stage.steps_per_epoch
        scores: dict[str, float] = {}
        if self.fabric.is_global_zero:
            scores = stage.evaluate(self.average.network, epoch)
        scores = self.fabric.broadcast(scores)
        known = {} if math.isnan(loss) else {"loss": loss}
        progress.history.append({"epoch": epoch, **known, **scores})
        score = scores[stage.score]
        lost = math.nan
        if stage.guard is not None:
            guarded, points = stage.guard
            if epoch == 0:
                progress.guarded = scores[guarded]
            lost = progress.guarded - scores[guarded] - points
        if epoch in stage.changes:
            progress.best, progress.stale, progress.stale_rate = math.nan, 0, 0
        better = score > progress.best if stage.higher else score < progress.best
        if (better or math.isnan(progress.best)) and not lost > 0:
            progress.best, progress.stale, progress.stale_rate = score, 0, 0
            if self.fabric.is_global_zero and epoch:
                self._keep(epoch, scores)
        else:
            progress.stale += 1
            progress.stale_rate += 1
        if settings.schedule == "plateau" and progress.stale_rate >= settings.plateau_patience:
            progress.reductions, progress.stale_rate = progress.reductions + 1, 0
        last_change = max(stage.changes, default=0)
        progress.stopped = lost > 0 or (
            progress.stale >= settings.stop_patience and epoch >= last_change
        )
        if log is not None:
            for name, value in scores.items():
                log.add_scalar(f"score/{name}", value, progress.step)
            log.add_scalar(
                "learning_rate",
                learning_rate(settings, progress.step, self.total, progress.reductions),
                progress.step,
            )
            shown = "  ".join(f"{name} {value:.2f}" for name, value in {**known, **scores}.items())
            tqdm.write(f"epoch {epoch}: {shown}")
            with replacing(self.run.out / HISTORY) as file:
                file.write(json.dumps(progress.history, indent=1).encode())
        self._save()

    def _keep(self, epoch: int, scores: dict[str, float]) -> None:
        """Write the averaged weights as the best so far, with a note of how they came about."""
        network = self.average.network
        shown = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
        data = ", ".join(sorted({split_spec(spec)[0] for spec in self.run.data}))
        line = f"{self.run.config.stage}: {epoch} epochs on {data}; {shown} on its selection part"
        notes = [*filter(None, self.model.note.split("\n")), line]
        network.note = "\n".join(notes)
        stages = {text.split(":")[0] for text in notes}
        network.trained = self.model.trained or {"finder", "epe", "lift"} <= stages
        save(network, self.run.out / BEST)

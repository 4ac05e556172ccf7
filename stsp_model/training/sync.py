"""Batch norm over the whole batch of several processes, so that they train as one would."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """Sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics are those of all processes' batches together.

    PyTorch's own SyncBatchNorm runs on GPUs only. Every process must have a batch of equal size.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        processes = dist.get_world_size()
        count = processes * values.numel() / values.shape[1]
        total = _Sum.apply(values.mean(dim=(0, 2, 3)))
        assert isinstance(total, Tensor)
        mean = total / processes
        centred = values - mean[:, None, None]
        total = _Sum.apply(centred.square().mean(dim=(0, 2, 3)))
        assert isinstance(total, Tensor)
        variance = total / processes
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            unbiased = variance * (count / max(count - 1, 1))
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def share_batch_norm(module: nn.Module) -> None:
    """Turn every `nn.BatchNorm2d` in a module into a `SharedBatchNorm`, in place."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
            # The very same weights: an optimiser may know them already.
            shared.weight, shared.bias = child.weight, child.bias
            shared.load_state_dict(child.state_dict())
            shared.train(child.training)
            setattr(module, name, shared)
        else:
            share_batch_norm(child)

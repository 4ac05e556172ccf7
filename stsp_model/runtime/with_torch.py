"""PyTorch on the CPU: the network itself, its batch norms folded."""

from __future__ import annotations

import copy
from typing import TypeGuard

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stsp_model.network import STSPNet


def folded(network: STSPNet) -> STSPNet:
    """A copy for inference, on the CPU, each batch norm folded into the convolution before it.

    An eighth faster on a CPU, and equal but for rounding.
    """
    result = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    for module in list(result.modules()):
        before: tuple[str, nn.Conv2d] | None = None
        # In this network a batch norm belongs to the convolution that was registered before it.
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and before is not None:
                setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
                setattr(module, name, nn.Identity())
            before = (name, child) if isinstance(child, nn.Conv2d) else None
    return result.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def is_folded(model: object) -> TypeGuard[STSPNet]:
    """Whether this is a network that `folded` gave, which is on its backend already."""
    if not isinstance(model, STSPNet):
        return False
    return not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())

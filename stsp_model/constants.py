"""Constant tensors beside the data they meet, on the CPU or a GPU."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from .skeleton import FLIP

SWAP = torch.tensor(FLIP)  # the joints of a body as its mirror image has them


def beside(constant: Tensor, like: Tensor) -> Tensor:
    """A constant of a module on the device of `like`, and in its precision if it is no index.

    On other devices than its own it is copied once. A constant made of Python's numbers in every
    pass would each time wait for the GPU, and a CUDA graph, which records what the GPU does, cannot
    be captured at all while the host hands something over.

    Args:
        constant: made once, at import; not on a GPU.
    """
    kind = like.dtype if constant.is_floating_point() else constant.dtype
    if constant.device == like.device:
        return constant.to(kind)
    return _placed(constant, like.device, kind)


@functools.cache
def _placed(constant: Tensor, device: torch.device, kind: torch.dtype) -> Tensor:
    # The first pass may be one of inference, whose tensors training could not use.
    with torch.inference_mode(False):
        return constant.to(device, kind)

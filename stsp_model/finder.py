"""Where people are: centres and sizes over a whole letterboxed frame, in one light pass.

It has a small trunk of its own instead of EPE's: so its cost, 0.2 GMAC, is the same for every
preset and below that of a crop, and it can be trained by itself on whole frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .hrnet import BasicBlock, Normalise, strided

FINDER_SIZE = (320, 256)  # width, height of the letterboxed frame, pixels
FINDER_STRIDE = 8  # pixels of the letterboxed frame per cell of the heat map
CENTRE_BIAS = 2.0  # an untrained network sees a person, so that everything behind it runs
_TYPICAL_DISTANCE = 64.0  # pixels from a centre to an edge of its box, where the head starts from
_DISTANCE_RANGE = 5.0  # of the logarithm: distances from 0.4 to 9500 pixels


def _widen(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


class Finder(nn.Module):
    """Person centres as a heat map, box sizes beside it, after CenterNet and FCOS.

    Features at strides 8, 16 and 32 are added up at stride 8, so that a small far child and one
    that fills the frame are seen by the same head.
    """

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.fine = nn.Sequential(
            *strided(3, 16), *strided(16, 32), *strided(32, 48), BasicBlock(48)
        )
        self.middle = nn.Sequential(*strided(48, 64), BasicBlock(64), BasicBlock(64))
        self.coarse = nn.Sequential(*strided(64, 96), BasicBlock(96), BasicBlock(96))
        self.from_middle = _widen(64, 48)
        self.from_coarse = _widen(96, 48)
        self.mix = nn.Sequential(
            nn.Conv2d(48, 48, 3, 1, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU()
        )
        self.head = nn.Conv2d(48, 5, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)
        nn.init.normal_(self.head.weight, std=0.01)
        assert self.head.bias is not None
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([CENTRE_BIAS, 0, 0, 0, 0]))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Look over whole frames.

        Args:
            frames: (N, 3, h, w) RGB, 0..1, letterboxed; h and w multiples of 32.

        Returns:
            centres (N, h/8, w/8): logits of a person's box being centred in the cell;
            distances (N, 4, h/8, w/8): pixels, positive, from the cell's centre to the left, top,
            right and bottom edge of that person's box.
        """
        fine = self.fine(self.normalise(frames))
        middle = self.middle(fine)
        coarse = self.from_coarse(self.coarse(middle))
        up = nn.functional.interpolate
        total = fine + up(self.from_middle(middle), scale_factor=2.0, mode="nearest")
        total = total + up(coarse, scale_factor=4.0, mode="nearest")
        out = self.head(self.mix(total))
        logarithms = out[:, 1:].clamp(-_DISTANCE_RANGE, _DISTANCE_RANGE)
        return out[:, 0], _TYPICAL_DISTANCE * torch.exp(logarithms)


def decode_people(centres: Tensor, distances: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Boxes from the finder's maps: the `limit` highest local maxima of each frame.

    A cell counts if none of its eight neighbours is higher, so one person gives one box.

    Args:
        centres: (N, h, w) logits.
        distances: (N, 4, h, w) pixels.
        limit: boxes per frame, from 1 to h * w.

    Returns:
        boxes (N, limit, 4) x0 y0 x1 y1 in pixels of the letterboxed frame, best first, and their
        scores (N, limit) 0..1; 0 where there is no further maximum.

    Raises:
        ValueError: if `limit` is out of its range.
    """
    height, width = centres.shape[-2:]
    if not 1 <= limit <= height * width:
        raise ValueError(f"limit is {limit}, expected 1 to {height * width}")
    scores = torch.sigmoid(centres.float())
    highest = nn.functional.max_pool2d(scores.unsqueeze(1), 3, 1, 1).squeeze(1)
    peaks = torch.where(scores == highest, scores, 0.0)
    best, cells = peaks.flatten(1).topk(limit, dim=1)
    sides = distances.flatten(2).transpose(1, 2)
    sides = sides.gather(1, cells.unsqueeze(-1).expand(-1, -1, 4)).float()
    x = (cells % width) * float(FINDER_STRIDE) + (FINDER_STRIDE - 1) / 2
    y = cells.div(width, rounding_mode="floor") * float(FINDER_STRIDE) + (FINDER_STRIDE - 1) / 2
    centre = torch.stack([x, y], dim=-1)
    return torch.cat([centre - sides[..., :2], centre + sides[..., 2:]], dim=-1), best

"""HRNet, the backbone: image features at a quarter of the input's resolution (eq. 1).

High-Resolution Network (Sun et al., CVPR 2019; Wang et al., TPAMI 2020). Parameters carry the
names of the authors' pose network, so that its checkpoints load; only sizes differ per preset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

BOTTLENECK_EXPANSION = 4
STRIDE = 4  # input pixels per cell of the highest-resolution branch


@dataclass(frozen=True)
class HRNetSize:
    """Sizes of one HRNet. The defaults are those of the authors, `widths` apart.

    widths: channels of the four branches, at strides 4, 8, 16 and 32.
    stem: channels of the two strided convolutions in front.
    planes: inner channels of layer1's bottlenecks, which put out four times as many.
    layer1_blocks: bottlenecks in layer1.
    modules: exchange modules in stages 2, 3 and 4.
    blocks: basic blocks per branch of a module.
    """

    widths: tuple[int, int, int, int]
    stem: int = 64
    planes: int = 64
    layer1_blocks: int = 4
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4


class Normalise(nn.Module):
    """RGB in 0..1 to the mean and spread of ImageNet's images, as pretrained weights expect."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) to the same."""
        return (images - self.mean) / self.std


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


def strided(inputs: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution that halves the resolution, with batch norm and ReLU."""
    return nn.Sequential(_conv3x3(inputs, outputs, 2), nn.BatchNorm2d(outputs), nn.ReLU())


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same."""
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(x + self.bn2(self.conv2(out)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut."""

    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        outputs = planes * BOTTLENECK_EXPANSION
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, 4 * planes, h, w)."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        return torch.relu(self.downsample(x) + self.bn3(self.conv3(out)))


def _fuse(source: int, target: int, widths: Sequence[int]) -> nn.Module:
    """Bring branch `source` to the resolution and width of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            nn.Conv2d(widths[source], widths[target], 1, bias=False),
            nn.BatchNorm2d(widths[target]),
            nn.Upsample(scale_factor=2.0 ** (source - target), mode="nearest"),
        )
    steps: list[nn.Module] = [
        strided(widths[source], widths[source]) for _ in range(target - source - 1)
    ]
    steps.append(
        nn.Sequential(_conv3x3(widths[source], widths[target], 2), nn.BatchNorm2d(widths[target]))
    )
    return nn.Sequential(*steps)


class ExchangeModule(nn.Module):
    """Blocks in every branch, then every output is the sum of all branches."""

    def __init__(self, widths: Sequence[int], blocks: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse(source, target, widths) for source in range(len(widths)))
            for target in range(outputs)
        )

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        """One tensor per branch, highest resolution first, to the first `outputs` of them."""
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        return [self.exchanged(target, xs) for target in range(len(self.fuse_layers))]

    def exchanged(self, target: int, xs: list[Tensor]) -> Tensor:
        """What goes into branch `target` from what came out of all of them."""
        row = self.fuse_layers[target]
        assert isinstance(row, nn.ModuleList)
        return torch.relu(reduce(torch.add, [fuse(x) for fuse, x in zip(row, xs, strict=True)]))


class HRNet(nn.Module):
    """Eq. 1: F = HRNet(I), features at a quarter of the resolution, and the heat maps' layer.

    Args:
        size: widths and depths.
        outputs: heat maps of `final_layer`, the authors' 1x1 head. `forward` leaves it to the
            keypoint module, which weights the features first (eq. 5).
    """

    def __init__(self, size: HRNetSize, outputs: int) -> None:
        super().__init__()
        widths = size.widths
        self.conv1 = _conv3x3(3, size.stem, 2)
        self.bn1 = nn.BatchNorm2d(size.stem)
        self.conv2 = _conv3x3(size.stem, size.stem, 2)
        self.bn2 = nn.BatchNorm2d(size.stem)
        expanded = size.planes * BOTTLENECK_EXPANSION
        self.layer1 = nn.Sequential(
            Bottleneck(size.stem, size.planes),
            *(Bottleneck(expanded, size.planes) for _ in range(size.layer1_blocks - 1)),
        )
        # A transition leaves the branches it gets as they are and adds one of half the resolution;
        # the first also narrows layer1's output.
        self.transition1 = nn.ModuleList(
            [
                nn.Sequential(_conv3x3(expanded, widths[0]), nn.BatchNorm2d(widths[0]), nn.ReLU()),
                nn.Sequential(strided(expanded, widths[1])),
            ]
        )
        self.transition2 = nn.ModuleList(
            [nn.Identity(), nn.Identity(), nn.Sequential(strided(widths[1], widths[2]))]
        )
        self.transition3 = nn.ModuleList(
            [nn.Identity()] * 3 + [nn.Sequential(strided(widths[2], widths[3]))]
        )
        stages = []
        for branches, modules in zip((2, 3, 4), size.modules, strict=True):
            # Only the highest resolution leaves the last module.
            outputs_of = [branches] * (modules - 1) + [1 if branches == 4 else branches]
            stages.append(
                nn.Sequential(
                    *(ExchangeModule(widths[:branches], size.blocks, n) for n in outputs_of)
                )
            )
        self.stage2, self.stage3, self.stage4 = stages
        self.final_layer = nn.Conv2d(widths[0], outputs, 1)
        self._initialise()

    def forward(self, images: Tensor) -> Tensor:
        """Normalised RGB (N, 3, H, W), H and W multiples of 32, to (N, widths[0], H/4, W/4)."""
        x = torch.relu(self.bn1(self.conv1(images)))
        x = torch.relu(self.bn2(self.conv2(x)))
        xs = [self.layer1(x)]
        for transition, stage in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            last = len(xs) - 1
            xs = stage([layer(xs[min(i, last)]) for i, layer in enumerate(transition)])
        return xs[0]

    def _initialise(self) -> None:
        """He initialisation, residual blocks as identities: finite even where nothing is trained.

        With batch norm's running statistics still at (0, 1), every block that added its share
        would double the variance.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)
        nn.init.normal_(self.final_layer.weight, std=0.01)
        assert self.final_layer.bias is not None
        nn.init.zeros_(self.final_layer.bias)

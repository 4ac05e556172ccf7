"""The backbone has the names, parameters and cost of the authors' pose network."""

import pytest
import torch
from torch import nn

from stsp_model.hrnet import BasicBlock, Bottleneck, ExchangeModule, HRNet, HRNetSize, Normalise
from stsp_model.network import PRESETS

BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def official_names() -> set[str]:
    """Every key of the authors' checkpoints, from the rule by which they are built."""
    names: set[str] = set()

    def conv_bn(conv: str, bn: str) -> None:
        names.add(f"{conv}.weight")
        names.update(f"{bn}.{part}" for part in BATCH_NORM)

    for n in (1, 2):
        conv_bn(f"conv{n}", f"bn{n}")
    for block in range(4):
        for n in (1, 2, 3):
            conv_bn(f"layer1.{block}.conv{n}", f"layer1.{block}.bn{n}")
    conv_bn("layer1.0.downsample.0", "layer1.0.downsample.1")
    for prefix in ("transition1.0", "transition1.1.0", "transition2.2.0", "transition3.3.0"):
        conv_bn(f"{prefix}.0", f"{prefix}.1")
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        for module in range(modules):
            prefix = f"stage{stage}.{module}"
            for branch in range(stage):
                for block in range(4):
                    for n in (1, 2):
                        inner = f"{prefix}.branches.{branch}.{block}"
                        conv_bn(f"{inner}.conv{n}", f"{inner}.bn{n}")
            targets = 1 if (stage, module) == (4, 2) else stage
            for i in range(targets):
                for j in range(stage):
                    fuse = f"{prefix}.fuse_layers.{i}.{j}"
                    if j > i:
                        conv_bn(f"{fuse}.0", f"{fuse}.1")
                    for k in range(i - j):
                        conv_bn(f"{fuse}.{k}.0", f"{fuse}.{k}.1")
    return names | {"final_layer.weight", "final_layer.bias"}


def multiply_adds(network: nn.Module, run) -> int:
    """Of the convolutions and linear layers that `run` passes through."""
    total = 0

    def count(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return total


@pytest.fixture(scope="module", params=["base", "large"])
def official(request):
    with torch.device("meta"):
        return request.param, HRNet(PRESETS[request.param].backbone, outputs=17).eval()


def test_keys_are_those_of_the_authors(official):
    _, network = official
    assert set(network.state_dict()) == official_names()


def test_parameter_counts_are_those_of_the_authors(official):
    name, network = official
    count = sum(p.numel() for p in network.parameters())
    assert count == {"base": 28_536_113, "large": 63_595_745}[name]
    assert round(count / 1e6, 1) == {"base": 28.5, "large": 63.6}[name]


def test_cost_is_that_of_the_authors(official):
    # Their table counts in units of 2^30: 7.65e9 multiply-adds are its 7.1 G.
    name, network = official
    images = torch.empty(1, 3, 256, 192, device="meta")
    cost = multiply_adds(network, lambda: network.final_layer(network(images)))
    assert round(cost / 2**30, 1) == {"base": 7.1, "large": 14.6}[name]


def test_features_have_a_quarter_of_the_resolution():
    network = HRNet(HRNetSize((8, 16, 24, 32), 8, 4, 1, (1, 1, 1), 1), outputs=17).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 64, 96)).shape == (2, 8, 16, 24)


def test_a_block_that_adds_nothing_passes_on_what_is_positive():
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    basic, bottleneck = BasicBlock(16).eval(), Bottleneck(16, 4).eval()
    for block, last in ((basic, basic.bn2), (bottleneck, bottleneck.bn3)):
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            assert torch.equal(block(x), x.relu())


def test_a_coarser_branch_is_repeated_cell_by_cell():
    module = ExchangeModule((4, 8), blocks=1, outputs=2).eval()
    fine, coarse = torch.zeros(1, 4, 8, 8), torch.rand(1, 8, 4, 4)
    with torch.no_grad():
        out = module.exchanged(0, [fine, coarse])
        conv, norm, _ = module.fuse_layers[0][1]
        expected = norm(conv(coarse)).relu()
    assert torch.equal(out, expected.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_the_mean_colour_of_imagenet_is_zero():
    red_green_blue = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    torch.testing.assert_close(Normalise()(red_green_blue), torch.zeros(1, 3, 1, 1))
    white = (1 - red_green_blue) / torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    torch.testing.assert_close(Normalise()(torch.ones(1, 3, 1, 1)), white)


def test_every_parameter_takes_part_in_the_result():
    torch.manual_seed(0)
    network = HRNet(HRNetSize((8, 16, 24, 32), 8, 4, 2, (1, 2, 2), 2), outputs=17).train()
    network.final_layer(network(torch.randn(2, 3, 64, 64))).square().sum().backward()
    unused = [name for name, p in network.named_parameters() if p.grad is None]
    assert unused == []


def test_untrained_features_stay_of_order_one_to_a_hundred():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = HRNet(PRESETS["edge"].backbone, outputs=17).eval()
        with torch.no_grad():
            features = network(torch.randn(1, 3, 64, 64))
    assert 0.1 < features.std() < 100

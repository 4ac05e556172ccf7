"""The tiny data sets, written once for all tests of training."""

from __future__ import annotations

import minisets
import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def lspet(tmp_path_factory):
    return f"lspet:{minisets.write_lspet(tmp_path_factory.mktemp('data') / 'lspet')}"


@pytest.fixture(scope="session")
def cmu(tmp_path_factory):
    return f"bvh:{minisets.write_cmu(tmp_path_factory.mktemp('data') / 'cmu')}"


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """Rendered clips of split "train" and of split "validation"."""
    folder = tmp_path_factory.mktemp("synth")
    return [
        f"synth:{minisets.write_synth(folder / part, part)}" for part in ("train", "validation")
    ]

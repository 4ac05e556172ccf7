"""One network, its frames, and the network on every backend, opened once for all tests."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from stsp_model.checkpoint import load_model
from stsp_model.evaluation.video import bag_people, bags
from stsp_model.runtime import exported
from stsp_model.runtime.backends import open_network

SAMPLE = Path(__file__).resolve().parents[2] / "assets" / "sample.mcap"
FRAMES = 40  # of the sample bag


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def edge():
    return load_model("edge")


@pytest.fixture(scope="session")
def exported_as(edge):
    """The network as ONNX, exported once for all tests that take the same options."""
    pytest.importorskip("onnx")
    return functools.cache(lambda **options: exported.export(edge, **options))


@pytest.fixture(scope="session")
def onnx_files(exported_as):
    return exported_as()


@pytest.fixture(scope="session")
def pictures():
    """The first frames of the sample bag: stamp, image, camera."""
    (footage,) = bags(SAMPLE)
    return [picture for picture, _ in zip(footage.pictures(), range(FRAMES), strict=False)]


@pytest.fixture(scope="session")
def child_joints(pictures):
    """(FRAMES, 17, 2) pixels: where the child's joints truly are."""
    (child,) = bag_people(SAMPLE)
    return child.joints_2d[: len(pictures)]


@pytest.fixture(scope="session")
def gpu():
    """The name of a GPU; skips what asks for it where there is none."""
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return "cuda"


@pytest.fixture(scope="session")
def opened(request, edge, onnx_files):
    """The network by backend; "cuda" is PyTorch on a GPU, in 32 bits."""
    networks = {}

    def network(backend):
        if backend == "cuda":
            request.getfixturevalue("gpu")
        if backend not in networks and backend == "cuda":
            networks[backend] = open_network(edge, "torch", backend, half=False, mirrored=False)
        elif backend not in networks:
            pytest.importorskip(backend)
            networks[backend] = open_network(onnx_files, backend)
        return networks[backend]

    return network

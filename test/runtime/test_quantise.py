"""EPE in 8 bits: what it costs is measured and stays with it."""

from __future__ import annotations

import numpy as np
import pytest

from stsp_model.data.samples import ImagePose
from stsp_model.runtime import exported
from stsp_model.runtime.backends import open_network

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from stsp_model.runtime import quantise
from stsp_model.runtime.quantise import _crops, quantised


@pytest.fixture(scope="module")
def people(pictures, child_joints):
    """The child of the sample bag, in every frame, with its true joints."""
    found = []
    for i, (_, image, _) in enumerate(pictures):
        joints = child_joints[i]
        box = np.concatenate([joints.min(axis=0), joints.max(axis=0)])
        found.append(ImagePose(image, joints, np.ones(17, bool), box, str(i)))
    return found


@pytest.fixture(scope="module")
def result(onnx_files, people):
    return quantised(onnx_files, people[:20], people[20:])


def test_the_cost_is_measured_and_stored(result, onnx_files, tmp_path):
    network, cost = result
    assert cost.images == 20
    assert 0 < cost.before <= 100
    assert abs(cost.after - cost.before) < 10
    exported.write(network, tmp_path)
    description = exported.read(tmp_path).description
    assert (description.precision, description.accuracy) == ("int8", str(cost))
    assert f"{cost.after:.2f} % in 8 bits" in description.accuracy
    assert len(network.files["epe"]) < 0.5 * len(onnx_files.files["epe"])


def test_the_first_layers_and_the_heat_maps_stay_in_32_bits(result, exported_as, people):
    """With mirror images as well, whose heat maps are no layer's output."""
    onnx = pytest.importorskip("onnx")
    both, _ = quantised(exported_as(mirrored=True), people[:2], people[20:21])
    assert (both.description.precision, both.description.mirrored) == ("int8", True)
    for network in (result[0], both):
        graph = onnx.load_model_from_string(network.files["epe"]).graph
        layers = [node for node in graph.node if node.op_type == "Conv"]
        makers = {name: node.op_type for node in graph.node for name in node.output}
        precise = [
            i for i, node in enumerate(layers) if "Dequantize" not in makers.get(node.input[1], "")
        ]
        assert precise == [0, 1, len(layers) - 1]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_it_runs_and_sees_much_the_same(backend, result, onnx_files, pictures):
    pytest.importorskip(backend)
    from stsp_model.estimator import PoseEstimator

    box = np.array([[220.0, 90, 420, 450]])
    before, after = (
        PoseEstimator(open_network(network, backend)).step(pictures[0][1], 0.0, boxes=box)
        for network in (onnx_files, result[0])
    )
    off = np.linalg.norm(before[0].joints_2d - after[0].joints_2d, axis=-1)
    assert 0 < np.median(off) < 3


def test_what_is_not_in_32_bits_or_has_nobody_in_it_is_refused(result, onnx_files, people):
    with pytest.raises(ValueError, match="network is in int8, expected float32"):
        quantised(result[0], people, people)
    blank = ImagePose(people[0].image, people[0].joints, people[0].visible, np.zeros(4), "x")
    for nobody in ([], [blank]):
        with pytest.raises(ValueError, match="nobody in the training images"):
            quantised(onnx_files, nobody, people)
    with pytest.raises(ValueError, match="nobody in the selection images"):
        quantised(onnx_files, people[:2], [])


def test_calibration_images_are_spread_evenly_over_all_that_there_are(people, monkeypatch):
    size = (32, 32)
    whole = _crops(people[:7], size, progress=False)
    assert len(whole) == 7
    monkeypatch.setattr(quantise, "CALIBRATION_IMAGES", 3)
    for spread, crop in zip(_crops(people[:7], size, progress=False), whole[::3], strict=True):
        np.testing.assert_array_equal(spread, crop)

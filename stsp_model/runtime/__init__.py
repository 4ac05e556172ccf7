"""Backends that run a network: PyTorch, ONNX Runtime, OpenVINO and TensorRT behind one seam.

Here are their names alone, so that a command line can list them without loading PyTorch.
"""

AUTO, TORCH, ONNXRUNTIME = "auto", "torch", "onnxruntime"
OPENVINO, TENSORRT = "openvino", "tensorrt"
BACKENDS = (AUTO, TORCH, ONNXRUNTIME, OPENVINO, TENSORRT)

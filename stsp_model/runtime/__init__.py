"""Backends that run a network: PyTorch, ONNX Runtime, OpenVINO and TensorRT behind one seam.

Here are names alone, theirs and those of what they compute in, so that a command line can list
them without loading PyTorch.
"""

AUTO, TORCH, ONNXRUNTIME = "auto", "torch", "onnxruntime"
OPENVINO, TENSORRT = "openvino", "tensorrt"
BACKENDS = (AUTO, TORCH, ONNXRUNTIME, OPENVINO, TENSORRT)
FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"  # in which EPE is computed

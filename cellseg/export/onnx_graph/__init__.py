"""ONNX graphs: built, looked at, run for their tensors."""

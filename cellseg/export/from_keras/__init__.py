"""Keras layers as ONNX."""

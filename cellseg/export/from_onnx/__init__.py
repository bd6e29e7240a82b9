"""A user's own ONNX file in the form of our graphs."""

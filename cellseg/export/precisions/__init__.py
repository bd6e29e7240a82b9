"""Numbers of other types: int8 for CPUs and for TensorRT, float16."""

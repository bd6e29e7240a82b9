"""Files of other kinds: TFLite, TensorRT."""

"""Runs a bundle over slides, images and frames. Never imports Keras, TensorFlow or onnx."""

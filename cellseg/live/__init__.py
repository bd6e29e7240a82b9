"""Frames of a running microscope through the runtime: session, sources, events, mosaic.

Imports `cellseg.runtime` only; never Keras, TensorFlow or onnx.
"""

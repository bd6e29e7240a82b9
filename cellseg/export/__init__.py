"""Turns a trained Keras model into a bundle, and proves what it is worth.

::

    Keras model ─onnx_from_keras─> graph ─passes─> model.fp32.onnx ─quantize─> model.int8.u8s8.onnx
                                                          │                            │
                               parity, receptive field <──┴──────────> quality <───────┘

`cellseg.export.export.export_run` does all of it. Nothing here is needed to run a bundle.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as for training; before TensorFlow is loaded

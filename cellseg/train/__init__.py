"""From a folder of images and masks to a trained Keras model; needs the ``[train]`` extra.

Keras 3, backend-neutral: TensorFlow by default, JAX and torch by ``KERAS_BACKEND``.
"""

import os

# TensorFlow reports, as errors, that a machine without a GPU has none. Set before its import or
# never; a user's own setting is kept.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

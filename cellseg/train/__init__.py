"""From a folder of images and masks to a trained Keras model; needs the ``[train]`` extra.

Keras 3, backend-neutral: TensorFlow by default, JAX and torch by ``KERAS_BACKEND``.
"""

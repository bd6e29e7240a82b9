"""Keras layers of our own: what training builds and what export reads.

Importing this package registers them, so that ``keras.saving.load_model`` finds them.
"""

from cellseg.layers.colors import ColorSpace, GammaCurve
from cellseg.layers.precision import in_full_precision
from cellseg.layers.whole_tile import sees_whole_tile
from cellseg.layers.window_attention import WindowAttention

__all__ = ["ColorSpace", "GammaCurve", "WindowAttention", "in_full_precision", "sees_whole_tile"]

"""Pictures of a result that are drawn from its cells: density, gallery, sizes.

The core install has no plotting library: pixels are drawn with OpenCV, charts are SVG.
"""

"""How good predictions are: label images and classes against true ones.

``images``        pixels and objects of labelled images, as bundles are measured
``overlap``       which objects share pixels
``instances``     what one image scores
``summary``       what many images score together, with intervals
``intervals``     the bootstrap they come from
``label_images``  label images in folders, in pairs
``report``        the tables and files that users read
"""

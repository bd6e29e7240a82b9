"""How well cells were told apart: predicted label images against true ones.

``overlap``       which objects share pixels
``instances``     what one image scores
``summary``       what many images score together, with intervals
``intervals``     the bootstrap they come from
``label_images``  label images in folders, in pairs
``report``        the tables and files that users read
"""

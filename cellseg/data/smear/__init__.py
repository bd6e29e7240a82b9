"""Synthetic blood smears: real cells, cut out and pasted onto fields of red cells.

The pipeline of ``abhanjac/blood_cell_image_segmentation`` without its flaws: labels are never
interpolated, pasted edges are feathered, and a cell's colours can be matched to its new ground.
"""

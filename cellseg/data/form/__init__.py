"""The one form of a data set: images, masks and labels, read and written."""

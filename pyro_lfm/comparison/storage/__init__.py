"""Fits of a comparison on disk: the folder, and the records in it."""

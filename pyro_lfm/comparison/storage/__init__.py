"""Fits of a comparison on disk."""

"""Rows that stay on the disk, for ``benchmark_scaling.py``: their cost and memory, each fit in a process of its own."""

"""Parts of ``benchmark_training.py``: our own contestants, what is measured, the table and the picture."""

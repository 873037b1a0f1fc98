"""Parts of ``benchmark_gpu.py``: the clock of a contestant in this process, and the rows of the table."""

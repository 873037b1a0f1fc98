"""The explorer's page in a browser, for benchmark_explorer.py: how long answers take to be seen, frames to be drawn."""

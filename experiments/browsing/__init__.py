"""The explorer's page in a browser, for benchmark_explorer.py: how long an answer takes to be seen, and a frame to be drawn."""

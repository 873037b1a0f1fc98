"""Data files of front ends, the command line and the explorer: what is in them, and their rows by the names of a model."""

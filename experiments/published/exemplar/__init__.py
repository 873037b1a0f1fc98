"""The parts of ``experiments/published/exemplar_fashion.py``: its settings, its pictures, its models."""

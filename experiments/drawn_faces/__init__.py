"""The parts of ``experiments/faces.py``: the model, the reader that judges its faces, the tables, the photographs."""

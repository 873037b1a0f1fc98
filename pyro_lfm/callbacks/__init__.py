"""Callbacks of ``lfm.fit`` that write the history while it grows: as a CSV file, and for TensorBoard."""

from pyro_lfm.callbacks.csv_file import CSV
from pyro_lfm.callbacks.tensorboard_events import TensorBoard

__all__ = ["CSV", "TensorBoard"]

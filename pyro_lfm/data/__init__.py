"""Batches, readers of every kind of table, and the data sets that ship or are found."""

from pyro_lfm.data.batch import Batch

__all__ = ["Batch"]

"""Batches, readers for data of any kind, and the data sets that ship or are found."""

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.datasets import Labelled, digits, fashion_mnist, from_torchvision, import_torchvision
from pyro_lfm.data.readers import Table, read
from pyro_lfm.data.validation import validate

__all__ = [
    "Batch",
    "Labelled",
    "Table",
    "digits",
    "fashion_mnist",
    "from_torchvision",
    "import_torchvision",
    "read",
    "validate",
]

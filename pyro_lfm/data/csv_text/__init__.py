"""CSV text: its dialect, its cells, and the same text with missing cells filled."""

from pyro_lfm.data.csv_text.delimited_file import CsvFile
from pyro_lfm.data.csv_text.dialect import Dialect

__all__ = ["CsvFile", "Dialect"]

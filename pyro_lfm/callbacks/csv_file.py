"""``CSV``: the history of a fit as a table on disk, one line an epoch."""

from __future__ import annotations

import csv
import os

from pyro_lfm.callbacks.record_numbers import numbers_of, place_of
from pyro_lfm.errors import DataError
from pyro_lfm.inference.fitted import Fit, Record


class CSV:
    """Writes every record of the history to a CSV file, flushed after each epoch: ``lfm.fit(..., callbacks=[CSV(path)])``.

    Numbers have all their digits. Only numbers of a record are written, those that callbacks add to it too.

    A fit that goes on from a checkpoint goes on in the file: lines of its epoch and of later ones, which an interrupted fit
    may have left, are replaced. So a fit from the start begins the file anew.

    Args:
        path: the file, whose folder is made if there is none.

    Raises:
        DataError: the file cannot be written, or is no table with a column epoch.

    >>> import tempfile, torch, pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear())), epochs=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/history.csv"
    ...     fit = lfm.fit(model, torch.randn(20, 3), svi, callbacks=[CSV(path)], seed=0, progress=False)
    ...     lines = open(path).read().splitlines()
    >>> lines[0].split(",")[:3], len(lines)
    (['epoch', 'step', 'bound'], 3)
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = place_of("CSV", path)
        self._fit: Fit | None = None
        self._columns: list[str] = []

    def __call__(self, record: Record, fit: Fit) -> None:
        numbers = numbers_of(record)
        try:
            if fit is not self._fit or not numbers.keys() <= {*self._columns}:
                self._begin(numbers)
                self._fit = fit
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file).writerow([numbers.get(name, "") for name in self._columns])
                file.flush()
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror or error}") from None

    def _begin(self, numbers: dict[str, float]) -> None:
        """Writes the lines of earlier epochs again, under a head that has all columns."""
        head, lines = self._earlier(numbers["epoch"]) if "epoch" in numbers else ([], [])
        self._columns = [*head, *(name for name in numbers if name not in head)]
        filled = [[*line, *[""] * (len(self._columns) - len(line))] for line in lines]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One rename, so that an interruption loses no line.
        fresh = self.path.with_name(f"{self.path.name}.new")
        with fresh.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([self._columns, *filled])
        os.replace(fresh, self.path)

    def _earlier(self, epoch: float) -> tuple[list[str], list[list[str]]]:
        """The head of the file that is there, and its lines before an epoch."""
        if not self.path.exists():
            return [], []
        with self.path.open(encoding="utf-8", newline="") as file:
            lines = [line for line in csv.reader(file) if line]
        if not lines:
            return [], []
        try:
            column = lines[0].index("epoch")
            kept = [line for line in lines[1:] if float(line[column]) < epoch]
        except (ValueError, IndexError):
            raise DataError(
                f"{self.path} is no history of a fit, and is not overwritten: name another file, or remove it"
            ) from None
        return (lines[0], kept) if kept else ([], [])

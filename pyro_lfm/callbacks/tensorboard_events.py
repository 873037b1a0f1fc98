"""``TensorBoard``: the history of a fit as curves that TensorBoard shows while it grows."""

from __future__ import annotations

import os
from math import isnan
from typing import TYPE_CHECKING

from pyro_lfm.callbacks.record_numbers import numbers_of, place_of
from pyro_lfm.errors import DataError
from pyro_lfm.inference.fitted import Fit, Record

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# What the axis of the curves shows already.
_AXIS = {"epoch", "iteration", "step"}


class TensorBoard:
    """Writes every number of a record as a curve over epochs: ``lfm.fit(..., callbacks=[TensorBoard(folder)])``.

    ``tensorboard --logdir FOLDER`` shows them. Each epoch is flushed. A fit that goes on from a checkpoint goes on in the
    folder, and what an interrupted fit has written of its epoch and of later ones is hidden. Numbers that are NaN, such as
    a validation bound without validation rows, are left out.

    Args:
        path: the folder, one for each fit.

    Raises:
        ImportError: when it is first called, without tensorboard, which the extra ``pyro_lfm[tensorboard]`` installs.
        DataError: the folder cannot be written.

    >>> import tempfile, torch, pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear())), epochs=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fit = lfm.fit(model, torch.randn(20, 3), svi, callbacks=[TensorBoard(folder)], seed=0, progress=False)
    ...     [name.split(".")[0] for name in os.listdir(folder)]
    ['events']
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = place_of("TensorBoard", path)
        self._fit: Fit | None = None
        self._writer: SummaryWriter | None = None

    def __call__(self, record: Record, fit: Fit) -> None:
        numbers = numbers_of(record)
        epoch = int(numbers.get("epoch", len(fit.history)))
        try:
            if self._writer is None or fit is not self._fit:
                self.close()
                self._writer, self._fit = self._opened(epoch), fit
            for name, value in numbers.items():
                if name not in _AXIS and not isnan(value):
                    self._writer.add_scalar(name, value, epoch)
            self._writer.flush()
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror or error}") from None

    def close(self) -> None:
        """Closes the file. The next record opens another one in the same folder."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _opened(self, epoch: int) -> SummaryWriter:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "lfm.callbacks.TensorBoard needs tensorboard: pip install 'pyro_lfm[tensorboard]'"
            ) from error
        return SummaryWriter(str(self.path), purge_step=epoch)

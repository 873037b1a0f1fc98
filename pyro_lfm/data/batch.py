"""The minibatch: the one argument of every model and every guide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import torch
from pyro.poutine.runtime import Message

from pyro_lfm.data.shares import Share
from pyro_lfm.errors import DataError, DeclarationError


class WeightedPlate(pyro.plate):
    """The plate over rows of which each has a weight: the scale of its statements is w N / B.

    Args:
        batch: the batch.
    """

    def __init__(self, batch: Batch):
        super().__init__("rows", size=batch.total, subsample=batch.index, dim=-1)
        self.batch = batch

    def _process_message(self, msg: Message[..., Any]) -> None:
        super()._process_message(msg)
        msg["scale"] = self.batch.weighted(msg["scale"])


class Batch:
    """Some rows of the data: named tensors of shape (B, ...), where NaN marks a missing entry.

    Args:
        data: tensors by name, or a single tensor for a program that reads one name. None means that the program generates.
        index: the rows' numbers in the whole data, (B,) integers. By default they are 0 to B − 1.
        total: the number of rows N in the whole data, by default B. Sites in ``plate()`` are scaled by N / B.
        size: the number of rows B, needed only without data.
        complete: names without missing entries, which are not searched for NaN.
        incomplete: names with missing entries in some batch. They always have a mask, so that all batches are alike.
        weights: (B,), how many rows of the likelihood each row is worth. It is None where each is worth one. Statements in
            ``plate()`` are scaled by them too.
        total_weight: the sum of the weights of the whole data. It is N without weights.
        share: which rows of a larger batch these are, where several processes share it.

    >>> batch = Batch(torch.tensor([[1.0, float("nan")]]), total=10)
    >>> batch["x"], batch.mask("x"), batch.size, batch.total
    (tensor([[1., 0.]]), tensor([[ True, False]]), 1, 10)
    """

    def __init__(
        self,
        data: torch.Tensor | Mapping[str, torch.Tensor] | None = None,
        index: torch.Tensor | None = None,
        total: int | None = None,
        size: int | None = None,
        complete: frozenset[str] = frozenset(),
        incomplete: frozenset[str] = frozenset(),
        weights: torch.Tensor | None = None,
        total_weight: float | None = None,
        share: Share | None = None,
    ):
        values = list(data.values()) if isinstance(data, Mapping) else [] if data is None else [data]
        if not all(isinstance(value, torch.Tensor) for value in values):
            kinds = ", ".join(type(value).__name__ for value in values)
            raise DataError(f"a Batch takes tensors; got {kinds}: use torch.as_tensor")
        # Not by len(), which would fix the number of rows in an exported graph.
        sizes = [value.shape[0] if value.dim() else 0 for value in values]
        if any(rows != sizes[0] for rows in sizes):
            raise DataError(
                f"all tensors of a batch must have the same number of rows; got {sorted({*sizes})}"
            )
        self.size: int = (
            sizes[0] if sizes else size if size is not None else 0 if index is None else index.shape[0]
        )
        if self.size < 1:
            raise DataError("a Batch needs at least one row: give data, or size= to generate")
        device = values[0].device if values else None
        self.index = torch.arange(self.size, device=device) if index is None else index
        if self.index.shape[0] != self.size:
            raise DataError(f"index must have {self.size} entries, one per row; got {self.index.shape[0]}")
        self.total = self.size if total is None else total
        self.weights = weights
        self.total_weight = self.total if total_weight is None else total_weight
        self.share = share
        self.asked: list[str] = []
        self.asked_masks: set[str] = set()
        self._data, self._complete, self._incomplete = data, complete, incomplete
        self._cache: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {}
        # The products of numbers and the weights so far. All statements of a batch share them, model's and guide's, so that
        # whoever compares scales need not read their values.
        self._scales: dict[float, torch.Tensor] = {}

    def _read(self, name: str) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        if name not in self.asked:
            self.asked.append(name)
        if self._data is None:
            return None, None
        if name not in self._cache:
            if isinstance(self._data, torch.Tensor):
                if self._cache:
                    raise DeclarationError(
                        f"the program asks for {', '.join(self.asked)}; a bare tensor has one name: "
                        "give a dict of tensors"
                    )
                value = self._data
            elif name in self._data:
                value = self._data[name]
            else:
                return None, None
            mask = None
            if name not in self._complete and value.is_floating_point():
                observed = ~value.isnan()
                if name in self._incomplete or not bool(observed.all()):
                    value, mask = value.where(observed, value.new_zeros(())), observed
            self._cache[name] = value, mask
        return self._cache[name]

    def __getitem__(self, name: str) -> Any:
        """The rows of a name, with 0 for missing entries; None if the model is to generate them."""
        return self._read(name)[0]

    @property
    def names(self) -> list[str]:
        """The names of its tensors. A single tensor has no name."""
        return list(self._data) if isinstance(self._data, Mapping) else []

    def mask(self, name: str) -> torch.Tensor | None:
        """True where an entry was observed, in the shape of ``batch[name]``. It is None if all were."""
        self.asked_masks.add(name)
        return self._read(name)[1]

    def with_gaps(self, name: str) -> Any:
        """The rows of a name, with NaN for missing entries."""
        value, mask = self._read(name)
        return value if mask is None else value.masked_fill(~mask, torch.nan)  # type: ignore[union-attr]

    def plate(self) -> Any:
        """The plate over rows, at dimension −1, with subsampling scale N / B, times the weight of each row if it has one."""
        if self.weights is None:
            return pyro.plate("rows", size=self.total, subsample=self.index, dim=-1)
        return WeightedPlate(self)

    @property
    def scale(self) -> float | torch.Tensor:
        """The scale of the statements in ``plate()``: N / B, times the weight of each row if it has one."""
        return self.weighted(self.total / self.size)

    def weighted(self, scale: float | torch.Tensor) -> float | torch.Tensor:
        """A scale times the weight of each row, or the scale itself without weights."""
        if self.weights is None:
            return scale
        if isinstance(scale, torch.Tensor):
            return scale * self.weights
        if scale not in self._scales:
            self._scales[scale] = scale * self.weights
        return self._scales[scale]

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        names = "data" if isinstance(self._data, torch.Tensor) else ", ".join(self._data or ()) or "nothing"
        return f"Batch({self.size} of {self.total} rows: {names})"


def as_batch(data: Batch | torch.Tensor | Mapping[str, torch.Tensor] | None) -> Batch:
    """A batch unchanged; tensors as the batch of the whole data."""
    return data if isinstance(data, Batch) else Batch(data)

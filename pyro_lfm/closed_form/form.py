"""What a model whose posterior is closed form can do: read and write its parameters, start, climb, infer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_lfm.data.readers import Table
from pyro_lfm.exact.history import Step
from pyro_lfm.exact.race import Won

# Parameters as a dataclass of ``exact``, and the steps of one iteration; True ends the run.
Watch = Callable[[Any, tuple[Step, ...]], bool]
Distribution = Callable[[Mapping[str, Tensor]], Any]

# Data of at most so many numbers are kept in memory as float64; larger data are read again in every pass.
_KEPT = 2**23
# A block of at most so many rows and numbers, of which a pass holds a few copies.
_ROWS, _BLOCK = 4096, 2**19


class Blocks:
    """The rows of a table as often as they are wanted, in blocks (B, D), float64, NaN where missing."""

    def __init__(self, table: Table, name: str):
        self.table, self.name = table, name
        dim = table.event_shapes[name].numel()
        self.length, small = max(1, min(_ROWS, _BLOCK // max(1, dim))), len(table) * dim <= _KEPT
        self._held = list(self._read()) if small else None

    def _read(self) -> Iterator[Tensor]:
        for index in self.table.blocks(self.length):
            yield self.table.take(index, torch.float64)[self.name].flatten(1)

    def __iter__(self) -> Iterator[Tensor]:
        return self._read() if self._held is None else iter(self._held)


@dataclass(frozen=True)
class Ascent:
    """Where a climb ended: the parameters, whether it converged, and in words what sits on a floor, if anything does."""

    parameters: Any
    converged: bool
    floored: str | None


class ClosedForm(ABC):
    """A declared model whose p(latents | x) and p(x) are known, its parameters held by the model itself.

    Parameters travel as a dataclass of ``exact`` in float64, which has ``log_likelihood(x)`` for x (N, D).

    Attributes:
        model: the declared model. observed: the name of its one observed factor.
        fixed: the parameters that keep their values, as ``exact`` names them.
        later: latent -> the latents that are drawn knowing it.
    """

    model: Any
    observed: str
    fixed: frozenset[str]
    later: Mapping[str, set[str]]

    @abstractmethod
    def read(self) -> Any:
        """The model's parameters as they are."""

    @abstractmethod
    def write(self, parameters: Any) -> None:
        """Puts parameters into the model, in place and in the model's floating type; what is fixed stays."""

    @abstractmethod
    def rows(self, blocks: Iterable[Tensor]) -> Any:
        """The data as ``start`` and ``climb`` take them."""

    @abstractmethod
    def start(self, rows: Any, seed: int, restarts: int) -> Won[Any]:
        """Parameters made from the data, those that are fixed as they are: the best of ``restarts`` starts, unless a
        closed form gives the maximum, and what all of them reached, nats per row."""

    @abstractmethod
    def climb(
        self, rows: Any, start: Any, *, iterations: int, tolerance: float, accelerate: bool, watch: Watch
    ) -> Ascent:
        """EM from these parameters."""

    @abstractmethod
    def distributions(self, x: Tensor) -> dict[str, Distribution]:
        """p(latent | x, latents before it) for the rows x (N, D), NaN where missing; in the order of drawing."""

    @abstractmethod
    def marginals(self, x: Tensor) -> dict[str, Any]:
        """p(latent | x) of every latent, batch shape (N,)."""

    def log_likelihood(self, x: Tensor) -> Tensor:
        """ln p of the observed entries of each row of x (N, D), (N,) nats, float64, at the model's parameters."""
        return self.read().log_likelihood(x)

    def place(self, value: Tensor) -> Tensor:
        """A float64 result where and in the floating type in which the model lives."""
        return value.to(device=self.model.device, dtype=self.model.dtype)

"""Coordinate ascent for latent classes, shared by EM and variational Bayes of mixtures: one pass over the rows each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from pyro_lfm.errors import DataError, DeclarationError, ShapeError
from pyro_lfm.exact.weighted_rows import pairs_of

Statistics = tuple[Tensor, ...]
Summary = Callable[[Tensor], Statistics]

# Pieces of rows are sized so that a rows × classes × columns array has at most _CACHED numbers, which fit the cache; or
# _ROWS rows, which matrix products need to be fast, if that array has at most _MOST numbers.
_CACHED, _ROWS, _MOST = 2**17, 1024, 2**22


@dataclass(frozen=True)
class Iteration:
    """One iteration: a step of the parameters, then a step of q(c). All numbers are nats per row.

    Attributes:
        bound_before: L(old q, new parameters); None at the start, which has no old q.
        bound: L(new q, new parameters).
        log_likelihood: log p(x) where the parameters are points (EM); None where they have a posterior.
        counts: the expected number of rows of each class.
        at_floor: the number of scales or probabilities at their floor.

    >>> Iteration(1, bound_before=-2.5, bound=-2.0, log_likelihood=-2.0, counts=(3.0, 1.0), at_floor=0).kl_before
    0.5
    """

    iteration: int
    bound_before: float | None
    bound: float
    log_likelihood: float | None
    counts: tuple[float, ...]
    at_floor: int

    @property
    def kl_before(self) -> float | None:
        """KL(old q ‖ posterior) under the new parameters, where log p(x) is known."""
        if self.log_likelihood is None or self.bound_before is None:
            return None
        return self.log_likelihood - self.bound_before

    @property
    def kl(self) -> float | None:
        """KL(new q ‖ posterior), which is 0 for EM, whose q is the posterior."""
        return None if self.log_likelihood is None else self.log_likelihood - self.bound


class LatentClasses(ABC):
    """A model of rows x (D,) with a latent class c < C, as coordinate ascent needs it.

    Its objective is Σ_n ln Σ_c exp(log_joint) − penalty. For point parameters that is log p(x), with no penalty. For
    parameters with a posterior it is the evidence lower bound: log_joint is E_q[ln p(x, c)] and the penalty is KL(q ‖ p)
    of the parameters.
    """

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(C, D)."""

    @abstractmethod
    def log_joint(self, x: Tensor) -> Tensor:
        """ln p(c, x) of the observed entries of x (B, D), or its expectation: (B, C)."""

    @abstractmethod
    def statistics(self, x: Tensor, responsibilities: Tensor) -> Statistics:
        """Sums over rows, weighted by q(c) (B, C), taken relative to these parameters. The first is counts (C,)."""

    def half_steps(self, x: Tensor) -> tuple[Tensor, Summary]:
        """``log_joint(x)``, and a function of the responsibilities that computes the statistics of the same rows."""
        return self.log_joint(x), partial(self.statistics, x)

    @abstractmethod
    def updated(self, statistics: Statistics, fixed: Set[str]) -> LatentClasses:
        """The best parameters for the q(c) of the statistics."""

    @abstractmethod
    def expected_log_joint(self, statistics: Statistics, at: LatentClasses) -> Tensor:
        """Σ_n E_q[ln p(x, c)] at other parameters, up to a constant, from statistics relative to these."""

    @abstractmethod
    def penalty(self) -> Tensor | float:
        """KL(q ‖ p) of the parameters, in nats, for all rows together."""

    @abstractmethod
    def at_floor(self) -> int:
        """The number of scales or probabilities at their floor."""


Model = TypeVar("Model", bound=LatentClasses)


def ascend(
    rows: Iterable[Tensor],
    start: Model,
    *,
    fixed: Set[str] = frozenset(),
    iterations: int = 1000,
    tolerance: float = 1e-9,
    points: bool = True,
    watch: Callable[[Model, Iteration], bool] | None = None,
) -> tuple[Model, list[Iteration]]:
    """Alternates q(c) and the parameters until the objective gains less than ``tolerance`` nats per row.

    Args:
        rows: blocks x (B, D), NaN = missing; iterated over once per iteration. Those of ``WeightedRows`` count by weight.
        start: the first parameters.
        fixed: names of the parameters that keep their start.
        iterations: the most parameter steps.
        tolerance: in nats per row.
        points: whether the objective is log p(x) itself and not a bound on it.
        watch: called with the parameters and the record of each iteration; ends the run where it returns True.

    Returns:
        The parameters, and one record for the start and for each iteration.

    Raises:
        DeclarationError: iterations or tolerance are negative.
        DataError: no rows, infinite entries, or rows so far out that their likelihood is 0 in float64.
        ShapeError: a block has another shape than (B, D).
    """
    if iterations < 0 or not tolerance >= 0:
        raise DeclarationError(f"iterations and tolerance must be ≥ 0; got {iterations} and {tolerance}")
    model, before = start, None
    history: list[Iteration] = []
    while True:
        evidence, statistics = _pass(rows, model)
        number = float(statistics[0].sum())
        bound = float(evidence - model.penalty()) / number
        history.append(
            Iteration(
                iteration=len(history),
                bound_before=before,
                bound=bound,
                log_likelihood=bound if points else None,
                counts=tuple(statistics[0].tolist()),
                at_floor=model.at_floor(),
            )
        )
        converged = len(history) > 1 and bound - history[-2].bound < tolerance
        stopped = watch is not None and watch(model, history[-1])
        if stopped or converged or len(history) > iterations:
            return model, history
        new = model.updated(statistics, fixed)
        gain = model.expected_log_joint(statistics, new) - model.expected_log_joint(statistics, model)
        before = bound + float(gain - new.penalty() + model.penalty()) / number
        model = new  # type: ignore[assignment]


def _pass(rows: Iterable[Tensor], model: LatentClasses) -> tuple[Tensor, Statistics]:
    """The E step: Σ_n ln Σ_c exp(log_joint), and the statistics of all rows."""
    evidence, total = torch.zeros((), dtype=torch.float64), None
    for x, weights in weighted_pieces(rows, *model.size):
        joint, summary = model.half_steps(x)
        of_row = log_evidence(x, joint)
        shares = (joint - of_row[:, None]).exp()
        evidence += of_row.sum() if weights is None else weights @ of_row
        part = summary(shares if weights is None else weights[:, None] * shares)
        total = part if total is None else tuple(a + b for a, b in zip(total, part, strict=True))
    if total is None:
        raise DataError("rows must hold at least one row; got none")
    return evidence, total


def log_evidence(x: Tensor, joint: Tensor) -> Tensor:
    """ln Σ_c exp(joint), (B,), from the joint (B, C) of the rows x (B, D). Raises DataError where it is not finite.

    >>> log_evidence(torch.zeros(1, 1), torch.tensor([[0.0, 0.0]]))
    tensor([0.6931])
    """
    out = joint.logsumexp(-1)
    if not out.isfinite().all():
        if x.isinf().any():
            raise DataError("rows must be finite, or NaN where an entry is missing; got an infinite entry")
        raise DataError("the likelihood of some rows is 0 in float64: remove outliers or rescale the columns")
    return out


def posterior(x: Tensor, joint: Tensor) -> Tensor:
    """q(c) ∝ exp(joint), (B, C), of the rows x (B, D).

    >>> posterior(torch.zeros(1, 1), torch.tensor([[0.0, 0.0]]))
    tensor([[0.5000, 0.5000]])
    """
    return (joint - log_evidence(x, joint)[:, None]).exp()


def pieces(rows: Iterable[Tensor], classes: int, dim: int) -> Iterator[Tensor]:
    """The blocks in float64, with checked shapes, in pieces small enough for C × B × D arrays.

    >>> [len(x) for x in pieces([torch.zeros(5, 2), torch.zeros(1, 2)], 3, 2)]
    [5, 1]
    """
    return (x for x, _ in weighted_pieces(rows, classes, dim))


def weighted_pieces(rows: Iterable[Tensor], classes: int, dim: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The pieces of ``pieces`` with the weights of their rows, (B,), None where each row counts once."""
    of_row = classes * dim
    length = max(1, _CACHED // of_row, min(_ROWS, _MOST // of_row))
    for block, weights in pairs_of(rows):
        if block.dim() != 2 or block.shape[1] != dim:
            raise ShapeError(f"rows must come in blocks of shape (B, {dim}); got {tuple(block.shape)}")
        for start in range(0, len(block), length):
            x = block[start : start + length].detach().double()
            if not all_finite(x) and x.isinf().any():
                raise DataError(
                    "rows must be finite, or NaN where an entry is missing; got an infinite entry"
                )
            yield x, None if weights is None else weights[start : start + length]


def all_finite(x: Tensor) -> bool:
    """Whether the sum of x is finite, which is faster to compute than ``isfinite`` of each entry.

    True means that all entries are finite. False may also mean that the sum of finite entries overflowed.

    >>> all_finite(torch.tensor([1.0, 2.0])), all_finite(torch.tensor([1.0, float("nan")]))
    (True, False)
    """
    return bool(x.sum().isfinite())


def float64(name: str, value: Tensor, *shape: int | str) -> Tensor:
    """A parameter in float64, finite and of a given shape, in which a letter stands for any size.

    >>> float64("means", torch.zeros(3, 2), "C", 3)
    Traceback (most recent call last):
    pyro_lfm.errors.ShapeError: means must have shape (C, 3); got (3, 2)
    """
    value = torch.as_tensor(value, dtype=torch.float64).detach()
    fits = len(shape) == value.dim() and all(
        isinstance(n, str) or n == m for n, m in zip(shape, value.shape, strict=True)
    )
    if not fits:
        raise ShapeError(f"{name} must have shape ({', '.join(map(str, shape))}); got {tuple(value.shape)}")
    if not value.isfinite().all():
        raise DeclarationError(f"{name} must be finite")
    return value

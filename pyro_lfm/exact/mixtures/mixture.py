"""Mixtures p(c) p(x | c) with point parameters: exact likelihood, responsibilities and EM."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError, ShapeError, warn
from pyro_lfm.exact.mixtures.ascent import (
    Iteration,
    LatentClasses,
    Statistics,
    Summary,
    ascend,
    float64,
    log_evidence,
    pieces,
    posterior,
)
from pyro_lfm.warning_kinds import ScaleFloorWarning

# With fewer expected rows than this, a sum divided by their number would overflow.
EMPTY = 1e-100


class Components(ABC):
    """The C distributions p(x | c) of a mixture over rows x (D,). Missing entries (NaN) are marginalised.

    Statistics are sums over rows relative to the current parameters, which limits rounding errors where components are
    narrow and far from the origin.
    """

    names: ClassVar[tuple[str, ...]]
    """The parameters that can be fixed. The last one has a floor."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(C, D)."""

    @abstractmethod
    def log_density(self, x: Tensor) -> Tensor:
        """ln p(x | c) of the observed entries of x (B, D), float64: (B, C)."""

    @abstractmethod
    def statistics(self, x: Tensor, responsibilities: Tensor) -> Statistics:
        """Sums over the rows x (B, D), weighted by responsibilities (B, C)."""

    def half_steps(self, x: Tensor) -> tuple[Tensor, Summary]:
        """``log_density(x)``, and a function of the responsibilities that computes the statistics of the same rows."""
        return self.log_density(x), partial(self.statistics, x)

    @abstractmethod
    def maximised(self, statistics: Statistics, fixed: Set[str]) -> Components:
        """The components with the largest expected log density. A component without rows stays as it is."""

    @abstractmethod
    def expected_log_density(self, statistics: Statistics, at: Components) -> Tensor:
        """Σ_n Σ_c q(c) E[ln p(x | c)] at other components, up to a constant, from statistics relative to these."""

    @abstractmethod
    def filled(self, x: Tensor, responsibilities: Tensor) -> Tensor:
        """x (B, D) with E[x | observed entries] in place of the missing ones."""

    @abstractmethod
    def above_floor(self) -> Components:
        """The components with scales or probabilities below their floor raised to it."""

    @abstractmethod
    def at_floor(self) -> int:
        """The number of scales or probabilities at their floor."""


@dataclass(frozen=True, eq=False)
class Mixture(LatentClasses):
    """p(x) = Σ_c π_c p(x | c).

    Args:
        weights: π (C,), ≥ 0, scaled to sum to 1.
        components: the distributions p(x | c): ``DiagonalGaussians``, ``FullGaussians``, ``Bernoullis``,
            ``FactorAnalysers``.

    Raises:
        ShapeError: not as many weights as components. DeclarationError: weights below 0, or all 0.

    >>> from pyro_lfm.exact.mixtures.gaussians import DiagonalGaussians
    >>> mixture = Mixture(torch.tensor([1, 3]), DiagonalGaussians(torch.tensor([[-5.0], [5.0]]), torch.ones(2, 1)))
    >>> mixture.responsibilities(torch.tensor([[5.0], [float("nan")]])).round(decimals=4)
    tensor([[0.0000, 1.0000],
            [0.2500, 0.7500]], dtype=torch.float64)
    """

    weights: Tensor
    components: Components

    def __post_init__(self) -> None:
        weights = float64("weights", self.weights, self.components.size[0])
        if bool((weights < 0).any()) or not float(weights.sum()) > 0:
            raise DeclarationError(f"weights must be ≥ 0 with a positive sum; got {weights.tolist()}")
        object.__setattr__(self, "weights", weights / weights.sum())

    @property
    def size(self) -> tuple[int, int]:
        return self.components.size

    def log_likelihood(self, x: Tensor) -> Tensor:
        """ln p(x) of the observed entries of each row of x (N, D), in nats: (N,).

        >>> from pyro_lfm.exact.mixtures.gaussians import DiagonalGaussians
        >>> distribution = Mixture(torch.ones(1), DiagonalGaussians(torch.zeros(1, 2), torch.ones(1, 2)))
        >>> distribution.log_likelihood(torch.tensor([[0.0, 0.0], [0.0, float("nan")]])).round(decimals=4)
        tensor([-1.8379, -0.9189], dtype=torch.float64)
        """
        return torch.cat([log_evidence(part, joint) for part, joint in self._joints(x)])

    def responsibilities(self, x: Tensor) -> Tensor:
        """p(c | observed entries of x) for each row of x (N, D): (N, C)."""
        return torch.cat([posterior(part, joint) for part, joint in self._joints(x)])

    def impute(self, x: Tensor) -> Tensor:
        """x (N, D) with the posterior mean E[x | observed entries] in place of the missing ones.

        >>> from pyro_lfm.exact.mixtures.full_gaussians import FullGaussians
        >>> distribution = FullGaussians(torch.zeros(1, 2), torch.tensor([[[1.0, 0.0], [0.5, 0.9]]]))
        >>> Mixture(torch.ones(1), distribution).impute(torch.tensor([[2.0, float("nan")]]))
        tensor([[2., 1.]], dtype=torch.float64)
        """
        joints = self._joints(x)
        return torch.cat([self.components.filled(part, posterior(part, joint)) for part, joint in joints])

    def _joints(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        if x.dim() != 2 or not len(x):
            raise ShapeError(f"x must have shape (N, {self.size[1]}) with N ≥ 1; got {tuple(x.shape)}")
        for part in pieces([x], *self.size):
            yield part, self.log_joint(part)

    def log_joint(self, x: Tensor) -> Tensor:
        return self.weights.log() + self.components.log_density(x)

    def statistics(self, x: Tensor, responsibilities: Tensor) -> Statistics:
        return (responsibilities.sum(0), *self.components.statistics(x, responsibilities))

    def half_steps(self, x: Tensor) -> tuple[Tensor, Summary]:
        log_density, summary = self.components.half_steps(x)
        return self.weights.log() + log_density, lambda shares: (shares.sum(0), *summary(shares))

    def updated(self, statistics: Statistics, fixed: Set[str]) -> Mixture:
        counts, rest = statistics[0], statistics[1:]
        weights = self.weights if "weights" in fixed else counts / counts.sum()
        return Mixture(weights, self.components.maximised(rest, fixed))

    def expected_log_joint(self, statistics: Statistics, at: LatentClasses) -> Tensor:
        assert isinstance(at, Mixture)  # for the type checker: both are iterates of one ascent
        of_class = torch.special.xlogy(statistics[0], at.weights).sum()
        return of_class + self.components.expected_log_density(statistics[1:], at.components)

    def penalty(self) -> float:
        return 0.0

    def at_floor(self) -> int:
        return self.components.at_floor()


def fit_mixture(
    rows: Iterable[Tensor],
    start: Mixture,
    *,
    fixed: Iterable[str] = (),
    iterations: int = 1000,
    tolerance: float = 1e-9,
    watch: Callable[[Mixture, Iteration], bool] | None = None,
) -> tuple[Mixture, list[Iteration]]:
    """Maximum likelihood by EM: q(c) = p(c | x), then the parameters that maximise E_q[ln p(x, c)].

    Each M step is the exact maximiser under the floors, so the log-likelihood never falls. With missing entries
    the likelihood is that of the observed ones.

    Args:
        rows: blocks x (B, D), NaN = missing, iterated over once per iteration, such as a list of tensors.
        start: the first parameters. Values below the floors are raised to them. See ``pyro_lfm.exact.mixtures.starts``.
        fixed: names of parameters that keep their start, among "weights" and the components' ``names``.
        iterations: the most M steps.
        tolerance: the run ends when an iteration gains less, in nats per row.
        watch: see ``ascend``.

    Returns:
        The fitted mixture, and the history: the start and each iteration.

    Raises:
        DeclarationError: ``fixed`` names no parameter. DataError, ShapeError: see ``ascend``.
    Warns:
        ScaleFloorWarning: the fit ends at a floor.

    Source: Dempster, Laird and Rubin (1977); Bishop (2006), section 9.2.

    >>> from pyro_lfm.exact.mixtures.gaussians import DiagonalGaussians
    >>> start = Mixture(torch.ones(1), DiagonalGaussians(torch.zeros(1, 1), torch.ones(1, 1)))
    >>> fitted, history = fit_mixture([torch.tensor([[1.0], [3.0]])], start)
    >>> float(fitted.components.means), float(fitted.components.variance), len(history)
    (2.0, 1.0, 3)
    """
    fixed = frozenset([fixed] if isinstance(fixed, str) else fixed)
    names = ("weights", *start.components.names)
    if not fixed <= set(names):
        raise DeclarationError(f"fixed must name parameters among {', '.join(names)}; got {sorted(fixed)}")
    floored = names[-1]  # the parameter that has a floor
    if floored not in fixed:
        start = replace(start, components=start.components.above_floor())
    mixture, history = ascend(
        rows, start, fixed=fixed, iterations=iterations, tolerance=tolerance, watch=watch
    )
    if floored not in fixed and history[-1].at_floor:
        warn(
            f"{history[-1].at_floor} values of {floored} are at their floor: the likelihood grows without "
            "bound below it. Drop constant columns, use fewer components, or raise the floor.",
            ScaleFloorWarning,
        )
    return mixture, history

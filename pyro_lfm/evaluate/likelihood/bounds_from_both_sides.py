"""``sandwich``: log p(x) of simulated rows between two bounds, from chains to the posterior and chains back from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.inputs import Evaluated
from pyro_lfm.evaluate.likelihood.annealing import Annealing, anneal
from pyro_lfm.evaluate.likelihood.estimate import model_of, of_weights, served
from pyro_lfm.evaluate.requirements import rows_apart
from pyro_lfm.shapes import whole

# Standard errors added to an interval on each side.
_ERRORS = 3.0


@dataclass(frozen=True, repr=False)
class Sandwich:
    """log p(x) of simulated rows, in nats, between a lower and an upper bound.

    Attributes:
        lower, upper: bounds of each row, (N,), below and above log p(x) in expectation.
        lower_error, upper_error: their standard errors from the chains, (N,). All chains back from the posterior start at
            one exact draw. If they do not forget it, upper_error is too small.
        data: the rows, {observed: ``(N, *event)``}.
        latents: the latents that they were simulated from.
        draws, temperatures: S chains in each direction, T.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> pair = model, lfm.ExactPosterior(model)
    >>> how = lfm.evaluate.Annealing(temperatures=10, leaps=2)
    >>> bounds = lfm.evaluate.sandwich(pair, rows=4, draws=32, annealing=how)
    >>> bounds.lower.shape, bounds.per_row.shape
    (torch.Size([4]), torch.Size([4, 2]))
    """

    lower: Tensor
    lower_error: Tensor
    upper: Tensor
    upper_error: Tensor
    data: dict[str, Tensor]
    latents: dict[str, Tensor]
    draws: int
    temperatures: int

    @property
    def per_row(self) -> Tensor:
        """The interval of each row, (N, 2): lower − 3 errors, upper + 3 errors."""
        low, high = self.lower - _ERRORS * self.lower_error, self.upper + _ERRORS * self.upper_error
        return torch.stack([low, high], 1)

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of the mean of log p(x) over these rows: mean lower − 3 errors, mean upper + 3 errors."""
        low, high = (
            _ERRORS * float(error.square().sum().sqrt() / len(error))
            for error in (self.lower_error, self.upper_error)
        )
        return float(self.lower.mean()) - low, float(self.upper.mean()) + high

    @property
    def width(self) -> float:
        """The width of the interval of the mean."""
        low, high = self.interval
        return high - low

    @property
    def gap(self) -> float:
        """The mean of upper − lower, an upper limit of the bias of such annealed estimates."""
        return float((self.upper - self.lower).mean())

    @property
    def gap_error(self) -> float:
        """The standard error of the gap over the rows."""
        apart = self.upper - self.lower
        return float(apart.std() / len(apart) ** 0.5) if len(apart) > 1 else float("nan")

    @property
    def verdict(self) -> str:
        """The interval and its condition, in a sentence."""
        low, high = self.interval
        return (
            f"The mean of log p(x) over {len(self.lower)} simulated rows is between {low:.4f} and {high:.4f} nats, with "
            f"three errors on each side, if {self.draws} chains with {self.temperatures} temperatures reach all of the "
            "posterior."
        )

    def __repr__(self) -> str:
        return (
            f"Sandwich({float(self.lower.mean()):.6g} to {float(self.upper.mean()):.6g} nats per row, "
            f"apart {self.gap:.2g} ± {self.gap_error:.2g}). {self.verdict}"
        )


def sandwich(
    fit: Evaluated,
    rows: int = 100,
    draws: int = 256,
    seed: int = 0,
    annealing: Annealing | None = None,
    given: Mapping[str, Tensor] | None = None,
) -> Sandwich:
    """How large is the error of annealed estimates of log p(x)? Two bounds for simulated rows.

    Rows are simulated, z ~ p(z), x ~ p(x | z), so z is an exact draw from p(z | x). Chains from the guide give weights with
    E[w] = p(x), so log 1/S Σ w is below log p(x) in expectation. Chains from z back to the guide give weights with
    E[1/w] = 1/p(x), so −log 1/S Σ 1/w is above it (bidirectional Monte Carlo). The result holds for rows that the
    model simulates. Real rows may be harder. Chains do not cross between distant modes of the posterior. The bounds of a row
    then differ only if it was simulated from a mode that the guide misses, and a rare mode needs many rows to show.

    Args:
        fit: a fit, or a pair (model, guide).
        rows: N, the number of simulated rows.
        draws: S, chains in each direction for each row (see ``log_likelihood``).
        annealing: temperatures and leapfrog steps, by default 200 temperatures.
        given: values of covariates, ``(N, *event)`` by name, as for ``model.sample``.

    Raises:
        DeclarationError: as ``log_likelihood`` with method="annealed", and for a model with tables of rows.

    Source: Grosse, Ghahramani and Adams (2015), "Sandwiching the marginal likelihood using bidirectional Monte Carlo";
    Wu, Burda, Salakhutdinov and Grosse (2017).

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear()))
    >>> bounds = lfm.evaluate.sandwich((model, guide), rows=5, draws=50, annealing=lfm.evaluate.Annealing(temperatures=20))
    >>> bounds.per_row.shape, bounds.interval[0] < bounds.interval[1]
    (torch.Size([5, 2]), True)
    """
    rows, draws = whole("rows", rows), whole("draws", draws, least=2)
    annealing = Annealing(temperatures=200) if annealing is None else annealing
    model = model_of(fit)
    rows_apart(model, "lfm.evaluate.sandwich")
    if given is not None and not isinstance(given, Mapping):
        raise DeclarationError(f"given must be {{covariate: (N, *event)}}; got {type(given).__name__}")
    drawn = model.sample(rows, seed=seed, given=given)
    data = {name: drawn[name] for name in model.observed}
    _, batch, guide = served(fit, data)
    latents = {name: drawn[name] for name in model.latents}
    ahead, back = anneal(model, guide, batch, draws, annealing, seed + 1, latents)
    observed = torch.zeros(rows)
    low = of_weights(ahead, observed, model.dtype, annealing.temperatures)
    high = of_weights(-back, observed, model.dtype, annealing.temperatures)  # type: ignore[operator]
    return Sandwich(
        low.per_row, low.standard_error, -high.per_row, high.standard_error,
        data, latents, low.draws, annealing.temperatures,
    )  # fmt: skip

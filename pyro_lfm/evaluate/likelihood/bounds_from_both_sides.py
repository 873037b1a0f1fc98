"""log p(x) of simulated rows between two bounds: chains from the guide to the posterior, and from the posterior back."""

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

# By how many standard errors an interval is wider than its two estimates.
_ERRORS = 3.0


@dataclass(frozen=True, repr=False)
class Sandwich:
    """log p(x) of simulated rows, in nats, between a bound from below and one from above.

    Attributes:
        lower, upper: of each row, (N,): in expectation below and above log p(x).
        lower_error, upper_error: their standard errors from the chains, (N,). Chains of a row that come back start at
            one exact draw; where they do not forget it, upper_error is too small.
        data: the rows, {observed: (N, *event)}. latents: what they were simulated from.
        draws, temperatures: S chains each way, T.
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
        """An interval for each row, (N, 2): lower − 3 errors, upper + 3 errors."""
        low, high = self.lower - _ERRORS * self.lower_error, self.upper + _ERRORS * self.upper_error
        return torch.stack([low, high], 1)

    @property
    def interval(self) -> tuple[float, float]:
        """For the mean of log p(x) over these rows: mean lower − 3 errors, mean upper + 3 errors."""
        low, high = (
            _ERRORS * float(error.square().sum().sqrt() / len(error))
            for error in (self.lower_error, self.upper_error)
        )
        return float(self.lower.mean()) - low, float(self.upper.mean()) + high

    @property
    def width(self) -> float:
        """Of the interval for the mean."""
        low, high = self.interval
        return high - low

    @property
    def gap(self) -> float:
        """The mean of upper − lower: how much too low estimates by as many chains and temperatures may be on average."""
        return float((self.upper - self.lower).mean())

    @property
    def gap_error(self) -> float:
        """Its standard error over the rows, which are independent of each other."""
        apart = self.upper - self.lower
        return float(apart.std() / len(apart) ** 0.5) if len(apart) > 1 else float("nan")

    @property
    def verdict(self) -> str:
        low, high = self.interval
        return (
            f"The mean of log p(x) over {len(self.lower)} simulated rows lies between {low:.4f} and {high:.4f} nats, by "
            f"three errors each way, as far as {self.draws} chains with {self.temperatures} temperatures reach all of the "
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
    """How far annealed estimates of log p(x) can be off, by rows of which an exact draw from the posterior is known.

    Rows are simulated, z ~ p(z), x ~ p(x | z), so that z is a draw from p(z | x). Chains from the guide give weights with
    E[w] = p(x), of which log 1/S Σ w lies below log p(x) in expectation; chains from z back to the guide give weights with
    E[1/w] = 1/p(x), of which −log 1/S Σ 1/w lies above it (bidirectional Monte Carlo). It speaks of rows that look like
    the model's own; of others, as of real data, it is a hint. Between modes of the posterior that are far apart no chain
    goes: the bounds of a row then differ only if it was made from a mode that the guide misses, so that a rare one needs
    many rows to show.

    Args:
        fit: what was fitted, or a pair (model, guide).
        rows: N, how many are simulated. draws: S, chains each way for each row (see ``log_likelihood``).
        annealing: by default 200 temperatures.
        given: values of covariates, (N, *event) by name, as for ``model.sample``.

    Raises:
        DeclarationError: as ``log_likelihood`` with method="annealed"; a model with tables of rows.

    Source: Grosse, Ghahramani and Adams (2015), "Sandwiching the marginal likelihood using bidirectional Monte Carlo";
    Wu, Burda, Salakhutdinov and Grosse (2017).

    >>> from pyro_lfm import Gaussian, Guide, Linear, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=Linear()))
    >>> guide = Guide(model, z=Gaussian(mean=Linear()))
    >>> found = sandwich((model, guide), rows=5, draws=50, annealing=Annealing(temperatures=20))
    >>> found.per_row.shape, found.interval[0] < found.interval[1]
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

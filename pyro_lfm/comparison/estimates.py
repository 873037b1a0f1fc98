"""Means over rows and seeds with an error for each, and ranks that take the errors into account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot, isnan, nan

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A mean over rows and seeds, or a mean difference paired by row and by seed.

    Attributes:
        mean: the mean over all rows and all seeds.
        error_over_rows: its standard error from the choice of the test rows, with the fits held. NaN where rows have no
            value.
        error_over_seeds: its standard error from initial weights, shuffling and noise of training. NaN for one seed.
    """

    mean: float
    error_over_rows: float = nan
    error_over_seeds: float = nan

    @property
    def error(self) -> float:
        """Both errors together, √(rows² + seeds²), which is a little too large. NaN where neither is known."""
        known = [error for error in (self.error_over_rows, self.error_over_seeds) if not isnan(error)]
        return hypot(*known) if known else nan

    @property
    def clear(self) -> bool:
        """Whether the mean is more than two errors from 0, which has probability 1 in 20 where the truth is 0."""
        return abs(self.mean) > 2 * self.error

    def __repr__(self) -> str:
        parts = [f"{self.mean:.6g}"]
        for error, over in ((self.error_over_rows, "rows"), (self.error_over_seeds, "seeds")):
            parts += [f"± {error:.2g} over {over}"] * (not isnan(error))
        return " ".join(parts)


@dataclass(frozen=True)
class Rank:
    """The rank of a candidate, 1 for the best.

    Attributes:
        place: the rank by the means of paired differences, over the rows and seeds that two candidates have in common.
        best, worst: the range of ranks by clear differences (see ``Estimate.clear``). Two candidates share a rank if their
            difference is not clear.
    """

    place: int
    best: int
    worst: int

    def __str__(self) -> str:
        return f"{self.best}" if self.best == self.worst else f"{self.best}–{self.worst}"


def estimate(values: Tensor, least: float = 0.0) -> Estimate:
    """The mean of values (seeds, N) of rows, or (seeds,) of whole fits. NaN is a failed fit, or a row without a value.

    Errors that are known are at least ``least``.

    >>> import torch
    >>> mean = estimate(torch.tensor([[1.0, 3.0], [3.0, 5.0]]))
    >>> mean.mean, mean.error_over_rows, round(mean.error_over_seeds, 6)
    (3.0, 1.0, 1.0)
    """
    of_rows = values.dim() == 2
    values = values.double().reshape(len(values), -1)
    values = values[~values.isnan().all(1)]
    values = values[:, ~values.isnan().any(0)]
    if not values.numel():
        return Estimate(nan)
    over_rows, over_seeds = values.mean(0), values.mean(1)
    errors = [_error(over_rows) if of_rows else nan, _error(over_seeds)]
    return Estimate(float(values.mean()), *(nan if isnan(error) else max(error, least) for error in errors))


def ranks(
    means: dict[str, float], difference: Callable[[str, str], Estimate], higher: bool
) -> dict[str, Rank]:
    """The ranks of all candidates with a mean, from paired differences, and their ranges from clear differences.

    Args:
        means: {candidate: mean}.
        difference: the paired difference of two candidates, first minus second.
    """
    sign = 1 if higher else -1
    known = [candidate for candidate, mean in means.items() if not isnan(mean)]
    pairs = {
        candidate: {other: difference(candidate, other) for other in known if other != candidate}
        for candidate in known
    }

    def lead(candidate: str, other: str) -> float:
        mean = pairs[candidate][other].mean
        # Without common rows and seeds the means decide, and the difference is not clear.
        return sign * (means[candidate] - means[other] if isnan(mean) else mean)

    losses = {candidate: sum(lead(candidate, other) < 0 for other in pairs[candidate]) for candidate in known}
    places = {}
    for candidate in known:
        beaten = [d for d in pairs[candidate].values() if d.clear and sign * d.mean > 0]
        beaten_by = [d for d in pairs[candidate].values() if d.clear and sign * d.mean < 0]
        place = 1 + sum(losses[other] < losses[candidate] for other in known)
        places[candidate] = Rank(place, 1 + len(beaten_by), len(known) - len(beaten))
    return places


def decimals(errors: Sequence[float]) -> int:
    """The number of decimals that show two digits of the smallest error above a hundredth of the largest, at most six.

    >>> decimals([0.21, 0.19, 1e-9]), decimals([6.7, 0.23]), decimals([])
    (2, 2, 2)
    """
    largest = max((error for error in errors if error > 0), default=0.0)
    least = min((error for error in errors if error > largest / 100), default=0.1)
    return next((k for k in range(6) if least >= 0.995 * 10.0 ** (1 - k)), 6)


def _error(values: Tensor) -> float:
    """The standard error of the mean."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else nan

"""Means over rows and seeds, with an error for each of the two, and ranks that know of errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot, isnan, nan

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A mean over rows and seeds, or a mean difference paired by row and by seed.

    Attributes:
        mean: over all rows and all seeds.
        error_over_rows: its standard error from the choice of the test rows, the fits held; NaN where rows have no value.
        error_over_seeds: its standard error from initial weights, shuffling and noise of training; NaN for one seed.
    """

    mean: float
    error_over_rows: float = nan
    error_over_seeds: float = nan

    @property
    def error(self) -> float:
        """Of both together, √(rows² + seeds²), a little too large where both are known; NaN where neither is."""
        known = [error for error in (self.error_over_rows, self.error_over_seeds) if not isnan(error)]
        return hypot(*known) if known else nan

    @property
    def clear(self) -> bool:
        """Whether it lies more than two errors from 0, as 1 in 20 does by chance where the truth is 0."""
        return abs(self.mean) > 2 * self.error

    def __repr__(self) -> str:
        parts = [f"{self.mean:.6g}"]
        for error, over in ((self.error_over_rows, "rows"), (self.error_over_seeds, "seeds")):
            parts += [f"± {error:.2g} over {over}"] * (not isnan(error))
        return " ".join(parts)


@dataclass(frozen=True)
class Rank:
    """The place of a candidate, 1 the best.

    Attributes:
        place: by the means of the paired differences, clear or not: over the rows and seeds that two candidates have in
            common.
        best, worst: between which it lies by clear differences (see ``Estimate.clear``); two places of a pair that cannot
            be told apart are both possible.
    """

    place: int
    best: int
    worst: int

    def __str__(self) -> str:
        return f"{self.best}" if self.best == self.worst else f"{self.best}–{self.worst}"


def estimate(values: Tensor, least: float = 0.0) -> Estimate:
    """Of values (seeds, N) of rows, or (seeds,) of whole fits; NaN is a fit that failed, or a row without a value.

    Errors that are known are at least ``least``.

    >>> import torch
    >>> found = estimate(torch.tensor([[1.0, 3.0], [3.0, 5.0]]))
    >>> found.mean, found.error_over_rows, round(found.error_over_seeds, 6)
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
    """Places by how many candidates lie ahead in paired differences, and by which of these are clear; candidates without a
    mean have none.

    Args:
        means: {candidate: mean}.
        difference: of two candidates, first less second.
    """
    sign = 1 if higher else -1
    known = [candidate for candidate, mean in means.items() if not isnan(mean)]
    pairs = {
        candidate: {other: difference(candidate, other) for other in known if other != candidate}
        for candidate in known
    }

    def lead(candidate: str, other: str) -> float:
        mean = pairs[candidate][other].mean
        # Where two candidates have nothing in common their means decide, and nothing is clear.
        return sign * (means[candidate] - means[other] if isnan(mean) else mean)

    lost = {candidate: sum(lead(candidate, other) < 0 for other in pairs[candidate]) for candidate in known}
    found = {}
    for candidate in known:
        beaten = [d for d in pairs[candidate].values() if d.clear and sign * d.mean > 0]
        beaten_by = [d for d in pairs[candidate].values() if d.clear and sign * d.mean < 0]
        place = 1 + sum(lost[other] < lost[candidate] for other in known)
        found[candidate] = Rank(place, 1 + len(beaten_by), len(known) - len(beaten))
    return found


def decimals(errors: Sequence[float]) -> int:
    """How many decimals show two figures of the smallest error that is not negligible beside the largest; six at most.

    >>> decimals([0.21, 0.19, 1e-9]), decimals([6.7, 0.23]), decimals([])
    (2, 2, 2)
    """
    largest = max((error for error in errors if error > 0), default=0.0)
    least = min((error for error in errors if error > largest / 100), default=0.1)
    return next((k for k in range(6) if least >= 0.995 * 10.0 ** (1 - k)), 6)


def _error(values: Tensor) -> float:
    """The standard error of their mean."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else nan

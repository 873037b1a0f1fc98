"""The log-likelihood of a column of numbers under each kind that it could have, in one measure; for ``recognise``.

A column that is recorded in steps of h (whole numbers: 1, whole grams weighed to 25 g: 25) has probabilities, not densities:
a continuous distribution gives the probability of the interval of length h around a number, and a distribution of counts
that of the number itself. So the likelihoods of all kinds can be compared. Each is penalised by half the logarithm of N for
each parameter (Schwarz 1978).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

# Rounding to a step is believed if it holds for this share of the numbers, in so many different ones.
_SHARE, _DIFFERENT = 0.9, 10
_ROUND_STEPS = tuple(
    float(digit * 10**power) for power in range(7) for digit in (2, 2.5, 5, 10) if digit * 10**power % 1 == 0
)

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)


@dataclass(frozen=True)
class Fitted:
    """A kind fitted to a column.

    Attributes:
        words: the distribution, in words.
        score: the penalised log-likelihood, nats.
    """

    words: str
    score: float


def grid(x: np.ndarray) -> tuple[float, float]:
    """The step in which whole numbers are recorded, and the share of the numbers that lie on it.

    >>> grid(np.array([3750.0, 3800, 3250, 3450, 3650, 3625, 4675, 3475, 4250, 3300, 3700, 3200]))
    (25.0, 1.0)
    """
    exact = float(np.gcd.reduce(x.astype(np.int64)))
    steps = [(max(exact, 1.0), 1.0)]
    for step in _ROUND_STEPS:
        on = x % step == 0
        if step > exact and on.mean() >= _SHARE and len(np.unique(x[on])) >= _DIFFERENT:
            steps.append((step, float(on.mean())))
    return max(steps, key=lambda each: each[1] * np.log(each[0]))


def gaussian(x: np.ndarray, step: float, share: float = 1.0) -> Fitted:
    """Normal: mean and variance, less the variance of rounding (Sheppard's correction).

    Args:
        x: (N,).
        step, share: in which a share of the numbers is recorded; the others in steps of 1.
    """
    scale = np.sqrt(max(float(x.var()) - step**2 / 12, step**2 / 12))
    return Fitted("normal", _cells(x, step, share, stats.norm(float(x.mean()), scale)) - np.log(len(x)))


def lognormal(x: np.ndarray, step: float, share: float = 1.0) -> Fitted:
    """Log-normal, of numbers above 0."""
    if x.min() <= 0:
        return Fitted("log-normal", -np.inf)
    log_x = np.log(x)
    distribution = stats.lognorm(max(float(log_x.std()), 1e-12), scale=float(np.exp(log_x.mean())))
    return Fitted("log-normal", _cells(x, step, share, distribution) - np.log(len(x)))


def _cells(x: np.ndarray, step: float, share: float, distribution: stats.rv_continuous) -> float:
    """Σ log P(the number that is recorded)."""
    values, times = np.unique(x, return_counts=True)
    logs = _log_cell(values, step, distribution)
    if share < 1:
        fine = np.log1p(-share) + _log_cell(values, 1.0, distribution)
        logs = np.where(values % step == 0, np.logaddexp(np.log(share) + logs, fine), fine)
    return float(times @ logs)


def _log_cell(values: np.ndarray, step: float, distribution: stats.rv_continuous) -> np.ndarray:
    below, above = values - step / 2, values + step / 2
    low, high = distribution.logcdf(below), distribution.logcdf(above)
    # In the upper half the difference of survival functions keeps its digits.
    low_tail, high_tail = distribution.logsf(below), distribution.logsf(above)
    upper = low > -np.log(2)
    near, far = np.where(upper, low_tail, high), np.where(upper, high_tail, low)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(near + np.log(-np.expm1(np.minimum(far - near, -1e-300))), -1e4)


def negative_binomial(x: np.ndarray) -> Fitted:
    """Poisson or negative binomial, the better one: counts from 0."""
    values, times = np.unique(x, return_counts=True)
    mean, n = float(x.mean()), len(x)
    poisson = float(times @ stats.poisson.logpmf(values, mean)) - 0.5 * np.log(n)

    def loss(log_r: float) -> float:
        return -_nb(values, times, mean, float(np.exp(log_r)))

    best = optimize.minimize_scalar(loss, bounds=(-7.0, np.log(1e4 * max(mean, 1.0))), method="bounded")
    overdispersed = -float(best.fun) - np.log(n)
    if overdispersed > poisson:
        return Fitted("negative binomial", overdispersed)
    return Fitted("Poisson", poisson)


def _nb(values: np.ndarray, times: np.ndarray, mean: float, r: float) -> float:
    """Σ log NB(x; mean, r)."""
    logs = special.gammaln(values + r) - special.gammaln(r) - special.gammaln(values + 1)
    return float(times @ (logs - r * np.log1p(mean / r) + values * (np.log(mean) - np.log(mean + r))))


def poisson_log_normal(x: np.ndarray) -> Fitted:
    """Poisson counts whose rates are log-normal, as those of a log-linear model with a normal latent are.

    P(x) = ∫ Poisson(x; eᵗ) N(t; loc, scale²) dt by Gauss-Hermite quadrature around the integrand's mode.
    """
    values, times = np.unique(x, return_counts=True)
    mean = float(x.mean())
    square = np.log1p(max(float(x.var()) - mean, 0.01 * mean) / mean**2)  # by moments
    start = [np.log(mean) - square / 2, 0.5 * np.log(square)]

    def loss(parameters: np.ndarray) -> float:
        return -float(times @ _log_mixed(values, parameters[0], float(np.exp(parameters[1]))))

    best = optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-2})
    return Fitted("Poisson-log-normal", -float(best.fun) - np.log(len(x)))


def _log_mixed(values: np.ndarray, loc: float, scale: float) -> np.ndarray:
    """log P of each value under the Poisson-log-normal."""
    precision = scale**-2.0
    mode = (values * np.log(np.maximum(values, 0.5)) + loc * precision) / (values + precision)
    for _ in range(12):  # Newton's steps, at most 2 long
        slope = values - np.exp(mode) - (mode - loc) * precision
        mode = mode + np.clip(slope / (np.exp(mode) + precision), -2.0, 2.0)
    deviation = 1 / np.sqrt(np.exp(mode) + precision)
    at = mode[:, None] + deviation[:, None] * _NODES
    logs = values[:, None] * at - np.exp(np.minimum(at, 700.0)) - np.square(at - loc) * precision / 2
    integral = special.logsumexp(logs + np.square(_NODES) / 2, axis=1, b=_WEIGHTS)
    return integral + np.log(deviation / scale) - 0.5 * np.log(2 * np.pi) - special.gammaln(values + 1)


def levels(x: np.ndarray) -> Fitted:
    """Levels of a scale, the better of two: any L probabilities, or those that a normal variable gives to equal steps.

    The first has L − 1 parameters and the second two. One is added for the number of levels, and where whole numbers
    between them are no levels, the logarithm of the number of such choices.
    """
    values, times = np.unique(x, return_counts=True)
    n, span = len(x), values[-1] - values[0] + 1
    free = float(special.xlogy(times, times / n).sum()) - 0.5 * len(times) * np.log(n)
    choices = -np.log((span + 1) * special.beta(span - len(times) + 1, len(times) + 1))

    def loss(parameters: np.ndarray) -> float:
        location, scale = parameters[0], np.exp(parameters[1])
        low = np.where(values == values[0], -np.inf, (values - 0.5 - location) / scale)
        high = np.where(values == values[-1], np.inf, (values + 0.5 - location) / scale)
        return -float(times @ np.log(np.maximum(special.ndtr(high) - special.ndtr(low), 1e-300)))

    start = [float(x.mean()), np.log(max(float(x.std()), 0.3))]
    steps = -float(optimize.minimize(loss, start, method="Nelder-Mead").fun) - 1.5 * np.log(n)
    return Fitted(f"{len(times)} levels", max(free, steps) - choices)

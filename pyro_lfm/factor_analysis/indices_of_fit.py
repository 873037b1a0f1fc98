"""``fit_indices``: how well loadings and uniquenesses reproduce a covariance, by the indices that analysts report."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, nan, pi, sqrt
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.factor_analysis.libraries import frames
from pyro_lfm.factor_analysis.matrices import Matrix, Numbers, numbers_of
from pyro_lfm.shapes import number

if TYPE_CHECKING:
    from pandas import Series

Correction: TypeAlias = Literal["bartlett", "none"]
# Tails of the interval of RMSEA at level 90%, and the bound of close fit (Browne and Cudeck, 1993).
_TAIL, _CLOSE = 0.05, 0.05


@dataclass(frozen=True, repr=False)
class FitIndices:
    """Indices of fit of a factor model.

    Attributes:
        rows, variables, factors: N, D, K.
        chi_squared, df, p_value: of the test against a covariance without structure. With no degrees of freedom left the
            model reproduces every covariance, and p_value, rmsea and tli are NaN.
        baseline_chi_squared, baseline_df: of the model of uncorrelated variables.
        rmsea, rmsea_lower, rmsea_upper: with its 90% interval.
        p_close: of the hypothesis that RMSEA ≤ 0.05.
        cfi, tli: against the baseline.
        srmr: root mean square of the residual correlations, diagonal included.
        rmsr: without the diagonal, as in psych.
        log_likelihood: nats, of all rows, at these parameters and the means of the data.
        parameters: their number, D means included.
        aic, bic: −2 log-likelihood + 2 or ln N per parameter.
        correction: of χ², as given.

    >>> import pyro_lfm as lfm
    >>> loadings = np.array([[0.8], [0.7], [0.6], [0.5]])
    >>> sample = loadings @ loadings.T + np.diag(1 - loadings.ravel() ** 2)
    >>> indices = lfm.factor_analysis.fit_indices(loadings, 1 - loadings.ravel() ** 2, sample, rows=200)
    >>> indices.rows, indices.factors, indices.df, round(indices.srmr, 6)
    (200, 1, 2, 0.0)
    """

    rows: int
    variables: int
    factors: int
    chi_squared: float
    df: int
    p_value: float
    baseline_chi_squared: float
    baseline_df: int
    rmsea: float
    rmsea_lower: float
    rmsea_upper: float
    p_close: float
    cfi: float
    tli: float
    srmr: float
    rmsr: float
    log_likelihood: float
    parameters: int
    aic: float
    bic: float
    correction: Correction

    def to_series(self) -> Series:
        """All numbers by name."""
        values = {name: value for name, value in vars(self).items() if name != "correction"}
        return frames().Series(values, name="fit")

    def __repr__(self) -> str:
        corrected = ", Bartlett's correction" if self.correction == "bartlett" else ""
        return "\n".join(
            [
                f"χ² = {self.chi_squared:.2f}, df = {self.df}, p {_probability(self.p_value)}{corrected}; N = {self.rows}",
                f"baseline χ² = {self.baseline_chi_squared:.2f}, df = {self.baseline_df}",
                f"RMSEA = {self.rmsea:.3f}, 90% interval {self.rmsea_lower:.3f} to {self.rmsea_upper:.3f}",
                f"CFI = {self.cfi:.3f}, TLI = {self.tli:.3f}, SRMR = {self.srmr:.3f}, RMSR = {self.rmsr:.3f}",
                f"log-likelihood = {self.log_likelihood:.2f} of {self.parameters} parameters, "
                f"AIC = {self.aic:.1f}, BIC = {self.bic:.1f}",
            ]
        )


def fit_indices(
    loadings: Numbers,
    uniquenesses: Numbers,
    covariance: Numbers,
    rows: int,
    *,
    correlations: Numbers | None = None,
    correction: Correction = "bartlett",
    parameters: int | None = None,
) -> FitIndices:
    """Indices of fit of Σ = Λ Φ Λᵀ + Ψ to a covariance S of N rows.

    The discrepancy is F = ln|Σ| − ln|S| + tr(S Σ⁻¹) − D, and the statistic is χ² = c F. Bartlett's correction is
    c = N − 1 − (2D + 5)/6 − 2K/3, as in R's factanal and psych, and in factor_analyzer. Without it c = N, as in lavaan. The
    baseline F₀ = −ln|R| has K = 0. RMSEA = √(max(χ² − df, 0) / (df (N − 1))), with limits by the noncentral χ² (Steiger,
    1990).

    All numbers are in one metric: standardised loadings with the correlation matrix, loadings in units with the covariance.

    Args:
        loadings: Λ, (D, K).
        uniquenesses: the diagonal of Ψ, (D,), variances > 0.
        covariance: S, (D, D), positive definite. For the log-likelihood its divisor is N.
        rows: N.
        correlations: Φ, (K, K), of the factors, by default the identity.
        correction: "bartlett" or "none".
        parameters: the number of free loadings, factor correlations and uniquenesses, less what a rotation leaves free. By
            default that of exploratory factor analysis, D K − K (K − 1)/2 + D. Means are not among them.

    Raises:
        ShapeError, DataError: sizes that do not fit, or matrices that are not positive definite.
        DeclarationError: an unknown correction, or too few rows for it.

    Source: Lawley and Maxwell (1971), page 36; Bentler (1990), CFI; Tucker and Lewis (1973), TLI.

    >>> loadings = np.array([[0.8], [0.7], [0.6], [0.5]])
    >>> exact = loadings @ loadings.T + np.diag(1 - (loadings**2).ravel())
    >>> indices = fit_indices(loadings, 1 - loadings.ravel() ** 2, exact, rows=200)
    >>> indices.df, round(indices.chi_squared, 6), indices.cfi, indices.rmsea
    (2, 0.0, 1.0, 0.0)
    """
    weight = numbers_of("loadings", loadings, ("D", "K"))
    dim, factors = weight.shape
    noise = numbers_of("uniquenesses", uniquenesses, (dim,))
    if not (noise > 0).all():
        raise DataError(
            f"uniquenesses must be > 0; got {noise.min():g} of column {noise.argmin()}, a Heywood case: fit fewer factors, "
            "or give the uniqueness a floor"
        )
    sample = numbers_of("covariance", covariance, (dim, dim))
    between = (
        np.eye(factors)
        if correlations is None
        else numbers_of("correlations", correlations, (factors, factors))
    )
    implied = weight @ between @ weight.T + np.diag(noise)
    scale = np.sqrt(np.diag(sample))
    whole, baseline = _log_det("covariance", sample), 2 * np.log(scale).sum()
    misfit = _log_det("the implied covariance", implied) + np.trace(np.linalg.solve(implied, sample))
    count = _enough("rows", rows, dim, factors, correction)
    parameters = dim * factors - factors * (factors - 1) // 2 + dim if parameters is None else parameters
    likelihood = -0.5 * count * (dim * log(2 * pi) + misfit)
    return indices_of(
        (count, dim, factors),
        statistic=_multiplier(count, dim, factors, correction) * (misfit - whole - dim),
        baseline=_multiplier(count, dim, 0, correction) * (baseline - whole),
        likelihood=float(likelihood),
        parameters=parameters,
        residuals=(sample - implied) / np.outer(scale, scale),
        correction=correction,
    )


def indices_of(
    sizes: tuple[int, int, int],
    *,
    statistic: float,
    baseline: float,
    likelihood: float,
    parameters: int,
    residuals: Matrix,
    correction: Correction,
) -> FitIndices:
    """The indices that follow from χ² of a model and of the baseline.

    Args:
        sizes: N, D, K.
        statistic, baseline: χ².
        likelihood: nats.
        parameters: without means.
        residuals: (D, D), sample less implied correlations.
    """
    from scipy.stats import chi2, ncx2

    rows, dim, factors = sizes
    moments = dim * (dim + 1) // 2
    df, baseline_df = moments - parameters, moments - dim
    statistic, baseline = max(float(statistic), 0.0), max(float(baseline), 0.0)
    excess = max(statistic - df, 0.0)
    p_value = rmsea = lower = upper = p_close = tli = nan
    if df > 0:
        spread = df * (rows - 1)
        p_value, rmsea = float(chi2.sf(statistic, df)), sqrt(excess / spread)
        lower, upper = (sqrt(_noncentrality(statistic, df, tail) / spread) for tail in (1 - _TAIL, _TAIL))
        p_close = float(ncx2.sf(statistic, df, _CLOSE**2 * spread))
        tli = _ratio(baseline / baseline_df - statistic / df, baseline / baseline_df - 1)
    cfi = 1 - excess / max(excess, baseline - baseline_df, 1e-300)
    above = np.triu_indices(dim, 1)
    total = parameters + dim
    return FitIndices(
        *sizes,
        statistic,
        df,
        p_value,
        baseline,
        baseline_df,
        rmsea,
        lower,
        upper,
        p_close,
        cfi,
        tli,
        srmr=float(np.sqrt((residuals[np.triu_indices(dim)] ** 2).mean())),
        rmsr=float(np.sqrt((residuals[above] ** 2).mean())) if dim > 1 else 0.0,
        log_likelihood=likelihood,
        parameters=total,
        aic=2 * total - 2 * likelihood,
        bic=log(rows) * total - 2 * likelihood,
        correction=correction,
    )


def _multiplier(rows: int, dim: int, factors: int, correction: Correction) -> float:
    return rows - 1 - (2 * dim + 5) / 6 - 2 * factors / 3 if correction == "bartlett" else float(rows)


def _enough(name: str, rows: int, dim: int, factors: int, correction: Correction) -> int:
    if correction not in ("bartlett", "none"):
        raise DeclarationError(f'correction must be "bartlett" or "none"; got {correction!r}')
    number(name, rows, least=2)
    if _multiplier(rows, dim, factors, correction) <= 0:
        raise DeclarationError(
            f"{name} must be more than {dim} variables and {factors} factors allow for Bartlett's correction; got {rows}: "
            'use correction="none", or more rows'
        )
    return int(rows)


def _log_det(name: str, matrix: Matrix) -> float:
    scale = np.sqrt(np.abs(np.diag(matrix)))
    if (
        np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-10 * max(scale.max() ** 2, 1e-300))
        and scale.min() > 0
    ):
        values = np.linalg.eigvalsh(matrix / np.outer(scale, scale))
        if values.min() > 1e-13:
            return float(np.log(values).sum() + 2 * np.log(scale).sum())
    raise DataError(
        f"{name} must be symmetric and positive definite: χ² needs more rows than columns, and no column that follows "
        "from others. Drop such columns"
    )


def _noncentrality(statistic: float, df: int, level: float) -> float:
    """λ at which P(χ²_df(λ) ≤ statistic) is the level; 0 if it is lower at λ = 0 already."""
    from scipy.optimize import brentq
    from scipy.stats import chi2, ncx2

    if chi2.cdf(statistic, df) <= level:
        return 0.0
    most = statistic + 10 * sqrt(statistic + 1) + 50
    return float(
        brentq(lambda value: ncx2.cdf(statistic, df, value) - level, 1e-12, most, xtol=1e-12, rtol=1e-14)
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else nan


def _probability(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"

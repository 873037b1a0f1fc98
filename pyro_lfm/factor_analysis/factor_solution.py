"""``solution``: the rotated loadings of a fit with all that analysts report beside them, and its printed form."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.factor_analysis.explained_variance import variance_table
from pyro_lfm.factor_analysis.factor_scores import ScoreMethod, score_rows, score_weights
from pyro_lfm.factor_analysis.indices_of_fit import Correction, FitIndices
from pyro_lfm.factor_analysis.indices_of_rows import indices_of_rows
from pyro_lfm.factor_analysis.libraries import frames
from pyro_lfm.factor_analysis.linear_parameters import LinearParameters, linear_parameters
from pyro_lfm.factor_analysis.matrices import Matrix
from pyro_lfm.factor_analysis.printed_table import loadings_text, report
from pyro_lfm.factor_analysis.rotation import Method, check_method, rotate
from pyro_lfm.factor_analysis.solution_warnings import warn_of_heywood, warn_of_identification
from pyro_lfm.inference.data_boundary import Data
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.shapes import several

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

# A share of a column's variance; R's factanal and factor_analyzer stop there. Below it a uniqueness is a Heywood case.
HEYWOOD = 0.005


@dataclass(frozen=True, eq=False, repr=False)
class FactorSolution:
    """A rotated solution of a linear Gaussian model. Print it for the table of loadings and the indices of fit.

    Attributes:
        loadings: Λ, (D, K), the pattern matrix of columns of variance one, as a DataFrame of columns by factors.
        loadings_in_units: the same in the units of the data.
        factor_correlations: Φ, (K, K).
        structure: Λ Φ, the correlations of columns and factors.
        communalities: h² = diag(Λ Φ Λᵀ), (D,), the share of variance that the factors explain.
        uniquenesses: u² = 1 − h².
        complexity: (Σ λ²)² / Σ λ⁴ of each column, the number of factors that it follows (Hofmann, 1978).
        variance: variance by factor, beside what codes reproduce, see ``variance_table``.
        heywood: the columns with a uniqueness below 0.005, where each column has a noise of its own that is learned.
        rotation: the method, or None.
        estimation: the inference of the fit, such as "EM".

    >>> import torch, pyro_lfm as lfm
    >>> z, noise = torch.randn(99, 7, generator=torch.Generator().manual_seed(0)).split([1, 6], 1)
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(6, mean=lfm.Linear()))
    >>> done = lfm.factor_analysis.solution(lfm.fit(model, z + noise, lfm.EM(), seed=0, progress=False))
    >>> done.loadings.shape, bool((done.communalities + done.uniquenesses - 1).abs().max() < 1e-6)
    ((6, 1), True)
    """

    fit: Fit = field(repr=False)
    parameters: LinearParameters = field(repr=False)
    rotation: Method | None
    transformation: Matrix
    columns: tuple[Hashable, ...]
    factors: tuple[str, ...]

    @cached_property
    def loadings(self) -> DataFrame:
        return self._frame(self._weight / self._scale[:, None])

    @cached_property
    def loadings_in_units(self) -> DataFrame:
        return self._frame(self._weight)

    @cached_property
    def factor_correlations(self) -> DataFrame:
        back = np.linalg.inv(self.transformation)
        matrix = back @ self.parameters.covariance @ back.T
        np.fill_diagonal(matrix, 1.0)
        return frames().DataFrame(matrix, index=list(self.factors), columns=list(self.factors))

    @property
    def structure(self) -> DataFrame:
        return self.loadings @ self.factor_correlations

    @property
    def uniquenesses(self) -> Series:
        return frames().Series(self.parameters.noise / self._scale**2, index=list(self.columns), name="u2")

    @property
    def communalities(self) -> Series:
        return (1 - self.uniquenesses).rename("h2")

    @property
    def complexity(self) -> Series:
        squares = self.loadings**2
        return (squares.sum(axis=1) ** 2 / (squares**2).sum(axis=1)).rename("com")

    @property
    def variance(self) -> DataFrame:
        table = variance_table(self.loadings.to_numpy(), self.uniquenesses.to_numpy(), self._correlations)
        return frames().DataFrame(table, index=[*self.factors, "all"]).T

    @property
    def heywood(self) -> tuple[Hashable, ...]:
        low = (self.uniquenesses < HEYWOOD) & self.parameters.own_noise
        return tuple(self.uniquenesses.index[low])

    def fit_indices(self, data: Data | None = None, *, correction: Correction | None = None) -> FitIndices:
        """χ², RMSEA, CFI and others of the model's covariance against that of rows, see ``lfm.factor_analysis.fit_indices``.

        With missing entries χ² is twice the difference to the log-likelihood of a Gaussian with free mean and covariance,
        fitted by EM to the observed entries (full information maximum likelihood). There is no correction then.

        Args:
            data: rows as given to ``lfm.fit``, by default the fitted rows.
            correction: of χ²: "bartlett" by default for exploratory models of complete rows, else "none".
        """
        if data is None and self.fit.has_weights:
            raise DataError(
                "fit_indices serves rows that count alike, and the fitted rows have weights: χ² has another "
                "distribution then. Give data= for rows without weights"
            )
        rows = self.fit.exact_rows(data)[self.parameters.observed]
        return indices_of_rows(self.parameters, rows, correction)

    def score_weights(self, method: ScoreMethod = "regression") -> DataFrame:
        """B, (D, K): the scores of complete rows are the standardised columns times B, see ``scores``."""
        weights = score_weights(
            self.loadings.to_numpy(), self.uniquenesses.to_numpy(), self._correlations, method=method
        )
        return self._frame(weights)

    def scores(self, data: Data | None = None, method: ScoreMethod = "regression") -> DataFrame:
        """Factor scores of rows, (N, K), from their observed entries.

        Args:
            data: rows as given to ``lfm.fit``, by default the fitted rows.
            method: "regression" (Thurstone, 1935): E[f | x] = Φ Λᵀ Σ⁻¹ (x − μ), of the smallest error, shrunken to zero.
                "bartlett" (1937): (Λᵀ Ψ⁻¹ Λ)⁻¹ Λᵀ Ψ⁻¹ (x − μ), unbiased given f; NaN in rows with fewer observed entries
                than factors.
        """
        rows = self.fit.exact_rows(data)[self.parameters.observed].numpy() - self.parameters.mean
        values = score_rows(rows, self._weight, self.parameters.noise, self._correlations, method)
        index = getattr(data, "index", None)
        return frames().DataFrame(
            values, columns=list(self.factors), index=index if hasattr(data, "columns") else None
        )

    def table(self, *, blank: float = 0.3, sort: bool = True, digits: int = 2) -> str:
        """Loadings as text, with h², u² and complexity.

        Args:
            blank: loadings below it in absolute value are left blank.
            sort: whether columns stand by the factor of their largest loading, largest first.
        """
        return loadings_text(self, blank, sort, digits)

    def plot(self, *, title: str | None = "Loadings") -> Figure:
        """The loadings as a table of colours, see ``lfm.plots.loadings``."""
        from pyro_lfm import plots

        weights = {str(self.rotation or "unrotated"): self.loadings.to_numpy()}
        return plots.loadings(weights, names=[str(column) for column in self.columns], title=title)

    def __repr__(self) -> str:
        counted = self.fit.has_rows and not self.fit.has_weights
        indices = self.fit_indices() if counted else None
        return report(self, indices)

    @property
    def estimation(self) -> str | None:
        inference = self.fit.inference
        return None if inference is None else type(inference).__name__

    @cached_property
    def _weight(self) -> Matrix:
        weight: Matrix = self.parameters.weight @ self.transformation
        return weight

    @cached_property
    def _scale(self) -> Matrix:
        """The standard deviations of the columns under the model, (D,)."""
        p = self.parameters
        return np.sqrt(np.einsum("dk,kl,dl->d", p.weight, p.covariance, p.weight) + p.noise)

    @property
    def _correlations(self) -> Matrix:
        return np.asarray(self.factor_correlations)

    def _frame(self, values: Matrix) -> DataFrame:
        return frames().DataFrame(values, index=list(self.columns), columns=list(self.factors))


def solution(
    fit: Fit,
    rotation: Method | None = None,
    *,
    kaiser: bool = True,
    power: float = 4.0,
    gamma: float = 0.0,
    starts: int = 1,
    seed: int = 0,
    factors: Sequence[str] | None = None,
) -> FactorSolution:
    """The factor solution of a fitted linear Gaussian model, whatever fitted it: EM, variational Bayes or SVI.

    Columns are standardised by the model's own variances, so that communality and uniqueness add up to one. At the maximum
    of factor analysis these are those of the data. Of variational Bayes the loadings are posterior means, and the
    uniquenesses are one over the expected precision.

    Where the likelihood fixes no axes, unrotated factors are canonical: Λᵀ Ψ⁻¹ Λ is diagonal, as in R's factanal, and
    rotations begin there. Factors are named F1, F2, … by their sum of squares, each with the sign of which its loadings have
    a positive sum. Weights that are fixed, or have a pattern of zeros, fix the axes. Their factors keep order, sign and
    the names of the model's latents, and are not rotated.

    Args:
        fit: of ``Model(z=StandardNormal(K), x=Gaussian(D, mean=Linear(), covariance=...))`` and its variants.
        rotation: None, "varimax", "quartimax", "oblimin" or "promax".
        kaiser, power, gamma, starts, seed: see ``rotate``.
        factors: names of the factors, in their order.

    Raises:
        DeclarationError: a model of another kind, a rotation of fixed axes, or an unknown rotation.
        ImportError: without pandas, or, for a rotation, statsmodels, which the extra ``pyro_lfm[efa]`` installs.

    A uniqueness below 0.005 is a Heywood case and gives a ``ScaleFloorWarning`` that names the column.

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> g = torch.Generator().manual_seed(0)
    >>> weight = torch.tensor([[0.8, 0.0], [0.7, 0.0], [0.6, 0.0], [0.0, 0.8], [0.0, 0.7], [0.0, 0.6]])
    >>> x = torch.randn(1000, 2, generator=g) @ weight.T + 0.6 * torch.randn(1000, 6, generator=g)
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(6, mean=lfm.Linear()))
    >>> done = lfm.factor_analysis.solution(lfm.fit(model, x, lfm.EM(), seed=0, progress=False), "oblimin")
    >>> print(done.table(digits=1))
        F1   F2   h2   u2  com
    3  0.8       0.7  0.3  1.0
    4  0.8       0.6  0.4  1.0
    5  0.7       0.5  0.5  1.0
    0       0.8  0.7  0.3  1.0
    1       0.7  0.5  0.5  1.0
    2       0.7  0.5  0.5  1.0
    """
    check_method("rotation", rotation)
    if not isinstance(fit, Fit):
        raise DeclarationError(
            f"fit must be a Fit, which lfm.fit and lfm.load give; got {type(fit).__name__}"
        )
    parameters = linear_parameters(fit, "lfm.factor_analysis.solution")
    names = fit.schema[parameters.observed].names
    columns = tuple(range(len(parameters.weight))) if names is None else tuple(names)
    count = parameters.weight.shape[1]
    if parameters.axes_free:
        scale = np.sqrt(
            np.diag(parameters.weight @ parameters.covariance @ parameters.weight.T) + parameters.noise
        )
        first = _canonical(parameters)
        loadings = parameters.weight @ first / scale[:, None]
        # Factors without loadings, as relevance determination leaves them, come last and stay.
        rank = max(1, int(np.linalg.matrix_rank(loadings)))
        turned = rotate(
            loadings[:, :rank],
            rotation if rank > 1 else None,
            kaiser=kaiser,
            power=power,
            gamma=gamma,
            starts=starts,
            seed=seed,
        )
        transformation = first.copy()
        transformation[:, :rank] = first[:, :rank] @ turned.transformation
        names_of_factors = [f"F{k + 1}" for k in range(count)]
    elif rotation is None:
        transformation = np.diag(np.sqrt(np.diag(parameters.covariance)))
        names_of_factors = [f"{parameters.latent}_{k + 1}" for k in range(count)]
    else:
        raise DeclarationError(
            f"rotation must be None where weights of {parameters.observed} are fixed or have a pattern of zeros, which a "
            f"rotation would change; got {rotation!r}"
        )
    if factors is not None:
        names_of_factors = [str(name) for name in several("factors", factors)]
        if len(names_of_factors) != count:
            raise DeclarationError(f"factors must name the {count} factors; got {len(names_of_factors)}")
    done = FactorSolution(fit, parameters, rotation, transformation, columns, tuple(names_of_factors))
    warn_of_identification(done)
    warn_of_heywood(done)
    return done


def _canonical(parameters: LinearParameters) -> Matrix:
    """A, (K, K), for which the factors A⁻¹ z are uncorrelated with variance one and AᵀWᵀΨ⁻¹WA is diagonal, largest first."""
    root = np.linalg.cholesky(parameters.covariance)
    white = parameters.weight @ root / np.sqrt(parameters.noise)[:, None]
    _, _, axes = np.linalg.svd(white, full_matrices=True)
    turned: Matrix = root @ axes.T
    return turned

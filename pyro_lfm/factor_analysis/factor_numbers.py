"""``number_of_factors``: parallel analysis, held-out likelihood, BIC and variational Bayes in one table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyro_lfm.data.files.opening import opened
from pyro_lfm.errors import DataError, DeclarationError, gathering
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.factor_analysis.libraries import frames
from pyro_lfm.factor_analysis.linear_parameters import linear_parameters
from pyro_lfm.factor_analysis.matrices import Matrix
from pyro_lfm.factor_analysis.parallel_analysis import NullData, Parallel, parallel
from pyro_lfm.families import Gaussian
from pyro_lfm.inference import EM, VariationalBayes, fit
from pyro_lfm.inference.closed.variational_bayes import BayesianFit
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.priors import StandardNormal
from pyro_lfm.programs.model import Model
from pyro_lfm.shapes import number, whole
from pyro_lfm.sources.covariances import Diagonal
from pyro_lfm.sources.linear import Linear
from pyro_lfm.sources.parameter_priors import ARD, Gamma

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True, eq=False, repr=False)
class FactorNumbers:
    """The number of factors that each criterion suggests, and the table they are read from.

    Attributes:
        suggested: {"parallel analysis": K, "held-out likelihood": K, "BIC": K, "variational Bayes": K}.
        table: a DataFrame with a row for K = 0, 1, …: the K-th eigenvalue of the correlations, mean and quantile of those of
            data without factors, the held-out log-likelihood in nats per row, its standard error, and its gain over K − 1
            with the standard error of the gain over rows, and BIC.
        parallel: all eigenvalues.
        quantile, folds, seed: as given.

    >>> import torch, pyro_lfm as lfm
    >>> z, noise = torch.randn(200, 7, generator=torch.Generator().manual_seed(0)).split([1, 6], 1)
    >>> numbers = lfm.factor_analysis.number_of_factors(z + noise, largest=2, draws=20, folds=2)
    >>> numbers.suggested["parallel analysis"], list(numbers.table.index)
    (1, [0, 1, 2])
    """

    suggested: dict[str, int]
    table: DataFrame
    parallel: Parallel
    quantile: float
    folds: int
    seed: int

    def plot(self, *, title: str | None = "Eigenvalues and held-out likelihood") -> Figure:
        """The scree beside the held-out likelihood, see ``lfm.plots.scree``."""
        from pyro_lfm import plots

        return plots.scree(self, title=title)

    def __repr__(self) -> str:
        shown = self.table.round({"held_out": 4, "error": 4, "gain": 4, "gain_error": 4, "bic": 1}).round(3)
        words = "\n".join(f"{name}: {count}" for name, count in self.suggested.items())
        return f"Number of factors\n{words}\n\n{shown.to_string(na_rep='')}"


def number_of_factors(
    data: Array | str | os.PathLike[str],
    largest: int | None = None,
    *,
    draws: int = 200,
    quantile: float = 0.95,
    null: NullData = "normal",
    folds: int = 5,
    seed: int = 0,
) -> FactorNumbers:
    """How many factors rows have, by four criteria side by side. They answer different questions and may differ.

    - Parallel analysis (Horn, 1965): the leading eigenvalues of the correlation matrix that exceed a quantile of those of
      data without factors.
    - Held-out likelihood: the K of the largest log p of rows that were not fitted, over ``folds`` of the rows.
    - BIC: the smallest −2 log p + parameters · ln N at the maximum of the likelihood.
    - Variational Bayes: of ``largest`` factors with automatic relevance determination, those that the data need
      (``fit.rank``).

    Args:
        data: rows (N, D), an array, a tensor, a DataFrame or the path of a file. NaN where missing.
        largest: the most factors. By default they are the most that leave a degree of freedom, and no more than 8.
        draws: data sets without factors.
        quantile: of their eigenvalues, in (0, 1).
        null: "normal", or "permuted" columns.
        folds: of the held-out likelihood, ≥ 2.
        seed: of the draws, the folds and the fits.

    Raises:
        DeclarationError: an argument out of range.
        DataError: fewer than three columns, or rows that no model takes.
        ImportError: without pandas, which the extra ``pyro_lfm[efa]`` installs.

    >>> g = torch.Generator().manual_seed(0)
    >>> x = torch.randn(300, 1, generator=g) + torch.randn(300, 6, generator=g)
    >>> number_of_factors(x, largest=2, draws=50).suggested
    {'parallel analysis': 1, 'held-out likelihood': 1, 'BIC': 1, 'variational Bayes': 1}
    """
    draws, folds = whole("draws", draws), whole("folds", folds, least=2)
    if not 0 < number("quantile", quantile, least=0.0, above=True) < 1:
        raise DeclarationError(f"quantile must be a probability between 0 and 1; got {quantile!r}")
    if null not in ("normal", "permuted"):
        raise DeclarationError(f'null must be "normal" or "permuted"; got {null!r}')
    # Fits with too many factors end on floors; that belongs to the question, and is no news.
    with gathering():
        rows = _rows(data, folds)
    dim = rows.shape[1]
    largest = _most(dim) if largest is None else whole("largest", largest)
    if largest >= dim:
        raise DeclarationError(f"largest must be below the number of columns, {dim}; got {largest}")
    scree = parallel(rows.numpy(), draws=draws, quantile=quantile, null=null, seed=seed)
    with gathering():
        held_out = [_held_out(rows, count, folds, seed) for count in range(largest + 1)]
        bic = [_bic(rows, count, seed) for count in range(largest + 1)]
        rank = _rank(rows, largest, seed)
    means = [float(values.mean()) for values in held_out]
    suggested = {
        "parallel analysis": scree.factors,
        "held-out likelihood": int(np.argmax(means)),
        "BIC": int(np.argmin(bic)),
        "variational Bayes": rank,
    }
    return FactorNumbers(suggested, _table(scree, held_out, bic), scree, quantile, folds, seed)


def _most(dim: int) -> int:
    """The most factors, up to 8, with ((D − K)² − D − K) / 2 > 0."""
    return max([count for count in range(1, 9) if (dim - count) ** 2 > dim + count], default=1)


def _rows(data: Array | str | os.PathLike[str], folds: int) -> torch.Tensor:
    """The rows as a model takes them, in float64."""
    given: Any = opened(data)
    try:
        array = given if isinstance(given, torch.Tensor) else np.asarray(given)
    except ValueError:
        raise DataError("data must be rows of one length, (N, D); got rows of several lengths") from None
    if array.ndim != 2 or array.shape[1] < 3:
        raise DataError(f"data must be rows of at least 3 columns, (N, D); got {tuple(array.shape)}")
    if len(array) < 2 * folds:
        raise DataError(f"data must have at least {2 * folds} rows for {folds} folds; got {len(array)}")
    model = _model(0, array.shape[1])
    rows = fit(model, given, EM(iterations=0), seed=0, progress=False).exact_rows()["x"]
    names = list(getattr(given, "columns", range(rows.shape[1])))
    for name, column in zip(names, rows.T, strict=True):
        answers = column[~column.isnan()]
        if bool((answers == answers[0]).all()):
            raise DataError(
                f"each column of data must vary; column {name!r} has {answers[0]:g} in all its rows: drop it"
            )
    return rows


def _model(factors: int, dim: int) -> Model:
    if not factors:
        return Model(x=Gaussian(dim)).double()
    return Model(z=StandardNormal(factors), x=Gaussian(dim, mean=Linear())).double()


def _fits(rows: torch.Tensor, factors: int, folds: int, seed: int) -> Iterator[tuple[Fit, torch.Tensor]]:
    """A fit of each fold's other rows, and the indices of its own."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    for own in order.chunk(folds):
        others = torch.ones(len(rows), dtype=torch.bool)
        others[own] = False
        yield fit(_model(factors, rows.shape[1]), rows[others], EM(), seed=seed, progress=False), own


def _held_out(rows: torch.Tensor, factors: int, folds: int, seed: int) -> Matrix:
    """log p of each row, (N,), by the fit of the other folds."""
    values = torch.zeros(len(rows), dtype=torch.float64)
    for done, own in _fits(rows, factors, folds, seed):
        values[own] = done.log_likelihood(rows[own])
    return values.numpy()


def _bic(rows: torch.Tensor, factors: int, seed: int) -> float:
    done = fit(_model(factors, rows.shape[1]), rows, EM(), seed=seed, progress=False)
    dim = rows.shape[1]
    own = linear_parameters(done, "lfm.factor_analysis.number_of_factors").parameters if factors else dim
    return float(np.log(len(rows)) * (own + dim) - 2 * done.log_likelihood().sum())


def _rank(rows: torch.Tensor, largest: int, seed: int) -> int:
    x = Gaussian(rows.shape[1], mean=Linear(prior=ARD()), covariance=Diagonal(prior=Gamma()))
    model = Model(z=StandardNormal(largest), x=x).double()
    done = fit(model, rows, VariationalBayes(tolerance=1e-7), seed=seed, progress=False)
    assert isinstance(done, BayesianFit)  # for the type checker
    return done.rank


def _table(scree: Parallel, held_out: list[Matrix], bic: list[float]) -> DataFrame:
    gains = [np.full(1, nan)] + [
        after - before for before, after in zip(held_out, held_out[1:], strict=False)
    ]
    counts = range(len(held_out))

    def of_factor(values: Matrix) -> list[float]:
        return [nan, *values[: len(held_out) - 1].tolist()]

    return frames().DataFrame(
        {
            "eigenvalue": of_factor(scree.eigenvalues),
            "null_mean": of_factor(scree.mean),
            "null_quantile": of_factor(scree.quantile),
            "held_out": [values.mean() for values in held_out],
            "error": [_error(values) for values in held_out],
            "gain": [values.mean() for values in gains],
            "gain_error": [_error(values) for values in gains],
            "bic": bic,
        },
        index=frames().Index(counts, name="factors"),
    )


def _error(values: Matrix) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else nan

"""``FactorAnalysis``, linear factors of Gaussian rows, as an estimator."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted

from pyro_lfm.errors import DataError, DeclarationError, warn
from pyro_lfm.estimators.estimator import Array, LatentTransformer, RandomState, Rows, blocks, is_complete
from pyro_lfm.estimators.linear_fits import LEAST_NOISE, METHODS, NOISE, Numbers, Task, principal_axes
from pyro_lfm.estimators.moments import Moments
from pyro_lfm.estimators.number_of_factors import number_of_factors
from pyro_lfm.exact.linear.linear_gaussian import LinearGaussian
from pyro_lfm.factor_analysis.rotation import METHODS as METHODS_OF_ROTATION
from pyro_lfm.factor_analysis.rotation import Method as Rotated
from pyro_lfm.factor_analysis.rotation import rotate
from pyro_lfm.warning_kinds import ScaleFloorWarning


class FactorAnalysis(LatentTransformer):
    """Factor analysis: x = W z + μ + ε with factors z ~ N(0, I) and noise ε ~ N(0, Ψ), Ψ diagonal or σ² I.

    It has the grammar and the attributes of ``sklearn.decomposition.FactorAnalysis``. Missing entries (NaN) are integrated
    out. The answer does not depend on the units of the columns where the noise is diagonal.

    Args:
        n_components: K, the number of factors. None means as many as parallel analysis supports. Of these method="vb" keeps
            those that relevance determination leaves.
        noise: "diagonal" is a variance for each column. "isotropic" is one for all, which is probabilistic PCA.
        rotation: "varimax", "quartimax", "oblimin" or "promax", of the loadings of the standardised columns (see
            ``lfm.factor_analysis.rotate``, extra ``efa``). Under the last two factors may be correlated. None means factors
            whose WᵀΨ⁻¹W is diagonal, largest first.
        method: "em" is maximum likelihood by expectation maximisation from several starts. "vb" is variational Bayes with
            automatic relevance determination, whose parameters are posterior means. "svi" is stochastic gradients.
        max_iter: the most iterations. For "svi" they are epochs, of which fewer are done where the rows are many.
        tol: "em" and "vb" stop when an iteration gains less, in nats per row.
        random_state: of the starts, of "svi", and of ``sample``.

    Attributes:
        components_: W transposed, (K, D), in units of the columns.
        factor_correlations_: of the factors, (K, K). It is the identity but for "oblimin" and "promax", where z ~ N(0, Φ).
        noise_variance_: the diagonal of Ψ, (D,).
        mean_: μ, (D,).
        loglike_: log p(X) after each iteration, nats of all rows together. For "vb" and "svi" it is the lower bound.
        n_components_: K.
        n_iter_: the number of iterations.
        n_features_in_: D.
        feature_names_in_: the names of the columns, where they have names.

    The columns of complete rows and their weights enter "em" by their moments alone. So ``sample_weight`` and
    ``partial_fit`` are exact.

    Use it for factors with loadings that can be read, and for a first model of any table of numbers.

    Limits: factors act linearly, and the noise is Gaussian. Without ``rotation`` the axes of the factors are a convention.

    Source: Jöreskog (1967); Rubin and Thayer (1982); Bishop (1999) for "vb".

    >>> from sklearn.datasets import load_iris
    >>> import pyro_lfm as lfm
    >>> analysis = lfm.estimators.FactorAnalysis(2, random_state=0).fit(load_iris().data)
    >>> analysis.components_.shape, analysis.transform(load_iris().data[:3]).shape
    ((2, 4), (3, 2))
    >>> round(analysis.score(load_iris().data), 3)
    -2.594
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "noise": [StrOptions(set(NOISE))],
        "rotation": [StrOptions(set(METHODS_OF_ROTATION)), None],
        "method": [StrOptions(set(METHODS))],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        noise: Literal["diagonal", "isotropic"] = "diagonal",
        rotation: Rotated | None = None,
        method: Literal["em", "vb", "svi"] = "em",
        max_iter: int = 2000,
        tol: float = 1e-11,
        random_state: RandomState = None,
    ):
        self.n_components = n_components
        self.noise = noise
        self.rotation = rotation
        self.method = method
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Rows, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fits the model to rows (N, D).

        Args:
            y: ignored.
            sample_weight: (N,), how many rows each row stands for.

        Raises:
            DataError, ValueError: rows or parameters that cannot serve.
        """
        rows = self._rows_to_fit(X, sparse=True)
        self._moments: Moments | None = None
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if self.method == "em" and is_complete(rows):
            return self._fit_moments(Moments.of(rows, weights), rows.dtype)
        dense = np.concatenate([*blocks(rows)]).astype(np.float64)
        # Rows without entries tell nothing, and rows of weight zero are not there.
        kept = ~np.isnan(dense).all(1) & (True if weights is None else weights > 0)
        dense, weights = dense[kept], None if weights is None else weights[kept]
        scaler = StandardScaler().set_output(transform="default").fit(dense, sample_weight=weights)
        count = float(len(dense) if weights is None else weights.sum())
        standard = scaler.transform(dense)
        return self._fit_standard(standard, weights, count, scaler.mean_, scaler.scale_, rows.dtype)

    def partial_fit(self, X: Rows, y: object = None) -> Self:
        """Adds complete rows to those of earlier calls, and fits the model to all of them, by method="em".

        After the last part the model is that of ``fit`` on all rows together. The moments of the rows are kept, (D, D). The
        first call after ``fit`` starts anew.

        Raises:
            DataError: missing entries, or another method, for which no such update is exact.
        """
        before: Moments | None = getattr(self, "_moments", None)
        self._validate_params()
        rows = self._rows_to_fit(X, sparse=True) if before is None else self._rows(X, sparse=True)
        if self.method != "em" or not is_complete(rows):
            raise DataError(
                'partial_fit is exact for method="em" and rows without missing entries alone: use fit on all rows'
            )
        fresh = Moments.of(rows)
        self._moments = fresh if before is None else before.merged(fresh)
        return self._fit_moments(self._moments, rows.dtype)

    def _fit_moments(self, moments: Moments, dtype: np.dtype[Any]) -> Self:
        if moments.count <= 1:
            raise DataError(f"the weights of X must add up to more than one row; got {moments.count:g}")
        rows = moments.standing_for()
        return self._fit_standard(rows, None, moments.count, moments.mean, moments.scale, dtype)

    def _fit_standard(
        self,
        rows: Numbers,
        weights: Numbers | None,
        count: float,
        mean: Numbers,
        scale: Numbers,
        dtype: np.dtype[Any],
    ) -> Self:
        """Fits rows in units of their columns, which stand for ``count`` rows."""
        seed = self._seed()
        unit = scale if self.noise == "diagonal" else np.full_like(scale, np.sqrt(np.mean(scale**2)))
        factors = self._factors(rows, count, seed)
        standard = rows * (scale / unit)
        task = Task(standard, weights, factors, self.noise, self.max_iter, self.tol, seed)
        done = METHODS[self.method](task)
        if self.n_components is None:
            factors = done.rank
        self._warn_of_floor(done.noise, scale)
        weight = principal_axes(done.weight, done.noise)[:, :factors]
        correlations = np.eye(factors)
        if self.rotation is not None:
            rotated = rotate(weight * (unit / scale)[:, None], self.rotation, seed=seed)
            weight, correlations = weight @ rotated.transformation, rotated.correlations
        self.components_ = (weight * unit[:, None]).T.astype(dtype)
        self.factor_correlations_ = correlations.astype(dtype)
        self.mean_ = (mean + done.bias * unit).astype(dtype)
        self.noise_variance_ = (done.noise * unit**2).astype(dtype)
        # Densities are those of the columns in their own units.
        self.loglike_ = [float(count * (bound - np.log(unit).sum())) for bound in done.bounds]
        self.n_iter_ = max(1, len(done.bounds) - 1)
        self.n_components_ = self._n_features_out = factors
        return self

    def _factors(self, rows: Numbers, count: float, seed: int) -> int:
        """K for the fit."""
        if self.n_components is None:
            return number_of_factors(rows, count, seed)
        if self.n_components > rows.shape[1]:
            raise DeclarationError(
                f"n_components must be at most the number of columns, {rows.shape[1]}; got {self.n_components}"
            )
        return int(self.n_components)

    def _warn_of_floor(self, noise: Numbers, scale: Numbers) -> None:
        """Warns of columns without noise of their own, constant ones excepted, which have none by nature."""
        low = (noise <= LEAST_NOISE * 1.01) & (self.method != "vb")
        names = getattr(self, "feature_names_in_", np.arange(len(noise)))[low & (scale != 1.0)]
        if len(names):
            warn(
                f"columns {', '.join(map(str, names))} are left without noise of their own (a Heywood case): the factors "
                'explain all of their variance; take fewer n_components, or method="vb"',
                ScaleFloorWarning,
            )

    def transform(self, X: Rows) -> Array:
        """The posterior means E[z | x] of the observed entries of each row, (N, K)."""
        rows, model = self._rows(X, sparse=True), self._model()
        means = [model.posterior(torch.from_numpy(block.astype(np.float64))).mean for block in blocks(rows)]
        return torch.cat(means).numpy().astype(rows.dtype)

    def inverse_transform(self, Z: ArrayLike) -> Array:
        """The rows that factors (N, K) lead to, without noise: W z + μ, (N, D)."""
        check_is_fitted(self)
        factors = check_array(Z, dtype=[np.float64, np.float32])
        if factors.shape[1] != self.n_components_:
            raise DataError(f"Z must have {self.n_components_} columns; got {factors.shape[1]}")
        return factors @ self.components_.astype(factors.dtype) + self.mean_.astype(factors.dtype)

    def score_samples(self, X: Rows) -> Array:
        """log p(x) of the observed entries of each row, (N,), nats."""
        rows, model = self._rows(X, sparse=True), self._model()
        values = [model.log_likelihood(torch.from_numpy(block.astype(np.float64))) for block in blocks(rows)]
        return torch.cat(values).numpy().astype(rows.dtype)

    def score(self, X: Rows, y: object = None) -> float:
        """The mean of log p(x) over rows, nats per row. ``y`` is ignored."""
        return float(np.mean(self.score_samples(X), dtype=np.float64))

    def sample(self, n_samples: int = 1) -> Array:
        """Rows drawn from the model, (n_samples, D): the same at every call where ``random_state`` is a number."""
        check_is_fitted(self)
        state = check_random_state(self.random_state)
        factors = state.standard_normal((n_samples, self.n_components_))
        factors = factors @ np.linalg.cholesky(self.factor_correlations_).T
        noise = state.standard_normal((n_samples, self.n_features_in_)) * np.sqrt(self.noise_variance_)
        return (factors @ self.components_ + self.mean_ + noise).astype(self.components_.dtype)

    def get_covariance(self) -> Array:
        """The covariance of the rows under the model, W Φ Wᵀ + Ψ, (D, D)."""
        check_is_fitted(self)
        common = self.components_.T @ self.factor_correlations_ @ self.components_
        return common + np.diag(self.noise_variance_)

    def get_precision(self) -> Array:
        """The inverse of ``get_covariance()``, (D, D), by the matrix inversion lemma."""
        check_is_fitted(self)
        scaled = self.components_ / self.noise_variance_
        inner = np.linalg.inv(self.factor_correlations_) + scaled @ self.components_.T
        return np.diag(1 / self.noise_variance_) - scaled.T @ np.linalg.solve(inner, scaled)

    def _model(self) -> LinearGaussian:
        """The fitted model, for exact queries."""
        parts = (self.components_.T, self.mean_, self.noise_variance_, self.factor_correlations_)
        weight, mean, noise, correlations = (torch.from_numpy(part.astype(np.float64)) for part in parts)
        return LinearGaussian(weight, mean, noise, prior_covariance=correlations)

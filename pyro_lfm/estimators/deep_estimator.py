"""``DeepEstimator``, what the deep estimators share: rows in units of their columns, and the queries of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted

from pyro_lfm.errors import DataError
from pyro_lfm.estimators import deep_fits
from pyro_lfm.estimators.deep_declarations import STANDARDISED, DeepDeclaration
from pyro_lfm.estimators.estimator import Array, LatentTransformer, Rows
from pyro_lfm.factors import Factor
from pyro_lfm.inference import Fit


class DeepEstimator(LatentTransformer):
    """An estimator of a model with one latent z and rows x, p(z) p(x | z), trained by stochastic gradients.

    A subclass gives ``_declaration`` and, in ``fit``, calls ``_training_rows`` and sets ``fit_``.
    """

    likelihood: str | Factor
    fit_: Fit

    @property
    def _declaration(self) -> DeepDeclaration:
        """The parameters that declare the model."""
        raise NotImplementedError

    @property
    def _is_standardised(self) -> bool:
        """Whether rows are given to the model in units of their columns."""
        return isinstance(self.likelihood, str) and self.likelihood in STANDARDISED

    def _training_rows(self, X: Rows) -> Array:
        """The rows to fit that have an entry, in units of their columns where the likelihood is Gaussian."""
        self._validate_params()
        standardised = self._is_standardised
        rows = self._rows_to_fit(X, sparse=not standardised)
        self._scaler = self._units_of(rows) if standardised else None
        if not hasattr(rows, "tocsr"):
            rows = rows[~np.isnan(rows).all(1)]
        return self._standard(rows)

    def _units_of(self, rows: Array) -> StandardScaler:
        """The mean and the unit of each column."""
        return StandardScaler().set_output(transform="default").fit(rows)

    def _standard(self, rows: Array) -> Array:
        return rows if self._scaler is None else self._scaler.transform(rows).astype(rows.dtype)

    def _query_rows(self, X: Rows) -> Array:
        """The rows of a query, in the units of the fit."""
        check_is_fitted(self)
        return self._standard(self._rows(X, sparse=not self._is_standardised))

    @property
    def _n_features_out(self) -> int:
        return self._declaration.factors

    def transform(self, X: Rows) -> Array:
        """The posterior means E[z | x] of each row, (N, K)."""
        rows = self._query_rows(X)
        return deep_fits.codes(self.fit_, rows)

    def inverse_transform(self, Z: ArrayLike) -> Array:
        """The means of the rows that factors (N, K) lead to, E[x | z], (N, D)."""
        check_is_fitted(self)
        factors = check_array(Z, dtype=[np.float64, np.float32])
        if factors.shape[1] != self._n_features_out:
            raise DataError(f"Z must have {self._n_features_out} columns; got {factors.shape[1]}")
        return self._original(deep_fits.means(self.fit_, factors))

    def _original(self, rows: Array) -> Array:
        return (
            rows
            if self._scaler is None
            else self._scaler.inverse_transform(rows, copy=True).astype(rows.dtype)
        )

    def score_samples(self, X: Rows) -> Array:
        """log p(x) of the observed entries of each row, (N,), nats, estimated from below by 200 draws of z."""
        rows = self._query_rows(X)
        values = deep_fits.log_likelihoods(self.fit_, rows)
        if self._scaler is None:
            return values
        # Densities are those of the columns in their own units.
        return values - (~np.isnan(rows) @ np.log(self._scaler.scale_)).astype(rows.dtype)

    def score(self, X: Rows, y: object = None) -> float:
        """The mean of log p(x) over rows, nats per row. ``y`` is ignored."""
        return float(np.mean(self.score_samples(X), dtype=np.float64))

    def sample(self, n_samples: int = 1) -> Array:
        """Rows drawn from the model, (n_samples, D): the same at every call where ``random_state`` is a number."""
        check_is_fitted(self)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        drawn: Any = deep_fits.draws(self.fit_, n_samples, seed)
        return self._original(drawn)

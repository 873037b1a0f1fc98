"""``LatentClustering``, clusters among the factors of a deep model, as an estimator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import ClusterMixin
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from pyro_lfm.errors import DataError
from pyro_lfm.estimators import deep_fits
from pyro_lfm.estimators.cluster_prior import LEAST_SCALE, ClusterPrior
from pyro_lfm.estimators.deep_declarations import GUIDES, LIKELIHOODS, DeepDeclaration
from pyro_lfm.estimators.deep_estimator import DeepEstimator
from pyro_lfm.estimators.estimator import Array, RandomState, Rows
from pyro_lfm.estimators.linear_fits import NOISE
from pyro_lfm.factors import Factor
from pyro_lfm.guides import Guide
from pyro_lfm.inference import Fit
from pyro_lfm.programs.model import Model

# The most factors, where n_components is left out.
_FACTORS = 10


class LatentClustering(ClusterMixin, DeepEstimator):
    """Clusters of the factors of a deep model: p(c) p(z | c) p(x | z), z | c ~ N(μ_c, Σ_c), after VaDE (Jiang et al., 2017).

    The likelihood "gaussian" starts at factor analysis. A Gaussian mixture of the factors' posterior means, the most likely
    of ``n_init``, gives the first clusters. Then networks and clusters are learned together. Missing entries (NaN) are left
    out of the likelihood. Rows may be sparse under the likelihoods of counts.

    Args:
        n_clusters: C. Some may end without a row.
        n_components: K, the number of factors. None means 10, or as many as there are columns.
        noise: of the likelihood "gaussian": "diagonal" is a variance for each column, in units of its own. "isotropic" is
            one variance for all, for columns of one unit such as pixels.
        n_init: starts of the first mixture.
        max_iter: epochs in which networks and clusters are learned together.
        hidden_layer_sizes, likelihood, guide, batch_size, learning_rate_init, device, random_state: as for
            ``DeepFactorAnalysis``.

    Attributes:
        labels_: the cluster of each fitted row, (N,), 0 the largest cluster.
        weights_: the probability of each cluster, (C,).
        means_: their centres among the factors, (C, K).
        bounds_, fit_, n_iter_, n_features_in_, feature_names_in_: as for ``DeepFactorAnalysis``.

    Use it for groups of rows of many columns, and for the probabilities of their clusters.

    Limits: the clusters are those of the density, and need not be classes that have a name. It depends on its start.

    >>> from sklearn.datasets import load_iris
    >>> from sklearn.metrics import adjusted_rand_score
    >>> import pyro_lfm as lfm
    >>> clusters = lfm.estimators.LatentClustering(3, max_iter=5, random_state=0).fit(load_iris().data)
    >>> clusters.predict_proba(load_iris().data).shape
    (150, 3)
    >>> adjusted_rand_score(load_iris().target, clusters.labels_) > 0.8
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "noise": [StrOptions(set(NOISE))],
        "hidden_layer_sizes": ["array-like"],
        "likelihood": [StrOptions(set(LIKELIHOODS)), Factor],
        "guide": [StrOptions(set(GUIDES)), Factor],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0.0, None, closed="neither")],
        "device": [str],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        n_components: int | None = None,
        noise: Literal["diagonal", "isotropic"] = "diagonal",
        hidden_layer_sizes: Sequence[int] = (100,),
        likelihood: str | Factor = "gaussian",
        guide: str | Factor = "full",
        n_init: int = 5,
        max_iter: int = 100,
        batch_size: int = 128,
        learning_rate_init: float = 1e-3,
        device: str = "auto",
        random_state: RandomState = None,
    ):
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.noise = noise
        self.hidden_layer_sizes = hidden_layer_sizes
        self.likelihood = likelihood
        self.guide = guide
        self.n_init = n_init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.device = device
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Counts may be sparse; standardised columns are not.
        tags.input_tags.sparse = not self._is_standardised
        return tags

    @property
    def _declaration(self) -> DeepDeclaration:
        hidden = tuple(self.hidden_layer_sizes)
        factors = self.n_components
        if factors is None:
            factors = min(_FACTORS, self.n_features_in_)
        return DeepDeclaration(factors, hidden, self.likelihood, self.guide, noise=self.noise)

    def fit(self, X: Rows, y: object = None) -> Self:
        """Finds the clusters of rows (N, D). ``y`` is ignored."""
        rows = self._training_rows(X)
        if rows.shape[0] < self.n_clusters:
            raise DataError(
                f"n_clusters must be at most the number of rows that have an entry, n_samples={rows.shape[0]}; got "
                f"{self.n_clusters}"
            )
        seed = self._seed()
        first, encoder = self._declaration.build(rows, seed)
        if self.likelihood != "gaussian":
            # There is no linear start: a first training under N(0, I) makes the factors.
            self._train(first, encoder, rows, seed)
        codes, variances = deep_fits.moments_of_codes(encoder, rows)
        prior = first_clusters(codes, variances, self.n_clusters, self.n_init, seed)
        model, guide = replace(self._declaration, prior=prior).build(rows, seed)
        model.factors["x"].load_state_dict(first.factors["x"].state_dict())
        guide.factors["z"].load_state_dict(encoder.factors["z"].state_dict())
        self.fit_ = self._train(model, guide, rows, seed)
        # Clusters without a row come last.
        counts = self._probabilities(rows).argmax(1)
        self._prior.put_in_order(np.argsort(-np.bincount(counts, minlength=self.n_clusters), kind="stable"))
        self.weights_, self.means_ = self._prior.shares(), self._prior.loc.detach().numpy().copy()
        self.bounds_ = [record["bound"] for record in self.fit_.history]
        self.n_iter_ = len(self.bounds_)
        self.labels_ = self.predict(X)
        return self

    def _units_of(self, rows: Array) -> StandardScaler:
        scaler = super()._units_of(rows)
        if self.noise == "isotropic":
            scaler.scale_ = np.full_like(scaler.scale_, np.sqrt(np.mean(scaler.var_)) or 1.0)
        return scaler

    def _train(self, model: Model, guide: Guide, rows: Array, seed: int) -> Fit:
        return deep_fits.train(
            model,
            guide,
            rows,
            seed=seed,
            epochs=self.max_iter,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate_init,
            device=self.device,
        )

    @property
    def _prior(self) -> Any:
        model: Any = self.fit_.model
        return model.factors["z"]

    def _probabilities(self, rows: Array) -> Array:
        return deep_fits.averages(self.fit_, rows, self._prior.probabilities)

    def predict(self, X: Rows) -> NDArray[np.int64]:
        """The most probable cluster of each row, (N,)."""
        return self.predict_proba(X).argmax(1)

    def predict_proba(self, X: Rows) -> Array:
        """The probability of each cluster, p(c | x), (N, C), averaged over draws of z."""
        return self._probabilities(self._query_rows(X))

    def sample(self, n_samples: int = 1) -> tuple[Array, NDArray[np.int64]]:
        """Rows drawn from the model, (n_samples, D), and their clusters, (n_samples,)."""
        check_is_fitted(self)
        seed = self._seed()
        model: Any = self.fit_.model
        drawn = model.sample(n_samples, seed=seed)
        with torch.no_grad():
            shares = self._prior.probabilities(drawn["z"]).double().numpy()
        uniform = np.random.default_rng(seed).random((n_samples, 1))
        clusters = (shares.cumsum(1)[:, :-1] < uniform).sum(1)
        return self._original(drawn["x"].numpy()), clusters


def first_clusters(codes: Array, variances: Array, clusters: int, starts: int, seed: int) -> ClusterPrior:
    """The most likely Gaussian mixture of codes, of several starts, as a prior.

    Args:
        codes: the posterior means of the rows, (N, K).
        variances: the posterior variances, (N, K), by which factors spread more than their means do.
    """
    mixture = GaussianMixture(clusters, n_init=starts, reg_covar=LEAST_SCALE**2, random_state=seed)
    # Its starts by k-means know NumPy alone.
    with config_context(array_api_dispatch=False):
        mixture.fit(codes)
    tril = np.linalg.cholesky(mixture.covariances_ + np.diag(variances.mean(0)))
    logits = np.log(mixture.weights_.clip(1e-6))
    return ClusterPrior(codes.shape[1], *(torch.as_tensor(part) for part in (logits, mixture.means_, tril)))

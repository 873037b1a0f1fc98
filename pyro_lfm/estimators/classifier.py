"""``SemiSupervisedClassifier``, a classifier that learns from rows without labels too, as an estimator."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from pyro_lfm.errors import DataError
from pyro_lfm.estimators import deep_fits
from pyro_lfm.estimators.deep_declarations import LIKELIHOODS, observed
from pyro_lfm.estimators.estimator import Array, LatentEstimator, RandomState, Rows
from pyro_lfm.families import Categorical, Gaussian
from pyro_lfm.guides import Guide
from pyro_lfm.objectives import ELBO, Penalised, Supervised
from pyro_lfm.priors import StandardNormal
from pyro_lfm.programs.model import Model
from pyro_lfm.runtime import Stream
from pyro_lfm.sources.networks import MLP
from pyro_lfm.sources.values import Fixed


class SemiSupervisedClassifier(ClassifierMixin, LatentEstimator):
    """Classes y and styles z of rows, p(y) p(z) p(x | y, z), where y is known in some rows: M2 of Kingma et al. (2014).

    In rows without a label y is summed out under q(y | x), the classifier, which the labelled rows teach besides. Missing
    entries of X (NaN) are left out of the likelihood.

    Args:
        unlabelled: the value of y that means "no label", -1 as in ``sklearn.semi_supervised``. With None every row has a
            label.
        n_components: K, the number of style factors z.
        hidden_layer_sizes: the widths of the hidden layers of all networks.
        likelihood: "gaussian", of standardised columns, "bernoulli", "poisson" or "negative_binomial".
        label_weight: the weight of −log q(y | x) of the labelled rows, per row of data.
        dropout: the probability that a hidden unit of the classifier is dropped while it is trained.
        max_iter: epochs. The learning rate falls to zero along a cosine.
        batch_size: rows per step. None means a tenth of the rows, from 16 to 128.
        learning_rate_init, device, random_state: as for ``DeepFactorAnalysis``.

    Attributes:
        classes_: the labels, (C,).
        bounds_: the evidence bound of each epoch, nats per row.
        fit_: the ``lfm.Fit``.
        n_iter_: the number of epochs.
        n_features_in_: D.
        feature_names_in_: the names of the columns.

    Use it for few labelled rows among many rows without a label.

    Limits: with very few labels, such as two of each class, a regression of the columns may be better. Compare both.

    >>> from sklearn.datasets import load_iris
    >>> import pyro_lfm as lfm
    >>> X, y = load_iris(return_X_y=True)
    >>> few = y.copy()
    >>> few[np.arange(150) % 10 > 0] = -1  # five labels of each class are known
    >>> classifier = lfm.estimators.SemiSupervisedClassifier(max_iter=50, random_state=0).fit(X, few)
    >>> classifier.predict_proba(X).shape, classifier.score(X, y) > 0.8
    ((150, 3), True)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "unlabelled": "no_validation",
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "likelihood": [StrOptions(set(LIKELIHOODS))],
        "label_weight": [Interval(Real, 0.0, None, closed="neither")],
        "dropout": [Interval(Real, 0.0, 1.0, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate_init": [Interval(Real, 0.0, None, closed="neither")],
        "device": [str],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        unlabelled: object = -1,
        n_components: int = 8,
        hidden_layer_sizes: Sequence[int] = (128,),
        likelihood: str = "gaussian",
        label_weight: float = 0.1,
        dropout: float = 0.5,
        max_iter: int = 200,
        batch_size: int | None = None,
        learning_rate_init: float = 1e-3,
        device: str = "auto",
        random_state: RandomState = None,
    ):
        self.unlabelled = unlabelled
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.likelihood = likelihood
        self.label_weight = label_weight
        self.dropout = dropout
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.device = device
        self.random_state = random_state

    def fit(self, X: Rows, y: ArrayLike) -> Self:
        """Learns from rows (N, D) with labels (N,), of which some may be ``unlabelled``."""
        self._validate_params()
        rows, labels = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
            ensure_min_samples=2,
        )
        check_classification_targets(labels)
        self._check_columns(rows)
        codes = self._codes(labels)
        self._scaler = self._units_of(rows)
        standard = self._standard(rows)
        if not hasattr(standard, "tocsr"):
            kept = ~np.isnan(standard).all(1)
            standard, codes = standard[kept], codes[kept]
        seed = self._seed()
        model, guide = self._declared(standard, seed)
        weight = self.label_weight * len(codes)
        self.fit_ = deep_fits.train(
            model,
            guide,
            {"x": standard, "y": codes},
            seed=seed,
            epochs=self.max_iter,
            batch_size=self.batch_size or min(128, max(16, len(codes) // 10)),
            learning_rate=self.learning_rate_init,
            device=self.device,
            objective=Penalised(ELBO(), Supervised(weight=weight)),
        )
        self.bounds_ = [record["bound"] for record in self.fit_.history]
        self.n_iter_ = len(self.bounds_)
        return self

    def _codes(self, labels: NDArray[Any]) -> NDArray[np.float64]:
        """0 to C − 1 for the labels, NaN for rows without one; sets ``classes_``."""
        known = np.ones(len(labels), bool)
        if self.unlabelled is not None:
            known = np.array([label != self.unlabelled for label in labels.tolist()])
        self.classes_, codes = np.unique(labels[known], return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(
                f"y must have at least 2 classes beside unlabelled={self.unlabelled!r}; got "
                f"{len(self.classes_)} class{'es' * (not len(self.classes_))}"
            )
        result = np.full(len(labels), np.nan)
        result[known] = codes
        return result

    def _units_of(self, rows: Array) -> StandardScaler | None:
        if not LIKELIHOODS[self.likelihood].standardised:
            return None
        dense = rows.toarray() if hasattr(rows, "toarray") else rows
        return StandardScaler().set_output(transform="default").fit(dense)

    def _standard(self, rows: Array) -> Array:
        """The rows in the units of the fit."""
        if self._scaler is None:
            return rows
        dense = rows.toarray() if hasattr(rows, "toarray") else rows
        return self._scaler.transform(dense).astype(rows.dtype)

    def _declared(self, rows: Array, seed: int) -> tuple[Model, Guide]:
        hidden = tuple(self.hidden_layer_sizes)
        with Stream(seed):
            model = Model(
                y=Categorical(len(self.classes_), logits=Fixed(0.0)),
                z=StandardNormal(self.n_components),
                x=observed(rows, self.likelihood, hidden, None),
            ).to(dtype=torch.from_numpy(np.zeros(1, rows.dtype)).dtype)
            guide = Guide(
                model,
                y=Categorical(logits=MLP(*hidden, dropout=self.dropout), given="x"),
                z=Gaussian(network=MLP(*hidden), given=("x", "y")),
            )
        return model, guide

    def predict_proba(self, X: Rows) -> Array:
        """q(y | x) of each row, (N, C), in the order of ``classes_``."""
        rows = self._rows(X, sparse=True)
        return deep_fits.label_probabilities(self.fit_, self._standard(rows), "y")

    def predict(self, X: Rows) -> NDArray[Any]:
        """The most probable label of each row, (N,)."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

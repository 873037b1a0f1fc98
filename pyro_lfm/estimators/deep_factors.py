"""``DeepFactorAnalysis``, factors whose map to the rows is a neural network, as an estimator."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

from sklearn.utils._param_validation import Interval, StrOptions

from pyro_lfm.estimators import deep_fits
from pyro_lfm.estimators.deep_declarations import GUIDES, LIKELIHOODS, DeepDeclaration
from pyro_lfm.estimators.deep_estimator import DeepEstimator
from pyro_lfm.estimators.estimator import RandomState, Rows
from pyro_lfm.factors import Factor


class DeepFactorAnalysis(DeepEstimator):
    """A deep latent Gaussian model: z ~ p(z), and p(x | z) whose mean is a perceptron of z. A variational autoencoder.

    Where the likelihood is "gaussian" the columns are standardised inside, and the perceptrons start at the maximum
    likelihood of factor analysis, so that training goes on from there. Missing entries (NaN) are left out of the likelihood,
    and the guide is refined for each row that has some.

    Args:
        n_components: K, the number of factors.
        hidden_layer_sizes: the widths of the hidden layers of encoder and decoder.
        likelihood: of the columns given z: "gaussian", noise of its own for each column, "bernoulli" for 0 and 1,
            "poisson" and "negative_binomial" for counts, or a factor such as ``lfm.Gaussian(mean=lfm.MLP(64),
            covariance=lfm.Diagonal(lfm.MLP(64)))``, in the units of the rows.
        guide: q(z | x): "full" or "diagonal", Gaussian with that covariance, or a factor such as
            ``lfm.NeuralSpline(network=lfm.MLP(64))``.
        prior: a prior of K numbers, such as ``lfm.VampPrior(2)``. None means N(0, I).
        max_iter: epochs. The learning rate falls to zero along a cosine.
        batch_size: rows per step.
        learning_rate_init: of Adam.
        early_stopping: hold out a tenth of the rows, and stop when their bound has not risen for 10 epochs. The learning
            rate is constant then.
        device: of the training. "auto" is a GPU where there is one.
        random_state: of first weights, noise, shuffling, and ``sample``.

    Attributes:
        bounds_: the evidence bound of each epoch, nats per row. It is that of standardised columns where the columns are
            standardised.
        fit_: the ``lfm.Fit``, for ``lfm.evaluate`` and ``fit_.save``. It takes standardised rows where they are.
        n_iter_: the number of epochs.
        n_features_in_: D.
        feature_names_in_: the names of the columns.

    Use it for few factors that are nonlinear in the columns, and for rows that are drawn anew.

    Limits: log p(x) is estimated, not exact. With few rows ``FactorAnalysis`` may be better on rows that were held out.

    Source: Kingma and Welling (2014); Rezende, Mohamed and Wierstra (2014).

    >>> from sklearn.datasets import load_iris
    >>> import pyro_lfm as lfm
    >>> deep = lfm.estimators.DeepFactorAnalysis(2, max_iter=5, random_state=0).fit(load_iris().data)
    >>> deep.transform(load_iris().data).shape, deep.sample(3).shape
    ((150, 2), (3, 4))
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "likelihood": [StrOptions(set(LIKELIHOODS)), Factor],
        "guide": [StrOptions(set(GUIDES)), Factor],
        "prior": [Factor, None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0.0, None, closed="neither")],
        "early_stopping": ["boolean"],
        "device": [str],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int = 2,
        *,
        hidden_layer_sizes: Sequence[int] = (100,),
        likelihood: str | Factor = "gaussian",
        guide: str | Factor = "full",
        prior: Factor | None = None,
        max_iter: int = 200,
        batch_size: int = 128,
        learning_rate_init: float = 1e-3,
        early_stopping: bool = False,
        device: str = "auto",
        random_state: RandomState = None,
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.likelihood = likelihood
        self.guide = guide
        self.prior = prior
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.early_stopping = early_stopping
        self.device = device
        self.random_state = random_state

    @property
    def _declaration(self) -> DeepDeclaration:
        hidden = tuple(self.hidden_layer_sizes)
        return DeepDeclaration(self.n_components, hidden, self.likelihood, self.guide, self.prior)

    def fit(self, X: Rows, y: object = None) -> Self:
        """Fits model and guide to rows (N, D). ``y`` is ignored."""
        rows = self._training_rows(X)
        seed = self._seed()
        model, guide = self._declaration.build(rows, seed)
        self.fit_ = deep_fits.train(
            model,
            guide,
            rows,
            seed=seed,
            epochs=self.max_iter,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate_init,
            early_stopping=self.early_stopping,
            device=self.device,
        )
        self.bounds_ = [record["bound"] for record in self.fit_.history]
        self.n_iter_ = len(self.bounds_)
        return self

"""``LatentModel``, any declared model with one observed factor, as an estimator."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_array, check_is_fitted

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.estimators import deep_fits
from pyro_lfm.estimators.estimator import Array, LatentEstimator, RandomState, Rows, blocks
from pyro_lfm.factors import Factor
from pyro_lfm.guides import AnyGuide, Guide
from pyro_lfm.inference import SVI, Fit, Inference, fit
from pyro_lfm.objectives import Objective
from pyro_lfm.programs.model import AnyModel, as_model


class LatentModel(TransformerMixin, LatentEstimator):
    """A model of one's own, ``lfm.Model`` or ``lfm.PyroModel``, in the grammar of scikit-learn.

    The model and the guide that are given stay as they are: ``fit`` trains copies, with first weights from ``random_state``.

    Args:
        model: a model with one observed factor, whose event has D numbers, or a function of D that makes one.
        guide: {latent: factor}, a ``Guide`` of the model, a ``PyroGuide``, or a function of the model that makes one. None
            is for an inference that needs none.
        inference: such as ``lfm.EM()``. None means ``lfm.SVI`` of the guide with the options below.
        objective: of SVI. None means ``lfm.ELBO()``.
        max_iter: epochs of SVI.
        batch_size, learning_rate_init, device, random_state: as for ``DeepFactorAnalysis``.

    Attributes:
        fit_: the ``lfm.Fit``.
        bounds_: the bound of each epoch, nats per row.
        n_iter_: the number of epochs.
        n_features_in_: D.
        feature_names_in_: the names of the columns.

    Use it for pipelines and searches over a declaration of your own.

    Limits: the model has one observed variable. ``lfm.fit`` has no such limit.

    >>> import pyro_lfm as lfm
    >>> from sklearn.datasets import load_iris
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))
    >>> mine = lfm.estimators.LatentModel(model, inference=lfm.EM(), random_state=0).fit(load_iris().data)
    >>> mine.transform(load_iris().data).shape, list(mine.get_feature_names_out())
    ((150, 2), ['z0', 'z1'])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "model": [torch.nn.Module, callable],
        "guide": [torch.nn.Module, Mapping, callable, None],
        "inference": [Inference, None],
        "objective": [Objective, None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0.0, None, closed="neither")],
        "device": [str],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        model: torch.nn.Module | Callable[[int], AnyModel],
        guide: Mapping[str, Factor] | AnyGuide | Callable[[AnyModel], AnyGuide] | None = None,
        *,
        inference: Inference | None = None,
        objective: Objective | None = None,
        max_iter: int = 200,
        batch_size: int = 128,
        learning_rate_init: float = 1e-3,
        device: str = "auto",
        random_state: RandomState = None,
    ):
        self.model = model
        self.guide = guide
        self.inference = inference
        self.objective = objective
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.device = device
        self.random_state = random_state

    def __sklearn_clone__(self) -> Self:
        # Together, as a guide may hold modules of the model.
        return type(self)(**copy.deepcopy(self.get_params(deep=False)))

    def fit(self, X: Rows, y: object = None) -> Self:
        """Fits copies of model and guide to rows (N, D). ``y`` is ignored."""
        rows = self._rows_to_fit(X, sparse=True)
        model, inference = self._declared(rows)
        self._observed = self._only_observed(model)
        done = fit(
            model, {self._observed: rows}, inference, seed=self._seed(), device=self.device, progress=False
        )
        model.cpu()
        done.guide.cpu()
        self.fit_: Fit = done.without_rows()
        self.bounds_ = [record["bound"] for record in done.history]
        self.n_iter_ = max(1, int(done.history[-1]["epoch"]))
        return self

    def _declared(self, rows: Array) -> tuple[AnyModel, Inference]:
        """Copies of the declarations, in the floating type of the rows."""
        model, guide, inference = copy.deepcopy((self.model, self.guide, self.inference))
        if not isinstance(model, torch.nn.Module):
            model = model(rows.shape[1])
        model = as_model(model).to(dtype=torch.from_numpy(np.zeros(1, rows.dtype)).dtype)
        if inference is not None:
            return model, inference
        if guide is None:
            raise DeclarationError("guide must be given, or inference, such as lfm.EM(), which needs none")
        if isinstance(guide, Mapping):
            guide = Guide(model, **guide)
        elif isinstance(guide, Factor):
            raise DeclarationError(
                f"guide must name the latent of each factor, as in {{'z': {guide!r}}}, or be a lfm.Guide; got a factor"
            )
        elif not isinstance(guide, torch.nn.Module):
            guide = guide(model)
        svi = SVI(
            guide.to(dtype=model.dtype),
            objective=self.objective,
            epochs=self.max_iter,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate_init,
        )
        return model, svi

    def _only_observed(self, model: AnyModel) -> str:
        names = list(model.observed)
        if len(names) != 1:
            raise DeclarationError(
                f"model must have one observed factor, which X is; got {', '.join(names)}: lfm.fit takes several"
            )
        return names[0]

    @property
    def _latents(self) -> dict[str, int]:
        """The latents that each row has, with the number of their columns: of a label one for each category."""
        latents = self.fit_.model.latents
        return {n: v.categories or v.shape.numel() for n, v in latents.items() if v.per_row}

    def transform(self, X: Rows) -> Array:
        """The posterior means of all latents of a row side by side, (N, K), for a label the probability of each category."""
        rows = self._rows(X, sparse=True)

        def of_block(block: Array) -> torch.Tensor:
            posterior = self.fit_.posterior({self._observed: block})
            by_name = posterior if isinstance(posterior, dict) else dict.fromkeys(self._latents, posterior)
            parts = [
                q.probs if self.fit_.model.latents[name].categories else q.mean
                for name, q in by_name.items()
                if name in self._latents
            ]
            return torch.cat([part.reshape(len(block), -1) for part in parts], 1)

        return torch.cat([of_block(block) for block in blocks(rows)]).numpy().astype(rows.dtype)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """The names of the columns that ``transform`` gives: the latent's name and a number."""
        check_is_fitted(self)
        return np.array([f"{n}{k}" for n, size in self._latents.items() for k in range(size)], dtype=object)

    def inverse_transform(self, Z: ArrayLike) -> Array:
        """E[x | z] of factors (N, K), (N, D), for a model whose only latent is z."""
        check_is_fitted(self)
        factors = check_array(Z, dtype=[np.float64, np.float32])
        names = list(self.fit_.model.latents)
        if len(names) != 1 or self.fit_.model.latents[names[0]].categories:
            raise DeclarationError(
                f"inverse_transform needs a model with one numerical latent; this one has {', '.join(names)}"
            )
        if factors.shape[1] != self._latents[names[0]]:
            raise DataError(f"Z must have {self._latents[names[0]]} columns; got {factors.shape[1]}")
        return deep_fits.means(self.fit_, factors, self._observed)

    def score_samples(self, X: Rows) -> Array:
        """log p(x) of each row, (N,), nats, estimated from below by 200 draws of the latents."""
        return deep_fits.log_likelihoods(self.fit_, self._rows(X, sparse=True))

    def score(self, X: Rows, y: object = None) -> float:
        """The mean of log p(x) over rows, nats per row. ``y`` is ignored."""
        return float(np.mean(self.score_samples(X), dtype=np.float64))

    def sample(self, n_samples: int = 1) -> Array:
        """Rows drawn from the model, (n_samples, D): the same at every call where ``random_state`` is a number."""
        check_is_fitted(self)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return deep_fits.draws(self.fit_, n_samples, seed, self._observed)

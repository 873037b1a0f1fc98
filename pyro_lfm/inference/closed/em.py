"""Expectation maximisation, for every declaration whose posterior has a closed form: ``lfm.EM``."""

from __future__ import annotations

from dataclasses import dataclass

from pyro_lfm.closed_form import AnyLikelihoodForm, recognise
from pyro_lfm.guides import AnyGuide, ExactPosterior
from pyro_lfm.inference.closed.bound_ascent import BoundAscent
from pyro_lfm.programs.model import AnyModel


@dataclass(kw_only=True, eq=False, repr=False)
class EM(BoundAscent):
    """Maximum likelihood by the exact posterior, where both have a closed form.

    E step: q(z) = p(z | x), so that the bound L is log p(x). M step: the parameters θ that maximise
    E_q[log p(x, z)]. So log p(x) = L + KL(q ‖ p(z | x)) never falls. It serves

    - factor analysis and probabilistic PCA: ``Model(z=StandardNormal(K), x=Gaussian(D, mean=Linear(), covariance=...))``
      with ``Isotropic()``, ``Diagonal()`` or ``Full(Fixed(...))``. Any parameters may be ``Fixed``. The prior of z may
      also be a ``Gaussian`` with fixed mean and covariance;
    - confirmatory factor analysis: the same with ``Linear(pattern=...)``, of uncorrelated factors or of correlated ones,
      ``z=Gaussian(K, mean=Fixed(0.0), covariance=Full())``, which end with variance one;
    - mixtures: ``Model(c=Categorical(C), x=..., given="c")`` with ``Gaussian(D, mean=Lookup(), covariance=...)`` of any
      structure, per class (``Lookup()``), shared or fixed, or ``Bernoulli(D, logits=Lookup())``;
    - mixtures of factor analysers: c and z, and ``Gaussian(D, mean=Lookup(Linear()), covariance=..., given=("c", "z"))``;
    - baselines without latents: ``Model(x=Gaussian(D))`` or ``Model(x=Bernoulli(D))``.

    Missing entries (NaN) are marginalised exactly. Data are read in blocks: complete data of a linear model once,
    other data once per iteration. Arithmetic is in float64, and the result is written into the model in the model's
    floating type. ``fit.guide`` is ``ExactPosterior(model)``.

    ``fit.history`` has two records per iteration, step "M" and step "E": iteration, epoch (the same number),
    log_likelihood = bound + kl, nats per row, validation_bound (NaN without validation rows) and seconds.
    ``fit.ends`` holds the log-likelihoods that the starts reached, nats per row, best first. A start that was dropped
    early counts with the value that it had reached. Where the iterations were used up ``fit.converged`` is False, with
    a ``ConvergenceWarning``.

    Args:
        iterations: the most M steps.
        tolerance: stop when iterations gain less, nats per row.
        start: "model": the model's present parameters. "data": parameters computed from the data, by principal
            components, Newton steps (factor analysis), random draws or k-means++. "auto": "data" for a model that is as it
            was declared, whatever values its declaration gives, and "model" for one that was trained, loaded or assigned
            to. ``Fixed`` parameters always stay.
        restarts: the number of starts from the data, as log p(x) has several maxima. Some are drawn with the fit's seed.
            All take a few iterations, the better half of them goes on, and so forth. Where the maximum is known in closed
            form there is one start.
        accelerate: for linear models, go beyond the M step by quasi-Newton steps wherever that raises log p(x).

    Raises:
        DeclarationError: an argument out of range, or, when it runs, a model that it cannot serve. The message names the
            factor that stops it and the remedy.

    Use it where it serves the model: it has no step size, and its answer is the maximum of the likelihood.

    Limits: linear Gaussian models and mixtures only. log p(x) has several maxima, see ``restarts``.

    Source: Dempster, Laird and Rubin (1977); Rubin and Thayer (1982); Ghahramani and Hinton (1996).

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear(), covariance=lfm.Isotropic()))
    >>> rows = torch.tensor([[2.0, 1.0], [-2.0, 1.0], [2.0, -1.0], [-2.0, -1.0]])
    >>> fit = lfm.fit(model, rows, lfm.EM(), progress=False)
    >>> round(fit.history[-1]["log_likelihood"], 6), round(float(fit.log_likelihood().mean()), 6)
    (-3.531024, -3.531024)
    """

    def _form(self, model: AnyModel) -> AnyLikelihoodForm:
        return recognise(model).exact("lfm.EM")

    def _guide(self, model: AnyModel) -> AnyGuide:
        return ExactPosterior(model)

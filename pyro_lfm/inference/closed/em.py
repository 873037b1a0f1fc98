"""Expectation maximisation for every declaration whose posterior is closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyro_lfm.closed_form import recognise
from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides import ExactPosterior
from pyro_lfm.inference.closed.journal import climb
from pyro_lfm.inference.result import Fit
from pyro_lfm.inference.task import Inference, Task
from pyro_lfm.shapes import number, whole


def check_start(start: object) -> None:
    if start not in ("auto", "data", "model"):
        raise DeclarationError(f'start must be "auto", "data" or "model"; got {start!r}')


@dataclass(frozen=True, kw_only=True)
class EM(Inference):
    """Maximum likelihood with the exact posterior, where both are closed form.

    E step: q(z) = p(z | x), so that the bound L is log p(x). M step: the parameters θ that maximise
    E_q[log p(x, z)], so that log p(x) = L + KL(q ‖ p(z | x)) never falls. It serves

    - factor analysis and probabilistic PCA: ``Model(z=StandardNormal(K), x=Gaussian(D, mean=Linear(), covariance=...))``
      with ``Isotropic()``, ``Diagonal()`` or ``Full(Fixed(...))``, any parameters ``Fixed``, z's prior too a
      ``Gaussian`` with fixed mean and covariance;
    - mixtures: ``Model(c=Categorical(C), x=..., given="c")`` with ``Gaussian(D, mean=Lookup(), covariance=...)`` of any
      structure, per class (``Lookup()``), shared or fixed, or ``Bernoulli(D, logits=Lookup())``;
    - mixtures of factor analysers: c and z, and ``Gaussian(D, mean=Lookup(Linear()), covariance=..., given=("c", "z"))``.

    Missing entries (NaN) are marginalised exactly. Data are read in blocks; complete data of a linear model once,
    others once per iteration. Arithmetic is in float64 and the result is written into the model in its own floating
    type. ``fit.guide`` is ``ExactPosterior(model)``.

    ``fit.history`` has two records per iteration, step "M" and step "E": iteration, epoch (the same number),
    log_likelihood = bound + kl, nats per row, validation_bound (NaN without validation rows) and seconds.
    ``fit.ends`` holds the log-likelihoods that the starts reached, nats per row, best first: one that fell behind counts
    with what it had reached. ``fit.converged`` is False, and a ``ConvergenceWarning`` says so, where the iterations
    were used up.

    Args:
        iterations: the most M steps.
        tolerance: stop when iterations gain less, nats per row.
        start: "auto": a model that was trained, loaded or assigned to goes on from where it is. One that is as it was
            declared starts from the data, whatever values its declaration gives. "data": parameters made from the data, by
            principal components, Newton steps (factor analysis), draws or k-means++. "model": the model's own. What is
            declared ``Fixed`` stays either way.
        restarts: where it starts from the data, so many starts, of which some are drawn with the fit's seed: log p(x) has
            several maxima. All take a few iterations, the better half of them goes on, and so forth. Where the maximum is
            known in closed form there is one.
        accelerate: linear models: go beyond the M step (by quasi-Newton steps) wherever log p(x) is the higher for it.

    Raises:
        DeclarationError: an argument out of range; or, when it runs, a model that it cannot serve: the message names
            the factor that stops it and what serves instead.

    References: Dempster, Laird and Rubin (1977); Rubin and Thayer (1982); Ghahramani and Hinton (1996).

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear(), covariance=lfm.Isotropic()))
    >>> rows = torch.tensor([[2.0, 1.0], [-2.0, 1.0], [2.0, -1.0], [-2.0, -1.0]])
    >>> fit = lfm.fit(model, rows, EM(), progress=False)
    >>> round(fit.history[-1]["log_likelihood"], 6), round(float(fit.log_likelihood().mean()), 6)
    (-3.531024, -3.531024)
    """

    iterations: int = 2000
    tolerance: float = 1e-11
    start: Literal["auto", "data", "model"] = "auto"
    restarts: int = 10
    accelerate: bool = True

    def __post_init__(self) -> None:
        whole("iterations", self.iterations, least=0)
        number("tolerance", self.tolerance, least=0.0)
        whole("restarts", self.restarts)
        check_start(self.start)

    def run(self, task: Task) -> Fit:
        """Climbs log p(x); see the class."""
        form = recognise(task.model).exact("lfm.EM")
        return climb(
            task,
            form,
            ExactPosterior(task.model),
            start=self.start,
            restarts=self.restarts,
            iterations=self.iterations,
            tolerance=self.tolerance,
            accelerate=self.accelerate,
        )

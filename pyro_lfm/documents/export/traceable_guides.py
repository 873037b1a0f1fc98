"""Guides as an exported encoder runs them: those in closed form with posteriors that are one graph for all rows."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import singledispatch
from typing import Any

from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor

from pyro_lfm.closed_form import AnyLikelihoodForm, ConjugatePosterior
from pyro_lfm.closed_form.form import DistributionGiven
from pyro_lfm.documents.export.closed_forms_in_graph import in_graph
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.views import view
from pyro_lfm.guides import AnyGuide, Refined
from pyro_lfm.guides.conjugate import ConjugateGuide
from pyro_lfm.guides.exact import ExactPosterior, FactorisedPosterior


@singledispatch
def traceable(guide: AnyGuide) -> AnyGuide:
    """The guide, or one with the same posteriors that can be recorded as a graph.

    Raises:
        DeclarationError: a guide whose posterior of a row is the end of an optimisation.
    """
    if guide.tables:
        raise DeclarationError(
            "the guide has parameters for each row (PerRow), which new rows get by an optimisation: declare a network in "
            "its place, as in lfm.Gaussian(network=lfm.MLP(64))"
        )
    return guide


@traceable.register
def _(guide: Refined) -> AnyGuide:
    raise DeclarationError(
        "Refined optimises the posterior of each row, and a file holds no optimiser: fit with the guide that it refines"
    )


class _ExactInGraph(ExactPosterior):
    in_graph: AnyLikelihoodForm

    @property
    def form(self) -> AnyLikelihoodForm:
        return self.in_graph


class _ConjugateInGraph(ConjugateGuide):
    in_graph: ConjugatePosterior

    @property
    def posterior(self) -> ConjugatePosterior:
        return self.in_graph


class _Computed(ConjugatePosterior):
    """A posterior whose distributions of parameters are computed before a graph is recorded."""

    def __init__(self, posterior: Any, like: Tensor):
        self.of_rows = replace(posterior, exact=in_graph(posterior.exact))
        self.reads = posterior.reads
        self.computed = posterior.parameters(like), posterior.marginals(like)

    def tensors(self) -> dict[str, Tensor]:
        return self.of_rows.tensors()

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> ConjugatePosterior:
        return self.of_rows.with_tensors(tensors)

    def parameters(self, like: Tensor) -> dict[str, DistributionGiven]:
        return self.computed[0]

    def marginals(self, like: Tensor) -> dict[str, Distribution]:
        return self.computed[1]

    def latents(self, x: Tensor, like: Tensor) -> dict[str, Distribution]:
        return self.of_rows.latents(x, like)


def _with(guide: AnyGuide, kind: type, form: object) -> Any:
    twin = view(guide)
    twin.__class__ = kind
    vars(twin)["in_graph"] = form
    return twin


@traceable.register(ExactPosterior)
@traceable.register(FactorisedPosterior)
def _(guide: ExactPosterior | FactorisedPosterior) -> AnyGuide:
    form = copy.copy(guide.form)
    parameters = in_graph(form.read())
    vars(form)["read"] = lambda: parameters
    return _with(guide, _ExactInGraph, form)


@traceable.register
def _(guide: ConjugateGuide) -> AnyGuide:
    return _with(guide, _ConjugateInGraph, _Computed(guide.posterior, guide.like))

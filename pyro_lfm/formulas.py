"""``lfm.describe``: a model, a guide and an objective as formulas."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pyro.infer import ELBO as PyroELBO

from pyro_lfm.data.batch import Batch
from pyro_lfm.guides import AnyGuide, Guide, Refined, as_guide
from pyro_lfm.objectives import ELBO, Names, Objective, Run
from pyro_lfm.objectives.trace_sites import PyroProgram
from pyro_lfm.probes import probing
from pyro_lfm.programs.model import AnyModel, Model, as_model


def describe(model: PyroProgram, guide: PyroProgram | None = None, objective: PyroELBO | None = None) -> str:
    """The declaration as formulas: p, q, the bound, and how each KL is computed.

    Args:
        model: a model, declared or a Pyro program.
        guide: its guide. Without one only the model is described.
        objective: an ``lfm.Objective``, by default ``ELBO()``. Objectives of Pyro are only named.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(8)))
    >>> print(lfm.describe(model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))))
    p(z, x) = p(z) p(x | z)
      z ~ StandardNormal, event (2,)
      x | z ~ Gaussian(mean: MLP(8), covariance: Diagonal learned), event (4,)
    q(z | x) = q(z | x)
      z | x ~ Gaussian(mean: head of MLP(8), covariance: Diagonal head of MLP(8)), event (2,)
    log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || p(z))
      E_q: Monte Carlo, 1 particle, reparametrized gradient
      KL z: closed form
    """
    declared = as_model(model)
    lines = _model(declared)
    if not declared.latents:
        observed = ", ".join(name for name in declared.observed if name not in declared.covariates)
        lines.append(
            f"no latents: the bound is log {_conditional('p', observed, declared.covariates)} itself"
        )
    elif guide is not None:
        wrapped = as_guide(guide)
        lines += _guide(declared, wrapped) + _objective(declared, wrapped, objective or ELBO())
    return "\n".join(lines)


def _conditional(kind: str, name: str, parents: Iterable[str]) -> str:
    return f"{kind}({name} | {', '.join(parents)})" if parents else f"{kind}({name})"


def _distribution(name: str, parents: Iterable[str], words: str, shape: torch.Size) -> str:
    return f"  {name}{' | ' if parents else ''}{', '.join(parents)} ~ {words}, event {tuple(shape)}"


def _model(model: AnyModel) -> list[str]:
    sites = model.sites
    joint = _conditional("p", ", ".join(n for n in sites.all if n not in model.covariates), model.covariates)
    if not isinstance(model, Model):
        distributions = [
            f"  {v.name}, event {tuple(v.shape)}, support {v.support}" for v in sites.all.values()
        ]
        return [f"{joint}: a Pyro program, {type(model).__name__}", *distributions]
    product = " ".join(
        _conditional("p", name, parents)
        for name, parents in model.wiring.items()
        if name not in model.covariates
    )
    distributions = []
    for name, parents in model.wiring.items():
        if name in model.covariates:
            distributions.append(
                f"  {name}: {model.factors[name].describe()}, event {tuple(sites.all[name].shape)}"
            )
            continue
        words = model.factors[name].describe() if name in model.factors else _prior(model, name)
        distributions.append(_distribution(name, parents, words, sites.all[name].shape))
    return [f"{joint} = {product}", *distributions]


def _prior(model: Model, name: str) -> str:
    factor, _, parameter = name.partition(".")
    return repr(model.factors[factor].drawn[parameter].declared)


def _guide(model: AnyModel, guide: AnyGuide) -> list[str]:
    whole = _conditional("q", ", ".join(model.latents), model.observed)
    if isinstance(guide, Refined):
        return [*_guide(model, guide.proposal), f"  {guide.describe()}"]
    if not isinstance(guide, Guide):
        return [f"{whole}: {guide.describe()}"]
    product = " ".join(_conditional("q", name, guide.wiring[name]) for name in guide.order)
    distributions = []
    if guide.jointly:
        joint = ", ".join(guide.jointly)
        product = f"q({joint}) {product}"
        distributions.append(f"  {joint} ~ {guide.joint.describe()}, jointly")
    for name in guide.order:
        words = guide.factors[name].describe()
        if guide.carried[name]:
            words += f" carried onto {guide.latents[name].support}"
        distributions.append(_distribution(name, guide.wiring[name], words, guide.latents[name].shape))
    return [f"{whole} = {product}", *distributions]


def _objective(model: AnyModel, guide: AnyGuide, objective: PyroELBO) -> list[str]:
    if not isinstance(objective, Objective):
        return [f"objective: pyro.infer.{type(objective).__name__}, as Pyro computes it"]
    latents, covariates = ", ".join(model.latents), ", ".join(model.covariates)
    observed = ", ".join(name for name in model.observed if name not in model.covariates)
    names = Names(latents, observed, _conditional("q", latents, model.observed), covariates)
    return objective.describe(names, _run(model, guide, objective))


def _run(model: AnyModel, guide: AnyGuide, objective: Objective) -> Run:
    """One run of the programs at two rows drawn from the model."""
    with probing(model, guide, device=model.device):
        rows = model.with_stand_ins().sample(2, seed=0)
        data = {name: rows[name] for name in model.observed}
        batch = Batch(data, torch.zeros(2, dtype=torch.long, device=model.device))
        return objective.run(model, guide, (batch,), {})

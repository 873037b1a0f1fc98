"""A model, a guide and a bound as formulas."""

from __future__ import annotations

from typing import Any

import torch

from pyro_lfm.bounds import latent_sites, obstacle
from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.kl import kl_closed_form
from pyro_lfm.guides import AnyGuide, Guide, as_guide
from pyro_lfm.model import AnyModel, Model, as_model
from pyro_lfm.objectives import ELBO
from pyro_lfm.runtime import Stream, isolated


def describe(model: Any, guide: Any = None, objective: Any = None) -> str:
    """What is declared, in formulas: p, q, the bound, and how each KL is computed.

    Args:
        model, guide: programs; the guide may be left out.
        objective: an ``ELBO``; the plain one by default. Other Pyro objectives are named only.

    >>> from pyro_lfm import MLP, Gaussian, Guide, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=MLP(8)))
    >>> print(describe(model, Guide(model, z=Gaussian(network=MLP(8)))))
    p(z, x) = p(z) p(x | z)
      z ~ StandardNormal, event (2,)
      x | z ~ Gaussian(mean: MLP(8), covariance: Diagonal learned), event (4,)
    q(z | x) = q(z | x)
      z | x ~ Gaussian(mean: head of MLP(8), covariance: Diagonal head of MLP(8)), event (2,)
    log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || p(z))
      E_q: Monte Carlo, 1 particle, reparametrized gradient
      KL z: closed form
    """
    model = as_model(model)
    lines = _model(model)
    if guide is not None:
        guide = as_guide(guide)
        objective = ELBO() if objective is None else objective
        lines += _guide(model, guide) + _objective(model, guide, objective)
    return "\n".join(lines)


def _conditional(kind: str, name: str, parents: Any) -> str:
    return f"{kind}({name} | {', '.join(parents)})" if parents else f"{kind}({name})"


def _law(name: str, parents: Any, words: str, shape: torch.Size) -> str:
    return f"  {name}{' | ' if parents else ''}{', '.join(parents)} ~ {words}, event {tuple(shape)}"


def _model(model: AnyModel) -> list[str]:
    sites = model.sites
    joint = _conditional("p", ", ".join(n for n in sites.all if n not in model.covariates), model.covariates)
    if not isinstance(model, Model):
        laws = [f"  {v.name}, event {tuple(v.shape)}, support {v.support}" for v in sites.all.values()]
        return [f"{joint}: a Pyro program, {type(model).__name__}", *laws]
    product = " ".join(
        _conditional("p", name, parents)
        for name, parents in model.wiring.items()
        if name not in model.covariates
    )
    laws = []
    for name, parents in model.wiring.items():
        if name in model.covariates:
            laws.append(f"  {name}: {model.factors[name].describe()}, event {tuple(sites.all[name].shape)}")
            continue
        words = model.factors[name].describe() if name in model.factors else _prior(model, name)
        laws.append(_law(name, parents, words, sites.all[name].shape))
    return [f"{joint} = {product}", *laws]


def _prior(model: Model, name: str) -> str:
    factor, _, parameter = name.partition(".")
    return repr(model.factors[factor].drawn[parameter].declared)


def _guide(model: AnyModel, guide: AnyGuide) -> list[str]:
    whole = _conditional("q", ", ".join(model.latents), model.observed)
    if not isinstance(guide, Guide):
        return [f"{whole}: {guide.describe()}"]
    product = " ".join(_conditional("q", name, guide.given[name]) for name in guide.order)
    laws = []
    for name in guide.order:
        words = guide.factors[name].describe()
        if guide.carried[name]:
            words += f" carried onto {guide.latents[name].support}"
        laws.append(_law(name, guide.given[name], words, guide.latents[name].shape))
    return [f"{whole} = {product}", *laws]


def _objective(model: AnyModel, guide: AnyGuide, objective: Any) -> list[str]:
    if not isinstance(objective, ELBO):
        return [f"objective: pyro.infer.{type(objective).__name__}, as Pyro computes it"]
    latents, observed = (
        ", ".join(model.latents),
        ", ".join(n for n in model.observed if n not in model.covariates),
    )
    known = "".join(f", {name}" for name in model.covariates)
    weight = objective.kl_weight
    beta = "beta(t) " if callable(weight) else "" if weight == 1 else f"{weight:g} "
    kl = f"KL({_conditional('q', latents, model.observed)} || p({latents}))"
    left = _conditional("p", observed, model.covariates)
    lines = [f"log {left} >= E_q[log p({observed} | {latents}{known})] - {beta}{kl}"]
    if callable(weight) or weight != 1:
        lines[0] = lines[0].replace(
            "log p", "objective (a bound on log p only for weights of at least 1): log p", 1
        )
    particles = f"{objective.particles} particle{'s' if objective.particles > 1 else ''}"
    lines.append(f"  E_q: Monte Carlo, {particles}, {objective.gradient} gradient")
    if objective.free_bits:
        lines.append(f"  free bits: {objective.free_bits:g} nats per latent")
    q, p, summed = _traces(model, guide, objective)
    for name in summed:
        lines.append(f"  {name}: summed out exactly, {len(summed[name])} values")
    for name in p:
        if name in summed:
            lines.append(f"  KL {name}: summed out exactly")
            continue
        lines.append(f"  KL {name}: {_how(model, guide, objective, name, q, p)}")
    return lines


def _traces(
    model: AnyModel, guide: AnyGuide, objective: ELBO
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The latents' sites in the guide and in the model, and the values of those that are summed out."""
    rows = model.sample(2, seed=0)
    data = {name: rows[name] for name in model.observed}
    index = torch.zeros(2, dtype=torch.long, device=model.device)
    args = (Batch(data, index),)
    with isolated(Stream(0, model.device), model.device), torch.no_grad():
        q, p = ELBO().traces(model, guide, args, {})
        summed = objective.plan(model, guide, args, {}).values
    return latent_sites(q), latent_sites(p), summed


def _how(model: Any, guide: Any, objective: ELBO, name: str, q: dict[str, Any], p: dict[str, Any]) -> str:
    if objective.gradient == "sticking-the-landing":
        return "Monte Carlo (sticking the landing)"
    if objective.kl == "monte-carlo":
        return "Monte Carlo"
    if reason := obstacle(model, guide, name, list(q), list(p)):
        return f"Monte Carlo ({reason})"
    if kl_closed_form(q[name]["fn"], p[name]["fn"]) is None:
        return "Monte Carlo (no closed form for this pair)"
    return "closed form"

"""The models of ``experiments/published/exemplar_fashion.py`` by name: prior × guide × objective × layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import pyro_lfm as lfm
from exemplar.setting import Setting


@dataclass(frozen=True)
class Choice:
    """The parts of one model; the networks are those of all.

    Attributes:
        prior: of the topmost latent: standard, vamp, exemplar, mixture or flow.
        covariance: of the guide, a Gaussian: diagonal or full.
        particles: of the bound: 1 is the ELBO, more is the importance-weighted bound.
        layers: of latents.
    """

    prior: str = "standard"
    covariance: str = "diagonal"
    particles: int = 1
    layers: int = 1


MODELS = {
    "vae": Choice(),
    "vamp": Choice(prior="vamp"),
    "exemplar": Choice(prior="exemplar"),
    "vae2": Choice(layers=2),
    "vamp2": Choice(prior="vamp", layers=2),
    "exemplar2": Choice(prior="exemplar", layers=2),
    "mixture": Choice(prior="mixture"),
    "flow": Choice(prior="flow"),
    "full": Choice(covariance="full"),
    "iwae": Choice(particles=5),
    "vamp-iwae": Choice(prior="vamp", particles=5),
}

# Test log p(x) in nats with its error over their repeats: Norouzi, Fleet and Norouzi (2020), table 1, Fashion-MNIST.
PUBLISHED = {
    "vae": (-228.70, 0.15),
    "vamp": (-227.35, 0.05),
    "exemplar": (-226.75, 0.07),
    "vae2": (-227.37, None),
    "vamp2": (-226.72, None),
    "exemplar2": (-226.53, None),
}


def prior_of(choice: Choice, setting: Setting, rows: Tensor) -> lfm.Factor:
    if choice.prior == "vamp":
        return lfm.VampPrior(setting.latent, pseudo_inputs=rows[: setting.pseudo_inputs])
    if choice.prior == "exemplar":
        return lfm.ExemplarPrior(setting.latent, setting.exemplars, setting.neighbours)
    if choice.prior == "mixture":
        return lfm.MixtureOfGaussians(setting.latent, setting.pseudo_inputs)
    return lfm.FlowPrior(setting.latent) if choice.prior == "flow" else lfm.StandardNormal(setting.latent)


def declared(choice: Choice, setting: Setting, rows: Tensor, seed: int) -> tuple[lfm.Model, lfm.Guide]:
    """The model and its guide, of gated networks with two hidden layers."""
    torch.manual_seed(seed)
    gated = lfm.MLP(setting.hidden, setting.hidden, activation="glu")
    covariance = lfm.Full() if choice.covariance == "full" else lfm.Diagonal()
    top, pixels = prior_of(choice, setting, rows), rows.shape[1]
    if choice.layers == 1:
        model = lfm.Model(z=top, x=lfm.Bernoulli(pixels, logits=gated))
        return model, lfm.Guide(model, z=lfm.Gaussian(covariance=covariance, network=gated))
    model = lfm.Model(
        z2=top,
        z1=lfm.Gaussian(setting.latent, network=gated, given="z2"),
        x=lfm.Bernoulli(pixels, logits=gated, given=("z1", "z2")),
    )
    guide = lfm.Guide(
        model,
        z2=lfm.Gaussian(covariance=covariance, network=gated, given="x"),
        z1=lfm.Gaussian(covariance=covariance, network=gated, given=("x", "z2")),
    )
    return model, guide


def objective_of(choice: Choice, warming: bool) -> lfm.Objective:
    """The bound. The weight of the KL rises while the training warms up."""
    if choice.particles > 1:
        return lfm.ImportanceWeightedELBO(choice.particles, gradient="doubly-reparametrized")
    return lfm.ELBO(kl_weight=lfm.schedules.linear(until=1.0)) if warming else lfm.ELBO()

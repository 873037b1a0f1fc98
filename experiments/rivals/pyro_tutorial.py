"""The autoencoder as Pyro's tutorial trains it (pyro.ai/examples/vae.html): functions, Trace_ELBO, pyro.infer.SVI."""

import sys

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from rivals.by_hand import VAE, begin, precision
from rivals.configuration import LEARNING_RATE, Configuration
from rivals.taking_part import Turn, take_part


def train(c: Configuration, x: np.ndarray, turn: Turn) -> None:
    rows, under = begin(c, x), precision(c)
    pyro.clear_param_store()
    vae = VAE(c).to(c.device)

    def model(x: torch.Tensor) -> None:
        pyro.module("decoder", vae.decoder)
        with pyro.plate("data", len(x)):
            standard = dist.Normal(x.new_zeros(len(x), c.latent), x.new_ones(len(x), c.latent))
            z = pyro.sample("z", standard.to_event(1))
            distribution = (
                dist.Normal(*vae.decode(z)) if vae.gaussian else dist.Bernoulli(logits=vae.decode(z)[0])
            )
            pyro.sample("x", distribution.to_event(len(c.event)), obs=x)

    def guide(x: torch.Tensor) -> None:
        pyro.module("encoder", vae.encoder)
        with pyro.plate("data", len(x)):
            mean, scale = vae.encode(x)
            full = dist.MultivariateNormal(mean, scale_tril=scale) if vae.full else None
            pyro.sample("z", full or dist.Normal(mean, scale).to_event(1))

    loss = pyro.infer.Trace_ELBO()
    if c.particles > 1:
        loss = pyro.infer.RenyiELBO(
            alpha=0, num_particles=c.particles, vectorize_particles=True, max_plate_nesting=1
        )
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": LEARNING_RATE}), loss=loss)
    over = False
    while not over:
        total = 0.0
        for index in torch.randperm(len(rows), device=c.device).split(c.batch):
            with under():
                total += svi.step(rows.index_select(0, index))
        over = turn(-total / len(rows))


CONTESTANTS = {"pyro.infer.SVI, as in the tutorial": train}

if __name__ == "__main__":
    take_part(CONTESTANTS, *sys.argv[1:])

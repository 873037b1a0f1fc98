"""The autoencoder as Pyro's tutorial writes it (pyro.ai/examples/vae.html)."""

import sys

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from rivals.configuration import LEARNING_RATE, Configuration
from rivals.taking_part import Turn, take_part
from torch import nn
from torch.nn.functional import softplus


class VAE(nn.Module):
    def __init__(self, columns: int, hidden: int, latent: int):
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(nn.Linear(columns, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, columns))

    def model(self, x: torch.Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), self.latent), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: torch.Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            mean, raw = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(mean, softplus(raw) + 1e-3).to_event(1))


def train(c: Configuration, x: np.ndarray, turn: Turn) -> None:
    torch.set_num_threads(1)
    pyro.set_rng_seed(c.seed)
    rows, vae = torch.from_numpy(x), VAE(c.columns, c.hidden, c.latent)
    optimizer = pyro.optim.Adam({"lr": LEARNING_RATE})
    svi = pyro.infer.SVI(vae.model, vae.guide, optimizer, loss=pyro.infer.Trace_ELBO())
    over = False
    while not over:
        total = 0.0
        for index in torch.randperm(len(rows)).split(c.batch):
            total += svi.step(rows[index])
        over = turn(-total / len(rows))


if __name__ == "__main__":
    take_part({"Pyro, as in its tutorial": train}, *sys.argv[1:])

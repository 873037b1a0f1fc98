"""The autoencoder in this library."""

import sys

import numpy as np
import torch
from rivals.configuration import LEARNING_RATE, Configuration
from rivals.taking_part import Turn, take_part

import pyro_lfm as lfm


def train(c: Configuration, x: np.ndarray, turn: Turn) -> None:
    torch.set_num_threads(1)
    model = lfm.Model(z=lfm.StandardNormal(c.latent), x=lfm.Bernoulli(c.columns, logits=lfm.MLP(c.hidden)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(c.hidden)))
    svi = lfm.SVI(guide, epochs=c.epochs, batch_size=c.batch, learning_rate=LEARNING_RATE)
    report = [lambda record, fit: turn(record["bound"])]
    lfm.fit(model, x, svi, seed=c.seed, callbacks=report, progress=False)


if __name__ == "__main__":
    take_part({"pyro_lfm": train}, *sys.argv[1:])

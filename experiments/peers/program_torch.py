"""The autoencoder by hand, in PyTorch."""

import sys

import numpy as np
import torch
from rivals.configuration import LEARNING_RATE, Configuration
from rivals.taking_part import Turn, take_part
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus


class VAE(nn.Module):
    def __init__(self, columns: int, hidden: int, latent: int):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(columns, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, columns))

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        mean, raw = self.encoder(x).chunk(2, -1)
        scale = softplus(raw) + 1e-3
        z = mean + scale * torch.randn_like(mean)
        kl = 0.5 * (mean.square() + scale.square() - 1).sum() - scale.log().sum()
        surprise = binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        return (surprise + kl) / len(x)


def train(c: Configuration, x: np.ndarray, turn: Turn) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(c.seed)
    rows, vae = torch.from_numpy(x), VAE(c.columns, c.hidden, c.latent)
    optimizer = torch.optim.Adam(vae.parameters(), lr=LEARNING_RATE)
    over = False
    while not over:
        total = 0.0
        for index in torch.randperm(len(rows)).split(c.batch):
            loss = vae.loss(rows[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(index)
        over = turn(-total / len(rows))


if __name__ == "__main__":
    take_part({"PyTorch, by hand": train}, *sys.argv[1:])

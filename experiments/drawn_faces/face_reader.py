"""Reads the seven attributes of drawn faces from their pixels. Used by ``experiments/faces.py`` to judge generated faces."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, pad

import pyro_lfm as lfm

NUMBERS = ("hair_length", "hair_colour", "eye_colour", "skin_tone", "mouth", "face_width")
NAMES = (*NUMBERS, "glasses")
# A number counts as read, or as asked, within this part of its range.
NEAR = 0.15


def to_unit(factors: Mapping[str, Tensor]) -> Tensor:
    """The attributes of faces as numbers from 0 to 1, (N, 7)."""
    columns = [(factors[name] + 1) / 2 if name == "mouth" else factors[name] for name in NAMES]
    return torch.stack([column.float() for column in columns], 1)


class FaceReader:
    """A convolutional network trained on faces drawn with a seed of its own, some of them with noise or out of focus."""

    def __init__(self, rows: int = 20_000, epochs: int = 12, seed: int = 4711):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = nn.Sequential(
                nn.Unflatten(1, (3, 32, 32)),
                *_block(3, 32),
                *_block(32, 64),
                *_block(64, 128),
                nn.Flatten(),
                nn.Linear(128 * 16, 128),
                nn.ReLU(),
                nn.Linear(128, len(NAMES)),
            )
            self._train(lfm.data.faces(n=rows, seed=seed), epochs)
        self.network.eval()

    def __call__(self, pictures: Tensor) -> Tensor:
        """The attributes read, (N, 7), from 0 to 1; of glasses the probability."""
        with torch.no_grad():
            outputs = torch.cat([self.network(block) for block in pictures.flatten(1).split(500)])
        return torch.cat([outputs[:, :-1], outputs[:, -1:].sigmoid()], 1)

    def _train(self, faces: lfm.data.Scenes, epochs: int, batch: int = 128) -> None:
        truth, steps = to_unit(faces.factors), len(faces.x) // batch
        optimizer = torch.optim.Adam(self.network.parameters())
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * steps)
        for _ in range(epochs):
            order = torch.randperm(len(faces.x))
            for rows in order[: steps * batch].split(batch):
                outputs = self.network(_disturbed(faces.x[rows]))
                error = (outputs[:, :-1] - truth[rows, :-1]).square().mean()
                loss = 10 * error + binary_cross_entropy_with_logits(outputs[:, -1], truth[rows, -1])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rate.step()


def as_asked(read: Tensor, name: str, value: float) -> Tensor:
    """Which of the readings (N, 7) have an attribute at a value from 0 to 1, (N,)."""
    column = read[:, NAMES.index(name)]
    return (column > 0.5) == (value > 0.5) if name == "glasses" else (column - value).abs() <= NEAR


def _block(channels: int, features: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, features, 3, stride=2, padding=1)
    return [convolution, nn.BatchNorm2d(features), nn.ReLU()]


def _disturbed(pictures: Tensor) -> Tensor:
    """Faces with noise of up to 0.04, every second one out of focus: models draw less sharply than the drawing does."""
    noisy = pictures + 0.04 * torch.rand(len(pictures), 1) * torch.randn_like(pictures)
    half = noisy[::2].reshape(-1, 3, 32, 32)
    soft = avg_pool2d(pad(half, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    noisy[::2] = torch.lerp(half, soft, 0.6 * torch.rand(len(half), 1, 1, 1)).flatten(1)
    return noisy

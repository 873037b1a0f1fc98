"""What every contestant of the benchmarks of training trains: the model, its batches, and how long."""

import json
from dataclasses import dataclass
from math import isqrt

BY_HAND, LIMIT = "by hand, Adam", "matrix products alone"
FLOOR = 1e-3  # of the standard deviations of q(z | x)
PIXEL_FLOOR = 0.1  # of those of a Gaussian p(x | z)
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Configuration:
    """A variational autoencoder, and how it is trained: ``epochs`` of ``steps`` on batches of ``batch`` rows.

    ``channels``, where given, are those of convolutions that stand in place of the hidden layers. With several
    ``particles`` the objective is the importance-weighted bound of that many draws per row. ``fits`` is the number of
    fits, one after the other, in one process. ``autocast`` means products in bfloat16; contestants in PyTorch heed it, and
    the device.
    """

    columns: int
    hidden: int
    latent: int
    batch: int
    likelihood: str = "Bernoulli"  # or "Gaussian", whose mean and standard deviations are two networks
    covariance: str = "diagonal"  # of q(z | x); or "full"
    channels: tuple[int, ...] = ()
    particles: int = 1
    steps: int = 200
    epochs: int = 1
    fits: int = 1
    seed: int = 0
    device: str = "cpu"
    autocast: bool = False

    @property
    def event(self) -> tuple[int, ...]:
        side = isqrt(self.columns)
        return (1, side, side) if self.channels else (self.columns,)

    @classmethod
    def read(cls, text: str) -> "Configuration":
        fields = json.loads(text)
        return cls(**{**fields, "channels": tuple(fields["channels"])})

"""The noise of an exported encoder as its inputs: ``eps`` and ``uniform`` for each row, other inputs for shared latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import cast

import numpy as np
import torch
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions.noise_draws import Noise

# The inputs by name: whether each row has numbers of its own, and the distribution of the numbers.
NORMAL, UNIFORM = "standard normal", "uniform between 0 and 1"
NOISE = {
    "eps": (True, NORMAL),
    "uniform": (True, UNIFORM),
    "shared_eps": (False, NORMAL),
    "shared_uniform": (False, UNIFORM),
}


class NoiseInputs:
    """The noise of all latents in the order in which a guide draws them, as columns of a few inputs.

    Args:
        inputs: the tensors by name: ``eps`` and ``uniform`` (B, E), ``shared_eps`` and ``shared_uniform`` (E,). None: all
            numbers are ½, and the run only measures how many columns it needs.

    Attributes:
        sizes: the number of columns taken so far, by input.
    """

    def __init__(self, inputs: Mapping[str, Tensor] | None = None):
        self.inputs = inputs
        self.sizes = dict.fromkeys(NOISE, 0)

    def noise_of(self, site: Message[..., Tensor]) -> Noise:
        """The noise of one sample statement."""
        frames = site["cond_indep_stack"]
        rows = [frame.dim for frame in frames if frame.name == "rows" and frame.dim is not None]
        batch = len(cast(Distribution, site["fn"]).batch_shape)
        return _Columns(self, batch + rows[0] if rows else None)

    def examples(self, rows: int) -> dict[str, Tensor]:
        """Noise with as many columns as were taken, by input, in double precision."""
        examples: dict[str, Tensor] = {}
        for name, size in self.sizes.items():
            own, kind = NOISE[name]
            generator = np.random.default_rng(len(examples))
            draw = generator.standard_normal if kind == NORMAL else generator.random
            if size:
                examples[name] = torch.as_tensor(draw((rows, size) if own else (size,)))
        return examples

    def take(self, name: str, shape: Sequence[int], like: Tensor, rows: int | None) -> Tensor:
        """The next columns of an input, in a shape whose dimension ``rows`` is that of the rows."""
        others = [n for k, n in enumerate(shape) if k != rows]
        start, count = self.sizes[name], prod(others)
        self.sizes[name] += count
        if self.inputs is None:
            return torch.full(tuple(shape), 0.5, dtype=like.dtype, device=like.device)
        columns = self.inputs[name][..., start : start + count].to(like.dtype)
        if rows is None:
            return columns.reshape(others)
        return columns.reshape(-1, *others).movedim(0, rows)


class _Columns(Noise):
    def __init__(self, source: NoiseInputs, rows: int | None):
        self.source, self.rows = source, rows

    def _take(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        return self.source.take(name if self.rows is not None else f"shared_{name}", shape, like, self.rows)

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return self._take("eps", shape, like)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return self._take("uniform", shape, like)

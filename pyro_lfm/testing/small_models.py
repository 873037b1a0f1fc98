"""Small models with guides and rows for the checks of objectives, and derivatives of an objective's value there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.factors import Factor
from pyro_lfm.families import Categorical, Gaussian
from pyro_lfm.guides import Guide
from pyro_lfm.objectives import Objective
from pyro_lfm.objectives.bound import Bound
from pyro_lfm.priors import StandardNormal
from pyro_lfm.programs.model import Model
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.sources.linear import Linear
from pyro_lfm.sources.lookup import Lookup

# Rows of the data, and the number of copies of each in a batch.
_ROWS, _COPIES = 5, 100
# The step of central differences, and the number of directions along which they are taken.
_STEP, _DIRECTIONS = 1e-5, 2


@dataclass
class SmallModel:
    """A model, its guide and rows of data, with the values and derivatives of an objective there."""

    model: Model
    guide: Guide
    data: dict[str, Tensor]
    seed: int
    copies: int = _COPIES

    @cached_property
    def batch(self) -> Batch:
        """A batch with many copies of every row, so that means over it have little noise."""
        return Batch({name: value.repeat_interleave(self.copies, 0) for name, value in self.data.items()})

    @property
    def parameters(self) -> dict[str, list[Tensor]]:
        return {"model": list(self.model.parameters()), "guide": list(self.guide.parameters())}

    def bound(self, objective: Objective, repeat: int = 0, batch: Batch | None = None) -> Bound:
        """One estimate, with the same noise at every call with the same ``repeat``."""
        with isolated(Stream(self.seed + repeat)):
            return objective.bound(self.model, self.guide, self.batch if batch is None else batch)

    def value(self, objective: Objective, repeat: int = 0) -> float:
        """The value of one estimate."""
        with torch.no_grad():
            return float(self.bound(objective, repeat).objective)

    @cached_property
    def directions(self) -> list[tuple[str, list[Tensor]]]:
        """Directions of length one in the space of the parameters of "model" and "guide"."""
        generator = torch.Generator().manual_seed(self.seed)
        directions = []
        for part, _ in itertools.product(self.parameters, range(_DIRECTIONS)):
            direction = [
                torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in self.parameters[part]
            ]
            length = math.sqrt(sum(float(w.square().sum()) for w in direction))
            directions.append((part, [w / length for w in direction]))
        return directions

    def climbed(self, objective: Objective) -> list[tuple[str, list[Tensor]]]:
        """The directions along which an objective's gradient must be that of its value."""
        every = objective.guide_climbs_value()
        return [(part, direction) for part, direction in self.directions if every or part == "model"]

    def slope(
        self, function: Callable[[], float], part: str, direction: list[Tensor], step: float = _STEP
    ) -> float:
        """The derivative of a function of the parameters along a direction, by central differences."""
        values: list[float] = []
        for moved in (step, -2 * step, step):
            with torch.no_grad():
                for parameter, w in zip(self.parameters[part], direction, strict=True):
                    parameter += moved * w
            if len(values) < 2:
                values.append(function())
        return (values[0] - values[1]) / (2 * step)

    def derivatives(self, value: Tensor) -> list[float]:
        """The derivatives of a value along every direction of ``directions``, by autograd."""
        if not value.requires_grad:
            return [0.0] * len(self.directions)
        gradients = {
            part: torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
            for part, parameters in self.parameters.items()
        }
        return [
            sum(
                float((g * w).sum()) for g, w in zip(gradients[part], direction, strict=True) if g is not None
            )
            for part, direction in self.directions
        ]


def small_model(
    latents: str, seed: int, known: bool = False, copies: int = _COPIES, classes: int = 3, rows: int = _ROWS
) -> SmallModel:
    """A model of three observed numbers with a guide.

    Args:
        latents: "c", a label; "z", a Gaussian of two entries; or "cz", both.
        known: whether the data hold the label in every second row.
        copies: of each row in the batch.
        classes: the number of values of the label.
        rows: different rows of data.
    """
    with Stream(seed):
        p: dict[str, Factor] = {}
        q: dict[str, Factor] = {}
        if "c" in latents:
            p["c"] = Categorical(classes, logits=None)
            q["c"] = Categorical(logits=Linear(), given="x")
        if "z" in latents:
            p["z"] = StandardNormal(2) if "c" not in latents else Gaussian(2, mean=Lookup(), given="c")
            q["z"] = Gaussian(network=Linear(), given=("x", "c") if "c" in latents else "x")
        mean = Linear() if "z" in latents else Lookup()
        p["x"] = Gaussian(3, mean=mean, given="z" if "z" in latents else "c")
        model = Model(**p).double()
        guide = Guide(model, **q).double()
        with torch.no_grad():
            for parameter in (*model.parameters(), *guide.parameters()):
                parameter.add_(0.3 * torch.randn_like(parameter))
    drawn = model.sample(rows, seed=seed)
    data = {"x": drawn["x"]}
    if known:
        data["c"] = drawn["c"].double().masked_fill(torch.arange(rows) % 2 == 0, torch.nan)
    return SmallModel(model, guide, data, seed, copies)


def log_evidence(model: Model, x: Tensor) -> Tensor:
    """log p(x) of each row under a model with a label or a Gaussian latent, in closed form."""
    with torch.no_grad():
        if "c" in model.latents:
            labels = torch.arange(model.factors["c"]().probs.shape[-1])
            log_x = model.factors["x"](labels).log_prob(x.unsqueeze(1))
            return (log_x + model.factors["c"]().logits).logsumexp(1)
        zero = torch.zeros(1, 2, dtype=x.dtype)
        start = model.factors["x"](zero)
        weight = torch.cat(
            [model.factors["x"](zero + row).mean - start.mean for row in torch.eye(2, dtype=x.dtype)]
        )
        covariance = weight.T @ weight + torch.diag_embed(start.variance[0])
        return dist.MultivariateNormal(start.mean[0], covariance).log_prob(x)

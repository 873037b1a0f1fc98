"""Small models on which objectives are looked at, with rows, and derivatives of what an objective makes of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.families import Categorical, Gaussian
from pyro_lfm.guides import Guide
from pyro_lfm.objectives import Objective
from pyro_lfm.objectives.bound import Bound
from pyro_lfm.priors import StandardNormal
from pyro_lfm.programs.model import Model
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.sources.linear import Linear
from pyro_lfm.sources.lookup import Lookup

# Rows of the data, and how often each stands in a batch.
_ROWS, _COPIES = 5, 100
# Of differences of values, and directions along which they are taken.
_STEP, _DIRECTIONS = 1e-5, 2


@dataclass
class Setting:
    """A model, its guide, rows of data, and what is asked of an objective there."""

    model: Model
    guide: Guide
    data: dict[str, Tensor]
    seed: int
    copies: int = _COPIES

    @cached_property
    def batch(self) -> Batch:
        """Every row so often that means over the batch have little noise left."""
        return Batch({name: value.repeat_interleave(self.copies, 0) for name, value in self.data.items()})

    @property
    def parts(self) -> dict[str, list[Tensor]]:
        return {"model": list(self.model.parameters()), "guide": list(self.guide.parameters())}

    def bound(self, objective: Objective, repeat: int = 0, batch: Batch | None = None) -> Bound:
        """One estimate, by the same noise whenever it is called."""
        with isolated(Stream(self.seed + repeat)):
            return objective.bound(self.model, self.guide, self.batch if batch is None else batch)

    def value(self, objective: Objective, repeat: int = 0) -> float:
        with torch.no_grad():
            return float(self.bound(objective, repeat).objective)

    @cached_property
    def directions(self) -> list[tuple[str, list[Tensor]]]:
        """Directions in the space of each part's parameters, of length one."""
        generator = torch.Generator().manual_seed(self.seed)
        found = []
        for part, _ in itertools.product(self.parts, range(_DIRECTIONS)):
            way = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in self.parts[part]]
            length = math.sqrt(sum(float(w.square().sum()) for w in way))
            found.append((part, [w / length for w in way]))
        return found

    def ways(self, objective: Objective) -> list[tuple[str, list[Tensor]]]:
        """Those along which the gradient is that of the value."""
        return [(part, way) for part, way in self.directions if part == "model" or not objective.leads_guide]

    def slope(
        self, function: Callable[[], float], part: str, way: list[Tensor], step: float = _STEP
    ) -> float:
        """The derivative of a function of the parameters along a direction, by central differences."""
        values: list[float] = []
        for moved in (step, -2 * step, step):
            with torch.no_grad():
                for parameter, w in zip(self.parts[part], way, strict=True):
                    parameter += moved * w
            if len(values) < 2:
                values.append(function())
        return (values[0] - values[1]) / (2 * step)

    def along(self, value: Tensor) -> list[float]:
        """The derivatives that autograd gives, along every direction of ``directions``."""
        found = (
            dict.fromkeys(self.parts, [None])
            if not value.requires_grad
            else {
                part: torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
                for part, parameters in self.parts.items()
            }
        )
        return [
            sum(float((g * w).sum()) for g, w in zip(found[part], way, strict=False) if g is not None)
            for part, way in self.directions
        ]


def setting_of(
    latents: str, seed: int, known: bool = False, copies: int = _COPIES, classes: int = 3, rows: int = _ROWS
) -> Setting:
    with Stream(seed):
        parts: dict[str, Any] = {}
        q: dict[str, Any] = {}
        if "c" in latents:
            parts["c"] = Categorical(classes, logits=None)
            q["c"] = Categorical(logits=Linear(), given="x")
        if "z" in latents:
            parts["z"] = StandardNormal(2) if "c" not in latents else Gaussian(2, mean=Lookup(), given="c")
            q["z"] = Gaussian(network=Linear(), given=("x", "c") if "c" in latents else "x")
        mean = Linear() if "z" in latents else Lookup()
        parts["x"] = Gaussian(3, mean=mean, given="z" if "z" in latents else "c")
        model = Model(**parts).double()
        guide = Guide(model, **q).double()
        with torch.no_grad():
            for parameter in (*model.parameters(), *guide.parameters()):
                parameter.add_(0.3 * torch.randn_like(parameter))
    drawn = model.sample(rows, seed=seed)
    data = {"x": drawn["x"]}
    if known:
        data["c"] = drawn["c"].double().masked_fill(torch.arange(rows) % 2 == 0, torch.nan)
    return Setting(model, guide, data, seed, copies)


def log_evidence(model: Model, x: Tensor) -> Tensor:
    """log p(x) of each row of a model with a label or a Gaussian latent."""
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

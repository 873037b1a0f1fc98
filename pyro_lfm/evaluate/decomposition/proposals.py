"""Importance sampling of tempered posteriors, from the guide, the prior, and distributions fitted to each row's weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from pyro_lfm.distributions.supports import from_reals
from pyro_lfm.evaluate.decomposition.rate_distortion import Point, tempered
from pyro_lfm.inference.blocks import Block, Blocks
from pyro_lfm.objectives import ELBO
from pyro_lfm.objectives.handlers import with_values
from pyro_lfm.objectives.run import Run

# Of eight parts of the draws two come from the guide, one from the prior, and five from distributions fitted at five β, in
# three rounds.
_GUIDE, _PRIOR, _FITTED, _ROUNDS = 2, 1, 5, 3
# Degrees of freedom of the fitted distributions. Proposals need heavier tails than their targets.
_NU = 8.0
# Powers that flatten weights.
_FLATTENED = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.03, 0.01, 0.0)


def tempered_points(blocks: Blocks, block: Block, draws: int, betas: Sequence[float]) -> list[Point]:
    """The points of the rate-distortion curve for the rows of a block, by self-normalised importance sampling.

    Draws come from a mixture of the guide, the prior and, where all latents can be mapped to the reals, multivariate t
    distributions of each row. These are fitted to the weighted draws of earlier rounds, which are not used otherwise.
    """
    parts = _GUIDE + _PRIOR + _FITTED
    rows = _Rows(blocks, block, -(-draws // parts))
    fitted: list[_StudentT] = []
    if rows.carries is not None and any(betas):
        anchors = _spread([beta for beta in betas if beta], _FITTED)
        pool = rows.pool([], _GUIDE, _PRIOR + 1)
        for again in range(_ROUNDS):
            fitted = [pool.fit(beta) for beta in anchors]
            if again < _ROUNDS - 1:
                pool = rows.pool(fitted, _GUIDE, _PRIOR)
    count = _FITTED if fitted else 0
    pool = rows.pool(fitted, _GUIDE + (_FITTED - count + 1) // 2, _PRIOR + (_FITTED - count) // 2)
    return [
        tempered(pool.log_likelihood.clamp_min(-1e30), pool.log_prior - pool.log_density, beta)
        for beta in betas
    ]


def _spread(values: list[float], count: int) -> list[float]:
    """``count`` of the sorted values at evenly spaced positions, the last one included."""
    ordered = sorted(values)
    places = torch.linspace(len(ordered) - 1, 0, count).round().int().tolist()
    return [ordered[place] for place in places]


@dataclass(frozen=True)
class _Pool:
    """Draws of a mixture of proposals, for each row of a block.

    Attributes:
        flat: the latents side by side, mapped to the reals, (S, B, K).
        log_likelihood, log_prior: log p(x | z) and log p(z), (S, B).
        log_density: the log density of the mixture, (S, B).
    """

    flat: Tensor
    log_likelihood: Tensor
    log_prior: Tensor
    log_density: Tensor

    def fit(self, beta: float) -> _StudentT:
        """A distribution for each row, with the moments of its weighted draws.

        Weights are flattened until the effective sample size is large enough. Covariances are shrunk to their diagonals.
        """
        # Weights are the same on the reals, as the volume of the map is a factor of both densities.
        log_w = self.log_prior + beta * self.log_likelihood.clamp_min(-1e30) - self.log_density
        size = self.flat.shape[-1]
        enough = min(4 * size + 10, len(log_w) / 4)
        weights = log_w.softmax(0)
        effective = weights.square().sum(0).reciprocal()
        for power in _FLATTENED[1:]:
            flatter = (power * log_w).softmax(0)
            weights = torch.where(effective < enough, flatter, weights)
            effective = weights.square().sum(0).reciprocal()
        loc = (weights.unsqueeze(-1) * self.flat).sum(0)
        off = weights.sqrt().unsqueeze(-1) * (self.flat - loc)
        covariance = torch.einsum("sbi,sbj->bij", off, off)
        spread = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(1e-10)
        shrinkage = (size / (size + effective)).reshape(-1, 1, 1)
        covariance = (1 - shrinkage) * covariance + torch.diag_embed(spread * (shrinkage[..., 0] + 1e-4))
        return _StudentT(loc, torch.linalg.cholesky(covariance))


@dataclass(frozen=True)
class _StudentT:
    """A multivariate t distribution of each row: loc (B, K), scale_tril (B, K, K)."""

    loc: Tensor
    scale_tril: Tensor

    def sample(self, draws: int) -> Tensor:
        """Draws, (S, B, K)."""
        normal = torch.randn(draws, *self.loc.shape).to(self.loc)
        chi = torch.distributions.Chi2(_NU).sample((draws, len(self.loc))).to(self.loc)
        stretched = normal * (_NU / chi).sqrt().unsqueeze(-1)
        return self.loc + torch.einsum("bij,sbj->sbi", self.scale_tril, stretched)

    def log_prob(self, flat: Tensor) -> Tensor:
        """The log densities at points (S, B, K), (S, B)."""
        size = self.loc.shape[-1]
        off = (flat - self.loc).permute(1, 2, 0)
        square = torch.linalg.solve_triangular(self.scale_tril, off, upper=False).square().sum(1).T
        volume = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = math.lgamma((_NU + size) / 2) - math.lgamma(_NU / 2) - 0.5 * size * math.log(_NU * math.pi)
        return constant - volume - 0.5 * (_NU + size) * torch.log1p(square / _NU)


class _Rows:
    """The rows of a block, with the densities of guide and model at draws for them.

    Args:
        part: the number of draws of each part of a mixture.
    """

    def __init__(self, blocks: Blocks, block: Block, part: int):
        self.setup = blocks.setup
        self.particles = blocks.draws_at_once(part)
        self.calls = -(-part // self.particles)
        self.batch = self.setup.batch(*block)
        self.objective = ELBO(self.particles, enumerate="never")
        # The layout of values and plates, for runs at other values.
        self.layout = self._run()
        model: Any = self.setup.model
        carries = {name: _carry(model.latents[name].support) for name in self.layout.p}
        known = {name: carry for name, carry in carries.items() if carry is not None}
        self.carries = known if len(known) == len(carries) else None

    def _run(self) -> Run:
        return self.objective.run(self.setup.model, self.setup.guide, (self.batch,), {})

    def pool(self, fitted: list[_StudentT], guide: int, prior: int) -> _Pool:
        """Draws of a mixture: some parts from the guide and from the prior, and one part from each fitted distribution."""
        # Only densities and points are kept of each run, because traces are as large as the data times the draws.
        kept = [self._kept(self._run()) for _ in range(guide * self.calls)]
        kept += [self._kept(_at_prior(self.layout)) for _ in range(prior * self.calls)]
        for distribution in fitted:
            kept += [self._kept(self._at(distribution.sample(self.particles))) for _ in range(self.calls)]
        likelihood, log_p, log_q, volume = torch.cat([densities for densities, _ in kept], 1)
        flat = torch.cat([flat for _, flat in kept])
        total = guide + prior + len(fitted)
        logs = [log_q + math.log(guide / total), log_p + math.log(prior / total)]
        logs += [distribution.log_prob(flat) - volume - math.log(total) for distribution in fitted]
        return _Pool(flat, likelihood, log_p, torch.stack(logs).logsumexp(0))

    def _kept(self, run: Run) -> tuple[Tensor, Tensor]:
        """log p(x | z), log p(z), log q(z | x) and log |dz / du| of a run, (4, S, B), and u, (S, B, K).

        u are the latents side by side, mapped to the reals.
        """
        terms = run.by_draw(scored=True)
        parts = [terms.log_likelihood(), [terms.log_p(n) for n in run.p], [terms.log_q(n) for n in run.p]]
        densities = [run.rows.add_up(part)[0].double() for part in parts]
        volume, flat = torch.zeros_like(densities[0]), []
        for name, carry in (self.carries or {}).items():
            events = run.p[name]["fn"].event_shape
            value = run.p[name]["value"].double().reshape(*volume.shape, *events)
            u = carry.inv(value)
            volume = volume + carry.log_abs_det_jacobian(u, value).flatten(1).reshape(*volume.shape, -1).sum(
                -1
            )
            flat.append(u.reshape(*volume.shape, -1))
        return torch.stack([*densities, volume]), torch.cat(flat, -1) if flat else volume.unsqueeze(-1)

    def _at(self, flat: Tensor) -> Run:
        """A run at given points on the reals."""
        values, start = {}, 0
        for name, carry in (self.carries or {}).items():
            site = self.layout.p[name]
            shape = torch.Size(carry.inverse_shape(site["fn"].event_shape))
            u = flat[..., start : start + shape.numel()].reshape(*flat.shape[:2], *shape)
            values[name] = carry(u).to(site["value"]).reshape(site["value"].shape)
            start += shape.numel()
        return _again(self.layout, with_values(self.layout.traces[0], lambda site: values[site["name"]]))


def _carry(support: constraints.Constraint) -> Transform | None:
    """The map from the reals onto a support, None where there is none."""
    return None if support.is_discrete else from_reals(support)


def _at_prior(run: Run) -> Run:
    """A run at draws from the prior."""
    with run.draws():
        p: Any = poutine.trace(run.model).get_trace(*run.args, **run.kwargs)
    return _again(run, p)


def _again(run: Run, seen: poutine.Trace) -> Run:
    """A run at the values of a trace."""
    traces = []
    for program in (run.guide, run.model):
        with run.draws():
            again: Any = poutine.trace(poutine.replay(program, trace=seen))
            traces.append(again.get_trace(*run.args, **run.kwargs))
    layout, particles = run.layout, run.rows.particles
    return Run.of(
        run.model, run.guide, run.args, run.kwargs, layout, run.draws, (traces[0], traces[1]), particles
    )

"""The path of densities from a guide to the posterior, with its gradients, in unconstrained space."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions.transforms import Transform

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.supports import from_reals, is_real
from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.blocks import Block, Blocks, Evaluation
from pyro_lfm.objectives import ImportanceWeightedELBO
from pyro_lfm.objectives.enumeration import Plan
from pyro_lfm.objectives.handlers import AtValues
from pyro_lfm.objectives.weighted import Terms
from pyro_lfm.programs.model import AnyModel


@dataclass(frozen=True)
class Points:
    """Points of chains, (S, B, K), with log q(u | x) and log [p(x, u) / q(u | x)], (S, B)."""

    u: Tensor
    log_q: Tensor
    log_w: Tensor

    def log_density(self, beta: Tensor) -> Tensor:
        """log f_β, (S, B), for β of each row, (B,)."""
        return self.log_q + beta * self.log_w

    def where(self, chosen: Tensor, other: Points) -> Points:
        """These points where chosen, (S, B), the others elsewhere."""
        u = self.u.where(chosen.unsqueeze(-1), other.u)
        return Points(u, self.log_q.where(chosen, other.log_q), self.log_w.where(chosen, other.log_w))


class Path:
    """log f_β(u) = log q(u | x) + β log [p(x, u) / q(u | x)]: the guide for β = 0, the posterior for β = 1.

    u are the latents of a row in unconstrained space, side by side. Latents that can be summed out are summed out.

    Args:
        chains: S, the number of chains of each row that run together.
        calls: about how often the density of every block is evaluated.

    Raises:
        DeclarationError: a latent that cannot be annealed, by name.
    """

    def __init__(self, model: AnyModel, guide: AnyGuide, blocks: Blocks, chains: int, calls: int):
        self.model, self.guide, self.blocks, self.chains = model, guide, blocks, chains
        self._weights = _WeightsAt(chains)
        # An evaluation has the cost of a gradient too.
        self._evaluation = Evaluation(blocks, self._evaluate, draws=chains, calls=calls, passes=3)
        self._layout = self._lay_out()
        limit = 0.5 * math.log(torch.finfo(model.dtype).max)
        sizes = [torch.Size(plates + event).numel() for plates, event in map(self._inner, self._layout)]
        limits = [torch.inf if is_real(carry.codomain) else limit for carry, _ in self._layout.values()]
        self._limits = torch.tensor(limits, device=model.device).repeat_interleave(
            torch.tensor(sizes, device=model.device)
        )

    def _lay_out(self) -> dict[str, tuple[Transform, torch.Size]]:
        """For each drawn latent the map from the reals, and the shape of its values in the first block."""
        block = next(iter(self.blocks))
        run = self._weights.run(self.model, self.guide, (self.blocks.setup.batch(*block),), {})
        if run.shared:
            raise DeclarationError(
                f"{', '.join(run.shared)} is shared by all rows: a row has no chains of its own"
            )
        layout = {}
        for name in run.drawn:
            site = run.q[name]
            carry = None if site["fn"].support.is_discrete else from_reals(site["fn"].support)
            if carry is None:
                raise DeclarationError(
                    f'method="annealed" moves latents through the reals, which {name} on {site["fn"].support} is not: '
                    'take method="importance", or have it summed out, by infer={"enumerate": "parallel"} in model and guide'
                )
            if "auxiliary" in site:
                raise DeclarationError(
                    f'method="annealed" needs log q of any value of {name}; this guide has it only for its own draws'
                )
            layout[name] = carry, site["value"].shape
        terms = run.by_draw(summed_out=True, scored=True)
        if any(terms.log_q(name).shape[0] > 1 for name in run.drawn):
            raise DeclarationError(
                f'method="annealed": the guide draws {", ".join(run.drawn)} given {", ".join(run.plan.values)}, which '
                'is summed out: take method="importance"'
            )
        if not layout:
            raise DeclarationError(
                'method="annealed": all latents are summed out, so that method="importance" is exact'
            )
        return layout

    # Between values by name and points --------------------------------------------------------------------

    def _pack(self, values: dict[str, Tensor]) -> Tensor:
        """Values (S, *plates, B, *event) by name as points (S, B, K)."""
        parts = []
        for name, (carry, shape) in self._layout.items():
            rows = 1 + self._plates(name, shape)
            value = carry.inv(values[name]).movedim(rows, 1)
            parts.append(value.reshape(*value.shape[:2], -1))
        return torch.cat(parts, -1)

    def _unpack(self, u: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Points as values by name, and log |dz / du|, (S, B)."""
        values, at, jacobian = {}, 0, u.new_zeros(u.shape[:2])
        for name, (carry, shape) in self._layout.items():
            rows = 1 + self._plates(name, shape)
            plates, event = self._inner(name)
            size = plates.numel() * event.numel()
            part = u[..., at : at + size].reshape(*u.shape[:2], *plates, *event)
            part = part.movedim(1, rows)
            values[name] = carry(part)
            change = carry.log_abs_det_jacobian(part, values[name]).movedim(rows, 1)
            jacobian = jacobian + change.reshape(*u.shape[:2], -1).sum(-1)
            at += size
        return values, jacobian

    def _inner(self, name: str) -> tuple[torch.Size, torch.Size]:
        """The shapes of the plates between draws and rows, and of an event, in unconstrained space."""
        carry, shape = self._layout[name]
        inner, rows = torch.Size(carry.inverse_shape(shape)), 1 + self._plates(name, shape)
        return inner[1:rows], inner[rows + 1 :]

    def _plates(self, name: str, shape: torch.Size) -> int:
        """The number of dimensions between those of the draws and of the rows."""
        return len(shape) - 2 - len(self.model.latents[name].shape)

    def within(self, u: Tensor) -> Tensor:
        """Whether the maps onto supports neither overflow nor underflow at points (S, B, K), (S, B)."""
        return (u.abs() < self._limits).all(-1)

    # Densities --------------------------------------------------------------------------------------------

    def draw(self, block: Block) -> Tensor:
        """Points from the guide, (S, B, K)."""
        batch = self.blocks.setup.batch(*block)
        run = self._weights.run(self.model, self.guide, (batch,), {})
        return self._pack({name: run.q[name]["value"] for name in self._layout})

    def from_values(self, values: dict[str, Tensor]) -> Tensor:
        """Points of chains that all start at one value of the row's latents, (B, *event) by name."""
        spread = {}
        for name, (_, shape) in self._layout.items():
            value = values[name]
            value = value.reshape((1,) * (len(shape) - value.dim()) + value.shape)
            spread[name] = value.expand(self.chains, *value.shape[1:])
        return self._pack(spread)

    def at(self, block: Block, u: Tensor, beta: Tensor) -> tuple[Points, Tensor]:
        """The points, and the gradient of log f_β there, (S, B, K). To be called within ``blocks.running()``."""
        values = self._evaluation(block, u, beta.to(u.dtype))
        return Points(u, values[..., 0], values[..., 1]), values[..., 2:]

    def _evaluate(self, batch: Batch, u: Tensor, beta: Tensor) -> Tensor:
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            values, jacobian = self._unpack(u)
            weights = self._weights.at_values(values)
            run = weights.run(self.model, self.guide, (batch,), {})
            terms = Terms.of(run, run.q)
            log_w = terms.log_weights(run).logsumexp(0)
            log_q = run.layout.add_up([terms.log_q[name] for name in self._layout])[0] + jacobian
            (gradient,) = torch.autograd.grad((log_q + beta * log_w).sum(), u)
        return torch.cat([log_q.unsqueeze(-1), log_w.unsqueeze(-1), gradient], -1).detach()


class _WeightsAt(ImportanceWeightedELBO):
    """Importance weights at given values instead of draws."""

    values: dict[str, Tensor] | None = None

    def at_values(self, values: dict[str, Tensor]) -> _WeightsAt:
        return self.replaced(values=values)

    def _draws(self, layout: Plan) -> ExitStack:
        stack = super()._draws(layout)
        if self.values is not None:
            stack.enter_context(AtValues(self.values))
        return stack

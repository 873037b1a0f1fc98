"""Whether the gradient of a batch is the sum of those of its shares, which the loop asks before several processes train."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from pyro.infer import ELBO as PyroELBO
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.inference.engines.engine import Setup
from pyro_lfm.inference.processes.group import Processes
from pyro_lfm.inference.processes.noise_of_batch import RowNoise
from pyro_lfm.objectives import Objective
from pyro_lfm.objectives.penalised import Penalised
from pyro_lfm.programs.program import Program
from pyro_lfm.runtime import Stream, isolated

# How far the two gradients may differ, relative to the largest entry.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
_CURE = "fit in one process, or take it out"


def check_parts(model: Program, guide: Program, objective: PyroELBO) -> None:
    """Refuses the parts that are known to compute with all rows of a batch together.

    Raises:
        DeclarationError: the message names the part.
    """
    for kind, program in (("model", model), ("guide", guide)):
        for name, module in program.named_modules():
            if isinstance(module, _BatchNorm) and module.training:
                raise DeclarationError(
                    f"several processes cannot train {kind}.{name}, a {type(module).__name__}: its statistics need "
                    "all rows of a batch, and a process has only a part of them: use torch.nn.LayerNorm or "
                    "torch.nn.GroupNorm, or fit in one process"
                )
    while isinstance(objective, Penalised):
        for penalty in objective.penalties:
            if not penalty.takes_weights:
                raise DeclarationError(
                    f"several processes cannot train with {type(penalty).__name__}, which compares all rows of a batch with "
                    f"each other, and a process has only a part of them: {_CURE}"
                )
        objective = objective.objective


@dataclass(frozen=True)
class Trial:
    """A step on a whole batch of the fit that is not made.

    Args:
        setup: of the engine; the programs are copied.
        rows: of the batch, by name. index: their numbers.
        objective: of the fit.
    """

    setup: Setup
    rows: Mapping[str, Tensor]
    index: Tensor
    objective: PyroELBO

    def check(self, processes: Processes) -> bool:
        """Checks that the shares of the processes add up to the batch.

        Returns:
            Whether the objective sums over processes inside of a step, or may do so.

        Raises:
            DeclarationError: they do not.
        """
        inside: list[Tensor] = []

        def summed(value: Tensor) -> Tensor:
            inside.append(value)
            return processes.summed(value)

        share = replace(processes.share(len(self.index)), summed=summed)
        whole = self._attempt()
        if not all(processes.all(whole is not None)):
            return True
        assert whole is not None
        own = {name: values[share.rows] for name, values in self.rows.items()}
        noise = RowNoise(share, processes.rank)
        with noise:
            part = self._gradient(self.setup.batch(own, self.index[share.rows], share))
        total = processes.summed(share.weighted(part))
        tolerance = _TOLERANCE.get(whole.dtype, 5e-2) * float(whole.abs().max())
        differs = not noise.by_rejection and not float((total - whole).abs().max()) <= tolerance
        if any(processes.all(differs)):
            raise DeclarationError(
                "several processes cannot train this model: its gradient on a batch is not the mean of those on parts of "
                "it, as a network, a program or the objective computes with all rows together, or draws random numbers "
                "by other means. Draw by torch's or Pyro's functions, with the rows in the first dimension, and normalise "
                "within a row; or fit in one process"
            )
        return bool(inside)

    def _attempt(self) -> Tensor | None:
        """The gradient of the whole batch; None where it fails or is not finite, which the first step will say."""
        try:
            whole = self._gradient(self.setup.batch(self.rows, self.index))
        except Exception:  # whatever a program raises
            return None
        return whole if bool(whole.isfinite().all()) else None

    def _gradient(self, batch: Batch) -> Tensor:
        """The gradient of the loss per row, flat and without PerRow tables, of copies of the programs."""
        model, guide, objective = copy.deepcopy((*self.setup.programs, self.objective))
        if isinstance(objective, Objective):
            objective = objective.at(0.0, in_turn=False)
        tables = {id(table.rows) for program in (model, guide) for table in program.tables}
        trained = {id(p): p for program in (model, guide) for p in program.parameters() if p.requires_grad}
        parameters = [p for p in trained.values() if id(p) not in tables]
        device = batch.index.device
        with isolated(Stream(0, device), device):
            loss = objective.differentiable_loss(model, guide, batch)  # type: ignore[attr-defined]
            gradients = torch.autograd.grad(loss / batch.total_weight, parameters, allow_unused=True)
        flat = [
            p.new_zeros(p.numel()) if g is None else g.flatten()
            for p, g in zip(parameters, gradients, strict=True)
        ]
        return torch.cat([loss.detach().reshape(1) / batch.total_weight, *flat])

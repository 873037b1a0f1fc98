"""Adam for PerRow tables, used by the eager engine: only the rows of the batch are read and written."""

from __future__ import annotations

import torch
from torch.optim.optimizer import ParamsT


class RowAdam(torch.optim.Optimizer):
    """Adam on the rows of sparse gradients, each row with its own count of steps.

    ``torch.optim.SparseAdam`` corrects the moments of every row by the step count of the whole table. So the first steps
    of rows that come late in the first epoch are up to three times too long.

    Source: Kingma and Ba (2015), algorithm 1, applied row by row.
    """

    def __init__(self, params: ParamsT, lr: float = 0.05, betas: tuple[float, float] = (0.9, 0.999)):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            first, second = group["betas"]
            for table in group["params"]:
                if table.grad is None:
                    continue
                state = self.state[table]
                if not state:
                    state["steps"] = torch.zeros(len(table), dtype=table.dtype, device=table.device)
                    state["mean"], state["square"] = torch.zeros_like(table), torch.zeros_like(table)
                sparse = table.grad.coalesce() if table.grad.is_sparse else table.grad.to_sparse(1)
                rows, gradient = sparse.indices()[0], sparse.values()
                shape = (-1, *(1,) * (gradient.dim() - 1))
                state["steps"][rows] += 1
                steps = state["steps"][rows].reshape(shape)
                mean = state["mean"][rows].lerp(gradient, 1 - first)
                square = state["square"][rows].lerp(gradient.square(), 1 - second)
                state["mean"][rows], state["square"][rows] = mean, square
                scale = (square / (1 - second**steps)).sqrt() + group["eps"]
                table[rows] -= group["lr"] * mean / (1 - first**steps) / scale

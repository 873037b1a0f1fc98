"""What an engine is: it holds model, guide and optimizer, and does one optimisation step at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.inference.svi.failure import NotFinite
from pyro_lfm.objectives import Objective
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.program import Program
from pyro_lfm.runtime import Stream, flushing_denormals, isolated


@dataclass(frozen=True)
class Setup:
    """What an engine works on.

    Args:
        optimizer: (parameters, lr=) -> torch.optim.Optimizer.
        clip_norm: the largest L2 norm of the gradients of the loss per row, of all parameters but PerRow tables together.
        stream: of all noise.
        total: how many rows N the batches are taken from.
        missing: for each name whether some of its entries are missing; names left out are searched in each batch.
    """

    model: Program
    guide: Program
    optimizer: Callable[..., torch.optim.Optimizer]
    learning_rate: float
    stream: Stream
    total: int
    missing: Mapping[str, bool] = field(default_factory=dict)
    clip_norm: float | None = None

    def batch(self, rows: Mapping[str, torch.Tensor], index: torch.Tensor) -> Batch:
        complete, incomplete = (
            frozenset(n for n, some in self.missing.items() if some is wanted) for wanted in (False, True)
        )
        return Batch(rows, index, self.total, complete=complete, incomplete=incomplete)

    @property
    def programs(self) -> tuple[Program, Program]:
        return self.model, self.guide


class Engine(ABC):
    """Does one optimisation step at a time."""

    setup: Setup

    @abstractmethod
    def step(
        self, rows: dict[str, torch.Tensor], index: torch.Tensor, objective: Any, rate: float, part: str
    ) -> torch.Tensor:
        """One step on rows by name, each (B, *event), and their numbers (B,); to be called within ``session()``.

        Args:
            rate: multiplies every learning rate.
            part: "both", "model" or "guide".

        Returns:
            [bound, reconstruction, KL] in nats per row, (3,); it may not be computed yet.

        Raises:
            NotFinite: the loss or a gradient is not finite; the weights may be broken.
        """

    @contextmanager
    def session(self) -> Iterator[None]:
        """The time of some steps, in which torch draws from the engine's stream."""
        with isolated(self.setup.stream, self.setup.model.device), flushing_denormals():
            yield

    def suspect(self) -> None:  # noqa: B027
        """Code that is not the library's has run, such as a callback: the programs may be others than before."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The optimizer's state, to be saved."""

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None:
        """Takes up a state that was saved."""

    @abstractmethod
    def close(self) -> None:
        """Called once at the end, whatever happened: leaves nothing behind."""


def bound_parts(objective: Any, loss: torch.Tensor, total: int) -> torch.Tensor:
    """[bound, reconstruction, KL] of a step, nats per row; the parts are NaN where the objective does not tell them."""
    last = getattr(objective, "last", None)
    if last is None:
        bound = -loss.detach() / total
        return torch.stack([bound, *[torch.full_like(bound, torch.nan)] * 2])
    kl = sum(last.kl.values(), torch.zeros_like(last.per_row)).mean()
    return torch.stack([last.per_row.mean(), last.reconstruction.mean(), kl])


def parameters_of(
    model: Program, guide: Program
) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """θ and φ, those that are held just now included; what both programs have counts as θ."""
    theta = [p for p in model.parameters() if p.is_floating_point()]
    shared = set(map(id, theta))
    return theta, [p for p in guide.parameters() if p.is_floating_point() and id(p) not in shared]


def check(loss: torch.Tensor, values: Iterable[tuple[torch.nn.Parameter, torch.Tensor | None]]) -> None:
    """Stops at a loss, or a parameter's gradient, that is not finite."""
    pairs = [(p, v.detach()._values() if v.is_sparse else v.detach()) for p, v in values if v is not None]
    # One number to look at: it is finite exactly when everything is.
    if not bool(torch.stack([loss.detach(), *(value.sum() for _, value in pairs)]).sum().isfinite()):
        for parameter, value in pairs:
            if not bool(value.isfinite().all()):
                raise NotFinite(parameter)
        if not bool(loss.isfinite()):
            raise NotFinite(None)


def evaluate(
    model: Program, guide: Program, objective: Any, batch: Batch, stream: Stream
) -> tuple[float, float, float]:
    """Bound, reconstruction and KL of a batch, nats per row, without a step, in evaluation mode."""
    with evaluating(model, guide), isolated(stream, model.device), torch.no_grad():
        if isinstance(objective, Objective):
            objective = objective.at(1.0, in_turn=False)
        loss = torch.as_tensor(objective.loss(model, guide, batch))
        bound, reconstruction, kl = bound_parts(objective, loss, batch.total).tolist()
    return bound, reconstruction, kl

"""``Engine``, the base class of eager, compiled and Pyro's steps: one optimisation step of model and guide at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import add
from typing import Any, NamedTuple

import torch
from pyro.infer import ELBO as PyroELBO

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.shares import Share
from pyro_lfm.inference.engines.adam_kernels import norms_of
from pyro_lfm.inference.engines.planned_steps import PlannedSteps
from pyro_lfm.inference.svi.failure import NotFinite, of_numbers_not_finite
from pyro_lfm.inference.svi.optimizer_states import EngineState
from pyro_lfm.objectives import Objective
from pyro_lfm.objectives.objective import last_bound
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.program import Program
from pyro_lfm.runtime import Stream, flushing_denormals, isolated


class Done(NamedTuple):
    """Some steps: for each the numbers of its rows, and [bound, reconstruction, KL, 1], (n, 4), as ``Engine.take`` says."""

    rows: list[torch.Tensor]
    parts: torch.Tensor


@dataclass(frozen=True)
class Setup:
    """The programs, the optimizer and the random stream that an engine uses.

    Args:
        optimizer: (parameters, lr=) -> torch.optim.Optimizer.
        clip_norm: the largest L2 norm of the gradients of the loss per row, of all parameters but PerRow tables together.
        stream: the random stream of all noise.
        total: the number of rows N of the data that count.
        weights: of the rows, (N,), on the device of the model; None where each counts once.
        missing: for each name whether some of its entries are missing; names that are left out are searched in each batch.
        forks: whether workers are forked while it trains, which the threads of JAX forbid.
    """

    model: Program
    guide: Program
    optimizer: Callable[..., torch.optim.Optimizer]
    learning_rate: float
    stream: Stream
    total: int
    missing: Mapping[str, bool] = field(default_factory=dict)
    clip_norm: float | None = None
    weights: torch.Tensor | None = None
    forks: bool = False

    def batch(
        self, rows: Mapping[str, torch.Tensor], index: torch.Tensor, share: Share | None = None
    ) -> Batch:
        complete, incomplete = self._completeness
        weights = None if self.weights is None else self.weights.index_select(0, index)
        return Batch(
            rows,
            index,
            self.total,
            complete=complete,
            incomplete=incomplete,
            weights=weights,
            total_weight=self.total_weight,
            share=share,
        )

    @cached_property
    def _completeness(self) -> tuple[frozenset[str], frozenset[str]]:
        """The names without missing entries, and those with some."""
        complete = frozenset(name for name, some in self.missing.items() if not some)
        return complete, frozenset(self.missing) - complete

    @cached_property
    def total_weight(self) -> float:
        """What losses are divided by: N, or the sum of the weights."""
        return self.total if self.weights is None else float(self.weights.double().sum())

    @property
    def programs(self) -> tuple[Program, Program]:
        return self.model, self.guide


class Engine(ABC):
    """Does one optimisation step at a time.

    Attributes:
        fault: why the last step was skipped, until someone has looked. Of a step that the device skipped it is None.
    """

    setup: Setup
    fault: NotFinite | None = None

    def step(
        self, rows: dict[str, torch.Tensor], index: torch.Tensor, objective: PyroELBO, rate: float, part: str
    ) -> torch.Tensor:
        """One step, within ``session()``; see ``take``.

        A step whose loss or gradient is not finite is skipped, and gives zeros: it moves nothing but the random stream.
        """
        try:
            return self.take(rows, index, objective, rate, part)
        except NotFinite as error:
            self.fault = error
        except Exception as error:  # a program may raise anything
            if not of_numbers_not_finite(error):
                raise
            self.fault = NotFinite(refusal=error)
        return self.skipped()

    def skipped(self) -> torch.Tensor:
        """What ``step`` gives for a step that was skipped."""
        return torch.zeros(4, dtype=self.setup.model.dtype, device=self.setup.model.device)

    @abstractmethod
    def take(
        self, rows: dict[str, torch.Tensor], index: torch.Tensor, objective: PyroELBO, rate: float, part: str
    ) -> torch.Tensor:
        """One step.

        Args:
            rows: by name, (B, *event) each.
            index: the numbers of the rows in the data, (B,).
            rate: the factor of every learning rate.
            part: the programs to train, "both", "model" or "guide".

        Returns:
            [bound, reconstruction, KL, 1] in nats per row, (4,), or zeros where the device has skipped the step. A GPU
            may still be computing it.

        Raises:
            NotFinite: the loss or a gradient is not finite; nothing was changed.
        """

    def advance(self, planned: PlannedSteps, most: int) -> Done:
        """Takes the next steps, within ``session()``: at least one, at most ``most``, and one by default; see ``step``."""
        step = planned.take()
        result = self.step(step.rows, step.index, *step.moment)
        return Done([step.index], result[None])

    @contextmanager
    def session(self) -> Iterator[None]:
        """The context of some steps, in which torch draws from the engine's stream."""
        with isolated(self.setup.stream, self.setup.model.device), flushing_denormals():
            yield

    def suspect(self) -> None:  # noqa: B027
        """Tells the engine that foreign code has run, such as a callback: it may have changed the programs."""

    @abstractmethod
    def state(self) -> EngineState:
        """The states of the optimizers, for a checkpoint."""

    @abstractmethod
    def load(self, state: EngineState) -> None:
        """Goes on from the states in a checkpoint."""

    @abstractmethod
    def close(self) -> None:
        """Puts back what the engine has changed outside of itself. Called once, after errors too."""


def bound_parts(objective: PyroELBO, loss: torch.Tensor, total: float) -> torch.Tensor:
    """[bound, reconstruction, KL, 1] of a step, nats per row; parts that an objective does not keep are NaN."""
    last = last_bound() if isinstance(objective, Objective) else None
    if last is None:
        bound = -loss.detach() / total
        return torch.stack([bound, *[torch.full_like(bound, torch.nan)] * 2, torch.ones_like(bound)])
    bound, reconstruction = last.per_row.mean(), last.reconstruction.mean()
    one = torch.ones_like(bound)
    kl = reduce(add, last.kl.values()).mean() if last.kl else 0.0 * one
    return torch.stack([bound, reconstruction, kl, one])


def parameters_of(
    model: Program, guide: Program
) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """θ and φ, frozen ones included; a parameter of both programs counts as θ."""
    theta = [p for p in model.parameters() if p.is_floating_point()]
    shared = set(map(id, theta))
    return theta, [p for p in guide.parameters() if p.is_floating_point() and id(p) not in shared]


def check_finite(
    loss: torch.Tensor, gradients: Iterable[tuple[torch.nn.Parameter, torch.Tensor | None]]
) -> None:
    """Checks a loss, and the gradient of each parameter.

    Raises:
        NotFinite: the loss is NaN or infinite, or the sum of squares of all gradients, which optimizers keep, is.
    """
    held = [(p, g.detach()._values() if g.is_sparse else g.detach()) for p, g in gradients if g is not None]
    norms = norms_of([g for _, g in held]) if held else []
    # One sum to wait for: it is finite exactly if everything is.
    squares = torch.stack([*norms]).square().sum() if norms else 0.0
    if not bool((loss.detach() + squares).isfinite()):
        raise fault_of(loss, held)


def fault_of(loss: torch.Tensor, gradients: Iterable[tuple[torch.nn.Parameter, torch.Tensor]]) -> NotFinite:
    """The error of a loss, or of gradients, that are not finite or have no finite sum of squares."""
    held = [*gradients]
    broken = [p for p, g in held if not bool(g.isfinite().all())]
    if not bool(loss.isfinite()):
        return NotFinite(broken, everywhere=len(broken) == len(held))
    if broken:
        return NotFinite(broken, of="gradient")
    largest = max(held, key=lambda pair: float(pair[1].abs().max()))
    return NotFinite([largest[0]], of="square of the gradient")


def evaluate(
    model: Program, guide: Program, objective: PyroELBO, batch: Batch, stream: Stream
) -> tuple[float, float, float]:
    """Bound, reconstruction and KL of a batch, nats per row, in evaluation mode and without a step."""
    with evaluating(model, guide), isolated(stream, model.device), torch.no_grad():
        if isinstance(objective, Objective):
            objective = objective.at(1.0, in_turn=False)
        scored: Any = objective
        loss = torch.as_tensor(scored.loss(model, guide, batch))
        bound, reconstruction, kl, _ = bound_parts(objective, loss, batch.total_weight).tolist()
    return bound, reconstruction, kl

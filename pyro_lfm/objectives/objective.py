"""What all objectives have in common: draws, traces, schedules, and the units of Pyro."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal
from weakref import WeakKeyDictionary

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO as PyroELBO

from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides.any_guide import AnyGuide, together
from pyro_lfm.objectives.bound import Bound
from pyro_lfm.objectives.enumeration import Plan, SumOut, plan
from pyro_lfm.objectives.run import Run
from pyro_lfm.schedules import value_ahead, value_at
from pyro_lfm.shapes import number, whole

# A number, a function of the fraction of the training done, or a 0-dim tensor that an engine sets.
Weight = float | Callable[[float], float] | torch.Tensor


def as_weight(name: str, value: Any) -> Weight:
    """A weight as the user gives it: a number that is not negative, or a schedule."""
    if callable(value):
        return value
    return number(name, value, least=0.0, or_else="or a function of the fraction done")


@dataclass(frozen=True)
class Names:
    """Latents, observed variables, the guide and covariates as they stand in formulas: "z", "x", "q(z | x, t)", "t"."""

    latents: str
    observed: str
    guide: str
    covariates: str = ""

    def conditional(self, distribution: str, value: str, given: str = "") -> str:
        """ "p(x | z, t)": the covariates are given wherever x is."""
        parents = ", ".join(filter(None, [given, self.covariates]))
        return f"{distribution}({value} | {parents})" if parents else f"{distribution}({value})"


class Objective(PyroELBO, ABC):
    """What is maximised over θ and φ, per row, in nats: one estimate of it from one run of guide and model.

    Serves ``lfm.SVI`` and, being a ``pyro.infer.ELBO``, plain ``pyro.infer.SVI``. A class of its own writes
    ``estimate(run)`` and ``describe(names, run)``; what changes over the training it names in ``weights``. The terms of
    ``run`` are expectations with all of their gradient, whatever the latents (see ``Run``); ``lfm.testing.check_objective``
    says whether an objective is right.

    Args:
        particles: draws of the latents per row, S ≥ 1, taken together in a dimension left of all plates.
        enumerate: "auto" sums discrete latents out where it can; "never" draws them.
    """

    # What it remembers of the last step is no part of what it is.
    not_identity = ("last",)

    def __init__(self, particles: int, enumerate: Literal["auto", "never"]):
        particles = whole("particles", particles)
        if enumerate not in ("auto", "never"):
            raise DeclarationError(f'enumerate must be "auto" or "never"; got {enumerate!r}')
        super().__init__(num_particles=particles, vectorize_particles=particles > 1)
        self.particles, self.enumerate = particles, enumerate
        self._plans: WeakKeyDictionary[Any, WeakKeyDictionary[Any, Plan]] = WeakKeyDictionary()
        self.last: Bound | None = None

    # Whether it is another function of a row's draws than their mean, as of importance weights: then summing a latent out
    # changes its expectation, and not only its noise.
    weighs_draws = False

    @property
    def leads_guide(self) -> bool:
        """Whether the guide's gradient is another than that of the objective's value, by intent."""
        return False

    @abstractmethod
    def estimate(self, run: Run) -> Bound:
        """One estimate of the objective, gradients attached."""

    @abstractmethod
    def describe(self, names: Names, run: Run) -> list[str]:
        """The bound as a formula, then how its parts are computed, a line each."""

    # What changes over the training -------------------------------------------------------------------

    @property
    def weights(self) -> dict[str, Weight]:
        """The weights of its terms by name: numbers, schedules, or 0-dim tensors."""
        return {}

    def weighted(self, weights: dict[str, Any]) -> Objective:
        """A copy with other weights; those that are not named stay. A 0-dim tensor is taken as it is."""
        now = copy.copy(self)
        now._plans = self._plans
        for name, value in weights.items():
            setattr(now, name, value)
        return now

    def enumerating(self, how: Literal["auto", "never"]) -> Objective:
        """A copy that sums discrete latents out where it can, or draws them."""
        now = copy.copy(self)
        now.enumerate, now._plans = how, WeakKeyDictionary()
        return now

    def at(self, fraction: float, in_turn: bool = True) -> Objective:
        """This objective at a moment of the training: its schedules replaced by numbers.

        Args:
            in_turn: whether it is the present moment; else schedules that count their calls do not count this one.
        """
        schedules = {name: value for name, value in self.weights.items() if callable(value)}
        if not schedules:
            return self
        ask = value_at if in_turn else value_ahead
        return self.weighted({name: ask(name, schedule, fraction) for name, schedule in schedules.items()})

    def at_end(self) -> Objective:
        """A copy of this objective at the end of the training, without any schedule: what a fit keeps."""
        return copy.copy(self.at(1.0, in_turn=False))

    def __getstate__(self) -> dict[str, Any]:
        # What it remembers of programs and of the last step belongs to this process.
        return {name: value for name, value in self.__dict__.items() if name not in ("_plans", "last")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._plans, self.last = WeakKeyDictionary(), None

    # The bound ----------------------------------------------------------------------------------------

    def bound(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Bound:
        """One estimate over a batch, gradients attached.

        Args:
            model, guide: Pyro programs; args and kwargs (a Batch, or its tensors) go to both.
        """
        for name, value in self.weights.items():
            if callable(value):
                raise DeclarationError(
                    f"{name} is a schedule: fit with lfm.SVI, or take objective.at(fraction)"
                )
        return self.estimate(self.run(model, guide, args, kwargs))

    def run(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Run:
        """The programs at new draws."""
        model, guide = together(model, guide)
        layout = self.plan(model, guide, args, kwargs)
        traces = self.traces(model, guide, args, kwargs, layout)
        draws = partial(self._draws, layout)
        return Run.of(model, guide, args, kwargs, layout, draws, traces, self.particles)

    def _draws(self, layout: Plan) -> ExitStack:
        stack = ExitStack()
        if self.particles > 1:
            stack.enter_context(self._plate("particles", self.particles, dim=-1 - layout.nesting))
        return stack

    # Where the dimension of the draws stands: here, at every statement.
    _plate: Any = pyro.plate

    def traces(
        self, model: Any, guide: Any, args: Any, kwargs: Any, layout: Plan | None = None
    ) -> tuple[Any, Any]:
        """One run of the guide, and one of the model with its values."""
        layout = Plan() if layout is None else layout
        with self._draws(layout):
            q = poutine.trace(SumOut(layout)(guide)).get_trace(*args, **kwargs)
        with self._draws(layout):
            seen = self._seen_by_model(q)
            p = poutine.trace(poutine.replay(model, trace=seen)).get_trace(*args, **kwargs)
        return q, p

    def _seen_by_model(self, q: Any) -> Any:
        """The guide's trace with the values that the model is to see."""
        return q

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """What pyro.infer.ELBO asks of its subclasses: one model trace, one guide trace."""
        q, p = self.traces(model, guide, args, kwargs, Plan(self.plan(model, guide, args, kwargs).nesting))
        return p, q

    # Whether latents that all rows share may be summed out.
    _sums_shared = True

    def plan(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Plan:
        """Where draws stand, left of all plates, and which latents are summed out."""
        plans = self._plans.setdefault(guide, WeakKeyDictionary())
        if model not in plans:
            if isinstance(guide, AnyGuide):
                guide.check_serves(model)
            if self.particles == 1 and not getattr(guide, "summable", True):
                plans[model] = Plan()
            else:
                plans[model] = plan(model, guide, args, kwargs, self.enumerate == "auto", self._sums_shared)
        return plans[model]

    # Under plain Pyro: totals over the data, signs of a loss --------------------------------------------

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """−N times the objective per row: Pyro's unit, a scalar with gradients."""
        bound = self.bound(model, guide, *args, **kwargs)
        self.last = replace(bound, objective=bound.objective.detach())
        return -bound.objective * bound.total

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss.item()

"""The base class of objectives: one estimate of a bound from one run, its schedules, and Pyro's interface of a loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self

import torch
from pyro.infer import ELBO as PyroELBO
from pyro.poutine.trace_struct import Trace

from pyro_lfm.declarations import PartWithState
from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides.any_guide import together
from pyro_lfm.objectives.bound import Bound
from pyro_lfm.objectives.enumeration import Plan, PlanOptions, SumOut, plan_for
from pyro_lfm.objectives.handlers import Draws
from pyro_lfm.objectives.program_traces import trace_of
from pyro_lfm.objectives.run import Run
from pyro_lfm.objectives.trace_sites import Arguments, Keywords, PyroProgram, Rows
from pyro_lfm.schedules import value_ahead, value_at
from pyro_lfm.shapes import number, whole

# A number, a function of the fraction of the training done, or a 0-dim tensor that an engine sets.
Weight = float | Callable[[float], float] | torch.Tensor

# The bound of the loss that was computed last, in this thread.
_LAST: ContextVar[Bound | None] = ContextVar("last bound", default=None)


def last_bound() -> Bound | None:
    """The bound of the loss that an objective computed last, which Pyro's interface has no room for; engines record it."""
    return _LAST.get()


def as_weight(name: str, value: Weight) -> Weight:
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


class Objective(PartWithState, PyroELBO):
    """The function that is maximised over θ and φ, per row, in nats: one estimate of it from one run of guide and model.

    Serves ``lfm.SVI`` and, being a ``pyro.infer.ELBO``, plain ``pyro.infer.SVI``. A subclass writes ``estimate(run)`` and
    ``describe(names, run)``, and names in ``weights`` the numbers that may change over the training. The terms of ``run``
    are expectations with their whole gradient, whatever the latents (see ``Run``). ``lfm.testing.check_objective`` checks
    a subclass. An objective remembers nothing of its runs.

    Args:
        particles: draws of the latents per row, S ≥ 1, taken together in a dimension left of all plates.
        enumerate: "auto" sums discrete latents out where it can. "never" draws them.

    >>> from dataclasses import replace
    >>> import pyro_lfm as lfm
    >>> class OfTheKL(lfm.Objective):
    ...     def __init__(self):
    ...         super().__init__(particles=1, enumerate="auto")
    ...     def estimate(self, run):
    ...         return replace(lfm.ELBO().estimate(run), objective=-run.kl("z").mean())
    ...     def describe(self, names, run):
    ...         return ["-KL(q || p), without the likelihood"]
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> bound = OfTheKL().bound(model, guide, torch.zeros(3, 5))
    >>> torch.allclose(bound.objective, -bound.kl["z"].mean())
    True
    """

    def __init__(self, particles: int, enumerate: Literal["auto", "never"]):
        particles = whole("particles", particles)
        if enumerate not in ("auto", "never"):
            raise DeclarationError(f'enumerate must be "auto" or "never"; got {enumerate!r}')
        super().__init__(num_particles=particles, vectorize_particles=particles > 1)  # type: ignore[no-untyped-call]
        self.particles, self.enumerate = particles, enumerate

    @abstractmethod
    def estimate(self, run: Run) -> Bound:
        """One estimate of the objective, gradients attached."""

    @abstractmethod
    def describe(self, names: Names, run: Run) -> list[str]:
        """The bound as a formula, then how its parts are computed, a line each."""

    # Questions that a subclass may answer otherwise -----------------------------------------------------

    def averages_draws(self) -> bool:
        """Whether the value is a mean over a row's draws.

        Importance weights are not: summing a latent out then changes the expected value, and not only its noise.
        """
        return True

    def guide_climbs_value(self) -> bool:
        """Whether the guide's gradient is that of the value. In wake-sleep it is another one, by intent."""
        return True

    def takes_penalties(self) -> bool:
        """Whether ``Penalised`` may take penalties off it, which needs gradients through draws."""
        return True

    def sums_out_shared(self) -> bool:
        """Whether latents that all rows share may be summed out."""
        return True

    def takes_weights(self) -> bool:
        """Whether rows may have weights: the terms of a run hold them. Statistics of all codes together do not."""
        return True

    # Weights that change over the training --------------------------------------------------------------

    @property
    def weights(self) -> Mapping[str, Weight]:
        """The weights of its terms by name: numbers, schedules, or 0-dim tensors."""
        return {}

    def weighted(self, weights: Mapping[str, Weight]) -> Self:
        """A copy with other weights. Those that are not named stay. A 0-dim tensor is taken as it is."""
        return self.replaced(**weights)

    def enumerating(self, how: Literal["auto", "never"]) -> Self:
        """A copy that sums discrete latents out where it can ("auto"), or draws them ("never")."""
        return self.replaced(enumerate=how)

    def replaced(self, **attributes: object) -> Self:
        """A copy with other attributes, which are not checked again."""
        return self.altered(**attributes)

    def at(self, fraction: float, in_turn: bool = True) -> Self:
        """This objective at a moment of the training: its schedules replaced by numbers.

        Args:
            in_turn: whether it is the present moment. Otherwise schedules that count their calls do not count this one.
        """
        schedules = {name: value for name, value in self.weights.items() if callable(value)}
        if not schedules:
            return self
        evaluate = value_at if in_turn else value_ahead
        return self.weighted(
            {name: evaluate(name, schedule, fraction) for name, schedule in schedules.items()}
        )

    def at_end(self) -> Self:
        """This objective at the end of the training, without any schedule: what a fit keeps."""
        return self.at(1.0, in_turn=False)

    # The bound ----------------------------------------------------------------------------------------

    def bound(self, model: PyroProgram, guide: PyroProgram, *args: Rows, **kwargs: Rows) -> Bound:
        """One estimate over a batch, gradients attached.

        Args:
            model, guide: Pyro programs. ``args`` and ``kwargs`` (a Batch, or its tensors) go to both.
        """
        for name, value in self.weights.items():
            if callable(value):
                raise DeclarationError(
                    f"{name} is a schedule: fit with lfm.SVI, or take objective.at(fraction)"
                )
        return self.estimate(self.run(model, guide, args, kwargs))

    def run(self, model: PyroProgram, guide: PyroProgram, args: Arguments, kwargs: Keywords) -> Run:
        """The programs at new draws."""
        model, guide = together(model, guide)
        plan = self.plan(model, guide, args, kwargs)
        traces = self.traces(model, guide, args, kwargs, plan)
        return Run.of(model, guide, args, kwargs, plan, partial(self._draws, plan), traces, self.particles)

    def _draws(self, plan: Plan) -> ExitStack:
        """A context in which programs are run for all draws at once."""
        stack = ExitStack()
        if self.particles > 1:
            stack.enter_context(self._plate_of_draws(-1 - plan.nesting))
        return stack

    def _plate_of_draws(self, dim: int) -> AbstractContextManager[object]:
        return Draws("particles", self.particles, dim=dim)

    def traces(
        self,
        model: PyroProgram,
        guide: PyroProgram,
        args: Arguments,
        kwargs: Keywords,
        plan: Plan | None = None,
    ) -> tuple[Trace, Trace]:
        """One run of the guide, and one of the model with its values."""
        plan = Plan() if plan is None else plan
        with self._draws(plan):
            q = trace_of(guide, args, kwargs, given=SumOut(plan))
        with self._draws(plan):
            p = trace_of(model, args, kwargs, seen=self._seen_by_model(q))
        return q, p

    def _seen_by_model(self, q: Trace) -> Trace:
        """The guide's trace with the values that the model reads."""
        return q

    def _get_trace(
        self, model: PyroProgram, guide: PyroProgram, args: Arguments, kwargs: Keywords
    ) -> tuple[Trace, Trace]:
        """The method that pyro.infer.ELBO expects of its subclasses: one model trace, one guide trace."""
        q, p = self.traces(model, guide, args, kwargs, Plan(self.plan(model, guide, args, kwargs).nesting))
        return p, q

    def plan(self, model: PyroProgram, guide: PyroProgram, args: Arguments, kwargs: Keywords) -> Plan:
        """The dimension of the draws, left of all plates, and the latents that are summed out."""
        options = PlanOptions(self.enumerate == "auto", self.sums_out_shared(), self.particles > 1)
        return plan_for(model, guide, args, kwargs, options)

    # Under plain Pyro: totals over the data, signs of a loss --------------------------------------------

    def differentiable_loss(
        self, model: PyroProgram, guide: PyroProgram, *args: Rows, **kwargs: Rows
    ) -> torch.Tensor:
        """−N times the objective per row: Pyro's unit, a scalar with gradients."""
        bound = self.bound(model, guide, *args, **kwargs)
        _LAST.set(replace(bound, objective=bound.objective.detach()))
        return -bound.objective * bound.total

    def loss(self, model: PyroProgram, guide: PyroProgram, *args: Rows, **kwargs: Rows) -> float:
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model: PyroProgram, guide: PyroProgram, *args: Rows, **kwargs: Rows) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss.item()

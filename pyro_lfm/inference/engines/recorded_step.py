"""A step as a function of tensors: as Python, recorded, and as native code that is held against the Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.eager import Eager, gradients_of, laid_out_as
from pyro_lfm.inference.engines.engine import bound_parts
from pyro_lfm.inference.engines.exits import record
from pyro_lfm.inference.engines.watched import Watched
from pyro_lfm.objectives import Objective

# How far a loss may be off, relative to itself, and a gradient, relative to the largest.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 2e-4}
# How often native code is made anew because something has changed, before it is cheaper to stay with eager.
_REBUILDS = 2
# The same of recordings, which cost less.
_RECORDINGS = 10


class Step:
    """The step of one batch size and part as a function of tensors: as Python, and as native code.

    Its inputs are the rows of every name, their numbers, the weights of the objective's terms, the rows of every table;
    its outputs the loss per row, [bound, reconstruction, KL], and the gradients of the parameters and of the tables' rows.
    """

    def __init__(self, eager: Eager, names: Sequence[str], objective: Any, part: str):
        self.eager, self.setup, self.names, self.objective = eager, eager.setup, names, objective
        trained = eager.trained(part)
        # Of every table the rows of the batch are inputs; those of some are trained.
        self.tables = eager.tables
        self.learned = [t for t in eager.tables if any(t.rows is p for p in trained)]
        rows = {id(table.rows) for table in eager.tables}
        self.parameters = [p for p in trained if id(p) not in rows]
        self.watched = Watched(eager.setup, objective)
        # Whether the graph that there is native code of is that of the programs as they are now.
        self.recorded = False
        self.changed = ""
        self.compared_at = self.rebuilt = self.recordings = 0
        self._form: list[Any] | None = None

    def python(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """The step by running the programs."""
        data, (index, weights, *gathered) = inputs[: len(self.names)], inputs[len(self.names) :]
        batch = self.setup.batch(dict(zip(self.names, data, strict=True)), index)
        objective = self.objective
        if isinstance(objective, Objective):
            # As tensors, so that a weight that changes is followed.
            objective = objective.weighted(dict(zip(objective.weights, weights, strict=False)))
        for table, rows in zip(self.tables, gathered, strict=True):
            table.gathered = rows.detach().requires_grad_(table in self.learned)
        leaves: list[Any] = [table.gathered for table in self.learned]
        try:
            loss = self.eager.loss(batch, objective)
            wanted = [*self.parameters, *leaves]
            found = gradients_of(loss / batch.total, wanted)
        finally:
            for table in self.tables:
                table.gathered = None
        self.used = [k for k, gradient in enumerate(found) if gradient is not None]
        gradients = [laid_out_as(found[k], wanted[k]).detach() for k in self.used]
        return [(loss / batch.total).detach(), bound_parts(objective, loss, batch.total), *gradients]

    def build(self, inputs: Sequence[torch.Tensor]) -> None:
        """Records the programs, and makes native code of the graph unless it is the one that there is code of.

        Raises:
            NotRecordable: the programs cannot be recorded, or change again and again.
        """
        # In another order than the batch at hand: what hangs on values is found by the comparison on that.
        trial = [*(value.flip(0) for value in inputs[: len(self.names) + 1]), inputs[len(self.names) + 1]]
        trial += [rows.flip(0) for rows in inputs[len(self.names) + 2 :]]
        with self.watched.trial():
            graph, external = record(self.python, trial)
        if self.watched.left_behind(external):
            raise tracing.NotRecordable("it reads a tensor that the run before it left")
        form = [tracing.form(graph, external), self.used]
        self.recordings += 1
        self.external = external
        self.refresh()
        if form != self._form:
            self.rebuilt += self._form is not None
            if self.rebuilt > _REBUILDS or self.recordings > _RECORDINGS:
                raise tracing.NotRecordable(f"{self.changed} changes again and again")
            self._form = form
            with self.watched.trial():
                self._native = tracing.native(graph, [*inputs, *self.known])
        # Who are moved by a kernel of the optimizer's; tables have their own.
        self.moved = () if self.learned else tuple(id(self.parameters[k]) for k in self.used)

    def suspect(self) -> bool:
        """Whether something that the programs read has changed, so that a run must be watched anew."""
        if (changed := self.watched.difference()) is not None:
            self.changed, self.recorded, self.watched.settled = changed, False, False
        return changed is not None

    def refresh(self) -> None:
        """Looks at the tensors that it reads anew: a parameter may have other memory than before."""
        self.known = [value.detach() for value in self.external]

    def __call__(self, inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        with torch.no_grad():
            return self._native(*inputs, *self.known)

    def difference(self, inputs: Sequence[torch.Tensor]) -> str | None:
        """How native code and programs differ on the same noise, in words; None where they agree."""
        with self.watched.trial(inputs):
            expected = self.python(*inputs)
        try:
            with self.watched.trial(inputs):
                found = self(inputs)
        except Exception as error:  # whatever generated code may raise
            return f"its native code fails: {str(error).splitlines()[:1]}"
        tolerance = _TOLERANCE.get(expected[0].dtype, 5e-2)
        if torch.is_autocast_enabled(expected[0].device.type):
            tolerance = 5e-2
        if not expected[0].isfinite():
            return None if not found[0].isfinite() else "the loss is not finite in eager only"
        off = float((expected[0] - found[0]).abs())
        if not off <= tolerance * (1 + float(expected[0].abs())):
            return (
                f"its loss is {float(found[0]):.7g} nats per row compiled, {float(expected[0]):.7g} in eager"
            )
        largest = max((float(g.abs().max()) for g in expected[2:] if g.numel()), default=0.0)
        if not all(bool(g.isfinite().all()) for g in expected[2:]):
            return None  # the step itself says so
        for one, other in zip(expected[2:], found[2:], strict=True):
            if one.numel() and not float((one - other).abs().max()) <= tolerance * largest:
                return "its gradients are others compiled than in eager"
        return None

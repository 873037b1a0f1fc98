"""``Step``: one training step as a function of tensors, in Python and as native code that is compared with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro.infer import ELBO as PyroELBO

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.adam_kernels import norms_of
from pyro_lfm.inference.engines.eager import Eager, gradients_of, laid_out_as
from pyro_lfm.inference.engines.engine import bound_parts
from pyro_lfm.inference.engines.exits import record
from pyro_lfm.inference.engines.plain_function import plain_function
from pyro_lfm.inference.engines.recorder import nan_if_refused
from pyro_lfm.inference.engines.watched import Watched
from pyro_lfm.objectives import Objective

# How far a loss may differ, relative to itself, and a gradient, relative to the largest one.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 2e-4}
# Entries of a gradient on a CPU from which torch's own norm is faster than that of native code.
_LARGE = 2**14
# How often native code may be made anew after a change, before eager is cheaper.
_REBUILDS = 2
# The same for recordings, which cost less.
_RECORDINGS = 10

# A step, its graph and the inputs of the graph, to native code. It raises NotRecordable where it cannot.
Compiler = Callable[["Step", torch.fx.GraphModule, Sequence[torch.Tensor]], tracing.Function]


def inductor(step: Step, graph: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]) -> tracing.Function:
    """Native code by torch's own compiler."""
    return tracing.native(graph, inputs)


def replayed(step: Step, graph: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]) -> tracing.Function:
    """The operations one after the other, as eager does them, without the programs and autograd."""
    return plain_function(graph)


class Step:
    """The step of one batch size and part as a function of tensors: in Python, and as native code.

    Inputs: the rows of every name, their numbers, the weights of the objective's terms, the rows of every PerRow table.
    Outputs: the loss per row, [bound, reconstruction, KL, 1], and the gradients of the parameters and of the tables' rows.
    Native code gives as well, after the loss, whether all is finite but for the ``large`` gradients. Where it is not, the
    bound and the 1 are zeros.

    Attributes:
        large: the numbers of the gradients, among those that are given, that ``all_finite`` has to look at.
    """

    def __init__(
        self,
        eager: Eager,
        names: Sequence[str],
        objective: PyroELBO,
        part: str,
        compilers: Sequence[Compiler] = (inductor,),
    ):
        self.compilers = (*compilers,)
        self.eager, self.setup, self.names, self.objective = eager, eager.setup, names, objective
        trained = eager.trained(part)
        # The batch's rows of every table are inputs; those of some tables are trained.
        self.tables = eager.tables
        self.learned = [t for t in eager.tables if any(t.rows is p for p in trained)]
        rows = {id(table.rows) for table in eager.tables}
        self.parameters = [p for p in trained if id(p) not in rows]
        self.watched = Watched(eager.setup, objective)
        self._on_cpu = self.setup.model.device.type == "cpu"
        # Whether the native code is that of the programs as they are now.
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
            # Tensors, so that the native code follows a weight that changes.
            objective = objective.weighted(dict(zip(objective.weights, weights.unbind(), strict=False)))
        for table, rows in zip(self.tables, gathered, strict=True):
            table.gathered = rows.detach().requires_grad_(table in self.learned)
        leaves: list[Any] = [table.gathered for table in self.learned]
        try:
            loss = self.eager.loss(batch, objective)
            wanted = [*self.parameters, *leaves]
            all_gradients = gradients_of(loss / batch.total_weight, wanted)
        finally:
            for table in self.tables:
                table.gathered = None
        self.used = [k for k, gradient in enumerate(all_gradients) if gradient is not None]
        gradients = [laid_out_as(all_gradients[k], wanted[k]).detach() for k in self.used]
        least = 0 if self.compilers == (replayed,) else _LARGE
        self.large = [k for k, g in enumerate(gradients) if self._on_cpu and g.numel() > least]
        parts = bound_parts(objective, loss, batch.total_weight)
        return [(loss / batch.total_weight).detach(), parts, *gradients]

    def build(self, inputs: Sequence[torch.Tensor]) -> None:
        """Records the programs, and makes native code of the graph unless there is code of the same graph.

        Raises:
            NotRecordable: the programs cannot be recorded, or change again and again.
        """
        # In another order than in the batch: a graph that depends on values then fails the comparison on the batch.
        trial = [*(value.flip(0) for value in inputs[: len(self.names) + 1]), inputs[len(self.names) + 1]]
        trial += [rows.flip(0) for rows in inputs[len(self.names) + 2 :]]
        with self.watched.trial():
            graph, external = record(self.python, trial, self._checked)
        if self.watched.left_behind(external):
            raise tracing.NotRecordable("it reads a tensor that the previous run left")
        form = [_form(graph, external), self.used]
        self.recordings += 1
        self.external = external
        self.refresh()
        if form != self._form:
            self.rebuilt += self._form is not None
            if self.rebuilt > _REBUILDS or self.recordings > _RECORDINGS:
                raise tracing.NotRecordable(f"{self.changed} changes again and again")
            self._form = form
            with self.watched.trial():
                self.native = self._compiled(graph, [*inputs, *self.known])

    def _compiled(self, graph: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]) -> tracing.Function:
        """Native code by the first compiler that can make it."""
        reasons = []
        for compiler in self.compilers:
            try:
                return compiler(self, graph, inputs)
            except tracing.NotRecordable as error:
                reasons.append(str(error))
        raise tracing.NotRecordable("; ".join(reasons))

    @property
    def moved(self) -> tuple[int, ...]:
        """The parameters that the optimizer's kernel may update, by id; tables have an optimizer of their own."""
        return () if self.learned else tuple(id(self.parameters[k]) for k in self.used)

    def _checked(
        self, accepted: torch.Tensor | None, loss: torch.Tensor, parts: torch.Tensor, *gradients: torch.Tensor
    ) -> list[torch.Tensor]:
        """The outputs of native code. It tests what ``check_finite`` tests, and that no distribution refuses parameters."""
        loss, *_ = nan_if_refused(accepted, loss)
        small = (g.square().sum() for k, g in enumerate(gradients) if k not in self.large)
        finite = sum(small, loss).isfinite()
        # Where Python waits for each step, it gives the zeros itself.
        return [loss, finite, parts if self._on_cpu else torch.where(finite, parts, 0.0), *gradients]

    def all_finite(self, finite: torch.Tensor, gradients: Sequence[torch.Tensor]) -> bool:
        """Whether loss and gradients are finite, given what native code says of it."""
        norms = norms_of([gradients[k] for k in self.large]) if self.large else ()
        return bool(finite) and (not norms or math.isfinite(sum(torch.stack([*norms]).tolist())))

    def suspect(self) -> bool:
        """Whether a value that the programs read has changed, so that a run must be watched again."""
        if (changed := self.watched.difference()) is not None:
            self.changed, self.recorded, self.watched.settled = changed, False, False
        return changed is not None

    def refresh(self) -> None:
        """Takes the tensors that the graph reads again: a parameter may lie elsewhere in memory than before."""
        self.known = [value.detach() for value in self.external]

    def __call__(self, inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        with torch.no_grad():
            return self.native(*inputs, *self.known)

    def difference(self, inputs: Sequence[torch.Tensor]) -> str | None:
        """How native code and programs differ on the same noise, in words; None if they agree."""
        with self.watched.trial(inputs):
            expected = self.python(*inputs)
        try:
            with self.watched.trial(inputs):
                native = self(inputs)
        except Exception as error:  # whatever generated code may raise
            return f"its native code fails: {str(error).splitlines()[:1]}"
        native = [native[0], *native[2:]]
        tolerance = _TOLERANCE.get(expected[0].dtype, 5e-2)
        if torch.is_autocast_enabled(expected[0].device.type):
            tolerance = 5e-2
        if not expected[0].isfinite():
            return None if not native[0].isfinite() else "the loss is not finite in eager only"
        off = float((expected[0] - native[0]).abs())
        if not off <= tolerance * (1 + float(expected[0].abs())):
            return (
                f"its loss is {float(native[0]):.7g} nats per row compiled, {float(expected[0]):.7g} in eager"
            )
        largest = max((float(g.abs().max()) for g in expected[2:] if g.numel()), default=0.0)
        if not all(bool(g.isfinite().all()) for g in expected[2:]):
            return None  # the step itself is skipped
        for one, other in zip(expected[2:], native[2:], strict=True):
            if one.numel() and not float((one - other).abs().max()) <= tolerance * largest:
                return "its gradients are others compiled than in eager"
        return None


def _form(graph: torch.fx.GraphModule, external: Sequence[torch.Tensor]) -> list[Any]:
    """The operations of a graph and the types of its tensors: two graphs of equal form compute the same."""
    literals = [getattr(graph, node.target) for node in graph.graph.nodes if node.op == "get_attr"]
    return [
        str(graph.code),
        [(t.dtype, t.device, t.shape, t.stride()) for t in external],
        [(value.dtype, str(value.tolist())) for value in literals],
    ]

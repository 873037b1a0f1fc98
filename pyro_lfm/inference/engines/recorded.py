"""A step as a function of tensors: as Python, recorded, and as native code that is held against the Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.eager import Eager, laid_out_as
from pyro_lfm.inference.engines.engine import Setup, told
from pyro_lfm.inference.engines.fingerprint import Held, changes, fingerprint, is_plain, plain_values
from pyro_lfm.objectives import Objective

# How far a loss may be off, relative to itself, and a gradient, relative to the largest.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 2e-4}


class Step:
    """The step of one batch size and part as a function of tensors: as Python, and as native code.

    Its inputs are the rows of every name, their numbers, the weights of the objective's terms, the rows of every table;
    its outputs the loss per row, [bound, reconstruction, KL], and the gradients of the parameters and of the tables' rows.
    """

    def __init__(self, eager: Eager, names: Sequence[str], objective: Any, part: str):
        self.setup, self.names, self.objective = eager.setup, names, objective
        self.tables = [t for t in eager.tables if any(t.rows is p for p in eager.parts[part])]
        rows = {id(table.rows) for table in eager.tables}
        self.parameters = [p for p in eager.parts[part] if id(p) not in rows]
        self.compared_at = 0
        self.rebuilt = 0
        self.volatile: set[str] = set()

    def python(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """The step by running the programs."""
        data, (index, weights, *gathered) = inputs[: len(self.names)], inputs[len(self.names) :]
        batch = self.setup.batch(dict(zip(self.names, data, strict=True)), index)
        objective = self.objective
        if isinstance(objective, Objective):
            # As tensors, so that a weight that changes is followed.
            objective = objective.weighted(dict(zip(objective.weights, weights, strict=False)))
        leaves = [rows.detach().requires_grad_() for rows in gathered]
        for table, leaf in zip(self.tables, leaves, strict=True):
            table.gathered = leaf
        try:
            loss = Eager.loss(self.setup, batch, objective)
            wanted = [*self.parameters, *leaves]
            found = torch.autograd.grad(loss / batch.total, wanted, allow_unused=True)
        finally:
            for table in self.tables:
                table.gathered = None
        self.used = [k for k, gradient in enumerate(found) if gradient is not None]
        gradients = [laid_out_as(found[k], wanted[k]).detach() for k in self.used]
        return [(loss / batch.total).detach(), told(objective, loss, batch.total), *gradients]

    def build(self, inputs: Sequence[torch.Tensor]) -> None:
        """Makes the native code.

        Raises:
            NotRecordable: the programs cannot be recorded.
        """
        self._settle(inputs)
        # In another order than the batch at hand: what hangs on values is found by the comparison on that.
        trial = [*(value.flip(0) for value in inputs[: len(self.names) + 1]), inputs[len(self.names) + 1]]
        trial += [rows.flip(0) for rows in inputs[len(self.names) + 2 :]]
        with rewound(self.setup):
            graph, self.external = tracing.record(self.python, trial)
        self.refresh()
        with rewound(self.setup):
            self._native = tracing.native(graph, [*inputs, *self.known])
        self.seen = self.fingerprint()
        # Who are moved by a kernel of the optimizer's; tables have their own.
        self.moved = () if self.tables else tuple(id(self.parameters[k]) for k in self.used)

    def _settle(self, inputs: Sequence[torch.Tensor]) -> None:
        """Runs the programs, so that what they make at their first run is made; none may change itself at each run.

        A tensor that is another after each run, such as one that is kept for a later part of the same run, is not
        looked at: were it read by the next run, native code would give other numbers.
        """
        found: list[str] = []
        for _ in range(2):
            with rewound(self.setup):
                before = self.fingerprint()
                self.python(*inputs)
                after = self.fingerprint()
            found = changes(before, after)
            kept = {path for path in found if isinstance(after.get(path), Held)}
            self.volatile |= kept
            found = [path for path in found if path not in kept]
            if not found:
                return
        raise tracing.NotRecordable(f"it changes {self.named(found[0])} whenever it runs")

    def fingerprint(self) -> dict[str, Any]:
        inner = [part for part in vars(self.objective).values() if isinstance(part, Objective)]
        found = fingerprint(*self.setup.programs, self.objective, *inner)
        # Weights are inputs, and may change; ``volatile`` is what every run makes anew.
        inputs = self.objective.weights if isinstance(self.objective, Objective) else ()
        for path in list(found):
            number, _, name = path.partition(".")
            weight = number not in "01" and name.removeprefix("_weights.") in inputs
            if weight or path in self.volatile:
                del found[path]
        return {**found, "autocast": torch.is_autocast_enabled(self.setup.model.device.type)}

    def named(self, path: str | None) -> str:
        kind, _, rest = (path or "").partition(".")
        return f"{('model', 'guide')[int(kind)]}.{rest}" if kind in ("0", "1") else str(path)

    def refresh(self) -> None:
        """Looks at the tensors that it reads anew: a parameter may have other memory than before."""
        self.known = [value.detach() for value in self.external]

    def __call__(self, inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        with torch.no_grad():
            return self._native(*inputs, *self.known)

    def difference(self, inputs: Sequence[torch.Tensor]) -> str | None:
        """How native code and programs differ on the same noise, in words; None where they agree."""
        with rewound(self.setup):
            expected = self.python(*inputs)
        try:
            with rewound(self.setup):
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


@contextmanager
def rewound(setup: Setup) -> Iterator[None]:
    """Puts random states, the programs' buffers and their plain values back, as if what was done had not been."""
    device = setup.model.device
    buffers = [(b, b.clone()) for program in setup.programs for b in program.buffers()]
    values = plain_values(*setup.programs)
    others = tracing.others_random()
    random = torch.get_rng_state()
    random_there = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        torch.set_rng_state(random)
        if random_there is not None:
            torch.cuda.set_rng_state(random_there, device)
        tracing.restore_others_random(others)
        for buffer, value in buffers:
            buffer.copy_(value)
        for attributes, before in values:
            attributes.update({n: v for n, v in before.items() if is_plain(attributes.get(n))})

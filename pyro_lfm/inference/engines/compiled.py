"""The compiled step: the programs are run once, what they compute is recorded, and native code does it from then on.

Nothing is taken on trust. The native function must give what the programs give on the same noise, when it is made and
time and again; where it does not, or where a program cannot be recorded, training goes on in eager and says why.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pyro_lfm.errors import CompilationWarning
from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.eager import Eager, laid_out_as
from pyro_lfm.inference.engines.engine import Engine, Setup, told
from pyro_lfm.inference.engines.fingerprint import changed, fingerprint, is_plain, plain_values
from pyro_lfm.inference.failure import NotFinite
from pyro_lfm.objectives import ELBO

LOG = logging.getLogger("pyro_lfm")

# Steps between two comparisons with the programs: one costs about as much as ten compiled steps.
_COMPARE_EVERY = 1000
# Seconds between two looks at the programs' plain values, which nobody should have changed.
_LOOK_SECONDS = 0.1
# On a GPU, steps between two looks at the loss, for which it must be waited.
_LOOK_EVERY = 50
# How far a loss may be off, relative to itself, and a gradient, relative to the largest.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 2e-4}
# Channels from which a convolution is faster with channels last.
_WIDE = 32
# How often the programs' plain values may change before it is cheaper to stay with eager.
_REBUILDS = 2


class Step:
    """The step of one batch size and part as a function of tensors: as Python, and as native code.

    Its inputs are the rows of every name, their numbers, the weight of the KL, the rows of every table; its outputs
    the loss per row, [bound, reconstruction, KL], and the gradients of the parameters and of the tables' rows.
    """

    def __init__(self, engine: Compiled, names: Sequence[str], objective: Any, part: str):
        self.setup, self.names, self.objective = engine.setup, names, objective
        self.tables = [t for t in engine.eager.tables if any(t.rows is p for p in engine.eager.parts[part])]
        rows = {id(table.rows) for table in engine.eager.tables}
        self.parameters = [p for p in engine.eager.parts[part] if id(p) not in rows]
        self.compared_at = 0
        self.rebuilt = 0

    def python(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """The step by running the programs."""
        data, (index, weight, *gathered) = inputs[: len(self.names)], inputs[len(self.names) :]
        batch = self.setup.batch(dict(zip(self.names, data, strict=True)), index)
        objective = self.objective
        if isinstance(objective, ELBO):
            # As a tensor, so that a weight that changes is followed.
            objective = objective.weighted(weight)
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

    def _settle(self, inputs: Sequence[torch.Tensor]) -> None:
        """Runs the programs, so that what they make at their first run is made; none may change itself at each run."""
        path = None
        for _ in range(2):
            with rewound(self.setup):
                before = self.fingerprint()
                self.python(*inputs)
                path = changed(before, self.fingerprint())
            if path is None:
                return
        raise tracing.NotRecordable(f"it changes {self.named(path)} whenever it runs")

    def fingerprint(self) -> dict[str, Any]:
        objective = {n: v for n, v in vars(self.objective).items() if n not in ("kl_weight", "last")}
        autocast = torch.is_autocast_enabled(self.setup.model.device.type)
        return {**fingerprint(*self.setup.programs), **objective, "autocast": autocast}

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
        with rewound(self.setup):
            found = self(inputs)
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


class Compiled(Engine):
    """Steps by native code where it is the same, in eager where it is not.

    Args:
        setup: what is fitted.
        sizes: the batch sizes that are compiled, one function each; others are done in eager.
        after: so many first steps are eager, so that nobody waits for the compiler before something has been done.
        insist: whether a program that cannot be compiled is worth a warning, or only a line in the log.
    """

    def __init__(self, setup: Setup, sizes: frozenset[int], after: int = 0, insist: bool = True):
        self.setup, self.sizes, self.after, self.insist = setup, sizes, after, insist
        _channels_last(setup)
        self.eager = Eager(setup)
        self.weight = torch.ones((), dtype=setup.model.dtype, device=setup.model.device)
        self._kl_weight = 1.0
        self.steps: dict[tuple[int, str], Step | None] = {}
        self.kernels: dict[tuple[int, ...], Any] = {}
        self.number = 0
        self._index: torch.Tensor | None = None
        self._suspect, self._looked = False, time.monotonic()
        self._look = 1 if setup.model.device.type == "cpu" else _LOOK_EVERY

    @contextmanager
    def session(self) -> Iterator[None]:
        with super().session():
            if self._suspect or time.monotonic() - self._looked > _LOOK_SECONDS:
                self._look_again()
            self._index = None
            yield
            if self._index is not None and (broken := self._broken()) is not None:
                raise NotFinite(broken, self._index)

    def step(
        self, rows: dict[str, torch.Tensor], index: torch.Tensor, objective: Any, rate: float, part: str
    ) -> torch.Tensor:
        self.number += 1
        key = len(index), part
        if self.number <= self.after or key[0] not in self.sizes or self.steps.get(key, True) is None:
            return self.eager.step(rows, index, objective, rate, part)
        kl_weight = getattr(objective, "kl_weight", 1.0)
        if kl_weight != self._kl_weight:
            self._kl_weight = kl_weight
            self.weight.fill_(kl_weight)
        step = self.steps.get(key) or Step(self, [*rows], objective, part)
        gathered = [table.rows.detach().index_select(0, index) for table in step.tables]
        inputs = [*rows.values(), index, self.weight, *gathered]
        if not self._ready(key, step, inputs, objective):
            return self.eager.step(rows, index, objective, rate, part)
        loss, parts, *gradients = step(inputs)
        if self.number % self._look == 0 and not math.isfinite(loss):
            self._fail(rows, index, objective, part)
        self.eager.set_rate(rate)
        self._update(step, index, gradients)
        self._index = index
        return parts

    def suspect(self) -> None:
        self._suspect = True

    def _look_again(self) -> None:
        """Whether the programs' plain values or the parameters' memory have changed."""
        self._suspect, self._looked = False, time.monotonic()
        self.kernels.clear()
        for step in filter(None, self.steps.values()):
            step.refresh()
            if changed(step.seen, step.fingerprint()):
                step.compared_at = -_COMPARE_EVERY

    def _ready(self, key: tuple[int, str], step: Step, inputs: list[torch.Tensor], objective: Any) -> bool:
        """Whether the native code can be used for this step: builds it, and compares it when it is time to."""
        new = key not in self.steps
        if not new and self.number - step.compared_at < _COMPARE_EVERY:
            return True
        step.objective = objective
        try:
            if new:
                step.build(inputs)
                self.steps[key] = step
            reason = step.difference(inputs)
            if reason and (path := changed(step.seen, step.fingerprint())):
                step.rebuilt += 1
                if step.rebuilt > _REBUILDS:
                    raise tracing.NotRecordable(f"{step.named(path)} changes again and again; {reason}")
                step.build(inputs)
                reason = step.difference(inputs)
            if reason:
                raise tracing.NotRecordable(reason)
        except tracing.NotRecordable as error:
            self.steps[key] = None
            self._say(f"the step cannot be compiled and is done in eager: {error}")
            return False
        # Twice at the beginning, then at intervals.
        step.compared_at = self.number - (_COMPARE_EVERY - 1 if new else 0)
        step.seen = step.fingerprint()
        return True

    def _say(self, message: str) -> None:
        LOG.info(message)
        if self.insist:
            warnings.warn(message, CompilationWarning, stacklevel=2)
            self.insist = False

    def _update(self, step: Step, index: torch.Tensor, gradients: list[torch.Tensor]) -> None:
        """The optimizers' step."""
        moved = () if step.tables else tuple(id(step.parameters[k]) for k in step.used)
        if (kernel := self.kernels.get(moved)) is not None:
            kernel(gradients)
            return
        count = len(step.parameters)
        for k, gradient in zip(step.used, gradients, strict=True):
            if k < count:
                step.parameters[k].grad = gradient
            else:
                rows = step.tables[k - count].rows
                rows.grad = torch.sparse_coo_tensor(index[None], gradient, rows.shape, check_invariants=False)
        for optimizer in self.eager.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        # A kernel counts its own parameters' steps: no parameter may belong to two.
        if moved and not any(set(moved) & set(others) for others in self.kernels):
            parameters = [step.parameters[k] for k in step.used]
            self.kernels[moved] = tracing.adam_kernel(self.eager.optimizers[0], parameters)

    def _broken(self) -> torch.nn.Parameter | None:
        """The first parameter that is not finite."""
        with torch.no_grad():
            sums = torch.stack([p.sum() for p in self.eager.parts["both"]])
        if bool(sums.sum().isfinite()):
            return None
        return next((p for p in self.eager.parts["both"] if not bool(p.isfinite().all())), None)

    def _fail(self, rows: dict[str, torch.Tensor], index: torch.Tensor, objective: Any, part: str) -> None:
        """A loss is not finite: either the step before broke a parameter, or eager can say what is wrong."""
        if (broken := self._broken()) is not None:
            raise NotFinite(broken, self._index)
        self.eager.gradients(self.setup.batch(rows, index), objective, self.eager.parts[part])
        raise NotFinite(None)

    def state(self) -> dict[str, Any]:
        return self.eager.state()

    def load(self, state: dict[str, Any]) -> None:
        self.eager.load(state)

    def close(self) -> None:
        self.eager.close()


def _channels_last(setup: Setup) -> None:
    """Lays out the weights of wide convolutions with channels last, for which native code is faster."""
    modules: list[Any] = [module for program in setup.programs for module in program.modules()]
    for module in modules:
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            if max(module.in_channels, module.out_channels) >= _WIDE:
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


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

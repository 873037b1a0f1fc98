"""``Watched``: the values that programs read beside their inputs, watched between runs and put back after trial runs."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import starmap
from typing import Any, TypeAlias

import numpy as np
import torch
from pyro.infer import ELBO as PyroELBO

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.engine import Setup
from pyro_lfm.inference.engines.heap import Heap
from pyro_lfm.inference.engines.nodes import Node
from pyro_lfm.inference.engines.places import Names, Place, State, Value
from pyro_lfm.inference.engines.reads import ReadNames, Reads
from pyro_lfm.objectives import Objective

# If each of so many runs ran code that the earlier ones had not, the next ones are expected to do the same.
_RUNS = 10
_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}


# A pyro.infer.ELBO, or a function of a batch.
Watchable: TypeAlias = PyroELBO | Callable[..., torch.Tensor]


class Watched:
    """The programs of a fit, and the values that a run of them may read.

    Runs are watched until one runs no code that is new. That run shows whether a run changes a value that the next one may
    read. Programs that do so are never run for trial.

    Attributes:
        settled: whether such a run was seen, and changed nothing.
        reason: why the programs cannot be recorded, in words; None where they can.
        objective: the objective, or the function of a batch, of the last run.
    """

    def __init__(self, setup: Setup, objective: Watchable | None = None):
        self.setup, self.objective = setup, objective
        self.settled = False
        self.reason: str | None = None
        self._reads, self._runs = Reads(), 0
        self._heap: Heap | None = None
        self._passing: set[int] = set()

    @contextmanager
    def run(self, objective: Watchable | None = None) -> Iterator[None]:
        """The context of a run whose result is used."""
        self.objective = objective
        heap = self._reach()
        with self._reads.watching():
            yield
        self._runs += 1
        if self._reads.new:
            if self._runs > _RUNS:
                self.reason = "every run of it runs other code"
            return
        self.reason = self._reads.outside or heap.doubt
        self._passing = heap.passing()
        if self.reason is None and (changed := heap.difference(running=True)) is not None:
            self.reason = changed
        self.settled, self._heap, self._runs = self.reason is None, heap, 0

    def difference(self) -> str | None:
        """The path of a value that has changed since the programs settled; None where none has."""
        return None if self._heap is None else self._heap.difference()

    def left_behind(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether one of these tensors is one that each run makes anew."""
        return any(id(tensor) in self._passing for tensor in tensors)

    def confirm(self, again: Callable[[], torch.Tensor], inputs: Sequence[torch.Tensor] = ()) -> None:
        """Runs the programs again until they settle, if all that they reach can be put back after each run."""
        while not self.settled and self.reason is None and self._run_for_trial(again, inputs):
            pass

    def rehearse(
        self, again: Callable[[], torch.Tensor], inputs: Sequence[torch.Tensor], runs: int | None
    ) -> None:
        """Runs the programs again, as ``confirm``, but so many times, or until they settle where that is None."""
        if runs is None:
            self.confirm(again, inputs)
        for _ in range(runs or 0):
            if self.settled or self.reason is not None or not self._run_for_trial(again, inputs):
                break

    @property
    def runs(self) -> int | None:
        """The number of runs so far; None where the programs have settled, also if values have changed since."""
        return None if self._heap is not None else self._runs

    def _run_for_trial(self, again: Callable[[], torch.Tensor], inputs: Sequence[torch.Tensor]) -> bool:
        """Runs the programs while they are watched, if all that they reach can be put back. Whether that was done."""
        heap = self._reach()
        if heap.can_be_put_back:
            with self._kept(heap, inputs), self.run(self.objective):
                again()
        return heap.can_be_put_back

    def trial(self, inputs: Sequence[torch.Tensor] = ()) -> AbstractContextManager[None]:
        """The context of a trial run: puts back random states and all that the programs can reach."""
        assert self._heap is not None
        return self._kept(self._heap, inputs)

    @contextmanager
    def _kept(self, heap: Heap, inputs: Sequence[torch.Tensor]) -> Iterator[None]:
        device = self.setup.model.device
        before = [value.clone() for value in inputs]
        random = torch.get_rng_state()
        random_there = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        try:
            with heap.preserved():
                yield
        finally:
            torch.set_rng_state(random)
            if random_there is not None:
                torch.cuda.set_rng_state(random_there, device)
            for value, content in zip(inputs, before, strict=True):
                if not torch.equal(value, content):
                    value.copy_(content)

    def _reach(self) -> Heap:
        """All that the code that ran so far can reach."""
        reads, setup = self._reads, self.setup
        roots = [
            Node("model", setup.model),
            Node("guide", setup.guide),
            *starmap(Node, reads.imported.items()),
        ]
        roots += [Node(f"{f.__module__}.{f.__qualname__} {k}", f) for k, f in enumerate(reads.functions)]
        kind = setup.model.device.type
        settings = Value("settings", lambda: tracing.settings(kind), None)
        others = "Python's or NumPy's random numbers"
        python = State(others, random.getstate, random.setstate)
        numpy = State(others, np.random.get_state, np.random.set_state)
        objective = Value("objective", lambda: _held(self.objective), None)
        places: list[tuple[Place, list[Node]]] = [
            *((place, []) for place in (settings, python, numpy)),
            (objective, [*starmap(Node, objective.saved.items())]),
        ]
        for namespace, names in reads.modules.values():
            of_module = Node(str(namespace.get("__name__")), namespace)
            module = Names(of_module, ReadNames(names), whole=False)
            places.append((module, [Node(f"{module.path}.{n}", value) for n, value in module.saved.items()]))
        if reads.names is None or (reads.names | reads.methods) & _ENVIRONMENT:
            places.append((Value("os.environ", lambda: dict(os.environ), None), []))
        names_read = ReadNames(reads.names, reads.methods, reads.near)
        return Heap(roots, names_read, reads.written, {*reads.codes}, places)


def _held(objective: Watchable | None, path: str = "objective") -> dict[str, Any]:
    """The attributes of an objective, by path, but for its weights, which are inputs, and for what it keeps of runs.

    The objective of a moment is a copy of the declared one: its values count, not its identity.
    """
    if not isinstance(objective, Objective):
        return {path: objective}
    weights = objective.weights
    held: dict[str, Any] = {f"{path} class": type(objective)}
    for name, value in vars(objective).items():
        if name in weights or name == "_weights":
            continue
        if isinstance(value, Objective):
            held |= _held(value, f"{path}.{name}")
        else:
            held[f"{path}.{name}"] = value
    return held

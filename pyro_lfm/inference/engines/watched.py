"""What programs read beside their inputs: learned from runs that count, watched between runs, put back after trials."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.engine import Setup
from pyro_lfm.inference.engines.heap import Heap
from pyro_lfm.inference.engines.places import Names, Place, State, Value
from pyro_lfm.inference.engines.reads import Asked, Reads
from pyro_lfm.objectives import Objective

# After so many runs of which each ran code that those before it had not, programs are not expected to settle.
_RUNS = 10
_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}


class Watched:
    """The programs of a fit, and what a run of them may read.

    A run that counts is watched until one runs no code that those before it had not run. It has then been seen whether a
    run changes anything that the next one may read: programs that do are never run for trial.

    Attributes:
        settled: whether that is so.
        reason: why programs like these cannot be recorded, in words.
        objective: the one of the last run.
    """

    def __init__(self, setup: Setup, objective: Any = None):
        self.setup, self.objective = setup, objective
        self.settled = False
        self.reason: str | None = None
        self._reads, self._runs = Reads(), 0
        self._heap: Heap | None = None
        self._passing: set[int] = set()

    @contextmanager
    def run(self, objective: Any = None) -> Iterator[None]:
        """The time of a run that counts."""
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
        """The path of a value that has changed since they settled; None where none has."""
        return None if self._heap is None else self._heap.difference()

    def left_behind(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether one of these is what a run left for itself, and the next one would leave another."""
        return any(id(tensor) in self._passing for tensor in tensors)

    def confirm(self, again: Callable[[], Any], inputs: Sequence[torch.Tensor] = ()) -> None:
        """Runs the programs again, in place of runs that count, if all that they reach can be put back after it."""
        while not self.settled and self.reason is None and (heap := self._reach()).can_be_put_back:
            with self._kept(heap, inputs), self.run(self.objective):
                again()

    def trial(self, inputs: Sequence[torch.Tensor] = ()) -> AbstractContextManager[None]:
        """Puts back random states and all that the programs can reach, as if what is done had not been."""
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
        """What the code that ran so far can reach."""
        reads, setup = self._reads, self.setup
        roots: dict[str, Any] = {"model": setup.model, "guide": setup.guide, **reads.imported}
        roots |= {f"{f.__module__}.{f.__qualname__} {k}": f for k, f in enumerate(reads.functions)}
        kind = setup.model.device.type
        settings = Value("settings", lambda: tracing.settings(kind), None)
        drawn = State("Python's or NumPy's random numbers", _others_random, _restore_others_random)
        objective = Value("objective", lambda: _held(self.objective), None)
        places: list[tuple[Place, dict[str, Any]]] = [
            (settings, {}),
            (drawn, {}),
            (objective, objective.saved),
        ]
        for namespace, names in reads.modules.values():
            module = Names(str(namespace.get("__name__")), namespace, Asked(names), whole=False)
            places.append((module, {f"{module.path}.{name}": value for name, value in module.saved.items()}))
        if reads.names is None or (reads.names | reads.methods) & _ENVIRONMENT:
            places.append((Value("os.environ", lambda: dict(os.environ), None), {}))
        asked = Asked(reads.names, reads.methods, reads.near)
        return Heap(roots, asked, reads.written, {*reads.codes}, places)


def _held(objective: Any, path: str = "objective") -> dict[str, Any]:
    """What an objective holds, by path, but for its weights, which are inputs, and what it remembers of runs.

    An objective at a moment of the training is a copy: it is its values that count.
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


def _others_random() -> tuple[Any, Any]:
    """The state of the random numbers that are not torch's: Python's and NumPy's."""
    return random.getstate(), np.random.get_state(legacy=True)


def _restore_others_random(state: tuple[Any, Any]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])

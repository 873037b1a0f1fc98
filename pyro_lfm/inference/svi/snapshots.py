"""Copies of weights that training can return to: those before an epoch, and the best so far."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from math import inf, isnan
from typing import Any, TypedDict

import torch

from pyro_lfm.programs.program import Program


class Snapshot:
    """The weights and buffers of model and guide at one moment."""

    def __init__(self, *programs: Program):
        self.programs = programs
        self.states = [
            {
                # Another object than a tensor is one that a module's ``get_extra_state`` gives.
                name: value.detach().clone() if isinstance(value, torch.Tensor) else copy.deepcopy(value)
                for name, value in program.state_dict().items()
            }
            for program in programs
        ]

    def restore(self) -> None:
        for program, state in zip(self.programs, self.states, strict=True):
            program.load_state_dict(state, strict=False)

    def broken(self) -> str | None:
        """The name of a parameter that was finite at that moment and is not now."""
        for kind, program, state in zip(("model", "guide"), self.programs, self.states, strict=True):
            for name, parameter in program.named_parameters():
                if (
                    not bool(parameter.isfinite().all())
                    and name in state
                    and bool(state[name].isfinite().all())
                ):
                    return f"{kind}.{name}"
        return None


class BestState(TypedDict):
    """What a checkpoint keeps of ``Best``."""

    weights: list[dict[str, Any]]
    bound: float
    epochs_since: int


class Best:
    """The weights after the epoch with the highest validation bound (training bound, without validation rows)."""

    def __init__(self, *programs: Program):
        self.programs, self.weights = programs, Snapshot(*programs)
        self.bound, self.epochs_since = -inf, 0

    def update(self, record: Mapping[str, float]) -> None:
        """Takes the weights of the epoch of this record if its bound is the highest so far."""
        validation = record["validation_bound"]
        bound = record["bound"] if isnan(validation) else validation
        self.epochs_since += 1
        if bound > self.bound:
            self.weights, self.bound, self.epochs_since = Snapshot(*self.programs), bound, 0

    def exhausted(self, patience: int | None) -> bool:
        return patience is not None and self.epochs_since >= patience

    def restore(self) -> None:
        if self.epochs_since:
            self.weights.restore()

    def state(self) -> BestState:
        return {"weights": self.weights.states, "bound": self.bound, "epochs_since": self.epochs_since}

    def load(self, state: BestState) -> None:
        self.weights.states = state["weights"]
        self.bound, self.epochs_since = state["bound"], state["epochs_since"]

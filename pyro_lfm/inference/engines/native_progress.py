"""What the compiled engine has done so far, as a checkpoint keeps it, so that native code does the same steps after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from pyro_lfm.inference.engines.recorded_step import Step
from pyro_lfm.inference.svi.optimizer_states import StepState

# The batch size, the part that is trained, and the number of the set of trained parameters.
Key = tuple[int, str, int]


def states_of_steps(steps: Mapping[Key, Step | None], waiting: Mapping[Key, StepState]) -> list[StepState]:
    """The state of each step.

    Args:
        steps: the steps by key; None where one is done in eager for good.
        waiting: the states of steps that the fit has not needed since it went on.
    """
    return [*waiting.values(), *(_state_of(key, step) for key, step in steps.items() if key not in waiting)]


def rehearse(
    step: Step, earlier: StepState, run: Callable[[], torch.Tensor], inputs: Sequence[torch.Tensor]
) -> None:
    """Brings a new step to where the same one was before an interruption, by trial runs that change nothing.

    The watch must have seen all code of the programs: so the next step is recorded, or watched, as it would have been.

    Args:
        run: runs the programs on some inputs, as a step does, and moves nothing.
    """
    step.watched.rehearse(run, inputs, earlier["runs"])
    step.watched.settled = step.watched.settled and earlier["settled"]
    restore_counts(step, earlier)


def restore_counts(step: Step, earlier: StepState) -> None:
    """Sets when a step was compared with the programs, and how often it was made."""
    step.compared_at, step.rebuilt = earlier["compared_at"], earlier["rebuilt"]
    step.recordings = earlier["recordings"]


def _state_of(key: Key, step: Step | None) -> StepState:
    return {
        "key": key,
        "given_up": step is None,
        "settled": step is not None and step.watched.settled,
        "recorded": step is not None and step.recorded,
        "runs": None if step is None else step.watched.runs,
        "compared_at": 0 if step is None else step.compared_at,
        "rebuilt": 0 if step is None else step.rebuilt,
        "recordings": 0 if step is None else step.recordings,
    }

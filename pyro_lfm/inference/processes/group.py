"""``Processes``, those that train one fit together: what they add up, what one tells the others, and how it goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist

from pyro_lfm.data.shares import Share
from pyro_lfm.errors import TrainingError

T = TypeVar("T")

_GONE = (
    "another process of this fit has ended, or does not answer: a fit ends when one of its processes does, and that one's "
    "own message says why, unless it was killed. With checkpoint= the same call, of any number of processes, goes on"
)


class Processes:
    """The processes that share the batches of a fit; one process alone needs no group.

    Args:
        rank: the number of this process, 0 to size − 1. size: how many there are.
        control: the group, of the gloo backend, through which objects go.
        gradients: the group through which tensors of a GPU go; ``control`` by default.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        control: dist.ProcessGroup | None = None,
        gradients: dist.ProcessGroup | None = None,
    ):
        self.rank, self.size = rank, size
        self._control, self._gradients = control, gradients

    @property
    def several(self) -> bool:
        return self.size > 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes, shows and calls back."""
        return self.rank == 0

    def share(self, size: int) -> Share:
        """The own share of a batch of so many rows."""
        return Share.of(size, self.rank, self.size, self.summed)

    def summed(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes, the same number for number in each."""
        if not self.several:
            return value
        total = value.detach().clone()
        with _in_words():
            dist.all_reduce(total, group=self._group_of(total))
        return total

    def all(self, value: T) -> list[T]:
        """The value of each process, by rank."""
        if not self.several:
            return [value]
        values: list[Any] = [None] * self.size
        with _in_words():
            dist.all_gather_object(values, value, group=self._control)
        return values

    def first(self, function: Callable[[], T]) -> T:
        """What a function gives in the first process, or the error that it raises there, in all processes."""
        if not self.several:
            return function()
        outcome: list[Any] = [None, None]
        failure: Exception | None = None
        if self.is_first:
            try:
                outcome = [function(), None]
            except Exception as error:  # whatever a callback raises
                failure, outcome = error, [None, _portable(error)]
        with _in_words():
            dist.broadcast_object_list(outcome, group_src=0, group=self._control)
        if failure is not None:
            raise failure
        if outcome[1] is not None:
            raise outcome[1]
        result: T = outcome[0]
        return result

    def take_tensors_of_first(self, tensors: list[torch.Tensor]) -> None:
        """Gives tensors the values that they have in the first process, in place."""
        for tensor in tensors if self.several else ():
            with _in_words(), torch.no_grad():
                there = tensor.detach().contiguous()
                dist.broadcast(there, group_src=0, group=self._group_of(there))
                tensor.copy_(there)

    def _group_of(self, value: torch.Tensor) -> dist.ProcessGroup | None:
        return self._gradients if value.is_cuda and self._gradients is not None else self._control

    def together(self) -> None:
        """Waits until all processes are here."""
        self.all(None)


def _portable(error: Exception) -> Exception:
    """An error that can be sent to the other processes: the library's own, or words of it."""
    if type(error).__module__.partition(".")[0] == "pyro_lfm":
        return error
    return TrainingError(f"the first process of the fit has failed: {type(error).__name__}: {error}")


@contextmanager
def _in_words() -> Iterator[None]:
    """Turns the error of a broken connection into one in words."""
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    lines = str(error).strip().splitlines()
    raise TrainingError(f"{_GONE} ({lines[0][:160] if lines else type(error).__name__})") from None

"""``GradientSums``: the one sum over processes of a step: gradients, the bound, and how the step went."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor, nn

from pyro_lfm.data.shares import Share
from pyro_lfm.errors import TrainingError
from pyro_lfm.inference.engines.engine import Setup
from pyro_lfm.inference.processes.group import Processes
from pyro_lfm.inference.svi.failure import NotFinite, of_numbers_not_finite
from pyro_lfm.inference.svi.interruption import Signals
from pyro_lfm.runtime import Stream

Gradients = list[tuple[nn.Parameter, Tensor | None]]

# The first numbers of the sum: processes that failed, that got SIGINT, that got SIGTERM; the loss; the parts of the bound.
_FAILED, _SIGINT, _SIGTERM, _LOSS, _PARTS = 0, 1, 2, 3, slice(4, 8)
_HEAD = 8
_SIGNALS = {"SIGINT": _SIGINT, "SIGTERM": _SIGTERM}
# Checksums of random states are below this, so that single precision holds them.
_CHECKSUMS = 2**24


class GradientSums:
    """Adds up in one flat tensor what the processes computed of their shares of a batch.

    Where the objective sums over processes inside of a step, every sum is announced by one number. So a process that fails
    can tell the others at the next sum, whichever it is.

    Args:
        setup: of the engine. processes: those of the fit.
        signals: a signal that one process has got counts for all, from the step on in which they know of it.
        tables: the PerRow tables, of which only the rows of the batch have gradients.
        announced: whether there are sums inside of a step.
    """

    def __init__(
        self,
        setup: Setup,
        processes: Processes,
        signals: Signals,
        tables: Sequence[nn.Parameter],
        announced: bool,
    ):
        self.setup, self.processes, self.signals, self.announced = setup, processes, signals, announced
        self.tables = {id(table) for table in tables}

    def of(
        self, share: Share, index: Tensor, loss: Tensor, gradients: Gradients, parts: Tensor
    ) -> tuple[Tensor, Gradients, Tensor]:
        """The loss, its gradients and the parts of the bound of the whole batch, the same in all processes.

        Args:
            share: the own rows of the batch. index: the numbers of all its rows, (B,).
            loss, gradients, parts: of the own rows.

        Raises:
            NotFinite, TrainingError: another process has failed; each raises an error of its own.
        """
        flat, places = self._flat([p for p, _ in gradients], len(index))
        flat[_LOSS] = share.weighted(loss)
        # NaN of parts that the objective does not keep stays NaN.
        flat[_PARTS] = share.weighted(parts)
        for k, (parameter, gradient) in enumerate(gradients):
            if gradient is not None:
                flat[self._head + k] = 1
                self._put(flat[places[k]], share, index, parameter, share.weighted(gradient))
        try:
            total = self.inside(flat)
        except _FailedElsewhere:
            self._raise(None)
        head = total[: self._head].tolist()
        if head[_FAILED]:
            self._raise(None)
        self._receive(head)
        self._check_streams(head[_HEAD:])
        counts = total[self._head : self._head + len(gradients)].tolist()
        summed: Gradients = []
        for (parameter, _), count, place in zip(gradients, counts, places, strict=True):
            value = self._taken(total[place], index, parameter) if count else None
            summed.append((parameter, value))
        return total[_LOSS], summed, total[_PARTS].to(parts.dtype)

    def fail(self, parameters: Sequence[nn.Parameter], index: Tensor, error: Exception) -> NoReturn:
        """Tells the others in place of a sum that this process has failed, and raises its error."""
        if isinstance(error, _FailedElsewhere):
            self._raise(None)
        if self.announced:
            self._announce(failed=True)
        else:
            flat, _ = self._flat(parameters, len(index))
            flat[_FAILED] = 1
            self.processes.summed(flat)
        self._raise(error)

    def inside(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes, inside of a step or at its end."""
        if self.announced and self._announce(failed=False):
            raise _FailedElsewhere
        return self.processes.summed(value)

    def _announce(self, failed: bool) -> bool:
        """Announces a sum, or that there is none; whether some process has failed."""
        flag = torch.full((1,), float(failed), device=self.setup.model.device)
        return bool(self.processes.summed(flag))

    # The flat tensor ---------------------------------------------------------------------------------------

    @property
    def _head(self) -> int:
        return _HEAD + self.processes.size

    def _flat(self, parameters: Sequence[nn.Parameter], rows: int) -> tuple[Tensor, list[slice]]:
        """The tensor of a step, with the own signals and random state, and the places of gradients in it."""
        places, end = [], self._head + len(parameters)
        for parameter in parameters:
            is_table = id(parameter) in self.tables
            size = rows * parameter[0:1].numel() if is_table else parameter.numel()
            places.append(slice(end, end + size))
            end += size
        dtypes = {parameter.dtype for parameter in parameters}
        dtype = torch.float64 if torch.float64 in dtypes else torch.float32
        flat = torch.zeros(end, dtype=dtype, device=self.setup.model.device)
        if self.signals.pending is not None:
            flat[_SIGNALS[self.signals.pending]] = 1
        flat[_HEAD + self.processes.rank] = _checksum(self.setup.stream)
        return flat, places

    def _put(self, place: Tensor, share: Share, index: Tensor, parameter: nn.Parameter, own: Tensor) -> None:
        if id(parameter) not in self.tables:
            place.copy_(own.reshape(-1))
            return
        # The place of each row of the batch in the table's gradient, which has one entry for each row number.
        held = own.coalesce()
        order = index.argsort()
        rows = order[torch.searchsorted(index[order], held.indices()[0])]
        place.view(len(index), -1)[rows] = held.values().reshape(len(rows), -1).to(place)

    def _taken(self, place: Tensor, index: Tensor, parameter: nn.Parameter) -> Tensor:
        if id(parameter) not in self.tables:
            return place.view_as(parameter).to(parameter.dtype)
        values = place.view(len(index), *parameter.shape[1:]).to(parameter.dtype)
        return torch.sparse_coo_tensor(index[None], values, parameter.shape, check_invariants=False)

    # How the step went --------------------------------------------------------------------------------------

    def _receive(self, head: Sequence[float]) -> None:
        for name, place in _SIGNALS.items():
            if head[place]:
                self.signals.received = self.signals.received or name

    def _check_streams(self, checksums: Sequence[float]) -> None:
        if len(set(checksums)) > 1:
            raise TrainingError(
                "the processes have drawn different amounts of random numbers in a step, so that their noise is no longer "
                "that of one batch: a program draws in a way that depends on its rows, such as a loop over them. Draw all "
                "rows at once, by torch's or Pyro's functions, or fit in one process"
            )

    def _raise(self, error: Exception | None) -> NoReturn:
        """Raises the error of a step that failed in some process: the own one, or one that tells of the others."""
        refused = error is not None and of_numbers_not_finite(error)
        words = None if error is None else f"{type(error).__name__}: {error}"
        reports = self.processes.all((words, refused, _state(self.setup.stream)))
        failed = {rank: report for rank, report in enumerate(reports) if report[0] is not None}
        if all(report[1] for report in failed.values()):
            # Such a step is skipped, by all. Random numbers go on from where the first process that failed stands.
            _set_state(self.setup.stream, next(iter(failed.values()))[2])
            raise NotFinite(refusal=error)
        if error is not None:
            raise error
        rank, (words, _, _) = next((k, r) for k, r in failed.items() if not r[1])
        raise TrainingError(f"process {rank} of the fit has failed: {words}")


class _FailedElsewhere(Exception):
    """Another process has failed in this step."""


def _state(stream: Stream) -> tuple[Tensor, Tensor | None]:
    """The present random state, within the context of a stream."""
    on_gpu = stream.device.type == "cuda"
    return torch.get_rng_state(), torch.cuda.get_rng_state(stream.device) if on_gpu else None


def _set_state(stream: Stream, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], stream.device)


def _checksum(stream: Stream) -> int:
    return sum(zlib.crc32(s.numpy().data) for s in _state(stream) if s is not None) % _CHECKSUMS

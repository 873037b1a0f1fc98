"""``XlaStep``: the step of one batch size as a program of XLA, with the memory of a block of such steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import torch

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.adam_kernels import FusedAdam
from pyro_lfm.inference.engines.xla.adam_rates import gradient_rates, rates_of
from pyro_lfm.inference.engines.xla.block_program import BlockProgram, Moments, Rates, Result
from pyro_lfm.inference.engines.xla.translation import Draw, translate

if TYPE_CHECKING:
    from pyro_lfm.inference.engines.recorded_step import Step

# Of a block's rows and noise. A call copies parameters and moments in and out, which few steps would not repay.
_BLOCK_BYTES = 2**25
_MOST = 1000  # steps
# Steps of the first block, by which the time of a step is measured.
_FIRST = 4


class XlaStep:
    """The step of one batch size, one by one or up to ``most`` in one call.

    Args:
        step: the step in Python.
        graph: its operations. inputs: of the graph, as ``Step`` says, and then the tensors that the step knows.

    Raises:
        NotRecordable: the graph, or the optimizer, has no counterpart in XLA.
    """

    def __init__(self, step: Step, graph: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]):
        if not step.moved or step.tables:
            raise tracing.NotRecordable("XLA trains no PerRow tables")
        self.step = step
        varying = [*inputs[: len(step.names) + 2]]
        translated = translate(graph, inputs)
        self.trained = [step.parameters[k].detach() for k in step.used]
        self.places = [_place(value, self.trained) for value in inputs[len(varying) :]]
        size = sum(value.nbytes for value in varying) + sum(_bytes(draw) for draw in translated.draws)
        self.most = max(1, min(_MOST, _BLOCK_BYTES // max(1, size)))
        self.program = BlockProgram(translated, self.places)
        self._varying = [torch.zeros(self.most, *v.shape, dtype=v.dtype) for v in varying]
        self._noise = Noise(translated.draws, self.most)
        # Those inputs that the graph reads, by number, with their memory of each step of a block.
        read = [number for number in range(len(varying)) if translated.reads[number]]
        self._steps = [[(number, self._varying[number][k]) for number in read] for k in range(self.most)]
        # Of a step, as the last block took it; None before the first.
        self.seconds: float | None = None

    def suggested(self, seconds: float) -> int:
        """About how many steps take so long, at most ``most``; few before that is known."""
        return min(self.most, _FIRST if self.seconds is None else max(1, int(seconds / self.seconds)))

    def __call__(self, *inputs: torch.Tensor) -> Sequence[torch.Tensor]:
        """Loss, whether it and the gradients are finite, parts of the bound, and gradients of one step."""
        self.put(0, inputs)
        self._noise.draw(1)
        zeros = _arrays([torch.zeros_like(value) for value in self.trained])
        rates = gradient_rates(len(self.trained), _dtype(self.trained[0]), self.most)
        result = self._run(1, Moments(_arrays(self.trained), zeros, zeros), rates)
        gradients = [*map(_tensor, result.moments.means)]
        loss, parts = _tensor(result.losses)[0], _tensor(result.parts)[0]
        finite = (loss + sum(g.square().sum() for g in gradients)).isfinite()
        return [loss, finite, parts, *gradients]

    def put(self, k: int, inputs: Sequence[torch.Tensor]) -> None:
        """Copies the inputs that differ from step to step into the memory of the block's step k."""
        for number, memory in self._steps[k]:
            memory.copy_(inputs[number])

    def rows(self, k: int) -> dict[str, torch.Tensor]:
        """A copy of the rows of the block's step k, by name."""
        return {name: self._varying[n][k].clone() for n, name in enumerate(self.step.names)}

    def take(self, optimizer: FusedAdam, factors: Sequence[float]) -> torch.Tensor | None:
        """Does the steps that were put, as many as there are factors of the learning rates.

        Returns:
            [bound, reconstruction, KL, 1] of each in nats per row, (n, 4). None where something was not finite: nothing
            but the random stream has moved then.
        """
        n, groups = len(factors), optimizer.groups
        self._noise.draw(n)
        values, means, squares = (_in_order(groups, name) for name in ("values", "means", "squares"))
        rates = rates_of(groups, factors, self.most, _dtype(values[0]))
        result = self._run(n, Moments(*map(_arrays, (values, means, squares))), rates)
        if not bool(result.healthy):
            return None
        for held, now in zip((values, means, squares), result.moments, strict=True):
            for tensor, array in zip(held, now, strict=True):
                tensor.copy_(_tensor(array))
        for group in groups:
            group.counts.add_(n)
        return _tensor(result.parts)[:n].clone()

    def _run(self, n: int, moments: Moments, rates: Rates) -> Result:
        fixed = [v for v, place in zip(self.step.known, self.places, strict=True) if place is None]
        return self.program(
            np.int32(n),
            moments,
            rates,
            _arrays(self._varying),
            _arrays(self._noise.memory),
            _arrays(fixed),
        )


class Noise:
    """The random numbers of a block, (S, ...) for each draw of a step, from torch's stream in the order of the steps."""

    def __init__(self, draws: Sequence[Draw], most: int):
        self.draws = draws
        self.memory = [torch.empty(most, *draw.shape, dtype=draw.dtype) for draw in draws]
        self._each = [[*zip(draws, step, strict=True)] for step in zip(*self.memory, strict=True)]

    def draw(self, n: int) -> None:
        """Draws the numbers of the first n steps."""
        if len(self.draws) == 1 and self.draws[0].continues:
            self.draws[0].fill(self.memory[0][:n])
            return
        for step in self._each[:n]:
            for draw, memory in step:
                draw.fill(memory)


def _place(value: torch.Tensor, trained: Sequence[torch.Tensor]) -> int | None:
    """The number of the trained parameter that a tensor is; None where it is another.

    Raises:
        NotRecordable: it is part of a trained parameter, or a view of it.
    """
    for k, parameter in enumerate(trained):
        if tracing.memory(value) == tracing.memory(parameter):
            same = value.shape == parameter.shape and value.stride() == parameter.stride()
            if same and value.storage_offset() == parameter.storage_offset():
                return k
            overlapping = "a program reads a trained parameter as a view that was made before"
            raise tracing.NotRecordable(overlapping)
    return None


def _in_order(groups: Sequence, name: str) -> list[torch.Tensor]:  # type: ignore[type-arg]
    """The tensors of all groups in the order of the parameters."""
    pairs = [pair for group in groups for pair in zip(group.positions, getattr(group, name), strict=True)]
    return [tensor for _, tensor in sorted(pairs, key=lambda pair: pair[0])]


def _arrays(tensors: Sequence[torch.Tensor]) -> list[jax.Array]:
    """Tensors as arrays of JAX, which share their memory where they are contiguous."""
    with jax.enable_x64(True):
        # A view of the flat tensor has the usual strides, also along dimensions of one entry.
        return [
            jnp.from_dlpack(tensor.detach().contiguous().view(-1).view(tensor.shape)) for tensor in tensors
        ]


def _tensor(array: jax.Array) -> torch.Tensor:
    return torch.from_dlpack(array)


def _dtype(tensor: torch.Tensor) -> np.dtype:
    return np.dtype(str(tensor.dtype).removeprefix("torch."))


def _bytes(draw: Draw) -> int:
    return draw.shape.numel() * draw.dtype.itemsize

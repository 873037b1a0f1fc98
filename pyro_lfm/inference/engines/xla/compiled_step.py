"""``XlaStep``: the step of one batch size as a program of XLA, with the memory of a block of such steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import torch

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.adam_kernels import FusedAdam, copy_all
from pyro_lfm.inference.engines.xla.adam_rates import expected_kind, gradient_rates, rates_of
from pyro_lfm.inference.engines.xla.block_program import BlockProgram, Moments, Rates, Result
from pyro_lfm.inference.engines.xla.translation import Draw, translate

if TYPE_CHECKING:
    from pyro_lfm.inference.engines.recorded_step import Step

# Of a block's rows and noise. A call copies parameters and moments in and out, which few steps would not repay.
_BLOCK_BYTES = 2**25
_MOST = 4000  # steps
# Arrays that are remembered, at most.
_MADE = 2**12
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
        self._reads = translated.reads
        # The memory of the rows of all steps by name, one row after the other.
        self.rows = {name: self._varying[k].flatten(0, 1) for k, name in enumerate(step.names)}
        self._noise = Noise(translated.draws, self.most)
        self._shared = SharedArrays()
        # What the rates were like in the last call, so that a comparison with the programs compiles nothing.
        self._kind = expected_kind(step.eager.optimizers[0])
        # Of a step, as the last block took it; None before the first.
        self.seconds: float | None = None

    def suggested(self, seconds: float) -> int:
        """About how many steps take so long, at most ``most``; few before that is known."""
        return min(self.most, _FIRST if self.seconds is None else max(1, int(seconds / self.seconds)))

    def __call__(self, *inputs: torch.Tensor) -> Sequence[torch.Tensor]:
        """Loss, whether it and the gradients are finite, parts of the bound, and gradients of one step."""
        self.put(inputs)
        self._noise.draw(1)
        zeros = [torch.zeros_like(value) for value in self.trained]
        rates = gradient_rates(self._kind, len(self.trained), self.most, _dtype(self.trained[0]))
        result = self._run(1, (self.trained, zeros, zeros), rates)
        gradients = [*map(_tensor, result.moments.means)]
        loss, parts = _tensor(result.losses)[0], _tensor(result.parts)[0]
        finite = (loss + sum(g.square().sum() for g in gradients)).isfinite()
        return [loss, finite, parts, *gradients]

    def put(self, inputs: Sequence[torch.Tensor]) -> None:
        """Copies the inputs that differ from step to step into the memory of the first step."""
        for memory, value in zip(self._varying, inputs, strict=False):
            memory[0].copy_(value)

    def put_numbers(self, index: torch.Tensor, weights: Sequence[torch.Tensor]) -> None:
        """Copies the numbers of the rows, (n, B), and the weights of n objectives into the memory of the first n steps."""
        numbers, of_objectives = (k for k in range(len(self.rows), len(self.rows) + 2))
        if self._reads[numbers]:
            self._varying[numbers][: len(index)] = index
        if self._reads[of_objectives]:
            alike = all(each is weights[0] for each in weights)
            held = weights[0] if alike else torch.stack([*weights])
            self._varying[of_objectives][: len(weights)] = held

    def copies(self) -> Iterator[dict[str, torch.Tensor]]:
        """For each step of the memory a copy of its rows, by name."""
        for k in range(self.most):
            yield {name: self._varying[n][k].clone() for n, name in enumerate(self.rows)}

    def take(self, optimizer: FusedAdam, factors: Sequence[float]) -> torch.Tensor | None:
        """Does the steps that were put, as many as there are factors of the learning rates.

        Returns:
            [bound, reconstruction, KL, 1] of each in nats per row, (n, 4). None where something was not finite: nothing
            but the random stream has moved then.
        """
        n, groups = len(factors), optimizer.groups
        self._noise.draw(n)
        state = [_in_order(groups, name) for name in ("values", "means", "squares")]
        rates = rates_of(groups, factors, self.most, _dtype(self.trained[0]))
        self._kind = rates.kind
        result = self._run(n, state, rates)
        moved = [[*map(_tensor, arrays)] for arrays in result.moments]
        # A moment keeps whatever was not finite in a gradient, so that one look at the end sees all steps.
        total = _tensor(result.losses).sum() + sum(value.sum() for value in (*moved[0], *moved[2]))
        if not bool(total.isfinite()):
            return None
        for held, now in zip(state, moved, strict=True):
            copy_all(held, now)
        for group in groups:
            group.counts.add_(n)
        return _tensor(result.parts)[:n].clone()

    def _run(self, n: int, state: Sequence[Sequence[torch.Tensor]], rates: Rates) -> Result:
        fixed = [v for v, place in zip(self.step.known, self.places, strict=True) if place is None]
        moments = Moments(*map(self._shared, state))
        return self.program(
            np.int32(n), moments, rates, *map(self._shared, (self._varying, self._noise.memory, fixed))
        )


class SharedArrays:
    """Makes arrays of JAX that share the memory of contiguous tensors, once for each memory. Others are copied."""

    def __init__(self) -> None:
        # An array keeps its memory alive, so that no other tensor can have the same address.
        self._made: dict[tuple[int, torch.Size, torch.dtype], jax.Array] = {}

    def __call__(self, tensors: Sequence[torch.Tensor]) -> list[jax.Array]:
        return [*map(self._array, tensors)]

    def _array(self, tensor: torch.Tensor) -> jax.Array:
        if not tensor.is_contiguous() or not tensor.numel():
            return _array(tensor)
        key = tensor.data_ptr(), tensor.shape, tensor.dtype
        if (array := self._made.get(key)) is None:
            if len(self._made) >= _MADE:
                self._made.clear()
            self._made[key] = array = _array(tensor)
        return array


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


def _array(tensor: torch.Tensor) -> jax.Array:
    """A tensor as an array of JAX, which shares its memory where it is contiguous."""
    with jax.enable_x64(True):
        # A view of the flat tensor has the usual strides, also along dimensions of one entry.
        return jnp.from_dlpack(tensor.detach().contiguous().view(-1).view(tensor.shape))


def _tensor(array: jax.Array) -> torch.Tensor:
    return torch.from_dlpack(array)


def _dtype(tensor: torch.Tensor) -> np.dtype:
    return np.dtype(str(tensor.dtype).removeprefix("torch."))


def _bytes(draw: Draw) -> int:
    return draw.shape.numel() * draw.dtype.itemsize

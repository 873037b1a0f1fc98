"""Networks as sources: building one for the sizes of its factor, and applying it to batches of any shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from math import prod
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from pyro_lfm.errors import DeclarationError, ShapeError, first_line
from pyro_lfm.probes import probing
from pyro_lfm.shapes import reshaped


@runtime_checkable
class OfShapes(Protocol):
    """A declared network that is built for the shapes of one input and one output."""

    def build(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> nn.Module: ...


@runtime_checkable
class OfSeveralShapes(Protocol):
    """A declared network that is built for the shapes of several flattened inputs and outputs and of the event."""

    def assemble(
        self, inputs: Sequence[torch.Size], outputs: Sequence[torch.Size], event: torch.Size | None = None
    ) -> nn.Module: ...


# A module, or a declaration or function that builds one for given sizes.
NetworkLike = nn.Module | Callable[[int, int], nn.Module] | OfShapes | OfSeveralShapes


def submodules(module: nn.Module) -> Iterator[nn.Module]:
    """A module and all below it, each once, parents first: those of ``modules()`` in a fifth of the time."""
    waiting: list[nn.Module | None] = [module]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting.extend(reversed(one._modules.values()))


def first_tensor(*modules: nn.Module) -> torch.Tensor | None:
    """The first parameter of some modules, or the first buffer where there is none."""
    buffers: list[torch.Tensor | None] = []
    for module in chain.from_iterable(map(submodules, modules)):
        for parameter in module._parameters.values():
            if parameter is not None:
                return parameter
        buffers.extend(module._buffers.values())
    return next((buffer for buffer in buffers if buffer is not None), None)


def floating(module: nn.Module) -> list[torch.Tensor]:
    """The floating parameters and buffers of a module."""
    return [tensor for tensor in chain(module.parameters(), module.buffers()) if tensor.is_floating_point()]


def promote(module: nn.Module) -> None:
    """Converts a module to one floating type, the widest that it holds."""
    kinds = {tensor.dtype for tensor in floating(module)}
    if len(kinds) > 1:
        module.to(max(kinds, key=lambda kind: torch.finfo(kind).bits))


class Applied(nn.Module):
    """A network for any batch shape: batch dimensions are flattened into one for the network, and restored after it.

    It maps (..., *event) to (..., *out_shape) in the floating type of the network. The network reads each event in the
    shape ``in_shape``. A network with the attribute ``broadcasts`` takes all batch dimensions, (..., in) to (..., out).

    Args:
        is_given: whether the user gave the module itself, so that ``fit`` does not draw its weights.
    """

    def __init__(
        self,
        network: nn.Module,
        event_ndim: int,
        in_shape: torch.Size,
        out_shape: torch.Size,
        is_given: bool = False,
    ):
        super().__init__()
        self.network, self.event_ndim = network, event_ndim
        self.in_shape, self.out_shape, self.is_given = in_shape, out_shape, is_given

    def forward(self, context: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
        weight = first_tensor(self.network)
        kind = context.dtype if weight is None else weight.dtype
        batch = context.shape[: context.dim() - self.event_ndim]
        output: torch.Tensor
        if getattr(self.network, "broadcasts", False):
            output = self.network(context.reshape(*batch, *self.in_shape).flatten(len(batch)).to(kind))
            return output.reshape(*output.shape[:-1], *self.out_shape)
        rows = (
            context
            if len(batch) == 1 and context.shape[1:] == self.in_shape
            else context.reshape(-1, *self.in_shape)
        )
        output = self.network(rows.to(kind))
        return reshaped(output, batch + self.out_shape)


def network(
    source: NetworkLike,
    in_shapes: list[torch.Size],
    out_shape: torch.Size,
    what: str,
    *,
    heads: Sequence[torch.Size] = (),
    event: torch.Size | None = None,
) -> Applied:
    """Builds the module of a network source, and checks its sizes with a run on zeros.

    Args:
        in_shapes: the shapes of the parents.
        what: the name of the parameter, for messages.
        heads: the shapes of the parameters that make up ``out_shape``, if several.
        event: the shape of the factor's values.
    """
    if not in_shapes:
        raise DeclarationError(f"{what} is a network but its factor has no parents: name them with given=")
    # A single parent keeps its shape; several are flattened and concatenated.
    joined = torch.Size((sum(prod(s) for s in in_shapes),))
    context = in_shapes[0] if len(in_shapes) == 1 else joined
    in_shape = context
    module: nn.Module
    if isinstance(source, nn.Module):
        module = source
    elif isinstance(source, OfSeveralShapes):
        in_shape = joined
        try:
            module = source.assemble(in_shapes, heads or [out_shape], event)
        except DeclarationError as error:
            raise DeclarationError(f"{what}: {error}") from None
    elif isinstance(source, OfShapes):
        module = source.build(tuple(in_shape), tuple(out_shape))
    elif callable(source):
        in_shape = joined
        try:
            module = source(joined[0], prod(out_shape))
        except TypeError as error:
            raise DeclarationError(
                f"{what} must be a factory (in_size, out_size) -> module: {first_line(error)}"
            ) from None
    else:
        raise DeclarationError(
            f"{what} must be a module, a factory (in_size, out_size) -> module, Learned, Fixed or PerRow; "
            f"got {type(source).__name__}"
        )
    if not isinstance(module, nn.Module):
        raise DeclarationError(f"{what}: the factory must return an nn.Module; got {type(module).__name__}")
    promote(module)
    _try(module, in_shape, out_shape, what)
    return Applied(module, len(context), in_shape, out_shape, module is source)


def _try(module: nn.Module, in_shape: torch.Size, out_shape: torch.Size, what: str) -> None:
    """Checks that a module takes two rows of zeros, and returns as many numbers as the parameter needs."""
    weight = next(iter(floating(module)), torch.empty(0))
    try:
        with probing(module, device=weight.device):
            trial = module(torch.zeros(2, *in_shape, dtype=weight.dtype, device=weight.device))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ShapeError(
            f"{what} must take inputs of shape {tuple(in_shape)}; it failed: {first_line(error)}"
        ) from None
    if not isinstance(trial, torch.Tensor):
        raise DeclarationError(f"{what} must give a tensor; got {type(trial).__name__}")
    if trial.shape[:1] != (2,) or trial.numel() != 2 * prod(out_shape):
        raise ShapeError(
            f"{what} must give {prod(out_shape)} numbers per row; got {tuple(trial.shape)} for 2 rows"
        )

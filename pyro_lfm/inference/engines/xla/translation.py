"""A recorded graph of torch as a function of JAX, and the random numbers that it draws, which become its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import torch

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.recorder import decomposed
from pyro_lfm.inference.engines.xla import arrays, pointwise, products

Node = torch.fx.Node

OPERATIONS = pointwise.TABLE | arrays.TABLE | products.TABLE

DTYPES = {
    torch.bool: jnp.bool_,
    torch.uint8: jnp.uint8,
    torch.int32: jnp.int32,
    torch.int64: jnp.int64,
    torch.float32: jnp.float32,
    torch.float64: jnp.float64,
}

# Tensors that are made of numbers alone: the value in each entry, of the arguments of the operation.
_FILLED: dict[str, Callable[..., Any]] = {
    "empty": lambda *_: 0,
    "empty_like": lambda *_: 0,
    "empty_permuted": lambda *_: 0,
    "full": lambda size, value: value,
    "full_like": lambda like, value: value,
    "new_full": lambda like, size, value: value,
    "new_zeros": lambda *_: 0,
    "ones": lambda *_: 1,
    "ones_like": lambda *_: 1,
    "scalar_tensor": lambda value: value,
    "zeros": lambda *_: 0,
    "zeros_like": lambda *_: 0,
}

# Tensors whose entries differ, made of numbers alone.
_MADE: dict[str, Callable[..., jax.Array]] = {
    "arange": jnp.arange,
    "eye": jnp.eye,
    "tril_indices": lambda rows, columns, offset=0: jnp.stack(jnp.tril_indices(rows, offset, columns)),
}

# All names of operations that have a counterpart.
_COUNTERPARTS = OPERATIONS.keys() | _FILLED.keys() | _MADE.keys() | {"getitem", "_to_copy"}

# Draws whose distribution does not depend on the data: the method that fills a tensor as the operation does.
_DRAWS: dict[str, str] = {
    "bernoulli": "bernoulli_",
    "exponential": "exponential_",
    "normal_functional": "normal_",
    "rand": "uniform_",
    "rand_like": "uniform_",
    "randn": "normal_",
    "randn_like": "normal_",
    "uniform": "uniform_",
}


@dataclass(frozen=True)
class Draw:
    """Random numbers of one step.

    Args:
        method: of the tensor that they fill, such as "normal_".
        numbers: its arguments.
    """

    method: str
    numbers: tuple[float, ...]
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def continues(self) -> bool:
        """Whether the numbers of several draws in a row are those of one larger draw.

        torch draws uniform numbers one by one, and normal ones in pairs of eight from sixteen.
        """
        contiguous = self.stride == torch.empty(self.shape, device="meta").stride()
        normal = self.method == "normal_" and self.shape.numel() % 16 == 0
        return contiguous and (normal or self.method == "uniform_")

    def fill(self, tensor: torch.Tensor) -> None:
        """Draws from torch's stream into a contiguous tensor, the numbers that the operation itself would draw."""
        if tensor.shape != self.shape or tensor.stride() == self.stride:
            getattr(tensor, self.method)(*self.numbers)
        else:
            # Numbers are drawn in the order of memory.
            drawn = torch.empty_strided(self.shape, self.stride, dtype=self.dtype)
            tensor.copy_(getattr(drawn, self.method)(*self.numbers))


@dataclass(frozen=True)
class Translated:
    """A graph as a function of JAX arrays.

    Attributes:
        function: (inputs of the graph, drawn numbers in the order of ``draws``) -> its outputs.
        reads: for each input whether the outputs depend on it.
        draws: in the order in which the graph draws.
    """

    function: Callable[[Sequence[jax.Array], Sequence[jax.Array]], list[jax.Array]]
    reads: list[bool]
    draws: list[Draw]


def translate(graph: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]) -> Translated:
    """The function of a recorded graph for inputs of these shapes.

    Raises:
        NotRecordable: an operation has no counterpart here, changes an input, or draws from a distribution that depends
            on the data.
    """
    graph = decomposed(graph, inputs, _COUNTERPARTS)
    nodes = [*graph.graph.nodes]
    draws = {node: _draw(node) for node in nodes if _is_draw(node)}
    constants = {node: _constant(getattr(graph, str(node.target))) for node in nodes if node.op == "get_attr"}
    for node in nodes:
        _check(node, draws)

    def function(inputs: Sequence[jax.Array], drawn: Sequence[jax.Array]) -> list[jax.Array]:
        values: dict[Node, Any] = {**constants, **dict(zip(draws, drawn, strict=True))}
        arguments = iter(inputs)
        for node in nodes:
            if node.op == "placeholder":
                values[node] = next(arguments)
            elif node.op == "call_function" and node not in draws:
                values[node] = _value(node, values)
        (outputs,) = nodes[-1].args
        return [values[node] for node in outputs]  # type: ignore[union-attr, index, misc]

    reads = [bool(node.users) for node in nodes if node.op == "placeholder"]
    return Translated(function, reads, [*draws.values()])


def _name(node: Node) -> str:
    """The name of an operation of torch without its overload; of other functions their own."""
    target: Any = node.target
    return target.overloadpacket.__name__ if isinstance(target, tracing.Operation) else target.__name__


def _is_draw(node: Node) -> bool:
    return isinstance(node.target, tracing.Operation) and tracing.is_random(node.target)


def _draw(node: Node) -> Draw:
    name, value = _name(node), node.meta["val"]
    # The first argument is the tensor that is filled or its size, of which only the shape counts.
    numbers = (*node.args[1:], *node.kwargs.values()) if not name.startswith("rand") else ()
    fixed = tuple(number for number in numbers if isinstance(number, int | float))
    if name not in _DRAWS or any(isinstance(number, Node) for number in numbers):
        raise tracing.NotRecordable(f"{node.target} draws from a distribution that depends on the data")
    return Draw(_DRAWS[name], fixed, value.shape, value.stride(), value.dtype)


def _constant(value: torch.Tensor) -> jax.Array:
    return jnp.asarray(value.numpy(force=True))


def _check(node: Node, draws: dict[Node, Draw]) -> None:
    """Refuses a node that has no counterpart."""
    if node.op not in ("placeholder", "get_attr", "call_function", "output"):
        raise tracing.NotRecordable(f"{node.op} {node.target} has no counterpart in JAX")
    value = node.meta.get("val")
    if isinstance(value, torch.Tensor) and value.dtype not in DTYPES:
        raise tracing.NotRecordable(f"{value.dtype} has no counterpart in JAX")
    if node.op != "call_function" or node in draws:
        return
    name = _name(node)
    if isinstance(node.target, tracing.Operation) and tracing.changes_arguments(node.target):
        raise tracing.NotRecordable(f"{node.target} changes a tensor that outlives the step")
    if name not in _COUNTERPARTS:
        raise tracing.NotRecordable(f"{node.target} has no counterpart in JAX")


def _value(node: Node, values: dict[Node, Any]) -> Any:
    def of(held: Any) -> Any:
        return torch.fx.node.map_arg(held, lambda argument: values[argument])

    arguments, name = of(node.args), _name(node)
    if name == "getitem":
        return arguments[0][arguments[1]]
    expected: Any = node.meta.get("val")
    dtype = DTYPES[expected.dtype] if isinstance(expected, torch.Tensor) else None
    if name in _FILLED:
        return jnp.full(expected.shape, _FILLED[name](*arguments), dtype)
    if name in _MADE:
        return _MADE[name](*arguments).astype(dtype)
    if name == "_to_copy":
        return arguments[0].astype(dtype)
    options = {option: of(value) for option, value in node.kwargs.items() if option not in _OF_MEMORY}
    result = OPERATIONS[name](*arguments, **options)
    # JAX and torch differ in the type of a result where a number without dimensions takes part.
    return result if dtype is None else jnp.asarray(result, dtype)


# Options that say where and how a tensor lies.
_OF_MEMORY = {"device", "layout", "memory_format", "pin_memory", "non_blocking"}

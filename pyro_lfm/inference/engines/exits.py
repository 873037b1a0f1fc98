"""``Exits``: notices, while a program is recorded, where the value of a tensor leaves the graph for Python.

What such a value decides in Python is not recorded. A parameter or a buffer counts like an input of the program. Only values
that are made of constants in the program's text alone may be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from pyro_lfm.inference.engines import recorder, tracing

# The names of methods that give numbers, memory or text. Not all of them reach the dispatcher.
_VALUES = frozenset(
    "item tolist numpy __array__ __float__ __int__ __bool__ __index__ __complex__ __repr__ __format__ data_ptr "
    "storage untyped_storage _typed_storage __dlpack__ __contains__ __deepcopy__ __reduce_ex__".split()
)
# The names of functions that make tensors of lists, whose entries they read as numbers.
_OF_LISTS = frozenset("tensor as_tensor asarray new_tensor new scalar_tensor sparse_coo_tensor".split())
# Attributes of a tensor that differ from step to step.
_CHANGING = frozenset(["grad", "_grad", "_version"])

_VALUE = "what it does depends on the value of a tensor"
_SHAPE = "the shapes of its tensors depend on the values of a tensor"


class Exits:
    """The context of a recording. ``reason`` is the first exit, in words.

    Raises:
        NotRecordable: within the context, where a value leaves the graph.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        # Tensors that are made of constants alone, by their memory.
        self._constant: dict[int, torch.Tensor] = {}

    def __enter__(self) -> Exits:
        self._stack = ExitStack()
        self._stack.enter_context(_Operations(self))
        self._stack.enter_context(_Functions(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()
        self._constant.clear()

    def leave(self, reason: str) -> None:
        self.reason = self.reason or reason
        raise tracing.NotRecordable(reason)

    def varies(self, values: tracing.Argument) -> bool:
        """Whether one of the tensors among these values is not made of constants alone."""
        return any(tracing.memory(tensor) not in self._constant for tensor in _tensors(values))

    def add(
        self, function: tracing.Operation, arguments: tracing.Argument, results: tracing.Argument
    ) -> None:
        """Records whether the tensors that an operation gave, or changed, are made of constants alone."""
        constant = not self.varies(arguments) and not tracing.is_random(function)
        touched = [results, arguments] if tracing.changes_arguments(function) and not constant else results
        for tensor in _tensors(touched):
            if (where := tracing.memory(tensor)) is None:
                continue
            if constant or tracing.is_literal(function):
                self._constant[where] = tensor
            else:
                self._constant.pop(where, None)


class _Operations(tracing.DispatchMode):
    """Sees every operation on tensors, also in the backward pass."""

    def __init__(self, exits: Exits):
        super().__init__()
        self.exits = exits

    def __torch_dispatch__(
        self,
        function: tracing.Operation,
        types: Sequence[type],
        arguments: Sequence[tracing.Argument] = (),
        options: dict[str, tracing.Argument] | None = None,
    ) -> Any:
        options = options or {}
        exits, everything = self.exits, (arguments, options)
        if any(isinstance(value, torch.Generator) for value in (*arguments, *options.values())):
            exits.leave("it draws from a torch.Generator of its own")
        if tracing.gives_value(function):
            if exits.varies(everything):
                exits.leave(_VALUE)
            return function(*arguments, **options)
        if tracing.shape_by_value(function, arguments) and exits.varies(everything):
            exits.leave(_SHAPE)
        results = function(*arguments, **options)
        exits.add(function, everything, results)
        return results


class _Functions(TorchFunctionMode):
    """Sees the functions and methods of tensors that Python calls, some of which do no operation."""

    def __init__(self, exits: Exits):
        super().__init__()
        self.exits = exits

    def __torch_function__(
        self,
        function: Callable[..., tracing.Argument],
        types: Sequence[type],
        arguments: Sequence[tracing.Argument] = (),
        options: dict[str, tracing.Argument] | None = None,
    ) -> Any:
        options = options or {}
        name = getattr(function, "__name__", "")
        if name in _VALUES:
            if self.exits.varies(arguments[:1]):
                self.exits.leave(_VALUE)
        elif name in _OF_LISTS:
            lists = [
                v
                for v in (*arguments[name.startswith("new") :], *options.values())
                if isinstance(v, list | tuple)
            ]
            if self.exits.varies(lists):
                self.exits.leave(f"{_VALUE}, which is made an entry of another")
        elif name == "__get__":
            attribute = getattr(getattr(function, "__self__", None), "__name__", "")
            if attribute in _CHANGING:
                read = attribute.removeprefix("_")
                self.exits.leave(f"it reads {read} of a tensor, which differs from step to step")
        return function(*arguments, **options)


def record(
    function: tracing.Function,
    inputs: Sequence[torch.Tensor],
    check: tracing.Function = recorder.nan_if_refused,
) -> tuple[torch.fx.GraphModule, list[torch.Tensor]]:
    """``recorder.record`` of a function in which no value leaves the graph.

    Raises:
        NotRecordable: a value leaves, or the function cannot be recorded for another reason.
    """
    exits = Exits()

    def watched(*arguments: torch.Tensor) -> Sequence[torch.Tensor]:
        with exits:
            return function(*arguments)

    graph, external = recorder.record(watched, inputs, check)
    if exits.reason is not None:  # the program caught the error
        raise tracing.NotRecordable(exits.reason)
    return graph, external


def _tensors(values: tracing.Argument) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors([*values.values()])
    elif isinstance(values, Iterable) and isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)

"""``record``: the operations of a function of tensors as one flat graph, gradients included. ``decomposed``: by fewer.

torch's own ``make_fx`` does the same. It first imports torch's compiler, which takes three quarters of a second and 77 MB.
The names of Pyro and torch that it replaces for the time of a recording are those of checks of distributions.
"""

from __future__ import annotations

import operator
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.utils.weak import WeakTensorKeyDictionary

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.pure_graph import without_changes
from pyro_lfm.inference.engines.tracing import Argument, Function, Operation

# What computes an operation by others.
Rules = Mapping[Operation, Callable[..., Any]]


class Recorder(tracing.DispatchMode):
    """The context in which every operation on tensors becomes a node of a graph, also those of the backward pass.

    The operations are done on the tensors, so that shapes and types are theirs. The ``meta`` of a node has under "val" a
    tensor without memory like its result, and under "geometry" where its entries lie in memory.

    Args:
        inputs: the tensors that are inputs of the graph.
        rules: the operations that are not recorded themselves, but by those that their rules do.

    Attributes:
        external: the tensors that were there before and are read, which are further inputs.
    """

    def __init__(self, inputs: Sequence[torch.Tensor], rules: Rules | None = None):
        super().__init__()
        self.external: list[torch.Tensor] = []
        self._graph, self._rules = Graph(), rules or {}
        self._literals: dict[str, torch.Tensor] = {}
        # Weak, so that a result may be freed when the function is done with it.
        self._nodes = WeakTensorKeyDictionary()
        self._last: Node | None = None
        for k, tensor in enumerate(inputs):
            self._nodes[tensor] = self._placeholder(f"input_{k}", tensor)

    def __torch_dispatch__(
        self,
        operation: Operation,
        types: Sequence[type],
        arguments: Sequence[Argument] = (),
        options: dict[str, Argument] | None = None,
    ) -> Any:
        options = options or {}
        if tracing.gives_value(operation):
            if self._rules:
                raise tracing.NotRecordable(f"{operation} reads a value")
            return operation(*arguments, **options)
        rule = self._rules.get(operation, operation.decompose)
        with self:
            if (result := rule(*arguments, **options)) is not NotImplemented:
                return result
        result = operation(*arguments, **options)
        if tracing.is_literal(operation):
            # The text of a program has these numbers, whatever it does to the tensor later.
            name = f"literal_{len(self._literals)}"
            self._literals[name] = result.clone()
            operation, arguments = torch.ops.aten.lift_fresh_copy.default, (self._graph.get_attr(name),)
        node = self._graph.call_function(operation, *self._as_nodes((tuple(arguments), options)))
        self._keep(node, result)
        return result

    def graph(self, outputs: Sequence[torch.Tensor]) -> GraphModule:
        """The graph whose outputs are these tensors."""
        self._graph.output(self._as_nodes([*outputs]))
        return GraphModule(self._literals, self._graph)

    def _placeholder(self, name: str, tensor: torch.Tensor) -> Node:
        """One more input, after those so far."""
        with self._graph.inserting_after(self._last) if self._last else self._graph.inserting_before():
            self._last = self._graph.placeholder(name)
        _describe(self._last, tensor)
        return self._last

    def _as_nodes(self, held: Any) -> Any:
        """Arguments in which each tensor is replaced by its node."""
        if isinstance(held, torch.Tensor):
            if (node := self._nodes.get(held)) is None:
                node = self._nodes[held] = self._placeholder(f"external_{len(self.external)}", held)
                self.external.append(held)
            return node
        if isinstance(held, dict):
            return {name: self._as_nodes(value) for name, value in held.items()}
        if isinstance(held, list):
            return [self._as_nodes(value) for value in held]
        return tuple(self._as_nodes(value) for value in held) if isinstance(held, tuple) else held

    def _keep(self, node: Node, result: Any) -> None:
        """Remembers which tensors a node gives."""
        if isinstance(result, torch.Tensor):
            _describe(node, result)
            self._nodes[result] = node
        elif isinstance(result, list | tuple):
            for k, part in enumerate(result):
                self._keep(self._graph.call_function(operator.getitem, (node, k)), part)


def _describe(node: Node, tensor: torch.Tensor) -> None:
    """Writes down the form of the tensor that a node gives, unless it has no strides."""
    if tensor.layout is torch.strided:
        shape, strides, dtype = tensor.shape, tensor.stride(), tensor.dtype
        node.meta["val"] = torch.empty_strided(shape, strides, dtype=dtype, device="meta")
        node.meta["geometry"] = tensor.storage_offset(), shape, strides, dtype


def nan_if_refused(
    accepted: torch.Tensor | None, first: torch.Tensor, *rest: torch.Tensor
) -> list[torch.Tensor]:
    """Outputs whose first is NaN where a distribution refuses its parameters, see ``record``."""
    return [first if accepted is None else torch.where(accepted, first, torch.nan), *rest]


def record(
    function: Function, inputs: Sequence[torch.Tensor], check: Function = nan_if_refused
) -> tuple[GraphModule, list[torch.Tensor]]:
    """The operations of ``check(accepted, *function(*inputs))`` as one graph, and the tensors for its further inputs.

    ``accepted`` tells whether all distributions accept their parameters, None where none was asked. Every tensor that is
    read and that existed before becomes one more input, so that the graph follows later changes in place.
    """

    def recorded(*arguments: torch.Tensor) -> Sequence[torch.Tensor]:
        with _without_values() as valid:
            outputs = function(*arguments)
        return check(torch.stack(valid).all() if valid else None, *outputs)

    try:
        with Recorder(inputs) as recorder:
            outputs = recorded(*inputs)
    except Exception as error:
        raise tracing.NotRecordable(_reason(error)) from error
    return recorder.graph(outputs), recorder.external


@contextmanager
def _without_values() -> Iterator[list[torch.Tensor]]:
    """On this thread, collects the checks of distributions as tensors instead of reading their values."""
    valid: list[torch.Tensor] = []
    here = threading.get_ident()
    patches: list[tuple[Any, str, Any]] = []

    def patch(module: ModuleType, name: str, instead: Callable[..., torch.Tensor | float]) -> None:
        original = getattr(module, name)
        patches.append((module, name, original))

        def either(*arguments: Any, **options: Any) -> Any:
            mine = threading.get_ident() == here
            return instead(*arguments, **options) if mine else original(*arguments, **options)

        setattr(module, name, either)

    def collect(value: torch.Tensor) -> bool:
        valid.append(value.all())
        return True

    patch(torch, "_is_all_true", collect)
    instead: dict[str, Callable[..., torch.Tensor | float]] = {
        # Detached, as a number has no gradient.
        "torch_item": lambda value: value.detach() if isinstance(value, torch.Tensor) else value,
        "warn_if_nan": lambda value, *_, **__: value,
        "warn_if_inf": lambda value, *_, **__: value,
    }
    for module in [module for name, module in sys.modules.items() if name.startswith("pyro.")]:
        for name in instead.keys() & vars(module).keys():
            patch(module, name, instead[name])
    try:
        yield valid
    finally:
        for module, name, original in reversed(patches):
            setattr(module, name, original)


def _reason(error: Exception) -> str:
    """What stopped a recording, and the line of the user's program, or of the library, where it did."""
    what = str(error).split("\n")[0]
    frames = traceback.extract_tb(error.__traceback__)
    inner = tuple(str(Path(sys.modules[name].__file__ or "").parent) for name in ("torch", "pyro"))
    outer = str(Path(__file__).parent)
    lines = [f for f in frames if f.line and not f.filename.startswith((*inner, outer))]
    own = str(Path(__file__).parents[2])
    users = [frame for frame in lines if not frame.filename.startswith(own)]
    for frame in (users or lines)[-1:]:
        what += f" in {Path(frame.filename).name}, line {frame.lineno}: {frame.line}"
    return what


def decomposed(graph: GraphModule, inputs: Sequence[torch.Tensor], kept: Collection[str]) -> GraphModule:
    """The graph by few operations, none of them in place but on inputs.

    Args:
        kept: the names of operations that stay as they are, as random ones do.
    """
    # Some rules import torch's compiler, so that they should be few.
    few = tracing.rules_for_others(kept)
    try:
        with torch.no_grad(), Recorder(inputs, few) as recorder:
            outputs = without_changes(graph)(*inputs)
    except Exception as error:  # torch's own rules may fail in any way
        raise tracing.NotRecordable(f"torch cannot decompose it: {str(error).splitlines()[:1]}") from error
    return recorder.graph(outputs)

"""``without_changes``: a recorded graph by operations that give new tensors instead of changing old ones.

``torch.func.functionalize`` does the same for any graph. It imports torch's compiler for many of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.split_graph import may_be_a_view, written_arguments
from pyro_lfm.inference.engines.tracing import Operation


def without_changes(graph: GraphModule) -> Callable[..., Any]:
    """The graph without operations in place, as a graph where each changed tensor is read only through the changes."""
    return _replaced(graph) or torch.func.functionalize(graph, remove="mutations")


def _replaced(graph: GraphModule) -> GraphModule | None:
    """The graph with each operation in place replaced by one into a new tensor; None where that is another function."""
    nodes = list(graph.graph.nodes)
    order = {node: number for number, node in enumerate(nodes)}
    # For each node the first one with the same memory, and for each of these all of them.
    memory: dict[Node, Node] = {}
    sharing: dict[Node, list[Node]] = {}
    for node in nodes:
        sources = node.all_input_nodes
        memory[node] = memory[sources[0]] if sources and may_be_a_view(node) else node
        sharing.setdefault(memory[node], []).append(node)
    pure = Graph()
    copies: dict[Node, Node] = {}
    for node in nodes:
        copies[node] = pure.node_copy(node, copies.__getitem__)
        if written := written_arguments(node):
            before = [other for other in sharing[memory[node]] if order[other] < order[node]]
            read_later = any(order[user] > order[node] for other in before for user in other.users)
            operation = _into_new(node) if written == [node.args[0]] else None
            if operation is None or read_later or memory[node].op != "call_function":
                return None
            copies[node].target = operation
    return GraphModule(graph, pure)


def _into_new(node: Node) -> Operation | None:
    """The operation that gives in a new tensor what that of a node does in place; None where there is none."""
    operation: Any = node.target
    # An operation in place keeps the type of the tensor.
    types = {
        source.meta["val"].dtype for source in node.all_input_nodes if source.meta.get("val") is not None
    }
    return tracing.into_new(operation) if types == {node.meta["val"].dtype} else None

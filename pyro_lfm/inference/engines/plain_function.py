"""``plain_function``: a recorded graph as a function in Python that does its operations one by one, for replays."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.split_graph import may_be_a_view, wanted_nodes
from pyro_lfm.inference.engines.tracing import Function, Operation

# The operations whose result is always a view of their first argument.
_VIEWS = {
    getattr(torch.ops.aten, name)
    for name in "alias detach expand permute select slice squeeze t transpose unsqueeze view".split()
}


def plain_function(graph: GraphModule) -> Function:
    """The graph as a function in Python, with the same results bit for bit.

    A view is left out where the tensor itself, or one of the views that lead to it, has its shape and strides and begins at
    the same place. So are results that nobody reads.
    """
    return _written(_read(_with_fewer_views(graph.graph)), graph)


def _with_fewer_views(graph: Graph) -> Graph:
    small = Graph()
    copies: dict[Node, Node] = {}
    # For each tensor the views that lead to it, itself the last.
    chains: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        chains[node] = [node]
        if _is_view(node):
            before = chains[node.all_input_nodes[0]]
            chains[node] = [*before, node]
            same = [other for other in before if _geometry(other) == _geometry(node) is not None]
            if same:
                copies[node] = copies[same[0]]
                continue
        copies[node] = small.node_copy(node, copies.__getitem__)
    return small


def _read(graph: Graph) -> Graph:
    """A graph without the results that nobody reads."""
    wanted = wanted_nodes([*graph.nodes])
    for node in reversed(graph.nodes):
        if node not in wanted:
            graph.erase_node(node)
    return graph


def _is_view(node: Node) -> bool:
    target: Any = node.target
    return getattr(target, "overloadpacket", None) in _VIEWS and may_be_a_view(node)


def _geometry(node: Node) -> Any:
    """Where the entries of a result lie in its memory; None where that is not known, or where some lie at one place."""
    if (geometry := node.meta.get("geometry")) is None:
        return None
    _, shape, strides, _ = geometry
    # The transpose of a constant that was expanded looks like itself, and that of another tensor in its place would not.
    repeated = any(size > 1 and stride == 0 for size, stride in zip(shape, strides, strict=True))
    return None if repeated else geometry


def _written(graph: Graph, literals: GraphModule) -> Function:
    """The text of a graph as Python runs it.

    Operations are called directly. ``GraphModule`` looks each of them up by its path, at every call.
    """
    values: dict[str, Any] = {}
    lines, inputs, outputs = [], [], ""
    last = {source: node for node in graph.nodes for source in node.all_input_nodes}
    freed: dict[Node, list[str]] = {}
    for source, node in last.items():
        freed.setdefault(node, []).append(source.name)

    def text(held: Any) -> str:
        if isinstance(held, Node):
            return held.name
        if isinstance(held, list | tuple):
            inner = "".join(f"{text(value)}, " for value in held)
            return f"[{inner}]" if isinstance(held, list) else f"({inner})"
        values[name := f"value_{len(values)}"] = held
        return name

    for node in graph.nodes:
        if node.op == "placeholder":
            inputs.append(node.name)
        elif node.op == "get_attr":
            lines.append(f"{node.name} = {text(getattr(literals, str(node.target)))}")
        elif node.op == "output":
            outputs = text(node.args[0])
        else:
            target: Any = node.target
            call = text(tracing.direct(target) if isinstance(target, Operation) else target)
            options = [f"{name}={text(value)}" for name, value in node.kwargs.items()]
            lines.append(f"{node.name} = {call}({', '.join([*map(text, node.args), *options])})")
            lines += [f"del {', '.join(freed[node])}"] if node in freed else []
    body = "\n    ".join([*lines, f"return {outputs}"])
    exec(f"def replayed({', '.join(inputs)}):\n    {body}", values)
    function: Function = values["replayed"]
    return function

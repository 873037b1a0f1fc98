"""``SplitGraph``: a recorded graph in two, what depends on a block of rows alone and what every call computes anew.

It uses private names of torch: the schemas of operations.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch.fx import Graph, GraphModule, Node
from torch.fx.node import Argument

from pyro_lfm.inference.engines import tracing


class SplitGraph:
    """A graph of a function that is called repeatedly on one block of rows, such as draws from a guide of the rows.

    What no random number and no changing input reaches, such as the guide's network, is computed once. The operations and
    their order are those of the whole graph, so that the numbers are the same.

    Args:
        graph: a recorded graph, whose inputs are placeholders and whose output is a list.
        lasting: for each input whether it is the same in all calls on one block.

    Attributes:
        once: lasting inputs -> what is kept. again: the other inputs, then what was kept -> the outputs of the graph.
    """

    def __init__(self, graph: GraphModule, lasting: Sequence[bool]):
        nodes = list(graph.graph.nodes)
        inputs = [node for node in nodes if node.op == "placeholder"]
        wanted = wanted_nodes(nodes)
        anew = _computed_anew(nodes, {node for node, same in zip(inputs, lasting, strict=True) if not same})
        used = [n for n in nodes if n not in anew and any(user in anew & wanted for user in n.users)]
        # A constant of the program's text is copied into each of the two.
        kept = [node for node in used if node.op != "get_attr"]
        first, second = Graph(), Graph()
        copies: dict[Node, Node] = {}
        for node in nodes:
            if node not in anew and node in wanted:
                copies[node] = first.node_copy(node, copies.__getitem__)
        first.output([copies[node] for node in kept])
        copies = {node: second.node_copy(node) for node in inputs if node in anew}
        copies |= {node: second.placeholder(f"kept_{number}") for number, node in enumerate(kept)}
        for node in nodes:
            constant = node.op == "get_attr" and node in used
            if node not in copies and (constant or (node in anew and node in wanted)):
                copies[node] = second.node_copy(node, copies.__getitem__)
        self.once, self.again = GraphModule(graph, first), GraphModule(graph, second)


def wanted_nodes(nodes: Sequence[Node]) -> set[Node]:
    """The nodes that the output needs, with those that draw random numbers or work in place, and the inputs."""
    wanted: set[Node] = set()
    for node in reversed(nodes):
        acts = _is_random(node) or bool(written_arguments(node))
        if acts or node.op in ("output", "placeholder") or any(user in wanted for user in node.users):
            wanted.add(node)
    return wanted


def _computed_anew(nodes: Sequence[Node], changing: set[Node]) -> set[Node]:
    """The nodes that depend on a random number or a changing input, with all that share memory with a changed tensor."""
    memory: dict[Node, Node] = {}
    for node in nodes:
        sources = node.all_input_nodes
        memory[node] = memory[sources[0]] if sources and may_be_a_view(node) else node
    written = {memory[n] for node in nodes for n in written_arguments(node) if isinstance(n, Node)}
    if any(node.op == "placeholder" for node in written):
        raise tracing.NotRecordable("it changes one of its inputs in place")
    anew: set[Node] = set()
    for node in nodes:
        reached = any(source in anew for source in node.all_input_nodes)
        if node in changing or node.op == "output" or _is_random(node) or reached or memory[node] in written:
            anew.add(node)
    return anew


def _is_random(node: Node) -> bool:
    return isinstance(node.target, tracing.Operation) and tracing.is_random(node.target)


def may_be_a_view(node: Node) -> bool:
    """Whether the result of an operation shares memory with its first argument, or may do so."""
    if not isinstance(node.target, tracing.Operation):
        return True
    return any(value.alias_info is not None for value in node.target._schema.returns)


def written_arguments(node: Node) -> list[Argument]:
    """The arguments that the operation of a node changes in place."""
    if not isinstance(node.target, tracing.Operation):
        return []
    places = enumerate(node.target._schema.arguments)
    written = [(number, a.name) for number, a in places if a.alias_info is not None and a.alias_info.is_write]
    return [node.args[k] if k < len(node.args) else node.kwargs.get(name) for k, name in written]

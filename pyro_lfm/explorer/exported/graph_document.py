"""A graph of ONNX as JSON for the page's interpreter, with its weights in a block of arrays."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from pyro_lfm.errors import DeclarationError
from pyro_lfm.explorer.exported.array_block import ArrayBlock
from pyro_lfm.explorer.exported.graph_operators import lacking

Document: TypeAlias = dict[str, object]


def graph_document(model: Any, block: ArrayBlock, name: str) -> Document:
    """The graph of an ONNX file, which ``lfm.graph`` of ``offline/graph.js`` runs.

    Args:
        model: the file, as ``onnx.load`` reads it.
        block: takes the weights.
        name: of the function, for errors, such as "decode".

    Returns:
        {inputs: [{name, type, shape}], outputs: [name], tensors: {name: reference}, nodes: [{op, inputs, outputs,
        attributes}]}.

    Raises:
        DeclarationError: the interpreter lacks an operator of the graph; the message names it.
    """
    import onnx
    import onnx.inliner

    if len(model.functions):
        model = onnx.inliner.inline_local_functions(model)
    graph = model.graph
    tensors = {each.name: block.add(onnx.numpy_helper.to_array(each)) for each in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant":
            tensors[node.output[0]] = block.add(_constant(node))
            continue
        attributes = {each.name: _attribute(each, block) for each in node.attribute}
        operator = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        if (words := lacking(operator, attributes)) is not None:
            raise DeclarationError(
                f"{name} cannot run in an exported page: its graph has the operator {words}, which the page's interpreter "
                "lacks: run the explorer without export, as in lfm.explore(fit, data) or pyro-lfm explore RUN"
            )
        nodes.append(
            {"op": operator, "inputs": [*node.input], "outputs": [*node.output], "attributes": attributes}
        )
    return {
        "inputs": [_value(each) for each in graph.input],
        "outputs": [each.name for each in graph.output],
        "tensors": tensors,
        "nodes": nodes,
    }


def _constant(node: Any) -> Any:
    import onnx

    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.type == onnx.AttributeProto.TENSOR:
        return onnx.numpy_helper.to_array(value)
    whole = attribute.type in (onnx.AttributeProto.INT, onnx.AttributeProto.INTS)
    return np.asarray(value, np.int64 if whole else np.float32)


def _attribute(attribute: Any, block: ArrayBlock) -> object:
    """An attribute as JSON has it: numbers, lists and texts, the name of a type, the reference of a tensor."""
    import onnx

    value: Any = onnx.helper.get_attribute_value(attribute)
    if attribute.name in ("to", "dtype") and isinstance(value, int):
        return _type(value)
    if attribute.type == onnx.AttributeProto.TENSOR:
        return block.add(onnx.numpy_helper.to_array(value))
    if attribute.type == onnx.AttributeProto.GRAPH:
        return "a graph"
    if isinstance(value, bytes):
        return value.decode()
    return list(value) if isinstance(value, list | tuple) or hasattr(value, "__len__") else value


def _type(code: int) -> str:
    """The interpreter's type for one of ONNX."""
    import onnx

    kind = onnx.helper.tensor_dtype_to_np_dtype(code)
    if kind == np.bool_:
        return "bool"
    return "int" if kind.kind in "iu" else "float64" if kind == np.float64 else "float32"


def _value(value: Any) -> dict[str, object]:
    kind = value.type.tensor_type
    shape = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
    return {"name": value.name, "type": _type(kind.elem_type), "shape": shape}

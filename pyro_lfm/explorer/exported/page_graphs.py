"""Functions of a fit, recorded and written as graphs for the page's interpreter, and checked against the library."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from pyro_lfm.documents.export.exported_parts import ExportedPart
from pyro_lfm.documents.export.file_formats import Onnx
from pyro_lfm.documents.export.recorded_graph import record
from pyro_lfm.errors import DeclarationError
from pyro_lfm.explorer.exported.array_block import ArrayBlock
from pyro_lfm.explorer.exported.graph_document import Document, graph_document

# The largest difference of onnxruntime from the library, relative to the scale of an output.
_TOLERANCE = 1e-4
# What the words of a recording advise for files, which is no remedy here.
_REMEDIES = (", or leave this part out of parts=", ": leave this part out of parts=", ': give format="torch"')


def page_graph(part: ExportedPart, name: str, block: ArrayBlock) -> Document:
    """The graph of a function, with its weights in the block.

    Args:
        name: of the function, for errors, such as "the decoder".

    Raises:
        DeclarationError: it cannot be a graph, the interpreter lacks an operator, or pyro_lfm[export] is not installed.
    """
    writer = Onnx()
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError:
        raise DeclarationError(
            "an exported page needs onnx and onnxscript, which write its graphs: pip install 'pyro_lfm[export]'"
        ) from None
    try:
        recorded = record(part, name, writer.decompositions)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph.onnx"
            writer.write(recorded, path, {}, name)
            outputs = writer.run(path, recorded.inputs)
            model: Any = onnx.load(path)
    except DeclarationError as error:
        raise DeclarationError(_without_remedies(str(error))) from None
    for key, expected in recorded.outputs.items() if outputs is not None else ():
        _compare(expected, outputs[key], f"{name}: its graph gives another {key} than the library")
    return graph_document(model, block, name)


def _without_remedies(words: str) -> str:
    for remedy in _REMEDIES:
        words = words.partition(remedy)[0]
    return words


def _compare(expected: torch.Tensor, given: torch.Tensor, words: str) -> None:
    one, other = expected.double().cpu(), given.double().reshape(expected.shape)
    same = (one == other) | (one.isnan() & other.isnan())
    difference = torch.where(same, 0.0, (one - other).abs())
    scale = one.abs().nan_to_num(0.0, 0.0, 0.0).amax().clamp_min(1.0) if one.numel() else 1.0
    if not bool((difference <= _TOLERANCE * scale).all()):
        raise DeclarationError(f"{words}, by {float(difference.max()):.2g}: run the explorer without export")

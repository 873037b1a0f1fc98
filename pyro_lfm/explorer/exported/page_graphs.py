"""Functions of a fit, recorded and written as graphs for the page's interpreter, and checked against the library."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import torch

from pyro_lfm.documents.export.exported_parts import ExportedPart
from pyro_lfm.documents.export.file_formats import Onnx
from pyro_lfm.documents.export.recorded_graph import Recorded, record
from pyro_lfm.errors import DeclarationError, first_line
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
        recorded = record(part, name, {**writer.decompositions, torch.ops.aten.erfinv.default: erfinv})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph.onnx"
            writer.write(recorded, path, {}, name)
            outputs = _run(writer, path, recorded, name)
            model: Any = onnx.load(path)
    except DeclarationError as error:
        raise DeclarationError(_without_remedies(str(error))) from None
    for key, given in (outputs or {}).items():
        _compare(recorded.outputs[key], given, f"{name}: its graph gives another {key} than the library")
    return graph_document(model, block, name)


def _run(writer: Onnx, path: Path, recorded: Recorded, name: str) -> dict[str, torch.Tensor] | None:
    try:
        return writer.run(path, recorded.inputs)
    except Exception as error:  # of any kind
        raise DeclarationError(
            f"{name} cannot be exported: its graph does not run ({first_line(error)})"
        ) from None


def erfinv(x: torch.Tensor) -> torch.Tensor:
    """The inverse of the error function, which ONNX lacks: Winitzki's approximation, made exact by two steps of Halley.

    >>> x = torch.tensor([-0.9, 0.0, 0.5, 0.999])
    >>> torch.allclose(erfinv(x), torch.erfinv(x), rtol=1e-5)
    True
    """
    logarithm = (1 - x * x).log()
    half = 2 / (math.pi * 0.147) + logarithm / 2
    value = x.sign() * ((half * half - logarithm / 0.147).sqrt() - half).sqrt()
    for _ in range(2):
        error = (value.erf() - x) * (math.sqrt(math.pi) / 2) * (value * value).exp()
        value = value - error / (1 + value * error)
    return value


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

"""The two formats of exported files: ONNX, for onnxruntime, and .pt2, for ``torch.export.load``."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.documents.export.elementary_algebra import Decompositions, decompositions
from pyro_lfm.documents.export.quiet import quiet
from pyro_lfm.documents.export.recorded_graph import Recorded
from pyro_lfm.errors import DeclarationError, first_line

# The key of the metadata in a file.
KEY = "pyro_lfm"
_MOST_BYTES = 2**31 - 2**20  # of an ONNX file, by its encoding


class FileFormat(ABC):
    """A format of files.

    Attributes:
        name: as ``format=`` has it. suffix: of the files. remedy: for a graph that the format cannot hold.
        decompositions: of the operations that the format lacks.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]

    remedy: ClassVar[str]
    decompositions: ClassVar[Decompositions]

    @abstractmethod
    def check_installed(self) -> None:
        """Raises DeclarationError if a package that writes the files is missing."""

    @abstractmethod
    def write(self, recorded: Recorded, path: Path, metadata: Mapping[str, object], part: str) -> None:
        """Writes a file.

        Raises:
            DeclarationError: the format cannot hold the graph.
        """

    @abstractmethod
    def run(self, path: Path, inputs: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """The outputs of a file; None where the package that runs it is not installed."""


class Onnx(FileFormat):
    """ONNX files, with the metadata as JSON under ``metadata_props``."""

    name, suffix = "onnx", ".onnx"
    remedy = 'give format="torch", or leave this part out of parts='
    decompositions = decompositions()

    def check_installed(self) -> None:
        try:
            import onnx  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError:
            raise DeclarationError(
                "ONNX files are written by onnx and onnxscript: pip install 'pyro_lfm[export]', or give format=\"torch\""
            ) from None

    def write(self, recorded: Recorded, path: Path, metadata: Mapping[str, object], part: str) -> None:
        tensors = [*recorded.program.state_dict.values(), *recorded.program.constants.values()]
        size = sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))
        if size > _MOST_BYTES:
            raise DeclarationError(
                f"{part} cannot be exported: its weights have {size / 2**30:.1f} GiB, and an ONNX file holds 2: give "
                'format="torch"'
            )
        import onnxscript.optimizer

        try:
            with quiet(), torch.no_grad():
                onnx: Any = torch.onnx.export(
                    recorded.program,
                    dynamo=True,
                    verbose=False,
                    # torch's rewriting of double precision makes graphs that do not load; onnxruntime fuses by itself.
                    optimize=False,
                    custom_translation_table={torch.ops.aten.scalar_tensor.default: _scalar_tensor},
                    input_names=[*recorded.inputs],
                    output_names=[*recorded.outputs],
                )
                onnxscript.optimizer.fold_constants(onnx.model)
                onnxscript.optimizer.remove_unused_nodes(onnx.model)
                _name_values(onnx.model, recorded)
                onnx.model.metadata_props[KEY] = json.dumps(metadata)
                onnx.save(str(path), external_data=False)
        except OSError:
            raise
        except Exception as error:  # of any kind
            raise DeclarationError(
                f"{part} cannot be exported: ONNX lacks an operation of its graph ({_lacking(error)}): {self.remedy}"
            ) from None

    def run(self, path: Path, inputs: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        try:
            import onnxruntime
        except ImportError:
            return None
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        arrays = {name: np.ascontiguousarray(value.cpu().numpy()) for name, value in inputs.items()}
        names = [output.name for output in session.get_outputs()]
        return {n: torch.as_tensor(v) for n, v in zip(names, session.run(names, arrays), strict=True)}


def _lacking(error: BaseException) -> str:
    """The words for what torch's exporter lacks: the name of an operation, or the first words of the last cause.

    torch wraps a cause in a message of its own, with advice and escape codes of terminals.
    """
    operation = re.search(r"<OpOverload\(op='([^']*)'", str(error))
    if operation is not None:
        return operation[1]
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {first_line(error)}"


def _scalar_tensor(
    value: Any, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None
) -> Any:
    """A number in the precision of its tensor, for which torch's exporter takes single precision."""
    import onnx
    from onnxscript import opset18

    if isinstance(value, int | float):
        return opset18.Constant(value=onnx.numpy_helper.from_array(np.array(value, dtype.numpy())))
    return opset18.Cast(value, to=dtype)


def _name_values(model: Any, recorded: Recorded) -> None:
    """Names all values that are no inputs or outputs by numbers, and the dimension of rows "rows" wherever a shape has it.

    torch takes names of operations and parameters, which may be those of inputs or outputs.
    """
    import onnx_ir

    graph = model.graph
    taken = {*graph.inputs, *graph.initializers.values()}
    for place, value in enumerate(list(graph.outputs)):
        if value in taken:  # an output has a value of its own
            node = onnx_ir.node("Identity", [value])
            node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
            graph.append(node)
            graph.outputs[place] = node.outputs[0]
        taken.add(value)
    outer = {*graph.inputs, *graph.outputs}
    inner = [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    for k, value in enumerate(value for value in inner if value not in outer):
        value.name = f"_{k}"
    for value, name in zip(graph.outputs, recorded.outputs, strict=True):
        value.name = name
    rows = next(v.shape[0] for v in graph.inputs if recorded.part.per_row(v.name))
    for value in {*outer, *inner}:
        for place, size in enumerate(value.shape or ()):
            if size == rows:
                value.shape[place] = "rows"


class TorchProgram(FileFormat):
    """Files of ``torch.export.save``, with the metadata as the extra file ``pyro_lfm.json``."""

    name, suffix, remedy = "torch", ".pt2", "leave this part out of parts="
    decompositions: ClassVar[Decompositions] = {}

    def check_installed(self) -> None:
        """torch alone writes and reads them."""

    def write(self, recorded: Recorded, path: Path, metadata: Mapping[str, object], part: str) -> None:
        with quiet():
            torch.export.save(recorded.program, path, extra_files={f"{KEY}.json": json.dumps(metadata)})

    def run(self, path: Path, inputs: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        with quiet(), torch.no_grad():
            program: Any = torch.export.load(path)
            outputs: dict[str, Tensor] = program.module()(dict(inputs))
            return outputs


FORMATS: dict[str, FileFormat] = {each.name: each for each in (Onnx(), TorchProgram())}

"""The two formats of exported files: ONNX, for onnxruntime, and .pt2, for ``torch.export.load``."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.documents.export.elementary_algebra import TooLarge, decompositions
from pyro_lfm.documents.export.quiet import quiet
from pyro_lfm.documents.export.recorded_graph import Recorded
from pyro_lfm.errors import DeclarationError, first_line

# The key of the metadata in a file.
KEY = "pyro_lfm"
_MOST_BYTES = 2**31 - 2**20  # of an ONNX file, by its encoding


class FileFormat(ABC):
    """A format of files.

    Attributes:
        name: as ``format=`` has it. suffix: of the files.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]

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
        try:
            with quiet(), torch.no_grad():
                program = recorded.program.run_decompositions(decompositions())
                onnx: Any = torch.onnx.export(
                    program,
                    dynamo=True,
                    verbose=False,
                    input_names=[*recorded.inputs],
                    output_names=[*recorded.outputs],
                )
                _name_rows(onnx.model, recorded)
                onnx.model.metadata_props[KEY] = json.dumps(metadata)
                onnx.save(str(path), external_data=False)
        except TooLarge as error:
            raise DeclarationError(
                f'{part} cannot be exported: {error}: give format="torch", or leave this part out of parts='
            ) from None
        except OSError:
            raise
        except Exception as error:  # of any kind
            raise DeclarationError(
                f"{part} cannot be exported: ONNX lacks an operation of its graph ({_lacking(error)}): give "
                'format="torch", or leave this part out of parts='
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
    """The words for what torch's exporter lacks."""
    text = str(error)
    start = text.find("<OpOverload(op='")
    return text[start:].split("'")[1] if start >= 0 else f"{type(error).__name__}: {first_line(error)}"


def _name_rows(model: Any, recorded: Recorded) -> None:
    """Gives the dimension of rows the name "rows" wherever a shape has it."""
    first = next(value for value in model.graph.inputs if recorded.part.per_row(value.name))
    symbol = first.shape[0]
    values = {*model.graph.inputs, *model.graph.outputs, *(v for node in model.graph for v in node.outputs)}
    for value in values:
        for place, size in enumerate(value.shape or ()):
            if size == symbol:
                value.shape[place] = "rows"


class TorchProgram(FileFormat):
    """Files of ``torch.export.save``, with the metadata as the extra file ``pyro_lfm.json``."""

    name, suffix = "torch", ".pt2"

    def write(self, recorded: Recorded, path: Path, metadata: Mapping[str, object], part: str) -> None:
        with quiet():
            torch.export.save(recorded.program, path, extra_files={f"{KEY}.json": json.dumps(metadata)})

    def run(self, path: Path, inputs: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        with quiet(), torch.no_grad():
            program: Any = torch.export.load(path)
            outputs: dict[str, Tensor] = program.module()(dict(inputs))
            return outputs


FORMATS: dict[str, FileFormat] = {each.name: each for each in (Onnx(), TorchProgram())}

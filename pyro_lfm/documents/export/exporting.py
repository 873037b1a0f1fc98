"""``lfm.export``: the functions of a fit as files that run without this library."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pyro_lfm.documents.export.agreement import check_agreement
from pyro_lfm.documents.export.exported_parts import Decode, Encode, ExportedPart, LogLikelihood
from pyro_lfm.documents.export.file_formats import FORMATS, FileFormat
from pyro_lfm.documents.export.file_metadata import metadata_of
from pyro_lfm.documents.export.fitted_outline import Outline, outline_of
from pyro_lfm.documents.export.recorded_graph import record
from pyro_lfm.errors import DataError, DeclarationError, one_call
from pyro_lfm.inference.fitted import Fit

Part = Literal["encode", "decode", "log_likelihood"]

_PARTS: dict[str, Callable[[Outline, Fit], ExportedPart]] = {
    "encode": lambda outline, fit: Encode(outline, fit.guide),
    "decode": lambda outline, fit: Decode(outline, fit.model),
    "log_likelihood": lambda outline, fit: LogLikelihood(outline, fit.model),
}


def export(
    fit: Fit,
    path: str | os.PathLike[str],
    *,
    parts: Part | Sequence[Part] = ("encode", "decode", "log_likelihood"),
    format: Literal["onnx", "torch"] | None = None,
) -> dict[str, Path]:
    """Writes functions of a fit as files: ``model.encode.onnx``, ``model.decode.onnx``, ``model.log_likelihood.onnx``.

    ONNX files run in onnxruntime, with neither torch nor Pyro. Files of torch (.pt2) run by
    ``torch.export.load(file).module()``, which takes and gives dicts. They take any number of rows, ``(rows, *event)``.
    Missing entries are NaN, labels are their codes 0, 1, ..., and everything that the library does to rows before the
    networks read them is inside.

    - encode: the observed variables by name, and the noise of a draw: ``eps`` (rows, E), standard normal, and where a latent
      needs it ``uniform`` (rows, U), between 0 and 1. Outputs: ``mean`` as in ``fit.posterior(X)``, ``scale_tril``
      (of Gaussians and mixtures of them), ``probs`` (of labels) or ``variance`` (else), and ``z``, the draw. With several
      latents ``z.mean``, ``z.scale_tril``, ``z.z``.
    - decode: the latents by name, covariates, and observed variables that others read. Outputs: ``mean``, and the parameters
      of the likelihood such as ``scale`` or ``probs``. With several observed variables they are ``x.mean``, ``x.scale``.
    - log_likelihood: the observed variables and the latents. Output: ``log_likelihood`` (rows,), ln p(x | z) in nats of the
      observed entries, and with several observed variables ``x.log_likelihood``.

    An input on which no output depends is left out. Column names, labels, families, shapes and the version stand in the
    files as JSON: ``metadata_props["pyro_lfm"]`` of ONNX, the extra file ``pyro_lfm.json`` of .pt2. Each file is run and
    compared with the library before any is put in its place.

    Args:
        fit: the fit.
        path: such as "model.onnx" or "model.pt2". The name of a part is put before the suffix.
        parts: the functions to write.
        format: "onnx" or "torch". By default it is the one of the suffix, and ONNX without a suffix.

    Returns:
        The files by part.

    Raises:
        DeclarationError: an argument is wrong, a part cannot be a graph, or pyro_lfm[export] is not installed. The message
            says which, and nothing is written.
        DataError: the folder cannot be written to.

    >>> import tempfile
    >>> import torch
    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))
    >>> fit = lfm.fit(model, torch.randn(50, 4), lfm.EM(iterations=3, tolerance=1e-3), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = lfm.export(fit, f"{folder}/model.pt2", parts="encode")
    ...     program = torch.export.load(files["encode"]).module()
    >>> program({"x": torch.zeros(3, 4), "eps": torch.zeros(3, 2)})["mean"].shape
    torch.Size([3, 2])
    """
    if not isinstance(fit, Fit):
        raise DeclarationError(f"fit must be a Fit, as lfm.fit returns it; got {type(fit).__name__}")
    names = _names(parts)
    target, writer = _target(path, format)
    writer.check_installed()
    if fit.model.tables:
        raise DeclarationError(
            "the model has parameters for each fitted row (PerRow), and none for other rows: a file of it would "
            "serve no rows; declare a network or Learned() in their place"
        )
    with one_call():
        outline = outline_of(fit)
        recorded = {name: record(_part(name, outline, fit), name, writer.decompositions) for name in names}
        files = {name: target.with_name(f"{target.name}.{name}{writer.suffix}") for name in names}
        with _staging(target.parent, files.values()) as folder:
            for name, graph in recorded.items():
                beside = folder / files[name].name
                writer.write(graph, beside, metadata_of(fit, graph, name), name)
                check_agreement(fit, graph, writer, beside, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            for file in files.values():
                os.replace(folder / file.name, file)
    return files


def _part(name: str, outline: Outline, fit: Fit) -> ExportedPart:
    if not outline.latents and name != "log_likelihood":
        raise DeclarationError(
            f'{name} cannot be exported: this model has no latents: give parts="log_likelihood"'
        )
    try:
        return _PARTS[name](outline, fit)
    except DeclarationError as error:
        raise DeclarationError(f"{name} cannot be exported: {error}") from None


def _names(parts: str | Sequence[str]) -> list[str]:
    names = [parts] if isinstance(parts, str) else list(parts) if isinstance(parts, Sequence) else [parts]
    wrong = [name for name in names if not isinstance(name, str) or name not in _PARTS]
    if wrong or not names or len(set(names)) < len(names):
        raise DeclarationError(
            f"parts must name one or more of {', '.join(map(repr, _PARTS))}, each once; got {parts!r}"
        )
    return names


def _target(path: str | os.PathLike[str], format: str | None) -> tuple[Path, FileFormat]:
    """The path without its suffix, and the format."""
    try:
        target = Path(path)
    except TypeError:
        raise DeclarationError(f'path must be a path such as "model.onnx"; got {path!r}') from None
    if format is not None and (not isinstance(format, str) or format not in FORMATS):
        raise DeclarationError(f"format must be one of {', '.join(map(repr, FORMATS))}; got {format!r}")
    by_suffix = {each.suffix: each for each in FORMATS.values()}
    if not target.name or (target.suffix and target.suffix not in by_suffix):
        raise DeclarationError(
            f'path must end in {" or ".join(by_suffix)}, as in "model.onnx"; got {str(path)!r}'
        )
    of_suffix = by_suffix.get(target.suffix)
    writer = FORMATS[format] if format is not None else of_suffix or FORMATS["onnx"]
    if of_suffix not in (None, writer):
        raise DeclarationError(
            f'format="{writer.name}" writes files that end in {writer.suffix}; got the path {str(path)!r}: give one that '
            f"ends so, such as {target.with_suffix(writer.suffix).name!r}"
        )
    return target.with_suffix("") if of_suffix else target, writer


@contextmanager
def _staging(folder: Path, files: Iterable[Path]) -> Iterator[Path]:
    """A folder beside the files, on the same disk, which is gone at the end.

    Raises:
        DataError: the files cannot be written.
    """
    try:
        taken = [file for file in files if file.is_dir()]
        if taken:
            raise DataError(f"path leads to {taken[0]}, which is a folder: give another path")
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
        with tempfile.TemporaryDirectory(prefix=".export-", dir=there) as staged:
            yield Path(staged)
    except OSError as error:
        raise DataError(
            f"the files cannot be written to {folder}: {error.strerror or type(error).__name__}; none was changed"
        ) from None

"""The check that an exported file gives what the library gives, made before the file is put in its place."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.documents.export.exported_parts import Encode, Tensors
from pyro_lfm.documents.export.file_formats import FileFormat
from pyro_lfm.documents.export.posterior_moments import moments_of
from pyro_lfm.documents.export.recorded_graph import Recorded, evaluate
from pyro_lfm.errors import DeclarationError, first_line
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.probes import evaluating
from pyro_lfm.runtime import isolated

# The largest difference, relative to numbers above 1: of single precision, and of double.
_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-8}


def check_agreement(fit: Fit, recorded: Recorded, writer: FileFormat, path: Path, name: str) -> None:
    """Runs a file on the examples, and on one row of them, and compares the outputs with those of the library.

    Raises:
        DeclarationError: they differ, or the file does not run.
    """
    one = {n: value[4:5] if recorded.part.per_row(n) else value for n, value in recorded.inputs.items()}
    for inputs, expected in ((recorded.inputs, recorded.outputs), (one, evaluate(recorded.part, one))):
        try:
            outputs = writer.run(path, inputs)
        except Exception as error:  # of any kind
            raise DeclarationError(
                f"{name} cannot be exported: the file does not run ({first_line(error)}): leave this part out of parts="
            ) from None
        if outputs is not None:
            _compare(expected, outputs, f"{name} cannot be exported: the file")
    if isinstance(recorded.part, Encode):
        _compare(
            _posterior_means(fit, recorded.part), recorded.outputs, "encode cannot be exported: its graph"
        )


def _posterior_means(fit: Fit, part: Encode) -> dict[str, Tensor]:
    """The moments of the posterior at the examples, by the guide of the fit as the library runs it."""
    outline = part.outline
    batch = Batch(outline.rows, incomplete=frozenset(outline.may_be_missing))
    with isolated(device=outline.device), evaluating(fit.guide):
        posteriors = marginals(fit.guide, batch, outline.latents)
    prefixes = {name: f"{name}." if len(posteriors) > 1 else "" for name in posteriors}
    return {prefixes[name] + "mean": moments_of(posterior)["mean"] for name, posterior in posteriors.items()}


def _compare(expected: Tensors, outputs: Tensors, what: str) -> None:
    for name, value in expected.items():
        given = outputs[name].to(value.device)
        if given.shape != value.shape:
            raise DeclarationError(
                f"{what} gives {name} in shape {tuple(given.shape)}, not {tuple(value.shape)}"
            )
        limit = _TOLERANCE.get(value.dtype, 0.0) * value.double().abs().clamp_min(1.0)
        apart = (given.double() - value.double()).abs() > limit
        if bool((apart | (given.isnan() != value.isnan())).any()):
            worst = float((given.double() - value.double()).abs().nan_to_num(torch.inf).max())
            raise DeclarationError(
                f"{what} differs from the library in {name}, by {worst:.2g}: leave it out of parts="
            )

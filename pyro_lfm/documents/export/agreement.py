"""The check that an exported file gives what the library gives, made before the file is put in its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.documents.export.encoder_outputs import moments_of
from pyro_lfm.documents.export.exported_parts import Encode, Tensors
from pyro_lfm.documents.export.file_formats import FileFormat
from pyro_lfm.documents.export.quiet import trial
from pyro_lfm.documents.export.recorded_graph import Recorded, evaluate, evaluate_with
from pyro_lfm.errors import DeclarationError, first_line
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.inference.fitted import Fit

# The largest difference, relative to numbers above 1. onnxruntime has some operations in single precision only.
_TOLERANCE = 1e-5


def check_agreement(fit: Fit, recorded: Recorded, writer: FileFormat, path: Path, name: str) -> None:
    """Runs a file on the examples, and on one row of them, and compares the outputs with those of the library.

    Raises:
        DeclarationError: they differ, or the file does not run.
    """
    part, refused = recorded.part, f"{name} cannot be exported:"
    weights = _moved({**dict(part.named_parameters()), **dict(part.named_buffers())})
    one = {n: value[4:5] if part.per_row(n) else value for n, value in recorded.inputs.items()}
    for inputs, expected in ((recorded.inputs, recorded.outputs), (one, evaluate(part, one))):
        try:
            outputs = writer.run(path, inputs)
        except Exception as error:  # of any kind
            why = first_line(error).split(" : ")[-1]
            raise DeclarationError(f"{refused} the file does not run ({why}): {writer.remedy}") from None
        if outputs is not None:
            moved = evaluate_with(part, weights, {**inputs, **_moved(inputs)})
            _compare(expected, outputs, moved, f"{refused} the file")
    if isinstance(part, Encode):
        means = _posterior_means(fit, part)
        _compare(means, recorded.outputs, means, f"{refused} its graph")


def _moved(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values with every number moved by up to some units in its last place, up or down."""
    return {
        name: value
        * (
            1
            + 8
            * torch.finfo(value.dtype).eps
            * torch.arange(value.numel(), device=value.device).cos().reshape(value.shape)
        )
        for name, value in values.items()
        if value.is_floating_point()
    }


def _posterior_means(fit: Fit, part: Encode) -> dict[str, Tensor]:
    """The moments of the posterior at the examples, by the guide of the fit as the library runs it."""
    outline = part.outline
    batch = Batch(outline.rows, incomplete=frozenset(outline.may_be_missing))
    with trial(fit.guide, outline.device):
        posteriors = marginals(fit.guide, batch, outline.latents)
    means = {name: {"mean": moments_of(posterior)["mean"]} for name, posterior in posteriors.items()}
    return part.named(means)


def _compare(expected: Tensors, outputs: Tensors, moved: Tensors, what: str) -> None:
    """Raises DeclarationError where outputs differ by more than rounding.

    Args:
        moved: the outputs of the library for inputs and weights moved by rounding. Where these are far away, the output
            has few digits in the library too.
    """
    for name, value in expected.items():
        given = outputs[name].to(value.device)
        if given.shape != value.shape:
            raise DeclarationError(
                f"{what} gives {name} in shape {tuple(given.shape)}, not {tuple(value.shape)}: leave it out of parts="
            )
        double, digits = (
            value.double(),
            (moved[name].double() - value.double()).abs().nan_to_num(0.0, 0.0, 0.0),
        )
        limit = _TOLERANCE * double.abs().clamp_min(1.0) + 4 * digits
        difference = (given.double() - double).abs()
        same = (difference <= limit) | (given == value) | (given.isnan() & value.isnan())
        if not bool(same.all()):
            worst = float(difference.where(~same, 0.0).max())
            raise DeclarationError(
                f"{what} differs from the library in {name}, by {worst:.2g}: leave it out of parts="
            )

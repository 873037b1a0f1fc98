"""How much the data know of rows with asked attributes, and a sentence where it is little; for ``generate`` and ``edit``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.attributes.labels import Labelled
from pyro_lfm.attributes.requests import Request

# A row is near a request if its numbers differ by at most this part of their ranges, and its labels are those asked for.
NEAR = 0.1
# Fewer rows near a request than this are hardly any. A score below these is a poor one. Most draws are this part.
_FEW, _R_SQUARED, _AUC, _MOST = 3, 0.5, 0.8, 0.9


@dataclass(frozen=True)
class Coverage:
    """What the data know of a request.

    Attributes:
        rows, labelled: the number of rows near the request among those with all labels that it asks for, and their number.
        share: the share of the latent density near it, as attributes are read there.
        message: a sentence on what the data hardly know; None where they know enough.
    """

    rows: int
    labelled: int
    share: float
    message: str | None


def coverage(
    request: Request, labelled: list[Labelled], pool_outputs: Tensor, scores: dict[str, float]
) -> Coverage:
    """What labelled rows and the latent density know of a request.

    Args:
        labelled: the labels of the attributes that are asked for. pool_outputs: of draws of the density, (A, M, W).
        scores: R² or AUC of all attributes.
    """
    known = torch.stack([one.known for one in labelled]).all(0)
    near = known.clone()
    for one, code in zip(labelled, request.codes, strict=True):
        width = 0.0 if one.attribute.labels else NEAR * one.attribute.range
        near &= (one.codes - code).abs() <= width + 1e-9
    rows, total = int(near.sum()), int(known.sum())
    share = float((request.distances(pool_outputs) <= NEAR).all(1).double().mean())
    words = []
    if rows < _FEW and share * len(known) < _FEW:
        words.append(
            f"{rows or 'none'} of the {total} labelled rows and {100 * share:.2g}% of the latent density are near "
            f"{_asked(request)}: rows with these attributes go beyond the data"
        )
    for one in labelled:
        name, score = one.attribute.name, scores[one.attribute.name]
        if score < (_AUC if one.attribute.labels else _R_SQUARED):
            measure = "AUC" if one.attribute.labels else "R²"
            words.append(
                f"the latents hardly hold {name} (held-out {measure} {score:.2f}), so that rows may not show it"
            )
    return Coverage(rows, total, share, "; ".join(words) or None)


def unmet(request: Request, outputs: Tensor) -> str | None:
    """A sentence where many draws are not as asked, from their outputs (A, B, W)."""
    met = (request.distances(outputs) <= NEAR).all(1).double().mean()
    if float(met) >= _MOST:
        return None
    share, near = f"{100 * float(met):.0f}%", f"{100 * NEAR:.0f}%"
    return f"only {share} of the rows are read as {_asked(request)}, up to {near} of the range of a number"


def _asked(request: Request) -> str:
    parts = []
    for attribute, code in zip(request.readings.attributes, request.codes.tolist(), strict=True):
        parts.append(
            f"{attribute.name} = {attribute.labels[int(code)] if attribute.labels else f'{code:.4g}'}"
        )
    return ", ".join(parts)

"""The metadata of exported files: the version, the columns of the data, the inputs and the outputs, as plain values."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from torch import Tensor

from pyro_lfm.documents.export.exported_parts import Encode, ExportedPart
from pyro_lfm.documents.export.recorded_graph import Recorded
from pyro_lfm.documents.export.row_noise import NOISE
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.programs.model import Model


def metadata_of(fit: Fit, recorded: Recorded, part: str) -> dict[str, object]:
    """What a reader of the file needs to know, for ``json.dumps``.

    Args:
        part: the name of the part, such as "encode".
    """
    from pyro_lfm import __version__

    of = recorded.part
    return {
        "version": __version__,
        "part": part,
        "model": repr(fit.model),
        "guide": repr(fit.guide),
        "inputs": {
            name: {**_shape(of, name, value), **_input(fit, of, name)}
            for name, value in recorded.inputs.items()
        },
        "outputs": {name: _tensor(value) for name, value in recorded.outputs.items()},
        "variables": {name: _variable(fit, name) for name in fit.model.sites.all},
        **({"without_draws": _without_draws(of)} if isinstance(of, Encode) else {}),
    }


def _without_draws(part: Encode) -> dict[str, str]:
    """The latents without an output ``z``, and why."""
    reasons = "; ".join(part.obstacles.values())
    return {n: part.obstacles.get(n, reasons) for n in part.outline.latents if n not in part.drawn}


def _tensor(value: Tensor) -> dict[str, object]:
    return {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}


def _shape(part: ExportedPart, name: str, value: Tensor) -> dict[str, object]:
    sizes: list[object] = list(value.shape)
    return {**_tensor(value), "shape": ["rows", *sizes[1:]] if part.per_row(name) else sizes}


def _input(fit: Fit, part: ExportedPart, name: str) -> dict[str, object]:
    if name in NOISE:
        return {"noise": NOISE[name][1]}
    if name in fit.model.observed:
        return {"missing": "NaN" if name in part.outline.may_be_missing else None}
    return {}


def _variable(fit: Fit, name: str) -> dict[str, object]:
    """The kind of a variable; of an observed one also the columns of the data, of a label its categories."""
    model = fit.model
    entry: dict[str, object] = {"role": "latent" if name in model.latents else "observed"}
    if isinstance(model, Model) and name in model.declared:
        entry["family"] = type(model.declared[name]).__name__
    variable = model.sites.all[name]
    if variable.categories is not None:
        entry["categories"] = variable.categories
    columns = fit.schema.get(name)
    if columns is not None:
        entry["role"] = "covariate" if columns.covariate else entry["role"]
        if columns.names is not None:
            entry["columns"] = _plain(columns.names)
        if columns.labels is not None:
            entry["labels"] = _plain(columns.labels)
            entry["ordered"] = columns.ordered
    return entry


def _plain(values: Sequence[Hashable]) -> list[Any]:
    """Names or labels as JSON has them: numbers and strings as they are, others as text."""
    numbers = [value.item() if hasattr(value, "item") else value for value in values]
    return [value if isinstance(value, str | int | float | bool) else str(value) for value in numbers]

"""``fit``: a model meets data and a way of inference; what comes back is a ``Fit``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro import poutine

from pyro_lfm.bounds import latent_sites
from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DataError, DeclarationError, ScaleFloorWarning
from pyro_lfm.families import Gaussian
from pyro_lfm.guides import AnyGuide, Guide
from pyro_lfm.inference.checkpoint import Checkpoint
from pyro_lfm.inference.result import Fit
from pyro_lfm.inference.svi import SVI, Loop
from pyro_lfm.inference.tables import table_for
from pyro_lfm.model import AnyModel, Model, as_model
from pyro_lfm.programs import Program, evaluating
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.shapes import whole


def fit(
    model: Any,
    data: Any,
    inference: SVI,
    *,
    validation: Any = None,
    seed: int | None = None,
    callbacks: Sequence[Callable[[dict[str, Any], Fit], Any]] = (),
    progress: bool = True,
    device: str | torch.device = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
) -> Fit:
    """Fits a model to data.

    Args:
        model: a ``Model``, a ``PyroModel``, or any module that is a Pyro model of a batch; trained in place.
        data: N rows: an array, tensor, DataFrame, sparse matrix, memory map or torch ``Dataset``, or a dict of
            these by name; a bare one means the model's only observed factor. NaN means missing.
        inference: how, as in ``lfm.SVI(guide)``.
        validation: more rows of the same kind, whose bound is measured after every epoch.
        seed: of all noise and shuffling; by default one drawn from torch. Weights start where the declaration
            put them: set ``torch.manual_seed`` before it.
        callbacks: each is called as ``callback(record, fit)`` after every epoch; one that returns True stops.
        progress: whether to show a progress bar.
        device: "auto" is a GPU where there is one.
        checkpoint: a file in which the state is kept after each epoch, and from which an interrupted fit goes on.

    Raises:
        DataError, ShapeError: data that do not fit the model. DeclarationError: a guide that does not fit it.
        TrainingError: a loss or gradient that is not finite; the last good weights are restored.

    >>> from pyro_lfm import MLP, Gaussian, Guide, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=MLP(8)))
    >>> guide = Guide(model, z=Gaussian(network=MLP(8)))
    >>> done = fit(model, torch.randn(50, 4), SVI(guide, epochs=2), seed=0, progress=False)
    >>> done.posterior(torch.zeros(3, 4)).mean.shape, len(done.history)
    (torch.Size([3, 2]), 2)
    """
    model = as_model(model)
    if not isinstance(inference, SVI):
        raise DeclarationError(f"inference must be lfm.SVI(guide, ...); got {type(inference).__name__}")
    guide = inference.guide
    if isinstance(guide, Guide) and guide.latents.keys() != model.latents.keys():
        raise DeclarationError(
            f"the guide serves {', '.join(guide.latents)}; the model's latents are {', '.join(model.latents)}"
        )
    if not isinstance(callbacks, list | tuple) or not all(map(callable, callbacks)):
        raise DeclarationError(f"callbacks must be a list of functions (record, fit); got {callbacks!r}")
    seed = int(torch.randint(2**31, ())) if seed is None else whole("seed", seed, least=0)
    place = _device(device)
    table = table_for(model, data)
    held_out = None if validation is None else table_for(model, validation)
    _size_tables(len(table), model, guide)
    model.to(place)
    guide.to(place)
    _meet(model, guide, table)
    result = Fit(model, guide, table, inference.objective)

    def report(record: dict[str, Any]) -> bool:
        # Every callback is called, also after one has asked to stop.
        return any([bool(answer) for answer in [callback(record, result) for callback in callbacks]])

    keep = None if checkpoint is None else Checkpoint(checkpoint)
    loop = Loop(model, guide, inference, table, held_out, seed, progress, report, keep, result.history)
    try:
        loop.run()
    finally:
        model.eval()
        guide.eval()
    _warn_of_floors(result)
    return result


def _device(device: Any) -> torch.device:
    if isinstance(device, str) and device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise DeclarationError(
            f'device must be "auto" or one that torch has here; got {device!r}: {error}'
        ) from error
    return found


def _size_tables(rows: int, *programs: Program) -> None:
    """Gives every table of rows (``PerRow``) its size; one that has another belongs to other data."""
    for program in programs:
        for table in program.tables:
            if len(table.rows) not in (0, rows):
                raise DataError(
                    f"a PerRow table holds {len(table.rows)} rows; the data have {rows}: a table belongs to its rows, "
                    "declare a new one, or use fit.posterior(data) for rows not seen in training"
                )
            table.resize(rows)


def _meet(model: AnyModel, guide: AnyGuide, table: Table) -> None:
    """One trial on the first row: parameters declared in programs are made, and the guide draws what it should."""
    index = torch.zeros(1, dtype=torch.long)
    batch = Batch(table.take(index, model.dtype, model.device), index.to(model.device), len(table))
    model.settle(batch)
    guide.settle(batch)
    if isinstance(guide, Guide):
        return
    with evaluating(guide), isolated(Stream(0, guide.device), guide.device), torch.no_grad():
        sites = latent_sites(poutine.trace(guide).get_trace(batch))
    if sites.keys() != model.latents.keys():
        raise DeclarationError(
            f"the guide draws {', '.join(sites) or 'nothing'}; the model's latents are {', '.join(model.latents)}"
        )
    for name, variable in model.latents.items():
        if variable.per_row != any(frame.name == "rows" for frame in sites[name]["cond_indep_stack"]):
            where = "inside" if variable.per_row else "outside"
            raise DeclarationError(
                f"the guide must draw {name} {where} `with batch.plate():`, as the model does"
            )


def _warn_of_floors(result: Fit) -> None:
    """Says so where an observed Gaussian's standard deviation has run down to its floor."""
    if not isinstance(result.model, Model):
        return
    index = torch.arange(min(256, len(result._table)))
    data = result._table.take(index, result.model.dtype, result.model.device)
    batch = Batch(data, index.to(result.model.device), len(result._table))
    with isolated(Stream(0, result.model.device), result.model.device), torch.no_grad():
        q = poutine.trace(result.guide).get_trace(batch)
        p: Any = poutine.trace(poutine.replay(result.model, trace=q)).get_trace(batch)
    for name in result.model.observed:
        factor = result.model.factors[name]
        if isinstance(factor, Gaussian):
            law = p.nodes[name]["fn"]
            law = getattr(law, "law", law)
            smallest, floor = float(law.variance.min().sqrt()), factor.covariance.min_scale
            if smallest < 1.05 * floor:
                warnings.warn(
                    f"{name}: a standard deviation is {smallest:.3g}, on its floor min_scale={floor:g}; the bound "
                    "would grow without end below it, so it says little: raise min_scale to the noise that you know",
                    ScaleFloorWarning,
                    stacklevel=3,
                )

"""``fit``: a model meets data and a way of inference; what comes back is a ``Fit``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

from pyro_lfm.errors import DeclarationError, first_line
from pyro_lfm.inference.checkpoint import Checkpoint
from pyro_lfm.inference.result import Fit
from pyro_lfm.inference.tables import table_for
from pyro_lfm.inference.task import Inference, Task
from pyro_lfm.model import as_model
from pyro_lfm.shapes import whole


def fit(
    model: Any,
    data: Any,
    inference: Inference,
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
            these by name; a bare one means the model's only observed factor. NaN means missing. A declared model's
            latents may be among the names, where they are known in some rows, such as labels. Names of columns are
            remembered (``Fit.schema``): validation and all later rows may have them in another order.
        inference: how, as in ``lfm.SVI(guide)`` or, where the posterior is closed form, ``lfm.EM()``.
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

    >>> from pyro_lfm import MLP, SVI, Gaussian, Guide, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=MLP(8)))
    >>> guide = Guide(model, z=Gaussian(network=MLP(8)))
    >>> done = fit(model, torch.randn(50, 4), SVI(guide, epochs=2), seed=0, progress=False)
    >>> done.posterior(torch.zeros(3, 4)).mean.shape, len(done.history)
    (torch.Size([3, 2]), 2)
    """
    model = as_model(model)
    if not isinstance(inference, Inference):
        raise DeclarationError(
            f"inference must be lfm.SVI(guide, ...), lfm.EM() or another Inference; got {type(inference).__name__}"
        )
    if not isinstance(callbacks, list | tuple) or not all(map(callable, callbacks)):
        raise DeclarationError(f"callbacks must be a list of functions (record, fit); got {callbacks!r}")
    seed = int(torch.randint(2**31, ())) if seed is None else whole("seed", seed, least=0)
    place = _device(device)
    table = table_for(model, data)
    if (
        known := [name for name in table.names if name in model.latents]
    ) and not inference.takes_known_latents:
        raise DeclarationError(
            f"{type(inference).__name__} makes no use of known values of a latent; the data hold {', '.join(known)}: "
            "fit with lfm.SVI and a lfm.Guide, or leave it out"
        )
    held_out = None if validation is None else table_for(model, validation, fitted=table.schema)
    keep = None if checkpoint is None else Checkpoint(checkpoint)
    return inference.run(Task(model, table, held_out, seed, callbacks, progress, place, keep))


def _device(device: Any) -> torch.device:
    if isinstance(device, str) and device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise DeclarationError(
            f'device must be "auto" or one that torch has here; got {device!r}: {first_line(error)}'
        ) from None
    return found

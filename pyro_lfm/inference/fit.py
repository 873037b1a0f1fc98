"""``fit``: a model meets data and a way of inference; what comes back is a ``Fit``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro import poutine

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import Table, read
from pyro_lfm.data.validation import validate
from pyro_lfm.errors import DataError, DeclarationError, ScaleFloorWarning
from pyro_lfm.factors import Gaussian
from pyro_lfm.guides import AnyGuide, Guide
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.inference.checkpoint import Checkpoint
from pyro_lfm.inference.rows import fit_rows
from pyro_lfm.inference.svi import SVI, Loop
from pyro_lfm.model import AnyModel, Model, PyroModel, as_model
from pyro_lfm.objectives import ELBO
from pyro_lfm.runtime import Stream, isolated


class Fit:
    """A fitted model: what was learned, and what it says of data.

    Attributes:
        model: the model that was fitted, trained in place.
        guide: the guide, trained in place.
        history: one dict per epoch: epoch, step, bound, reconstruction, kl, validation_bound (NaN without
            validation data), all in nats per row, and seconds.
    """

    def __init__(self, model: AnyModel, guide: AnyGuide, table: Table, svi: SVI):
        self.model, self.guide = model, guide
        self.history: list[dict[str, Any]] = []
        self._table, self._svi = table, svi

    def posterior(self, data: Any = None) -> Any:
        """q(z | x) for some rows: a distribution with batch shape (N,).

        A guide with a table of rows (``PerRow``) is optimised for rows that it has not seen, the model held.

        Args:
            data: as for ``fit``; by default the rows that were fitted.

        Returns:
            One distribution, or {latent: distribution} for a model of several latents.
        """
        batch, guide = self._batch(data), self._guide_for(data)
        found = marginals(guide, batch, list(self.model.latents))
        return next(iter(found.values())) if len(found) == 1 else found

    def sample_posterior(self, data: Any = None, draws: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
        """Joint draws of all latents, {latent: (draws, N, *event)}; a latent shared by all rows (draws, *event)."""
        batch, guide = self._batch(data), self._guide_for(data)
        names = list(self.model.latents)
        found: dict[str, list[torch.Tensor]] = {name: [] for name in names}
        with isolated(Stream(seed, guide.device), guide.device), torch.no_grad():
            for _ in range(draws):
                trace: Any = poutine.trace(guide).get_trace(batch)
                for name in names:
                    found[name].append(trace.nodes[name]["value"])
        return {name: torch.stack(values) for name, values in found.items()}

    def reconstruct(self, data: Any = None, draws: int = 16, seed: int = 0) -> Any:
        """E[x̂ | x]: the mean of the likelihood, averaged over draws of the latents from q(z | x).

        Returns:
            A tensor (N, *event), or {observed: tensor} for a model of several observed factors.
        """
        batch = self._batch(data)
        latents = self.sample_posterior(data, draws, seed)
        names = list(self.model.observed)
        sums: dict[str, Any] = dict.fromkeys(names, 0.0)
        for draw in range(draws):
            with isolated(Stream(seed, self.model.device), self.model.device), torch.no_grad():
                given = {name: values[draw] for name, values in latents.items()}
                program = poutine.condition(self.model, data=given)
                trace: Any = poutine.trace(program).get_trace(Batch(index=batch.index, total=batch.total))
            for name in names:
                sums[name] = sums[name] + trace.nodes[name]["fn"].mean / draws
        return next(iter(sums.values())) if len(sums) == 1 else sums

    def bound(self, data: Any = None, draws: int = 1, seed: int = 0) -> torch.Tensor:
        """The evidence bound of each row, (N,) nats, by the objective of the fit, averaged over ``draws``."""
        objective = self._svi.objective if isinstance(self._svi.objective, ELBO) else ELBO()
        objective = objective.at(1.0)
        batch, guide = self._batch(data), self._guide_for(data)
        with isolated(Stream(seed, guide.device), guide.device), torch.no_grad():
            bounds = [objective.bound(self.model, guide, batch).per_row for _ in range(draws)]
        return torch.stack(bounds).mean(0)

    def _batch(self, data: Any) -> Batch:
        table = self._table if data is None else _table(self.model, data)
        index = torch.arange(len(table))
        device = self.model.device
        return Batch(table.take(index, self.model.dtype, device), index.to(device), len(table))

    def _guide_for(self, data: Any) -> AnyGuide:
        if data is None or not self.guide.tables:
            return self.guide.eval()
        return fit_rows(self.model, self.guide, self._batch(data))

    def __repr__(self) -> str:
        last = self.history[-1] if self.history else {"epoch": 0, "bound": float("nan")}
        return f"Fit({type(self.model).__name__}, {last['epoch']} epochs, bound {last['bound']:.4g} nats per row)"


def _table(model: AnyModel, data: Any) -> Table:
    """Data of any kind as a table that fits what the model observes."""
    table = read(data, list(model.observed))
    expected = {name: (variable.shape, variable.support) for name, variable in model.observed.items()}
    validate(table, expected, model.dtype)
    for name, missing in table.has_missing.items():
        if missing and isinstance(model, PyroModel) and name not in model.sites.masked:
            raise DataError(
                f"{name} has missing entries (NaN), but the program never asks for batch.mask({name!r}): mask its "
                "likelihood, or fill the entries in"
            )
    return table


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
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    guide.to(device)
    table = _table(model, data)
    held_out = None if validation is None else _table(model, validation)
    result = Fit(model, guide, table, inference)
    seed = int(torch.randint(2**31, ())) if seed is None else seed

    def report(record: dict[str, Any]) -> bool:
        # Every callback is called, also after one has asked to stop.
        return any([callback(record, result) is True for callback in callbacks])

    keep = None if checkpoint is None else Checkpoint(checkpoint)
    loop = Loop(model, guide, inference, table, held_out, seed, progress, report, keep, result.history)
    try:
        loop.run()
    finally:
        model.eval()
        guide.eval()
    _warn_of_floors(result)
    return result


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

"""``RowDecoder``: p(x | z) of a fit at any points z, entry by entry. Walks along factors and the explorer decode by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, TypeVar, cast

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.distributions import Categorical, Distribution, constraints

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.interface import support_of, without_independent
from pyro_lfm.distributions.support_bounds import SupportBounds
from pyro_lfm.distributions.supports import is_real, plain
from pyro_lfm.errors import DataError, DeclarationError, ShapeError
from pyro_lfm.evaluate.decoding.covariate_entries import covariate_entries, covariate_values
from pyro_lfm.evaluate.decoding.entry_summaries import EntrySummaries, entry_means, entry_summaries
from pyro_lfm.evaluate.decoding.names_of_factors import discrete_latents, factor_names, real_latents
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.probes import evaluating
from pyro_lfm.runtime import Stream, isolated

Answer = TypeVar("Answer")

# Rows drawn from a model for the moments of its prior.
_DRAWN = 2000


class RowDecoder:
    """The distribution of every modelled entry of a row given its latents, at any points of the latent space.

    Covariates are held at given or default values, labels among the latents at given ones or at the most probable, latents
    that all rows share at their posterior means. An observed variable that another one reads is at its mean.

    Args:
        fit: any fit.
        level: the probability of the intervals.

    Attributes:
        factors: {latent of a row with real entries: number of entries}, side by side in z.
        names: of the K entries, as in every picture: z_1, z_2, ...
        labels: {discrete latent of a row: its number of categories, None of other discrete latents}.
        covariates: the entries of the covariates, with their defaults.
        shared: latents that all rows share, at their posterior means.

    >>> import torch, pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Poisson(3, rate=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> fit = lfm.fit(model, torch.ones(20, 3), lfm.SVI(guide, steps=1), seed=0, progress=False)
    >>> decoder = RowDecoder(fit)
    >>> decoder.names, decoder(torch.zeros(5, 2))["x"].upper.shape
    (['z_1', 'z_2'], torch.Size([5, 3]))
    """

    def __init__(self, fit: Fit, *, level: float = 0.9):
        self.fit, self.model, self.level = fit, fit.model, level
        self.factors = real_latents(fit.model)
        self.names = factor_names(fit.model)
        self.labels = {name: fit.model.latents[name].categories for name in discrete_latents(fit.model)}
        self.observed = [name for name in fit.model.observed if name not in fit.model.covariates]
        self.covariates = covariate_entries(fit)
        self.shared = _shared_latents(fit)

    def __call__(
        self,
        z: Tensor,
        covariates: Mapping[str, object] | None = None,
        labels: Mapping[str, object] | None = None,
    ) -> dict[str, EntrySummaries]:
        """Summaries of the entries of each modelled variable, in the units of the model, (B, D) by name.

        Args:
            z: (B, K), the entries of all real latents of a row side by side.
            covariates: {name: value, or one for each row}; the others are at their defaults.
            labels: {discrete latent: a label of the data, or codes as a tensor, (*event) or (B, *event)}; the others are
                at the most probable value given what the prior reads.

        Raises:
            ShapeError: z of another shape. DataError: values outside their supports. DeclarationError: unknown names.
        """
        run = _Likelihoods(self, len(z), partial(entry_summaries, level=self.level))
        self._run(run, z, covariates, labels)
        return run.answers

    def means(
        self,
        z: Tensor,
        covariates: Mapping[str, object] | None = None,
        labels: Mapping[str, object] | None = None,
    ) -> dict[str, Tensor]:
        """E[x | z] of the entries of each modelled variable, (B, D); of labels the probability of each, (B, D C).

        Arguments and errors are those of a call, of which it takes a part of the time.
        """
        run = _Likelihoods(self, len(z), entry_means)
        self._run(run, z, covariates, labels)
        return {name: answer.flatten(1) for name, answer in run.answers.items()}

    def _run(
        self,
        run: Messenger,
        z: Tensor,
        covariates: Mapping[str, object] | None,
        labels: Mapping[str, object] | None,
    ) -> None:
        """A run of the model at these values."""
        rows = len(z)
        values = self._latents(z) | self._given_labels(labels, rows)
        held = covariate_values(self.fit, self.covariates, covariates, rows)
        device = self.model.device
        batch = Batch(held, index=self._numbers(rows), total=rows, size=rows)
        program = poutine.condition(self.model, data={**self.shared, **values})
        with evaluating(self.model), isolated(Stream(0, device), device), torch.no_grad(), run:
            program(batch)

    def prior_draws(self, rows: int, seed: int = 0) -> dict[str, Tensor]:
        """Draws of the latents of so many rows from the model, (rows, *event) by name, with covariates at their defaults."""
        device = self.model.device
        held = covariate_values(self.fit, self.covariates, None, rows)
        batch = Batch(held, index=self._numbers(rows), total=rows, size=rows)
        program = poutine.condition(self.model, data=self.shared)
        with evaluating(self.model), isolated(Stream(seed, device), device), torch.no_grad():
            trace: Any = poutine.trace(program).get_trace(batch)
        return {name: trace.nodes[name]["value"] for name in (*self.factors, *self.labels)}

    def prior_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each factor in rows drawn from the model, (K,) each."""
        drawn = self.prior_draws(_DRAWN)
        flat = [drawn[name].reshape(_DRAWN, -1) for name in self.factors]
        whole = torch.cat(flat, 1) if flat else torch.zeros(_DRAWN, 0)
        return whole.mean(0), whole.std(0)

    def centre(self) -> Tensor:
        """The prior's mean as a row, (1, K)."""
        return self.within_support(self.prior_moments()[0].unsqueeze(0))

    def within_support(self, z: Tensor) -> Tensor:
        """Points moved to the nearest values that the latents can have, (B, K); real latents stay as they are."""
        z = torch.as_tensor(z).to(dtype=self.model.dtype, device=self.model.device)
        pieces = []
        for name, piece in zip(self.factors, z.split([*self.factors.values()], 1), strict=True):
            latent = self.model.latents[name]
            if isinstance(plain(latent.support), type(constraints.simplex)):
                positive = piece.clamp_min(1e-6).reshape(-1, *latent.shape)
                piece = (positive / positive.sum(-1, keepdim=True)).flatten(1)
            elif not is_real(latent.support) and (bounds := SupportBounds.of(latent.support)) is not None:
                # Ends may be open: a thousandth of the entry's size inside.
                inside = 1e-3 * piece.abs().clamp(1e-6, 1.0)
                low, high = (end.to(piece).reshape(1, -1) for end in (bounds.low, bounds.high))
                piece = torch.minimum(torch.maximum(piece, low + inside), high - inside)
            pieces.append(piece)
        return torch.cat(pieces, 1) if pieces else z

    def _numbers(self, rows: int) -> Tensor:
        """The numbers of decoded rows, for parameters of each fitted row, whose tables are not longer than these."""
        index = torch.arange(rows, device=self.model.device)
        shortest = min((len(table.rows) for table in self.model.tables), default=0)
        return index % shortest if shortest else index

    def _latents(self, z: Tensor) -> dict[str, Tensor]:
        z = torch.as_tensor(z).to(dtype=self.model.dtype, device=self.model.device)
        if z.dim() != 2 or z.shape[1] != len(self.names) or not len(z):
            raise ShapeError(
                f"z must have shape (B, {len(self.names)}), a number of each factor; got {tuple(z.shape)}"
            )
        if not bool(z.isfinite().all()):
            raise DataError("z must hold finite numbers; got NaN or infinite ones")
        values = {}
        for name, piece in zip(self.factors, z.split([*self.factors.values()], 1), strict=True):
            latent = self.model.latents[name]
            values[name] = piece.reshape(len(z), *latent.shape)
            if not is_real(latent.support) and not bool(latent.support.check(values[name]).all()):
                raise DataError(
                    f"z must hold values that {name} can have, {latent.support}: see within_support"
                )
        return values

    def _given_labels(self, labels: Mapping[str, object] | None, rows: int) -> dict[str, Tensor]:
        values = {}
        for name, value in (labels or {}).items():
            if name not in self.labels:
                offer = f"they are {', '.join(self.labels)}" if self.labels else "this model has none"
                raise DeclarationError(f"labels must name discrete latents of a row; got {name!r}: {offer}")
            latent = self.model.latents[name]
            known = self.fit.schema[name].labels if name in self.fit.schema else None
            if known is not None and isinstance(value, str | int):
                if value not in known:
                    offer = ", ".join(map(repr, known[:20]))
                    raise DataError(f"labels must hold a label of {name}: {offer}; got {value!r}")
                value = known.index(value)
            try:
                tensor = torch.as_tensor(value, dtype=self.model.dtype, device=self.model.device)
            except (TypeError, ValueError, RuntimeError):
                raise DataError(f"labels must hold codes for {name}; got {value!r}") from None
            if tensor.shape not in (latent.shape, (rows, *latent.shape)):
                raise ShapeError(
                    f"labels must have {name} of shape {tuple(latent.shape)}, or one for each row; got {tuple(tensor.shape)}"
                )
            if not bool(latent.support.check(tensor).all()):
                raise DataError(
                    f"labels must hold values that {name} can have, {latent.support}; got {value!r}"
                )
            whole = tensor.expand(rows, *latent.shape)
            values[name] = whole.long() if latent.categories is not None else whole
        return values


def _shared_latents(fit: Fit) -> dict[str, Tensor]:
    """Latents that all rows share, at their posterior means."""
    shared = [name for name, latent in fit.model.latents.items() if not latent.per_row]
    if not shared:
        return {}
    # Their posterior depends on no row, so one without values serves.
    model = fit.model
    nothing = {n: torch.full((1, *v.shape), torch.nan, dtype=model.dtype) for n, v in model.observed.items()}
    batch = Batch({name: rows.to(model.device) for name, rows in nothing.items()})
    with evaluating(fit.guide):
        posteriors = marginals(fit.guide, batch, shared)
    return {name: posterior.mean for name, posterior in posteriors.items()}


class _Likelihoods(Messenger, Generic[Answer]):
    """Asks each likelihood of a run of a model. Discrete latents are set to modes, observed variables to their means.

    Args:
        decoder: which knows the names of variables and labels. rows: their number.
        ask: what is asked of the distribution of a variable, for so many rows.

    Attributes:
        answers: by variable.
    """

    def __init__(self, decoder: RowDecoder, rows: int, ask: Callable[[Distribution, int], Answer]):
        super().__init__()
        self.observed, self.labels, self.rows, self.ask = decoder.observed, decoder.labels, rows, ask
        self.answers: dict[str, Answer] = {}

    def _pyro_sample(self, msg: Message[..., Any]) -> None:
        name, distribution = str(msg["name"]), cast(Distribution, msg["fn"])
        if name in self.observed:
            if len(distribution.batch_shape) > 1:
                raise DeclarationError(
                    f"{name} stands in a plate inside the plate over rows: declare its entries as one event, by .to_event"
                )
            self.answers[name] = self.ask(distribution, self.rows)
            msg["value"], msg["done"] = _plug_in(distribution, self.rows, len(self.observed) > 1), True
        elif name in self.labels and not msg["is_observed"] and not msg["done"]:
            msg["value"], msg["done"] = mode_of(distribution), True


def _plug_in(distribution: Distribution, rows: int, is_read: bool) -> Tensor:
    """A value of an observed variable for others that may read it: its mean, rounded where its values are whole."""
    if not is_read:
        return torch.zeros(distribution.batch_shape + distribution.event_shape)
    mean = entry_means(distribution, rows)
    if isinstance(distribution, Categorical):
        return mean.argmax(-1)[:, 0]
    mean = mean if mean.dim() == 2 else mean.argmax(-1).to(mean)
    value = mean.reshape(rows, *distribution.event_shape)
    return value.round() if support_of(distribution).is_discrete else value


def mode_of(distribution: Distribution) -> Tensor:
    """The most probable value, of each entry on its own."""
    base = without_independent(distribution)
    try:
        mode: Tensor = base.mode
        if bool(mode.isfinite().all()):
            return mode
    except NotImplementedError:
        pass
    return base.mean.round()

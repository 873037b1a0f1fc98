"""The decoder of any model: the mean of the likelihood as a function of the latents."""

from __future__ import annotations

from typing import Any, cast

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.decoding.names_of_factors import discrete_latents, factor_names, real_latents
from pyro_lfm.guides import AnyGuide
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.inference.queries.filling import expectation
from pyro_lfm.programs.model import AnyModel


def columns_of(x: Tensor, columns: int) -> Tensor:
    """Rows (B, D) in double precision, NaN where missing. A label has a column of 0 and 1 for each category."""
    flat = x.reshape(len(x), -1).double()
    levels = columns // flat.shape[1]
    if levels == 1:
        return flat
    each = (flat.unsqueeze(-1) == torch.arange(levels, device=flat.device)).double()
    return each.masked_fill(flat.isnan().unsqueeze(-1), torch.nan).flatten(1)


class Decoder:
    """E[x | z] of the modelled variables of a model for each row, (B, D) by name, events flat.

    Args:
        model: any model.
        function: the name of the calling function, for error messages.

    Attributes:
        observed: the names of the modelled variables. factors: {latent of a row with real entries: number of entries}.
        discrete: the other latents of a row.
    """

    def __init__(self, model: AnyModel, function: str):
        self.model, self.function = model, function
        self.observed = [name for name in model.observed if name not in model.covariates]
        self.discrete = discrete_latents(model)
        self.factors = real_latents(model)
        if not self.factors:
            raise DeclarationError(
                f"{function} needs latents of each row with real values; this model has none: its "
                f"latents are {', '.join(model.latents)}"
            )

    @property
    def names(self) -> list[str]:
        """The names of the K entries of all factors side by side, as in pictures: z_1, z_2, ..."""
        return factor_names(self.model)

    def __call__(self, flat: Tensor, others: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """E[x | z] at the factors' entries side by side, (B, K), and at values of all other latents."""
        pieces = flat.split([*self.factors.values()], 1)
        shapes = (self.model.latents[name].shape for name in self.factors)
        values = {
            name: piece.reshape(len(flat), *shape)
            for name, piece, shape in zip(self.factors, pieces, shapes, strict=True)
        }
        program = poutine.condition(self.model, data={**others, **values})
        known = {name: batch[name] for name in self.model.covariates if batch[name] is not None}
        with _Means(self.observed, self.function) as means:
            program(Batch(known, index=batch.index, total=batch.total))
        flat_means = {}
        for name, mean in means.values.items():
            whole = mean.dim() - len(means.events[name])
            rows = mean.expand(*mean.shape[: whole - 1], len(flat), *mean.shape[whole:]) if whole else mean
            flat_means[name] = (rows if whole else rows.expand(len(flat), *rows.shape)).reshape(len(flat), -1)
        return flat_means

    def means(self, guide: AnyGuide, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """E_q[z | x] and Var_q[z | x] of the factors side by side, (B, K) each, and the means of all other latents."""
        if self.discrete:
            raise DeclarationError(
                f"{self.function} sets latents to their posterior means, which are no values of {', '.join(self.discrete)}"
            )
        distributions = marginals(guide, batch, list(self.model.latents))
        for name in self.factors:
            if (
                distributions[name].batch_shape[-1:] != (batch.size,)
                or len(distributions[name].batch_shape) > 1
            ):
                raise DeclarationError(
                    f"{self.function} needs one distribution of each latent for a row: {name} stands in a plate inside the "
                    "plate over rows; declare its entries as one event, by .to_event"
                )
        moments = [
            [getattr(distributions[name], moment).reshape(batch.size, -1) for name in self.factors]
            for moment in ("mean", "variance")
        ]
        others = {
            name: distribution.mean
            for name, distribution in distributions.items()
            if name not in self.factors
        }
        mean, variance = (torch.cat(parts, 1) for parts in moments)
        if not bool(mean.isfinite().all()):
            raise DeclarationError(
                f"{self.function} needs posterior means; the guide's distributions have no finite means"
            )
        return mean, variance, others

    def draw(self, guide: AnyGuide, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """One joint draw of all latents: the factors side by side, (B, K), and the others."""
        trace: Any = poutine.trace(guide).get_trace(batch)
        values = {name: trace.nodes[name]["value"] for name in self.model.latents}
        flat = torch.cat([values.pop(name).reshape(batch.size, -1) for name in self.factors], 1)
        return flat, values


class _Means(Messenger):
    """Collects the means of observed variables from a run of the model, and sets their values to zero."""

    def __init__(self, names: list[str], function: str):
        super().__init__()
        self.names, self.function = names, function
        self.values: dict[str, Tensor] = {}
        self.events: dict[str, torch.Size] = {}

    def _pyro_sample(self, msg: Message) -> None:
        name, distribution = str(msg["name"]), cast(torch.distributions.Distribution, msg["fn"])
        if name not in self.names:
            return
        base = distribution
        while isinstance(base, torch.distributions.Independent):
            base = base.base_dist
        if isinstance(base, Pushforward) and not base.is_reshape:
            raise DeclarationError(
                f"{self.function} needs the mean of {name} in closed form; its distribution has none"
            )
        mean = expectation(distribution)
        if bool(mean.isnan().all()):
            raise DeclarationError(
                f"{self.function} needs the mean of {name}; {type(base).__name__} has none"
            )
        self.values[name] = mean
        # A label has a probability for each category. Levels, like numbers, have one mean.
        events = len(distribution.event_shape) + isinstance(distribution, torch.distributions.Categorical)
        self.events[name] = mean.shape[mean.dim() - events :]
        msg["value"], msg["done"] = (
            torch.zeros(distribution.batch_shape + distribution.event_shape).to(mean),
            True,
        )

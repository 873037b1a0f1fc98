"""``PageDecoder``: p(x | z) of a fit as one function of tensors, to be recorded as a graph for an exported page."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.interface import support_of
from pyro_lfm.distributions.logistic import OrderedLevels
from pyro_lfm.distributions.supports import is_real
from pyro_lfm.documents.export.exported_parts import ExportedPart, Tensors
from pyro_lfm.documents.export.fitted_outline import Outline
from pyro_lfm.documents.export.likelihood_sites import likelihoods
from pyro_lfm.documents.export.quiet import trial
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.explorer.exported.entry_outputs import EntryOutputs, entry_outputs
from pyro_lfm.inference.missing_entries import readers_of


class PageDecoder(ExportedPart):
    """What ``RowDecoder`` answers, as a graph.

    Inputs: ``z`` (B, K), the factors in the order of the page; ``covariates`` (B, E), their entries in the order of
    ``decoder.covariates``; ``label.NAME`` for each discrete latent. Outputs: ``NAME.mean``, ``NAME.deviation`` and others of
    each modelled variable, see ``EntryOutputs``; and ``point`` (B, K) where latents have bounds: the nearest
    values that they can have.

    Args:
        outline: of the fit. decoder: of the fit.
        order: the place of each factor of the page among the entries of all latents side by side, (K,).

    Attributes:
        answers: what the outputs of each variable are, without tensors that count.
    """

    def __init__(self, outline: Outline, decoder: RowDecoder, order: list[int]):
        examples = _examples(outline, decoder, order)
        super().__init__(outline, examples)
        self.model, self.decoder = decoder.model, decoder
        self.back = torch.tensor(order).argsort()
        self.order = torch.tensor(order)
        self.bounded = not all(is_real(self.model.latents[name].support) for name in decoder.factors)
        with trial(self.model, outline.device):
            self.answers: dict[str, EntryOutputs] = self._answers(examples)[0]

    def per_row(self, name: str) -> bool:
        return True

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        answers, z = self._answers(self.complete(inputs))
        outputs = {
            f"{name}.{key}": value
            for name, answer in answers.items()
            for key, value in answer.tensors.items()
        }
        return {**outputs, **({"point": z} if self.bounded else {})}

    def _answers(self, inputs: Tensors) -> tuple[dict[str, EntryOutputs], Tensor]:
        rows = inputs["z"].shape[0]
        z = inputs["z"][:, self.back.to(inputs["z"].device)]
        z = self.decoder.within_support(z) if self.bounded else z
        latents = {**self.decoder.shared, **self._latents(z), **self._labels(inputs)}
        with torch.no_grad():
            known = self._observed(latents, self._covariates(inputs), rows)
            every = likelihoods(self.model, latents, Batch(known, complete=frozenset(known), size=rows))
            answers = {
                name: entry_outputs(every[name].distribution, rows, self.decoder.level)
                for name in self.decoder.observed
            }
        return answers, z[:, self.order.to(z.device)]

    def _latents(self, z: Tensor) -> dict[str, Tensor]:
        pieces = z.split([*self.decoder.factors.values()], 1)
        names = self.decoder.factors
        return {
            name: piece.reshape(-1, *self.model.latents[name].shape)
            for name, piece in zip(names, pieces, strict=True)
        }

    def _labels(self, inputs: Tensors) -> dict[str, Tensor]:
        labels = {}
        for name, categories in self.decoder.labels.items():
            value = inputs[f"label.{name}"]
            labels[name] = value.long() if categories is not None else value
        return labels

    def _covariates(self, inputs: Tensors) -> dict[str, Tensor]:
        """The value of each covariate, (B, *event), of its entries."""
        values = {}
        for name in self.model.covariates:
            columns = [k for k, entry in enumerate(self.decoder.covariates) if entry.variable == name]
            values[name] = inputs["covariates"][:, columns].reshape(-1, *self.model.observed[name].shape)
        return values

    def _observed(
        self, latents: dict[str, Tensor], covariates: dict[str, Tensor], rows: int
    ) -> dict[str, Tensor]:
        """Covariates, and the mean of each observed variable that another one reads, in the order of the model."""
        known = dict(covariates)
        for name in readers_of(self.model):
            if name not in known:
                batch = Batch(known, complete=frozenset(known), size=rows)
                distribution = likelihoods(self.model, latents, batch)[name].distribution
                known[name] = _plug_in(distribution, rows)
        return known


def _examples(outline: Outline, decoder: RowDecoder, order: list[int]) -> dict[str, Tensor]:
    values = outline.latent_values
    rows = len(next(iter(outline.rows.values())))
    flat = [values[name].reshape(rows, -1) for name in decoder.factors]
    examples = {"z": torch.cat(flat, 1)[:, order]}
    if decoder.covariates:
        entries = decoder.covariates
        columns = [outline.rows[entry.variable].reshape(rows, -1)[:, entry.entry] for entry in entries]
        examples["covariates"] = torch.stack(columns, 1)
    for name in decoder.labels:
        examples[f"label.{name}"] = values[name].to(examples["z"])
    return examples


def _plug_in(distribution: Distribution, rows: int) -> Tensor:
    """A value of an observed variable for others that read it: its mean, rounded where its values are whole."""
    if isinstance(distribution, Categorical) and not isinstance(distribution, OrderedLevels):
        return distribution.probs.argmax(-1).expand(rows, *distribution.event_shape)
    mean = distribution.mean.expand(rows, *distribution.event_shape)
    return mean.round() if support_of(distribution).is_discrete else mean

"""Latents of rows moved so that a model's own means of observed variables are as asked; for ``edit`` of a ``Fit``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.attributes.code_devices import on_device_of
from pyro_lfm.attributes.declared_names import Declared, declared_attributes
from pyro_lfm.attributes.latent_space import LatentSpace
from pyro_lfm.attributes.mixture_density import Mixture
from pyro_lfm.attributes.moved_codes import moved_codes
from pyro_lfm.attributes.readings import log_odds
from pyro_lfm.data.batch import Batch
from pyro_lfm.evaluate.decoding.decoder import Decoder
from pyro_lfm.inference.fitted import Fit

# A mean is as asked up to a part of the spread of its variable, and held up to another. Log odds of an asked label.
_ASKED, _HELD, _LOG_ODDS = 0.05, 0.25, 2.0
# The part of all latents that count as rare.
_RARE = 0.05
# The most other attributes that are held; more, as in a picture, are left to the decoder.
_MOST = 32


@dataclass(frozen=True, eq=False)
class DecodedReadings:
    """Means of declared attributes as functions of codes: of numbers in units of their spread, of labels log odds of one.

    Attributes:
        attributes: A of them. scales: their spreads, (A,); 1 for labels.
        shared, beside: what the decoder needs beside latents, see ``decode``.
    """

    decoder: Decoder
    space: LatentSpace
    attributes: list[Declared]
    scales: Tensor
    shared: dict[str, Tensor]
    beside: dict[str, Tensor]

    def means(self, codes: Tensor) -> list[Tensor]:
        """E[x | z] of each attribute in the model's units, (B,), or the log probabilities of labels, (B, C)."""
        model = self.decoder.model
        latents = self.space.latents(codes).to(dtype=model.dtype, device=model.device)
        own = dict(self.beside)
        labels = {name: own.pop(name) for name in self.decoder.discrete}
        with on_device_of(model):
            decoded = self.decoder(latents, {**self.shared, **labels}, Batch(own, size=len(codes)))
        columns = []
        for attribute in self.attributes:
            mean = decoded[attribute.variable.name].double().cpu()
            is_label = attribute.variable.categories is not None and mean.shape[1] > 1
            columns.append(mean.clamp_min(1e-12).log() if is_label else mean[:, attribute.entry])
        return columns

    def __call__(self, codes: Tensor, labels: Tensor) -> Tensor:
        """(B, A). labels: (B, A), the codes of the labels whose log odds are read; ignored for numbers."""
        columns = [
            log_odds(mean, label) if mean.dim() > 1 else mean
            for mean, label in zip(self.means(codes), labels.T, strict=True)
        ]
        return torch.stack(columns, 1) / self.scales if columns else labels

    def likeliest(self, codes: Tensor) -> Tensor:
        """(B, A), the code of the likeliest label; 0 of numbers."""
        with torch.no_grad():
            columns = [
                m.argmax(1) if m.dim() > 1 else torch.zeros(len(codes)).long() for m in self.means(codes)
            ]
        return torch.stack(columns, 1) if columns else torch.zeros(len(codes), 0)


@dataclass(frozen=True, eq=False)
class Places:
    """Readings at places where they are to be, (B, A), within a tolerance; labels as sure as that, or surer."""

    read: DecodedReadings
    labels: Tensor
    places: Tensor
    tolerance: float

    def residuals(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """How far readings are from their places, in tolerances, and the Jacobian, (B, A) and (B, A, U)."""
        each = codes.detach().clone().requires_grad_()
        with torch.enable_grad():
            numbers = self.read(each, self.labels)
            slopes = [torch.autograd.grad(column.sum(), each, retain_graph=True)[0] for column in numbers.T]
        slope = torch.stack(slopes, 1) if slopes else codes.new_zeros(len(codes), 0, codes.shape[1])
        is_label = torch.tensor(
            [a.variable.categories is not None for a in self.read.attributes], dtype=torch.bool
        )
        tolerances = torch.where(is_label, 1.0, self.tolerance).double()
        residual = (numbers.detach() - self.places) / tolerances
        met = is_label & (residual > 0)
        return residual.masked_fill(met, 0.0), (slope / tolerances[:, None]).masked_fill(
            met.unsqueeze(2), 0.0
        )


def moved_to(
    fit: Fit,
    decoder: Decoder,
    asked: list[tuple[Declared, float]],
    prior: Tensor,
    latents: Tensor,
    shared: dict[str, Tensor],
    beside: dict[str, Tensor],
) -> Tensor:
    """Latents (N, K) at which means of observed variables are as asked, near the given ones; see ``moved_codes``.

    Args:
        prior: draws of the prior, (M, K), which say how far latents are apart.
    """
    space = LatentSpace.of(decoder, prior)
    codes = space.codes(latents)
    places = {(attribute.variable.name, attribute.entry) for attribute, _ in asked}
    observed = [(a, code) for a, code in asked if a.role == "observed"]
    others = {
        (a.variable.name, a.entry): a for a in declared_attributes(fit).values() if a.role == "observed"
    }
    held = [a for place, a in others.items() if place not in places][:_MOST]

    def reader(attributes: list[Declared]) -> DecodedReadings:
        scales = torch.tensor([_spread(fit, a) for a in attributes], dtype=torch.float64)
        return DecodedReadings(decoder, space, attributes, scales, shared, beside)

    wanted = reader([a for a, _ in observed])
    labels = torch.tensor([[code for _, code in observed]], dtype=torch.float64).expand(len(codes), -1)
    are_labels = torch.tensor([a.variable.categories is not None for a, _ in observed])
    request = Places(wanted, labels, torch.where(are_labels, _LOG_ODDS, labels / wanted.scales), _ASKED)
    kept = reader(held)
    likeliest = kept.likeliest(codes)
    with torch.no_grad():
        stay = Places(kept, likeliest, kept(codes, likeliest).double(), _HELD)
    size = codes.shape[1]
    eye = torch.eye(size, dtype=torch.float64)[None]
    white = Mixture(torch.zeros(1, dtype=torch.float64), torch.zeros(1, size, dtype=torch.float64), eye, eye)
    least = float(white.log_prob(space.codes(prior)).quantile(_RARE))
    return space.latents(moved_codes(white, request, stay, codes, least))


def _spread(fit: Fit, attribute: Declared) -> float:
    """The standard deviation of the fitted values; 1 of labels, and where it is not known."""
    schema = fit.schema.get(attribute.variable.name)
    if attribute.variable.categories is not None or schema is None or schema.scale is None:
        return 1.0
    spread = float(schema.scale.spread[attribute.entry])
    return spread if spread > 0 else 1.0

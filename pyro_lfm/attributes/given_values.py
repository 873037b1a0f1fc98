"""The latents of a model given some observed entries, p(z | a): what ``conditional_draws`` draws from for a ``Fit``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_lfm.attributes.code_devices import on_device_of
from pyro_lfm.attributes.latent_space import LatentSpace
from pyro_lfm.data.batch import Batch
from pyro_lfm.evaluate.decoding.decoder import Decoder

# Rows of one run of the model.
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class GivenValues:
    """p(z | b) exp(β ln p(a | z, b)) of codes of z, see ``Target``; b is what stands beside z in the row of the pool.

    Attributes:
        decoder, space: the model, and the codes of its real latents.
        shared: values of latents that all rows share.
        labels, covariates: of each row of the pool, {name: (M, *event)}.
        values: {observed variable: (*event)}, NaN where no value is asked for.
    """

    decoder: Decoder
    space: LatentSpace
    shared: dict[str, Tensor]
    labels: dict[str, Tensor]
    covariates: dict[str, Tensor]
    values: dict[str, Tensor]

    def energy(self, codes: Tensor, places: Tensor) -> Tensor:
        with torch.no_grad():
            parts = zip(codes.split(_ROWS), places.split(_ROWS), strict=True)
            return torch.cat([self._terms(part, own)[1] for part, own in parts])

    def log_prob(self, codes: Tensor, places: Tensor, beta: float) -> Tensor:
        with torch.no_grad():
            log_prior, energy = self._terms(codes, places)
        return log_prior - beta * energy

    def slopes(self, codes: Tensor, places: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        each = codes.detach().clone().requires_grad_()
        with torch.enable_grad():
            log_prior, energy = self._terms(each, places)
            (of_prior,) = torch.autograd.grad(log_prior.sum(), each, retain_graph=True)
            (of_energy,) = torch.autograd.grad(energy.sum(), each)
        # Codes are white under the prior. The curvature of −ln p(a | z) is the covariance of its gradient, on average.
        curvature = torch.eye(codes.shape[1], dtype=codes.dtype)
        curvature = curvature + beta**2 * of_energy.T @ of_energy / len(codes)
        return of_prior - beta * of_energy, curvature

    def _terms(self, codes: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """ln p(u | b) and −ln p(a | u, b), (B,)."""
        model, decoder = self.decoder.model, self.decoder
        latents = self.space.latents(codes).to(dtype=model.dtype, device=model.device)
        known = {**self.shared, **{name: value[places] for name, value in self.labels.items()}}
        for name, piece in zip(decoder.factors, latents.split([*decoder.factors.values()], 1), strict=True):
            known[name] = piece.reshape(len(codes), *model.latents[name].shape)
        rows = {name: value[places] for name, value in self.covariates.items()}
        rows.update({name: value.expand(len(codes), *value.shape) for name, value in self.values.items()})
        program: Any = poutine.condition(model, data=known)
        with on_device_of(model):
            trace: Any = poutine.trace(program).get_trace(Batch(rows, size=len(codes)))

        def log_prob(name: str) -> Tensor:
            site = trace.nodes[name]
            return site["fn"].log_prob(site["value"]).reshape(len(codes), -1).sum(1).double().cpu()

        per_row = [name for name, latent in model.latents.items() if latent.per_row]
        prior = torch.stack([log_prob(name) for name in per_row]).sum(0) + self.space.log_volume(codes)
        return prior, -torch.stack([log_prob(name) for name in self.values]).sum(0)

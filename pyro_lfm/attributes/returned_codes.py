"""Codes sent through decoder and encoder, which brings back to the data those that a move has led off them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.attributes.encoded_rows import decode
from pyro_lfm.attributes.latent_space import LatentSpace
from pyro_lfm.data.batch import Batch
from pyro_lfm.evaluate.decoding.decoder import Decoder
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.probes import evaluating
from pyro_lfm.runtime import Stream, isolated


@dataclass(frozen=True, eq=False)
class ReturnedCodes:
    """u ↦ the code of E_q[z | x̂(u)], with x̂(u) = E[x | z(u)].

    Attributes:
        shared: values of latents that all rows share. covariates: those of the rows, {name: (B, *event)}.
    """

    fit: Fit
    decoder: Decoder
    space: LatentSpace
    shared: dict[str, Tensor]
    covariates: dict[str, Tensor]

    @property
    def is_possible(self) -> bool:
        """Whether an encoder can read decoded rows: not by parameters of each row, nor where labels are latent."""
        covariates = self.fit.model.covariates
        return not self.fit.guide.tables and not self.decoder.discrete and covariates == [*self.covariates]

    def __call__(self, codes: Tensor) -> Tensor:
        model = self.fit.model
        with evaluating(model), evaluating(self.fit.guide), isolated(Stream(0, model.device), model.device):
            decoded = decode(self.decoder, self.space.latents(codes), self.shared, self.covariates)
            with torch.no_grad():
                means = self.decoder.means(self.fit.guide, Batch({**decoded, **self.covariates}))[0]
        return self.space.codes(means.cpu())

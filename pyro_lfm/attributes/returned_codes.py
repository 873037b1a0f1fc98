"""Codes sent through decoder and encoder, which brings back to the data those that a move has led off them; used by
``Attributes``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.attributes.encoded_rows import decode
from pyro_lfm.attributes.latent_space import LatentSpace
from pyro_lfm.attributes.mixture_density import Mixture
from pyro_lfm.attributes.moved_codes import moved_codes
from pyro_lfm.attributes.requests import Held, Request
from pyro_lfm.data.batch import Batch
from pyro_lfm.evaluate.decoding.decoder import Decoder
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.probes import evaluating
from pyro_lfm.runtime import Stream, isolated

# How near to its code a row comes back, in deviations of the codes, if decoder and encoder are nearly inverse there. How
# often a moved code is sent through them: without, 5% of the edits of drawn faces missed a hair length, else 1%.
_NEAR, _ROUNDS = 0.5, 2
# Steps of a move from a code that came back, which is near its end.
_STEPS = 10


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

    def shift(self, codes: Tensor) -> Tensor:
        """How far codes come back from where they were, (B, U)."""
        return self(codes) - codes

    def moved(self, density: Mixture, request: Request, held: Held, codes: Tensor, least: float) -> Tensor:
        """Codes moved to a request, see ``moved_codes``.

        Readers are trustworthy near the data alone. So where a code comes back to where it was, the moved one is sent
        through decoder and encoder too, and moved again from where it comes out.
        """
        moved = moved_codes(density, request, held, codes, least)
        if not self.is_possible:
            return moved
        # The way there and back shrinks codes a little: by as much as the code's own, which is taken off.
        shift = self.shift(codes)
        inverse = are_near(shift)
        for _ in range(_ROUNDS if bool(inverse.any()) else 0):
            again = moved_codes(density, request, held, self(moved) - shift, least, _STEPS)
            moved = torch.where(inverse.unsqueeze(1), again, moved)
        return moved


def are_near(shift: Tensor) -> Tensor:
    """Which codes come back to where they were, (B,)."""
    return shift.norm(dim=1) < _NEAR

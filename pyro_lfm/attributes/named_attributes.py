"""``Attributes``: named attributes in the latent space of a fit; ``fit`` makes them, ``generate`` and ``edit`` use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.attributes.conditional_draws import conditional_draws
from pyro_lfm.attributes.density import Density
from pyro_lfm.attributes.encoded_rows import EncodedRows
from pyro_lfm.attributes.labels import Kind, Target, check_names
from pyro_lfm.attributes.latent_space import LatentSpace
from pyro_lfm.attributes.moved_codes import moved_codes
from pyro_lfm.attributes.readings import Held, Readings, Request
from pyro_lfm.evaluate.decoding.decoder import Decoder
from pyro_lfm.inference.fitted import Fit


@dataclass(frozen=True, eq=False, repr=False)
class Attributes:
    """A attributes in the latent space of a fit. Print it for a table.

    K entries of all real latents of a row stand side by side, as ``lfm.evaluate.decoding`` orders them.

    Attributes:
        fit: the fit.
        names: the names of the attributes. kinds: {name: "binary", "category" or "number"}.
        ranges: {name: (low, high)} of numbers. labels: {name: (label, ...)} of the others.
        scores: {name: held-out R² of a number, held-out AUC of labels}, errors: their standard errors.
        directions: (A, K), the mean change of latents that raises a reading and moves nothing else of the code, in latent units.
        cosines: (A, A), between the directions in units in which the latents are white.
        shared: (A,), R² of each reading that the readings of the other attributes explain, over all rows.
    """

    fit: Fit
    decoder: Decoder
    space: LatentSpace
    density: Density
    readings: Readings
    rows: EncodedRows
    scores: dict[str, float]
    errors: dict[str, float]
    directions: Tensor
    cosines: Tensor
    shared: Tensor
    pool: Tensor
    labelled_codes: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(a.name for a in self.readings.attributes)

    @property
    def kinds(self) -> dict[str, Kind]:
        return {a.name: a.kind for a in self.readings.attributes}

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        return {a.name: (a.low, a.high) for a in self.readings.attributes if not a.labels}

    @property
    def labels(self) -> dict[str, tuple[object, ...]]:
        return {a.name: a.labels for a in self.readings.attributes if a.labels}

    def read(self, latents: Tensor) -> dict[str, Tensor]:
        """Readings of latents (B, K): numbers (B,); of a binary attribute the probability of its second label, (B,); of
        categories the probability of each, (B, C)."""
        values = self.readings.values(self.space.codes(latents))
        return {n: v[:, 1] if self.kinds[n] == "binary" else v for n, v in values.items()}

    def draw_latents(self, targets: Mapping[str, Target], n: int, seed: int = 0) -> tuple[Tensor, str | None]:
        """Latents (n, K) that have the asked attributes, and a sentence where the data hardly know such rows, else None."""
        check_names(targets, self.names)
        request = Request.of(self.readings, targets)
        generator = torch.Generator().manual_seed(seed)
        codes = conditional_draws(self.density, request, n, generator)
        return self.space.latents(codes), self._word(request, codes)

    def edit_latents(self, latents: Tensor, targets: Mapping[str, Target], seed: int = 0) -> Tensor:
        """Latents (B, K) moved to the asked attributes, the readings of all others held."""
        check_names(targets, self.names)
        codes = self.space.codes(latents)
        others = self.readings.of([n for n in self.names if n not in targets])
        request = Request.of(self.readings, targets)
        return self.space.latents(moved_codes(self.density, request, Held.of(others, codes), codes))

    def _word(self, request: Request, codes: Tensor) -> str | None:
        return None

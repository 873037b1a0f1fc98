"""``Attributes``: named attributes in the latent space of a fit; ``fit`` makes them, ``generate`` and ``edit`` use them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pyro_lfm.attributes.conditional_draws import conditional_draws
from pyro_lfm.attributes.density import Density
from pyro_lfm.attributes.directions import explained_by_others, in_latents, mean_slopes
from pyro_lfm.attributes.encoded_rows import EncodedRows
from pyro_lfm.attributes.given_readings import GivenReadings
from pyro_lfm.attributes.known_rows import Coverage, coverage, unmet
from pyro_lfm.attributes.labels import Kind, Labelled, Target, check_names
from pyro_lfm.attributes.latent_space import LatentSpace
from pyro_lfm.attributes.readings import Readings
from pyro_lfm.attributes.requests import Held, Request
from pyro_lfm.attributes.returned_codes import ReturnedCodes, are_near
from pyro_lfm.attributes.weighted_particles import next_temperature, resampled
from pyro_lfm.evaluate.decoding.decoder import Decoder
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.shapes import whole

# Draws of the density over which directions and what attributes share are averaged.
_AVERAGED = 4096
# The part of all latents that count as rare.
_RARE = 0.05
# Rows that tell whether decoder and encoder are inverse to each other, and the part of them for which they are to be.
_PROBED, _PART = 256, 0.9
# The fewest draws of posteriors among which rows near a request are chosen. How many of these carry weight: at least so
# many, so that a few new rows are not the same ones again, and so many for each new row.
_FEWEST, _LEAST, _EACH = 2000, 400, 2
# A reading this part of its range away from its place misses it.
_MISSED = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class Attributes:
    """Attributes in the latent space of a fit. Print it for a table.

    ``lfm.attributes.fit`` makes them. Latents of B rows are (B, K): the entries of all real latents of a row side by side,
    in the order in which the model draws them.

    Attributes:
        fit: the fit.
        decoder: E[x | z] of it.
        scores: {name: held-out R² of a number, or AUC of labels, the mean over labels where there are more than two}.
        errors: {name: the standard error of its score}.
        labelled: the labels.
        rows: the posteriors of all rows.
        space, density, readings: codes of latents, their density, and readings of attributes from them.
        pool, pool_outputs: draws of the density, with the outputs of the readers.

    >>> import pyro_lfm as lfm, torch
    >>> z, noise = torch.randn(100, 4, generator=torch.Generator().manual_seed(0)).split([1, 3], 1)
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> fit = lfm.fit(model, z + 0.3 * noise, lfm.EM(), seed=0, progress=False)
    >>> attributes = lfm.attributes.fit(fit, None, {"positive": z[:, 0] > 0})
    >>> attributes.kinds, attributes.labels, attributes.scores["positive"] > 0.9
    ({'positive': 'binary'}, {'positive': (False, True)}, True)
    """

    fit: Fit
    decoder: Decoder
    space: LatentSpace
    density: Density
    readings: Readings
    rows: EncodedRows
    labelled: list[Labelled]
    pool: Tensor
    pool_outputs: Tensor
    scores: dict[str, float]
    errors: dict[str, float]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.readings.names)

    @property
    def kinds(self) -> dict[str, Kind]:
        return {attribute.name: attribute.kind for attribute in self.readings.attributes}

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """{name: (smallest, largest) label} of the numbers."""
        return {a.name: (a.low, a.high) for a in self.readings.attributes if not a.labels}

    @property
    def labels(self) -> dict[str, tuple[Hashable, ...]]:
        """{name: labels} of the other attributes, in the order of their codes."""
        return {a.name: a.labels for a in self.readings.attributes if a.labels}

    @property
    def measures(self) -> dict[str, str]:
        """{name: "R²" or "AUC"}, what the score is."""
        return {a.name: "AUC" if a.labels else "R²" for a in self.readings.attributes}

    @cached_property
    def directions(self) -> Tensor:
        """(A, K), the mean direction in which a reading rises, one deviation long, of two labels that of the second."""
        return in_latents(self.space, self._slopes)

    @cached_property
    def cosines(self) -> Tensor:
        """(A, A), of the angles between the directions, in units in which the latents of all rows are uncorrelated."""
        return self._slopes @ self._slopes.T

    @cached_property
    def shared(self) -> dict[str, float]:
        """{name: R² of its readings that the readings of the other attributes explain}, over the latent density."""
        outputs = self.pool_outputs[:, :_AVERAGED]
        return dict(zip(self.names, explained_by_others(self.readings, outputs).tolist(), strict=True))

    @cached_property
    def _least(self) -> float:
        """The log density of the mixture below which codes are off the data."""
        return float(self.density.mixture.log_prob(self.pool[:_AVERAGED]).quantile(_RARE))

    @cached_property
    def _slopes(self) -> Tensor:
        return mean_slopes(self.readings, self.pool[:_AVERAGED])

    def read(self, latents: Tensor) -> dict[str, Tensor]:
        """Readings of latents (B, K).

        Returns:
            {name: (B,)}: the expected value of a number, the probability of the second of two labels. For more labels it is
            (B, C), the probability of each.
        """
        values = self.readings.values(self.readings.outputs(self.space.codes(latents)))
        return {name: v[:, 1] if self.kinds[name] == "binary" else v for name, v in values.items()}

    def coverage(self, targets: Mapping[str, Target]) -> Coverage:
        """How many labelled rows, and which share of the latent density, are near the asked attributes."""
        return self._coverage(self._request(targets, self.readings.least))

    def draw_latents(self, targets: Mapping[str, Target], n: int, seed: int = 0) -> tuple[Tensor, str | None]:
        """Latents (n, K) of rows that have the asked attributes, and a sentence where the data hardly know such rows.

        Raises:
            DataError: an unknown attribute or label, a number outside the range of the labels.
        """
        request = self._request(targets, self.readings.least)
        generator = torch.Generator().manual_seed(whole("seed", seed, least=0))
        if self._has_inverse:
            codes = self._moved_rows(targets, whole("n", n), generator)
        else:
            energies = request.energy(self._of_pool(request))
            target = GivenReadings(self.density, request)
            codes, _ = conditional_draws(target, self.pool, energies, whole("n", n), generator)
        words = self._coverage(request).message, unmet(request, request.readings.outputs(codes))
        return self.space.latents(codes), "; ".join(filter(None, words)) or None

    def edit_latents(
        self,
        latents: Tensor,
        targets: Mapping[str, Target],
        seed: int = 0,
        covariates: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Latents (B, K) moved to the asked attributes, as little as possible, the readings of all others held.

        Args:
            seed: not used, as nothing is drawn.
            covariates: of the rows, {name: ``(B, *event)``}. Without them rows of a conditional model are moved once.

        Raises:
            DataError: as ``draw_latents``.
        """
        request = self._request(targets, self.readings.typical)
        codes = self.space.codes(latents)
        others = self.readings.of([name for name in self.names if name not in targets])
        mixture, held = self.density.mixture, Held.of(others, codes)
        returned = self._returned(dict(covariates or {}))
        moved = returned.moved(mixture, request, held, codes, self._least)
        if returned.is_possible and len(self._codes) >= _FEWEST:
            moved = self._from_other_rows(returned, request, held, codes, moved)
        return self.space.latents(moved)

    def edit_message(self, latents: Tensor, targets: Mapping[str, Target]) -> str | None:
        """A sentence where the data hardly know the asked attributes, or edited latents (B, K) lack them, else None."""
        request = self._request(targets, self.readings.least)
        words = (
            self._coverage(request).message,
            unmet(request, request.readings.outputs(self.space.codes(latents))),
        )
        return "; ".join(filter(None, words)) or None

    def _returned(self, covariates: dict[str, Tensor]) -> ReturnedCodes:
        return ReturnedCodes(self.fit, self.decoder, self.space, self.rows.shared, covariates)

    @cached_property
    def _has_inverse(self) -> bool:
        """Whether rows come back from decoder and encoder, so that the latents of many rows show the density better than a
        mixture does: they lie on a thin curved set.
        """
        returned = self._returned({})
        if not returned.is_possible or len(self._codes) < _FEWEST:
            return False
        places = torch.linspace(0, len(self.rows) - 1, _PROBED, dtype=torch.float64).round().long()
        return (
            float(are_near(returned.shift(self.space.codes(self.rows.means[places]))).double().mean())
            >= _PART
        )

    @cached_property
    def _codes(self) -> Tensor:
        """Codes of the draws of all posteriors, (S N, U)."""
        return self.space.codes(self.rows.draws.flatten(0, 1))

    @cached_property
    def _outputs(self) -> Tensor:
        """What the networks make of them, (A, S N, W)."""
        return self.readings.outputs(self._codes)

    def _from_other_rows(
        self, returned: ReturnedCodes, request: Request, held: Held, codes: Tensor, moved: Tensor
    ) -> Tensor:
        """Moved codes, of which those that miss the request after decoder and encoder are moved again from another row.

        A curved set can lie between a code and its end. The other row is the one nearest to what is asked, to what is held
        and to the code. What ends nearer to the request is kept.
        """
        distances = self._distances(returned, request, moved)
        missed = (distances > _MISSED).nonzero().squeeze(1)
        if not len(missed):
            return moved
        energies = request.energy(self._outputs[[self.names.index(name) for name in request.readings.names]])
        own = Held(held.readings, held.labels[missed], held.places[missed])
        others = self._outputs[[self.names.index(name) for name in held.readings.names]]
        starts = []
        for place, row in enumerate(missed.tolist()):
            away = own.at(place).energy(others) if len(others) else 0.0
            near = 0.5 * (self._codes - codes[row]).square().sum(1)
            starts.append(self._codes[(energies + away + near).argmin()])
        again = returned.moved(self.density.mixture, request, own, torch.stack(starts), self._least)
        better = self._distances(returned, request, again) < distances[missed]
        moved = moved.clone()
        moved[missed[better]] = again[better]
        return moved

    def _distances(self, returned: ReturnedCodes, request: Request, codes: Tensor) -> Tensor:
        """How far the furthest asked reading of each code is from its place after decoder and encoder, (B,)."""
        return request.distances(request.readings.outputs(returned(codes))).amax(1)

    def _moved_rows(self, targets: Mapping[str, Target], n: int, generator: torch.Generator) -> Tensor:
        """Codes (n, U): those of rows near the request, chosen by their distance from it, moved to it with the rest held."""
        request = self._request(targets, self.readings.typical)
        energies = request.energy(self._outputs[[self.names.index(name) for name in request.readings.names]])
        beta = next_temperature(energies, 0.0, min(max(_EACH * n, _LEAST) / len(energies), 0.5))
        places = resampled(-beta * energies, n, generator)
        codes = self._codes[places[torch.randperm(n, generator=generator)]]
        held = Held.of(self.readings.of([name for name in self.names if name not in targets]), codes)
        parts = []
        for part in torch.arange(n).split(_AVERAGED):
            own = Held(held.readings, held.labels[part], held.places[part])
            parts.append(
                self._returned({}).moved(self.density.mixture, request, own, codes[part], self._least)
            )
        return torch.cat(parts)

    def _request(self, targets: Mapping[str, Target], log_odds: Tensor) -> Request:
        check_names(targets, self.names)
        return Request.of(self.readings, targets, log_odds)

    def _of_pool(self, request: Request) -> Tensor:
        return self.pool_outputs[[self.names.index(name) for name in request.readings.names]]

    def _coverage(self, request: Request) -> Coverage:
        labelled = [self.labelled[self.names.index(name)] for name in request.readings.names]
        return coverage(request, labelled, self._of_pool(request), self.scores)

    def __repr__(self) -> str:
        wide = max(9, *map(len, self.names))
        lines = [f"{'attribute':<{wide}}  kind      labels  held-out score   shared"]
        for one in self.labelled:
            name = one.attribute.name
            score = f"{self.measures[name]:<3} {self.scores[name]:.3f} ± {self.errors[name]:.3f}"
            lines.append(
                f"{name:<{wide}}  {one.attribute.kind:<8}{int(one.known.sum()):>8}  {score}  {self.shared[name]:>6.3f}"
            )
        return "\n".join(lines)

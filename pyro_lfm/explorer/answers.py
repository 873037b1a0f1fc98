"""``Answers``: what the page asks of a session, one method for each request."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.evaluate.decoding.covariate_entries import covariate_values
from pyro_lfm.evaluate.decoding.entry_summaries import EntrySummaries
from pyro_lfm.explorer.chosen_rows import summary
from pyro_lfm.explorer.numbers_as_json import number, short
from pyro_lfm.explorer.request_values import (
    by_name,
    code,
    covariates_of,
    numbers,
    places_of_rows,
    rows_of_views,
)
from pyro_lfm.explorer.row_posteriors import covariance_of, flat_moments
from pyro_lfm.explorer.rows_as_csv import rows_as_csv
from pyro_lfm.explorer.session import Session
from pyro_lfm.inference.data_boundary import table_for
from pyro_lfm.web.json_requests import Request
from pyro_lfm.web.refusal import Json, Refusal

_NO_ATTRIBUTES = "no attributes are known: start the explorer with attributes, as lfm.explore(fit, data, attributes=...) does"


class Answers:
    """Answers to the requests of the page. Each takes the fields of a request and gives those of the answer.

    Args:
        session: what is explored.
    """

    def __init__(self, session: Session):
        self.session = session

    def points(self) -> bytes:
        """The posterior means in the order of the factors, little-endian float32, (N, K) by rows."""
        return self.session.axes.points.astype("<f4").tobytes()

    def colour(self, place: int) -> bytes:
        """The values of one colour, little-endian float32, (N,), NaN where missing."""
        colours = self.session.colours
        if not 0 <= place < len(colours):
            raise Refusal(f"there are {len(colours)} colours, from 0; got {place}", 404)
        return colours[place].values().astype("<f4").tobytes()

    def decode(self, request: Request) -> dict[str, Json]:
        """p(x | z) at a point: mean and uncertainty of each entry."""
        session = self.session
        z = numbers(request.get("z"), "z", len(session.axes.names))
        point = session.in_model_order(z[None])
        summaries = session.decoder(
            point, covariates_of(request, session.decoder.covariates), self._labels(request)
        )
        return {"views": self._views(summaries), "z": short(session.in_page_order(point)[0])}

    def row(self, place: int) -> dict[str, Json]:
        """One of the rows: its cells, its posterior and its reconstruction."""
        session = self.session
        if not 0 <= place < len(session.rows):
            raise Refusal(f"there are {len(session.rows)} rows, from 0; got {place}", 404)
        index = torch.tensor([place])
        posterior = session.posteriors.posterior(index)
        rows = session.rows.table.take(index, torch.float64)
        # Those that are computed on request are shown once they are there.
        known = {column.name: number(float(column.values()[place])) for column in session.columns}
        return {**self._encoded(rows, posterior), "colours": {**known}}

    def encode(self, request: Request) -> dict[str, Json]:
        """A row that the page gives: its posterior and its reconstruction."""
        rows = self.given_rows(request)
        posterior = self.session.fit.posterior(rows)
        by_latent = (
            posterior
            if isinstance(posterior, dict)
            else dict.fromkeys(self.session.fit.model.latents, posterior)
        )
        return {**self._encoded(rows, by_latent), "colours": {}}

    def given_rows(self, request: Request) -> dict[str, Tensor]:
        """The row that a request holds in its views and covariates, {name: (1, *event)}."""
        session = self.session
        model = session.fit.model
        values = rows_of_views(request, session.views)
        rows: dict[str, Tensor] = {}
        for view, each in zip(session.views, values, strict=True):
            event = tuple(model.observed[view.name].shape) if view.name in model.observed else ()
            rows.update(view.read(each, event))
        entries = session.decoder.covariates
        held = covariate_values(session.fit, entries, covariates_of(request, entries), 1)
        rows.update({name: value.double().cpu() for name, value in held.items()})
        if all(bool(value.isnan().all()) for name, value in rows.items() if name not in model.covariates):
            raise Refusal("a row must have at least one value; got none")
        # Read once here, so that an error speaks of the row and not of its posterior.
        table_for(model, rows, session.fit.guide.needs, session.fit.schema, may_be_empty=True)
        return rows

    def summary(self, request: Request) -> dict[str, Json]:
        """How chosen rows differ from the others."""
        rows = len(self.session.rows)
        return summary(self.session.columns, places_of_rows(request, rows), rows)

    def csv(self, request: Request) -> str:
        """Chosen rows as the user has them."""
        session = self.session
        return rows_as_csv(session.fit, session.rows, places_of_rows(request, len(session.rows)))

    def generate(self, request: Request) -> dict[str, Json]:
        """New rows with the attributes that are asked for."""
        raise Refusal(_NO_ATTRIBUTES)

    def edit(self, request: Request) -> dict[str, Json]:
        """A row with some attributes changed."""
        raise Refusal(_NO_ATTRIBUTES)

    def _encoded(self, rows: Mapping[str, Tensor], posterior: Mapping[str, Distribution]) -> dict[str, Json]:
        session = self.session
        latents = session.decoder.factors
        mean = session.decoder.within_support(flat_moments(posterior, latents, 1)[0])
        covariance = covariance_of(posterior, latents).numpy()[np.ix_(session.axes.order, session.axes.order)]
        labels = session.most_probable(posterior)
        covariates = {
            entry.name: float(rows[entry.variable][0].reshape(-1)[entry.entry])
            for entry in session.decoder.covariates
        }
        held = {
            entry.name: covariates[entry.name]
            if entry.labels is None
            else entry.labels[int(covariates[entry.name])]
            for entry in session.decoder.covariates
        }
        summaries = session.decoder(mean, held, labels)
        return {
            "views": self._views(summaries),
            "original": [view.original(rows) for view in session.views],
            "z": short(session.in_page_order(mean)[0]),
            "covariance": short(covariance),
            "covariates": {name: number(value) for name, value in covariates.items()},
            "labels": {**labels},
            "attributes": {},
        }

    def _views(self, summaries: Mapping[str, EntrySummaries]) -> list[Json]:
        return [view.decoded(summaries) for view in self.session.views]

    def _labels(self, request: Request) -> dict[str, int]:
        shown = self.session.shown_labels()
        given = by_name(request, "labels", shown)
        return {
            name: code(value, f"labels.{name}", self.session.label_names(name))
            for name, value in given.items()
            if value is not None
        }

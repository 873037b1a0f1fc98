"""``Answers``: what the page asks of a session, one method for each request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.attributes import Attributes
from pyro_lfm.evaluate.decoding.covariate_entries import covariate_values
from pyro_lfm.evaluate.decoding.entry_summaries import EntrySummaries
from pyro_lfm.explorer.attribute_values import read_attributes, targets_of
from pyro_lfm.explorer.chosen_rows import summary
from pyro_lfm.explorer.numbers_as_json import number, short
from pyro_lfm.explorer.request_values import (
    by_name,
    code,
    covariates_of,
    numbers,
    place_of_row,
    places_of_rows,
    rows_of_views,
)
from pyro_lfm.explorer.row_posteriors import covariance_of, flat_moments
from pyro_lfm.explorer.rows_as_csv import rows_as_csv
from pyro_lfm.explorer.session import Session
from pyro_lfm.inference.data_boundary import table_for
from pyro_lfm.web.json_requests import Request, whole_number
from pyro_lfm.web.refusal import Json, Refusal

Rows: TypeAlias = Mapping[str, Tensor]
Posterior: TypeAlias = Mapping[str, Distribution]
# The most rows that are generated at once; seeds that JSON holds exactly.
_GENERATED, _SEEDS = 64, 2**53 - 1
_NO_ATTRIBUTES = "no attributes are known: give some, as in lfm.explore(fit, data, attributes=...)"


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

    def learned(self) -> bytes:
        """The rows in a learned plane, little-endian float32, (N, 2) by rows."""
        if not self.session.has_plane:
            raise Refusal("a learned plane needs more than two factors, and more rows", 404)
        return self.session.learned().astype("<f4").tobytes()

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
        summaries = self._decoded(
            point, covariates_of(request, session.decoder.covariates), self._labels(request)
        )
        return {"views": self._views(summaries), "z": short(session.in_page_order(point)[0])}

    def row(self, place: int) -> dict[str, Json]:
        """One of the rows: its cells, its posterior and its reconstruction."""
        session = self.session
        if not 0 <= place < len(session.rows):
            raise Refusal(f"there are {len(session.rows)} rows, from 0; got {place}", 404)
        # Those that are computed on request are shown once they are there.
        known = {column.name: number(float(column.values()[place])) for column in session.columns}
        return {**self._encoded(*self._row_of_data(place)), "colours": {**known}}

    def encode(self, request: Request) -> dict[str, Json]:
        """A row that the page gives: its posterior and its reconstruction."""
        return {**self._encoded(*self._row_or_given(request)), "colours": {}}

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
        session, attributes = self.session, self._attributes()
        targets = targets_of(request, attributes)
        n, seed = whole_number(request, "n", 8, 1, _GENERATED), whole_number(request, "seed", 0, 0, _SEEDS)
        latents, message = attributes.draw_latents(targets, n, seed)
        points = session.decoder.within_support(latents)
        summaries, z = session.decoder(points), session.in_page_order(points)
        rows: list[Json] = [
            {"views": [view.decoded(summaries, row) for view in session.views], "z": short(z[row])}
            for row in range(n)
        ]
        return {"rows": rows, "message": message}

    def edit(self, request: Request) -> dict[str, Json]:
        """A row with some attributes changed, and all attributes as they are read before and after."""
        session, attributes = self.session, self._attributes()
        targets = targets_of(request, attributes)
        before, held, labels = self._to_edit(request)
        moved = attributes.edit_latents(before, targets, whole_number(request, "seed", 0, 0, _SEEDS))
        after = session.decoder.within_support(moved)
        summaries = self._decoded(after, held, labels)
        return {
            "views": self._views(summaries),
            "z": short(session.in_page_order(after)[0]),
            "before": read_attributes(attributes, before),
            "after": read_attributes(attributes, after),
            "message": attributes.edit_message(after, targets),
        }

    def _attributes(self) -> Attributes:
        if self.session.attributes is None:
            raise Refusal(_NO_ATTRIBUTES)
        return self.session.attributes

    def _to_edit(self, request: Request) -> tuple[Tensor, dict[str, object], dict[str, int]]:
        """The point (1, K) that a request edits, with its covariates and labels: one of the page, or a row's."""
        session = self.session
        if "z" in request:
            z = numbers(request["z"], "z", len(session.axes.names))
            covariates = covariates_of(request, session.decoder.covariates)
            return session.in_model_order(z[None]), covariates, self._labels(request)
        rows, posterior = self._row_or_given(request)
        return self._mean(posterior), self._held(rows), session.labels_of(rows, posterior)

    def _row_or_given(self, request: Request) -> tuple[Rows, Posterior]:
        """The row of a request, one of the data by its place or one that it holds, and its posterior."""
        if "row" in request:
            return self._row_of_data(place_of_row(request["row"], len(self.session.rows)))
        rows = self.given_rows(request)
        posterior = self.session.fit.posterior(rows)
        named = isinstance(posterior, dict)
        return rows, posterior if named else dict.fromkeys(self.session.fit.model.latents, posterior)

    def _row_of_data(self, place: int) -> tuple[Rows, Posterior]:
        index = torch.tensor([place])
        return self.session.rows.table.take(index, torch.float64), self.session.posteriors.posterior(index)

    def _mean(self, posterior: Posterior) -> Tensor:
        """The posterior mean of one row, (1, K) in the order of the model, at a value that the latents can have."""
        decoder = self.session.decoder
        return decoder.within_support(flat_moments(posterior, decoder.factors, 1)[0])

    def _held(self, rows: Rows) -> dict[str, object]:
        """The covariates of one row, labels for codes."""
        held: dict[str, object] = {}
        for entry in self.session.decoder.covariates:
            value = float(rows[entry.variable][0].reshape(-1)[entry.entry])
            held[entry.name] = value if entry.labels is None else entry.labels[int(value)]
        return held

    def _encoded(self, rows: Rows, posterior: Posterior) -> dict[str, Json]:
        session, order = self.session, self.session.axes.order
        mean, labels = self._mean(posterior), session.labels_of(rows, posterior)
        covariance = covariance_of(posterior, session.decoder.factors).numpy()[np.ix_(order, order)]
        covariates: dict[str, Json] = {
            entry.name: number(float(rows[entry.variable][0].reshape(-1)[entry.entry]))
            for entry in session.decoder.covariates
        }
        return {
            "views": self._views(self._decoded(mean, self._held(rows), labels)),
            "original": [view.original(rows) for view in session.views],
            "z": short(session.in_page_order(mean)[0]),
            "covariance": short(covariance),
            "covariates": covariates,
            "labels": {**labels},
            "attributes": read_attributes(session.attributes, mean),
        }

    def _decoded(
        self, points: Tensor, held: Mapping[str, object], labels: Mapping[str, int]
    ) -> dict[str, EntrySummaries]:
        """p(x | z) at points of the model, given covariates and codes of labels."""
        codes = {name: torch.tensor(code) for name, code in labels.items()}
        return self.session.decoder(points, held, codes)

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

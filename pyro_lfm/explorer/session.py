"""``Session``: a fit and the rows that are explored, with all that answers need; made once, before the page is served."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, constraints

from pyro_lfm.attributes import Attributes
from pyro_lfm.errors import gathering
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.evaluate.decoding.factor_order import factor_order
from pyro_lfm.explorer.attribute_values import attributes_info
from pyro_lfm.explorer.data_columns import DataColumn
from pyro_lfm.explorer.factor_axes import FactorAxes
from pyro_lfm.explorer.known_columns import known_columns, measures
from pyro_lfm.explorer.learned_plane import LEAST_FACTORS, LEAST_ROWS, learned_plane
from pyro_lfm.explorer.numbers_as_json import number
from pyro_lfm.explorer.row_posteriors import RowPosteriors
from pyro_lfm.explorer.user_rows import UserRows
from pyro_lfm.explorer.views.choosing import Shape, View, views_of
from pyro_lfm.formulas import describe
from pyro_lfm.identity.version import library_version
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.web.refusal import Json

# Rows that decide the order of the factors.
_ORDERED = 500


class Session:
    """A fit, rows of it, and how both are shown.

    Args:
        fit: the fit.
        rows: the rows.
        labels: {name: N values} that colour the map.
        shape: of the pictures that rows are, where the user says it.
        attributes: of the fit, where some are known.

    Attributes:
        posteriors: of all rows. decoder: of any point. axes: the factors in order. views: of the observed variables.
        columns: what is known of the rows. measures: the bound of each row, and k̂.
    """

    def __init__(
        self,
        fit: Fit,
        rows: UserRows,
        labels: Mapping[str, object],
        shape: Shape = None,
        attributes: Attributes | None = None,
    ):
        self.fit, self.rows, self.attributes = fit, rows, attributes
        with gathering():  # what it warns of was said by the fit
            self.posteriors = RowPosteriors(fit, rows)
            self.decoder = RowDecoder(fit)
            self.views: list[View] = views_of(self.decoder, rows, shape)
            self.axes = self._axes()
        self.columns: list[DataColumn] = known_columns(self.decoder, rows, self.views, labels)
        self.measures: list[DataColumn] = measures(self.posteriors)
        self._plane: np.ndarray | None = None
        self._arranging = threading.Lock()

    def _axes(self) -> FactorAxes:
        places = (
            torch.linspace(0, len(self.rows) - 1, min(_ORDERED, len(self.rows)), dtype=torch.float64)
            .round()
            .long()
            .unique()
        )
        # Rows with parameters of their own are ordered as those that were fitted.
        own = self.rows.data is None or self.posteriors.has_own_parameters
        order = factor_order(self.fit, None if own else self.rows.table.take(places, self.fit.model.dtype))
        return FactorAxes.of(
            self.decoder.factors,
            self.decoder.names,
            np.array(order.places),
            order.shares.double().cpu().numpy(),
            self.posteriors.means,
            self.posteriors.variances,
        )

    @cached_property
    def colours(self) -> list[DataColumn]:
        """What the map may be coloured by."""
        return [*self.columns, *self.measures]

    @property
    def has_plane(self) -> bool:
        """Whether a plane is of use: there are more than two factors, and more than a few rows."""
        return len(self.axes.names) >= LEAST_FACTORS and len(self.rows) >= LEAST_ROWS

    def learned(self) -> np.ndarray:
        """The rows in a learned plane, (N, 2); computed when it is first asked for."""
        with self._arranging:
            if self._plane is None:
                self._plane = learned_plane(self.axes.points)
            return self._plane

    def info(self) -> dict[str, Json]:
        """All that the page knows before it asks."""
        return {
            "title": self.rows.title,
            "version": library_version(),
            "model": describe(self.fit.model, self.fit.guide),
            "rows": len(self.rows),
            "factors": self.axes.info(),
            "labels": self._labels(),
            "covariates": self._covariates(),
            "attributes": [] if self.attributes is None else attributes_info(self.attributes),
            "views": [view.info() for view in self.views],
            "colours": [*map(_colour, self.columns), *(_colour(each, False) for each in self.measures)],
            "pca": self.axes.principal(),
            "levels": self.decoder.level,
            "learned": self.has_plane,
            "seconds": round(self.posteriors.seconds, 3),
        }

    def label_names(self, name: str) -> tuple[str, ...]:
        """The labels of a discrete latent."""
        categories = self.decoder.labels[name]
        known = self.fit.schema[name].labels if name in self.fit.schema else None
        if known is not None and len(known) == categories:
            return tuple(map(str, known))
        return tuple(str(code) for code in range(2 if categories is None else categories))

    def shown_labels(self) -> list[str]:
        """The discrete latents of a row that the page shows: those with few labels."""
        latents = self.fit.model.latents
        return [
            name
            for name, categories in self.decoder.labels.items()
            if categories is not None or not latents[name].shape and _is_binary(latents[name].support)
        ]

    def labels_of(self, rows: Mapping[str, Tensor], posterior: Mapping[str, Distribution]) -> dict[str, int]:
        """The code of each shown discrete latent of one row: the known one, else the most probable."""
        codes = {}
        for name in self.shown_labels():
            if name in rows and not bool(rows[name].isnan().any()):
                codes[name] = int(rows[name].reshape(-1)[0])
                continue
            one = cast("Categorical | Bernoulli", posterior[name]).probs.reshape(-1)
            codes[name] = int(one.argmax()) if self.decoder.labels[name] is not None else int(one[0] > 0.5)
        return codes

    def in_model_order(self, z: np.ndarray) -> Tensor:
        """Points (B, K) of the page as points of the model, at the nearest values that the latents can have."""
        return self.decoder.within_support(torch.from_numpy(self.axes.in_model_order(z)))

    def in_page_order(self, z: Tensor) -> np.ndarray:
        """Points (B, K) of the model as points of the page."""
        points: np.ndarray = z.detach().cpu().double().numpy()[:, self.axes.order]
        return points

    def _labels(self) -> list[Json]:
        return [
            {"name": name, "labels": [*self.label_names(name)], "value": 0} for name in self.shown_labels()
        ]

    def _covariates(self) -> list[Json]:
        covariates: list[Json] = []
        for entry in self.decoder.covariates:
            labels: list[Json] | None = (
                None if entry.labels is None else [str(label) for label in entry.labels]
            )
            covariates.append(
                {
                    "name": entry.name,
                    "kind": "number" if labels is None else "category",
                    "low": entry.low,
                    "high": entry.high,
                    "value": entry.value,
                    "labels": labels,
                }
            )
        return covariates


def _colour(column: DataColumn, known: bool = True) -> dict[str, Json]:
    """A colour of the map; the ends of its scale where the values are known."""
    if column.labels is not None:
        return {"name": column.name, "kind": "category", "labels": [*column.labels]}
    values = column.values() if known else np.zeros(0)
    values = values[np.isfinite(values)]
    low, high = (number(float(end)) for end in (values.min(), values.max())) if len(values) else (None, None)
    return {"name": column.name, "kind": "number", "low": low, "high": high}


def _is_binary(support: object) -> bool:
    return isinstance(support, type(constraints.boolean))

"""``factor_walk``: the decoded row as a factor, a covariate or a label varies; in pictures, or in bars of its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.decoding.decoded_columns import ObservedColumn, observed_columns
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.evaluate.decoding.factor_order import Order, factor_order
from pyro_lfm.evaluate.decoding.factor_paths import FactorPaths
from pyro_lfm.evaluate.inputs import Rows
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.plots.picture_rows import picture_rows
from pyro_lfm.plots.style import of_kind
from pyro_lfm.plots.walk_columns import draw_columns
from pyro_lfm.plots.walk_pictures import draw_pictures
from pyro_lfm.plots.walk_starts import start_of
from pyro_lfm.plots.walk_steps import Steps, Walk
from pyro_lfm.shapes import number, whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLE = "A walk along each factor"
# Factors of a table, and rows of pictures with labels, that are shown by default.
_OF_TABLE, _WITH_LABELS = 6, 12


def factor_walk(
    fit: Fit,
    *,
    data: Rows | None = None,
    shape: Sequence[int] | None = None,
    start: int | torch.Tensor | Rows | None = None,
    steps: int = 9,
    reach: float | None = None,
    factors: int | None = None,
    order: Order = "variance",
    walk: str | Sequence[str] | None = None,
    covariates: Mapping[str, object] | None = None,
    labels: Mapping[str, object] | None = None,
    columns: Sequence[str] | int = 8,
    title: str | None = _TITLE,
) -> Figure:
    """The decoded row as one factor varies: a row of pictures for each factor, or of panels for each column of a table.

    A factor runs through the quantiles that it has in the rows, and the other factors follow it to what they are expected to
    be then (``FactorPaths``), so that the walk stays where the decoder was trained. The factors come in the order of the
    variance that they explain, R² at the right. Pictures show E[x | z]. Columns of tables have their mean and the interval
    that holds 90% of p(x | z), in their own units, and labels and levels their probabilities.

    Args:
        fit: a ``Fit`` of any declaration. Latents that all rows share are at their posterior mean.
        data: rows, for a fit that was loaded. Without rows the prior takes their place.
        shape: (H, W) or (C, H, W) of a picture, where its rows are flat.
        start: the row through which the walks go, which is framed: its number among the rows, or the row as data, or a point
            (K,), an entry of each factor as declared. By default the mean of the rows.
        steps: the number of pictures or bars of a walk.
        reach: to walk from −reach to +reach standard deviations of the prior instead, with the other factors held.
        factors: the number of factors shown. By default all are, of a table the first 6, with labels as many as fit.
        order: "variance", "declared", or names of factors.
        walk: the names of what varies, instead of all factors: factors, covariates, discrete latents, as in walk="age".
        covariates: {name: value} at which covariates are held. By default they are held at the mean of the
            rows, or at those of ``start``.
        labels: {discrete latent: value} at which labels among the latents are held. By default a walk has a row of pictures
            for each label of the first of them. With ``start`` they are the most probable ones of that row.
        columns: the names of the columns shown, or the number of those that move most.

    Raises:
        DeclarationError: unknown names, or nothing to vary.
        ShapeError: a start, or pictures, of another shape.
        DataError: values that covariates or labels cannot have.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Bernoulli(16, logits=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> fit = lfm.fit(model, torch.ones(20, 16), lfm.SVI(guide, steps=1), seed=0, progress=False)
    >>> sorted(label.get_text() for label in lfm.plots.factor_walk(fit, shape=(4, 4), steps=5).axes[0].get_yticklabels())
    ['$z_{1}$', '$z_{2}$']
    """
    fit = of_kind(fit, Fit, "lfm.fit")
    steps = whole("steps", steps, least=2)
    factors = None if factors is None else whole("factors", factors)
    reach = None if reach is None else number("reach", reach, least=0.0, above=True)
    decoder = RowDecoder(fit)
    pictures = picture_rows(decoder, shape, data)
    begin = start_of(decoder, start, data)
    plan = Steps(decoder, FactorPaths(decoder, data), begin, steps, reach, covariates, labels)
    if walk is not None:
        names = [walk] if isinstance(walk, str) else [*walk]
        walks = [plan.along(name) for name in names]
        title = f"A walk along {', '.join(names)}" if title == _TITLE else title
    else:
        walks = _all_factors(plan, fit, data, order, factors, pictures is None)
    if not walks:
        raise DeclarationError(
            "factor_walk needs latents of a row, or walk= the name of a covariate; this model has latents "
            f"{', '.join(fit.model.latents) or 'none'}"
        )
    if pictures is not None:
        return draw_pictures(walks, decoder, pictures, title)
    return draw_columns(walks, decoder, _chosen(observed_columns(decoder), columns), columns, title)


def _all_factors(
    plan: Steps, fit: Fit, data: Rows | None, order: Order, factors: int | None, is_table: bool
) -> list[Walk]:
    """The walks along factors, once for each label of the first discrete latent that is not held; without factors that."""
    decoder = plan.decoder
    if not decoder.names:
        return [plan.along(name) for name in plan.walkable_labels()]
    ranked = factor_order(fit, data)
    shown = plan.shown_label
    count = 1 if shown is None else decoder.labels[shown] or 1
    most = max(1, _WITH_LABELS // count) if count > 1 else _OF_TABLE if is_table else len(decoder.names)
    places = ranked.by(order)[: factors or most]
    shares = ranked.shares.tolist() if ranked.of_rows else [None] * len(decoder.names)
    return [
        plan.along(decoder.names[k], share=shares[k], label=code)
        for k in places
        for code in (range(count) if count > 1 else [None])
    ]


def _chosen(known: list[ObservedColumn], columns: Sequence[str] | int) -> list[ObservedColumn]:
    """The columns with these names; all of them where a number of columns is asked for."""
    if isinstance(columns, int):
        whole("columns", columns)
        return known
    wanted = [columns] if isinstance(columns, str) else [*columns]
    by_name = {column.name: column for column in known}
    unknown = [name for name in wanted if name not in by_name]
    if unknown or not wanted:
        raise DeclarationError(
            f"columns must name columns of the rows, {', '.join(by_name)}; got {columns!r}"
        )
    return [by_name[name] for name in wanted]

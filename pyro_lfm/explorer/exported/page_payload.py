"""``page_payload``: all that an exported page knows: what its session answers, its graphs, its points and its rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical

from pyro_lfm.distributions.support_bounds import SupportBounds
from pyro_lfm.documents.export.fitted_outline import Outline, outline_of
from pyro_lfm.errors import DeclarationError, one_call
from pyro_lfm.explorer.data_columns import DataColumn
from pyro_lfm.explorer.exported.array_block import ArrayBlock, Reference
from pyro_lfm.explorer.exported.attribute_graphs import attributes_document
from pyro_lfm.explorer.exported.decoder_graph import PageDecoder
from pyro_lfm.explorer.exported.encoder_graph import PageEncoder
from pyro_lfm.explorer.exported.entry_outputs import EntryOutputs
from pyro_lfm.explorer.exported.graph_document import Document
from pyro_lfm.explorer.exported.page_graphs import page_graph
from pyro_lfm.explorer.exported.page_rows import PageRows, page_rows
from pyro_lfm.explorer.session import Session
from pyro_lfm.explorer.views.choosing import View
from pyro_lfm.explorer.views.picture_view import PictureView
from pyro_lfm.inference.missing_entries import is_divisible
from pyro_lfm.programs.model import Model

Payload = dict[str, Any]
# Rows drawn from the model for latents that the page does not show.
_DRAWN = 200
# The graph that each answer of the page needs.
_NEEDS = {
    "decode": "decoder",
    "summary": "decoder",
    "csv": "decoder",
    "encode": "encoder",
    "generate": "attributes",
    "edit": "attributes",
}
# The most rows times parameters of the model for which the page holds k̂.
_PARETO = 10**8


def page_payload(session: Session, room: int) -> Payload:
    """The contents of a page, as JSON: ``lfm.exportedSource`` reads them.

    Args:
        room: about the most bytes of the page; rows of the data fill what all else leaves.

    Raises:
        DeclarationError: the decoder cannot run in a page.
    """
    block = ArrayBlock()
    notes: list[str] = []
    order = [int(place) for place in session.axes.order]
    with one_call():
        outline = outline_of(session.fit)
        decode = PageDecoder(outline, session.decoder, order)
        graphs = {
            "decoder": page_graph(decode, "the decoder", block),
            "encoder": _unless_refused(
                lambda: page_graph(
                    PageEncoder(outline, session.decoder, session.fit.guide, order), "the encoder", block
                ),
                "encodes no new rows",
                notes,
            ),
            "attributes": _unless_refused(
                lambda: _attributes(session, outline, order, block), "neither generates nor edits rows", notes
            ),
        }
    colours = [*session.columns, *_measures(session)]
    contents: Payload = {
        **graphs,
        "points": {
            "latents": block.add_columns(session.axes.points),
            "learned": block.add_columns(session.learned()) if session.has_plane else None,
        },
        "colours": [_colour(column, block) for column in colours],
        "known": len(session.columns),
        "complete": _complete(session, outline.may_be_missing),
        "answers": {name: _answer(session, name, outputs) for name, outputs in decode.answers.items()},
        "views": [_view(view) for view in session.views],
        "covariates": _covariates(session, block),
        "labels": _labels(session, block),
        "variables": {name: list(each.shape) for name, each in session.fit.model.observed.items()},
    }
    rows = page_rows(session, block, room)
    return {
        "can": [name for name, graph in _NEEDS.items() if graphs[graph] is not None],
        "info": _info(session, colours, [*_left_out(rows, len(session.rows)), *notes]),
        **contents,
        "rows": rows.document(),
        "block": block.packed(),
    }


def _unless_refused(make: Callable[[], Document | None], what: str, notes: list[str]) -> Document | None:
    """A graph; None where it cannot be one, with words for the page on what it does without."""
    try:
        return make()
    except DeclarationError as error:
        notes.append(f"This page {what}: {error}.")
        return None


def _attributes(session: Session, outline: Outline, order: list[int], block: ArrayBlock) -> Document | None:
    if session.attributes is None:
        return None
    return attributes_document(session.attributes, outline, order, block)


def _info(session: Session, colours: list[DataColumn], notes: list[str]) -> Payload:
    info: Payload = {**session.info()}
    named = {column.name for column in colours}
    return {**info, "colours": [each for each in info["colours"] if each["name"] in named], "notes": notes}


def _left_out(rows: PageRows, count: int) -> list[str]:
    """Words on rows that the page has no room for."""
    if rows.count == count:
        return []
    which = f"rows 0 to {rows.count - 1:,}" if rows.count else "no rows"
    return [
        f"This page holds the data of {which}; of the other {count - rows.count:,} it has the point on the map and the "
        "reconstruction."
    ]


def _measures(session: Session) -> list[DataColumn]:
    """The bound of each row, and k̂ where it takes seconds: a page computes neither when it is asked."""
    size = sum(parameter.numel() for parameter in session.fit.model.parameters())
    return session.measures if size * len(session.rows) <= _PARETO else session.measures[:1]


def _colour(column: DataColumn, block: ArrayBlock) -> Reference:
    values = np.asarray(column.values(), np.float32)
    if column.labels is None:
        return block.add(values)
    codes = np.where(np.isnan(values), 255, values).astype(np.uint8)
    return {**block.add(codes), "levels": [*range(len(column.labels))], "missing": 255}


def _answer(session: Session, name: str, outputs: EntryOutputs) -> Payload:
    """How the page makes intervals of the outputs of a variable."""
    answer: Payload = {
        "family": outputs.family,
        "interval": outputs.interval,
        "parameters": outputs.parameters,
        "grid": outputs.grid,
    }
    bounds = SupportBounds.of(session.fit.model.observed[name].support)
    ends = (None, None) if bounds is None else (bounds.low, bounds.high)
    answer["support"] = [_finite(end) for end in ends]
    return answer


def _finite(end: Any) -> list[float | None]:
    """One bound, or one for each entry; null where there is none."""
    values = [] if end is None else [float(value) for value in end.reshape(-1)]
    return [value if np.isfinite(value) else None for value in values]


def _view(view: View) -> Payload:
    if isinstance(view, PictureView):
        return {"kind": "picture", "variable": view.name, "last": view.last}
    columns = [
        {"variable": c.variable, "entry": c.entry, "kind": c.kind, "loc": c.loc, "scale": c.scale}
        for c in view.columns
    ]
    return {"kind": "columns", "columns": columns}


def _covariates(session: Session, block: ArrayBlock) -> Payload:
    """The entries of the covariates, and their values in all rows, (N, E)."""
    entries = session.decoder.covariates
    known = {column.name: column for column in session.columns}
    values = [known[entry.name].values() for entry in entries if entry.name in known]
    return {
        "entries": [
            {"name": e.name, "variable": e.variable, "entry": e.entry, "value": e.value} for e in entries
        ],
        "rows": block.add(np.stack(values, 1).astype(np.float32))
        if len(values) == len(entries) > 0
        else None,
    }


def _labels(session: Session, block: ArrayBlock) -> Payload:
    """The discrete latents that the decoder reads, and the most probable code of those shown in all rows, (N, L).

    Those that are not shown, such as counts without an end, are held at the median of draws from the model.
    """
    shown, decoder = session.shown_labels(), session.decoder
    drawn = decoder.prior_draws(_DRAWN) if decoder.labels else {}
    medians = {name: drawn[name].double().median(0).values.reshape(-1).tolist() for name in decoder.labels}
    codes = (
        [np.concatenate([_codes(session, index, shown) for index in session.rows.table.blocks()])]
        if shown
        else []
    )
    return {
        "names": [*decoder.labels],
        "shown": shown,
        "otherwise": medians,
        "rows": block.add(codes[0].astype(np.float32)) if codes else None,
    }


def _codes(session: Session, index: Tensor, shown: list[str]) -> np.ndarray[Any, Any]:
    """The most probable codes of some rows, (B, L)."""
    posterior = session.posteriors.posterior(index)
    columns = []
    for name in shown:
        probabilities = cast("Categorical | Bernoulli", posterior[name]).probs.reshape(len(index), -1)
        several = session.decoder.labels[name] is not None
        columns.append(probabilities.argmax(1) if several else (probabilities[:, 0] > 0.5).long())
    return torch.stack(columns, 1).cpu().numpy()


def _complete(session: Session, may_be_missing: list[str]) -> list[str]:
    """The observed variables of which a row must have all values or none."""
    model = session.fit.model
    return [
        name
        for name in model.observed
        if name not in may_be_missing or isinstance(model, Model) and not is_divisible(model, name)
    ]

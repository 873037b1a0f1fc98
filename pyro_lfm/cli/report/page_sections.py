"""The sections of the page: declaration, training, factors, rows, calibration."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

from pyro_lfm.cli.report.doubts import Doubt
from pyro_lfm.cli.report.page import Section, bar, paragraph, picture, side_by_side, table
from pyro_lfm.cli.report.pictures import Pictures
from pyro_lfm.cli.report.walks import Walks, walk_table
from pyro_lfm.errors import DataError, DeclarationError, ShapeError

if TYPE_CHECKING:
    from pyro_lfm.cli.fit_measures import ColumnErrors, Measures
    from pyro_lfm.evaluate import Decomposition, Diagnosis
    from pyro_lfm.inference import Fit

# Factors that are shown one by one.
_FACTORS = 12


def doubts(listed: list[Doubt]) -> Section:
    if not listed:
        return Section("doubts", "What is doubtful", '<p class="fine">Nothing stands out.</p>')
    entries = "".join(f"<li><b>{escape(each.what)}.</b> {escape(each.why)}</li>" for each in listed)
    return Section("doubts", "What is doubtful", f'<ul class="doubts">{entries}</ul>')


def declared(fit: Fit, toml: str, frame: Any) -> Section:
    """The declaration.

    Args:
        frame: the table of the rows; None without one.
    """
    import pyro_lfm as lfm

    body = paragraph("The model p, the guide q, and the bound that was raised, as formulas:")
    body += f"<pre>{escape(str(lfm.describe(fit.model, fit.guide, fit.objective)))}</pre>"
    converter: Any = fit.table
    if converter is not None:
        lines = [
            (escape(str(c.name)), escape(c.kind), _values(c), _missing(c.name, frame))
            for c in converter.columns
        ]
        body += "<h3>Columns</h3>" + table(["column", "kind", "values", "missing"], lines, [3])
    body += f"<details><summary>The declaration as TOML</summary><pre>{escape(toml)}</pre></details>"
    return Section("declared", "What was declared", body)


def _values(column: Any) -> str:
    """What a column of a table holds, in a few words."""
    if column.levels is not None:
        shown = ", ".join(str(level) for level in list(column.levels)[:8])
        return escape(shown + ", ..." * (len(column.levels) > 8))
    if column.kind in ("continuous", "own"):
        return escape(f"{column.loc:.4g} ± {column.scale:.4g}".replace("-", "−"))
    return (
        "numbers above 0"
        if column.kind == "positive"
        else "whole numbers from 0"
        if column.kind == "count"
        else ""
    )


def _missing(name: Any, frame: Any) -> str:
    if frame is None or name not in frame.columns:
        return ""
    share = float(frame[name].isna().mean())
    return f"{100 * share:.1f}%" if share else "–"


def training(fit: Fit) -> Section | None:
    import pyro_lfm as lfm

    if not fit.history:
        return None
    last = fit.history[-1]
    unit = "iterations" if "iteration" in last else "epochs"
    seconds = sum(record.get("seconds", 0.0) for record in fit.history)
    text = f"{last.get('epoch', len(fit.history))} {unit}, {seconds:.1f} s of training. Higher is better."
    try:
        drawn = lfm.plots.bounds(fit, validation="validation", title=None)
    except ShapeError:
        return Section("training", "Training", paragraph(text))
    caption = (
        "The evidence bound, a lower bound on log p(x), in nats per row. First epochs far below are cut off."
    )
    return Section(
        "training", "Training", paragraph(text) + picture(drawn, caption, "The evidence bound by epoch")
    )


def factors(fit: Fit, parts: Decomposition | None, pictures: Pictures | None, rows: Any) -> Section | None:
    """What each factor does, in the order of the variance that they explain."""
    body = ""
    figures = []
    if parts is not None:
        caption = "The KL of each factor: how many nats it holds about a row. A factor near 0 is not used."
        figures.append(picture(_kl(parts), caption, "The KL of each factor"))
    if rows is not None and (drawn := _attempt(lambda: _map(fit, rows))) is not None:
        figures.append(picture(drawn[0], drawn[1], "A map of the rows by their factors"))
    body += side_by_side(*figures) if figures else ""
    if pictures is not None and (walk := _attempt(lambda: pictures.walk(fit, rows))) is not None:
        body += picture(
            walk,
            "Each row of pictures moves one factor through the values that it has in the rows; others follow it where they "
            "depend on it. R² is the share of the variance that it explains.",
            "Walks along factors",
        )
    elif (walks := _attempt(lambda: Walks(fit, rows))) is not None:
        body += paragraph(
            "The expected row as one factor moves through its 2nd, 16th, 50th, 84th and 98th percentile among the rows, and "
            "the others follow it where they depend on it: orange is above the middle, blue below it, green another mix of "
            "labels. The factors that explain most variance and the columns that move most come first. The sign of a "
            "factor, and rotations of several, have no meaning of their own."
        )
        for name in walks.names[:_FACTORS]:
            body += f"<h3>{escape(name)}</h3>" + walk_table(walks.of(name))
    return Section("factors", "What each factor does", body) if body else None


def _kl(parts: Decomposition) -> Any:
    import pyro_lfm as lfm

    return lfm.plots.kl_by_entry(parts, title=None)


def _map(fit: Fit, rows: Any) -> tuple[Any, str]:
    """The rows in the plane of their factors, coloured by the labels of the first column that has some."""
    import pyro_lfm as lfm

    column, labels, names = _labels(fit, rows)
    drawn = lfm.plots.latent_map(fit, labels, data=rows, names=names, title=None)
    coloured = f", coloured by {column}" if column else ""
    return drawn, f"The rows by the posterior means of their factors{coloured}."


def _labels(fit: Fit, rows: Any) -> tuple[str | None, Any, list[str]]:
    import numpy as np

    converter: Any = fit.table
    frame = getattr(rows, "frame", None)
    for column in converter.columns if converter is not None and frame is not None else ():
        if column.levels is not None and 2 <= len(column.levels) <= 10 and column.kind != "ordinal":
            codes = column.encode(frame[column.name])  # type: ignore[index]
            return str(column.name), codes, [str(level) for level in column.levels]
    return None, np.zeros(fit.rows_of(rows).size), [""]


def rows(done: Measures, fit: Fit, pictures: Pictures | None, fitted: bool) -> Section:
    """Reconstructions, and cells that were hidden and imputed."""
    held = (
        "These rows were fitted; errors on rows that were not may be larger."
        if fitted
        else "These rows are not those that were fitted."
    )
    body = paragraph(f"{done.rows:,} rows. {held}", soft=True)
    if pictures is not None and (drawn := _attempt(lambda: pictures.reconstructed(fit))) is not None:
        body += picture(drawn, "Rows above, their reconstructions below.", "Reconstructions")
    numbers = [each for each in done.columns if each.measure != "right"]
    labels = [each for each in done.columns if each.measure == "right"]
    shown = ("the cell itself known", "the cell hidden", "mean or mode")
    if numbers:
        body += "<h3>Numbers: root mean square error, in standard deviations of the column</h3>"
        body += paragraph(
            "Shorter is better. A column that is filled by its mean has an error of about 1.", soft=True
        )
        body += _errors(numbers, shown)
    if labels:
        body += "<h3>Labels: share that is right</h3>" + paragraph("Longer is better.", soft=True)
        body += _errors(labels, shown)
    return Section("rows", "Reconstruction and imputation", body)


def _errors(columns: list[ColumnErrors], heads: tuple[str, str, str]) -> str:
    whole = (
        columns
        if len(columns) <= 40
        else sorted(columns, key=lambda c: (math.isnan(c.imputed), c.imputed))[:20]
    )
    widest = max(
        (v for c in whole for v in (c.reconstructed, c.imputed, c.baseline) if math.isfinite(v)), default=1.0
    )
    lines = [
        (
            escape(each.column),
            *(
                _with_bar(v, widest, k == 2)
                for k, v in enumerate((each.reconstructed, each.imputed, each.baseline))
            ),
        )
        for each in whole
    ]
    more = (
        paragraph(f"The 20 of {len(columns)} columns with the smallest numbers.", soft=True)
        if len(whole) < len(columns)
        else ""
    )
    return table(["column", *heads], lines) + more


def _with_bar(value: float, widest: float, off: bool) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.2f} {bar(value / max(widest, 1e-9), off)}"


def calibration(done: Measures | None, tests: Diagnosis | None) -> Section | None:
    """Intervals, importance weights, and tests of the guide and the model."""
    import pyro_lfm as lfm

    body = ""
    if done is not None and done.imputation is not None:
        scores = done.imputation
        body += paragraph(f"A fifth of the cells were hidden and imputed. {scores.verdict}")
        if (drawn := _attempt(lambda: lfm.plots.interval_coverage(scores, title=None))) is not None:
            body += picture(
                drawn,
                "The share of hidden numbers inside their intervals, minus the level: 0 is right.",
                "Coverage",
            )
    if tests is not None:
        body += "<h3>Is the guide the posterior, and do the data look like draws of the model?</h3>"
        body += paragraph(tests.verdict) + _tests(tests)
    elif done is not None and done.likelihood is not None and done.likelihood.draws:
        own = done.likelihood
        body += picture(lfm.plots.pareto_k(own, title=None), own.verdict, "Importance weights")
    return Section("calibration", "Calibration", body) if body else None


def _tests(tests: Diagnosis) -> str:
    """The tests of a guide and its model: a line for each, and pictures of those that say most."""
    import pyro_lfm as lfm

    flagged = tests.flagged()
    lines = [
        (
            f"<b>{escape(name)}</b>" if name in flagged else escape(name),
            f"{p:.3f}",
            escape(getattr(tests, name).verdict),
        )
        for name, p in tests.p_values.items()
    ]
    plots = lfm.plots
    figures = side_by_side(
        picture(
            plots.rank_curves(tests.sbc, title=None),
            "Ranks of simulated truths among draws of the guide: inside the band, the guide is the posterior.",
            "Ranks of truths",
        ),
        picture(
            plots.region_coverage(tests.coverage, title=None),
            "The share of simulated truths inside the guide's regions: on the diagonal, they have their level.",
            "Coverage of regions",
        ),
        picture(
            plots.predictive_check(tests.predictive, title=None),
            "Statistics of the data, as dots, among those of replicates that the model draws.",
            "The data among their replicates",
        ),
        picture(
            plots.pareto_k(tests.pareto, title=None), tests.pareto.verdict, "Importance weights of the rows"
        ),
    )
    caption = f"{tests.rows} simulated rows. In bold, tests that reject at 5%, corrected for their number."
    return table(["test", "p", "result"], lines, [1]) + paragraph(caption, soft=True) + figures


def _attempt(make: Callable[[], Any]) -> Any:
    """What a function makes; None where this model has no such thing."""
    try:
        return make()
    except (DataError, DeclarationError, ShapeError):
        return None

"""What ``evaluate`` and ``report`` measure of a fit on some rows: log p(x), bound, errors by column."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyro_lfm.cli.adapted_guide import refined
from pyro_lfm.errors import DataError, DeclarationError

if TYPE_CHECKING:
    from torch import Tensor

    from pyro_lfm.cli.output import Value
    from pyro_lfm.evaluate import ImputationScores, LogLikelihood
    from pyro_lfm.inference import Fit


@dataclass
class ColumnErrors:
    """How well one column is reconstructed, from the whole row, and imputed where it is hidden.

    Attributes:
        column: its name, and variable: the observed factor that it belongs to.
        measure: "error / sd", root mean square in standard deviations of the column, or "right", the share of right labels.
        reconstructed: with the cell itself among what is known. imputed: with a fifth of all cells hidden. baseline: that of
            the column's mean, or most frequent label.
    """

    column: str
    variable: str
    measure: str
    reconstructed: float = math.nan
    imputed: float = math.nan
    baseline: float = math.nan

    def entry(self) -> dict[str, Value]:
        return dict(vars(self))


@dataclass
class Measures:
    """The measures of a fit on some rows. What a model cannot have is None, and ``missing`` says why.

    Attributes:
        rows: N.
        bound, bound_error: the evidence bound, nats per row, with its standard error over the rows.
        likelihood: log p(x) by row.
        imputation: scores of hidden cells.
        columns: errors by column.
        missing: {measure: why it is not there}.
    """

    rows: int
    bound: float = math.nan
    bound_error: float = math.nan
    likelihood: LogLikelihood | None = None
    imputation: ImputationScores | None = None
    columns: list[ColumnErrors] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def measure(
    fit: Fit, rows: Any, draws: int = 500, share: float = 0.2, seed: int = 0, steps: int | None = None
) -> Measures:
    """Measures a fit on rows; None stands for those that were fitted.

    Args:
        draws: importance weights of each row, and draws of each hidden cell.
        share: the share of cells that are hidden, one after the other variable.
        steps: that adapt the guide to the rows with hidden cells, see ``refined``.

    Raises:
        DataError, DeclarationError: nothing can be measured; the first reason.
    """
    import pyro_lfm as lfm

    reasons: dict[str, Exception] = {}
    table = Measures(rows=fit.rows_of(rows).size)
    try:
        bounds = fit.bound(rows, draws=10, seed=seed).double()
        table.bound, table.bound_error = float(bounds.mean()), standard_error(bounds)
    except (DataError, DeclarationError) as error:
        reasons["bound"] = error
    try:
        table.likelihood = lfm.evaluate.log_likelihood(fit, rows, draws=draws, seed=seed)
    except (DataError, DeclarationError) as error:
        reasons["log_likelihood"] = error
    try:
        reconstructed = _reconstructed(fit, rows)
    except (DataError, DeclarationError) as error:
        reasons["reconstruction"], reconstructed = error, {}
    try:
        table.imputation = lfm.evaluate.imputation_scores(
            refined(fit, table.rows, steps), rows, share=share, draws=max(draws, 20), seed=seed
        )
    except (DataError, DeclarationError) as error:
        reasons["imputation"] = error
    if len(reasons) == 4:
        raise reasons["bound"]
    table.missing = {name: " ".join(str(error).split()) for name, error in reasons.items()}
    table.columns = _columns(fit, reconstructed, table.imputation)
    return table


def standard_error(values: Tensor) -> float:
    """The standard error of a mean over rows; NaN for one row."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else math.nan


def column_names(fit: Fit, name: str, entries: int) -> list[str]:
    """The names of the columns of an observed variable, or numbers."""
    groups = getattr(fit.table, "groups", {})
    names = groups.get(name) or (fit.schema[name].names if name in fit.schema else None)
    if names is not None and len(names) == entries:
        return [str(column) for column in names]
    return [name] if entries == 1 else [f"{name}_{k + 1}" for k in range(entries)]


def _reconstructed(fit: Fit, rows: Any) -> dict[str, tuple[str, Tensor]]:
    """{variable: (measure, error of each entry)} of reconstructions."""
    import torch

    batch, means = fit.rows_of(rows), fit.reconstruct(rows)
    modelled = [
        name for name in fit.model.observed if name not in fit.model.covariates and name in batch.names
    ]
    by_name = means if isinstance(means, dict) else {modelled[0]: means}
    errors = {}
    for name in modelled:
        x, mean = batch.with_gaps(name).double(), by_name[name].double()
        if is_label(fit, name):
            best = mean.argmax(-1) if mean.dim() > x.dim() else mean.round()
            known = ~x.isnan()
            right = (best.reshape(x.shape) == x) & known
            flat, count = right.reshape(len(x), -1), known.reshape(len(x), -1).sum(0)
            errors[name] = ("right", flat.sum(0) / count)
            continue
        x, mean = x.reshape(len(x), -1), mean.reshape(len(x), -1)
        known = ~x.isnan()
        count = known.sum(0)
        centre = x.nansum(0) / count
        spread = ((x - centre).nan_to_num().square().sum(0) / count).sqrt()
        rms = ((x - mean).nan_to_num().square().sum(0) / count).sqrt()
        errors[name] = ("error / sd", torch.where(spread > 0, rms / spread, torch.nan))
    return errors


def is_label(fit: Fit, name: str) -> bool:
    """Whether a variable holds labels, levels, or 0 and 1."""
    from torch.distributions import constraints

    from pyro_lfm.distributions.supports import entrywise

    support = entrywise(fit.model.observed[name].support)
    return isinstance(support, type(constraints.boolean) | type(constraints.integer_interval(0, 1)))


def _columns(
    fit: Fit, reconstructed: dict[str, tuple[str, Tensor]], scores: ImputationScores | None
) -> list[ColumnErrors]:
    from pyro_lfm.evaluate import LabelScores

    by_variable = {} if scores is None else scores.variables
    columns = []
    for name in dict.fromkeys([*reconstructed, *by_variable]):
        own = by_variable.get(name)
        labels = isinstance(own, LabelScores) or is_label(fit, name)
        entries = len(reconstructed[name][1]) if name in reconstructed else len(own.columns)  # type: ignore[union-attr]
        for k, column in enumerate(column_names(fit, name, entries)):
            each = ColumnErrors(column, name, "right" if labels else "error / sd")
            if name in reconstructed:
                each.reconstructed = float(reconstructed[name][1][k])
            if own is not None:
                each.imputed = float(own.columns.reshape(-1)[k])
                each.baseline = (
                    own.baseline_accuracy if isinstance(own, LabelScores) else own.baseline_standardised
                )
            columns.append(each)
    return columns

"""``pyro-lfm evaluate RUN DATA``: log p(x) of rows, and errors of reconstructed and of imputed cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyro_lfm.cli.adapted_guide import RefineSteps
from pyro_lfm.cli.fit_measures import ColumnErrors, Measures, measure, standard_error
from pyro_lfm.cli.output import LARGEST_SEED, AsJson, Value, show
from pyro_lfm.cli.runs import RunFolder, open_run
from pyro_lfm.cli.user_parts import PartsFile
from pyro_lfm.data_files.data_file import read_data
from pyro_lfm.data_files.named_rows import rows_of_fit
from pyro_lfm.errors import DeclarationError

if TYPE_CHECKING:
    from pyro_lfm.evaluate import ImputationScores, LogLikelihood


def evaluate(
    run: RunFolder,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Rows, best such that were not fitted.")],
    draws: Annotated[int, typer.Option(min=20, help="Draws of the latents for each row.")] = 500,
    share: Annotated[float, typer.Option(help="The share of the cells that are hidden and imputed.")] = 0.2,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Of the draws, and of the choice of hidden cells.")
    ] = 0,
    refine: RefineSteps = None,
    parts: PartsFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure a fit on rows: log p(x) with its error, errors of reconstructed cells, and of cells that are hidden."""
    if not 0 < share <= 1:
        raise DeclarationError(f"--share must be a share above 0, up to 1; got {share:g}")
    fit = open_run(run, parts)
    file = read_data(data)
    done = measure(fit, rows_of_fit(fit, file), draws, share, seed, refine)
    show(result_of(done), text_of(done), as_json)


def result_of(done: Measures) -> dict[str, Value]:
    """Measures for programs."""
    return {
        "rows": done.rows,
        "bound": {"mean": done.bound, "error_over_rows": done.bound_error},
        "log_likelihood": None if done.likelihood is None else _likelihood(done.likelihood),
        "columns": [column.entry() for column in done.columns],
        "imputation": None if done.imputation is None else _imputation(done.imputation),
        "not_measured": dict(done.missing),
    }


def _likelihood(own: LogLikelihood) -> dict[str, Value]:
    return {
        "mean": own.mean,
        "error_over_rows": standard_error(own.per_row.double()),
        "error_over_draws": own.mean_error,
        "bits_per_dimension": float(own.bits_per_dimension.nanmean()),
        "exact": own.draws == 0,
        "unreliable_rows": int(own.unreliable.sum()),
        "verdict": own.verdict,
    }


def _imputation(scores: ImputationScores) -> dict[str, Value]:
    from pyro_lfm.evaluate import NumberScores

    by_name: dict[str, Value] = {}
    for name, own in scores.variables.items():
        if isinstance(own, NumberScores):
            coverage = {f"{level:g}": float(c) for level, c in zip(own.levels, own.coverage, strict=True)}
            by_name[name] = {
                "hidden": own.entries,
                "error_over_sd": own.standardised,
                "error_over_sd_of_mean": own.baseline_standardised,
                "crps_over_sd": own.crps,
                "coverage": coverage,
            }
        else:
            by_name[name] = {
                "hidden": own.entries,
                "right": own.accuracy,
                "right_of_mode": own.baseline_accuracy,
                "log_score": own.log_score,
            }
    return {"verdict": scores.verdict, "variables": by_name}


def text_of(done: Measures) -> str:
    """Measures for readers."""
    lines = [f"{done.rows:,} rows"]
    if (own := done.likelihood) is not None:
        draws = f", ± {own.mean_error:.2g} over draws" if own.draws else ", exact"
        error = standard_error(own.per_row.double())
        lines.append(f"log p(x)  {own.mean:.4f} nats per row, ± {error:.2g} over rows{draws}")
        lines.append(f"          {float(own.bits_per_dimension.nanmean()):.4f} bits per cell. {own.verdict}")
    if done.bound == done.bound:
        lines.append(f"bound     {done.bound:.4f} nats per row, ± {done.bound_error:.2g} over rows")
    if done.columns:
        lines += ["", *_table(done.columns)]
    if done.imputation is not None:
        lines += ["", f"hidden cells: {done.imputation.verdict}"]
    lines += [f"not measured: {name}, because {why}" for name, why in done.missing.items()]
    return "\n".join(lines)


def _table(columns: list[ColumnErrors]) -> list[str]:
    width = max(6, *(len(each.column) for each in columns))
    lines = [f"{'column':<{width}}  {'measure':<10}  reconstructed  hidden  by mean or mode"]
    for each in columns:
        numbers = [_number(v) for v in (each.reconstructed, each.imputed, each.baseline)]
        lines.append(
            f"{each.column:<{width}}  {each.measure:<10}  {numbers[0]:>13}  {numbers[1]:>6}  {numbers[2]:>15}"
        )
    return lines


def _number(value: float) -> str:
    return "–" if value != value else f"{value:.3f}"

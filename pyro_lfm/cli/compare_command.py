"""``pyro-lfm compare CONFIG CONFIG ...``: declarations fitted to the same rows, and measured on the same held-out rows."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_lfm.cli.configurations import Configuration, DataOption, read_configuration
from pyro_lfm.cli.fit_measures import standard_error
from pyro_lfm.cli.output import LARGEST_SEED, AsJson, Value, say, show
from pyro_lfm.cli.settings import Settings
from pyro_lfm.cli.user_parts import PartsFile, parts_of
from pyro_lfm.data_files.data_file import DataFile
from pyro_lfm.data_files.named_rows import rows_to_fit
from pyro_lfm.errors import DataError, DeclarationError

if TYPE_CHECKING:
    from torch import Tensor

    from pyro_lfm.inference import Fit


@dataclass(frozen=True, eq=False)
class Candidate:
    """A declaration that was fitted, with its measures of the held-out rows.

    Attributes:
        name: of its file. fit: to the rows that are not held out. seconds: that it took.
        bounds: the evidence bound of each held-out row, (N,) nats. likelihoods: log p(x), or None where it has none.
    """

    name: str
    fit: Fit
    seconds: float
    bounds: Tensor
    likelihoods: Tensor | None


def compare(
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIG CONFIG ...", help="Two declarations or more.")
    ],
    data: DataOption = None,
    test: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows to measure on; by default a share of the data.")
    ] = None,
    held_out: Annotated[float, typer.Option(help="The share of the rows that is held out.")] = 0.2,
    draws: Annotated[int, typer.Option(min=20, help="Draws of the latents for each held-out row.")] = 500,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Of the fits, and of the choice of rows.")
    ] = 0,
    settings: Settings = None,
    parts: PartsFile = None,
    as_json: AsJson = False,
) -> None:
    """Fit declarations to the same rows, and measure all on the same held-out rows: numbers of factors, guides, likelihoods.

    Differences are paired by row, which removes what the rows have in common.
    """
    if len(configs) < 2:
        raise DeclarationError("compare takes two declarations or more; got one: pyro-lfm fit fits one alone")
    if not 0 < held_out < 1:
        raise DeclarationError(f"--held-out must be a share between 0 and 1; got {held_out:g}")
    names = _names(configs)
    chosen = [read_configuration(path, data, settings or (), parts_of(parts)) for path in configs]
    for each in chosen:
        _ = each.model, each.inference  # before any training
    files = {each.data_path.resolve() for each in chosen}
    if len(files) > 1:
        raise DataError(
            f"compare needs one file of rows; the declarations name {', '.join(map(str, sorted(files)))}: give --data FILE"
        )
    file = chosen[0].read(chosen[0].data_path)
    fitted, measured = _split(file, held_out, seed) if test is None else (file, chosen[0].read(test))
    candidates = [
        _candidate(name, each, fitted, measured, draws, seed)
        for name, each in zip(names, chosen, strict=True)
    ]
    notes = _notes(chosen, names)
    show(_result(candidates, len(fitted), len(measured), notes), _text(candidates, len(fitted), len(measured), notes),
         as_json)  # fmt: skip


def _names(configs: Sequence[Path]) -> list[str]:
    """The names of files without endings; whole paths where these are not different."""
    stems = [path.stem for path in configs]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in configs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DeclarationError(f"compare takes different declarations; got {twice} twice")
    return names


def _split(file: DataFile, share: float, seed: int) -> tuple[DataFile, DataFile]:
    """The rows to fit, and those that are held out."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(file))
    size = max(1, round(share * len(file)))
    if size >= len(file):
        raise DataError(f"{file.path} has {len(file)} rows, too few to hold some out: give --test FILE")
    return file.take(np.sort(order[size:])), file.take(np.sort(order[:size]))


def _candidate(
    name: str, chosen: Configuration, fitted: DataFile, measured: DataFile, draws: int, seed: int
) -> Candidate:
    import pyro_lfm as lfm

    say(f"{name} is fitted")
    table = chosen.declaration.table
    started = time.monotonic()
    fit = lfm.fit(
        chosen.model, rows_to_fit(chosen.model, table, fitted), chosen.inference, seed=seed,
        progress=sys.stderr.isatty(),
    )  # fmt: skip
    if fit.interrupted:
        raise KeyboardInterrupt
    seconds = time.monotonic() - started
    rows = rows_to_fit(chosen.model, table, measured)
    bounds = fit.bound(rows, draws=10, seed=seed).double()
    try:
        likelihoods: Any = lfm.evaluate.log_likelihood(fit, rows, draws=draws, seed=seed).per_row.double()
    except DeclarationError:
        likelihoods = None
    return Candidate(name, fit, seconds, bounds, likelihoods)


def _notes(chosen: Sequence[Configuration], names: Sequence[str]) -> list[str]:
    """What makes numbers of declarations incomparable."""
    kinds: list[Any] = [
        None if each.declaration.table is None
        else {column.name: (column.kind, column.loc, column.scale) for column in each.declaration.table.columns}
        for each in chosen
    ]  # fmt: skip
    notes = []
    for name, own in zip(names[1:], kinds[1:], strict=True):
        if own != kinds[0]:
            notes.append(
                f"{name} reads the columns in another way than {names[0]}: densities of other kinds or units cannot be "
                "compared"
            )
    return notes


def _measured(candidates: Sequence[Candidate]) -> tuple[str, list[Tensor]]:
    """The measure by which candidates are compared: log p(x) where all have it, else the bound."""
    likelihoods = [each.likelihoods for each in candidates if each.likelihoods is not None]
    if len(likelihoods) == len(candidates):
        return "log_likelihood", likelihoods
    return "bound", [each.bounds for each in candidates]


def _result(
    candidates: Sequence[Candidate], fitted: int, measured: int, notes: list[str]
) -> dict[str, Value]:
    name, values = _measured(candidates)
    best = max(range(len(values)), key=lambda k: float(values[k].mean()))
    entries: dict[str, Value] = {}
    for each, own in zip(candidates, values, strict=True):
        difference = own - values[best]
        entries[each.name] = {
            "bound": float(each.bounds.mean()),
            "bound_error": standard_error(each.bounds),
            "log_likelihood": None if each.likelihoods is None else float(each.likelihoods.mean()),
            "log_likelihood_error": None if each.likelihoods is None else standard_error(each.likelihoods),
            "below_best": float(-difference.mean()),
            "below_best_error": standard_error(difference),
            "parameters": sum(p.numel() for p in each.fit.model.parameters()),
            "seconds": round(each.seconds, 3),
        }
    return {
        "rows_fitted": fitted, "rows_measured": measured, "measure": name, "best": candidates[best].name,
        "candidates": entries, "notes": list(notes),
    }  # fmt: skip


def _text(candidates: Sequence[Candidate], fitted: int, measured: int, notes: list[str]) -> str:
    result: Any = _result(candidates, fitted, measured, notes)
    name, best = result["measure"], result["best"]
    what = "log p(x)" if name == "log_likelihood" else "bound"
    width = max(9, *(len(each.name) for each in candidates))
    lines = [
        f"{fitted:,} rows fitted, {measured:,} held out; nats per row, ± one standard error over the rows",
        f"{'':<{width}}  {what:>18}  {'below the best':>18}  {'parameters':>10}  {'seconds':>7}",
    ]
    for each, own in result["candidates"].items():
        below = "–" if each == best else _with_error(own["below_best"], own["below_best_error"])
        value = _with_error(own[name], own[f"{name}_error"])
        lines.append(
            f"{each:<{width}}  {value:>18}  {below:>18}  {own['parameters']:>10,}  {own['seconds']:>7.1f}"
        )
    alike = [
        each for each, own in result["candidates"].items()
        if each != best and not own["below_best"] > 2 * own["below_best_error"]
    ]  # fmt: skip
    verdict = f"{best} is best"
    if alike:
        verdict = f"{best} has the best value. The rows do not tell it apart from {', '.join(alike)}."
    elif len(candidates) > 1:
        verdict = f"{best} is best. It leads all others by more than two standard errors."
    else:
        verdict = f"{best} is the only candidate."
    return "\n".join([*lines, f"{verdict} One seed gives no information about other starts.", *notes])


def _with_error(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}" if math.isfinite(error) else f"{value:.3f}"

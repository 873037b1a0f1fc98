"""``pyro-lfm report RUN``: a page that shows a run: what was declared, what was learned, and what is doubtful."""

from __future__ import annotations

import time
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_lfm.cli.output import LARGEST_SEED, AsJson, say, show
from pyro_lfm.cli.output_files import Force, check_output
from pyro_lfm.cli.runs import Notes, RunFolder, open_run
from pyro_lfm.cli.user_parts import PartsFile
from pyro_lfm.data_files.data_file import DataFile, read_data
from pyro_lfm.data_files.named_rows import rows_of_fit
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.storage.whole_files import whole_file

if TYPE_CHECKING:
    from pyro_lfm.cli.fit_measures import Measures
    from pyro_lfm.cli.report.page import Section
    from pyro_lfm.evaluate import Decomposition, Diagnosis
    from pyro_lfm.inference import Fit

# The most rows that are measured.
_ROWS = 2000


def report(
    run: RunFolder,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rows to look at; by default those that were fitted."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page; by default RUN/report.html.")
    ] = None,
    draws: Annotated[int, typer.Option(min=50, help="Draws of the latents for each row.")] = 300,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of the draws.")] = 0,
    force: Force = False,
    parts: PartsFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a page that shows a run: formulas, curves, what each factor does, reconstructions, calibration, doubts.

    It is one HTML file that loads nothing from elsewhere.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("the pictures of a report need matplotlib: pip install 'pyro_lfm[plot]'") from None
    # The page of a run belongs to it, and is written anew.
    place = run / "report.html" if out is None else out
    fit = open_run(run, parts)
    check_output(place, force or out is None, (".html", ".htm"))
    notes = Notes.of(run)
    file = _data(data, notes)
    started = time.monotonic()
    content, doubts = _page(fit, run, notes, file, fitted=data is None, draws=draws, seed=seed)
    with whole_file(place) as beside:
        beside.write_text(content, encoding="utf-8")
    result = {"page": str(place), "doubts": list(doubts), "rows": None if file is None else len(file)}
    text = f"{place}: written in {time.monotonic() - started:.0f} s"
    text += "".join(f"\n  doubtful: {each}" for each in doubts)
    show(result, text, as_json)


def _data(data: Path | None, notes: Notes) -> DataFile | None:
    """The rows to look at."""
    if data is not None:
        return read_data(data)
    if not notes.data:
        say("the run does not say which file was fitted: --data FILE adds what needs rows")
        return None
    if not Path(notes.data).exists():
        say(f"{notes.data}, which was fitted, is not there any more: --data FILE adds what needs rows")
        return None
    return read_data(Path(notes.data))


def _page(
    fit: Fit, run: Path, notes: Notes, file: DataFile | None, *, fitted: bool, draws: int, seed: int
) -> tuple[str, list[str]]:
    """The page, and the doubts in a few words each."""
    from pyro_lfm.cli.report import page_sections as sections
    from pyro_lfm.cli.report.doubts import doubts_of
    from pyro_lfm.cli.report.page import page
    from pyro_lfm.cli.report.pictures import Pictures

    some = file if file is None or len(file) <= _ROWS else file.take(_spread(len(file)))
    rows = None if some is None else rows_of_fit(fit, some)
    done, decomposed, tests = _measured(fit, rows, draws, seed) if some is not None else (None, None, None)
    doubts = doubts_of(fit, notes.warnings, done, decomposed, tests)
    pictures = Pictures.of(fit, rows) if some is not None else None
    toml = (run / "declaration.toml").read_text(encoding="utf-8")
    parts: list[Section | None] = [
        sections.doubts(doubts),
        sections.declared(fit, toml, None if file is None else file.frame),
        sections.training(fit),
        sections.factors(fit, decomposed, pictures, rows),
        None if done is None else sections.rows(done, fit, pictures, fitted),
        sections.calibration(done, tests),
    ]
    lead = _lead(fit, notes, file, some)
    footer = _footer(fit, run, notes)
    cards = _cards(fit, notes, done, decomposed)
    whole = page(run.resolve().name, lead, cards, [each for each in parts if each is not None], footer)
    return whole, [each.what for each in doubts]


def _spread(count: int) -> Any:
    """The places of some rows, evenly over all."""
    import numpy as np

    return np.linspace(0, count - 1, _ROWS).astype(int)


def _measured(
    fit: Fit, rows: Any, draws: int, seed: int
) -> tuple[Measures | None, Decomposition | None, Diagnosis | None]:
    """What can be measured of a fit on rows; None for what cannot."""
    import pyro_lfm as lfm
    from pyro_lfm.cli.fit_measures import measure

    done, decomposed, tests = None, None, None
    try:
        done = measure(fit, rows, draws, seed=seed)
    except (DataError, DeclarationError) as error:
        say(f"the rows cannot be measured: {error}")
    try:
        decomposed = lfm.evaluate.decompose(fit, rows, draws=min(draws, 100), pairs=2, betas=(), seed=seed)
    except (DataError, DeclarationError):
        pass
    try:
        tests = lfm.evaluate.diagnose(fit, rows, rows=300, draws=49, replicates=139, weights=draws, seed=seed)
    except (DataError, DeclarationError):
        pass
    return done, decomposed, tests


def _lead(fit: Fit, notes: Notes, file: DataFile | None, some: DataFile | None) -> str:
    count = len(fit._rows)
    text = f"{type(fit.model).__name__} of {', '.join(fit.model.observed)}, fitted to {count:,} rows"
    text += f" of {Path(notes.data).name}" if notes.data else ""
    if file is not None and some is not None and len(some) < len(file):
        text += f"; measured on {len(some):,} of {len(file):,} rows of {file.path.name}"
    elif file is not None and str(file.path) != notes.data:
        text += f"; measured on the {len(file):,} rows of {file.path.name}"
    return text + "."


def _cards(
    fit: Fit, notes: Notes, done: Measures | None, decomposed: Decomposition | None
) -> list[tuple[str, str]]:
    cards = []
    if done is not None and done.likelihood is not None:
        cards.append((_number(done.likelihood.mean), "log p(x), nats per row"))
    elif done is not None and done.bound == done.bound:
        cards.append((_number(done.bound), "evidence bound, nats per row"))
    elif fit.history and isinstance(bound := fit.history[-1].get("bound"), float):
        cards.append((_number(bound), "evidence bound at the end, nats per row"))
    latents = {name: latent for name, latent in fit.model.latents.items() if latent.per_row}
    count = sum(latent.shape.numel() for latent in latents.values())
    active = None if decomposed is None else decomposed.active_units
    cards.append(
        (
            str(count) if active is None else f"{active} of {count}",
            "factors" + " that are active" * (active is not None),
        )
    )
    cards.append((f"{len(fit._rows):,}", "rows fitted"))
    if fit.history:
        last = fit.history[-1]
        cards.append(
            (str(last.get("epoch", len(fit.history))), "iterations" if "iteration" in last else "epochs")
        )
    seconds = notes.seconds or sum(record.get("seconds", 0.0) for record in fit.history)
    cards.append((f"{seconds:.0f} s", "of fitting"))
    return cards


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _footer(fit: Fit, run: Path, notes: Notes) -> str:
    from importlib.metadata import version

    seed = "" if fit.seed is None else f", seed {fit.seed}"
    lines = [f"pyro_lfm {escape(version('pyro_lfm'))}, torch {escape(version('torch'))}{seed}."]
    if notes.config:
        settings = "".join(f" --set {each}" for each in notes.settings)
        lines.append(f"Made by <code>pyro-lfm fit {escape(Path(notes.config).name + settings)}</code>.")
    lines.append(f"In Python: <code>fit = lfm.load({escape(repr(str(run)))})</code>.")
    return " ".join(lines)

"""The table of a comparison as text, Markdown, LaTeX and a DataFrame. Used by ``Comparison``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from pyro_lfm.comparison.estimates import Estimate, decimals
from pyro_lfm.comparison.metrics import NATS, STANDARD, names_of

if TYPE_CHECKING:
    from pyro_lfm.comparison.comparison_result import Comparison

_NONE = "–"


@dataclass(frozen=True)
class Cells:
    """The cells of a table as text: its head, its lines, and for each line whether its first number is the best."""

    head: list[str]
    lines: list[list[str]]
    best: list[bool]


def cells(comparison: Comparison, metrics: Sequence[str] | None = None) -> Cells:
    """The cells of the table. The first metric, and the user's own, have errors and paired differences.

    Args:
        metrics: those of the columns, all by default.
    """
    chosen = [*comparison.metrics] if metrics is None else [*metrics]
    head, columns = ["candidate"], [list(comparison.candidates)]
    ranks, many = comparison.ranks, len(comparison.seeds) > 1
    infinite = {
        (candidate, m)
        for candidate, seeds in comparison.infinite.items()
        for names in seeds.values()
        for m in names
    }
    first = 2
    for k, (name, title) in enumerate(zip(chosen, names_of(chosen), strict=True)):
        means = {candidate: comparison.estimate(name, candidate) for candidate in comparison.candidates}
        judged = name == next(iter(comparison.metrics)) or name not in STANDARD
        head.append(title)
        if not judged:
            texts = _plain_column(means.values(), first if name in NATS else None)
            columns.append(
                _with_infinite(texts, means, [candidate for candidate, m in infinite if m == name])
            )
            continue
        places = decimals(
            [e.error_over_rows for e in means.values()] + [e.error_over_seeds for e in means.values()]
        )
        texts = [_with_error(e, e.error_over_rows, places) for e in means.values()]
        columns.append(_with_infinite(texts, means, [candidate for candidate, m in infinite if m == name]))
        if many:
            head.append("± over seeds")
            columns.append([_number(e.error_over_seeds, places) for e in means.values()])
        first = places if k == 0 else first
        if len(comparison.candidates) > 1:
            head.append(f"over {comparison.baseline}")
            columns.append(_differences(comparison, name))
        if name in ranks and len(comparison.candidates) > 1:
            head.append("rank")
            columns.append([str(ranks[name].get(candidate, _NONE)) for candidate in comparison.candidates])
    judged_by = ranks.get(chosen[0], {})
    best = [candidate in judged_by and judged_by[candidate].place == 1 for candidate in comparison.candidates]
    lines = [list(line) for line in zip(*columns, strict=True)]
    for line, candidate in zip(lines, comparison.candidates, strict=True):
        if len(comparison.failed.get(candidate, ())) == len(comparison.seeds):
            line[1] = "failed"
    return Cells(head, lines, best)


def _differences(comparison: Comparison, metric: str) -> list[str]:
    """The differences of all candidates from the baseline, with their errors."""
    texts = []
    for candidate in comparison.candidates:
        d = comparison.difference(metric, candidate)
        text = _with_error(d, d.error, decimals([d.error]), signed=True)
        texts.append(_NONE if candidate == comparison.baseline else text)
    return texts


def as_text(table: Cells, notes: Sequence[str]) -> str:
    """Columns side by side, notes below."""
    every = [table.head, *table.lines]
    widths = [max(len(line[k]) for line in every) for k in range(len(table.head))]
    text = [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in every
    ]
    return "\n".join([*text, *(f"- {note}" for note in notes)])


def as_markdown(table: Cells, notes: Sequence[str]) -> str:
    """A pipe table, the best in bold, notes as a list."""
    lines = [_bold(table, k, lambda cell: f"**{cell}**") for k in range(len(table.lines))]
    every = [table.head, ["---"] + ["---:"] * (len(table.head) - 1), *lines]
    text = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in every]
    return "\n".join([*text, "", *(f"- {note}" for note in notes)])


def as_latex(table: Cells, notes: Sequence[str]) -> str:
    """A tabular with the rules of booktabs, the best in bold, notes as comments."""
    escaped = Cells(_escaped(table.head), [_escaped(line) for line in table.lines], table.best)
    lines = [_bold(escaped, k, lambda cell: f"\\textbf{{{cell}}}") for k in range(len(table.lines))]
    body = [" & ".join(line) + r" \\" for line in lines]
    package = r"% This table needs \usepackage{booktabs} in the preamble."
    comments = [package, *(f"% {' '.join(note.split())}" for note in notes)]
    start = rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}"
    head = " & ".join(escaped.head) + r" \\"
    return "\n".join(
        [*comments, start, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    )


def frame(comparison: Comparison) -> Any:
    """A DataFrame of numbers with one row per candidate."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "comparison.table needs pandas: pip install 'pyro_lfm[data]'; markdown() and latex() need no pandas"
        ) from error
    columns: dict[str, list[Any]] = {}
    ranks = comparison.ranks
    for name in comparison.metrics:
        means = [comparison.estimate(name, candidate) for candidate in comparison.candidates]
        differences = [comparison.difference(name, candidate) for candidate in comparison.candidates]
        columns[name] = [e.mean for e in means]
        for part in ("error_over_rows", "error_over_seeds"):
            if any(not isnan(getattr(e, part)) for e in means):
                columns[f"{name}_{part}"] = [getattr(e, part) for e in means]
        if any(not isnan(d.error) for d in differences):
            columns[f"{name}_difference"] = [d.mean for d in differences]
            columns[f"{name}_difference_error"] = [d.error for d in differences]
        if name in ranks:
            places = [ranks[name].get(candidate) for candidate in comparison.candidates]
            columns[f"{name}_rank"] = [float("nan") if place is None else place.place for place in places]
    index = pandas.Index(comparison.candidates, name="candidate")
    return pandas.DataFrame(columns, index=index)


def signed(value: float, error: float) -> str:
    """A difference with its sign, with decimals by its error."""
    return _number(value, decimals([error]), signed=True)


def _plain_column(estimates: Iterable[Estimate], places: int | None) -> list[str]:
    """Means without errors: with decimals by their errors over rows, or with ``places`` decimals, or with three digits."""
    estimates = list(estimates)
    errors = [e.error_over_rows for e in estimates]
    if any(error > 0 for error in errors):
        places = decimals(errors)
    return [_figures(e.mean) if places is None else _number(e.mean, places) for e in estimates]


def _with_infinite(texts: list[str], estimates: dict[str, Estimate], infinite: Iterable[str]) -> list[str]:
    """Means as text, with "not finite" where a value is infinite."""
    return [
        "not finite" if candidate in infinite and isnan(e.mean) else text
        for text, (candidate, e) in zip(texts, estimates.items(), strict=True)
    ]


def _figures(value: float) -> str:
    if isnan(value):
        return _NONE
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def _with_error(estimate: Estimate, error: float, places: int, signed: bool = False) -> str:
    number = _number(estimate.mean, places, signed)
    return number if isnan(error) else f"{number} ± {error:.{places}f}"


def _number(value: float, places: int, signed: bool = False) -> str:
    rounded = round(value, places) + 0.0  # no minus before a zero
    return _NONE if isnan(value) else f"{rounded:{'+' if signed else ''},.{places}f}".replace("-", "−")


def _bold(table: Cells, k: int, mark: Callable[[str], str]) -> list[str]:
    line = list(table.lines[k])
    if table.best[k]:
        line[1] = mark(line[1])
    return line


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "–": "--", "+": "$+$",
    "×": r"$\times$", "²": "$^2$", "√": r"$\surd$",
}  # fmt: skip
# Greek letters stand in the text of no font that LaTeX loads by default.
_LATEX |= {
    letter: rf"$\{name}$"
    for letter, name in zip(
        "αβγδεζηθικλμνξπρστφχψωΓΔΘΛΞΠΣΦΨΩ",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi omega "
        "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split(),
        strict=True,
    )
}


def _escaped(line: list[str]) -> list[str]:
    signs = {"k̂": r"$\hat{k}$", "log p(x)": r"$\log p(x)$"}
    cells = ["".join(_LATEX.get(sign, sign) for sign in cell) for cell in line]
    for sign, formula in signs.items():
        cells = [cell.replace(sign, formula) for cell in cells]
    return cells

"""``Comparison``, the result of ``compare``: numbers by row and seed, estimates, ranks, tables and a verdict."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from pyro_lfm.comparison.by_name import ByName
from pyro_lfm.comparison.estimates import Estimate, Rank, decimals, estimate, ranks
from pyro_lfm.comparison.formats import as_latex, as_markdown, as_text, cells, frame
from pyro_lfm.comparison.measures import OF_A_MEASURE
from pyro_lfm.comparison.metrics import NATS, Metric
from pyro_lfm.errors import DeclarationError
from pyro_lfm.inference.fitted import Fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """One model fitted with several candidates, or several models, and the metrics of each. Print it for a table.

    The name of a model that was given as a number is text, and dicts by candidate take the number too.

    Attributes:
        candidates, seeds: names and seeds, in the order of the arguments.
        baseline: the candidate from which differences are taken.
        metrics: {name: Metric}. Candidates are ranked by the first.
        rows: {metric: {candidate: (seeds, N)}}, for each test row. NaN where a fit failed. Metrics of whole fits have none.
        values: {metric: {candidate: (seeds,)}}, for each fit. For metrics of rows it is their mean.
        fits: {candidate: Fit} of the first seed, to save memory. A folder stores no fit of ``lfm.VariationalBayes``, only
            its numbers.
        histories: {candidate: {seed: history}}, as ``fit.history``.
        failed: {candidate: {seed: the error that stopped the fit}}.
        notes: notes for a reader of the table, in sentences.
        measures: {candidate: what p(x) is, in words}. Those that differ from the baseline's are not ranked by nats.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    >>> inferences = {"EM": lfm.EM(), "mean field": lfm.VariationalEM()}
    >>> result = lfm.compare(model, rows, inferences, metrics=["bound", "gap"], progress=False)
    >>> result.candidates, abs(result.estimate("gap", "EM").mean) < 1e-5
    (('EM', 'mean field'), True)
    """

    candidates: tuple[str, ...]
    seeds: tuple[int, ...]
    baseline: str
    metrics: dict[str, Metric]
    rows: dict[str, dict[str, Tensor]]
    values: dict[str, dict[str, Tensor]]
    fits: dict[str, Fit]
    histories: dict[str, dict[int, list[dict[str, Any]]]]
    failed: dict[str, dict[int, str]]
    notes: tuple[str, ...]
    measures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("fits", "histories", "failed", "measures"):
            object.__setattr__(self, name, ByName(getattr(self, name)))
        for name in ("rows", "values"):
            inner = {metric: ByName(each) for metric, each in getattr(self, name).items()}
            object.__setattr__(self, name, inner)

    def estimate(self, metric: str, candidate: str) -> Estimate:
        """The mean of a metric over rows and seeds, with both errors. A fit with an infinite value counts as failed."""
        return estimate(self._values(metric, candidate))

    def difference(self, metric: str, candidate: str, other: str | None = None) -> Estimate:
        """Candidate minus other (by default the baseline), paired by row and by seed.

        No error is smaller than the rounding of float32, so that candidates with equal results are not ranked.
        """
        other = self.baseline if other is None else other
        one, two = self._values(metric, candidate), self._values(metric, other)
        if not self._is_comparable(metric, candidate, other):
            return Estimate(nan)
        off = float(torch.finfo(torch.float32).eps * (one.abs() + two.abs()).nanmean())
        return estimate(one - two, least=off)

    @property
    def estimates(self) -> dict[str, dict[str, Estimate]]:
        """{metric: {candidate: mean with errors}}."""
        return {
            metric: ByName({candidate: self.estimate(metric, candidate) for candidate in self.candidates})
            for metric in self.metrics
        }

    @property
    def differences(self) -> dict[str, dict[str, Estimate]]:
        """{metric: {candidate: candidate − baseline}}, paired by row and by seed, for all candidates but the baseline."""
        others = [candidate for candidate in self.candidates if candidate != self.baseline]
        return {
            metric: ByName({candidate: self.difference(metric, candidate) for candidate in others})
            for metric in self.metrics
        }

    @property
    def ranks(self) -> dict[str, dict[str, Rank]]:
        """{metric: {candidate: rank}} for the metrics with a better direction. Candidates that failed have no rank."""
        places: dict[str, dict[str, Rank]] = {}
        for name, metric in self.metrics.items():
            if metric.better is not None:
                means = {
                    candidate: self.estimate(name, candidate).mean
                    for candidate in self.candidates
                    if self._is_comparable(name, candidate, self.baseline)
                }
                higher = metric.better == "higher"
                places[name] = ByName(ranks(means, partial(self.difference, name), higher))
        return places

    def _is_comparable(self, metric: str, one: str, other: str) -> bool:
        """Whether a metric of two candidates is of one measure."""
        return metric not in OF_A_MEASURE or self.measures.get(str(one)) == self.measures.get(str(other))

    @property
    def table(self) -> Any:
        """A pandas DataFrame with a row for each candidate and a column for each metric.

        Further columns are ``_error_over_rows``, ``_error_over_seeds``, ``_difference`` and ``_difference_error`` where
        these are known, and ``_rank``.

        Raises:
            ImportError: without pandas, which ``markdown`` and ``latex`` do not need.
        """
        return frame(self)

    def markdown(self) -> str:
        """The table and its notes in Markdown."""
        return as_markdown(cells(self), self.remarks)

    def latex(self, columns: str | Sequence[str] | None = None) -> str:
        r"""The table as a LaTeX tabular with the rules of the package booktabs, and the notes as comments.

        The preamble of the document needs ``\usepackage{booktabs}``; the first comment says so.

        Args:
            columns: metrics, in the order of the columns; "all" for every one. By default the first, by which candidates are
                judged, with its error, the difference from the baseline and the rank.

        Raises:
            DeclarationError: a metric that was not measured.
        """
        chosen = [next(iter(self.metrics))] if columns is None else columns
        if isinstance(chosen, str):
            chosen = [*self.metrics] if chosen == "all" else [chosen]
        if unknown := [name for name in chosen if name not in self.metrics] or not chosen:
            raise DeclarationError(
                f'columns must name metrics among {", ".join(self.metrics)}, or be "all"; got {unknown or columns!r}'
            )
        return as_latex(cells(self, chosen), self.remarks)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes table.md, table.tex and results.json, with every number of every seed, into a folder."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        (place / "table.md").write_text(self.markdown() + "\n", encoding="utf-8")
        (place / "table.tex").write_text(self.latex() + "\n", encoding="utf-8")
        text = json.dumps(self.record(), indent=1, allow_nan=False)
        (place / "results.json").write_text(text, encoding="utf-8")

    def record(self) -> dict[str, Any]:
        """Every number of every fit, but those of single rows, as values of JSON. None where there is no number."""
        candidates = {}
        for candidate in self.candidates:
            estimates = {metric: _plain(vars(self.estimate(metric, candidate))) for metric in self.metrics}
            differences = {
                metric: _plain(vars(self.difference(metric, candidate))) for metric in self.metrics
            }
            seeds = [
                {
                    "seed": seed,
                    **{metric: _plain(float(self.values[metric][candidate][k])) for metric in self.metrics},
                    "history": _plain(self.histories[candidate].get(seed, [])),
                    "failed": self.failed.get(candidate, {}).get(seed),
                }
                for k, seed in enumerate(self.seeds)
            ]
            candidates[candidate] = {
                "estimates": estimates,
                f"over {self.baseline}": differences,
                "seeds": seeds,
            }
        return {"baseline": self.baseline, "candidates": candidates, "notes": list(self.remarks)}

    @property
    def verdict(self) -> str:
        """The best candidate by the first metric, and those without a clear difference from it, in a sentence or two."""
        name, metric = next(iter(self.metrics.items()))
        if metric.better is None:
            return f"Of {name} none is better; see the differences."
        ranks = self.ranks[name]
        order = sorted(ranks, key=lambda candidate: ranks[candidate].place)
        if not order:
            failed = all(
                len(self.failed.get(candidate, ())) == len(self.seeds) for candidate in self.candidates
            )
            return (
                "All candidates failed."
                if failed
                else f"No candidate has a number for {name}, by which they are judged."
            )
        best, *others = order
        if not others and any(not self._is_comparable(name, best, other) for other in self.candidates):
            return f"Nothing can be compared with {best} by {name}: the others are of another measure."
        if not others:
            return f"{best} is the only candidate that was measured{'' if len(self.candidates) == 1 else f' by {name}'}."
        differences = {candidate: self.difference(name, best, candidate) for candidate in others}
        if ranks[best].best > 1:
            return (
                f"By {name} no candidate is best: differences of pairs, each over the rows and seeds that they share, "
                "contradict one another."
            )
        parts = [
            f"{candidate} by {abs(d.mean):.{decimals([d.error])}f} ± {d.error:.{decimals([d.error])}f}"
            for candidate, d in differences.items()
            if d.clear
        ]
        alike = [candidate for candidate, d in differences.items() if not d.clear]
        sentence = f"By {name}, {best} is best."
        sentence += f" It is clearly better than {', '.join(parts)}." if parts else ""
        sentence += f" Its difference from {', '.join(alike)} is below two errors." if alike else ""
        return sentence + " One seed gives no information about other starts." * (len(self.seeds) == 1)

    @property
    def infinite(self) -> dict[str, dict[int, list[str]]]:
        """{candidate: {seed: metrics that are not finite}} of fits that did not fail. They count as failed there."""
        infinite: dict[str, dict[int, list[str]]] = {}
        for candidate in self.candidates:
            for k, seed in enumerate(self.seeds):
                names = [name for name in self.metrics if bool(self._infinite(name, candidate)[k])]
                if names and seed not in self.failed.get(candidate, {}):
                    infinite.setdefault(candidate, {})[seed] = names
        return infinite

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, the failures, and the verdict."""
        failed = [
            f"{candidate}, seed {seed}, failed: {error}"
            for candidate, seeds in self.failed.items()
            for seed, error in seeds.items()
        ]
        infinite = [
            f"{candidate}, seed {seed}: {', '.join(names)} {'is' if len(names) == 1 else 'are'} not finite: this counts as "
            "failed."
            for candidate, seeds in self.infinite.items()
            for seed, names in seeds.items()
        ]
        name = next(iter(self.metrics))
        known = [~self._values(name, candidate).isnan() for candidate in self.candidates]
        apart = any(one.any() and two.any() and not one.equal(two) for one in known for two in known)
        common = [
            f"Not all candidates have {name} of the same rows and seeds: differences and ranks are over those that two "
            "candidates have in common, and may differ from those of the means."
        ]
        return (*self.notes, *failed, *infinite, *common * apart, self.verdict)

    def _values(self, metric: str, candidate: str) -> Tensor:
        candidate = str(candidate)
        if metric not in self.metrics or candidate not in self.candidates:
            raise DeclarationError(
                f"metrics are {', '.join(self.metrics)}, candidates are {', '.join(self.candidates)}; "
                f"got {metric!r}, {candidate!r}"
            )
        values = self._given(metric, candidate).clone()
        values[self._infinite(metric, candidate)] = nan
        return values

    def _given(self, metric: str, candidate: str) -> Tensor:
        of_rows = self.rows.get(metric, {})
        return of_rows[candidate] if candidate in of_rows else self.values[metric][candidate]

    def _infinite(self, metric: str, candidate: str) -> Tensor:
        """True for fits with an infinite value, or with NaN in nats of rows. The user's metric may leave rows out."""
        values = self._given(metric, candidate)
        infinite = values.isinf()
        if values.dim() == 2 and metric in NATS:
            infinite = ~values.isfinite()
        return infinite.reshape(len(values), -1).any(1)

    def plot(self, metric: str | None = None, *, title: str | None = None) -> Figure:
        """Paired differences from the baseline by one metric, the first by default, see ``lfm.plots.differences``."""
        from pyro_lfm import plots

        return plots.differences(self, metric, title=title)

    def __repr__(self) -> str:
        return as_text(cells(self), self.remarks)

    def _repr_markdown_(self) -> str:
        """The table in a notebook."""
        return self.markdown()


# A value of JSON, but for numbers that are not finite.
Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | float | None"


def _plain(value: Json) -> Any:
    """A value of JSON, None for a number that is not finite."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not isfinite(value) else value

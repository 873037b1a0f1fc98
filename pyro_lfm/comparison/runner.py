"""The fits of a comparison, one after the other, and what is kept of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from math import nan
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_lfm.comparison.entrants import Starts
from pyro_lfm.comparison.kept.folder import Folder
from pyro_lfm.comparison.kept.restoring import record_of, revived
from pyro_lfm.comparison.metrics import Metric, measure
from pyro_lfm.comparison.result import Comparison
from pyro_lfm.data.digests import of_rows
from pyro_lfm.data.readers import Table
from pyro_lfm.documents.identity import identity_of
from pyro_lfm.documents.identity.version import library_version
from pyro_lfm.documents.storage import plain
from pyro_lfm.errors import TrainingError
from pyro_lfm.inference import SVI, Fit, fit
from pyro_lfm.inference.data_boundary import table_for
from pyro_lfm.inference.task import Inference
from pyro_lfm.programs.model import AnyModel

# From the seed of a fit to that of the noise by which it is measured.
_NOISE = 2**20


@dataclass
class Runner:
    """Fits and measures, unless a folder has it already.

    Args:
        starts: of the fits. table: rows to fit. data, test: rows to fit and to measure on, as given by the user.
        metrics: what is measured, with draws of z per row.
        options: of every ``fit``.
        digests: of all rows, by what they are for.
    """

    starts: Starts
    table: Table
    data: Any
    test: Any
    metrics: dict[str, Metric]
    draws: int
    options: dict[str, Any]
    folder: Folder | None
    digests: dict[str, str]
    records: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    fits: dict[str, Fit] = field(default_factory=dict)
    metrics_made_of: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        # Once, as a metric may count its calls.
        self.metrics_made_of = {} if self.folder is None else identity_of(metrics=self.metrics)

    def run(self, name: str, seed: int) -> None:
        """One way from one seed."""
        model, inference = self.starts.at(name, seed)
        made_of, record, done = {}, None, None
        if self.folder is not None:
            made_of = self._identity(model, inference)
            record = self.folder.load(name, seed, made_of)
        if record is None:
            record, done = self._fit(name, seed, model, inference, made_of)
            # What a network or the machine raised may not come again: such a fit is not done.
            if not record.pop("raised", False) and self.folder is not None:
                self.folder.save(name, seed, record)
        elif seed == self.starts.first and record["failed"] is None:
            done = revived(model, inference, self.table, record)
        self.records[name, seed] = {part: value for part, value in record.items() if part != "state"}
        if done is not None and seed == self.starts.first:
            self.fits[name] = done

    def _identity(self, model: AnyModel, inference: Inference) -> dict[str, str]:
        rest: dict[str, Any] = {f"{what}_rows": words for what, words in self.digests.items()}
        given = identity_of(model=model, inference=inference, draws=self.draws, **rest)
        return {**given, **self.metrics_made_of, "version": library_version()}

    def _fit(
        self, name: str, seed: int, model: AnyModel, inference: Inference, made_of: dict[str, str]
    ) -> tuple[dict[str, Any], Fit | None]:
        """A fit, and everything that is kept of it."""
        options = dict(self.options)
        if self.folder is not None and isinstance(inference, SVI):
            options["checkpoint"] = self.folder.checkpoint(name, seed, made_of)
        if self.folder is not None and options["callbacks"]:
            # What they add to a record is looked at before the fit has gone on for long.
            options["callbacks"] = [*options["callbacks"], _check_record]
        if options["progress"]:
            tqdm.write(f"{name}, seed {seed}", file=sys.stderr)
        try:
            done = fit(model, self.table, inference, seed=seed, **options)
            seconds = sum(record["seconds"] for record in done.history)
            found = measure(done, self.test, self.data, self.metrics, self.draws, seed + _NOISE, seconds)
        except TrainingError as error:
            empty: dict[str, Any] = {"rows": {}, "values": {}, "notes": [], "history": [], "state": {}}
            raised = error.__cause__ is not None
            return {**empty, "identity": made_of, "failed": str(error), "raised": raised}, None
        record = {
            "identity": made_of,
            "rows": found.rows,
            "values": found.values,
            "notes": list(found.notes),
            **record_of(done, state=self.folder is not None),
            "failed": None,
        }
        return record, done

    def result(
        self, ways: tuple[str, ...], seeds: tuple[int, ...], baseline: str, notes: list[str]
    ) -> Comparison:
        """All that was measured."""
        rows: dict[str, dict[str, Tensor]] = {}
        for metric in self.metrics:
            sizes = [len(r["rows"][metric]) for r in self.records.values() if metric in r["rows"]]
            if sizes:
                none = torch.full((sizes[0],), nan, dtype=torch.float64)
                rows[metric] = {
                    way: torch.stack([self.records[way, seed]["rows"].get(metric, none) for seed in seeds])
                    for way in ways
                }
        values = {
            metric: {
                way: torch.tensor(
                    [self.records[way, seed]["values"].get(metric, nan) for seed in seeds],
                    dtype=torch.float64,
                )
                for way in ways
            }
            for metric in self.metrics
        }
        histories = {way: {seed: self.records[way, seed]["history"] for seed in seeds} for way in ways}
        failed = {
            way: {seed: words for seed in seeds if (words := self.records[way, seed]["failed"]) is not None}
            for way in ways
        }
        return Comparison(
            ways=ways,
            seeds=seeds,
            baseline=baseline,
            metrics=self.metrics,
            rows=rows,
            values=values,
            fits=self.fits,
            histories=histories,
            failed={way: words for way, words in failed.items() if words},
            notes=(*notes, *self._notes(ways)),
        )

    def _notes(self, ways: tuple[str, ...]) -> list[str]:
        """What was said of fits, with the names of the ways where it was not said of all."""
        said: dict[str, list[str]] = {}
        measured = {way for (way, _), record in self.records.items() if record["failed"] is None}
        for (way, _), record in self.records.items():
            for note in record["notes"]:
                if way not in said.setdefault(note, []):
                    said[note].append(way)
        return [
            note if set(by) == measured else f"{', '.join(w for w in ways if w in by)}: {note}"
            for note, by in said.items()
        ]


def _check_record(record: dict[str, Any], done: Fit) -> None:
    plain(record, "the record of an epoch")


def digests_of(model: AnyModel, **given: Any) -> dict[str, str]:
    """A digest of all rows of each kind, so that other rows are noticed."""
    return {
        what: "none" if data is None else of_rows(table_for(model, data, set()))
        for what, data in given.items()
    }

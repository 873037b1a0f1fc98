"""Runs the fits of a comparison one after the other, measures them, and stores their records. Used by ``compare``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_lfm.comparison.candidates import Starts
from pyro_lfm.comparison.comparison_result import Comparison
from pyro_lfm.comparison.measures import note_of
from pyro_lfm.comparison.metrics import Metric, measure
from pyro_lfm.comparison.rows_of_model import RowsOfModel
from pyro_lfm.comparison.storage.finished_fits import FinishedFits, Record
from pyro_lfm.comparison.storage.records import record_of, restore_fit
from pyro_lfm.errors import TrainingError
from pyro_lfm.identity import identity_of
from pyro_lfm.identity.version import library_version
from pyro_lfm.inference import SVI, Fit, fit
from pyro_lfm.inference.svi.further_files import further_files
from pyro_lfm.inference.task import Inference
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.storage.plain_values import plain

# From the seed of a fit to that of the noise by which it is measured.
_NOISE = 2**20


@dataclass
class Runner:
    """Fits and measures every candidate for every seed, unless the folder has its record.

    Args:
        starts: the starts of the fits.
        rows: the rows of each candidate; one object where candidates share a model.
        metrics: the metrics, with ``draws`` of z per row.
        options: the options of every ``fit``.
        measures: what p(x) of each candidate is, in words.
    """

    starts: Starts
    rows: Mapping[str, RowsOfModel]
    metrics: dict[str, Metric]
    draws: int
    options: dict[str, Any]
    folder: FinishedFits | None
    measures: dict[str, str]
    records: dict[tuple[str, int], Record] = field(default_factory=dict)
    fits: dict[str, Fit] = field(default_factory=dict)
    metrics_identity: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        # Once, as a metric may count its calls.
        self.metrics_identity = {} if self.folder is None else identity_of(metrics=self.metrics)

    def run(self, name: str, seed: int) -> None:
        """Fits one candidate from one seed, or reads its record."""
        model, inference = self.starts.at(name, seed)
        arguments, record, done = {}, None, None
        if self.folder is not None:
            arguments = self._identity(name, model, inference)
            record = self.folder.load(name, seed, arguments)
        if record is None:
            record, done = self._fit(name, seed, model, inference, arguments)
            # An error of a network or of the machine may not occur again: such a fit is repeated next time.
            if not record.pop("raised", False) and self.folder is not None:
                self.folder.save(name, seed, record, {} if done is None else further_files(done))
        elif seed == self.starts.first and record["failed"] is None:
            done = restore_fit(model, inference, self.rows[name].table, record)
        self.records[name, seed] = {part: value for part, value in record.items() if part != "state"}
        if done is not None and seed == self.starts.first:
            self.fits[name] = done

    def _identity(self, name: str, model: AnyModel, inference: Inference) -> dict[str, str]:
        digests = self.rows[name].digests
        rest: dict[str, Any] = {f"{purpose}_rows": digest for purpose, digest in digests.items()}
        given = identity_of(model=model, inference=inference, draws=self.draws, **rest)
        return {**given, **self.metrics_identity, "version": library_version()}

    def _fit(
        self, name: str, seed: int, model: AnyModel, inference: Inference, arguments: dict[str, str]
    ) -> tuple[Record, Fit | None]:
        """The record of a fit, and the fit, None if it failed."""
        rows = self.rows[name]
        options = {**self.options, "validation": rows.validation}
        if self.folder is not None and isinstance(inference, SVI):
            options["checkpoint"] = self.folder.checkpoint(name, seed, arguments)
        if self.folder is not None and options["callbacks"]:
            # Values that callbacks add to a record are checked in the first epoch.
            options["callbacks"] = [*options["callbacks"], _check_record]
        if options["progress"]:
            tqdm.write(f"{name}, seed {seed}", file=sys.stderr)
        try:
            done = fit(model, rows.table, inference, seed=seed, **options)
            if done.interrupted is not None:
                raise KeyboardInterrupt(self._where(name, seed, done.interrupted))
            seconds = sum(record["seconds"] for record in done.history)
            measured = measure(done, rows.test, rows.data, self.metrics, self.draws, seed + _NOISE, seconds)
        except TrainingError as error:
            empty: dict[str, Any] = {"rows": {}, "values": {}, "notes": [], "history": [], "state": {}}
            raised = error.__cause__ is not None
            return {**empty, "identity": arguments, "failed": str(error), "raised": raised}, None
        record = {
            "identity": arguments,
            "rows": measured.rows,
            "values": measured.values,
            "notes": list(measured.notes),
            **record_of(done, state=self.folder is not None),
            "failed": None,
        }
        return record, done

    def _where(self, name: str, seed: int, received: str) -> str:
        """Where a signal has ended the comparison, in words."""
        way = (
            "give folder= to keep the fits that are done"
            if self.folder is None
            else f"the same call goes on from folder {self.folder.path}"
        )
        return f"{received} ended the comparison in the fit of {name!r}, seed {seed}; {way}"

    def result(
        self, candidates: tuple[str, ...], seeds: tuple[int, ...], baseline: str, notes: list[str]
    ) -> Comparison:
        """The comparison of all records."""
        rows: dict[str, dict[str, Tensor]] = {}
        for metric in self.metrics:
            sizes = [len(r["rows"][metric]) for r in self.records.values() if metric in r["rows"]]
            if sizes:
                none = torch.full((sizes[0],), nan, dtype=torch.float64)
                rows[metric] = {
                    candidate: torch.stack(
                        [self.records[candidate, seed]["rows"].get(metric, none) for seed in seeds]
                    )
                    for candidate in candidates
                }
        values = {
            metric: {
                candidate: torch.tensor(
                    [self.records[candidate, seed]["values"].get(metric, nan) for seed in seeds],
                    dtype=torch.float64,
                )
                for candidate in candidates
            }
            for metric in self.metrics
        }
        histories = {
            candidate: {seed: self.records[candidate, seed]["history"] for seed in seeds}
            for candidate in candidates
        }
        failed = {
            candidate: {
                seed: error
                for seed in seeds
                if (error := self.records[candidate, seed]["failed"]) is not None
            }
            for candidate in candidates
        }
        return Comparison(
            candidates=candidates,
            seeds=seeds,
            baseline=baseline,
            metrics=self.metrics,
            rows=rows,
            values=values,
            fits=self.fits,
            histories=histories,
            failed={candidate: errors for candidate, errors in failed.items() if errors},
            notes=(*notes, *self._notes(candidates), *note_of(self.measures, baseline, [*self.metrics])),
            measures=self.measures,
        )

    def _notes(self, candidates: tuple[str, ...]) -> list[str]:
        """The notes of all fits, with the names of the candidates where a note is not for all."""
        names_of: dict[str, list[str]] = {}
        measured = {name for (name, _), record in self.records.items() if record["failed"] is None}
        for (name, _), record in self.records.items():
            for note in record["notes"]:
                if name not in names_of.setdefault(note, []):
                    names_of[note].append(name)
        return [
            note if set(names) == measured else f"{', '.join(n for n in candidates if n in names)}: {note}"
            for note, names in names_of.items()
        ]


def _check_record(record: Record, done: Fit) -> None:
    plain(record, "the record of an epoch")

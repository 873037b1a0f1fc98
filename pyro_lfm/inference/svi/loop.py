"""``Loop``, the training loop of ``SVI``: epochs, history, validation, patience, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from math import nan
from typing import TYPE_CHECKING, NoReturn

import torch
from pyro.infer import ELBO as PyroELBO
from tqdm.auto import tqdm

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.feed import Feed
from pyro_lfm.data.readers import Table
from pyro_lfm.errors import (
    DataError,
    DeclarationError,
    ScheduleWarning,
    TrainingError,
    warn,
)
from pyro_lfm.inference.engines.choice import choose
from pyro_lfm.inference.engines.engine import Engine, Setup, evaluate
from pyro_lfm.inference.engines.side_effects import changes_nothing
from pyro_lfm.inference.fitted import Fit, Record
from pyro_lfm.inference.queries.unseen_rows import fit_rows
from pyro_lfm.inference.svi.failure import FailedStep
from pyro_lfm.inference.svi.faults import error_of_exception
from pyro_lfm.inference.svi.optimizers import checked_maker
from pyro_lfm.inference.svi.resuming import Resuming
from pyro_lfm.inference.svi.skipped_steps import SkippedSteps
from pyro_lfm.inference.svi.snapshots import Best, Snapshot
from pyro_lfm.inference.svi.thread_warnings import warn_of_threads
from pyro_lfm.inference.task import Task
from pyro_lfm.objectives import Objective
from pyro_lfm.runtime import Stream
from pyro_lfm.schedules import value_ahead, value_at

if TYPE_CHECKING:
    from pyro_lfm.inference.svi.svi import SVI

Schedule = Callable[[float], float]

# Seconds between two updates of the progress bar, which wait for the GPU.
_SHOW_EVERY = 0.1
# How far a weight may be from its end value, relative to its largest one, to have reached it.
_REACHED = 1e-3
# Moments at which schedules are checked before the training, less one.
_PROBES = 20


class Loop:
    """The training of one fit: epochs over shuffled indices, history, validation, patience, checkpoints.

    Args:
        svi: the options of the fit.
        task: the model and the rows.
        result: the fit, whose history is filled.
    """

    def __init__(self, svi: SVI, task: Task, result: Fit):
        self.svi, self.task, self.result = svi, task, result
        self.model, self.guide = result.model, result.guide
        self.table, self.validation = task.table, task.validation
        self.seed, self.history = task.seed, result.history
        self.batch_size, self.per_epoch, self.total_steps = svi.budget(len(self.table))
        self.shuffle = torch.Generator().manual_seed(self.seed)
        self.stream = Stream(self.seed, self.model.device)
        self.best = Best(self.model, self.guide)
        self.held_out_tables: list[torch.Tensor] | None = None
        self.step = self.epoch = 0
        self.warned = False
        self.skipped = SkippedSteps(svi.max_skipped)

    def _rows_in(self, steps: int) -> int:
        """The number of rows of so many steps from the start."""
        epochs, rest = divmod(steps, self.per_epoch)
        size = self.per_epoch * self.batch_size
        return epochs * (size if self.svi.drop_last else len(self.table)) + rest * self.batch_size

    def batch(self, table: Table, index: torch.Tensor) -> Batch:
        device = self.model.device
        return Batch(table.take(index, self.model.dtype, device), index.to(device), len(table))

    @property
    def scheduled(self) -> dict[str, Schedule]:
        """The objective's weights that are schedules, by name."""
        weights = self.svi.objective.weights if isinstance(self.svi.objective, Objective) else {}
        return {name: weight for name, weight in weights.items() if callable(weight)}

    def run(self) -> None:
        self.model.train()
        self.guide.train()
        svi, resuming = self.svi, None
        self._probe()
        if self.task.checkpoint is not None:
            resuming = Resuming(self, self.task.checkpoint)
            resuming.restore()
        counts_from = self._counts_from(svi.patience) if svi.patience else 1
        with closing(self._engine()) as engine:
            if resuming:
                resuming.restore_engine(engine)
            bar = tqdm(
                total=self._rows_in(self.total_steps),
                unit="row",
                disable=not self.task.progress,
                initial=self._rows_in(self.step),
            )
            with bar:
                while self.step < self.total_steps and not self.best.exhausted(svi.patience):
                    self.epoch += 1
                    record = self._epoch(engine, bar)
                    self.warned = self.warned or warn_of_threads(self.stream)
                    self.history.append(record)
                    stopped = self.task.report(record, self.result)
                    if self.task.callbacks:
                        engine.suspect()
                    if svi.patience and self.epoch >= counts_from:
                        self.best.update(record)
                    if resuming:
                        resuming.save(engine)
                    if stopped:
                        break
        if svi.patience:
            self.best.restore()

    def _engine(self) -> Engine:
        """Makes the engine, and the feed of its batches."""
        svi, device = self.svi, self.model.device
        setup = Setup(
            self.model,
            self.guide,
            checked_maker(svi.optimizer),
            svi.learning_rate,
            self.stream,
            len(self.table),
            self.table.has_missing,
            svi.clip_norm,
        )
        # Without schedules the moment is the same at every step.
        self.constant = None if svi.schedule or svi.alternate or self.scheduled else self._moment(0)
        # A schedule that the user wrote may change the programs too.
        self.suspicious = not all(map(changes_nothing, self.schedules.values()))
        self.feed = Feed(self.table, self.batch_size, self.model.dtype, device, self.shuffle, svi.drop_last)
        return choose(svi.chosen_engine, setup, self.total_steps, self.batch_size, svi.drop_last)

    def _epoch(self, engine: Engine, bar: tqdm) -> Record:
        """One epoch, or the rest of one; its record."""
        began, first = time.perf_counter(), self.step
        self.model.refresh(self.guide)
        last = min(self.step + self.per_epoch, self.total_steps)
        good = Snapshot(self.model, self.guide)
        step_of = partial(self._failed_step, self.table, good, "epoch")
        # Of bound, reconstruction and KL, weighted by rows, and the rows of the steps that were taken.
        sums = torch.zeros(4, dtype=torch.float64, device=self.model.device)
        batches = islice(self.feed.epoch(), last - self.step)
        self.skipped.begin_epoch()
        while self.step < last:
            index, results, rows = None, [], []
            try:
                with engine.session():
                    shown = time.perf_counter()
                    for index, values in batches:
                        moment = self.constant or self._moment(self.step)
                        if self.suspicious:
                            engine.suspect()
                        results.append(engine.step(values, index, *moment))
                        rows.append(index)
                        self.step += 1
                        if engine.fault or time.perf_counter() - shown > _SHOW_EVERY:
                            break
            except Exception as error:  # a program may raise anything
                self._fail(error, index, good)
            # Many steps at a time: one by one, the sums would cost as much as the optimizer of a small step.
            sizes, done = [*map(len, rows)], torch.stack(results).to(sums)
            sums += sums.new_tensor(sizes) @ done
            self.skipped.count((done[:, 3] > 0).tolist(), rows, engine.fault, step_of)
            engine.fault = None
            bar.update(sum(sizes))
            if not bar.disable:
                bar.set_postfix_str(
                    f"epoch {self.epoch}, {float(results[-1][0]):.2f} nats/row", refresh=False
                )
        skipped = self.skipped.end_epoch(last - first, self.total_steps, rows[-1], step_of)
        bound, reconstruction, kl = (sums[:3] / sums[3]).tolist()
        return {
            "epoch": self.epoch,
            "step": self.step,
            "bound": bound,
            "reconstruction": reconstruction,
            "kl": kl,
            "validation_bound": nan if self.validation is None else self._validate(good),
            "skipped": skipped,
            "seconds": time.perf_counter() - began,
        }

    def _moment(self, step: int) -> tuple[PyroELBO, float, str]:
        """The objective, the factor of the learning rates, and the part that is trained, at a step."""
        objective, rate, part = self.svi.objective, 1.0, "both"
        fraction = self._fraction(step)
        if isinstance(objective, Objective):
            objective = objective.at(fraction)
        if self.svi.schedule:
            rate = value_at("schedule", self.svi.schedule, fraction)
        if self.svi.alternate:
            part = "model" if step % (self.svi.alternate + 1) == self.svi.alternate else "guide"
        return objective, rate, part

    @property
    def schedules(self) -> dict[str, Schedule]:
        """All schedules by name: of the objective's weights and of the learning rate."""
        rate = {"schedule": self.svi.schedule} if self.svi.schedule else {}
        return {**rate, **self.scheduled}

    def _probe(self) -> None:
        """Checks schedules at some moments before the training, if calling them changes nothing."""
        for name, schedule in self.schedules.items():
            for moment in range(_PROBES + 1) if changes_nothing(schedule) else ():
                value_at(name, schedule, moment / _PROBES)

    def _fraction(self, step: int) -> float:
        return step / max(1, self.total_steps - 1)

    def _counts_from(self, patience: int) -> int:
        """The first epoch that patience counts, from which on the objective has the weights of its end.

        Bounds of objectives with other weights cannot be compared.
        """
        epochs = -(-self.total_steps // self.per_epoch)
        first = 1
        for name, weight in self.scheduled.items():
            steps = sorted({*range(0, self.total_steps, self.per_epoch), self.total_steps - 1})
            values = [value_ahead(name, weight, self._fraction(step)) for step in steps]
            near = _REACHED * max(map(abs, values))
            apart = [k for k, value in enumerate(values[:epochs]) if abs(value - values[-1]) > near]
            first = max(first, apart[-1] + 2 if apart else 1)
        if first > 1 and first + patience > epochs:
            warn(
                f"patience={patience} cannot stop this fit: it counts once {', '.join(self.scheduled)} has reached "
                f"its end value, from epoch {first} of {epochs} on: let the schedule end sooner, as "
                "lfm.schedules.linear(until=0.5) does",
                ScheduleWarning,
            )
        return first

    def _fail(self, error: Exception, index: torch.Tensor | None, good: Snapshot) -> NoReturn:
        """Raises the error of a step in words, after restoring the weights from before the epoch."""
        if index is None:  # the feed failed: no step was taken
            raise error
        if isinstance(error, DeclarationError | DataError | TrainingError):
            good.restore()
            raise error
        in_words = error_of_exception(self._failed_step(self.table, good, "epoch", index), error)
        raise in_words from in_words.__cause__

    def _failed_step(
        self, table: Table, good: Snapshot, during: str, index: torch.Tensor, in_a_row: int = 0
    ) -> FailedStep:
        """The step that failed, with its rows if the device still answers."""
        rows: list[int] = []
        batch = None
        with suppress(RuntimeError):
            rows = index.tolist()
            batch = self.batch(table, index.cpu())
        size, total, checkpoint = self.batch_size, len(table), self.task.checkpoint
        return FailedStep(
            *(
                self.model,
                self.guide,
                rows,
                batch,
                size,
                total,
                self.epoch,
                good,
                during,
                in_a_row,
                checkpoint,
            )
        )

    def _validate(self, good: Snapshot) -> float:
        """The bound on the validation rows, with the same noise after every epoch."""
        assert self.validation is not None
        index = torch.arange(len(self.validation))
        stream, total = Stream(self.seed + 1, self.model.device), 0.0
        try:
            if self.guide.tables:
                return self._validate_tables(stream)
            for index in self.validation.blocks(self.batch_size):
                batch = self.batch(self.validation, index)
                total += len(index) * evaluate(self.model, self.guide, self.svi.objective, batch, stream)[0]
        except (DeclarationError, DataError, TrainingError):
            raise
        except Exception as error:  # a program may raise anything
            failed = self._failed_step(self.validation, good, "the validation after epoch", index)
            in_words = error_of_exception(failed, error)
            raise in_words from in_words.__cause__
        return total / len(self.validation)

    def _validate_tables(self, stream: Stream) -> float:
        assert self.validation is not None
        whole = self.batch(self.validation, torch.arange(len(self.validation)))
        # The tables of the last epoch are a good start.
        start = self.held_out_tables
        guide = fit_rows(self.model, self.guide, whole, steps=50 if start else 500, start=start)
        self.held_out_tables = [table.rows.detach() for table in guide.tables]
        return evaluate(self.model, guide, self.svi.objective, whole, stream)[0]

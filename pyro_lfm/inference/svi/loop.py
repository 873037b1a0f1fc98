"""``Loop``, the training loop of ``SVI``: epochs, history, validation, patience, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from math import nan
from typing import TYPE_CHECKING, NoReturn

import torch
from tqdm.auto import tqdm

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.feed import Feed
from pyro_lfm.data.readers import Table
from pyro_lfm.data.shares import Share
from pyro_lfm.errors import DataError, DeclarationError, TrainingError
from pyro_lfm.inference.engines.choice import choose
from pyro_lfm.inference.engines.engine import Engine, Setup
from pyro_lfm.inference.engines.planned_steps import Moment, PlannedSteps
from pyro_lfm.inference.engines.side_effects import changes_nothing
from pyro_lfm.inference.fitted import Fit, Record
from pyro_lfm.inference.processes.same_fit import take_weights_of_first
from pyro_lfm.inference.processes.shared_feed import SharedFeed
from pyro_lfm.inference.processes.shared_steps import shared_engine
from pyro_lfm.inference.svi.failure import FailedStep
from pyro_lfm.inference.svi.faults import error_of_exception
from pyro_lfm.inference.svi.held_out import HeldOut
from pyro_lfm.inference.svi.interruption import Signals, report_interruption
from pyro_lfm.inference.svi.optimizers import checked_maker
from pyro_lfm.inference.svi.patience_start import first_counted_epoch
from pyro_lfm.inference.svi.position import Position
from pyro_lfm.inference.svi.resuming import Resuming
from pyro_lfm.inference.svi.skipped_steps import SkippedSteps
from pyro_lfm.inference.svi.snapshots import Best, Snapshot
from pyro_lfm.inference.svi.thread_warnings import warn_of_threads
from pyro_lfm.inference.task import Task
from pyro_lfm.objectives import Objective
from pyro_lfm.runtime import Stream
from pyro_lfm.schedules import value_at

if TYPE_CHECKING:
    from pyro_lfm.inference.svi.svi import SVI

Schedule = Callable[[float], float]

# Seconds between two updates of the progress bar, which wait for the GPU.
_SHOW_EVERY = 0.1
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
        self.rows = self.table.count
        self.batch_size, self.per_epoch, self.total_steps = svi.budget(self.rows)
        self.in_order = svi.in_order(self.table, self.model.dtype)
        self.shuffle = torch.Generator().manual_seed(self.seed)
        self.stream = Stream(self.seed, self.model.device)
        self.best = Best(self.model, self.guide)
        self.held_out_tables: list[torch.Tensor] | None = None
        self.step = self.epoch = 0
        # The place inside an epoch; None between two epochs.
        self.position: Position | None = None
        self.processes = task.processes
        self.signals = Signals(shared=self.processes.several)
        self.resuming: Resuming | None = None
        self.warned = False
        self.skipped = SkippedSteps(svi.max_skipped)

    def _rows_in(self, steps: int) -> int:
        """The number of rows of so many steps from the start."""
        epochs, rest = divmod(steps, self.per_epoch)
        size = self.per_epoch * self.batch_size
        return epochs * (size if self.svi.drop_last else self.rows) + rest * self.batch_size

    def batch(self, table: Table, index: torch.Tensor, share: Share | None = None) -> Batch:
        device = self.model.device
        rows = table.take(index, self.model.dtype, device)
        return Batch(rows, index.to(device), len(table), share=share)

    @property
    def scheduled(self) -> dict[str, Schedule]:
        """The objective's weights that are schedules, by name."""
        weights = self.svi.objective.weights if isinstance(self.svi.objective, Objective) else {}
        return {name: weight for name, weight in weights.items() if callable(weight)}

    def run(self) -> None:
        self.model.train()
        self.guide.train()
        self._probe()
        svi, checkpoint = self.svi, self.task.checkpoint
        with self.signals:
            if checkpoint is not None:
                self.resuming = Resuming(self, checkpoint)
                self.resuming.restore()
            steps = self.total_steps, self.per_epoch
            counts_from = first_counted_epoch(svi.patience, self.scheduled, *steps) if svi.patience else 1
            with closing(self._engine()) as engine:
                if self.resuming:
                    self.resuming.restore_engine(engine)
                self._train(engine, counts_from)
                if self.resuming:
                    self.resuming.at_end(engine)
        if svi.patience:
            self.best.restore()
        take_weights_of_first(self.processes, self.model, self.guide)
        if self.signals.received is not None:
            self.result.interrupted = self.signals.received
            where = f"in epoch {self.epoch}, after {self.step:,} of {self.total_steps:,} steps"
            folder = None if checkpoint is None else str(checkpoint.path)
            if self.processes.is_first:
                report_interruption(self.signals.received, where, folder)

    def _train(self, engine: Engine, counts_from: int) -> None:
        """Epochs until the last one, or until patience, a callback or a signal ends the training."""
        patience = self.svi.patience
        done, total = self._rows_in(self.step), self._rows_in(self.total_steps)
        with tqdm(total=total, unit="row", disable=not self.task.progress, initial=done) as bar:
            while self._goes_on() and (record := self._epoch(engine, bar)) is not None:
                self.warned = self.warned or warn_of_threads(self.stream)
                self.history.append(record)
                stopped = self.task.report(record, self.result)
                if self.task.calls_back:
                    engine.suspect()
                    take_weights_of_first(self.processes, self.model, self.guide)
                if patience and self.epoch >= counts_from:
                    self.best.update(record)
                if self.resuming:
                    self.resuming.after_epoch(engine)
                if stopped:
                    break

    def _goes_on(self) -> bool:
        """Whether an epoch is to be begun, or ended."""
        unfinished = self.position is not None or self.step < self.total_steps
        return unfinished and not self.best.exhausted(self.svi.patience) and self.signals.received is None

    @property
    def place(self) -> tuple[int, int, bool]:
        """The present place in the fit: its epoch and step, and whether it is inside an epoch."""
        return self.epoch, self.step, self.position is not None

    def _engine(self) -> Engine:
        """Makes the engine, and the feed of its batches."""
        svi, device = self.svi, self.model.device
        setup = Setup(
            self.model,
            self.guide,
            checked_maker(svi.optimizer),
            svi.learning_rate,
            self.stream,
            self.rows,
            self.table.has_missing,
            svi.clip_norm,
            self.table.weights_in(self.model.dtype, device),
            forks=bool(svi.workers),
        )
        # Without schedules the moment is the same at every step.
        constant = None if svi.schedule or svi.alternate or self.scheduled else self._moment(0)
        self.moment: Callable[[int], Moment] = (lambda _: constant) if constant else self._moment
        # A schedule that the user wrote may change the programs too.
        self.suspicious = not all(map(changes_nothing, self.schedules.values()))
        rows = self.table, self.batch_size, self.model.dtype, device, self.shuffle, svi.drop_last
        if self.processes.several:
            self.feed: Feed = SharedFeed(*rows, self.in_order, self.processes.share)
            return shared_engine(self, setup)
        self.feed = Feed(*rows, self.in_order)
        before = self.resuming.engine_before if self.resuming else None
        return choose(svi.chosen_engine, setup, self.total_steps, self.batch_size, svi.drop_last, before)

    def _begin(self) -> Position:
        """Begins an epoch."""
        self.epoch += 1
        self.skipped.begin_epoch()
        self.model.refresh(self.guide)
        return Position(self.shuffle.get_state(), self.step)

    def _epoch(self, engine: Engine, bar: tqdm) -> Record | None:
        """One epoch, or the rest of one; its record, or None where a signal stops it inside."""
        position = self.position = self.position or self._begin()
        good = Snapshot(self.model, self.guide)
        step_of = partial(self._failed_step, self.table, good, "epoch")
        last = min(position.first + self.per_epoch, self.total_steps)
        batches = self.feed.epoch(position.batches, last - self.step)
        planned = PlannedSteps(batches, self.step, self.moment, engine.suspect if self.suspicious else None)
        most = 1 if self.suspicious else last - self.step
        last_rows = torch.zeros(0, dtype=torch.long)
        while self.step < last:
            results, rows = [], []
            try:
                with engine.session():
                    shown = time.perf_counter()
                    while self.step < last:
                        done = engine.advance(planned, most)
                        results.append(done.parts)
                        rows += done.rows
                        self.step += len(done.rows)
                        # Several processes stop after the same step, in which they have learned of a signal.
                        stops = engine.fault or self.signals.received
                        if stops or time.perf_counter() - shown > _SHOW_EVERY:
                            break
            except Exception as error:  # a program may raise anything
                self._fail(error, planned.index, good)
            # Many steps at a time: one by one, the sums would cost as much as the optimizer of a small step.
            sizes = [*map(len, rows)]
            taken = position.add(sizes, torch.cat(results))
            self.skipped.count(taken, rows, engine.fault, step_of)
            engine.fault = None
            bar.update(sum(sizes))
            if not bar.disable:
                last_bound = float(results[-1][-1, 0])
                bar.set_postfix_str(f"epoch {self.epoch}, {last_bound:.2f} nats/row", refresh=False)
            if self.resuming and self.step < last:
                self.resuming.within_epoch(engine)
            if self.signals.received is not None:
                return None
            last_rows = rows[-1]
        skipped = self.skipped.end_epoch(last - position.first, self.total_steps, last_rows, step_of)
        bound, reconstruction, kl = position.means
        validation_bound = nan if self.validation is None else self._validate(self.validation, good)
        self.position = None
        return {
            "epoch": self.epoch,
            "step": self.step,
            "bound": bound,
            "reconstruction": reconstruction,
            "kl": kl,
            "validation_bound": validation_bound,
            "skipped": skipped,
            "seconds": position.seconds,
        }

    def _moment(self, step: int) -> Moment:
        """The objective, the factor of the learning rates, and the part that is trained, at a step."""
        objective, rate, part = self.svi.objective, 1.0, "both"
        fraction = self._fraction(step)
        if isinstance(objective, Objective):
            objective = objective.at(fraction)
        if self.svi.schedule:
            rate = value_at("schedule", self.svi.schedule, fraction)
        if self.svi.alternate:
            part = "model" if step % (self.svi.alternate + 1) == self.svi.alternate else "guide"
        return Moment(objective, rate, part)

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
            batch = self.batch(table, index.cpu()) if rows else None
        saved = self.resuming.last_saved if self.resuming else None
        return FailedStep(
            model=self.model,
            guide=self.guide,
            rows=rows,
            batch=batch,
            batch_size=self.batch_size,
            total=len(table),
            epoch=self.epoch,
            good=good,
            during=during,
            in_a_row=in_a_row,
            saved=saved,
        )

    def _validate(self, validation: Table, good: Snapshot) -> float:
        """The bound on the validation rows, or an error of the program in words."""
        held_out = HeldOut(self, validation)
        try:
            return held_out.bound()
        except (DeclarationError, DataError, TrainingError):
            raise
        except Exception as error:  # a program may raise anything
            failed = self._failed_step(validation, good, "the validation after epoch", held_out.index)
            in_words = error_of_exception(failed, error)
            raise in_words from in_words.__cause__

"""The training loop of stochastic variational inference: epochs, history, validation, patience, checkpoints."""

from __future__ import annotations

import time
from contextlib import closing
from itertools import islice
from math import ceil, nan
from typing import Any

import torch
from tqdm.auto import tqdm

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.feed import Feed
from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.inference.engines.choice import choose
from pyro_lfm.inference.engines.engine import Engine, Setup, evaluate
from pyro_lfm.inference.engines.pure import changes_nothing
from pyro_lfm.inference.failure import NotFinite, failure
from pyro_lfm.inference.result import Fit
from pyro_lfm.inference.rows import fit_rows
from pyro_lfm.inference.snapshots import Best, Snapshot
from pyro_lfm.inference.task import Task
from pyro_lfm.objectives import Objective
from pyro_lfm.runtime import Stream

# Seconds between two looks at the progress bar, for which a GPU must be waited.
_SHOW_EVERY = 0.1


class Loop:
    """The training of one fit: epochs over shuffled indices, history, validation, patience, checkpoints.

    Args:
        svi: the ``lfm.SVI`` whose options hold.
        task: what is fitted; result: what is filled.
    """

    def __init__(self, svi: Any, task: Task, result: Fit):
        self.svi, self.task, self.result = svi, task, result
        self.model, self.guide = result.model, result.guide
        self.table, self.validation, self.checkpoint = task.table, task.validation, task.checkpoint
        self.seed, self.history = task.seed, result.history
        self.batch_size = min(svi.batch_size, len(self.table))
        self.per_epoch = ceil(len(self.table) / self.batch_size)
        self.total_steps = svi.steps or (svi.epochs or 0) * self.per_epoch
        self.shuffle = torch.Generator().manual_seed(self.seed)
        self.held_out_tables: list[torch.Tensor] | None = None

    def _rows_in(self, steps: int) -> int:
        """How many rows so many steps go through."""
        epochs, rest = divmod(steps, self.per_epoch)
        return epochs * len(self.table) + rest * self.batch_size

    def batch(self, table: Table, index: torch.Tensor) -> Batch:
        device = self.model.device
        return Batch(table.take(index, self.model.dtype, device), index.to(device), len(table))

    def run(self) -> None:
        self.model.train()
        self.guide.train()
        device = self.model.device
        setup = Setup(
            self.model,
            self.guide,
            self.svi.optimizer,
            self.svi.learning_rate,
            Stream(self.seed, device),
            len(self.table),
            self.table.has_missing,
        )
        engine = choose(self.svi.chosen_engine, setup, self.total_steps, self.batch_size)
        objective = self.svi.objective
        weights = objective.weights.values() if isinstance(objective, Objective) else ()
        scheduled = self.svi.schedule or self.svi.alternate or any(map(callable, weights))
        # What no schedule changes is not asked for at every step.
        self.constant = None if scheduled else self._moment(0)
        # A schedule written by hand may change the programs too.
        schedules = [f for f in (self.svi.schedule, *weights) if callable(f)]
        self.suspicious = not all(map(changes_nothing, schedules))
        self.feed = Feed(self.table, self.batch_size, self.model.dtype, device, self.shuffle)
        best = Best(self.model, self.guide)
        with closing(engine):
            step, epoch = 0, 0
            if self.checkpoint and (saved := self.checkpoint.load(self.model, self.guide)):
                step, epoch = self._resume(saved, engine, best)
            bar = tqdm(
                total=self._rows_in(self.total_steps),
                unit="row",
                disable=not self.task.progress,
                initial=self._rows_in(step),
            )
            with bar:
                while step < self.total_steps and not best.exhausted(self.svi.patience):
                    epoch += 1
                    record, step = self._epoch(engine, epoch, step, bar)
                    self.history.append(record)
                    stopped = self.task.report(record, self.result)
                    if self.task.callbacks:
                        engine.suspect()
                    if self.svi.patience:
                        best.see(record)
                    if self.checkpoint:
                        self.checkpoint.save(self._state(engine, step, epoch, best))
                    if stopped:
                        break
        if self.svi.patience:
            best.restore()

    def _epoch(self, engine: Engine, epoch: int, step: int, bar: Any) -> tuple[dict[str, Any], int]:
        began, rows, last = time.perf_counter(), 0, min(step + self.per_epoch, self.total_steps)
        good = Snapshot(self.model, self.guide)
        sums = torch.zeros(3, dtype=torch.float64, device=self.model.device)
        batches = islice(self.feed.epoch(), last - step)
        while step < last:
            index, results, sizes = None, [], []
            try:
                with engine.session():
                    shown = time.perf_counter()
                    for index, values in batches:
                        moment = self.constant or self._moment(step)
                        if self.suspicious:
                            engine.suspect()
                        results.append(engine.step(values, index, *moment))
                        sizes.append(len(index))
                        step += 1
                        if time.perf_counter() - shown > _SHOW_EVERY:
                            break
            except (ArithmeticError, ValueError, torch.linalg.LinAlgError) as error:
                worded = self._failure(error, index, step, epoch, good)
                if worded is error:
                    raise
                raise worded from (None if isinstance(error, NotFinite) else error)
            # Many at a time: one by one their sums would cost as much as a small step's optimizer.
            sums += sums.new_tensor(sizes) @ torch.stack(results).to(sums)
            rows += sum(sizes)
            bar.update(sum(sizes))
            if not bar.disable:
                bar.set_postfix_str(f"epoch {epoch}, {float(results[-1][0]):.2f} nats/row", refresh=False)
        bound, reconstruction, kl = (sums / rows).tolist()
        record = {
            "epoch": epoch,
            "step": step,
            "bound": bound,
            "reconstruction": reconstruction,
            "kl": kl,
            "validation_bound": self._validate() if self.validation is not None else nan,
            "seconds": time.perf_counter() - began,
        }
        return record, step

    def _moment(self, step: int) -> tuple[Any, float, str]:
        """Objective, factor of the learning rates, and what is moved, at a step."""
        objective, rate, part = self.svi.objective, 1.0, "both"
        fraction = step / max(1, self.total_steps - 1)
        if isinstance(objective, Objective):
            objective = objective.at(fraction)
        if self.svi.schedule:
            rate = self.svi.schedule(fraction)
        if self.svi.alternate:
            part = "model" if step % (self.svi.alternate + 1) == self.svi.alternate else "guide"
        return objective, rate, part

    def _failure(
        self, error: Exception, index: torch.Tensor | None, step: int, epoch: int, good: Snapshot
    ) -> Exception:
        """What is raised for an error in a step: the weights from before the epoch come back."""
        if index is None:  # the feed failed: no step was taken
            return error
        if isinstance(error, NotFinite):
            batch = self.batch(self.table, (index if error.index is None else error.index).cpu())
            return failure(self.model, self.guide, batch, epoch, good, error.parameter)
        # A law refuses its parameters: a declaration that cannot work fails in the first step already.
        if step == 0 or isinstance(error, DeclarationError | DataError):
            good.restore()
            return error
        batch = self.batch(self.table, index.cpu())
        return failure(self.model, self.guide, batch, epoch, good, None, str(error))

    def _validate(self) -> float:
        """The bound on the validation rows, with the same noise after every epoch."""
        assert self.validation is not None
        if self.guide.tables:
            whole = self.batch(self.validation, torch.arange(len(self.validation)))
            # The tables found after the last epoch are near those to be found now.
            known = self.held_out_tables
            guide = fit_rows(self.model, self.guide, whole, steps=50 if known else 500, start=known)
            self.held_out_tables = [table.rows.detach() for table in guide.tables]
            stream = Stream(self.seed + 1, self.model.device)
            return evaluate(self.model, guide, self.svi.objective, whole, stream)[0]
        stream, total = Stream(self.seed + 1, self.model.device), 0.0
        for index in self.validation.blocks(self.batch_size):
            batch = self.batch(self.validation, index)
            total += len(index) * evaluate(self.model, self.guide, self.svi.objective, batch, stream)[0]
        return total / len(self.validation)

    def _state(self, engine: Engine, step: int, epoch: int, best: Best) -> dict[str, Any]:
        return {
            "best": best.state(),
            "model": self.model.state_dict(),
            "guide": self.guide.state_dict(),
            "engine": engine.state(),
            "stream": engine.setup.stream.state,
            "shuffle": self.shuffle.get_state(),
            "step": step,
            "epoch": epoch,
            "history": self.history,
        }

    def _resume(self, saved: dict[str, Any], engine: Engine, best: Best) -> tuple[int, int]:
        best.load(saved["best"])
        self.model.load_state_dict(saved["model"])
        self.guide.load_state_dict(saved["guide"])
        engine.load(saved["engine"])
        engine.setup.stream.state = saved["stream"]
        self.shuffle.set_state(saved["shuffle"])
        self.history.extend(saved["history"])
        return saved["step"], saved["epoch"]

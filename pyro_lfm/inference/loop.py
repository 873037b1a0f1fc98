"""The training loop of stochastic variational inference: epochs, history, validation, patience, checkpoints."""

from __future__ import annotations

import time
from contextlib import closing
from math import ceil, nan
from typing import Any

import torch
from tqdm.auto import tqdm

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.inference.engines import ENGINES, Engine, Result, evaluate
from pyro_lfm.inference.failure import NotFinite, failure
from pyro_lfm.inference.result import Fit
from pyro_lfm.inference.rows import fit_rows
from pyro_lfm.inference.snapshots import Best, Snapshot
from pyro_lfm.inference.task import Task
from pyro_lfm.objectives import Objective
from pyro_lfm.runtime import Stream


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
        self.complete = frozenset(n for n, missing in self.table.has_missing.items() if not missing)
        self.shuffle = torch.Generator().manual_seed(self.seed)
        self.held_out_tables: list[torch.Tensor] | None = None

    def _rows_in(self, steps: int) -> int:
        """How many rows so many steps go through."""
        epochs, rest = divmod(steps, self.per_epoch)
        return epochs * len(self.table) + rest * self.batch_size

    def batch(self, table: Table, index: torch.Tensor) -> Batch:
        device = self.model.device
        data = table.take(index, self.model.dtype, device)
        complete = self.complete if table is self.table else frozenset()
        return Batch(data, index.to(device), len(table), complete=complete)

    def run(self) -> None:
        self.model.train()
        self.guide.train()
        stream = Stream(self.seed, self.model.device)
        make = ENGINES[self.svi.chosen_engine]
        engine = make(self.model, self.guide, self.svi.optimizer, self.svi.learning_rate, stream)
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
                    if self.svi.patience:
                        best.see(record)
                    if self.checkpoint:
                        self.checkpoint.save(self._state(engine, step, epoch, best))
                    if stopped:
                        break
        if self.svi.patience:
            best.restore()

    def _epoch(self, engine: Engine, epoch: int, step: int, bar: Any) -> tuple[dict[str, Any], int]:
        began, rows = time.perf_counter(), 0
        good = Snapshot(self.model, self.guide)
        sums = torch.zeros(3, dtype=torch.float64)
        for index in torch.randperm(len(self.table), generator=self.shuffle).split(self.batch_size):
            if step >= self.total_steps:
                break
            batch = self.batch(self.table, index)
            result = self._step(engine, batch, step, epoch, good)
            sums += len(index) * torch.tensor(
                [result.bound, result.reconstruction, result.kl], dtype=torch.float64
            )
            step, rows = step + 1, rows + len(index)
            bar.update(len(index))
            bar.set_postfix_str(f"epoch {epoch}, {result.bound:.2f} nats/row", refresh=False)
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

    def _step(self, engine: Engine, batch: Batch, step: int, epoch: int, good: Snapshot) -> Result:
        fraction = step / max(1, self.total_steps - 1)
        objective = self.svi.objective
        objective = objective.at(fraction) if isinstance(objective, Objective) else objective
        rate = self.svi.schedule(fraction) if self.svi.schedule else 1.0
        part = "both"
        if self.svi.alternate:
            part = "model" if step % (self.svi.alternate + 1) == self.svi.alternate else "guide"
        try:
            return engine.step(batch, objective, rate, part)
        except NotFinite as error:
            raise failure(self.model, self.guide, batch, epoch, good, error.parameter) from None
        except (ValueError, torch.linalg.LinAlgError) as error:
            # A law refuses its parameters: a declaration that cannot work fails in the first step already.
            if step == 0 or isinstance(error, DeclarationError | DataError):
                good.restore()
                raise
            raise failure(self.model, self.guide, batch, epoch, good, None, str(error)) from error

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
            return evaluate(self.model, guide, self.svi.objective, whole, stream).bound
        stream, total = Stream(self.seed + 1, self.model.device), 0.0
        for index in self.validation.blocks(self.batch_size):
            batch = self.batch(self.validation, index)
            total += len(index) * evaluate(self.model, self.guide, self.svi.objective, batch, stream).bound
        return total / len(self.validation)

    def _state(self, engine: Engine, step: int, epoch: int, best: Best) -> dict[str, Any]:
        return {
            "best": best.state(),
            "model": self.model.state_dict(),
            "guide": self.guide.state_dict(),
            "engine": engine.state(),
            "stream": engine.stream.state,
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
        engine.stream.state = saved["stream"]
        self.shuffle.set_state(saved["shuffle"])
        self.history.extend(saved["history"])
        return saved["step"], saved["epoch"]

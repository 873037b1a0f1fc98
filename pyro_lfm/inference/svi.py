"""Stochastic variational inference: θ and φ raised together by gradients of a bound on minibatches."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import KW_ONLY, dataclass, field
from math import ceil, nan
from typing import Any, Literal

import pyro.infer
import torch
from tqdm.auto import tqdm

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides import AnyGuide, as_guide
from pyro_lfm.inference.checkpoint import Checkpoint
from pyro_lfm.inference.engines import ENGINES, Engine, Result, evaluate
from pyro_lfm.inference.failure import NotFinite, Snapshot, failure
from pyro_lfm.inference.rows import fit_rows
from pyro_lfm.model import AnyModel
from pyro_lfm.objectives import ELBO
from pyro_lfm.runtime import Stream


@dataclass(eq=False)
class SVI:
    """Fits model and guide by gradients of a bound.

    Args:
        guide: q(z | x): a ``Guide``, a ``PyroGuide``, or any module that is a Pyro guide.
        objective: ``lfm.ELBO(...)`` or any ``pyro.infer.ELBO``.
        epochs, steps: how long, in passes over the data or in optimisation steps; one of the two.
        batch_size: rows per step; shrunk to the data where it is larger.
        optimizer: ``torch.optim.Adam`` or any ``(parameters, lr=) -> torch.optim.Optimizer``.
        learning_rate: for everything but tables of rows, which have their own (see ``PerRow``).
        schedule: a function of the fraction of the training done, 0 to 1, that multiplies every learning rate.
        patience: stop when the validation bound (the training bound where there are no validation data) has not
            risen for this many epochs, and keep the best weights.
        alternate: k steps for φ with θ held, then one for θ with φ held, as in variational EM; by default jointly.
        engine: "eager", "pyro" (literally ``pyro.infer.SVI``) or "auto".

    Raises:
        DeclarationError: for an argument out of its range.
    """

    guide: Any
    _: KW_ONLY
    objective: Any = field(default_factory=ELBO)
    epochs: int | None = None
    steps: int | None = None
    batch_size: int = 128
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
    learning_rate: float = 1e-3
    schedule: Callable[[float], float] | None = None
    patience: int | None = None
    alternate: int | None = None
    engine: Literal["auto", "eager", "pyro"] = "auto"

    def __post_init__(self) -> None:
        self.guide = as_guide(self.guide)
        if not isinstance(self.objective, pyro.infer.ELBO):
            raise DeclarationError(
                f"objective must be lfm.ELBO() or a pyro.infer.ELBO; got {self.objective!r}"
            )
        if self.epochs is not None and self.steps is not None:
            raise DeclarationError("give epochs or steps, not both")
        if self.epochs is None and self.steps is None:
            self.epochs = 20
        for name in ("epochs", "steps", "batch_size", "patience", "alternate"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise DeclarationError(f"{name} must be a positive int; got {value!r}")
        if not self.learning_rate > 0:
            raise DeclarationError(f"learning_rate must be positive; got {self.learning_rate!r}")
        if self.engine not in ENGINES:
            raise DeclarationError(f"engine must be one of {', '.join(ENGINES)}; got {self.engine!r}")
        if self.alternate and self.engine == "pyro":
            raise DeclarationError('alternate= needs engine="eager": pyro.infer.SVI steps θ and φ together')


@dataclass
class Loop:
    """The training of one fit: epochs over shuffled indices, history, validation, patience, checkpoints."""

    model: AnyModel
    guide: AnyGuide
    svi: SVI
    table: Table
    validation: Table | None
    seed: int
    progress: bool
    report: Callable[[dict[str, Any]], bool]
    checkpoint: Checkpoint | None
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batch_size = min(self.svi.batch_size, len(self.table))
        self.per_epoch = ceil(len(self.table) / self.batch_size)
        self.total_steps = self.svi.steps or (self.svi.epochs or 0) * self.per_epoch
        self.complete = frozenset(n for n, missing in self.table.has_missing.items() if not missing)
        self.shuffle = torch.Generator().manual_seed(self.seed)

    def batch(self, table: Table, index: torch.Tensor) -> Batch:
        device = self.model.device
        data = table.take(index, self.model.dtype, device)
        complete = self.complete if table is self.table else frozenset()
        return Batch(data, index.to(device), len(table), complete=complete)

    def run(self) -> None:
        self.model.train()
        self.guide.train()
        whole = self.batch(self.table, torch.zeros(1, dtype=torch.long))
        self.model.prepare(whole)
        self.guide.prepare(whole)
        stream = Stream(self.seed, self.model.device)
        make = ENGINES[self.svi.engine]
        engine = make(self.model, self.guide, self.svi.optimizer, self.svi.learning_rate, stream)
        step, epoch = 0, 0
        if self.checkpoint and (saved := self.checkpoint.load()):
            step, epoch = self._resume(saved, engine)
        best = Snapshot(self.model, self.guide)
        best_bound, since_best = max((self._score(r) for r in self.history), default=-float("inf")), 0
        bar = tqdm(
            total=self.total_steps * self.batch_size,
            unit="row",
            disable=not self.progress,
            initial=step * self.batch_size,
        )
        with closing(engine), bar:
            while step < self.total_steps:
                epoch += 1
                record, step = self._epoch(engine, epoch, step, bar)
                self.history.append(record)
                stopped = self.report(record)
                if self.svi.patience:
                    if self._score(record) > best_bound:
                        best, best_bound, since_best = (
                            Snapshot(self.model, self.guide),
                            self._score(record),
                            0,
                        )
                    else:
                        since_best += 1
                    stopped |= since_best >= self.svi.patience
                if self.checkpoint:
                    self.checkpoint.save(self._state(engine, step, epoch))
                if stopped:
                    break
        if self.svi.patience and since_best:
            best.restore()

    @staticmethod
    def _score(record: dict[str, Any]) -> float:
        validation = record["validation_bound"]
        return record["bound"] if validation != validation else validation

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
        objective = objective.at(fraction) if isinstance(objective, ELBO) else objective
        rate = self.svi.schedule(fraction) if self.svi.schedule else 1.0
        part = "both"
        if self.svi.alternate:
            part = "model" if step % (self.svi.alternate + 1) == self.svi.alternate else "guide"
        try:
            return engine.step(batch, objective, rate, part)
        except NotFinite as error:
            raise failure(self.model, self.guide, batch, epoch, good, error.parameter) from None

    def _validate(self) -> float:
        """The bound on the validation rows, with the same noise after every epoch."""
        assert self.validation is not None
        if self.guide.tables:
            whole = self.batch(self.validation, torch.arange(len(self.validation)))
            guide = fit_rows(self.model, self.guide, whole)
            stream = Stream(self.seed + 1, self.model.device)
            return evaluate(self.model, guide, self.svi.objective, whole, stream).bound
        stream, total = Stream(self.seed + 1, self.model.device), 0.0
        for index in self.validation.blocks(self.batch_size):
            batch = self.batch(self.validation, index)
            batch.total = batch.size
            total += len(index) * evaluate(self.model, self.guide, self.svi.objective, batch, stream).bound
        return total / len(self.validation)

    def _state(self, engine: Engine, step: int, epoch: int) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "guide": self.guide.state_dict(),
            "engine": engine.state(),
            "stream": engine.stream.state,
            "shuffle": self.shuffle.get_state(),
            "step": step,
            "epoch": epoch,
            "history": self.history,
        }

    def _resume(self, saved: dict[str, Any], engine: Engine) -> tuple[int, int]:
        self.model.load_state_dict(saved["model"])
        self.guide.load_state_dict(saved["guide"])
        engine.load(saved["engine"])
        engine.stream.state = saved["stream"]
        self.shuffle.set_state(saved["shuffle"])
        self.history.extend(saved["history"])
        return saved["step"], saved["epoch"]

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
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.guides import AnyGuide, as_guide
from pyro_lfm.inference.checkpoint import Checkpoint
from pyro_lfm.inference.engines import ENGINES, Engine, Result, evaluate
from pyro_lfm.inference.failure import NotFinite, failure
from pyro_lfm.inference.rows import fit_rows
from pyro_lfm.inference.snapshots import Best, Snapshot
from pyro_lfm.model import AnyModel
from pyro_lfm.objectives import ELBO
from pyro_lfm.runtime import Stream
from pyro_lfm.shapes import number, whole


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
        if not isinstance(self.objective, pyro.infer.ELBO) or type(self.objective).__name__.startswith("Jit"):
            raise DeclarationError(
                f"objective must be lfm.ELBO() or a pyro.infer.ELBO that is not traced; got {self.objective!r}"
            )
        if self.epochs is not None and self.steps is not None:
            raise DeclarationError("give epochs or steps, not both")
        if self.epochs is None and self.steps is None:
            self.epochs = 20
        self.batch_size = whole("batch_size", self.batch_size)
        for name in ("epochs", "steps", "patience", "alternate"):
            if getattr(self, name) is not None:
                setattr(self, name, whole(name, getattr(self, name)))
        self.learning_rate = number("learning_rate", self.learning_rate, least=0.0, above=True)
        for name in ("optimizer", "schedule"):
            if not callable(getattr(self, name)) and not (name == "schedule" and self.schedule is None):
                wanted = (
                    "(parameters, lr=) -> torch.optim.Optimizer"
                    if name == "optimizer"
                    else "of the fraction done"
                )
                raise DeclarationError(f"{name} must be a function {wanted}; got {getattr(self, name)!r}")
        self._check_engine()

    def _check_engine(self) -> None:
        if self.engine not in ("auto", *ENGINES):
            raise DeclarationError(f"engine must be one of auto, {', '.join(ENGINES)}; got {self.engine!r}")
        whole_steps = not hasattr(self.objective, "differentiable_loss")
        if self.engine == "eager" and whole_steps:
            kind = type(self.objective).__name__
            raise DeclarationError(
                f'pyro.infer.{kind} only knows how to do whole steps of Pyro: use engine="pyro"'
            )
        # Which engine serves: the plain step unless Pyro's own is asked for, or the objective knows no other.
        self._engine = "pyro" if self.engine == "pyro" or whole_steps else "eager"
        if self.alternate and self._engine == "pyro":
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
    held_out_tables: list[torch.Tensor] | None = None

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
        stream = Stream(self.seed, self.model.device)
        make = ENGINES[self.svi._engine]
        engine = make(self.model, self.guide, self.svi.optimizer, self.svi.learning_rate, stream)
        best = Best(self.model, self.guide)
        with closing(engine):
            step, epoch = 0, 0
            if self.checkpoint and (saved := self.checkpoint.load(self.model, self.guide)):
                step, epoch = self._resume(saved, engine, best)
            bar = tqdm(
                total=self.total_steps * self.batch_size,
                unit="row",
                disable=not self.progress,
                initial=step * self.batch_size,
            )
            with bar:
                while step < self.total_steps and not best.exhausted(self.svi.patience):
                    epoch += 1
                    record, step = self._epoch(engine, epoch, step, bar)
                    self.history.append(record)
                    stopped = self.report(record)
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
        objective = objective.at(fraction) if isinstance(objective, ELBO) else objective
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

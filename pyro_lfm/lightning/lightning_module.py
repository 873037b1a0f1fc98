"""``lfm.lightning.Module``, a model with its guide as a ``LightningModule``, and ``DataModule``, its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from functools import partial
from math import isinf
from typing import Any, NamedTuple, TypeAlias

import pyro.infer
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.datasets import import_torchvision
from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.guides import Guide
from pyro_lfm.inference import SVI
from pyro_lfm.inference.data_boundary import Data, table_for
from pyro_lfm.inference.engines.engine import bound_parts
from pyro_lfm.inference.fitting import begin
from pyro_lfm.objectives import Objective
from pyro_lfm.programs.model import as_model
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.schedules import value_at
from pyro_lfm.shapes import whole

try:
    import_torchvision()  # which lightning imports, and which fails beside some builds of torch
    import lightning
except ImportError as error:
    raise ImportError("lfm.lightning needs lightning: pip install 'pyro_lfm[lightning]'") from error


__all__ = ["DataModule", "Module"]


class IndexedRows(NamedTuple):
    """Some rows of a table: their numbers, (B,), and the rows by name, (B, ...), NaN where missing."""

    numbers: Tensor
    rows: dict[str, Tensor]


# A batch of a loader: of ``DataModule``, rows by name, one tensor, or a list of tensors in the order of the model's names.
Given: TypeAlias = Batch | IndexedRows | Mapping[str, Tensor] | Tensor | Sequence[Tensor]


class Module(lightning.LightningModule):
    """A model and its guide as a ``LightningModule``, trained by a bound per row under a stock ``Trainer``.

    The loss is −L of the batch, per row, so that its gradient has the expectation of that of ``lfm.fit``. With a
    ``DataModule`` the start is that of ``lfm.fit`` too: first weights drawn from ``seed``, floors and priors in the units of
    the data. Other loaders may give tensors, dicts by name, or lists in the order of the model's names, such as those of a
    ``TensorDataset``. Then the model starts as it is, with floors in the units 1.

    It logs per epoch, in nats per row: bound, reconstruction and kl, and validation_bound, validation_reconstruction and
    validation_kl, on the same noise after every epoch. Under several processes they are means over all.
    ``lfm.Fit.of(module.model, module.guide, data)`` makes the fit, which answers, saves and is evaluated as any other.
    ``Module.load_from_checkpoint(path, model=model, guide=guide)`` reads a checkpoint of Lightning.

    Args:
        model, guide, objective: as for ``lfm.SVI``. The objective is one that gives a differentiable loss.
        learning_rate, optimizer, schedule: as for ``lfm.SVI``.
        seed: of first weights and noise. Each process has noise of its own.
        rows: N, the number of rows of the data, by which the KL of parameters that all rows share is divided. By default
            that of the loader's data set.

    Raises:
        DeclarationError: an argument out of its range, or a ``PerRow`` table, whose rows only ``lfm.fit`` steps one by one.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> module = lfm.lightning.Module(model, guide, lfm.ELBO(particles=2))
    >>> module.training_step(torch.zeros(4, 3), 0).shape, type(module.configure_optimizers()).__name__
    (torch.Size([]), 'Adam')
    """

    def __init__(
        self,
        model: nn.Module,
        guide: Guide | nn.Module,
        objective: pyro.infer.ELBO | None = None,
        *,
        learning_rate: float = 1e-3,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        schedule: Callable[[float], float] | None = None,
        seed: int = 0,
        rows: int | None = None,
    ):
        super().__init__()
        # It checks the arguments, and holds them.
        options = {"learning_rate": learning_rate, "optimizer": optimizer, "schedule": schedule}
        self.inference = SVI(guide, objective=objective, **options)  # type: ignore[arg-type]
        if self.inference.chosen_engine == "pyro":
            kind = type(self.inference.objective).__name__
            raise DeclarationError(
                f"pyro.infer.{kind} can only do whole steps of Pyro: use lfm.SVI(guide, objective=...)"
            )
        self.model, self.guide = as_model(model), self.inference.guide
        self.guide.check_serves(self.model)
        if self.model.tables or self.guide.tables:
            raise DeclarationError(
                "PerRow tables are fitted by lfm.fit, whose optimizer steps only the rows of a batch; under Lightning "
                "declare a network in place of PerRow()"
            )
        self.seed = whole("seed", seed, least=0)
        self.rows = None if rows is None else whole("rows", rows)
        self._stream: Stream | None = None
        self._noise: Tensor | None = None

    def setup(self, stage: str) -> None:
        """Starts as ``lfm.fit`` does, where the rows are those of a ``DataModule``."""
        table = getattr(getattr(self.trainer, "datamodule", None), "table", None)
        if stage == "fit" and isinstance(table, Table):
            begin(self.inference, self.model, table, self.seed)

    def configure_optimizers(self) -> Any:
        """The optimizer of all parameters, and the schedule of its learning rate."""
        svi = self.inference
        parameters = [p for p in self.parameters() if p.is_floating_point()]
        optimizer = svi.optimizer(parameters, lr=svi.learning_rate)
        if (schedule := svi.schedule) is None:
            return optimizer
        total = self._steps()

        def rate(step: int) -> float:
            return value_at("schedule", schedule, min(1.0, step / max(1, total - 1)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Takes new values of the guide where a prior stores some, such as ``ExemplarPrior``."""
        self.model.refresh(self.guide)

    def on_validation_epoch_start(self) -> None:
        """The same noise after every epoch."""
        self._validation_stream = Stream(self.seed + 1 + self._rank, self.device)

    def training_step(self, batch: Given, batch_idx: int) -> Tensor:
        """−L of the batch per row."""
        if self._stream is None:
            self._stream = Stream(self.seed + 7919 * self._rank, self.device)
            if self._noise is not None and not self._rank:
                self._stream.state = self._noise.cpu()
        objective: Any = self.inference.objective
        if isinstance(objective, Objective):
            objective = objective.at(self._fraction(objective))
        return self._loss(objective, self._batch(batch, "train_dataloader"), self._stream, "")

    def validation_step(self, batch: Given, batch_idx: int) -> None:
        """Logs the bound of validation rows, by the objective at the end of its schedules."""
        objective: Any = self.inference.objective
        if isinstance(objective, Objective):
            objective = objective.at_end()
        self._loss(objective, self._batch(batch, "val_dataloaders"), self._validation_stream, "validation_")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the place in the noise, so that a training that goes on draws new numbers."""
        if self._stream is not None:
            checkpoint["pyro_lfm_noise"] = self._stream.state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on from the place in the noise."""
        self._noise = checkpoint.get("pyro_lfm_noise")

    def _loss(self, objective: Any, batch: Batch, stream: Stream, prefix: str) -> Tensor:
        """The loss per row, with its parts logged."""
        with isolated(stream, self.device):
            loss = torch.as_tensor(objective.differentiable_loss(self.model, self.guide, batch)) / batch.total
        bound, reconstruction, kl, _ = bound_parts(objective, loss * batch.total, batch.total)
        parts = {"bound": bound, "reconstruction": reconstruction, "kl": kl}
        log = partial(self.log, on_step=False, on_epoch=True, sync_dist=True)
        for name, value in parts.items() if self._trainer is not None else ():
            if not bool(value.isnan()) or name == "bound":
                log(f"{prefix}{name}", value, prog_bar=name == "bound", batch_size=batch.size)
        return loss

    def _batch(self, given: Given, loader: str) -> Batch:
        """A batch of a loader."""
        if isinstance(given, Batch):
            return given
        if isinstance(given, IndexedRows):
            return Batch(given.rows, given.numbers, self._total(loader, len(given.numbers)))
        names = list(self.model.observed)
        if isinstance(given, Tensor):
            given = [given]
        if not isinstance(given, Mapping):
            if len(given) < len(names):
                raise DataError(
                    f"a batch must have a tensor for each of {', '.join(names)}, in this order; got {len(given)}: give "
                    "a dict"
                )
            given = dict(zip(names, given, strict=False))
        rows = {name: value.to(self.model.dtype) for name, value in given.items()}
        size = len(next(iter(rows.values())))
        return Batch(rows, total=self._total(loader, size))

    def _total(self, loader: str, size: int) -> int:
        """N, the number of rows of the data."""
        if self.rows is not None:
            return self.rows
        data = getattr(getattr(self._trainer, loader, None), "dataset", None)
        if isinstance(data, Sized):
            return max(size, len(data))
        if any(not latent.per_row for latent in self.model.latents.values()):
            raise DeclarationError(
                "the number of rows must be known, as the KL of parameters that all rows share is divided by it: give "
                "lfm.lightning.Module(..., rows=N)"
            )
        return size

    def _fraction(self, objective: Objective) -> float:
        """The share of the training that is done, which schedules are functions of."""
        if not any(callable(weight) for weight in objective.weights.values()):
            return 0.0
        return min(1.0, self.global_step / max(1, self._steps() - 1))

    def _steps(self) -> int:
        total = self.trainer.estimated_stepping_batches
        if isinf(total):
            raise DeclarationError("a schedule needs an end: give the Trainer max_epochs= or max_steps=")
        return int(total)

    @property
    def _rank(self) -> int:
        return 0 if self._trainer is None else self.global_rank


class _Rows(Dataset[IndexedRows]):
    """The rows of a table, fetched a batch at a time."""

    def __init__(self, table: Table, dtype: torch.dtype):
        self.table, self.dtype = table, dtype

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> IndexedRows:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int]) -> IndexedRows:
        index = torch.as_tensor(rows)
        return IndexedRows(index, self.table.take(index, self.dtype))


def _as_fetched(rows: Any) -> Any:
    """The rows, which were fetched together."""
    return rows


class DataModule(lightning.LightningDataModule):
    """The rows of a model as a ``LightningDataModule``: what ``lfm.fit`` reads, checked at the same boundary.

    Args:
        model: the model of the ``Module``.
        data, validation: as for ``lfm.fit``.
        batch_size: rows per step, of each process.
        drop_last: whether to leave out the rows that do not fill a last batch.
        seed: of the order of the rows. Under several processes Lightning's own sampler gives the order.
        workers: processes that fetch rows, see ``torch.utils.data.DataLoader``.

    Raises:
        DataError, ShapeError: rows that do not fit the model.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.MLP(8)))
    >>> numbers, rows = next(iter(lfm.lightning.DataModule(model, torch.randn(50, 3), batch_size=10).train_dataloader()))
    >>> numbers.shape, rows["x"].shape
    (torch.Size([10]), torch.Size([10, 3]))
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data | ArrayLike,
        *,
        validation: Data | ArrayLike | None = None,
        batch_size: int = 128,
        drop_last: bool = False,
        seed: int = 0,
        workers: int = 0,
    ):
        super().__init__()
        program = as_model(model)
        self.dtype = program.dtype
        self.table = table_for(program, data)
        fitted = self.table.schema
        self.held_out = None if validation is None else table_for(program, validation, fitted=fitted)
        self.batch_size, self.drop_last = whole("batch_size", batch_size), drop_last
        self.seed, self.workers = whole("seed", seed, least=0), whole("workers", workers, least=0)

    def train_dataloader(self) -> DataLoader[IndexedRows]:
        """All rows in a new order each epoch."""
        return self._loader(self.table, shuffle=True)

    def val_dataloader(self) -> Any:
        """The validation rows in order. None without them."""
        return [] if self.held_out is None else self._loader(self.held_out, shuffle=False)

    def _loader(self, table: Table, shuffle: bool) -> DataLoader[IndexedRows]:
        return DataLoader(
            _Rows(table, self.dtype),
            batch_size=min(self.batch_size, len(table)),
            shuffle=shuffle,
            drop_last=self.drop_last and shuffle,
            num_workers=self.workers,
            collate_fn=_as_fetched,
            generator=torch.Generator().manual_seed(self.seed),
        )

"""``SVI``, stochastic variational inference: it raises a bound in θ and φ by gradients on minibatches."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Literal

import pyro.infer
import torch
from torch import nn

from pyro_lfm.data.readers import Table
from pyro_lfm.data.row_order.chosen_order import shuffled_rows
from pyro_lfm.data.row_order.epoch_order import ShuffledRows
from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides import AnyGuide, Guide, as_guide
from pyro_lfm.inference.closed.points import put_points
from pyro_lfm.inference.data_scale_warnings import warn_of_start
from pyro_lfm.inference.engines.choice import ENGINES
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.inference.svi.binding import bind, size_tables
from pyro_lfm.inference.svi.floor_warnings import warn_of_floors
from pyro_lfm.inference.svi.loop import Loop
from pyro_lfm.inference.svi.optimizers import check_optimizer
from pyro_lfm.inference.svi.weight_checks import check_weights
from pyro_lfm.inference.task import Inference, Task
from pyro_lfm.objectives import ELBO
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.programs.program import Program
from pyro_lfm.shapes import number, whole

# Passes over the data where neither epochs nor steps are given.
_EPOCHS = 20


class SVI(Inference):
    """Fits model and guide by gradients of a bound.

    Args:
        guide: q(z | x), a ``Guide``, a ``PyroGuide``, or any module that is a Pyro guide.
        objective: ``lfm.ELBO(...)``, any other ``lfm.Objective``, or any ``pyro.infer.ELBO``.
        epochs, steps: how long to train, in passes over the data or in optimisation steps. By default 20 epochs.
        batch_size: rows per step, at most those of the data.
        drop_last: whether to leave out the last batch of an epoch where it is smaller than the others. Batch normalisation
            needs that of a batch of one row. The rows left out are others in every epoch.
        block: rows that lie together in a file and are read together, by default 256, and at least a chunk of the file (a
            row group of parquet, a chunk of zarr or HDF5). The blocks are shuffled, and the rows of many blocks at a time,
            each row once an epoch. The order depends on the seed and the epoch alone. All rows are shuffled at once where
            they are no more than ``buffer``, and where they are in memory, unless a block is given.
        buffer: rows that are shuffled together, where they are read in blocks. By default they are as many as take 128 MiB.
            Twice as many are in memory, since the next ones are read meanwhile.
        workers: processes that read the items of a torch ``Dataset``, or pictures, ahead of the training, as those of a
            ``DataLoader``. What transforms draw is then a function of the seed and the epoch, for any number of them.
        optimizer: ``torch.optim.Adam`` or any ``(parameters, lr=) -> torch.optim.Optimizer`` that takes one gradient in
            a step (LBFGS does not).
        learning_rate: of all parameters but ``PerRow`` tables, which have their own.
        schedule: a function of the fraction of the training done, 0 to 1. It gives the factor of every learning rate, a
            number that is not negative.
        clip_norm: the largest L2 norm of the gradients of all parameters together, of the loss per row. Longer ones are
            scaled down to it (Pascanu, Mikolov and Bengio 2013, algorithm 1). PerRow tables are left out.
        patience: stop when the validation bound (without validation data, the training bound) has not risen for this many
            epochs, and restore the best weights. While a weight of the objective follows a schedule, bounds of different
            epochs cannot be compared: epochs count, and can be the best, once every such schedule has reached its end
            value. ``schedule``, of the learning rate, delays nothing.
        max_skipped: the most consecutive steps that may be skipped. A step whose loss or gradient is not finite moves
            nothing. A ``SkippedStepWarning`` comes at the first, and the history counts them. One more than these in a row
            ends the fit by a ``TrainingError``, and so does an epoch of several steps all of which were skipped. 0 ends the
            fit at the first.
        alternate: k steps for φ with θ held, then one for θ with φ held, as in variational EM. By default both move
            together.
        engine: "compiled" turns the step into native code, which takes some seconds and is then several times faster for
            small networks: by XLA where JAX is installed (``pip install 'pyro_lfm[jax]'``) and the model is on the CPU,
            else by torch's own compiler. "xla" insists on XLA. "eager" runs the programs at every step. "pyro" is
            ``pyro.infer.SVI`` itself. "auto" compiles where the fit is long enough for that to pay. In a shorter
            fit it records a step and repeats its operations without the programs. The numbers are the same but for
            rounding. A step that cannot be compiled is done in eager, with a ``CompilationWarning``. The log
            ``pyro_lfm`` says which engine was chosen and why.

    A callback may freeze and release parameters by ``requires_grad_``, under every engine.

    Raises:
        DeclarationError: for an argument out of its range.

    Use it for every model that ``EM`` and ``VariationalBayes`` cannot serve, and for data that do not fit into memory.

    Limits: the learning rate and the number of epochs are yours to choose. The bound is noisy, and the best fit of several
    seeds may be better than one.

    Source: Hoffman, Blei, Wang and Paisley (2013), "Stochastic variational inference"; Kingma and Welling (2014).

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> fit = lfm.fit(model, torch.randn(20, 3), lfm.SVI(guide, epochs=2), seed=0, progress=False)
    >>> [record["epoch"] for record in fit.history]
    [1, 2]
    """

    takes_known_latents = takes_weights = True

    instead = {"lr": "learning_rate="}

    def __init__(
        self,
        guide: Guide | nn.Module,
        *,
        objective: pyro.infer.ELBO | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int = 128,
        drop_last: bool = False,
        block: int | None = None,
        buffer: int | None = None,
        workers: int = 0,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        learning_rate: float = 1e-3,
        schedule: Callable[[float], float] | None = None,
        clip_norm: float | None = None,
        patience: int | None = None,
        max_skipped: int = 10,
        alternate: int | None = None,
        engine: Literal["auto", "xla", "compiled", "eager", "pyro"] = "auto",
    ):
        if epochs is not None and steps is not None:
            raise DeclarationError("give epochs or steps, not both")
        if not isinstance(drop_last, bool):
            raise DeclarationError(f"drop_last must be True or False; got {drop_last!r}")
        if schedule is not None and not callable(schedule):
            raise DeclarationError(f"schedule must be a function of the fraction done; got {schedule!r}")
        check_optimizer(optimizer)
        self.guide = as_guide(guide)
        self.objective = ELBO() if objective is None else objective
        self.epochs = None if epochs is None else whole("epochs", epochs)
        self.steps = None if steps is None else whole("steps", steps)
        self.batch_size = whole("batch_size", batch_size)
        self.drop_last = drop_last
        self.block = None if block is None else whole("block", block)
        self.workers = whole("workers", workers, least=0)
        self.buffer = None if buffer is None else whole("buffer", buffer)
        self.optimizer = optimizer
        self.learning_rate = number("learning_rate", learning_rate, least=0.0, above=True)
        self.schedule = schedule
        self.clip_norm = None if clip_norm is None else number("clip_norm", clip_norm, least=0.0, above=True)
        self.patience = None if patience is None else whole("patience", patience)
        self.max_skipped = whole("max_skipped", max_skipped, least=0)
        self.alternate = None if alternate is None else whole("alternate", alternate)
        self.engine = engine
        self._check_objective()
        self._check_engine()

    def _check_objective(self) -> None:
        if not isinstance(self.objective, pyro.infer.ELBO) or type(self.objective).__name__.startswith("Jit"):
            raise DeclarationError(
                f"objective must be lfm.ELBO() or a pyro.infer.ELBO that is not traced; got {self.objective!r}"
            )

    def _check_engine(self) -> None:
        if self.engine not in ENGINES:
            raise DeclarationError(f"engine must be one of {', '.join(ENGINES)}; got {self.engine!r}")
        if self.engine in ("eager", "compiled") and self._takes_whole_steps:
            kind = type(self.objective).__name__
            raise DeclarationError(f'pyro.infer.{kind} can only do whole steps of Pyro: use engine="pyro"')
        if self.alternate and self.chosen_engine == "pyro":
            raise DeclarationError('alternate= needs engine="eager": pyro.infer.SVI steps θ and φ together')

    @property
    def _takes_whole_steps(self) -> bool:
        """Whether the objective gives no differentiable loss, so that only pyro.infer.SVI can step with it."""
        return not hasattr(self.objective, "differentiable_loss")

    @property
    def chosen_engine(self) -> str:
        """The engine as declared, or "pyro" where the objective serves no other."""
        return "pyro" if self._takes_whole_steps else self.engine

    def with_guide(self, guide: AnyGuide) -> SVI:
        """The same options with another guide."""
        options = {name: value for name, value in self.arguments.items() if name != "guide"}
        return SVI(guide, **options)

    def budget(self, rows: int) -> tuple[int, int, int]:
        """Rows per batch, steps per epoch, and steps of the whole fit, for so many rows of data."""
        size = min(self.batch_size, rows)
        per_epoch = rows // size if self.drop_last else ceil(rows / size)
        return size, per_epoch, self.steps or (self.epochs or _EPOCHS) * per_epoch

    def in_order(self, table: Table, dtype: torch.dtype) -> ShuffledRows:
        """The rows of a table in the orders of the epochs."""
        batch = min(self.batch_size, table.count)
        return shuffled_rows(table, dtype, self.block, self.buffer, batch, self.workers)

    def trains(self, model: AnyModel) -> list[Program]:
        return [model, self.guide]

    def draw_first_weights(self, model: AnyModel, seed: int) -> None:
        # First, so that no warning about weights comes before the error that the guide is another model's.
        self.guide.check_serves(model)
        # Before the model's weights are drawn: the guide may hold a module of the model.
        as_declared = self.guide.is_as_declared
        super().draw_first_weights(model, seed)
        if as_declared:
            self.guide.remember_first_weights()
            self.guide.draw_first_weights(model, seed)

    def run(self, task: Task) -> Fit:
        """Trains model and guide. See the class."""
        model, guide = task.model, self.guide
        if not isinstance(guide, Guide) and (known := [n for n in task.table.names if n in model.latents]):
            raise DeclarationError(
                f"the guide must be an lfm.Guide, which can use known values of a latent; the data hold "
                f"{', '.join(known)}"
            )
        size_tables(len(task.table), model, guide)
        model.to(task.device)
        guide.to(task.device)
        guide = bind(model, guide, task.table)
        if task.table.weights is not None:
            check_weights(model, guide, self.objective, task.table)
        warn_of_start(model, guide, task.table)
        result = Fit(model, guide, task.table, self.objective)
        result.inference, result.seed = self, task.seed
        loop = Loop(self, task, result)
        try:
            loop.run()
        finally:
            model.eval()
            guide.eval()
        model.bind(guide)
        put_points(model, guide, task.table)
        warn_of_floors(result)
        return result

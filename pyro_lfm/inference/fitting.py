"""``lfm.fit``: fits a model to data by an inference, and returns a ``Fit``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress

import torch
from numpy.typing import ArrayLike

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DeclarationError, gathering, one_call
from pyro_lfm.inference.column_units import measure
from pyro_lfm.inference.data_boundary import Data, table_for
from pyro_lfm.inference.environment import with_gradients
from pyro_lfm.inference.fitted import Callback, Fit
from pyro_lfm.inference.named_device import device_of
from pyro_lfm.inference.processes.group import Processes
from pyro_lfm.inference.processes.joining import joined
from pyro_lfm.inference.processes.same_fit import check_agreement, take_weights_of_first
from pyro_lfm.inference.svi.checkpoint import Checkpoint
from pyro_lfm.inference.svi.snapshots import Snapshot
from pyro_lfm.inference.svi.training_state import TrainingFolder
from pyro_lfm.inference.task import Inference, Task
from pyro_lfm.programs.first_weights import digest_of
from pyro_lfm.programs.model import AnyModel, as_model
from pyro_lfm.runtime import fresh_seed
from pyro_lfm.shapes import whole
from pyro_lfm.storage.folder import Folder


def fit(
    model: AnyModel | torch.nn.Module | Callable[[Batch], None],
    data: Data,
    inference: Inference,
    *,
    weights: ArrayLike | torch.Tensor | None = None,
    validation: Data | None = None,
    seed: int | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    device: str | torch.device = "auto",
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
) -> Fit:
    """Fits a model to data, in place: the model and the guide of the call are themselves trained.

    A model or guide whose weights are those of its declaration starts from weights drawn from ``seed``, so that a program
    with one seed repeats. One that was trained, loaded or assigned to goes on from its weights. So a second fit of one model
    is a continuation, and EM and SVI can take turns. To start afresh, declare anew or fit ``copy.deepcopy(model)``.

    Args:
        model: a ``Model``, a ``PyroModel``, or any module that is a Pyro model of a batch.
        data: N rows: an array, tensor, DataFrame, sparse matrix, memory map or torch ``Dataset``, or a dict of
            these by name. A bare one means the model's only observed factor. NaN means missing. The data may hold values
            of a declared model's latents too, where they are known in some rows, such as labels. Names of columns are kept
            (``Fit.schema``): validation and later rows may have them in another order.
        inference: such as ``lfm.SVI(guide)`` or, where the posterior is closed form, ``lfm.EM()``.
        weights: (N,), numbers ≥ 0, not all 0: how many rows each row is worth, as survey or frequency weights say. The bound
            is the weighted one, Σᵢ wᵢ log p(xᵢ) or its lower bound, and what the fit records is per unit of weight. A weight
            of 2 is the same as a repeated row, and 0 the same as leaving the row out. Methods of the ``Fit`` answer for
            every row alike. The validation rows have no weights.
        validation: more rows of the same kind, whose bound is measured after every epoch.
        seed: of first weights, noise and shuffling. By default it is drawn from torch. Values in the declaration
            (``Learned(init)``, ``Fixed``), modules given as sources, frozen parameters and programs written by hand keep
            the user's weights.
        callbacks: each is called as ``callback(record, fit)`` after every epoch. One that returns True stops the fit.
        progress: whether to show a progress bar.
        device: "auto" is a GPU where there is one.
        checkpoint: a folder that keeps the state after each epoch, or a ``Checkpoint`` that says when it is written. From it
            an interrupted fit goes on bit for bit. It belongs to these data, this declaration and these options. From call
            to call may change: epochs or steps (to more, where nothing follows a schedule), the amount of patience,
            callbacks, progress, device, the container of the data, when the folder is written, and the engine, "pyro"
            excepted. A call without a seed takes the seed of the folder. Attributes of modules that change in training are
            kept too (numbers, tensors, arrays, random generators, lists and dicts of these). A program, objective or
            schedule with another kind of state is a DeclarationError after the first epoch, before anything is written.

    SIGINT (Ctrl-C) and SIGTERM end a training by ``lfm.SVI`` after the present step: the checkpoint is written, one line on
    stderr says how to go on, and the fit so far is returned, with ``fit.interrupted``. A second Ctrl-C raises
    KeyboardInterrupt at once.

    Under ``torchrun``, or where the caller has initialised ``torch.distributed``, the processes share each batch of
    ``lfm.SVI``: all make the same call, with all rows, and the fit is that of one process, equal in all of them.
    Callbacks, the progress bar, warnings and files are those of the first process. Exact inference does the same in every
    process. See docs/scaling.md.

    ``fit`` trains in any gradient mode. While a step runs, torch's random stream for draws
    on the CPU is the fit's. Another thread that draws meanwhile disturbs the fit, unless it uses a ``torch.Generator`` of
    its own or takes turns by ``with pyro_lfm.runtime.isolated():``.

    Raises:
        CheckpointError: a checkpoint of another fit. The message names the first difference.
        DataError, ShapeError: data that do not fit the model, or a checkpoint that cannot be read or written.
        DeclarationError: a guide that does not fit the model. Among several processes, one whose call differs, or a part
            that computes with all rows of a batch together.
        TrainingError: losses or gradients of many steps that are not finite (see ``SVI(max_skipped=)``), or an error that a
            network raised, which is its cause. The last good weights are restored. Or another process has failed.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> done = lfm.fit(model, torch.randn(50, 4), lfm.SVI(guide, epochs=2), seed=0, progress=False)
    >>> done.posterior(torch.zeros(3, 4)).mean.shape, len(done.history)
    (torch.Size([3, 2]), 2)
    """
    with joined() as processes, nullcontext() if processes.is_first else gathering():
        return _fit(
            processes,
            model,
            data,
            inference,
            weights,
            validation,
            seed,
            callbacks,
            progress,
            device,
            checkpoint,
        )


def _fit(
    processes: Processes,
    model: AnyModel | torch.nn.Module | Callable[[Batch], None],
    data: Data,
    inference: Inference,
    weights: ArrayLike | torch.Tensor | None,
    validation: Data | None,
    seed: int | None,
    callbacks: Sequence[Callback],
    progress: bool,
    device: str | torch.device,
    checkpoint: Checkpoint | str | os.PathLike[str] | None,
) -> Fit:
    """``fit`` in one of some processes."""
    model = as_model(model)
    if not isinstance(inference, Inference):
        raise DeclarationError(
            f"inference must be lfm.SVI(guide, ...), lfm.EM() or another Inference; got {type(inference).__name__}"
        )
    if not isinstance(callbacks, list | tuple) or not all(map(callable, callbacks)):
        raise DeclarationError(f"callbacks must be a list of functions (record, fit); got {callbacks!r}")
    kept = Checkpoint.of(checkpoint)
    seed = _seed(seed, kept, processes)
    torch_device = device_of(device)
    # An inference may hold programs of its own, such as the guide of SVI.
    programs = [part for part in (model, *vars(inference).values()) if isinstance(part, torch.nn.Module)]
    with with_gradients(programs), one_call():
        table, held_out = _tables(model, data, inference, validation, weights)
        shown = progress and processes.is_first
        task = Task(model, table, held_out, seed, callbacks, shown, torch_device, kept, processes)
        check_agreement(task, inference)
        with _first_weights(inference, model, task):
            take_weights_of_first(processes, *inference.trains(model))
            result = inference.run(task)
    result.inference, result.seed = inference, seed
    result.history[:] = processes.first(lambda: result.history)
    if task.checkpoint is not None and processes.is_first:
        # With the weights that the fit returns, which after patience are the best and not the last.
        Folder(task.checkpoint.path, "checkpoint").commit(result.files())
    return result


def _tables(
    model: AnyModel,
    data: Data,
    inference: Inference,
    validation: Data | None,
    weights: ArrayLike | torch.Tensor | None,
) -> tuple[Table, Table | None]:
    """The rows and the validation rows, read and checked."""
    if weights is not None and not inference.takes_weights:
        raise DeclarationError(
            f"{type(inference).__name__} fits no weighted bound: leave weights= out, or fit by lfm.SVI, lfm.EM, "
            "lfm.VariationalEM or lfm.VariationalBayes"
        )
    table = table_for(model, data, weights=weights)
    known = [name for name in table.names if name in model.latents]
    if known and not inference.takes_known_latents:
        raise DeclarationError(
            f"{type(inference).__name__} cannot use known values of a latent; the data hold {', '.join(known)}: "
            "fit with lfm.SVI and an lfm.Guide, or leave it out"
        )
    return table, None if validation is None else table_for(model, validation, fitted=table.schema)


def begin(inference: Inference, model: AnyModel, table: Table, seed: int) -> None:
    """Draws the first weights of programs that are as they were declared, and takes the units of the data."""
    programs = inference.trains(model)
    as_declared = [program for program in programs if program.is_as_declared]
    inference.draw_first_weights(model, seed)
    measure(model, table)
    model.take_rows(table)
    # Taking the units of the data does not change what was declared.
    for program in as_declared:
        program.remember_first_weights()


@contextmanager
def _first_weights(inference: Inference, model: AnyModel, task: Task) -> Iterator[None]:
    """Draws the first weights and takes the units of the data. A fit that fails before it learns puts both back."""
    programs = inference.trains(model)
    before = [(Snapshot(program), program.is_as_declared) for program in programs]
    begin(inference, model, task.table, task.seed)
    digests = [digest_of(program.own_tensors()) for program in programs]
    try:
        yield
    except BaseException:
        # A GPU that has failed takes no more orders; its error must not hide the first one.
        with suppress(RuntimeError):
            _put_back(before, digests)
        raise


def _put_back(before: list[tuple[Snapshot, bool]], first_digests: list[str]) -> None:
    """Restores the programs whose weights are still those that the fit began with."""
    programs = [snapshot.programs[0] for snapshot, _ in before]
    digests = [digest_of(program.own_tensors()) for program in programs]
    for (snapshot, as_declared), digest, first in zip(before, digests, first_digests, strict=True):
        if digest == first:
            snapshot.restore()
            if as_declared:
                snapshot.programs[0].remember_first_weights()


def _seed(seed: int | None, checkpoint: Checkpoint | None, processes: Processes) -> int:
    """The seed of the call; without one that of the checkpoint, or one drawn from torch, in the first process."""

    def chosen() -> int:
        if seed is not None:
            return whole("seed", seed, least=0)
        saved = None if checkpoint is None else TrainingFolder(checkpoint).seed()
        return fresh_seed(2**31) if saved is None else saved

    of_first = processes.first(chosen)
    return of_first if seed is None else whole("seed", seed, least=0)

"""``fit``: a model meets data and a way of inference; what comes back is a ``Fit``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

from pyro_lfm.errors import DeclarationError, one_call
from pyro_lfm.inference.column_units import measure
from pyro_lfm.inference.data_boundary import table_for
from pyro_lfm.inference.environment import check_single_process, with_gradients
from pyro_lfm.inference.result import Fit
from pyro_lfm.inference.svi.checkpoint import Checkpoint
from pyro_lfm.inference.svi.snapshots import Snapshot
from pyro_lfm.inference.task import Inference, Task
from pyro_lfm.programs.first_weights import digest_of
from pyro_lfm.programs.model import AnyModel, as_model
from pyro_lfm.runtime import fresh_seed
from pyro_lfm.shapes import whole


def fit(
    model: Any,
    data: Any,
    inference: Inference,
    *,
    validation: Any = None,
    seed: int | None = None,
    callbacks: Sequence[Callable[[dict[str, Any], Fit], Any]] = (),
    progress: bool = True,
    device: str | torch.device = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
) -> Fit:
    """Fits a model to data, in place: it trains the very model and guide that it is given.

    A model, or guide, that is as it was declared starts from weights drawn from ``seed``, so that a program with one seed
    repeats. One that was trained, loaded or assigned to goes on from where it is: a second fit of one model is a
    continuation, and EM and SVI can take turns. To start afresh, declare anew or fit ``copy.deepcopy(model)``.

    Args:
        model: a ``Model``, a ``PyroModel``, or any module that is a Pyro model of a batch.
        data: N rows: an array, tensor, DataFrame, sparse matrix, memory map or torch ``Dataset``, or a dict of
            these by name; a bare one means the model's only observed factor. NaN means missing. A declared model's
            latents may be among the names, where they are known in some rows, such as labels. Names of columns are
            remembered (``Fit.schema``): validation and all later rows may have them in another order.
        inference: how, as in ``lfm.SVI(guide)`` or, where the posterior is closed form, ``lfm.EM()``.
        validation: more rows of the same kind, whose bound is measured after every epoch.
        seed: of first weights, all noise and shuffling; by default one drawn from torch. What the declaration gives a
            value (``Learned(init)``, ``Fixed``) is not drawn, nor are modules given as sources, parameters that were
            frozen, and programs by hand: their weights are the user's.
        callbacks: each is called as ``callback(record, fit)`` after every epoch; one that returns True stops.
        progress: whether to show a progress bar.
        device: "auto" is a GPU where there is one.
        checkpoint: a file in which the state is kept after each epoch, and from which an interrupted fit goes on, bit for
            bit as if it had not been. It belongs to these data, this declaration and these options. What may change from
            call to call is epochs or steps (to more, where nothing follows a schedule), the amount of patience, callbacks,
            progress, device, the container of the data, and the engine, "pyro" excepted. The seed is that of the file
            where none is given; so are the weights. What programs change in attributes of their modules (numbers, tensors,
            arrays, generators of random numbers, lists and dicts of these) is kept too; another state, of a program, an
            objective or a schedule, is a DeclarationError after the first epoch, before anything is written.

    It trains in the calling process alone, and in any gradient mode. While a step runs, torch's one random stream for
    draws on the CPU is the fit's: another thread that draws meanwhile uses a ``torch.Generator`` of its own, or takes turns
    by ``with pyro_lfm.runtime.isolated():``, or it disturbs the fit.

    Raises:
        CheckpointError: a checkpoint of another fit; the message names the first difference.
        DataError, ShapeError: data that do not fit the model. DeclarationError: a guide that does not fit it.
        TrainingError: a loss or gradient that is not finite, or an error that a network raised, which is its cause; the
            last good weights are restored.

    >>> from pyro_lfm import MLP, SVI, Gaussian, Guide, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=MLP(8)))
    >>> guide = Guide(model, z=Gaussian(network=MLP(8)))
    >>> done = fit(model, torch.randn(50, 4), SVI(guide, epochs=2), seed=0, progress=False)
    >>> done.posterior(torch.zeros(3, 4)).mean.shape, len(done.history)
    (torch.Size([3, 2]), 2)
    """
    model = as_model(model)
    if not isinstance(inference, Inference):
        raise DeclarationError(
            f"inference must be lfm.SVI(guide, ...), lfm.EM() or another Inference; got {type(inference).__name__}"
        )
    if not isinstance(callbacks, list | tuple) or not all(map(callable, callbacks)):
        raise DeclarationError(f"callbacks must be a list of functions (record, fit); got {callbacks!r}")
    check_single_process()
    keep = None if checkpoint is None else Checkpoint(checkpoint)
    seed = _seed(seed, keep)
    place = _device(device)
    # An inference has programs of its own: the guide.
    programs = [part for part in (model, *vars(inference).values()) if isinstance(part, torch.nn.Module)]
    with with_gradients(programs), one_call():
        task = _task(model, data, inference, validation, seed, callbacks, progress, place, keep)
        with _first_weights(inference, model, task):
            return inference.run(task)


def _task(
    model: AnyModel,
    data: Any,
    inference: Inference,
    validation: Any,
    seed: int,
    callbacks: Any,
    progress: bool,
    place: torch.device,
    keep: Checkpoint | None,
) -> Task:
    """The rows, read and checked."""
    table = table_for(model, data)
    if (
        known := [name for name in table.names if name in model.latents]
    ) and not inference.takes_known_latents:
        raise DeclarationError(
            f"{type(inference).__name__} makes no use of known values of a latent; the data hold {', '.join(known)}: "
            "fit with lfm.SVI and a lfm.Guide, or leave it out"
        )
    held_out = None if validation is None else table_for(model, validation, fitted=table.schema)
    return Task(model, table, held_out, seed, callbacks, progress, place, keep)


@contextmanager
def _first_weights(inference: Inference, model: AnyModel, task: Task) -> Iterator[None]:
    """Draws the first weights, and takes the units of the data. Where nothing was learned, all stays as it was before."""
    programs = inference.trains(model)
    before = [(Snapshot(program), program.is_as_declared) for program in programs]
    inference.draw_first_weights(model, task.seed)
    measure(model, task.table)
    for program, (_, as_declared) in zip(programs, before, strict=True):
        # The units of the data are no change of what was declared.
        if as_declared:
            program.remember_first_weights()
    weights = [digest_of(program.own_tensors()) for program in programs]
    try:
        yield
    except BaseException:
        # A GPU that has failed takes no more orders, and what came first is to be said.
        with suppress(RuntimeError):
            _put_back(before, weights)
        raise


def _put_back(before: list[tuple[Snapshot, bool]], weights: list[str]) -> None:
    """What the programs were, and whether they were as declared, where the weights are still those that a fit began with."""
    programs = [snapshot.programs[0] for snapshot, _ in before]
    unchanged = [digest_of(program.own_tensors()) for program in programs]
    for (snapshot, as_declared), now, then in zip(before, unchanged, weights, strict=True):
        if now == then:
            snapshot.restore()
            if as_declared:
                snapshot.programs[0].remember_first_weights()


def _seed(given: int | None, checkpoint: Checkpoint | None) -> int:
    """The seed as it is given; else that of the fit that goes on, or one drawn from torch."""
    if given is not None:
        return whole("seed", given, least=0)
    kept = None if checkpoint is None else checkpoint.seed()
    return fresh_seed(2**31) if kept is None else kept


def _device(device: Any) -> torch.device:
    if isinstance(device, str) and device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, TypeError):
        cards = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
        raise DeclarationError(
            f'device must be "auto" or one that torch has here, {", ".join(["cpu", *cards])}; got {device!r}'
        ) from None
    return place

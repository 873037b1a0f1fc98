"""The contract check of guides, for authors of their own."""

from __future__ import annotations

import copy
from typing import cast

import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.factors.variables import Variable
from pyro_lfm.guides import AnyGuide, as_guide
from pyro_lfm.guides.any_guide import together
from pyro_lfm.objectives import ELBO
from pyro_lfm.objectives.trace_sites import PyroProgram, Site, Sites, in_row_plate
from pyro_lfm.programs.model import AnyModel, as_model
from pyro_lfm.runtime import Stream, isolated, others_random_kept
from pyro_lfm.testing.contract import failure, gradient_faults, plain_tensor_faults, raise_faults, trainable
from pyro_lfm.testing.draws_and_log_prob import distribution_faults

_ROWS = 5


def check_guide(guide: PyroProgram, model: PyroProgram, seed: int = 0) -> None:
    """Checks that a guide serves a model.

    It checks that the guide draws the model's latents with their shapes and supports, log_prob against draws, a finite
    bound with a gradient for every parameter of the guide, with one particle and with several, and that no tensor stays
    behind when the guide moves to another device or type. It is silent if all is right.

    Args:
        guide: a ``Guide``, a ``PyroGuide``, or any module that is a Pyro guide of a batch.
        model: the model that the guide is for. The data are drawn from it.
        seed: of the data and the draws.

    Raises:
        ContractError: the guide does not serve the model. The message lists the faults.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(8)))
    >>> lfm.testing.check_guide(lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8))), model)
    """
    # One copy of both, so that a guide that reads the model reads the copy. The originals are not run.
    copied_model, copied_guide = together(*copy.deepcopy((as_model(model), as_guide(guide))))
    with others_random_kept():
        raise_faults(copied_guide, _guide_faults(copied_guide, copied_model, seed))


def _guide_faults(guide: AnyGuide, model: AnyModel, seed: int) -> list[str]:
    rows = model.with_stand_ins().sample(_ROWS, seed=seed)
    batch = Batch({name: rows[name] for name in model.observed}, total=2 * _ROWS)
    faults = plain_tensor_faults(guide)
    try:
        faults += _site_faults(guide, model, batch, seed)
        if not faults:
            for particles in (1, 3):
                faults += _bound_faults(guide, model, batch, particles, seed)
    except Exception as error:  # a user's part may raise anything
        faults.append(failure(error))
    return faults


def _site_faults(guide: AnyGuide, model: AnyModel, batch: Batch, seed: int) -> list[str]:
    guide.settle(batch)
    with isolated(Stream(seed, model.device), model.device), torch.no_grad():
        trace, _ = ELBO().traces(model, guide, (batch,), {})
    faults = []
    nodes = cast(Sites, trace.nodes)
    faults = [
        f"it observes {name}: obs= belongs in the model"
        for name, site in nodes.items()
        if site["type"] == "sample" and site["is_observed"]
    ]
    for name, variable in model.latents.items():
        if name not in nodes:
            faults.append(f"it never samples the latent {name}")
        elif (fault := _latent_fault(nodes[name], variable)) is not None:
            faults.append(f"{name} {fault}")
        else:
            with isolated(Stream(seed, model.device), model.device):
                faults += [f"{name}: {fault}" for fault in distribution_faults(nodes[name]["fn"])]
    return faults


def _latent_fault(site: Site, variable: Variable) -> str | None:
    """The first way in which the guide's statement of a latent differs from the model's; None if it does not."""
    value, distribution = site["value"], site["fn"]
    shape = (*((_ROWS,) if variable.per_row else ()), *variable.shape)
    if variable.per_row != in_row_plate(site):
        place = "inside" if variable.per_row else "outside"
        return f"must be drawn {place} `with batch.plate():`, as in the model"
    if distribution.support.is_discrete and not variable.support.is_discrete:
        kind = type(distribution).__name__
        return f"is drawn from a discrete distribution, {kind}; the model's is continuous"
    if value.shape != shape:
        return f"must have shape {shape} for {_ROWS} rows; got {tuple(value.shape)}"
    if distribution.event_shape != variable.shape:
        wanted, got = tuple(variable.shape), tuple(distribution.event_shape)
        return f"must have event shape {wanted}; got {got}: use .to_event"
    if not bool(variable.support.check(value).all()):
        return f"is drawn outside the model's support, {variable.support}"
    return None


def _bound_faults(guide: AnyGuide, model: AnyModel, batch: Batch, particles: int, seed: int) -> list[str]:
    with isolated(Stream(seed, model.device), model.device):
        bound = ELBO(particles=particles).bound(model, guide, batch)
    label = f"with {particles} particle{'s' if particles > 1 else ''}"
    if not bool(bound.per_row.isfinite().all()):
        return [f"the bound is not finite {label}"]
    return gradient_faults(trainable(guide), bound.objective, label)

"""Optimisation of the ``PerRow`` tables of a guide for rows not seen in training, for ``Fit`` and validation."""

from __future__ import annotations

import copy
from contextlib import closing

import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError, TrainingError
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.engines.eager import Eager
from pyro_lfm.inference.engines.engine import Setup
from pyro_lfm.inference.svi.failure import NotFinite
from pyro_lfm.objectives import ELBO
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.runtime import Stream


def fit_rows(
    model: AnyModel,
    guide: AnyGuide,
    batch: Batch,
    steps: int = 500,
    seed: int = 0,
    start: list[torch.Tensor] | None = None,
) -> AnyGuide:
    """A copy of the guide whose tables are optimised for these rows, while all else is held.

    It takes steps of row-wise Adam on the whole batch, whose length falls to zero along half a cosine.

    Args:
        start: the rows to start from, one tensor per table; by default as in training.
    """
    model, guide = copy.deepcopy(model).eval(), copy.deepcopy(guide).eval()
    for parameter in (*model.parameters(), *guide.parameters()):
        parameter.requires_grad_(False)
    for k, table in enumerate(guide.tables):
        table.rows.requires_grad_(True)
        table.resize(0)
        table.resize(batch.total)
        if start is not None:
            table.rows.data = start[k].clone()
    rates = 0.5 + 0.5 * torch.cos(torch.linspace(0, torch.pi, steps))
    climb(model, guide, batch, rates, seed, "PerRow(learning_rate=...)")
    return guide


def climb(
    model: AnyModel,
    guide: AnyGuide,
    batch: Batch,
    rates: torch.Tensor,
    seed: int,
    option: str,
    particles: int = 2,
) -> None:
    """Steps of row-wise Adam for the guide's tables, whatever the caller's gradient mode.

    Args:
        rates: the factor of the learning rate at each step.
        option: the argument that sets the learning rate, for the error.
        particles: draws per row and step.
    """
    if torch.is_inference_mode_enabled():
        raise DeclarationError(
            "optimising rows needs gradients, which torch.inference_mode() rules out: call outside, or under torch.no_grad()"
        )
    engine = Eager(Setup(model, guide, torch.optim.Adam, 1e-3, Stream(seed, model.device), batch.total))
    # The noise of this gradient vanishes as q approaches the exact posterior.
    objective = ELBO(particles=particles, gradient="sticking-the-landing")
    with torch.enable_grad(), closing(engine), engine.session():
        for rate in rates.tolist():
            try:
                engine.step_on(batch, objective, rate, "guide")
            except NotFinite:
                raise TrainingError(
                    "the bound of rows not seen in training is not finite while their own parameters are optimised: a "
                    f"lower {option}, or scaled data"
                ) from None

"""Rows simulated from a model, with their latents, and the draws of a guide for each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.evaluate.calibration.exchange import split_seed
from pyro_lfm.evaluate.decoding.names_of_factors import entry_names
from pyro_lfm.evaluate.requirements import rows_apart
from pyro_lfm.inference.blocks import Blocks, Evaluation
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.objectives import ELBO
from pyro_lfm.objectives.handlers import AtValues
from pyro_lfm.objectives.run import Run
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.runtime import Stream

# Rows in one block.
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Simulation:
    """z*, x ~ p(z, x) and z₁ … z_L ~ q(z | x), all latents side by side. A label has one column for each category.

    Attributes:
        names: the names of the K columns of latents.
        truth: z*, (N, K). draws: (L, N, K).
        log_q_truth: log q(z* | x), (N,), nats. log_q_draws: (L, N).
        log_p_truth: log p(x, z*), (N,), nats. log_p_draws: (L, N).
        x: the observed variables, (N, D), NaN where missing. A label has one column for each category.
    """

    names: tuple[str, ...]
    truth: Tensor
    draws: Tensor
    log_q_truth: Tensor
    log_q_draws: Tensor
    log_p_truth: Tensor
    log_p_draws: Tensor
    x: Tensor


def simulate(done: Fit, given: Batch, rows: int, draws: int, seed: int) -> Simulation:
    """Rows drawn from the model.

    Each simulated row takes its covariates, and the places of its missing entries, from a random row of ``given``.

    Raises:
        DeclarationError: a latent is shared by all rows, or stands in a further plate; a guide with auxiliary draws.
    """
    model = done.model
    rows_apart(model, "lfm.evaluate.diagnose")
    choice, sampling, drawing = split_seed(seed, 3)
    truth, data = _rows(model, given, rows, choice, sampling)
    batch, guide = done.batch_of(data)
    objective = ELBO(kl="monte-carlo", enumerate="never")

    def one(part: Batch) -> Tensor:
        """Latents, log q and log p(x, z) of each row, (B, K + 2)."""
        run = objective.run(model, guide, (part,), {})
        if any(site.get("auxiliary") for site in run.q.values()):
            raise DeclarationError(
                f"{guide.describe()} draws auxiliary variables, so that log q of a given z is not known: declare the "
                "guide with lfm.Guide, or draw each latent from one distribution"
            )
        latents = columns(model, {name: run.q[name]["value"] for name in model.latents})
        log_q = sum(_log_q(run, name) for name in run.q)
        terms_of = run.by_draw(scored=True)
        log_p = sum([*terms_of.log_likelihood(), *(terms_of.log_p(name) for name in run.p)])
        terms = [torch.as_tensor(term).expand(1, 1, part.size)[0, 0] for term in (log_q, log_p)]
        return torch.cat([latents.double(), *(term.double().unsqueeze(1) for term in terms)], 1)

    blocks = Blocks(model, guide, batch, _ROWS, drawing)
    evaluation = Evaluation(blocks, one, calls=draws)
    parts = []
    with blocks.running():
        for block in blocks:
            with AtValues({name: value[block[1]] for name, value in truth.items()}):
                first = one(blocks.setup.batch(*block))
            parts.append(torch.stack([first, *(evaluation(block) for _ in range(draws))]))
    every = torch.cat(parts, 1).cpu()
    if bool(every.isnan().any()):
        raise DataError("log q(z | x) or log p(x, z) is NaN for rows that were simulated from the model")
    latents, log_q, log_p = every[..., :-2], every[..., -2], every[..., -1]
    x = columns(model, {n: batch.with_gaps(n) for n in model.observed if n not in model.covariates})
    return Simulation(
        _names(model), latents[0], latents[1:], log_q[0], log_q[1:], log_p[0], log_p[1:], x.double().cpu()
    )


def _log_q(run: Run, name: str) -> Tensor:
    """log q of a latent, −∞ outside of the support of its distribution, where some distributions raise an error."""
    try:
        return run.by_draw(scored=True).log_q(name)
    except ValueError:
        site = run.q[name]
        distribution, value = site["fn"], site["value"]
        inside = distribution.support.check(value)
        events = (1,) * distribution.event_dim
        safe = torch.where(inside.reshape(*inside.shape, *events), value, distribution.sample())
        return run.layout.reduce(distribution.log_prob(safe).masked_fill(~inside, -torch.inf), site)


def columns(model: AnyModel, values: Mapping[str, Tensor]) -> Tensor:
    """Variables side by side, (B, K). A label has one column for each category."""
    return torch.cat([_plain(model, name, value) for name, value in values.items()], 1)


def _plain(model: AnyModel, name: str, value: Tensor) -> Tensor:
    categories = model.sites.all[name].categories
    if categories is None:
        return value.reshape(len(value), -1).to(model.dtype)
    coded = (value.unsqueeze(-1) == torch.arange(categories, device=value.device)).to(model.dtype)
    return coded.masked_fill(value.isnan().unsqueeze(-1), torch.nan)


def _names(model: AnyModel) -> tuple[str, ...]:
    """The names of the columns of latents, as in every picture and table."""
    names: list[str] = []
    for name, latent in model.latents.items():
        if latent.categories is not None:
            names += [f"{name} = {c}" for c in range(latent.categories)]
        else:
            names += entry_names(name, latent.shape.numel())
    return tuple(names)


def _rows(
    model: AnyModel, given: Batch, rows: int, choice: int, sampling: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """z* by name, and x by name with entries missing."""
    with Stream(choice):
        like = torch.randint(given.size, (rows,)).to(model.device)
    known = {name: given[name][like] for name in model.covariates}
    with evaluating(model):
        drawn = model.sample(rows, seed=sampling, given=known)
    for name, variable in model.sites.all.items():
        if drawn[name].shape != (rows, *variable.shape):
            raise DeclarationError(
                f"{name} must have shape {(rows, *variable.shape)}, a value for each row; the model draws "
                f"{tuple(drawn[name].shape)}: declare the dimensions of further plates as its event, by .to_event"
            )
    data = {}
    for name in model.observed:
        mask = given.mask(name)
        data[name] = drawn[name]
        if mask is not None and name not in known:
            value = drawn[name].to(model.dtype)
            data[name] = value.masked_fill(~mask[like], torch.nan)
    return {name: drawn[name] for name in model.latents}, data

"""Training of deep estimators, and what they answer of a fit with one latent: factors, densities, means, draws."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_lfm.distributions.noise_draws import CommonNoise, NotOfNoise, draw_from
from pyro_lfm.estimators.estimator import BLOCK, Array
from pyro_lfm.guides import Guide
from pyro_lfm.guides.noise_handler import particles_from_noise
from pyro_lfm.inference import SVI, Fit, fit
from pyro_lfm.inference.queries.refined_view import refined_view
from pyro_lfm.objectives import ELBO, ImportanceWeightedELBO, Objective
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.model import Model
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.schedules import cosine
from pyro_lfm.warning_kinds import ScaleFloorWarning

# Draws of z for log p(x), and the numbers that the draws of a block may have together.
_DRAWS, _NUMBERS = 200, 2**22
# Gradient steps that adapt the guide to each row with gaps: encoders learn from rows as they come, mostly complete.
_STEPS = 200
# Draws of z for the mean of a function of it.
_FEW_DRAWS = 64
# With early stopping: the share of the rows that are held out, and the epochs without a gain after which training stops.
_HELD_OUT, _PATIENCE = 0.1, 10


def train(
    model: Model,
    guide: Guide,
    data: Any,
    *,
    seed: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    early_stopping: bool = False,
    device: str = "auto",
    objective: Objective | None = None,
) -> Fit:
    """A fit by stochastic gradients, which holds no rows and stands on the CPU.

    Args:
        data: rows (N, D), or rows by name. early_stopping: hold out a tenth of the rows, and stop when their bound falls.
    """
    held_out = None
    if early_stopping:
        data, held_out = _divided(data, seed)
    svi = SVI(
        guide,
        objective=ELBO() if objective is None else objective,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule=None if early_stopping else cosine(1.0, 0.0),
        patience=_PATIENCE if early_stopping else None,
    )
    with warnings.catch_warnings():
        # Columns are in units of their spread, and a constant one has no noise by nature.
        warnings.simplefilter("ignore", ScaleFloorWarning)
        done = fit(model, data, svi, validation=held_out, seed=seed, progress=False, device=device)
    model.cpu()
    guide.cpu()
    return done.without_rows()


def _divided(data: Any, seed: int) -> tuple[Any, Any]:
    """Most of the rows, and those that are held out."""
    named = data if isinstance(data, dict) else {"x": data}
    count = next(iter(named.values())).shape[0]
    order = np.random.default_rng(seed).permutation(count)
    held = max(1, round(_HELD_OUT * count))
    return {n: v[order[held:]] for n, v in named.items()}, {n: v[order[:held]] for n, v in named.items()}


def codes(done: Fit, rows: Array) -> Array:
    """E[z | x] of each row under the guide, (N, K)."""
    return _by_gaps(done, rows, BLOCK, lambda fit, block: fit.posterior(block).mean)


def moments_of_codes(guide: Guide, rows: Array) -> tuple[Array, Array]:
    """Mean and variance of z of each row under a guide, (N, K) each."""
    encoder: Any = guide.factors["z"]

    def of_block(block: Array) -> torch.Tensor:
        dense = torch.from_numpy(
            np.ascontiguousarray(block.toarray() if hasattr(block, "toarray") else block)
        )
        with evaluating(guide), torch.no_grad():
            posterior = encoder(dense)
            return torch.cat([posterior.mean, posterior.variance], 1)

    both = _of_blocks(rows, BLOCK, of_block)
    return both[:, : both.shape[1] // 2], both[:, both.shape[1] // 2 :]


def averages(done: Fit, rows: Array, function: Callable[[torch.Tensor], torch.Tensor]) -> Array:
    """The mean of a function of z over draws from q(z | x), whose noise all rows share, for each row."""

    def of_block(fit: Fit, block: Array) -> torch.Tensor:
        posterior = fit.posterior(block)
        try:
            factors = draw_from(posterior, CommonNoise(_FEW_DRAWS, batch=1))
        except NotOfNoise:
            factors = posterior.mean.unsqueeze(0)
        with torch.no_grad():
            return function(factors).mean(0)

    return _by_gaps(done, rows, 1024, of_block)


def label_probabilities(done: Fit, rows: Array, name: str) -> Array:
    """The probability of each value of a categorical latent that the guide reads from x alone, (N, C)."""

    def of_block(block: Array) -> torch.Tensor:
        batch = done.rows_of({"x": block})
        guide: Any = done.guide
        with evaluating(guide), torch.no_grad():
            return guide.distribution(name, {}, batch).probs

    return _of_blocks(rows, BLOCK, of_block)


def log_likelihoods(done: Fit, rows: Array) -> Array:
    """log p(x) of each row, (N,), nats: importance-weighted over draws whose noise all rows share.

    So the value of a complete row does not depend on the other rows. It is too low on average, by about half the variance of
    the weights (Burda, Grosse and Salakhutdinov, 2016).
    """
    width = sum(variable.shape.numel() for variable in done.model.sites.all.values())
    size = max(1, _NUMBERS // (_DRAWS * width))
    objective = ImportanceWeightedELBO(_DRAWS)

    def of_block(fit: Fit, block: Array) -> torch.Tensor:
        batch, guide = fit.batch_of(block)
        with (
            evaluating(fit.model, guide),
            isolated(Stream(0)),
            torch.no_grad(),
            particles_from_noise(_DRAWS),
        ):
            weights = objective.log_weights(fit.model, guide, batch)
        return weights.logsumexp(0) - np.log(_DRAWS)

    return _by_gaps(done, rows, size, of_block)


def means(done: Fit, factors: Array, name: str = "x") -> Array:
    """E[x | z] of factors (N, K): (N, D)."""
    model: Any = done.model
    decoder = model.factors[name]

    def of_block(block: Array) -> torch.Tensor:
        with evaluating(model), torch.no_grad():
            return decoder(torch.from_numpy(np.ascontiguousarray(block)).to(model.dtype)).mean

    return _of_blocks(factors, BLOCK, of_block)


def draws(done: Fit, count: int, seed: int, name: str = "x") -> NDArray[Any]:
    """Rows drawn from the model, (count, D)."""
    model: Any = done.model
    return model.sample(count, seed=seed)[name].numpy()


def _by_gaps(done: Fit, rows: Array, size: int, function: Callable[[Fit, Array], torch.Tensor]) -> Array:
    """A function of a fit and of each block of rows, as one array. Rows with gaps have their guide refined."""
    gaps = np.zeros(rows.shape[0], bool) if hasattr(rows, "tocsr") else np.isnan(rows).any(1)
    if not gaps.any():
        return _of_blocks(rows, size, lambda block: function(done, block))
    view = refined_view(done, _STEPS)
    refined = _of_blocks(rows[gaps], size, lambda block: function(view, block))
    values = np.empty((len(rows), *refined.shape[1:]), rows.dtype)
    values[gaps] = refined
    if not gaps.all():
        values[~gaps] = _of_blocks(rows[~gaps], size, lambda block: function(done, block))
    return values


def _of_blocks(rows: Array, size: int, function: Any) -> Array:
    """A function of each block of rows, as one array in the type of the rows."""
    parts = [function(block).cpu() for block in _blocks(rows, size)]
    return torch.cat(parts).numpy().astype(rows.dtype)


def _blocks(rows: Array, size: int) -> Iterator[Array]:
    for start in range(0, rows.shape[0], size):
        yield rows[start : start + size]

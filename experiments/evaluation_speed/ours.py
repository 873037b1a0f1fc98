"""The queries by pyro_lfm, as a user asks them. Each returns one number, the mean of the answer, for comparison."""

from __future__ import annotations

import numpy as np
import torch

import pyro_lfm as lfm
from evaluation_speed.setting import Query, Weights


def prepared(query: Query, weights: Weights) -> lfm.Fit:
    """A fit of an autoencoder with these weights."""
    decoder = lfm.MLP(query.hidden)
    observed = (
        lfm.Bernoulli(query.columns, logits=decoder)
        if query.likelihood == "Bernoulli"
        else lfm.Gaussian(
            query.columns,
            mean=decoder,
            covariance=lfm.Diagonal(lfm.Fixed(torch.from_numpy(weights.scale)), min_scale=1e-6),
        )
    )
    model = lfm.Model(z=lfm.StandardNormal(query.latent), x=observed)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(query.hidden)))
    for program, arrays in ((model, weights.decoder), (guide, weights.encoder)):
        trained = [
            p for p in program.parameters() if p.dim() == 2 or p.shape[0] in (query.hidden, len(arrays[3]))
        ]
        for parameter, array in zip(trained, arrays, strict=True):
            parameter.data = torch.from_numpy(array.T.copy())
    return lfm.Fit.of(model, guide)


def answer(query: Query, fit: lfm.Fit, x: np.ndarray) -> float:
    rows = torch.from_numpy(x)
    if query.task == "importance":
        return lfm.evaluate.log_likelihood(fit, rows, draws=query.draws).mean
    if query.task == "annealed":
        annealing = lfm.evaluate.Annealing(temperatures=query.temperatures)
        done = lfm.evaluate.log_likelihood(
            fit, rows, draws=query.draws, method="annealed", annealing=annealing
        )
        return done.mean
    if query.task == "posterior":
        return float(fit.posterior(rows).mean.double().mean())
    if query.task == "reconstruct":
        return float(fit.reconstruct(rows, draws=query.draws).double().mean())
    return float(fit.impute(rows, draws=query.draws).values["x"].double().mean())

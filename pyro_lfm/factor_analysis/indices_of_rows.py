"""Indices of fit of a fitted model to rows: complete ones by their covariance, those with gaps by likelihoods."""

from __future__ import annotations

from dataclasses import replace
from math import log, pi

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.errors import DataError, DeclarationError, gathering
from pyro_lfm.factor_analysis.indices_of_fit import Correction, FitIndices, fit_indices, indices_of
from pyro_lfm.factor_analysis.linear_parameters import LinearParameters
from pyro_lfm.families import Gaussian
from pyro_lfm.inference import EM, fit
from pyro_lfm.programs.model import Model
from pyro_lfm.sources.covariances import Full


def indices_of_rows(parameters: LinearParameters, rows: Tensor, correction: Correction | None) -> FitIndices:
    """The indices for rows (N, D), float64, NaN where missing.

    Raises:
        DataError: a constant column. DeclarationError: a correction of χ² with missing entries.
    """
    # A row without an answer says nothing, and does not count.
    rows = rows[~rows.isnan().all(1)]
    values = rows.numpy()
    spread = np.nanstd(values, axis=0)
    if not (spread > 0).all():
        raise DataError(
            f"each column must vary for an index of fit; column {int(np.argmin(spread))} does not: drop it"
        )
    if np.isnan(values).any():
        if correction == "bartlett":
            raise DeclarationError('correction must be "none" where entries are missing; got "bartlett"')
        return _of_gaps(parameters, rows)
    correction = ("bartlett" if parameters.axes_free else "none") if correction is None else correction
    dim = values.shape[1]
    indices = fit_indices(
        parameters.weight,
        parameters.noise,
        np.cov(values, rowvar=False, bias=True).reshape(dim, dim),
        len(values),
        correlations=parameters.covariance,
        correction=correction,
        parameters=parameters.parameters,
    )
    # The likelihood of the model with its own means; only at the maximum they are those of the data.
    likelihood = float(parameters.exact.log_likelihood(rows).sum())
    total = indices.parameters
    aic, bic = (price * total - 2 * likelihood for price in (2.0, log(len(values))))
    return replace(indices, log_likelihood=likelihood, aic=aic, bic=bic)


def _of_gaps(parameters: LinearParameters, rows: Tensor) -> FitIndices:
    """χ² by full information maximum likelihood: twice the difference of log-likelihoods of the observed entries."""
    observed = ~rows.isnan()
    mean = torch.nanmean(rows, 0)
    centred = (rows - mean).where(observed, rows.new_zeros(()))
    counts = observed.sum(0)
    variance = centred.square().sum(0) / counts
    scaled = ((rows - mean) / variance.sqrt()).where(observed, rows.new_full((), torch.nan))
    apart = float(-0.5 * (counts * (variance.log() + log(2 * pi) + 1)).sum())
    # A Gaussian of any mean and covariance: the model without structure.
    model = Model(x=Gaussian(rows.shape[1], covariance=Full())).double()
    with gathering():
        any_covariance = fit(model, scaled, EM(tolerance=1e-12, iterations=10_000), seed=0, progress=False)
    free = float(any_covariance.log_likelihood().sum() - 0.5 * (counts * variance.log()).sum())
    own = float(parameters.exact.log_likelihood(rows).sum())
    weight, noise = parameters.weight, np.diag(parameters.noise)
    implied = weight @ parameters.covariance @ weight.T + noise
    units = variance.sqrt()
    sample = (model.factors["x"]().covariance_matrix.detach() * torch.outer(units, units)).numpy()
    scale = np.sqrt(np.diag(sample))
    return indices_of(
        (len(rows), len(weight), weight.shape[1]),
        statistic=2 * (free - own),
        baseline=2 * (free - apart),
        likelihood=own,
        parameters=parameters.parameters,
        residuals=(sample - implied) / np.outer(scale, scale),
        correction="none",
    )

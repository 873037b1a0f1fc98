"""The factors of a fit beside alternatives to them: the data, principal components, factor analysis."""

from __future__ import annotations

import numpy as np
import torch

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.evaluate.diagnosis.simulation import columns
from pyro_lfm.evaluate.inputs import Rows
from pyro_lfm.evaluate.latent_values import codes_of_fit
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.shapes import whole


def rival_representations(
    fit: Fit, train: Rows, test: Rows, components: int | None = None, seed: int = 0
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Train and test rows in several representations, as ``lfm.evaluate.representation.few_labels`` compares them.

    "data": the rows, flattened. "PCA": scores of principal components. "FA": posterior means of a factor analysis
    (scikit-learn, its default algorithm). Both are trained on the train rows. "factors": the codes of the fit, posterior
    means of all latents of a row side by side, and probabilities of labels.

    Args:
        fit: a fit whose rows have latents.
        train, test: N ≥ 3 and M rows as given to ``fit``, without missing entries. The data are the modelled variables,
            without covariates. A label has one column of 0 and 1 for each category.
        components: the number of components of PCA and FA. By default that of the factors of the fit, but at most the
            number of columns, and at most N − 2.

    Raises:
        DataError, DeclarationError: rows or a fit that do not fit the above.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(6, mean=lfm.Linear()))
    >>> rows = torch.randn(60, 2) @ torch.randn(2, 6) + 0.1 * torch.randn(60, 6)
    >>> done = lfm.fit(model, rows[:40], lfm.EM(), seed=0, progress=False)
    >>> rivals = lfm.evaluate.rival_representations(done, rows[:40], rows[40:])
    >>> {name: tuple(test.shape) for name, (_, test) in rivals.items()}
    {'data': (20, 6), 'PCA': (20, 2), 'FA': (20, 2), 'factors': (20, 2)}
    """
    from sklearn.decomposition import PCA, FactorAnalysis

    if not isinstance(fit, Fit):
        raise DeclarationError(f"fit must be a Fit, as lfm.fit gives it; got {type(fit).__name__}")
    factors = tuple(codes_of_fit("fit", fit, rows).detach().double().cpu() for rows in (train, test))
    rows = _data_matrix("train", fit, train), _data_matrix("test", fit, test)
    # With N − 1 components or more no variance is left for the noise of a factor analysis.
    most = min(len(rows[0]) - 2, rows[0].shape[1])
    if most < 1:
        raise DataError(f"train must have at least 3 rows for PCA and factor analysis; got {len(rows[0])}")
    count = min(factors[0].shape[1], most) if components is None else whole("components", components)
    if count > most:
        raise DataError(f"components must be at most {most}, as train is {rows[0].shape}; got {count}")
    arrays = {"data": rows}
    for name, method in (("PCA", PCA), ("FA", FactorAnalysis)):
        fitted = method(n_components=count, random_state=seed).fit(rows[0])
        arrays[name] = fitted.transform(rows[0]), fitted.transform(rows[1])
    tensors = {name: (torch.as_tensor(a), torch.as_tensor(b)) for name, (a, b) in arrays.items()}
    return {**tensors, "factors": (factors[0], factors[1])}


def _data_matrix(name: str, fit: Fit, rows: Rows) -> np.ndarray:
    """All modelled variables of some rows side by side, (N, D)."""
    batch, model = fit.rows_of(rows), fit.model
    modelled = [each for each in model.observed if each in batch.names and each not in model.covariates]
    array = columns(model, {each: batch.with_gaps(each) for each in modelled}).double().cpu().numpy()
    if not np.isfinite(array).all():
        raise DataError(
            f"{name} has missing entries, which PCA and factor analysis cannot handle: fill them in (fit.impute), or give "
            "few_labels the codes alone"
        )
    return array

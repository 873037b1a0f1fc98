"""The factors of a fit, and what else could stand in their place: the data, principal components, factor analysis."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.evaluate.calibration.simulation import columns
from pyro_lfm.evaluate.representation.codes import codes_of
from pyro_lfm.inference.result import Fit
from pyro_lfm.shapes import whole


def representations(
    fit: Fit, train: Any, test: Any, components: int | None = None, seed: int = 0
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Train and test rows as they are, and as K numbers each: for ``few_labels``, which says what the factors are worth.

    "data": the rows, flattened. "PCA", "FA": scores of as many principal components, and posterior means of a factor
    analysis (scikit-learn, its default algorithm), both learned of the train rows. "factors": posterior means of the fit.

    Args:
        fit: any whose rows have latents.
        train, test: N ≥ 3 and M rows as given to ``fit``, without missing entries. What is modelled counts as data, a label
            as 0 and 1 of each category; covariates do not.
        components: of PCA and FA; by default as many as the fit has factors, at most as there are columns, or N − 2.

    Raises:
        DataError, DeclarationError: rows or a fit that do not fit the above.

    >>> from pyro_lfm import EM, Gaussian, Linear, Model, StandardNormal, fit
    >>> model = Model(z=StandardNormal(2), x=Gaussian(6, mean=Linear()))
    >>> rows = torch.randn(60, 2) @ torch.randn(2, 6) + 0.1 * torch.randn(60, 6)
    >>> done = fit(model, rows[:40], EM(), seed=0, progress=False)
    >>> {name: tuple(test.shape) for name, (_, test) in representations(done, rows[:40], rows[40:]).items()}
    {'data': (20, 6), 'PCA': (20, 2), 'FA': (20, 2), 'factors': (20, 2)}
    """
    from sklearn.decomposition import PCA, FactorAnalysis

    if not isinstance(fit, Fit):
        raise DeclarationError(f"fit must be a Fit, as lfm.fit gives it; got {type(fit).__name__}")
    factors = codes_of("fit", fit, train), codes_of("fit", fit, test)
    rows = _rows("train", fit, train), _rows("test", fit, test)
    # Of fewer, as many components leave nothing over: factor analysis has no noise then.
    most = min(len(rows[0]) - 2, rows[0].shape[1])
    if most < 1:
        raise DataError(
            f"train must have at least 3 rows for PCA and factor analysis to learn from; got {len(rows[0])}"
        )
    count = min(factors[0].shape[1], most) if components is None else whole("components", components)
    if count > most:
        raise DataError(f"components must be at most {most}, as train is {rows[0].shape}; got {count}")
    found = {"data": rows}
    for name, method in (("PCA", PCA), ("FA", FactorAnalysis)):
        learned = method(n_components=count, random_state=seed).fit(rows[0])
        found[name] = learned.transform(rows[0]), learned.transform(rows[1])
    found["factors"] = factors
    return {name: (torch.as_tensor(a), torch.as_tensor(b)) for name, (a, b) in found.items()}


def _rows(name: str, fit: Fit, rows: Any) -> np.ndarray:
    """Rows (N, D) of all modelled variables side by side."""
    batch, model = fit.rows_of(rows), fit.model
    modelled = [each for each in model.observed if each in batch.names and each not in model.covariates]
    array = columns(model, {each: batch.with_gaps(each) for each in modelled}).double().cpu().numpy()
    if not np.isfinite(array).all():
        raise DataError(
            f"{name} has missing entries, which PCA and factor analysis do not know: fill them in (fit.impute), or give "
            "few_labels the codes by themselves"
        )
    return array

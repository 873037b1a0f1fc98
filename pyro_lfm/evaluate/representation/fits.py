"""Scores of the codes of a fit: the public functions of a ``Fit``, on top of those of arrays in this folder."""

from __future__ import annotations

from collections.abc import Mapping

from pyro_lfm.evaluate.inputs import Array, Rows
from pyro_lfm.evaluate.latent_values import codes_of_fit
from pyro_lfm.evaluate.representation.alignment import Alignment, align_codes
from pyro_lfm.evaluate.representation.disentangling import Disentanglement, disentanglement_of_codes
from pyro_lfm.inference.fitted import Fit


def align(fit_a: Fit, fit_b: Fit, data: Rows | None = None) -> Alignment:
    """Are the factors of two fits the same? The one-to-one matching of their codes with the largest ``Σ |r|``.

    The codes of a fit are its posterior means, those of all latents of a row side by side. The code of a label is the
    probability of each category. See ``lfm.evaluate.representation.align_codes`` for the matching.

    Args:
        fit_a, fit_b: two fits.
        data: rows as given to ``fit``. If left out, each fit reads the rows that it was fitted to.

    Raises:
        DeclarationError: no ``Fit``, a fit whose rows have no latents, or a posterior without means.
        ShapeError: different numbers of rows.

    >>> import pyro_lfm as lfm
    >>> import torch
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(6, mean=lfm.Linear()))
    >>> done = lfm.fit(model, torch.randn(50, 6), lfm.EM(iterations=5), seed=0, progress=False)
    >>> round(lfm.evaluate.align(done, done).mean, 6)
    1.0
    """
    return align_codes(codes_of_fit("fit_a", fit_a, data), codes_of_fit("fit_b", fit_b, data))


def disentanglement(
    fit: Fit,
    factors: Array | Mapping[str, Array],
    *,
    data: Rows | None = None,
    seed: int = 0,
    bins: int = 20,
) -> Disentanglement:
    """Scores of the codes of a fit against the factors that the data were made of.

    The codes are the posterior means of all latents of a row side by side, and the probabilities of labels. See
    ``lfm.evaluate.representation.disentanglement_of_codes`` for the scores.

    Args:
        fit: the fit.
        factors: {name: (N,)} or (N, F), the known factors of the N rows.
        data: rows as given to ``fit``. If left out, those that were fitted.
        bins: B ≥ 2, see ``disentanglement_of_codes``.

    Raises:
        DeclarationError: no ``Fit``, a fit whose rows have no latents, or a posterior without means.
        ShapeError, DataError: factors that do not fit the rows.

    >>> import pyro_lfm as lfm
    >>> import torch
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(6, mean=lfm.Linear()))
    >>> done = lfm.fit(model, torch.randn(60, 6), lfm.EM(iterations=5), seed=0, progress=False)
    >>> lfm.evaluate.disentanglement(done, {"a": torch.arange(60) % 3, "b": torch.arange(60) % 2}).mutual_information.shape
    torch.Size([2, 2])
    """
    return disentanglement_of_codes(codes_of_fit("fit", fit, data), factors, seed=seed, bins=bins)

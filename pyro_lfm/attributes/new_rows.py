"""``lfm.attributes.generate`` and ``lfm.attributes.edit``: rows with asked attributes, new ones or given ones changed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_lfm.attributes.declared_rows import edit_declared, generate_declared
from pyro_lfm.attributes.encoded_rows import decode, encode
from pyro_lfm.attributes.labels import Target
from pyro_lfm.attributes.named_attributes import Attributes
from pyro_lfm.errors import AttributeWarning, DeclarationError, warn
from pyro_lfm.evaluate.inputs import Rows
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.shapes import whole


def generate(
    attributes: Attributes | Fit, targets: Mapping[str, Target], n: int, seed: int = 0
) -> dict[str, Tensor]:
    """New rows that have the asked attributes, and are spread like the data in all else.

    Of ``Attributes``: latents are drawn from the density of the latents of all rows, given that their readings are as asked,

        p(z | a) ∝ p(z) Πⱼ exp(−eⱼ(z)² / 2),

    by sequential Monte Carlo; see ``fit`` for p(z). For a number e is the distance of its reading from the target, in
    tolerances of 2% of its range, or of (1 − R²)² standard deviations if that is more: a reading that is unsure is not
    forced beyond what rows have. For a label e is what its log odds lack to those of rows that have it. Where decoder and
    encoder are inverse to each other, the latents of rows lie on a thin curved set, which a fitted density shows too
    roughly: then latents of at least 2,000 draws of q(z | x) are chosen with weights exp(−β Σ e²/2), β so large that twice
    as many as are asked for carry weight, at least 400, and moved as by ``edit`` to where e is 0. A row is E[x | z], of a
    label of the model the likeliest one. Covariates and discrete latents are those of the row with the nearest latents.

    Of a ``Fit``: targets are covariates, discrete latents and observed variables of its model, or columns of these, by
    name. Latents are drawn from p(z | targets) of the model, what is observed is E[x | z, targets]. Covariates that are not
    asked for are those of random fitted rows.

    Args:
        attributes: what ``lfm.attributes.fit`` gives, or a fit whose model declares the attributes.
        targets: {attribute: a number in the range of its labels, or one of its labels}.
        n: how many rows.

    Returns:
        {observed variable: (n, *event)}.

    Warns:
        AttributeWarning: the data hardly know such rows, the latents hardly hold an attribute, or it is not met.

    Raises:
        DataError: an unknown attribute or label, a number out of range. DeclarationError: neither attributes nor a fit.

    >>> import pyro_lfm as lfm
    >>> z, noise = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)).split([2, 3], 1)
    >>> x = z @ torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]) + 0.1 * noise
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear(), covariance=lfm.Isotropic()))
    >>> fit = lfm.fit(model, x, lfm.EM(), seed=0, progress=False)
    >>> A = lfm.attributes.fit(fit, x, {"sum": z.sum(1)})
    >>> rows = lfm.attributes.generate(A, {"sum": 1.0}, 100)["x"]
    >>> rows.shape, round(float(rows[:, 1].mean()), 1)
    (torch.Size([100, 3]), 1.0)
    """
    if isinstance(attributes, Fit):
        return generate_declared(attributes, targets, whole("n", n), whole("seed", seed, least=0))
    latents, message = _checked(attributes).draw_latents(targets, n, seed)
    if message is not None:
        warn(message, AttributeWarning)
    encoded, space = attributes.rows, attributes.space
    beside = encoded.beside
    if beside:
        nearest = torch.cdist(space.codes(latents), space.codes(encoded.means)).argmin(1)
        beside = {name: value[nearest] for name, value in beside.items()}
    return decode(attributes.decoder, latents, encoded.shared, beside)


def edit(
    attributes: Attributes | Fit, rows: Rows, targets: Mapping[str, Target], seed: int = 0
) -> dict[str, Tensor]:
    """Given rows, with the asked attributes changed and the rest left as it is.

    Of ``Attributes``: the latents of a row, at their posterior mean, move to where the reading is as asked, by the shortest
    way in units in which latents of all rows are uncorrelated, while the readings of all other attributes stay, and without
    leaving the density of the rows. Where decoder and encoder are inverse to each other, moved latents pass both, so that
    they stay on a curved set of data, and what still misses starts again from a row near its end. Of a ``Fit``: covariates
    and discrete latents are replaced, and latents stay as they are inferred with the values that the row had; for an
    observed variable, latents move as above.

    Args:
        attributes: what ``lfm.attributes.fit`` gives, or a fit whose model declares the attributes.
        rows: rows as given to ``lfm.fit``.
        targets: {attribute: a number in the range of its labels, or one of its labels}, the same for all rows.
        seed: of the noise, for guides that need some.

    Returns:
        {observed variable: (N, *event)}, E[x | z] at the moved latents.

    Warns, raises: as ``generate``.

    >>> import pyro_lfm as lfm
    >>> z, noise = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)).split([2, 3], 1)
    >>> x = z @ torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]) + 0.1 * noise
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear(), covariance=lfm.Isotropic()))
    >>> fit = lfm.fit(model, x, lfm.EM(), seed=0, progress=False)
    >>> A = lfm.attributes.fit(fit, x, {"right": z[:, 1], "left": z[:, 0]})
    >>> edited = lfm.attributes.edit(A, x[:50], {"right": 1.0})["x"]
    >>> round(float(edited[:, 1].mean()), 1), bool((edited[:, 0] - x[:50, 0]).abs().mean() < 0.2)
    (1.0, True)
    """
    if isinstance(attributes, Fit):
        return edit_declared(attributes, rows, targets, whole("seed", seed, least=0))
    own = _checked(attributes)
    encoded = encode(own.fit, own.decoder, rows, 1, whole("seed", seed, least=0))
    latents = own.edit_latents(encoded.means, targets, seed, encoded.covariates)
    message = own.edit_message(latents, targets)
    if message is not None:
        warn(message, AttributeWarning)
    return decode(own.decoder, latents, encoded.shared, encoded.beside)


def _checked(attributes: Attributes) -> Attributes:
    if not isinstance(attributes, Attributes):
        raise DeclarationError(
            "attributes must be what lfm.attributes.fit gives, or a Fit whose model declares them; got a "
            f"{type(attributes).__name__}"
        )
    return attributes

"""``lfm.attributes.generate`` and ``lfm.attributes.edit``: rows with asked attributes, new ones or given ones changed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_lfm.attributes.declared_rows import edit_declared, generate_declared
from pyro_lfm.attributes.encoded_rows import decode, encode
from pyro_lfm.attributes.labels import Target
from pyro_lfm.attributes.named_attributes import Attributes
from pyro_lfm.errors import DeclarationError, warn
from pyro_lfm.evaluate.inputs import Rows
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.shapes import whole
from pyro_lfm.warning_kinds import AttributeWarning


def generate(
    attributes: Attributes | Fit, targets: Mapping[str, Target], n: int, seed: int = 0
) -> dict[str, Tensor]:
    """New rows that have the attributes asked for, and vary like the data in all else.

    With ``Attributes``, latents are drawn by sequential Monte Carlo from the density of the latents of all rows (see
    ``fit``), given that the readings aⱼ of their attributes are as asked::

        p(z | a) ∝ p(z) Πⱼ exp(−eⱼ(z)² / 2)

    For a number, e is the distance of its reading from the target. The unit of e is 2% of the number's range, or
    (1 − R²)² standard deviations if that is more, so that an uncertain reading is not forced beyond the values of the rows.
    For a label, e is the distance of its log odds from those of rows that have the label. Each new row is E[x | z]. A label
    of the model is the most probable one. Covariates and discrete latents are those of the row with the nearest latents.

    Where decoder and encoder are inverse to each other, the latents of rows lie on a thin curved set, and a fitted density
    is too coarse. At least 2,000 draws of q(z | x) are then weighted by exp(−β Σ e²/2). β is so large that only twice as
    many draws as rows are asked for, and at least 400, carry weight. ``edit`` moves them to where e is 0.

    With a ``Fit``, targets are covariates, discrete latents and observed variables of its model, or columns of these, by
    name. Latents are drawn from p(z | targets), and the rows are E[x | z, targets]. Covariates without a target are those of
    random fitted rows.

    Args:
        attributes: the ``Attributes`` of ``lfm.attributes.fit``, or a fit whose model declares the attributes.
        targets: {attribute: a number in the range of its labels, or one of its labels}.
        n: how many rows.

    Returns:
        {observed variable: ``(n, *event)``}.

    Warns:
        AttributeWarning: such rows are rare in the data, the latents hold little about an attribute, or the
            new rows miss it.

    Raises:
        DataError: an unknown attribute or label, a number out of range.
        DeclarationError: neither attributes nor a fit.

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
    """Given rows, with some attributes changed and the rest kept.

    With ``Attributes``, the latents of a row start at their posterior mean. They move to the nearest point at which the
    reading is as asked. The readings of all other attributes stay, and the point stays within the density of the rows.
    Distances are in units in which the latents of all rows are uncorrelated. Where decoder and encoder are inverse to each
    other, the moved latents are decoded and encoded again, so that they stay on the curved set of the data. A row that
    still misses its target starts again from a row near the end of its path.

    With a ``Fit``, covariates and discrete latents are replaced. Latents stay as they were inferred with the values that the
    row had. For a target of an observed variable, latents move as above.

    Args:
        attributes: what ``lfm.attributes.fit`` gives, or a fit whose model declares the attributes.
        rows: rows as given to ``lfm.fit``.
        targets: {attribute: a number in the range of its labels, or one of its labels}, the same for all rows.
        seed: of the noise, for guides that need some.

    Returns:
        {observed variable: ``(N, *event)``}, E[x | z] at the moved latents.

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

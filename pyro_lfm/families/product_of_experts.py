"""The family of guides for rows with several views: a product of Gaussian experts, one for each view."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions.correlated import CorrelatedGaussian
from pyro_lfm.distributions.kl import Moments, gaussian_moments
from pyro_lfm.distributions.normal import Normal
from pyro_lfm.distributions.positive_definite import tril_of_precision
from pyro_lfm.distributions.stirling import wide
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Conditional, Factor, Factors, Seen
from pyro_lfm.factors.variables import Variable
from pyro_lfm.families.gaussian import Gaussian
from pyro_lfm.sources.covariances import Covariance, Diagonal, shaped
from pyro_lfm.sources.per_row import PerRow
from pyro_lfm.sources.source import SourceLike


class ProductOfExperts(Factor):
    """q(z | x₁ .. x_V) ∝ N(z; 0, I) ∏_v N(z; μ_v(x_v), Σ_v(x_v)), a guide's factor with an expert for each parent.

    It is Gaussian with precision Λ = I + Σ_v Σ_v⁻¹ and mean Λ⁻¹ Σ_v Σ_v⁻¹ μ_v. The expert of a view that is missing in a
    row (all its entries NaN) is left out for that row. Without any view q is the standard normal. So rows may lack views,
    as in ``fit.posterior({"x": X})``. To train each expert for this, leave out some views in some rows of the training data.

    With a standard normal prior and views that are independent given z, the exact posterior has this form.

    Args:
        event: left out in a guide.
        network: the source of mean and covariance of every expert, or {parent: source}.
        covariance: that of every expert: ``Diagonal`` (default), ``Isotropic``, ``LowRank`` or ``Full``, without a source.
        given: the views, by default every observed variable.

    Raises:
        DeclarationError: a parent without a network, or an argument that is no network.
        ShapeError: a wrong size.

    Use it for several views of a row of which some may be missing.

    KL: closed form.

    Limits: the prior must be near a standard normal, and each expert sees one view alone.

    Source: Wu and Goodman (2018), "Multimodal generative models for scalable weakly-supervised learning", section 2.1.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)), y=lfm.Gaussian(3, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.ProductOfExperts(network={"x": lfm.MLP(8), "y": lfm.MLP(4)}))
    >>> gone = torch.zeros(4, 5, dtype=torch.bool)
    >>> guide.factors["z"](torch.zeros(4, 5), torch.zeros(4, 3), masks=[gone, ~gone[:, :3]]).mean.shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        *,
        network: SourceLike | Mapping[str, SourceLike],
        covariance: Covariance | None = None,
        given: str | Sequence[str] | None = None,
    ):
        covariance = Diagonal() if covariance is None else covariance
        if not isinstance(covariance, Covariance) or covariance.source is not None:
            raise DeclarationError(
                "covariance of ProductOfExperts must be Isotropic, Diagonal, LowRank or Full without a source, which is "
                f"network=; got {covariance!r}"
            )
        networks = dict(network) if isinstance(network, Mapping) else {"experts": network}
        for name, source in networks.items():
            if source is None or isinstance(source, str | PerRow):
                raise DeclarationError(
                    f"network of ProductOfExperts must be a network, as in network=lfm.MLP(32); got {source!r} for {name}"
                )
        super().__init__(event, networks, given=given)
        self.covariance, self.by_name = covariance, isinstance(network, Mapping)

    def build(self, name: str, parents: Sequence[Variable]) -> Conditional:
        return Experts(self, name, parents)

    def describe(self) -> str:
        return f"{super().describe()[:-1]}, covariance: {self.covariance.describe()})"


class Experts(Conditional):
    """The product of a standard normal and an expert for each observed parent."""

    def __init__(self, declaration: ProductOfExperts, name: str, parents: Sequence[Variable]):
        super().__init__(declaration, name, parents)
        if not parents:
            raise DeclarationError(f"{name}: a ProductOfExperts needs parents: name them with given=")
        networks = declaration.sources
        if declaration.by_name and networks.keys() != self._parents.keys():
            raise DeclarationError(
                f"{name}: network must have one for each of {', '.join(self._parents)}; got {', '.join(networks)}"
            )
        self.experts = Factors()
        for parent in parents:
            network = networks[parent.name if declaration.by_name else "experts"]
            expert = Gaussian(self.shape, covariance=declaration.covariance, network=network)
            self.experts[parent.name] = expert.build(f"{name}.{parent.name}", [parent])

    def of_rows(self, seen: Mapping[str, Seen], index: Tensor) -> Distribution:
        return self(
            *(seen[name].value for name in self.parents), masks=[seen[name].mask for name in self.parents]
        )

    @property
    def optional_parents(self) -> frozenset[str]:
        return frozenset(self.parents)

    def forward(self, *parents: Tensor, masks: Sequence[Tensor | None] = ()) -> Distribution:
        """The product.

        Args:
            masks: for each parent the mask of observed entries ``(B, *event)``, or None if all were.
        """
        self.check_parents(parents)
        experts = [
            _Expert(gaussian_moments(expert(value)))  # type: ignore[arg-type]
            for (_, expert), value in zip(self.experts.items(), parents, strict=True)
        ]
        for expert, mask in zip(experts, masks or [None] * len(experts), strict=True):
            if mask is not None:
                expert.only(mask.reshape(mask.shape[0], -1).any(-1))
        precision = functools.reduce(torch.add, (expert.precision for expert in experts))
        pull = functools.reduce(torch.add, (expert.pull for expert in experts))
        if precision.dim() == pull.dim():
            precision = 1 + precision
            loc, scale = pull / precision, precision.rsqrt()
            loc, scale = (value.reshape(*value.shape[:-1], *self.shape) for value in (loc, scale))
            return Normal(loc, scale, validate_args=False).to_event(len(self.shape))
        precision = precision + torch.eye(prod(self.shape), dtype=pull.dtype, device=pull.device)
        tril = tril_of_precision(precision)
        loc = (tril @ (tril.mT @ pull.unsqueeze(-1))).squeeze(-1)
        loc, tril = loc.to(experts[0].dtype), tril.to(experts[0].dtype)
        return shaped(CorrelatedGaussian(loc, scale_tril=tril, validate_args=False), self.shape)


class _Expert:
    """An expert: its precision, (..., K) or (..., K, K), and its precision times its mean, (..., K).

    Matrices are in double precision, if the device has it: the digits of a sharp expert would hide those of the others.
    """

    def __init__(self, moments: Moments):
        self.dtype = moments.loc.dtype
        if moments.tril is None:
            self.precision = moments.scale.square().reciprocal()  # type: ignore[union-attr]
            self.pull = self.precision * moments.loc
        else:
            self.precision = torch.cholesky_inverse(wide(moments.tril))
            self.pull = (self.precision @ wide(moments.loc).unsqueeze(-1)).squeeze(-1)

    def only(self, rows: Tensor) -> None:
        """Removes the contribution of the expert, in place, from all rows but those where ``rows`` (B,) is True."""
        kept = rows.to(self.pull.dtype).unsqueeze(-1)
        self.pull = kept * self.pull
        self.precision = (
            kept if self.precision.dim() == self.pull.dim() else kept.unsqueeze(-1)
        ) * self.precision

"""A prior over rows that stand at times or places: a Gaussian process of what is known of each row."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_lfm.errors import DeclarationError, ShapeError, first_line
from pyro_lfm.factors import Factor
from pyro_lfm.factors.variables import Variable
from pyro_lfm.priors.kernels import SquaredExponential
from pyro_lfm.probes import probing
from pyro_lfm.shapes import join, number, whole
from pyro_lfm.sources.drawn import Drawn
from pyro_lfm.sources.networks import promote
from pyro_lfm.sources.parameter_priors import Normal
from pyro_lfm.sources.sources import Constant, Fixed, Learned, flat_rows


class GaussianProcess(Factor):
    """z_k(t) ~ GP(0, k), k = 1 .. K: factors that vary with time or place, which every row has at its own t.

    The process is carried by its values at M inducing locations s. They are a latent of the model, shared by all rows,
    ``z.inducing``, whitened, u (M, K) ~ N(0, I): at s the process is L u, L Lᵀ = k(s, s) + ε I. Given them the rows are
    independent,

        z(t) | u ~ N(A(t) u, k(t, t) − A(t) A(t)ᵀ),  A(t) = k(t, s) L⁻ᵀ,  its variance at least ε.

    So z(t) has the variance of the process at every t, and z(t), z(t') the covariance A(t) A(t')ᵀ: k itself, but for ε,
    where t or t' is one of s, and close to k where s is dense for k. This is the FITC model, and as rows are independent
    given u, minibatches are exact: every bound is a bound on the evidence of *this* model, and with s at all observed t
    on that of the full process. Titsias (2009) and SVGP (Hensman et al., 2013) keep the model a full process and use u in
    the guide alone, q(z, u) = p(z | u) q(u) with the exact, dependent p(z | u): their bound is on the evidence of the full
    process, which this one may exceed. GP-VAEs put the process on z as here: Casale et al. (2018) with a low-rank kernel
    by exact algebra, Fortuin et al. (2020) with a full kernel per series and a guide in time.

    The guide: ``GaussianMessage`` of z, which knows the process, so that rows without data are predicted by it; a plain
    ``Gaussian`` pays for what it does not know of u, the more the denser s. q of ``z.inducing`` has a variance for each
    entry by default, as every parameter with a prior; given data its entries depend on each other, and a full covariance
    is worth its (M K)² / 2 numbers: ``Guide(model, z=..., **{"z.inducing": lfm.Gaussian(covariance=lfm.Full())})``.

    Args:
        event: K, the number of independent processes.
        kernel: ``SquaredExponential()`` by default, or any kernel of GPyTorch; a module ``kernel(t, s)``,
            ``kernel(t, diag=True)`` of t (..., B, d), with a batch shape (K,) for a kernel of each factor's own. Its
            parameters are learned. It is copied with the declaration. GPyTorch's do not compile.
        inducing: s: locations (M, d), or (M,) where t is a number, held; ``lfm.Learned(locations)`` moves them.
        given: what t is: a covariate, several, or a latent (a process of a process, or of unknown places).
        jitter: ε, in units of the variance of z: 1e-4 suits float32, down to 1e-8 float64.

    Raises:
        DeclarationError: no locations, no ``given``, a kernel that cannot be called. ShapeError: locations of another
            size than t.

    Source: Snelson and Ghahramani (2006); the name FITC: Quiñonero-Candela and Rasmussen (2005).

    >>> from pyro_lfm import Covariate, Gaussian, Linear, Model
    >>> z = GaussianProcess(1, SquaredExponential(0.2), inducing=torch.linspace(0.0, 1.0, 9), given="t")
    >>> model = Model(t=Covariate(), z=z, x=Gaussian(4, mean=Linear()))
    >>> drawn = model.sample(50, seed=0, given={"t": torch.linspace(0.0, 1.0, 50)})
    >>> drawn["z"].shape, drawn["z.inducing"].shape, bool(drawn["z"].diff(dim=0).abs().max() < 0.5)
    (torch.Size([50, 1]), torch.Size([9, 1]), True)
    """

    latent = True

    def __init__(
        self,
        event: int,
        kernel: Any = None,
        *,
        inducing: Any = None,
        given: str | Sequence[str] | None = None,
        jitter: float = 1e-4,
    ):
        super().__init__(whole("event of GaussianProcess", event), given=given)
        if self.given is None:
            raise DeclarationError('a GaussianProcess needs its time or place, a covariate: given="t"')
        source = (
            inducing
            if isinstance(inducing, Learned | Fixed)
            else None
            if inducing is None
            else Fixed(inducing)
        )
        points = None if source is None else source.tensor()
        if (
            points is None
            or points.dim() not in (1, 2)
            or not len(points)
            or not bool(points.isfinite().all())
        ):
            raise DeclarationError(
                "inducing must be locations of shape (M, d), or (M,) where t is a number, as in torch.linspace(0, 1, 20); "
                f"got {inducing if points is None else tuple(points.shape)!r}"
            )
        self.points = Constant(points.reshape(len(points), -1), isinstance(source, Learned))
        self.kernel = SquaredExponential() if kernel is None else copy.deepcopy(kernel)
        self.jitter = number("jitter", jitter, least=0.0, above=True)
        self.inducing = Drawn("inducing", torch.zeros(len(points), self.dim), Normal().distribution)
        self._check_kernel()

    def _check_kernel(self) -> None:
        ways = "expected a module such as lfm.SquaredExponential() or gpytorch.kernels.MaternKernel()"
        if not isinstance(self.kernel, nn.Module):
            raise DeclarationError(f"kernel: {ways}; got {self.kernel!r}")
        promote(self)
        points = self.points.value
        try:
            with probing(self.kernel):
                full, diagonal = _dense(self.kernel(points, points)), _dense(self.kernel(points, diag=True))
        except (TypeError, RuntimeError, NotImplementedError) as error:
            raise DeclarationError(
                f"kernel: {ways}; {type(self.kernel).__name__} failed: {first_line(error)}"
            ) from None
        size = len(points)
        of = "(M, M) or (K, M, M)"
        if full.shape[-2:] != (size, size) or diagonal.shape[-1:] != (size,):
            raise ShapeError(
                f"kernel of M={size} locations must give {of} and the diagonal; got {tuple(full.shape)}"
            )
        if full.shape[:-2] not in ((), (1,), (self.dim,)):
            raise ShapeError(
                f"kernel of M={size} locations and K={self.dim} must give {of}; got {tuple(full.shape)}"
            )

    def build(self, name: str, parents: Sequence[Variable]) -> GaussianProcess:
        super().build(name, parents)
        names = ", ".join(parent.name for parent in parents)
        wanted, found = sum(parent.code_shape.numel() for parent in parents), self.points.value.shape[1]
        if found != wanted:
            raise ShapeError(
                f"inducing of {name} must have {wanted} columns, one per number of {names}; got {found}"
            )
        return self

    def forward(self, *parents: Tensor) -> Any:
        points = self.points.value
        codes = [p.encode(value) for p, value in zip(self._parents.values(), parents, strict=True)]
        t = join(codes, [p.code_shape for p in self._parents.values()]).to(points.dtype).unsqueeze(-3)
        # A dimension for the K processes stands left of the rows': of size 1 where all have one kernel.
        gram = _dense(self.kernel(points, points))
        root = torch.linalg.cholesky(
            gram + self.jitter * torch.eye(len(points), dtype=gram.dtype, device=gram.device)
        )
        weights = torch.linalg.solve_triangular(root, _dense(self.kernel(t, points)).mT, upper=False).mT
        inducing = flat_rows(self.inducing.value, 2)
        loc = (weights @ inducing.mT.unsqueeze(-1)).squeeze(-1).mT
        left = _dense(self.kernel(t, diag=True)) - weights.square().sum(-1)
        scale = left.clamp_min(self.jitter).sqrt().mT
        return dist.Normal(loc, scale.expand(loc.shape), validate_args=False).to_event(1)

    def describe(self) -> str:
        points = self.points.value
        return f"GaussianProcess({type(self.kernel).__name__}, {len(points)} inducing locations)"


def _dense(matrix: Any) -> Tensor:
    """GPyTorch's kernels give matrices that are not made before they are asked for."""
    return matrix.to_dense() if hasattr(matrix, "to_dense") else matrix

"""The GaussianProcess: a prior for latents that vary smoothly with covariates such as time or place."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_lfm.distributions.normal import Normal
from pyro_lfm.errors import DeclarationError, ShapeError, first_line
from pyro_lfm.factors import Conditional, Prior
from pyro_lfm.factors.variables import Variable
from pyro_lfm.priors.kernels import SquaredExponential
from pyro_lfm.probes import probing
from pyro_lfm.shapes import join, number, whole
from pyro_lfm.sources import parameter_priors
from pyro_lfm.sources.applied import floating, promote
from pyro_lfm.sources.drawn import Drawn, flat_rows
from pyro_lfm.sources.values import Constant, Fixed, Learned, Value


class GaussianProcess(Prior):
    """z_k(t) ~ GP(0, k), k = 1 .. K: latents that vary with the time or place t of each row.

    The process is represented by its values at M inducing locations s. They are a latent of the model that all rows share,
    ``z.inducing``, in whitened form: u (M, K) ~ N(0, I), and at s the process is L u, L Lᵀ = k(s, s) + ε I. Given u the rows
    are independent::

        z(t) | u ~ N(A(t) u, k(t, t) − A(t) A(t)ᵀ),  A(t) = k(t, s) L⁻ᵀ,  its variance at least ε.

    So z(t) has the variance of the process at every t, and z(t), z(t') have the covariance A(t) A(t')ᵀ. It is k, up to ε, if
    t or t' is in s, and close to k if s is dense on the length scale of k. This is the FITC model. Rows are independent
    given u, so that minibatches are exact. Every bound is a bound on the evidence of *this* model, which is that of the full
    process if s contains all observed t. Titsias (2009) and SVGP (Hensman et al., 2013) keep the full process as the model
    and use u only in the guide, q(z, u) = p(z | u) q(u) with the exact, dependent p(z | u). Their bound is on the evidence
    of the full process, which the bound here may exceed. GP-VAEs have a process prior of z too: Casale et al. (2018) with a
    low-rank kernel and exact algebra, Fortuin et al. (2020) with a full kernel per series and a guide in time.

    Use ``GaussianMessage`` as the guide's factor of z. It contains the process, so that rows without data are predicted. A
    plain ``Gaussian`` does not read u, which costs more the denser s is. By default q of ``z.inducing`` has a diagonal
    covariance. The posterior of u is correlated, and a full covariance is usually worth its (M K)² / 2 numbers:
    ``Guide(model, z=..., **{"z.inducing": lfm.Gaussian(covariance=lfm.Full())})``.

    Args:
        event: K, the number of independent processes.
        kernel: ``SquaredExponential()`` by default, or any kernel of GPyTorch. It is a module ``kernel(t, s)``,
            ``kernel(t, diag=True)`` of t (..., B, d), with a batch shape (K,) for a kernel of each factor's own. Its
            parameters are learned. It is copied with the declaration. GPyTorch's do not compile.
        inducing: s, fixed locations (M, d), or (M,) if t is a number. ``lfm.Learned(locations)`` trains them.
        given: the variables that make up t: one or several covariates, or a latent, for a deep
            process or for locations that are not known.
        jitter: ε, in units of the variance of z: 1e-4 suits float32, down to 1e-8 float64.

    Raises:
        DeclarationError: no locations, no ``given``, a kernel that cannot be called.
        ShapeError: locations of another size than t.

    Use it for time series, places and other rows that are alike where t is alike.

    KL: closed form with ``GaussianMessage`` and a Gaussian q of ``z.inducing``.

    Limits: cost grows with M³, and M must cover the range of t at the length scale.

    Source: Snelson and Ghahramani (2006); the name FITC: Quiñonero-Candela and Rasmussen (2005).

    >>> import pyro_lfm as lfm
    >>> z = lfm.GaussianProcess(1, lfm.SquaredExponential(0.2), inducing=torch.linspace(0.0, 1.0, 9), given="t")
    >>> model = lfm.Model(t=lfm.Covariate(), z=z, x=lfm.Gaussian(4, mean=lfm.Linear()))
    >>> drawn = model.sample(50, seed=0, given={"t": torch.linspace(0.0, 1.0, 50)})
    >>> drawn["z"].shape, drawn["z.inducing"].shape, bool(drawn["z"].diff(dim=0).abs().max() < 0.5)
    (torch.Size([50, 1]), torch.Size([9, 1]), True)
    """

    def __init__(
        self,
        event: int,
        kernel: SquaredExponential | nn.Module | None = None,
        *,
        inducing: ArrayLike | Tensor | Learned | Fixed | None = None,
        given: str | Sequence[str] | None = None,
        jitter: float = 1e-4,
    ):
        super().__init__(whole("event of GaussianProcess", event), given=given)
        if self.given is None:
            raise DeclarationError('a GaussianProcess needs its time or place, a covariate: given="t"')
        self.inducing = inducing if isinstance(inducing, Value) or inducing is None else Fixed(inducing)
        points = None if self.inducing is None else self.inducing.tensor()
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
        self.points = points.reshape(len(points), -1)
        self.kernel = SquaredExponential() if kernel is None else kernel
        self.jitter = number("jitter", jitter, least=0.0, above=True)
        self._check_kernel()

    def build_kernel(self) -> nn.Module:
        """Builds a kernel with its own parameters."""
        return (
            self.kernel.build() if isinstance(self.kernel, SquaredExponential) else copy.deepcopy(self.kernel)
        )

    def _check_kernel(self) -> None:
        accepted = "expected a module such as lfm.SquaredExponential() or gpytorch.kernels.MaternKernel()"
        if not isinstance(self.kernel, SquaredExponential | nn.Module):
            raise DeclarationError(f"kernel: {accepted}; got {self.kernel!r}")
        kernel, points = self.build_kernel(), self.points
        kernel.to(
            max(
                [points.dtype, *(tensor.dtype for tensor in floating(kernel))],
                key=lambda t: torch.finfo(t).bits,
            )
        )
        points = points.to(next(iter(floating(kernel)), points).dtype)
        try:
            with probing(kernel):
                full, diagonal = _dense(kernel(points, points)), _dense(kernel(points, diag=True))
        except (TypeError, RuntimeError, NotImplementedError) as error:
            raise DeclarationError(
                f"kernel: {accepted}; {type(kernel).__name__} failed: {first_line(error)}"
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

    def build(self, name: str, parents: Sequence[Variable]) -> InducedProcess:
        return InducedProcess(self, name, parents)

    def describe(self) -> str:
        return f"GaussianProcess({type(self.kernel).__name__}, {len(self.points)} inducing locations)"


class InducedProcess(Conditional):
    """The process at the locations of the rows, given its values at the inducing locations, a parameter with a prior."""

    declaration: GaussianProcess

    def __init__(self, declaration: GaussianProcess, name: str, parents: Sequence[Variable]):
        super().__init__(declaration, name, parents)
        points, source = declaration.points, declaration.inducing
        assert source is not None
        names = ", ".join(parent.name for parent in parents)
        columns = sum(parent.code_shape.numel() for parent in parents)
        if points.shape[1] != columns:
            raise ShapeError(
                f"inducing of {name} must have {columns} columns, one per number of {names}; got {points.shape[1]}"
            )
        self.points = Constant(points, source.is_learned, source.dtype)
        self.kernel = declaration.build_kernel()
        values = torch.zeros(len(points), self.dim)
        self.inducing = Drawn("inducing", values, parameter_priors.Normal().distribution)
        promote(self)
        self.complete()

    def forward(self, *parents: Tensor) -> Distribution:
        """The distribution of the process at the locations given by the parents."""
        points = self.points.value
        codes = [p.encode(value) for p, value in zip(self._parents.values(), parents, strict=True)]
        t = join(codes, [p.code_shape for p in self._parents.values()]).to(points.dtype).unsqueeze(-3)
        # Left of the dimension for rows is one for the K processes, of size 1 if all have the same kernel.
        gram = _dense(self.kernel(points, points))
        jitter = self.declaration.jitter
        root = torch.linalg.cholesky(
            gram + jitter * torch.eye(len(points), dtype=gram.dtype, device=gram.device)
        )
        weights = torch.linalg.solve_triangular(root, _dense(self.kernel(t, points)).mT, upper=False).mT
        inducing = flat_rows(self.inducing.value, 2)
        loc = (weights @ inducing.mT.unsqueeze(-1)).squeeze(-1).mT
        left = _dense(self.kernel(t, diag=True)) - weights.square().sum(-1)
        scale = left.clamp_min(jitter).sqrt().mT
        return Normal(loc, scale.expand(loc.shape), validate_args=False).to_event(1)


class _Lazy(Protocol):
    def to_dense(self) -> Tensor: ...


def _dense(matrix: Tensor | _Lazy) -> Tensor:
    """A matrix as a tensor. GPyTorch's kernels return lazy matrices."""
    return matrix.to_dense()

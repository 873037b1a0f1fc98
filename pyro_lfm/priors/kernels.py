"""The default kernel of a Gaussian process."""

from __future__ import annotations

from numpy.typing import ArrayLike
from torch import Tensor

from pyro_lfm.declarations import Part
from pyro_lfm.errors import DeclarationError
from pyro_lfm.sources.declared_values import DeclaredValues
from pyro_lfm.sources.values import Fixed, Learned, Value


class SquaredExponential(Part):
    """k(t, s) = exp(−|t − s|² / (2 ℓ²)), of variance 1: smooth functions with the learned length scale ℓ.

    Args:
        lengthscale: the start of ℓ, in units of t: a number, or K numbers, one for each latent dimension.
            ``lfm.Fixed(0.2)`` is never trained.

    Use it for smooth functions of t.

    Limits: it has no period and no trend. Draws are smoother than most measured series.

    Source: Rasmussen and Williams (2006), equation 4.9.

    >>> import torch
    >>> SquaredExponential(2.0).build()(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0]])).mT
    tensor([[1.0000, 0.6065]], grad_fn=<TransposeBackward0>)
    """

    def __init__(self, lengthscale: ArrayLike | Tensor | Learned | Fixed = 1.0):
        self.lengthscale = lengthscale if isinstance(lengthscale, Value) else Learned(lengthscale)
        value = self.lengthscale.tensor()
        if value is None or value.dim() > 1 or not bool((value > 0).all() and value.isfinite().all()):
            raise DeclarationError(f"lengthscale must be above 0, one or one per factor; got {lengthscale!r}")

    def build(self) -> SquaredExponentialKernel:
        """Builds the kernel, with its own length scale."""
        return SquaredExponentialKernel(self.lengthscale)


class SquaredExponentialKernel(DeclaredValues):
    """The kernel as a module. It has the interface of GPyTorch's: ``kernel(t, s)``, ``kernel(t, diag=True)``."""

    log_lengthscale: Tensor

    def __init__(self, lengthscale: Value):
        super().__init__()
        value = lengthscale.tensor()
        assert value is not None
        self.declare("log_lengthscale", value.log(), lengthscale.dtype, learned=True)
        self.log_lengthscale.requires_grad_(lengthscale.is_learned)

    @property
    def lengthscale(self) -> Tensor:
        return self.log_lengthscale.exp()

    def forward(self, t: Tensor, s: Tensor | None = None, diag: bool = False) -> Tensor:
        """t (..., B, d), s (M, d): (..., B, M), or with a lengthscale for each of K factors (..., K, B, M)."""
        if diag:
            return t.new_ones(t.shape[:-1])
        scaled = self.lengthscale.reshape(*self.log_lengthscale.shape, 1, 1, 1)
        apart = (t.unsqueeze(-2) - (t if s is None else s).unsqueeze(-3)) / scaled
        return (-0.5 * apart.square().sum(-1)).exp()

    def extra_repr(self) -> str:
        return f"lengthscale={self.lengthscale.tolist()}"

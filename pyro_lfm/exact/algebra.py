"""Triangular factors of matrices, computed without squaring, which would lose half of the digits."""

import torch
from torch import Tensor


def triangular(factor: Tensor) -> Tensor:
    """The lower triangular L (..., n, n) with a diagonal ≥ 0 and L Lᵀ = F Fᵀ, for F (..., n, m), m ≥ n.

    >>> triangular(torch.tensor([[3.0, -4.0], [0.0, 2.0]])).round(decimals=4)
    tensor([[ 5.0000,  0.0000],
            [-1.6000,  1.2000]])
    """
    return _signed(torch.linalg.qr(factor.mT, mode="r")[1].mT)[0]


def rotated(factor: Tensor) -> tuple[Tensor, Tensor]:
    """The lower triangular L (..., n, n) with a diagonal ≥ 0 and the rotation Q with F = L Qᵀ, for square F.

    >>> tril, rotation = rotated(torch.tensor([[3.0, -4.0], [0.0, 2.0]]))
    >>> (tril @ rotation.mT).round(decimals=4)
    tensor([[ 3., -4.],
            [ 0.,  2.]])
    """
    rotation, upper = torch.linalg.qr(factor.mT)
    tril, sign = _signed(upper.mT)
    return tril, rotation * sign


def _signed(tril: Tensor) -> tuple[Tensor, Tensor]:
    sign = torch.where(tril.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(tril)[..., None, :]
    return tril * sign, sign


def square_root(matrix: Tensor) -> Tensor:
    """A factor G (..., n, n) with G Gᵀ = M for symmetric M ⪰ 0: Cholesky's, or the eigenvectors' where M is singular.

    >>> square_root(torch.tensor([[4.0, 0.0], [0.0, 0.0]])).square().sum(-1)
    tensor([4., 0.])
    """
    tril, failed = torch.linalg.cholesky_ex(matrix)
    if not failed.any():
        return tril
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(0.0).sqrt()[..., None, :]


def raised(factor: Tensor, scale: float) -> Tensor:
    """The Cholesky factor of F Fᵀ with eigenvalues below scale² raised to scale², for F (..., n, n).

    >>> raised(torch.tensor([[2.0, 0.0], [0.0, 0.1]]), 1.0)
    tensor([[2., 0.],
            [0., 1.]])
    """
    lower = not bool(factor.triu(1).any()) and bool((factor.diagonal(dim1=-2, dim2=-1) > 0).all())
    if lower and smallest_scale(factor) > scale:
        return factor
    vectors, scales, _ = torch.linalg.svd(factor)
    return triangular(vectors * scales.clamp_min(scale)[..., None, :])


def smallest_scale(tril: Tensor) -> float:
    """A lower bound of the singular values of lower triangular L (..., n, n), 1 / |L⁻¹|, cheaper than the values.

    >>> round(smallest_scale(torch.eye(2)), 4)
    0.7071
    """
    return float(1 / torch.linalg.matrix_norm(inverse(tril)).max())


def inverse(tril: Tensor) -> Tensor:
    """L⁻¹ (..., n, n) of a lower triangular L. To whiten many rows, a product with it is faster than solving.

    >>> inverse(torch.tensor([[2.0, 0.0], [1.0, 1.0]]))
    tensor([[ 0.5000,  0.0000],
            [-0.5000,  1.0000]])
    """
    identity = torch.eye(tril.shape[-1], dtype=tril.dtype).expand_as(tril)
    return torch.linalg.solve_triangular(tril, identity, upper=False)

"""Operations that ONNX or onnxruntime lack, by elementary ones: Cholesky factors, solvers, ln Γ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pyro_lfm.distributions.stirling import HALF_LOG_2PI, STIRLING

# Operations of torch, and functions of tensors that stand for them.
Decompositions: TypeAlias = Mapping[Any, Callable[..., Any]]

_LARGEST = 256  # a column of a matrix becomes some operations of a graph


class TooLarge(Exception):
    """A matrix that would make a graph of too many operations."""


def cholesky(matrix: Tensor) -> Tensor:
    """L (..., n, n), lower triangular, with L Lᵀ the matrix, column by column.

    >>> cholesky(torch.tensor([[4.0, 2.0], [2.0, 5.0]]))
    tensor([[2., 0.],
            [1., 2.]])
    """
    columns: list[Tensor] = []
    rest = matrix
    for k in range(_size(matrix)):
        column = rest[..., :, k] * rest[..., k, k].rsqrt().unsqueeze(-1)
        # Entries above the diagonal are rounding.
        column = column * (torch.arange(matrix.shape[-1], device=matrix.device) >= k).to(matrix.dtype)
        columns.append(column)
        rest = rest - column.unsqueeze(-1) * column.unsqueeze(-2)
    return torch.stack(columns, -1)


def solve_lower(tril: Tensor, target: Tensor) -> Tensor:
    """L⁻¹ b (..., n, m) of a lower triangular L, row by row."""
    rows: list[Tensor] = []
    rest = target
    for k in range(_size(tril)):
        row = rest[..., k, :] / tril[..., k, k].unsqueeze(-1)
        rows.append(row)
        rest = rest - tril[..., :, k].unsqueeze(-1) * row.unsqueeze(-2)
    return torch.stack(rows, -2)


def solve_upper(triu: Tensor, target: Tensor) -> Tensor:
    """U⁻¹ b (..., n, m) of an upper triangular U."""
    return solve_lower(triu.flip(-1, -2), target.flip(-2)).flip(-2)


def lgamma(x: Tensor) -> Tensor:
    """ln Γ(x) for x > 0, by Stirling's series at x + 8.

    >>> lgamma(torch.tensor([0.5, 3.0, 6.0])), torch.tensor([0.5, 3.0, 6.0]).lgamma()
    (tensor([0.5724, 0.6931, 4.7875]), tensor([0.5724, 0.6931, 4.7875]))
    """
    wide = x.double()
    below = wide
    for k in range(1, 8):
        below = below * (wide + k)
    # The product overflows for huge x, which need no shift.
    shifted = torch.where(wide < 1e30, wide + 8, wide)
    inverse = shifted.reciprocal()
    square = inverse * inverse
    terms = torch.full_like(square, STIRLING[-1])
    for coefficient in reversed(STIRLING[:-1]):
        terms = terms * square + coefficient
    series = inverse * terms
    value = (shifted - 0.5) * shifted.log() - shifted + HALF_LOG_2PI + series
    return (value - torch.where(wide < 1e30, below, 1.0).log()).to(x.dtype)


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """ln(1 + exp(βx)) / β, which onnxruntime has in single precision only."""
    scaled = beta * x
    return (scaled.clamp_min(0.0) + (-scaled.abs()).exp().log1p()) / beta


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: int = 0,
) -> Tensor:
    """−ln p(target) of Bernoullis, for which torch's exporter takes the logarithm of a rounded probability.

    >>> cross_entropy(torch.tensor([20.0, -3.0]), torch.tensor([1.0, 0.0]))
    tensor([2.0612e-09, 4.8587e-02])
    """
    one = softplus(-logits) if pos_weight is None else pos_weight * softplus(-logits)
    each = target * one + (1 - target) * softplus(logits)
    each = each if weight is None else each * weight
    return each.mean() if reduction == 1 else each.sum() if reduction == 2 else each


def log1p(x: Tensor) -> Tensor:
    """ln(1 + x), with the digits of small x, for which torch's exporter adds 1.

    >>> log1p(torch.tensor([1e-9, 1.0]))
    tensor([1.0000e-09, 6.9315e-01])
    """
    above = 1 + x
    lost = x - (above - 1)
    return torch.where(above == torch.inf, above, above.log() + lost / above)


def _size(matrix: Tensor) -> int:
    size = matrix.shape[-1]
    if size > _LARGEST:
        raise TooLarge(f"a covariance of {size} entries needs linear algebra that ONNX lacks")
    return size


def _cholesky_ex(matrix: Tensor, upper: bool = False, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    tril = cholesky(matrix)
    return tril.mT if upper else tril, torch.zeros(matrix.shape[:-2], dtype=torch.int32, device=matrix.device)


def _cholesky(matrix: Tensor, upper: bool = False) -> Tensor:
    return _cholesky_ex(matrix, upper)[0]


def _solve_triangular(
    matrix: Tensor, target: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    if not left:
        return _solve_triangular(matrix.mT, target.mT, upper=not upper, unitriangular=unitriangular).mT
    return (solve_upper if upper else solve_lower)(matrix, target)


def _triangular_solve(
    target: Tensor, matrix: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Tensor, Tensor]:
    if transpose:
        matrix, upper = matrix.mT, not upper
    return (solve_upper if upper else solve_lower)(matrix, target), matrix


def _cholesky_solve(target: Tensor, tril: Tensor, upper: bool = False) -> Tensor:
    tril = tril.mT if upper else tril
    return solve_upper(tril.mT, solve_lower(tril, target))


def _cholesky_inverse(tril: Tensor, upper: bool = False) -> Tensor:
    tril = tril.mT if upper else tril
    inverse = solve_lower(
        tril, torch.eye(_size(tril), dtype=tril.dtype, device=tril.device).expand(tril.shape)
    )
    return inverse.mT @ inverse


# Operations that onnxruntime has in single precision only.
_SINGLE = (
    "celu conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution elu erf gelu hardsigmoid "
    "hardswish leaky_relu mish prelu selu tan"
).split()


def _in_single(operation: Any) -> Callable[..., Any]:
    """An operation that computes in single precision where it is given double precision."""

    def single(*arguments: Any, **options: Any) -> Any:
        if not any(isinstance(a, Tensor) and a.dtype == torch.float64 for a in arguments):
            return NotImplemented
        floats = [a.float() if isinstance(a, Tensor) and a.dtype == torch.float64 else a for a in arguments]
        return operation(*floats, **options).double()

    return single


def decompositions() -> Decompositions:
    """The operations of torch by those above, for ``ExportedProgram.run_decompositions``."""
    aten: Any = torch.ops.aten
    packets = [getattr(aten, name) for name in _SINGLE]
    every = [getattr(packet, overload) for packet in packets for overload in packet.overloads()]
    return {
        **{operation: _in_single(operation) for operation in every if "out" not in operation._overloadname},
        aten.linalg_cholesky.default: _cholesky,
        aten.linalg_cholesky_ex.default: _cholesky_ex,
        aten.linalg_solve_triangular.default: _solve_triangular,
        aten.triangular_solve.default: _triangular_solve,
        aten.cholesky_solve.default: _cholesky_solve,
        aten.cholesky_inverse.default: _cholesky_inverse,
        aten.lgamma.default: lgamma,
        aten.softplus.default: softplus,
        aten.log1p.default: log1p,
        aten.binary_cross_entropy_with_logits.default: cross_entropy,
    }

"""Products of matrices and linear algebra of torch, as functions of JAX.

Convolutions are left to torch: XLA's own on a CPU were twelve times slower (32 and 64 channels, 28 x 28 pixels).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from pyro_lfm.inference.engines.xla.arrays import Axes, axes_of
from pyro_lfm.inference.engines.xla.pointwise import Function, Value


def _addmm(bias: Value, x: Value, y: Value, beta: float = 1, alpha: float = 1) -> Value:
    product = x @ y
    return beta * bias + alpha * product if (beta, alpha) != (1, 1) else bias + product


def _cholesky(x: Value, upper: bool = False, check_errors: bool = False) -> tuple[Value, Value]:
    """The factor, and for each matrix whether there is none, as LAPACK's info does."""
    lower = jnp.linalg.cholesky(x, symmetrize_input=False)
    failed = jnp.isnan(jnp.diagonal(lower, axis1=-2, axis2=-1)).any(-1).astype(jnp.int32)
    return (jnp.swapaxes(lower, -1, -2) if upper else lower), failed


def _solve_triangular(
    a: Value, b: Value, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Value:
    a, b = _same_batch(a, b)
    return lax.linalg.triangular_solve(a, b, left_side=left, lower=not upper, unit_diagonal=unitriangular)


def _triangular_solve(
    b: Value, a: Value, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Value, Value]:
    first, second = _same_batch(a, b)
    solved = lax.linalg.triangular_solve(
        first, second, left_side=True, lower=not upper, transpose_a=transpose, unit_diagonal=unitriangular
    )
    return solved, a


def _same_batch(a: Value, b: Value) -> tuple[Value, Value]:
    batch = jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return jnp.broadcast_to(a, (*batch, *a.shape[-2:])), jnp.broadcast_to(b, (*batch, *b.shape[-2:]))


def _cholesky_solve(b: Value, factor: Value, upper: bool = False) -> Value:
    return jax.scipy.linalg.cho_solve((factor, not upper), b)


def _vector_norm(x: Value, ord: int = 2, dim: Axes = None, keepdim: bool = False, **_: object) -> Value:
    axes = axes_of(dim)
    if ord == 2:  # of torch's norms the one without a kink at the axes
        return jnp.sqrt(jnp.sum(x * x, axis=axes, keepdims=keepdim))
    flat = x.reshape(-1) if axes is None else x
    return jnp.linalg.vector_norm(flat, ord=ord, axis=-1 if axes is None else axes, keepdims=keepdim)


def _distances(x: Value, y: Value, p: float, mode: int | None) -> Value:
    """The distances between the rows of x and those of y."""
    apart = x[..., :, None, :] - y[..., None, :, :]
    return jnp.linalg.norm(apart, axis=-1) if p == 2 else jnp.sum(jnp.abs(apart) ** p, -1) ** (1 / p)


TABLE: dict[str, Function] = {
    "_cdist_forward": _distances,
    "addmm": _addmm,
    "baddbmm": _addmm,
    "bmm": jnp.matmul,
    "cholesky_solve": _cholesky_solve,
    "linalg_cholesky_ex": _cholesky,
    "linalg_inv_ex": lambda x, **_: (jnp.linalg.inv(x), jnp.zeros(x.shape[:-2], jnp.int32)),
    "_linalg_check_errors": lambda *_, **__: None,
    "linalg_vector_norm": _vector_norm,
    "linalg_solve_triangular": _solve_triangular,
    "mm": jnp.matmul,
    "triangular_solve": _triangular_solve,
}

"""Operations of torch on the shape of their arguments, along dimensions, and by index, as functions of JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from pyro_lfm.inference.engines.xla.pointwise import Function, Value

Axes = int | Sequence[int] | None


def axes_of(dim: Axes) -> int | tuple[int, ...] | None:
    """The axes of a reduction: none named means all."""
    return tuple(dim) or None if isinstance(dim, list | tuple) else dim  # type: ignore[return-value]


def _reduction(reduce: Function) -> Function:
    def reduced(x: Value, dim: Axes = None, keepdim: bool = False, **_: Any) -> Value:
        return reduce(x, axis=axes_of(dim), keepdims=keepdim)

    return reduced


def _var(x: Value, dim: Axes = None, correction: int | None = None, keepdim: bool = False) -> Value:
    return jnp.var(x, axis=axes_of(dim), ddof=1 if correction is None else correction, keepdims=keepdim)


def _extreme(reduce: Function, where: Function) -> Function:
    """The largest or smallest entry; along a dimension its place too."""

    def extreme(x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
        if dim is None:
            return reduce(x)
        return reduce(x, axis=dim, keepdims=keepdim), where(x, axis=dim, keepdims=keepdim)

    return extreme


def _expand(x: Value, sizes: Sequence[int], implicit: bool = False) -> Value:
    held = (1,) * (len(sizes) - x.ndim) + x.shape
    return jnp.broadcast_to(x, [have if size == -1 else size for size, have in zip(sizes, held, strict=True)])


def _squeeze(x: Value, dim: Axes = None) -> Value:
    if dim is None:
        return jnp.squeeze(x)
    wanted = (dim,) if isinstance(dim, int) else tuple(dim)
    return jnp.squeeze(x, tuple(d for d in wanted if x.shape[d] == 1))


def _slice(x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Value:
    where = [slice(None)] * x.ndim
    where[dim] = slice(start, end, step)
    return x[tuple(where)]


def _select(x: Value, dim: int, index: int) -> Value:
    return jax.lax.index_in_dim(x, index % x.shape[dim], dim, keepdims=False)


def _slice_scatter(
    x: Value, source: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    where = [slice(None)] * x.ndim
    where[dim] = slice(start, end, step)
    return x.at[tuple(where)].set(source)


def _select_scatter(x: Value, source: Value, dim: int, index: int) -> Value:
    where: list[Any] = [slice(None)] * x.ndim
    where[dim] = index
    return x.at[tuple(where)].set(source)


def _split_with_sizes(x: Value, sizes: Sequence[int], dim: int = 0) -> list[Value]:
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
    return [_slice(x, dim, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _along(x: Value, dim: int, index: Value) -> tuple[Any, ...]:
    """The index that takes the entries at ``index`` along one dimension, which may be smaller along the others."""
    places: list[Any] = list(jnp.indices(index.shape, sparse=True))
    places[dim] = index
    return tuple(places)


def _gather(x: Value, dim: int, index: Value, sparse_grad: bool = False) -> Value:
    return x if not x.ndim else x[_along(x, dim, index)]


def _scatter(x: Value, dim: int, index: Value, source: Value) -> Value:
    where = _along(x, dim, index)
    if hasattr(source, "shape") and source.shape:
        source = source[tuple(slice(0, size) for size in index.shape)]
    return x.at[where].set(source)


def _scatter_add(x: Value, dim: int, index: Value, source: Value) -> Value:
    return x.at[_along(x, dim, index)].add(source[tuple(slice(0, size) for size in index.shape)])


def _places(indices: Sequence[Value | None]) -> tuple[Any, ...]:
    return tuple(slice(None) if index is None else index for index in indices)


def _index_put(x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False) -> Value:
    at = x.at[_places(indices)]
    return at.add(values) if accumulate else at.set(values)


def _index_add(x: Value, dim: int, index: Value, source: Value, alpha: float = 1) -> Value:
    return x.at[(slice(None),) * (dim % x.ndim) + (index,)].add(alpha * source)


def _pad(x: Value, pad: Sequence[int], value: float = 0.0) -> Value:
    pairs = [(before, after, 0) for before, after in zip(pad[::2], pad[1::2], strict=True)][::-1]
    return jax.lax.pad(x, jnp.asarray(value, x.dtype), [(0, 0, 0)] * (x.ndim - len(pairs)) + pairs)


def _diagonal(x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    return jnp.diagonal(x, offset, dim1, dim2)


def _diagonal_scatter(x: Value, source: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    moved = jnp.moveaxis(x, (dim1, dim2), (-2, -1))
    row, column = (
        jnp.arange(source.shape[-1]) + max(0, -offset),
        jnp.arange(source.shape[-1]) + max(0, offset),
    )
    return jnp.moveaxis(moved.at[..., row, column].set(source), (-2, -1), (dim1, dim2))


def _glu(x: Value, dim: int = -1) -> Value:
    value, gate = jnp.split(x, 2, dim)
    return value * jax.nn.sigmoid(gate)


def _topk(x: Value, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Value:
    order = _slice(jnp.argsort(x, axis=dim, descending=largest, stable=True), dim, 0, k)
    return jnp.take_along_axis(x, order, dim), order


def _sort(x: Value, dim: int = -1, descending: bool = False, stable: bool | None = None) -> Value:
    order = jnp.argsort(x, axis=dim, descending=descending, stable=True)
    return jnp.take_along_axis(x, order, dim), order


def _logsumexp(x: Value, dim: Axes, keepdim: bool = False) -> Value:
    return jax.scipy.special.logsumexp(x, axis=axes_of(dim), keepdims=keepdim)


def _softmax(x: Value, dim: int, half_to_float: bool = False) -> Value:
    return jax.nn.softmax(x, dim)


def _log_softmax(x: Value, dim: int, half_to_float: bool = False) -> Value:
    return jax.nn.log_softmax(x, dim)


TABLE: dict[str, Function] = {
    "_log_softmax": _log_softmax,
    "_softmax": _softmax,
    "_unsafe_view": jnp.reshape,
    "alias": lambda x: x,
    "all": _reduction(jnp.all),
    "amax": _reduction(jnp.max),
    "amin": _reduction(jnp.min),
    "any": _reduction(jnp.any),
    "argmax": lambda x, dim=None, keepdim=False: jnp.argmax(x, dim, keepdims=keepdim),
    "argmin": lambda x, dim=None, keepdim=False: jnp.argmin(x, dim, keepdims=keepdim),
    "cat": lambda tensors, dim=0: jnp.concatenate([x for x in tensors if x.shape != (0,)], dim),
    "clone": lambda x, **_: x,
    "constant_pad_nd": _pad,
    "copy": lambda x, source, **_: jnp.broadcast_to(source, x.shape),
    "cumprod": lambda x, dim, **_: jnp.cumprod(x, dim),
    "cumsum": lambda x, dim, **_: jnp.cumsum(x, dim),
    "detach": lambda x: x,
    "diagonal": _diagonal,
    "diagonal_scatter": _diagonal_scatter,
    "embedding": lambda weight, index, *_: weight[index],
    "expand": _expand,
    "flip": lambda x, dims: jnp.flip(x, tuple(dims)),
    "gather": _gather,
    "glu": _glu,
    "index": lambda x, indices: x[_places(indices)],
    "index_add": _index_add,
    "index_put": _index_put,
    "index_select": lambda x, dim, index: jnp.take(x, index, dim),
    "lift_fresh_copy": lambda x: x,
    "logsumexp": _logsumexp,
    "max": _extreme(jnp.max, jnp.argmax),
    "mean": _reduction(jnp.mean),
    "min": _extreme(jnp.min, jnp.argmin),
    "permute": lambda x, dims: jnp.transpose(x, tuple(dims)),
    "prod": _reduction(jnp.prod),
    "repeat": lambda x, repeats: jnp.tile(x, tuple(repeats)),
    "scatter": _scatter,
    "scatter_add": _scatter_add,
    "select": _select,
    "select_scatter": _select_scatter,
    "slice": _slice,
    "slice_scatter": _slice_scatter,
    "sort": _sort,
    "split_with_sizes": _split_with_sizes,
    "squeeze": _squeeze,
    "stack": lambda tensors, dim=0: jnp.stack(tensors, dim),
    "sum": _reduction(jnp.sum),
    "t": lambda x: x.T,
    "topk": _topk,
    "transpose": lambda x, a, b: jnp.swapaxes(x, a, b),
    "tril": lambda x, diagonal=0: jnp.tril(x, diagonal),
    "triu": lambda x, diagonal=0: jnp.triu(x, diagonal),
    "unbind": lambda x, dim=0: [_select(x, dim, k) for k in range(x.shape[dim])],
    "unsqueeze": lambda x, dim: jnp.expand_dims(x, dim),
    "var": _var,
    "view": jnp.reshape,
}

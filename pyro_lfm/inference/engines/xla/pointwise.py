"""Operations of torch on each entry of their arguments, as functions of JAX, by the name that torch gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy import special

Value = Any  # a jax.Array, or a number
Function = Callable[..., Any]


def _add(x: Value, y: Value, alpha: float = 1) -> Value:
    return x + (y if alpha == 1 else alpha * y)


def _sub(x: Value, y: Value, alpha: float = 1) -> Value:
    return x - (y if alpha == 1 else alpha * y)


def _div(x: Value, y: Value, rounding_mode: str | None = None) -> Value:
    quotient = jnp.true_divide(x, y)
    rounding: dict[str | None, Function] = {None: lambda q: q, "floor": jnp.floor, "trunc": jnp.trunc}
    return rounding[rounding_mode](quotient)


def _pow(x: Value, power: Value) -> Value:
    # Squares and the like are products, not exponentials of logarithms.
    if isinstance(power, int | float) and float(power).is_integer() and 0 <= power <= 8:
        return jnp.asarray(x) ** int(power)
    return jnp.power(x, power)


def _clamp(x: Value, least: Value | None = None, most: Value | None = None) -> Value:
    # NaN stays NaN, as in torch.
    x = x if least is None else jnp.maximum(x, least)
    return x if most is None else jnp.minimum(x, most)


def _gelu(x: Value, approximate: str = "none") -> Value:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def _elu(x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Value:
    return scale * jnp.where(x > 0, x, alpha * jnp.expm1(input_scale * jnp.minimum(x, 0)))


def _addcmul(x: Value, y: Value, z: Value, *, value: float = 1) -> Value:
    return x + value * y * z


def _addcdiv(x: Value, y: Value, z: Value, *, value: float = 1) -> Value:
    return x + value * y / z


def _polygamma(order: int, x: Value) -> Value:
    return special.polygamma(order, x)


def _log_ndtr(x: Value) -> Value:
    return special.log_ndtr(x)


def _softplus(x: Value, beta: float = 1, threshold: float = 20) -> Value:
    return jnp.where(x * beta > threshold, x, jnp.log1p(jnp.exp(jnp.minimum(x * beta, threshold))) / beta)


def _cross_entropy(
    x: Value, y: Value, weight: Value | None = None, of_ones: Value | None = None, reduction: int = 1
) -> Value:
    """-log p(y) of a Bernoulli distribution by its logits."""
    positive = 1 if of_ones is None else 1 + (of_ones - 1) * y
    entropy = (1 - y) * x + positive * (jnp.log1p(jnp.exp(-jnp.abs(x))) + jnp.maximum(-x, 0))
    entropy = entropy if weight is None else weight * entropy
    return [lambda e: e, jnp.mean, jnp.sum][reduction](entropy)


def _softplus_backward(gradient: Value, x: Value, beta: float, threshold: float) -> Value:
    return gradient * jnp.where(x * beta > threshold, 1, jax.nn.sigmoid(x * beta))


def _xlogy(x: Value, y: Value) -> Value:
    return jnp.where(jnp.isnan(y), jnp.nan, special.xlogy(x, y))


TABLE: dict[str, Function] = {
    "abs": jnp.abs,
    "acos": jnp.arccos,
    "add": _add,
    "addcdiv": _addcdiv,
    "addcmul": _addcmul,
    "asin": jnp.arcsin,
    "asinh": jnp.arcsinh,
    "atan": jnp.arctan,
    "atan2": jnp.arctan2,
    "atanh": jnp.arctanh,
    "binary_cross_entropy_with_logits": _cross_entropy,
    "bitwise_and": jnp.bitwise_and,
    "bitwise_not": jnp.bitwise_not,
    "bitwise_or": jnp.bitwise_or,
    "bitwise_xor": jnp.bitwise_xor,
    "ceil": jnp.ceil,
    "clamp": _clamp,
    "clamp_max": lambda x, most: _clamp(x, None, most),
    "clamp_min": _clamp,
    "cos": jnp.cos,
    "cosh": jnp.cosh,
    "digamma": special.digamma,
    "div": _div,
    "elu": _elu,
    "eq": jnp.equal,
    "erf": special.erf,
    "erfc": special.erfc,
    "erfinv": special.erfinv,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "floor": jnp.floor,
    "fmax": jnp.fmax,
    "fmin": jnp.fmin,
    "fmod": jnp.fmod,
    "ge": jnp.greater_equal,
    "gelu": _gelu,
    "gt": jnp.greater,
    "hypot": jnp.hypot,
    "i0": special.i0,
    "isfinite": jnp.isfinite,
    "isinf": jnp.isinf,
    "isnan": jnp.isnan,
    "le": jnp.less_equal,
    "leaky_relu": lambda x, slope=0.01: jnp.where(x > 0, x, slope * x),
    "lerp": lambda x, y, weight: x + weight * (y - x),
    "lgamma": special.gammaln,
    "log": jnp.log,
    "log10": jnp.log10,
    "log1p": jnp.log1p,
    "log2": jnp.log2,
    "logaddexp": jnp.logaddexp,
    "logical_and": jnp.logical_and,
    "logical_not": jnp.logical_not,
    "logical_or": jnp.logical_or,
    "logical_xor": jnp.logical_xor,
    "lt": jnp.less,
    "masked_fill": lambda x, mask, value: jnp.where(mask, value, x),
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "mul": jnp.multiply,
    "ne": jnp.not_equal,
    "neg": jnp.negative,
    "polygamma": _polygamma,
    "pow": _pow,
    "reciprocal": jnp.reciprocal,
    "relu": lambda x: jnp.maximum(x, 0),
    "remainder": jnp.remainder,
    "round": jnp.round,
    "rsqrt": jax.lax.rsqrt,
    "rsub": lambda x, y, alpha=1: _sub(y, x, alpha),
    "sgn": jnp.sign,
    "sigmoid": jax.nn.sigmoid,
    "sigmoid_backward": lambda gradient, y: gradient * y * (1 - y),
    "sign": jnp.sign,
    "sin": jnp.sin,
    "sinh": jnp.sinh,
    "softplus": _softplus,
    "softplus_backward": _softplus_backward,
    "special_erfcx": lambda x: jnp.exp(x * x) * special.erfc(x),
    "special_log_ndtr": _log_ndtr,
    "special_ndtri": special.ndtri,
    "sqrt": jnp.sqrt,
    "square": jnp.square,
    "sub": _sub,
    "tan": jnp.tan,
    "tanh": jnp.tanh,
    "tanh_backward": lambda gradient, y: gradient * (1 - y * y),
    "threshold_backward": lambda gradient, x, threshold: jnp.where(x <= threshold, 0, gradient),
    "trunc": jnp.trunc,
    "where": jnp.where,
    "xlogy": _xlogy,
}

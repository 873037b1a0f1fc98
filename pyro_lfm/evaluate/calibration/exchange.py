"""The null distribution of every test in this folder: under the exact posterior a row's truth is one more of its draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pyro_lfm.errors import DataError, ShapeError
from pyro_lfm.evaluate.decoding.names_of_factors import entry_names
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.shapes import whole

# Number of exchanges of truth and draws. p-values are multiples of 1/1000.
EXCHANGES = 999
# Level of the bands that pictures show.
LEVEL = 0.05
_FEWEST_ROWS, _FEWEST_DRAWS = 20, 9
# Part of every seed, so that a test shares no noise with data that were drawn from the same seed.
_OWN = 0x5BC


def generator(seed: int) -> np.random.Generator:
    """The random generator of one test."""
    return np.random.default_rng([whole("seed", seed, least=0), _OWN])


def split_seed(seed: int, count: int) -> list[int]:
    """Seeds for the parts of a test."""
    return [int(n) for n in generator(seed).integers(2**62, size=count)]


def members_of(truth: Array, draws: Array, names: tuple[str, str] = ("truth", "draws")) -> np.ndarray:
    """The truth of each row and its draws side by side, (1 + L, N, C), the truth first.

    Args:
        truth: (N, C), or (N,) for C = 1. draws: (L, N, C), or (L, N).
        names: the names of the two arguments, for error messages.
    """
    first, others = (array_of(name, value) for name, value in zip(names, (truth, draws), strict=True))
    if first.ndim == 1 and others.ndim == 2:
        first, others = first[:, None], others[:, :, None]
    if first.ndim != 2 or others.ndim != 3 or others.shape[1:] != first.shape or not first.shape[1]:
        raise ShapeError(
            f"{names[0]} and {names[1]} must have shapes (N, K) and (L, N, K), or (N,) and (L, N); got "
            f"{np.shape(truth)} and {np.shape(draws)}"
        )
    if len(first) < _FEWEST_ROWS or len(others) < _FEWEST_DRAWS:
        raise DataError(
            f"{names[0]} must have at least {_FEWEST_ROWS} rows and {names[1]} {_FEWEST_DRAWS} draws of each; got "
            f"{len(first)} rows and {len(others)} draws"
        )
    members = np.concatenate([first[None], others])
    if np.isnan(members).any():
        raise DataError(f"{names[0]} and {names[1]} must be numbers; got NaN")
    return members


def finite(members: np.ndarray) -> np.ndarray:
    """Members of each column divided by their largest absolute value, with infinite values replaced by finite ones.

    An infinite value is placed beyond the finite ones, at a distance of their range. log q(z* | x) is infinite where q has
    no mass. Truth and draws are treated alike.
    """
    seen = np.isfinite(members)
    size = np.where(seen, np.abs(members), 0.0).max((0, 1))
    members = members / np.where(size > 0, size, 1.0)
    low = np.where(seen, members, np.inf).min((0, 1))
    high = np.where(seen, members, -np.inf).max((0, 1))
    some = np.isfinite(low)
    low, high = np.where(some, low, 0.0), np.where(some, high, 0.0)
    return np.clip(members, low - (high - low) - 1.0, high + (high - low) + 1.0)


def ranks_of(members: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The rank of every member among the 1 + L of its row, 0 to L, column by column: (1 + L, N, C).

    Equal values, as labels have, are put in random order.

    >>> ranks_of(np.array([3.0, 1.0, 2.0]).reshape(3, 1, 1), np.random.default_rng(0)).ravel().tolist()
    [2, 0, 1]
    """
    order = rng.permuted(np.tile(np.arange(len(members))[:, None], members.shape[1]), axis=0)
    ranks = np.empty(members.shape, dtype=np.int32)
    for column in range(members.shape[2]):
        shuffled = np.take_along_axis(members[:, :, column], order, 0)
        own = np.argsort(np.argsort(shuffled, axis=0, kind="stable"), axis=0)
        np.put_along_axis(ranks[:, :, column], order, own, 0)
    return ranks


def exchange_counts(ranks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How many rows have each rank of the truth, (1 + B, C, 1 + L): first as observed, then for B exchanges.

    An exchange takes a random member of each row as its truth. All columns are exchanged together, so that the null has
    the dependence between them.
    """
    size, rows, columns = ranks.shape
    chosen = rng.integers(size, size=(EXCHANGES, rows))
    counts = np.empty((1 + EXCHANGES, columns, size), dtype=np.int32)
    shift = np.arange(1 + EXCHANGES)[:, None] * size
    for column in range(columns):
        own = ranks[:, :, column]
        picked = np.concatenate([own[:1], own[chosen, np.arange(rows)]])
        flat = np.bincount((picked + shift).ravel(), minlength=counts[:, 0].size)
        counts[:, column] = flat.reshape(-1, size)
    return counts


def corrected_p_values(statistic: np.ndarray) -> tuple[np.ndarray, float]:
    """p-values (C,), each corrected for there being C columns, and the critical value at 5%.

    p = (1 + #{b : max_c T_bc ≥ T_0c}) / (1 + B) with B exchanges. It is exact for every distribution of T. The smallest of
    them is the p-value of all columns together (Westfall and Young, 1993; Hemerik and Goeman, 2018).

    Args:
        statistic: T, (1 + B, C), the first as observed. Large values speak against the null.
    """
    top = statistic.max(1)
    p = (top[:, None] >= statistic[0] - 1e-12).mean(0)
    allowed = int(LEVEL * len(top) + 1e-9)
    return p, float(np.sort(top[1:])[-allowed])


def column_names(names: Sequence[str] | None, columns: int) -> tuple[str, ...]:
    """Names of the K columns, z_1, z_2, ... by default, or z where there is one."""
    if names is not None and (isinstance(names, str) or not isinstance(names, Sequence)):
        raise DataError(f"names must be a list of {columns} names; got {names!r}")
    labels = tuple(map(str, names)) if names is not None else tuple(entry_names("z", columns))
    if len(labels) != columns:
        raise ShapeError(f"names must hold one name for each of the K={columns} columns; got {len(labels)}")
    return labels


def tensor(values: np.ndarray) -> torch.Tensor:
    """A NumPy array as a tensor."""
    return torch.as_tensor(np.ascontiguousarray(values))


def p_text(p: float) -> str:
    """A p-value as text, bounded by the number of exchanges."""
    return f"p = {p:.3f}" if p > 1.5 / (1 + EXCHANGES) else f"p ≤ {1 / (1 + EXCHANGES):g}"


def array_of(name: str, value: Array) -> np.ndarray:
    """An argument as an array of real numbers; ``name`` is for error messages."""
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
        if array.dtype.kind != "c":
            return array.astype(np.float64)
    except (TypeError, ValueError):
        raise ShapeError(
            f"{name} must be a tensor or an array of numbers; got a {type(value).__name__}, which is neither"
        ) from None
    raise ShapeError(f"{name} must be a tensor or an array of real numbers; got dtype {array.dtype}")

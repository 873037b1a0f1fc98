"""The null of every test here: under the exact posterior the truth of a row is one more of its draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pyro_lfm.errors import DataError, ShapeError
from pyro_lfm.shapes import whole

# Times that truth and draws change places: p-values are multiples of 1/1000.
EXCHANGES = 999
# Level of the bands that pictures show.
LEVEL = 0.05
_FEWEST_ROWS, _FEWEST_DRAWS = 20, 9
# Goes into every seed, so that data which were made with the same seed have no noise in common with a test.
_OWN = 0x5BC


def generator(seed: int) -> np.random.Generator:
    """Noise of a test."""
    return np.random.default_rng([whole("seed", seed, least=0), _OWN])


def seeds(seed: int, count: int) -> list[int]:
    """Seeds of several parts of a test."""
    return [int(n) for n in generator(seed).integers(2**62, size=count)]


def members_of(truth: Any, draws: Any, names: tuple[str, str] = ("truth", "draws")) -> np.ndarray:
    """The truth of each row and its draws side by side, (1 + L, N, C), the truth first.

    Args:
        truth: (N, C), or (N,) for C = 1. draws: (L, N, C), or (L, N).
        names: of the arguments, for the errors.
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
    found = np.concatenate([first[None], others])
    if np.isnan(found).any():
        raise DataError(f"{names[0]} and {names[1]} must be numbers; got NaN")
    return found


def finite(members: np.ndarray) -> np.ndarray:
    """Members of each column in units of their largest size, infinite ones as far beyond the others as these reach.

    Infinite is log q(z* | x) where q has no mass. What is done treats truth and draws alike.
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
    found = np.empty(members.shape, dtype=np.int32)
    for column in range(members.shape[2]):
        shuffled = np.take_along_axis(members[:, :, column], order, 0)
        ranks = np.argsort(np.argsort(shuffled, axis=0, kind="stable"), axis=0)
        np.put_along_axis(found[:, :, column], order, ranks, 0)
    return found


def exchanged(ranks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often the truth of a row has each rank, (1 + B, C, 1 + L): as it is, then with a member chosen at random as truth.

    All columns are exchanged together, so that whatever dependence they have stands in the null too.
    """
    size, rows, columns = ranks.shape
    chosen = rng.integers(size, size=(EXCHANGES, rows))
    found = np.empty((1 + EXCHANGES, columns, size), dtype=np.int32)
    shift = np.arange(1 + EXCHANGES)[:, None] * size
    for column in range(columns):
        own = ranks[:, :, column]
        picked = np.concatenate([own[:1], own[chosen, np.arange(rows)]])
        found[:, column] = np.bincount((picked + shift).ravel(), minlength=found[:, 0].size).reshape(-1, size)
    return found


def corrected(statistic: np.ndarray) -> tuple[np.ndarray, float]:
    """p-values (C,), each corrected for there being C columns, and the critical value at 5%.

    p = (1 + #{b : max_c T_bc ≥ T_0c}) / (1 + B) with B exchanges: exact whatever the distribution of T, and the least of them is
    the p-value of the whole (Westfall and Young, 1993; Hemerik and Goeman, 2018).

    Args:
        statistic: (1 + B, C), the first as observed, large where something is wrong.
    """
    top = statistic.max(1)
    p = (top[:, None] >= statistic[0] - 1e-12).mean(0)
    allowed = int(LEVEL * len(top) + 1e-9)
    return p, float(np.sort(top[1:])[-allowed])


def column_names(names: Sequence[str] | None, columns: int) -> tuple[str, ...]:
    """Names of the K columns."""
    if names is not None and (isinstance(names, str) or not isinstance(names, Sequence)):
        raise DataError(f"names must be a list of {columns} names; got {names!r}")
    found = tuple(map(str, names)) if names is not None else tuple(f"z[{k}]" for k in range(columns))
    if len(found) != columns:
        raise ShapeError(f"names must hold one name for each of the K={columns} columns; got {len(found)}")
    return found


def tensor(values: Any) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(values))


def said(p: float) -> str:
    """A p-value in words."""
    return f"p = {p:.3f}" if p > 1.5 / (1 + EXCHANGES) else f"p ≤ {1 / (1 + EXCHANGES):g}"


def array_of(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
        if array.dtype.kind != "c":
            return array.astype(np.float64)
    except (TypeError, ValueError):
        raise ShapeError(
            f"{name} must be a tensor or an array of numbers; got a {type(value).__name__} that is none"
        ) from None
    raise ShapeError(f"{name} must be a tensor or an array of real numbers; got dtype {array.dtype}")

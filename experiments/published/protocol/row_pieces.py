"""log p(x) of many rows, some rows at a time: what is done is kept in a folder, so that a later call goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import pyro_lfm as lfm


@dataclass(frozen=True)
class Estimated:
    """log p(x) of some rows, in random order.

    Attributes:
        index: the rows (n,).
        log_p, error, k: log p(x) of each, its standard error from the draws, and k̂.
        unreliable: whether k̂ is above its limit.
        seconds: of computation.
    """

    index: Tensor
    log_p: Tensor
    error: Tensor
    k: Tensor
    unreliable: Tensor
    seconds: float


def in_pieces(
    fit: lfm.Fit, rows: Tensor, draws: int, folder: Path, size: int = 250, until: float = float("inf")
) -> Estimated:
    """Importance-weighted estimates of log p(x), piece by piece, of rows in an order of their own.

    Args:
        size: rows of a piece.
        until: the time, as ``time.time()`` gives it, after which no further piece is begun.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    done = []
    for number, index in enumerate(order.split(size)):
        path = folder / f"{number:04}.npz"
        if not path.exists():
            if time.time() > until:
                break
            began = time.perf_counter()
            result = lfm.evaluate.log_likelihood(fit, rows[index], draws=draws, seed=number)
            seconds = time.perf_counter() - began
            part = np.stack([result.per_row, result.standard_error, result.pareto_k, result.unreliable])
            temporary = path.with_suffix(".part.npz")
            np.savez(temporary, part=part, index=index, seconds=seconds)
            temporary.rename(path)
            print(f"rows {number * size + len(index):,} of {len(rows):,}, {seconds:.0f} s", flush=True)
        done.append(np.load(path))
    log_p, error, k, unreliable = torch.from_numpy(np.concatenate([piece["part"] for piece in done], 1))
    index = torch.from_numpy(np.concatenate([piece["index"] for piece in done]))
    return Estimated(index, log_p, error, k, unreliable > 0, sum(float(piece["seconds"]) for piece in done))

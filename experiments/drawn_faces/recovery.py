"""The factors that a fit recovers: how its codes relate to the drawn factors, and to the codes of the other seeds."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import pyro_lfm as lfm


def scores(codes: dict[str, Tensor], factors: dict[str, Tensor]) -> dict[str, dict]:
    """Disentanglement of each code."""
    measured = {}
    for name, code in codes.items():
        of_code = lfm.evaluate.representation.disentanglement_of_codes(code, factors, seed=0)
        dci = {
            part: float(getattr(of_code.dci, part))
            for part in ("disentanglement", "completeness", "informativeness")
        }
        measured[name] = {"mig": of_code.mig, "sap": of_code.sap, "dci": dci}
    return measured


def common_faces(n: int = 1000) -> Tensor:
    """Faces that no seed learns from, the same for all seeds."""
    return lfm.data.faces(n=n, seed=5000).x


def codes_file(out: Path, seed: int) -> Path:
    return out / f"codes_{seed}.npz"


def save_codes(path: Path, codes: dict[str, Tensor]) -> None:
    """Codes of the common faces, from which the seeds are aligned once all have run."""
    np.savez(path, **{name: code.numpy() for name, code in codes.items()})  # type: ignore[arg-type]


def alignment(paths: list[Path]) -> dict[str, float]:
    """The mean |r| of matched codes over all pairs of seeds, by the name of the code. Empty for one seed."""
    every = [{name: torch.from_numpy(code) for name, code in np.load(path).items()} for path in paths]
    matched: dict[str, list[float]] = {}
    for first, second in combinations(every, 2):
        for name in first:
            pair = lfm.evaluate.representation.align_codes(first[name], second[name])
            matched.setdefault(name, []).append(pair.mean)
    return {name: sum(values) / len(values) for name, values in matched.items()}

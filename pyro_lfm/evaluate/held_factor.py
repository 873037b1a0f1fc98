"""Scores that tell, from rows that share the value of one factor, which factor it is."""

from __future__ import annotations

import numpy as np

from pyro_lfm.errors import DataError
from pyro_lfm.evaluate.codes import Known, standardised

# Rows of a group, the fewest that a value must have, and groups to learn from and to be scored on.
_GROUP, _FEWEST, _GROUPS = 64, 10, 800


def held_factor(codes: np.ndarray, factors: list[Known], seed: int) -> tuple[float, float]:
    """The FactorVAE score and the β-VAE score, each an accuracy on groups that were not learned from.

    Groups are rows of the data that share a value, or a bin, of factor k, drawn without repetition. FactorVAE (Kim and
    Mnih, 2018): the code whose variance within the group is least, relative to its variance in all rows, votes for k.
    β-VAE (Higgins et al., 2017): a linear classifier sees the mean |zᵢ - zᵢ'| over pairs of the group. Codes are
    standardised, constant ones left out. By chance both are 1 / F.
    """
    from sklearn.linear_model import LogisticRegression

    codes = standardised(codes)
    codes = codes[:, codes.any(0)]
    if not codes.size or len(factors) == 1:
        return 1 / len(factors), 1 / len(factors)
    rng = np.random.default_rng(seed)
    values = [_shared(factor) for factor in factors]
    held = rng.integers(len(factors), size=2 * _GROUPS)
    least, differences = np.empty(len(held), dtype=int), np.empty((len(held), codes.shape[1]))
    for group, factor in enumerate(held):
        rows = values[factor][rng.integers(len(values[factor]))]
        members = codes[rng.choice(rows, min(_GROUP, len(rows)), replace=False)]
        least[group] = members.var(0).argmin()
        half = len(members) // 2
        differences[group] = np.abs(members[:half] - members[half : 2 * half]).mean(0)
    learned, scored = slice(_GROUPS), slice(_GROUPS, None)
    votes = np.zeros((codes.shape[1], len(factors)))
    np.add.at(votes, (least[learned], held[learned]), 1)
    by_variance = (votes.argmax(1)[least[scored]] == held[scored]).mean()
    classifier = LogisticRegression(C=100.0, max_iter=1000).fit(differences[learned], held[learned])
    return float(by_variance), float(classifier.score(differences[scored], held[scored]))


def _shared(factor: Known) -> list[np.ndarray]:
    """The rows of each value of a factor that has enough of them."""
    order = np.argsort(factor.levels, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(factor.levels[order])) + 1)
    enough = [rows for rows in parts if len(rows) >= _FEWEST]
    if not enough:
        raise DataError(
            f"factor {factor.name} must have a value that at least {_FEWEST} rows share; "
            f"got at most {max(map(len, parts))}: give more rows"
        )
    return enough

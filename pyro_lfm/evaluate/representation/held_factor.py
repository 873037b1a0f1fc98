"""The FactorVAE and β-VAE scores: from rows that share the value of one factor, predict which factor it is."""

from __future__ import annotations

import numpy as np

from pyro_lfm.errors import DataError
from pyro_lfm.evaluate.representation.codes import Known, standardised

# Rows of a group, the fewest rows of a value, and the number of training groups and of scored groups.
_GROUP, _FEWEST, _GROUPS = 64, 10, 800


def held_factor_scores(codes: np.ndarray, factors: list[Known], seed: int) -> tuple[float, float]:
    """The FactorVAE score and the β-VAE score, each an accuracy on rows outside of the training set.

    A group is a set of rows that share a value, or a bin, of factor k, drawn without repetition. Training groups come from
    one half of the rows, scored groups from the other. FactorVAE (Kim and Mnih, 2018): the code with the smallest variance
    within the group, relative to its variance in all rows, votes for k. β-VAE (Higgins et al., 2017): a linear classifier
    of the mean |zᵢ - zᵢ'| over pairs of the group. Codes are standardised, and constant ones left out. Both are 1 / F by
    chance.
    """
    from sklearn.linear_model import LogisticRegression

    codes = standardised(codes)
    codes = codes[:, codes.any(0)]
    if not codes.size or len(factors) == 1:
        return 1 / len(factors), 1 / len(factors)
    rng = np.random.default_rng(seed)
    learn, score = np.array_split(rng.permutation(len(codes)), 2)
    held, least, differences = _groups(codes, factors, learn, rng)
    classifier = LogisticRegression(C=100.0, max_iter=1000).fit(differences, held)
    votes = np.zeros((codes.shape[1], len(factors)))
    np.add.at(votes, (least, held), 1)
    held, least, differences = _groups(codes, factors, score, rng)
    return float((votes.argmax(1)[least] == held).mean()), float(classifier.score(differences, held))


def _groups(
    codes: np.ndarray, factors: list[Known], rows: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each group: the shared factor, the code that varies least, and the mean distance of pairs."""
    values = [_shared(factor, rows) for factor in factors]
    held = rng.integers(len(factors), size=_GROUPS)
    least, differences = np.empty(_GROUPS, dtype=int), np.empty((_GROUPS, codes.shape[1]))
    for group, factor in enumerate(held):
        sharing = values[factor][rng.integers(len(values[factor]))]
        members = codes[rng.choice(sharing, min(_GROUP, len(sharing)), replace=False)]
        least[group] = members.var(0).argmin()
        half = len(members) // 2
        differences[group] = np.abs(members[:half] - members[half : 2 * half]).mean(0)
    return held, least, differences


def _shared(factor: Known, rows: np.ndarray) -> list[np.ndarray]:
    """For each value of a factor with enough rows, its rows."""
    levels = factor.levels[rows]
    parts = [rows[levels == level] for level in np.unique(levels)]
    enough = [part for part in parts if len(part) >= _FEWEST]
    if not enough:
        raise DataError(
            f"factor {factor.name} must have a value that at least {_FEWEST} rows of each half share; "
            f"got at most {max(map(len, parts))}: give more rows"
        )
    return enough

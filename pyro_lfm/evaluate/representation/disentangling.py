"""Disentanglement scores: does each code of a representation stand for one known factor?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from pyro_lfm.errors import DataError, ShapeError
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.evaluate.representation.codes import Known, binned, codes_of, factors_of, mutual_information
from pyro_lfm.evaluate.representation.held_factor import held_factor_scores
from pyro_lfm.evaluate.representation.importance_matrix import DCI, boosted
from pyro_lfm.shapes import whole

# Permutations of the rows that estimate the information by chance, and deviations above it that are taken as information.
_PERMUTATIONS, _DEVIATIONS = 50, 6.0


@dataclass(frozen=True, eq=False)
class Disentanglement:
    """Scores, the larger the better, and the matrices behind them. Print it for a table.

    Attributes:
        mig, modularity, sap, factor_vae, beta_vae: see ``lfm.evaluate.representation.disentanglement_of_codes``.
        dci: with ``disentanglement``, ``completeness``, ``informativeness`` and the matrix ``importance``.
        mutual_information: I(zᵢ; vⱼ) in nats, (K, F).
        separability: the scores that SAP compares, (K, F).
        entropy: H(vⱼ) in nats, (F,).
        factors: the names of the factors.

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> factors = torch.randint(3, (300, 2), generator=torch.Generator().manual_seed(0))
    >>> known = {"shape": factors[:, 0], "size": factors[:, 1]}
    >>> scores = lfm.evaluate.representation.disentanglement_of_codes(2.0 * factors, known)
    >>> scores.mig > 0.9, scores.mutual_information.shape, scores.factors
    (True, torch.Size([2, 2]), ('shape', 'size'))
    """

    mig: float
    modularity: float
    sap: float
    factor_vae: float
    beta_vae: float
    dci: DCI
    mutual_information: torch.Tensor
    separability: torch.Tensor
    entropy: torch.Tensor
    factors: tuple[str, ...]

    def __str__(self) -> str:
        chance = 1 / len(self.factors)
        lines = [
            ("MIG", self.mig, "gap of the two codes most informative about a factor"),
            ("DCI disentanglement", self.dci.disentanglement, "codes that matter to one factor"),
            ("DCI completeness", self.dci.completeness, "factors predicted from one code"),
            ("DCI informativeness", self.dci.informativeness, "factors predicted from all codes"),
            ("SAP", self.sap, "gap of the two codes that predict a factor best"),
            ("modularity", self.modularity, "codes informative about one factor"),
            ("FactorVAE", self.factor_vae, f"held factor identified; by chance {chance:.2f}"),
            ("β-VAE", self.beta_vae, f"held factor identified; by chance {chance:.2f}"),
        ]
        return "\n".join(f"{name:<20} {score:6.3f}  {meaning}" for name, score, meaning in lines)


def disentanglement_of_codes(
    codes: Array, factors: Array | Mapping[str, Array], *, seed: int = 0, bins: int = 20
) -> Disentanglement:
    """Scores of codes z against the factors v that the data were made of.

    - ``mig`` = 1/F Σⱼ (I(zᵢ₁; vⱼ) - I(zᵢ₂; vⱼ)) / H(vⱼ), i₁ and i₂ the two codes with the most information about vⱼ (Chen
      et al., 2018).
    - ``modularity``, the mean over codes of 1 - Σ_{j ≠ j*} I(zᵢ; vⱼ)² / ((F - 1) I(zᵢ; v_{j*})²), j* the factor with the
      most information in zᵢ (Ridgeway and Mozer, 2018). The estimate of I is positive for independent variables, and more
      so for factors of many values. So its mean over permutations of the rows is subtracted here, and a code whose
      information is within chance for all factors is left out. The score is 0 if no code is left.
    - ``sap``, the mean over factors of the gap of the two largest scores of one code: R² of a line for a continuous
      factor, and for a discrete one of V values the balanced accuracy of V intervals of the code (Kumar et al., 2018).
      As published, chance is not subtracted: with a discrete factor the gap is at most about 1 - 1/V.
    - ``dci``, with importances from gradient boosted trees (Eastwood and Williams, 2018), see ``dci``.
    - ``factor_vae``, ``beta_vae``: accuracies of predicting which factor a group of rows shares, from the code that varies
      least in the group, by vote (Kim and Mnih, 2018), or from the mean distances of pairs, linearly (Higgins et al.,
      2017). A group has up to 64 of the rows that share a value, or a bin of a continuous factor. One half of the rows
      trains the predictor, the other is scored. Both are 1/F by chance.

    Information is estimated from codes in ``bins`` equally wide bins, as is usual since Locatello et al. (2019). It does not
    depend on the order, sign or linear scale of codes, but on a nonlinear scale. SAP and DCI are trained on three quarters
    of the rows and scored on the rest (R² of SAP on all). Most of the time goes into the trees, in proportion to the rows.
    For the codes of a fit see ``lfm.evaluate.disentanglement``.

    Args:
        codes: posterior means or other codes z, (N, K) with K ≥ 2.
        factors: {name: (N,)} or (N, F). Labels of any kind, integers, and floats of at most ``bins`` values are discrete.
            Other floats are continuous. Each label needs ten rows on average.
        bins: B ≥ 2.

    Raises:
        ShapeError: shapes other than those above.
        DataError: entries that are not finite, a factor that does not vary, too few rows.

    >>> factors = torch.randint(3, (600, 2), generator=torch.Generator().manual_seed(0))
    >>> named = {"shape": factors[:, 0], "size": factors[:, 1]}
    >>> scores = disentanglement_of_codes(factors.flip(1) * -2.0, named)
    >>> scores.mig > 0.95, scores.mutual_information.argmax(0).tolist()
    (True, [1, 0])
    """
    bins, seed = whole("bins", bins, least=2), whole("seed", seed, least=0)
    z = codes_of("codes", codes)
    rows, width = z.shape
    if width < 2:
        raise ShapeError("codes must have at least two columns, as scores compare codes; got one")
    known = factors_of(factors, rows, bins)
    if rows < 40:
        raise DataError(f"codes must have at least 40 rows or the scores are noise; got {rows}")
    levels = [binned(column, bins) for column in z.T]
    information = _information(levels, known)
    entropy = np.array([mutual_information(factor.levels, factor.levels) for factor in known])
    order = np.random.default_rng(seed).permutation(rows)
    train, test = order[rows // 4 :], order[: rows // 4]
    _check_variation(known, train, test)
    separability = np.array([[_separability(c, f, train, test) for f in known] for c in z.T])
    factor_vae, beta_vae = held_factor_scores(z, known, seed)
    return Disentanglement(
        mig=float((_gap(information) / entropy).mean()),
        modularity=_modularity(information, levels, known, seed),
        sap=float(_gap(separability).mean()),
        factor_vae=factor_vae,
        beta_vae=beta_vae,
        dci=boosted(z, known, train, test, seed),
        mutual_information=torch.from_numpy(information),
        separability=torch.from_numpy(separability),
        entropy=torch.from_numpy(entropy),
        factors=tuple(factor.name for factor in known),
    )


def _check_variation(known: list[Known], train: np.ndarray, test: np.ndarray) -> None:
    """Every factor varies in the training rows and in the scored rows."""
    for factor in known:
        for part in (train, test):
            if len(np.unique(factor.values[part])) < 2:
                raise DataError(
                    f"factor {factor.name} must vary among the training rows and among the scored rows, three quarters "
                    "and one quarter at random; got one value in a part: give more rows"
                )


def _gap(scores: np.ndarray) -> np.ndarray:
    """The largest minus the second largest score of each column."""
    second, first = np.sort(scores, axis=0)[-2:]
    return first - second


def _information(levels: list[np.ndarray], known: list[Known]) -> np.ndarray:
    return np.array([[mutual_information(code, factor.levels) for factor in known] for code in levels])


def _modularity(information: np.ndarray, levels: list[np.ndarray], known: list[Known], seed: int) -> float:
    """1 - the squared information about all factors but the best, relative to the best, with that by chance subtracted."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(levels[0])) for _ in range(_PERMUTATIONS)]
    chance = np.stack([_information([code[order] for code in levels], known) for order in orders])
    excess = information - chance.mean(0)
    informed = (excess > _DEVIATIONS * chance.std(0) + 1e-12).any(1)
    if not informed.any():
        return 0.0
    squares = np.square(excess[informed].clip(0))
    best = squares.max(1)
    others = max(1, squares.shape[1] - 1)
    return float((1 - (squares.sum(1) - best) / (others * best)).mean())


def _separability(code: np.ndarray, factor: Known, train: np.ndarray, test: np.ndarray) -> float:
    """The score of one code as a predictor of a factor: R² of a line, or the balanced accuracy of intervals."""
    if not factor.discrete:
        spread = code.std() * factor.values.std()
        constant = spread <= 1e-12 * max(1.0, np.abs(code).max()) * factor.values.std()
        return 0.0 if constant else float(np.corrcoef(code, factor.values)[0, 1] ** 2)
    from sklearn.tree import DecisionTreeClassifier

    labels = factor.values
    tree = DecisionTreeClassifier(
        max_leaf_nodes=len(np.unique(labels)), class_weight="balanced", random_state=0
    )
    right = tree.fit(code[train, None], labels[train]).predict(code[test, None]) == labels[test]
    return float(np.mean([right[labels[test] == label].mean() for label in np.unique(labels[test])]))

"""Accuracy of one classifier on several representations, against the number of labels that it is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pyro_lfm.errors import DataError, DeclarationError, ShapeError
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.evaluate.representation.codes import as_array, codes_of
from pyro_lfm.shapes import several, whole

# Inverse strengths of the penalty, the preferred one first among equally good ones. Folds of cross-validation.
_STRENGTHS, _FOLDS = (1.0, 0.1, 10.0, 0.01, 100.0), 5


@dataclass(frozen=True, eq=False)
class FewLabels:
    """Accuracies on the test rows. Print it for a table.

    Attributes:
        counts: numbers of labels.
        accuracy: {representation: (seeds, counts)}. All representations have the same labelled rows.

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> labels = torch.arange(60) % 2
    >>> codes = labels[:, None] + 0.1 * torch.randn(60, 1, generator=torch.Generator().manual_seed(0))
    >>> split = {"codes": (codes[:40], codes[40:])}
    >>> scores = lfm.evaluate.representation.few_labels(split, labels[:40], labels[40:], counts=(4,), seeds=2)
    >>> scores.counts, scores.accuracy["codes"].tolist()
    ((4,), [[1.0], [1.0]])
    """

    counts: tuple[int, ...]
    accuracy: dict[str, torch.Tensor]

    @property
    def mean(self) -> dict[str, torch.Tensor]:
        """The mean over seeds, {representation: (counts,)}."""
        return {name: accuracy.mean(0) for name, accuracy in self.accuracy.items()}

    @property
    def deviation(self) -> dict[str, torch.Tensor]:
        """The standard deviation over seeds, {representation: (counts,)}, of one choice of labelled rows."""
        return {name: accuracy.std(0) for name, accuracy in self.accuracy.items()}

    def __str__(self) -> str:
        width = max(len("labels"), *map(len, self.accuracy))
        lines = ["labels".ljust(width) + "".join(f"{count:>16}" for count in self.counts)]
        for name in self.accuracy:
            pairs = zip(self.mean[name].tolist(), self.deviation[name].tolist(), strict=True)
            lines.append(name.ljust(width) + "".join(f"{f'{mean:.3f} ± {sd:.3f}':>16}" for mean, sd in pairs))
        return "\n".join(lines)


def few_labels(
    representations: Mapping[str, tuple[Array, Array]],
    labels: Array,
    test_labels: Array,
    counts: Sequence[int] = (10, 20, 50, 100, 200),
    seeds: int = 5,
) -> FewLabels:
    """Accuracy of the same classifier on each representation, against the number of labels that it is trained on.

    The classifier is a logistic regression on codes standardised by all train rows, as codes need no labels. The strength of
    its squared penalty, 0.01 to 100, is chosen by five-fold cross-validation of the labelled rows, with a preference for the
    middle strength among equally good ones. The labelled rows are drawn once per seed, the same for all representations, as
    evenly over the classes as possible.

    Args:
        representations: {name: (train, test)}, codes (N, K) and (M, K) of any K, or the data themselves. See
            ``lfm.evaluate.rival_representations`` for those of a fit.
        labels, test_labels: (N,) and (M,), of any kind.
        counts: at least the number of classes each, at most as many as the rows of the least frequent class allow.
        seeds: choices of labelled rows, at least two.

    Raises:
        ShapeError, DataError, DeclarationError: an argument that does not fit the above, by name.

    Source: the comparison of Kingma et al. (2014), model M1.

    >>> rng = torch.Generator().manual_seed(0)
    >>> labels = torch.arange(300) % 2
    >>> codes = labels[:, None] + 0.1 * torch.randn(300, 1, generator=rng)
    >>> split = {"codes": (codes[:200], codes[200:])}
    >>> few_labels(split, labels[:200], labels[200:], counts=(4, 10), seeds=2).mean["codes"].tolist()
    [1.0, 1.0]
    """
    seeds = whole("seeds", seeds, least=2)
    known, target = _labels("labels", labels), _labels("test_labels", test_labels)
    codes = _standardised_pairs(representations, known, target)
    classes, of_row = np.unique(known, return_inverse=True)
    if len(classes) < 2:
        raise DataError("labels must be of at least two classes; got one")
    if strangers := sorted(set(target.tolist()) - set(classes.tolist())):
        raise DataError(f"test_labels must occur in labels; got {strangers[:5]}, which do not")
    numbers = tuple(whole("counts", count, least=len(classes)) for count in several("counts", counts))
    if not numbers:
        raise DeclarationError("counts must hold at least one number of labels; got none")
    members = [np.flatnonzero(of_row == label) for label in range(len(classes))]
    least = min(map(len, members))
    if -(-max(numbers) // len(classes)) > least:
        raise DataError(
            f"counts must be at most {least * len(classes)}, as a class has {least} rows only; got {max(numbers)}"
        )
    accuracy: dict[str, torch.Tensor] = {name: torch.zeros(seeds, len(numbers)) for name in codes}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        for column, count in enumerate(numbers):
            chosen = _even(members, count, rng)
            for name, (train, test) in codes.items():
                right = _predictions(train[chosen], known[chosen], test) == target
                accuracy[name][seed, column] = float(right.mean())
    return FewLabels(numbers, accuracy)


def _labels(name: str, labels: Array) -> np.ndarray:
    """Labels as an array, with an error if some are missing."""
    array = as_array(name, labels)
    missing = sum(label is None or label != label for label in array.ravel().tolist())
    if missing:
        raise DataError(
            f"{name} must be known in all rows; got {missing} that are missing: leave those rows out"
        )
    return array


def _standardised_pairs(
    representations: Mapping[str, tuple[Array, Array]], known: np.ndarray, target: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The codes of train and test rows, standardised by the train rows, for each representation."""
    if not isinstance(representations, Mapping) or not representations:
        raise DeclarationError(
            f"representations must be {{name: (train, test)}}; got {type(representations).__name__}"
        )
    standardised = {}
    for name, pair in representations.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DeclarationError(f"representation {name} must be a pair (train, test)")
        train, test = (codes_of(f"representation {name}", codes) for codes in pair)
        for part, values, argument in ((train, known, "labels"), (test, target, "test_labels")):
            if values.shape != (len(part),):
                raise ShapeError(
                    f"{argument} must have shape ({len(part)},), one per row of representation {name}; got {values.shape}"
                )
        if train.shape[1] != test.shape[1]:
            raise ShapeError(
                f"representation {name} must have the same columns in train and test; "
                f"got {train.shape[1]} and {test.shape[1]}"
            )
        centre, scale = train.mean(0), train.std(0)
        scale = np.where(scale > 1e-12 * np.maximum(1.0, np.abs(train).max(0)), scale, 1.0)
        standardised[str(name)] = (train - centre) / scale, (test - centre) / scale
    return standardised


def _even(members: list[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """The same number of rows of each class, and one more of some classes, in random order."""
    each, more = divmod(count, len(members))
    extra = set(rng.permutation(len(members))[:more].tolist())
    rows = [rng.choice(own, each + (label in extra), replace=False) for label, own in enumerate(members)]
    return rng.permutation(np.concatenate(rows))


def _predictions(codes: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predictions of a logistic regression whose penalty is chosen by cross-validation."""
    from sklearn.linear_model import LogisticRegression

    parts = np.arange(len(labels)) % _FOLDS
    scores = np.zeros(len(_STRENGTHS))
    for fold in range(_FOLDS):
        training, held = parts != fold, parts == fold
        if held.any() and len(np.unique(labels[training])) > 1:
            for place, strength in enumerate(_STRENGTHS):
                classifier = LogisticRegression(C=strength, max_iter=1000)
                classifier.fit(codes[training], labels[training])
                scores[place] += (classifier.predict(codes[held]) == labels[held]).sum()
    best = LogisticRegression(C=_STRENGTHS[int(scores.argmax())], max_iter=1000)
    return best.fit(codes, labels).predict(test)

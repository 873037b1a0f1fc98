"""Tables with gaps for the imputation protocols: the table, and which of its entries are hidden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor


def standardised(file: str | None) -> np.ndarray:
    """The numbers of a CSV file with a header, or breast cancer of scikit-learn, each column of mean 0 and variance 1."""
    if file is None:
        values = load_breast_cancer().data
    else:
        separator = ";" if ";" in Path(file).open(encoding="utf-8").readline() else ","
        values = np.genfromtxt(file, delimiter=separator, skip_header=1)
    return (values - values.mean(0)) / values.std(0)


def hidden_at_random(shape: tuple[int, ...], share: float, seed: int) -> np.ndarray:
    """True for a share of the entries, completely at random, as the notebook of Mattei and Frellsen draws them."""
    count = int(np.prod(shape))
    hidden = np.zeros(count, dtype=bool)
    state = np.random.RandomState(seed)
    hidden[state.choice(count, int(np.floor(count * share)), replace=False)] = True
    return hidden.reshape(shape)


def hidden_above_the_mean(values: np.ndarray) -> np.ndarray:
    """True for the entries above their column's mean in the first half of the columns."""
    half = np.arange(values.shape[1]) < values.shape[1] // 2
    return (values > values.mean(0)) & half


def with_gaps(values: np.ndarray, hidden: np.ndarray) -> Tensor:
    """The values as a tensor, NaN where they are hidden."""
    return torch.from_numpy(np.where(hidden, np.nan, values)).float()

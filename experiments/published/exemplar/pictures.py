"""The pictures of ``experiments/published/exemplar_fashion.py``: to train on, to stop by, and to measure."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import pyro_lfm as lfm
from exemplar.setting import Setting


@dataclass(frozen=True)
class Pictures:
    """Pictures as rows.

    Attributes:
        greys: the rows to train on, in [0, 1]; a fit binarizes them at every reading.
        held_out, test: rows that were binarized once.
    """

    greys: Tensor
    held_out: Tensor
    test: Tensor


def pictures(setting: Setting, folder: str | None) -> Pictures:
    """The first rows of the training set to train on, its last to stop by, and the test set."""
    if setting.digits:
        train, test = lfm.data.digits().split(test=0.2, seed=0)
    else:
        train, test = (lfm.data.fashion_mnist(folder, train=part) for part in (True, False))
    noise = torch.Generator().manual_seed(777)
    return Pictures(
        train.x[: setting.rows],
        torch.bernoulli(train.x[-setting.held_out :], generator=noise),
        torch.bernoulli(test.x[: setting.test_rows], generator=noise),
    )

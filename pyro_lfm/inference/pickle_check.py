"""The check, before a ``Fit`` is pickled, that another process can load it."""

from __future__ import annotations

import io
import pickle
import sys
from types import FrameType
from typing import Any

import numpy as np
import torch

from pyro_lfm.errors import DeclarationError


class _Nowhere(io.RawIOBase):
    """A file that keeps nothing."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return len(data)


class _Trial(pickle.Pickler):
    """Pickles everything but tensors and arrays, which always can be."""

    def persistent_id(self, value: object) -> str | None:
        return "numbers" if type(value) in (torch.Tensor, torch.nn.Parameter, np.ndarray) else None


def check_picklable(state: dict[str, Any]) -> None:
    """Refuses classes and functions that pickle could not find by their names in another process.

    cloudpickle and dill write code too, as joblib does for its workers: they are not refused.

    Raises:
        DeclarationError: it names the class or function.
    """
    if _by_value():
        return
    try:
        _Trial(_Nowhere()).dump(state)
    except Exception as error:  # an object may raise anything when its state is read
        raise DeclarationError(
            f"the fit cannot be pickled: {error}. Classes and functions that model, guide, objective or history hold must "
            "stand at the top of a module, where another process finds them by name"
        ) from None


def _by_value() -> bool:
    """Whether cloudpickle or dill is pickling, which write code by value."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if {"cloudpickle", "dill"} & set(str(frame.f_globals.get("__name__")).split(".")):
            return True
        frame = frame.f_back
    return False

"""Whether something can be pickled, asked before the first byte is written."""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any

import numpy as np
import torch

from pyro_lfm.errors import DeclarationError


class _Nowhere(io.RawIOBase):
    def write(self, data: Any) -> int:
        return len(data)


class _Trial(pickle.Pickler):
    """Pickles all but numbers, which always can be."""

    def persistent_id(self, value: Any) -> str | None:
        return "numbers" if type(value) in (torch.Tensor, torch.nn.Parameter, np.ndarray) else None


def check_picklable(state: Any) -> None:
    """Refuses what pickle could not find by its name in another process.

    Pickles by value, such as joblib sends to its workers, hold code too, and are not refused.

    Raises:
        DeclarationError: naming the class or function.
    """
    if _by_value():
        return
    try:
        _Trial(_Nowhere()).dump(state)
    except Exception as error:  # whatever an object may raise that is asked for its state
        raise DeclarationError(
            f"the fit cannot be pickled: {error}. Classes and functions that model, guide, objective or history hold must "
            "stand at the top of a module, where another process finds them by name"
        ) from None


def _by_value() -> bool:
    """Whether it is cloudpickle or dill that asks."""
    frame: Any = sys._getframe()
    while frame is not None:
        if {"cloudpickle", "dill"} & set(str(frame.f_globals.get("__name__")).split(".")):
            return True
        frame = frame.f_back
    return False

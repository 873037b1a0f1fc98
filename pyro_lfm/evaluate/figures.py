"""Numbers that may be NaN, as the deviation of a single row is: how results compute and print them."""

from __future__ import annotations

import torch
from torch import Tensor


def spread(values: Tensor) -> Tensor:
    """The standard deviation over the first dimension. NaN for a single value.

    >>> spread(torch.tensor([1.0])), spread(torch.tensor([1.0, 3.0]))
    (tensor(nan), tensor(1.4142))
    """
    return values.std(0) if len(values) > 1 else torch.full_like(values[0], torch.nan)


def or_dash(value: float, form: str) -> str:
    """A number in a format of Python, or a dash of the same width for NaN.

    >>> or_dash(2.0, ">6.2f"), or_dash(float("nan"), ">6.2f")
    ('  2.00', '     –')
    """
    width = form.partition(".")[0].lstrip("<>+")
    return f"{value:{form}}" if value == value else f"{'–':>{width or 1}}"

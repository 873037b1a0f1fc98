"""Types of the arguments of evaluation functions: a fit or a pair, arrays, rows of data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.utils.data import Dataset

from pyro_lfm.inference.fitted import Fit

# A fit, or a pair (model, guide), each a declaration, a ``PyroModel`` or ``PyroGuide``, or a module written by hand.
Evaluated: TypeAlias = Fit | tuple[nn.Module, nn.Module]
# A tensor, an array, a list of numbers or labels.
Array: TypeAlias = Tensor | ArrayLike
# Rows as ``lfm.fit`` takes them: one block of rows, or several by the names of the observed variables.
Rows: TypeAlias = Array | Dataset[object] | Mapping[str, Array | Dataset[object]]

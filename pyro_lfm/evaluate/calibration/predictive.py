"""Posterior predictive checks with uniform p-values: do the data look like replicates that the model draws?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pyro_lfm.errors import DataError, ShapeError
from pyro_lfm.evaluate.calibration.exchange import LEVEL, array_of, column_names, tensor
from pyro_lfm.evaluate.inputs import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Statistics that a verdict names.
_NAMED = 3
# Statistics by name, each with the sentence for data that have too little of it, and too much.
STATISTICS = {
    "log p(x | z)": ("the data are less likely given z", "the data are more likely given z"),
    "level": ("the data lie lower", "the data lie higher"),
    "spread": ("the data vary less", "the data vary more"),
    "skewness": ("the data are skewed to the left", "the data are skewed to the right"),
    "tails": ("the data have lighter tails", "the data have heavier tails"),
    "means of columns": ("means of columns fit better", "means of some columns are off"),
    "variances of columns": ("variances of columns fit better", "variances of some columns are off"),
    "spread of rows": ("rows are more alike in spread", "some rows vary more than others"),
    "correlations": ("columns are less correlated", "columns are correlated beyond what z explains"),
    "zeros": ("the data have fewer zeros", "the data have more zeros"),
}


@dataclass(frozen=True, repr=False, eq=False)
class PredictiveCheck:
    """Statistics T of the data, and of R replicates of them.

    Attributes:
        names: the names of the J statistics.
        observed: T(x, z), (J,).
        replicated: T(x_rep, z), (R, J).
        p_values: two-sided, of each statistic, corrected for the number of statistics, (J,).

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> check = lfm.evaluate.calibration.predictive_check([3.0], torch.randn(99, 1), names=["largest"])
    >>> check.names, check.p_values.shape
    (('largest',), torch.Size([1]))
    """

    names: tuple[str, ...]
    observed: torch.Tensor
    replicated: torch.Tensor
    p_values: torch.Tensor

    @property
    def p_value(self) -> float:
        """The p-value of all statistics together."""
        return float(self.p_values.min())

    @property
    def standardised(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(T − mean) / deviation, mean and deviation over the replicates: of the data (J,), of the replicates (R, J).

        It is infinite where all replicates are equal and the data differ from them.
        """
        centre, scale = self.replicated.mean(0), self.replicated.std(0)
        alike = (self.replicated == self.replicated[0]).all(0)
        centre, scale = self.replicated[0].where(alike, centre), scale.where(~alike, 1.0)
        off = (self.observed - centre) / scale
        return off.where(~alike | (off == 0), off.sign() * torch.inf), (self.replicated - centre) / scale

    @property
    def verdict(self) -> str:
        """The result of the check, in a sentence."""
        p, count = self.p_value, len(self.replicated)
        p_text = f"p = {p:.3f}" if p > 1.5 / (1 + count) else f"p ≤ {1 / (1 + count):.2g}"
        if p > LEVEL:
            return (
                f"The data look like their {count} replicates in all {len(self.names)} statistics ({p_text})."
            )
        off = self.standardised[0]
        worst = sorted(
            (int(j) for j in (self.p_values <= LEVEL).nonzero()), key=lambda j: -float(off[j].abs())
        )
        named = "; ".join(self._sentence(j, float(off[j])) for j in worst[:_NAMED])
        more = f"; and {len(worst) - _NAMED} more" if len(worst) > _NAMED else ""
        return f"The data differ from their replicates ({p_text}): {named}{more}."

    def _sentence(self, j: int, off: float) -> str:
        name = self.names[j]
        low, high = STATISTICS.get(name, (f"{name} is lower", f"{name} is higher"))
        size = (
            f"{off:+.1f} deviations".replace("-", "−") if abs(off) < torch.inf else "all replicates are alike"
        )
        return f"{high if off > 0 else low} ({size})"

    def plot(self, *, title: str | None = "The data among their replicates") -> Figure:
        """Each statistic of the data among its replicates, see ``lfm.plots.predictive_check``."""
        from pyro_lfm import plots

        return plots.predictive_check(self, title=title)

    def __repr__(self) -> str:
        return f"PredictiveCheck({len(self.names)} statistics, {len(self.replicated)} replicates). {self.verdict}"


def predictive_check(
    observed: Array, replicated: Array, names: Sequence[str] | None = None
) -> PredictiveCheck:
    """Do the data look like replicates of them? p-values from one draw of z for each row, which are uniform.

    z ~ q(z | x) and x_rep ~ p(x | z), R times with the same z. If the model is true and q its posterior, x and the
    replicates are exchangeable, and the rank of T(x, z) among T(x_rep, z) is uniform for every T. p-values that average over
    draws of z are not uniform: they concentrate about 1/2. For several statistics the p-value is that of the most extreme
    one, whose distribution is taken from the replicates.

    Args:
        observed: T(x, z), (J,).
        replicated: T(x_rep, z), (R, J), R ≥ 19.
        names: the names of the J statistics.

    Raises:
        ShapeError, DataError: shapes that do not fit, too few replicates, NaN.

    Source: Gelman, Meng and Stern (1996) for realised discrepancies; Johnson (2004) and Gosselin (2011) for a single draw.

    >>> generator = torch.Generator().manual_seed(0)
    >>> print(predictive_check([4.0], torch.randn(199, 1, generator=generator), names=["spread"]).verdict)
    The data differ from their replicates (p ≤ 0.005): the data vary more (+4.2 deviations).
    """
    first, others = (
        torch.as_tensor(array_of(name, value))
        for name, value in (("observed", observed), ("replicated", replicated))
    )
    if first.dim() != 1 or others.dim() != 2 or others.shape[1:] != first.shape or not len(first):
        raise ShapeError(
            f"observed and replicated must have shapes (J,) and (R, J); got {tuple(first.shape)} and {tuple(others.shape)}"
        )
    if len(others) < 19:
        raise DataError(
            f"replicated must hold at least 19 replicates, for a p-value of 0.05; got {len(others)}"
        )
    every = torch.cat([first[None], others]).numpy()
    if not np.isfinite(every).all():
        raise DataError("observed and replicated must be finite; got NaN or infinite statistics")
    # Means and deviations over data and replicates together, so that both are treated alike.
    scale = every.std(0)
    off = np.abs(every - every.mean(0)) / np.where(scale > 0, scale, 1.0)
    top = off.max(1)
    p = (top[:, None] >= off[0] - 1e-12).mean(0)
    return PredictiveCheck(column_names(names, len(first)), first, others, tensor(p))

"""The warnings of ``lfm.factor_analysis.solution``: parameters that are not identified, and Heywood cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyro_lfm.errors import warn
from pyro_lfm.warning_kinds import IdentificationWarning, ScaleFloorWarning

if TYPE_CHECKING:
    from pyro_lfm.factor_analysis.factor_solution import FactorSolution


def warn_of_identification(done: FactorSolution) -> None:
    """Warns where a pattern of zeros leaves parameters that the data cannot decide."""
    parameters = done.parameters
    if parameters.axes_free:
        return
    count = parameters.free.count(parameters.exact)
    if parameters.parameters < count:
        warn(
            f"the pattern of zeros identifies {parameters.parameters} of {count} parameters: other values give the "
            "same covariance. Give each factor at least three columns of its own, or two where it correlates with "
            "others; take out loadings; or let factors be uncorrelated by StandardNormal(K)",
            IdentificationWarning,
            of=parameters.observed,
        )


def warn_of_heywood(done: FactorSolution) -> None:
    """Warns of columns of which the factors explain almost all."""
    columns = done.heywood
    if columns:
        shown = ", ".join(f"{column!r} ({done.uniquenesses[column]:.1g})" for column in columns[:8])
        warn(
            f"Heywood case: almost no variance is unique to {shown}{', ...' * (len(columns) > 8)}. It makes up a factor by "
            "itself. Fit fewer factors (lfm.factor_analysis.number_of_factors), drop a column that repeats others, "
            "give the noise a floor by lfm.Diagonal(min_scale=...), or fit by lfm.VariationalBayes(), whose priors keep the "
            "noise from zero",
            ScaleFloorWarning,
            of=done.parameters.observed,
        )

"""A fit whose guide is refined for each row by gradient steps, which matters for rows with gaps. For ``impute``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from pyro_lfm.inference import Fit

RefineSteps: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--refine",
        min=0,
        metavar="STEPS",
        help="Gradient steps that adapt the guide to each row; by default 100 for up to 20,000 rows.",
    ),
]
_STEPS, _ROWS = 100, 20_000


def refined(fit: Fit, rows: int, steps: int | None = None) -> Fit:
    """A view of a fit with a guide that is adapted to each row, whatever gaps it has; the fit itself where none can be.

    A network that has seen few rows with gaps infers the factors of such rows badly. Imputation suffers from it first: on
    penguins with a fifth of the cells hidden, 100 steps reduce the error of numbers from 0.76 to 0.51 standard deviations.

    Args:
        rows: the number of rows that it is to serve. steps: by default 100 for a moderate number of rows, else none.
    """
    from pyro_lfm.inference.queries.refined_view import refined_view

    steps = (_STEPS if rows <= _ROWS else 0) if steps is None else steps
    return refined_view(fit, steps) if steps else fit

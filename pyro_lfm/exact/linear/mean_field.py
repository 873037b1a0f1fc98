"""Variational EM for linear Gaussian models: the best parameters under a fully factorised q(z)."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from pyro_lfm.exact.history import History
from pyro_lfm.exact.linear.expectation_maximisation import Watch, maximise
from pyro_lfm.exact.linear.linear_gaussian import Floor, LinearGaussian
from pyro_lfm.exact.linear.rows import Rows


def variational_em(
    rows: Rows,
    start: LinearGaussian,
    *,
    fixed: Collection[str] = (),
    pattern: Tensor | None = None,
    free_prior: bool = False,
    min_scale: Floor = 1e-3,
    iterations: int = 5000,
    tolerance: float = 1e-11,
    accelerate: bool = True,
    watch: Watch | None = None,
) -> tuple[LinearGaussian, History]:
    """The parameters that maximise the bound under q(z) = ∏ⱼ q(zⱼ), for isotropic or diagonal noise.

    E step: coordinate ascent in the factors of each row's q. The best are N(zⱼ; mⱼ, 1/Mⱼⱼ), where M is the precision
    of the exact posterior and m its mean, the solution of M m = h. Sweeps over j are Gauss-Seidel sweeps of that system,
    which is solved directly here. M step: as in ``em``. The bound after the E step never falls, and L = ln p(x) − gap
    with the gap ½[Σⱼ ln Mⱼⱼ − ln |M|] per row, which the history records as kl. Missing entries are left out of M.

    Arguments, results and errors are those of ``em``. Full noise is refused.

    Source: Neal and Hinton (1998), section 4; Bishop (2006), section 10.1.2.

    >>> import torch
    >>> x = torch.tensor([[2.0, 1.0], [-2.0, 1.0], [2.0, -1.0], [-2.0, -1.0]])
    >>> start = LinearGaussian(torch.tensor([[1.0], [1.0]]), torch.zeros(2), torch.tensor(1.0))
    >>> model, history = variational_em(Rows.of(x), start)
    >>> abs(history.steps[-1].kl) < 1e-12  # one factor: nothing to factorise
    True
    """
    return maximise(
        rows,
        start,
        fixed,
        min_scale,
        pattern=pattern,
        free_prior=free_prior,
        iterations=iterations,
        tolerance=tolerance,
        accelerate=accelerate,
        factorised=True,
        watch=watch,
    )

"""The importance-weighted bound and the Rényi bound, tighter than the ELBO."""

from __future__ import annotations

from typing import Literal

from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.objective import Names
from pyro_lfm.objectives.weighted import GRADIENTS, Weighted
from pyro_lfm.shapes import number


class ImportanceWeightedELBO(Weighted):
    """L_S = E_q[log 1/S Σₛ p(x, zₛ) / q(zₛ | x)] per row, in nats: ELBO ≤ L_S ≤ L_{S+1} ≤ log p(x), for S = 1 the ELBO.

    Every row has weights of its own: the bound of a batch is the mean of its rows' bounds. A latent w that all rows share (a
    parameter with a prior) is drawn once for all draws of the rows and stays outside the logarithm. Then
    E_q(w)[Σₙ L_S(xₙ | w)] − KL(q(w) ‖ p(w)) is a bound on log p of all rows, which minibatches estimate without bias.
    ``kl_weight`` and free bits belong to ``ELBO``: this bound has no KL to weight.

    Args:
        particles: draws of z per row, S ≥ 1, taken together.
        gradient: of φ. "reparametrized" is the plain one, whose signal-to-noise ratio falls like 1/√S (Rainforth et al.,
            2018). "doubly-reparametrized" is unbiased too, and its ratio rises. "sticking-the-landing" detaches the
            parameters in log q: it has no variance where q is exact, and is biased for S > 1 elsewhere.
        enumerate: "auto" sums discrete latents of a row out as ``ELBO`` does, within the weights:
            wₛ = Σ_c p(x, c, zₛ) / q(zₛ | c, x). This bound lies above the ELBO for S = 1. q(c | ·) cancels in it and gets
            the gradient of Σₛ w̃ₛ Σ_c p(c | x, zₛ) log q(c | ·) instead, so that it follows p(c | x, zₛ). "never" draws
            them.

    Other latents without a reparametrization get the plain score-function gradient, f ∇log q.

    In the history bound is L_S. reconstruction and kl are E_q[log p(x | z)] and E_q[log q(z | x) − log p(z)] at the same
    draws: bound − (reconstruction − kl) is the gain over the ELBO.

    Raises:
        DeclarationError: an argument out of its range. In use: a latent without a reparametrization, unless
            gradient="reparametrized". With the doubly reparametrized gradient, a latent drawn with knowledge of one that is
            summed out.

    Use it for a tighter bound on log p(x) where q misses the posterior, and for missing entries as in MIWAE.

    Limits: S times the cost. The gradient of φ gets noisier with S unless it is doubly reparametrized. q need not
    resemble the posterior any more.

    Source: Burda, Grosse and Salakhutdinov (2016), equations 8 and 14; Roeder, Wu and Duvenaud (2017), section 6; Tucker,
    Lawson, Gu and Maddison (2019), equation 8.

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> objective = lfm.ImportanceWeightedELBO(particles=20, gradient="doubly-reparametrized")
    >>> bound = objective.bound(model, guide, torch.zeros(3, 5))
    >>> bound.per_row.shape, bool((bound.per_row >= bound.reconstruction - bound.kl["z"]).all())
    (torch.Size([3]), True)
    """

    def __init__(
        self,
        particles: int = 5,
        gradient: Literal[
            "reparametrized", "sticking-the-landing", "doubly-reparametrized"
        ] = "reparametrized",
        enumerate: Literal["auto", "never"] = "auto",
    ):
        if gradient not in GRADIENTS:
            raise DeclarationError(
                f"gradient must be one of {', '.join(repr(g) for g in GRADIENTS)}; got {gradient!r}"
            )
        super().__init__(particles, enumerate)
        self.gradient = gradient

    def _gradient(self) -> str:
        return self.gradient

    def _formula(self, names: Names, row: str) -> str:
        return f"log {names.conditional('p', names.observed)} >= {_mean_weight(names, self.particles, row)}, row by row"


class RenyiELBO(Weighted):
    """The variational Rényi bound, per row: L_α = 1/(1 − α) log E_q[(p(x, z) / q(z | x))^(1−α)], in nats.

    It falls in α: α → 1 is the ELBO, and α = 0 is log p(x), which S draws estimate by the importance-weighted bound. The
    estimate 1/(1 − α) log 1/S Σₛ wₛ^(1−α) lies below L_α in expectation for α < 1, and between L_α and the ELBO for
    α > 1: always below log p(x). The history, latents that all rows share and latents without a reparametrization are as
    for ``ImportanceWeightedELBO``.

    Args:
        alpha: α ≥ 0. (A negative α is an upper bound on log p(x) whose estimate lies below it: no bound at all.)
        particles: draws of z per row, S ≥ 1, taken together. One draw gives the ELBO for every α.
        enumerate: "auto" sums discrete latents of a row out: E_q(c)[w^(1−α)] = Σ_c q(c | ·) w_c^(1−α). "never" draws them.

    Raises:
        DeclarationError: an argument out of its range.

    Use it to choose between covering the posterior (α < 1) and the ELBO (α = 1).

    Limits: the estimate is biased for a finite S, so that bounds with different S cannot be compared.

    Source: Li and Turner (2016), equations 4 and 6, theorem 2.

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> lfm.RenyiELBO(alpha=0.5, particles=10).bound(model, guide, torch.zeros(3, 5)).per_row.shape
    torch.Size([3])
    """

    def __init__(self, alpha: float, particles: int = 5, enumerate: Literal["auto", "never"] = "auto"):
        super().__init__(particles, enumerate)
        self.alpha = number("alpha", alpha, least=0.0)

    def _order(self) -> float:
        return self.alpha

    def _formula(self, names: Names, row: str) -> str:
        if self.alpha == 1:
            weights = (
                f"E_q[log {names.conditional('p', f'{names.observed}, {names.latents}')} - log {names.guide}]"
            )
        else:
            weights = _mean_weight(names, self.particles, row, 1 - self.alpha)
        return f"log {names.conditional('p', names.observed)} >= {weights}, row by row"


def _mean_weight(names: Names, particles: int, row: str, power: float = 1.0) -> str:
    p, q = (
        names.conditional("p", f"{names.observed}, {row}"),
        names.conditional("q", row, names.observed),
    )
    ratio = f"{p} / {q}"
    if power == 1:
        return f"E_q[log 1/{particles} sum_s {ratio}]"
    return f"1/({power:g}) E_q[log 1/{particles} sum_s ({ratio})^({power:g})]"

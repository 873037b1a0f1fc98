"""The importance-weighted bound, and Rényi's."""

from __future__ import annotations

from typing import Literal

from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.objective import Names
from pyro_lfm.objectives.weighted import GRADIENTS, Weighted
from pyro_lfm.shapes import number


class ImportanceWeightedELBO(Weighted):
    """L_S = E_q[log 1/S Σₛ p(x, zₛ) / q(zₛ | x)] per row, in nats: ELBO ≤ L_S ≤ L_{S+1} ≤ log p(x), for S = 1 the ELBO.

    The weights are a row's own: the bound of a batch is the mean of its rows' bounds. What all rows share (a parameter
    with a prior) is drawn once for all draws of the rows and stays outside the logarithm: E_q(w)[Σₙ L_S(xₙ | w)] −
    KL(q(w) ‖ p(w)) is a bound on log p of all rows, and minibatches give unbiased estimates of it; weights of whole
    data sets would allow neither. ``kl_weight`` and free bits belong to ``ELBO``: here is no KL to weigh.

    Args:
        particles: draws of z per row, S ≥ 1, taken together.
        gradient: of φ. "reparametrized" is the plain one, whose signal-to-noise ratio falls like 1/√S (Rainforth et al.,
            2018). "doubly-reparametrized" is unbiased too, and its ratio rises. "sticking-the-landing" holds the
            parameters in log q: no variance where q is exact, but biased for S > 1 elsewhere.
        enumerate: "auto" sums discrete latents of a row out as ``ELBO`` does, within the weights:
            wₛ = Σ_c p(x, c, zₛ) / q(zₛ | c, x). q(c | ·) cancels and has no gradient from the bound, which for S = 1
            lies above the ELBO; it follows p(c | x, zₛ) instead, by the gradient of Σₛ w̃ₛ Σ_c p(c | x, zₛ) log q(c | ·).
            "never" draws them.

    Other latents without a reparametrization get the plain score-function gradient, f ∇log q.

    In the history, bound is L_S; reconstruction and kl are E_q[log p(x | z)] and E_q[log q(z | x) − log p(z)] at the same
    draws, so that bound − (reconstruction − kl) is what the weighting gains over the ELBO.

    Raises:
        DeclarationError: an argument out of its range; in use, a gradient that a latent does not allow: one without a
            reparametrization, or, doubly reparametrized, one drawn knowing what is summed out.

    Source: Burda, Grosse and Salakhutdinov (2016), equations 8 and 14; Roeder, Wu and Duvenaud (2017), section 6; Tucker,
    Lawson, Gu and Maddison (2019), equation 8.

    >>> import torch
    >>> from pyro_lfm import Gaussian, Guide, MLP, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(5, mean=MLP(8)))
    >>> guide = Guide(model, z=Gaussian(network=MLP(8)))
    >>> objective = ImportanceWeightedELBO(particles=20, gradient="doubly-reparametrized")
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

    def _formula(self, names: Names, row: str) -> str:
        return f"log {names.conditional('p', names.observed)} >= {_mean_weight(names, self.particles, row)}, row by row"

    def __repr__(self) -> str:
        return (
            f"ImportanceWeightedELBO(particles={self.particles}, gradient={self.gradient!r}, "
            f"enumerate={self.enumerate!r})"
        )


class RenyiELBO(Weighted):
    """The variational Rényi bound, per row: L_α = 1/(1 − α) log E_q[(p(x, z) / q(z | x))^(1−α)], in nats.

    It falls in α: α → 1 is the ELBO, α = 0 is log p(x), of which S draws give the importance-weighted bound. Its
    estimate, 1/(1 − α) log 1/S Σₛ wₛ^(1−α), lies below L_α in expectation for α < 1, and between L_α and the ELBO for
    α > 1: always below log p(x). Latents that all rows share, the history, and latents without a reparametrization are as
    for ``ImportanceWeightedELBO``.

    Args:
        alpha: α ≥ 0. (A negative one would be an upper bound on log p(x), estimated from below: neither.)
        particles: draws of z per row, S ≥ 1, taken together; one draw gives the ELBO whatever α.
        enumerate: "auto" sums discrete latents of a row out: E_q(c)[w^(1−α)] = Σ_c q(c | ·) w_c^(1−α). "never" draws them.

    Raises:
        DeclarationError: an argument out of its range.

    Source: Li and Turner (2016), equations 4 and 6, theorem 2.

    >>> import torch
    >>> from pyro_lfm import Gaussian, Guide, MLP, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(5, mean=MLP(8)))
    >>> guide = Guide(model, z=Gaussian(network=MLP(8)))
    >>> RenyiELBO(alpha=0.5, particles=10).bound(model, guide, torch.zeros(3, 5)).per_row.shape
    torch.Size([3])
    """

    def __init__(self, alpha: float, particles: int = 5, enumerate: Literal["auto", "never"] = "auto"):
        super().__init__(particles, enumerate)
        self.alpha = number("alpha", alpha, least=0.0)

    def _formula(self, names: Names, row: str) -> str:
        if self.alpha == 1:
            weights = (
                f"E_q[log {names.conditional('p', f'{names.observed}, {names.latents}')} - log {names.guide}]"
            )
        else:
            weights = _mean_weight(names, self.particles, row, 1 - self.alpha)
        return f"log {names.conditional('p', names.observed)} >= {weights}, row by row"

    def __repr__(self) -> str:
        return f"RenyiELBO(alpha={self.alpha}, particles={self.particles}, enumerate={self.enumerate!r})"


def _mean_weight(names: Names, particles: int, row: str, power: float = 1.0) -> str:
    p, q = (
        names.conditional("p", f"{names.observed}, {row}"),
        names.conditional("q", row, names.observed),
    )
    ratio = f"{p} / {q}"
    if power == 1:
        return f"E_q[log 1/{particles} sum_s {ratio}]"
    return f"1/({power:g}) E_q[log 1/{particles} sum_s ({ratio})^({power:g})]"

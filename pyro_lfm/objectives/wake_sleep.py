"""Reweighted wake-sleep: importance weights for θ and for φ, and no gradient through any draw."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pyro.poutine.trace_struct import Trace

from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.bound import Bound
from pyro_lfm.objectives.enumeration import Plan
from pyro_lfm.objectives.handlers import DetachedDraws
from pyro_lfm.objectives.objective import Names
from pyro_lfm.objectives.run import Run
from pyro_lfm.objectives.trace_sites import Arguments, Keywords, PyroProgram
from pyro_lfm.objectives.weighted import Terms, Weighted, gradient_alone, renyi_bound


class ReweightedWakeSleep(Weighted):
    """Raises L_S in θ, and E_p(z|x)[log q(z | x)] in φ, with the same weights of draws zₛ ~ q(z | x), row by row.

    ∇θ = Σₛ w̃ₛ ∇θ log p(x, zₛ) and ∇φ = Σₛ w̃ₛ ∇φ log q(zₛ | x) with w̃ₛ ∝ p(x, zₛ) / q(zₛ | x), Σₛ w̃ₛ = 1.
    φ lowers KL(p(z | x) ‖ q(z | x)), which makes q cover the posterior, where an ELBO lowers KL(q ‖ p). So φ climbs no
    bound, and its gradient is biased by O(1/S). No gradient passes through a draw: latents of any kind are served, discrete
    ones too. Those that can be are summed out, as for ``ImportanceWeightedELBO``.

    In the history bound is L_S, a bound on log p(x) for any φ. reconstruction and kl are as for
    ``ImportanceWeightedELBO``.

    Args:
        particles: draws of z per row, S ≥ 2 (a single draw has the share 1 for every φ).
        enumerate: "auto" sums discrete latents of a row out. "never" draws them.

    Raises:
        DeclarationError: an argument out of its range, or, in use, a latent that all rows share (a parameter with a prior):
            its weights would be those of whole data sets.

    Use it for discrete latents that cannot be summed out, and for a q that covers the posterior.

    Limits: φ climbs no bound. Models that learn parameters with a prior are refused.

    Source: Bornschein and Bengio (2015), equations 5 and 8 (wake-phase q).

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> lfm.ReweightedWakeSleep(particles=10).bound(model, guide, model.sample(3)["x"]).per_row.shape
    torch.Size([3])
    """

    def __init__(self, particles: int = 5, enumerate: Literal["auto", "never"] = "auto"):
        super().__init__(particles, enumerate)
        if self.particles == 1:
            raise DeclarationError(
                "particles must be an int of at least 2; got 1: a single draw has the share 1 for every guide"
            )

    def _gradient(self) -> str:
        return "wake-phase"

    def guide_climbs_value(self) -> bool:
        return False

    def takes_penalties(self) -> bool:
        return False

    def traces(
        self,
        model: PyroProgram,
        guide: PyroProgram,
        args: Arguments,
        kwargs: Keywords,
        plan: Plan | None = None,
    ) -> tuple[Trace, Trace]:
        with DetachedDraws():
            return super().traces(model, guide, args, kwargs, plan)

    def estimate(self, run: Run) -> Bound:
        self._check(run)
        terms = Terms.of(run, run.q)
        wake = replace(terms, log_q={name: log_q.detach() for name, log_q in terms.log_q.items()})
        value, share = renyi_bound(wake.log_weights(run), run.layout.log_weights, 0.0)
        value = terms.weighted(value)
        bound = self._gather(run, wake, value)
        follow = run.layout.add_up(terms.log_q.values())
        objective = bound.objective + gradient_alone((share * follow).sum((0, 1)).mean())
        return Bound(objective, bound.per_row, bound.reconstruction, bound.kl, bound.total)

    def _check(self, run: Run) -> None:
        if run.shared:
            raise DeclarationError(
                f"ReweightedWakeSleep weights draws row by row; {', '.join(run.shared)} stands outside the plate over "
                "rows: use lfm.ImportanceWeightedELBO() or lfm.ELBO()"
            )
        if shared := ", ".join(getattr(run.guide, "made_of_priors", ())):
            raise DeclarationError(
                f"ReweightedWakeSleep learns model and guide apart; the guide of {shared} is made of the model's prior: use "
                "lfm.Gaussian in place of lfm.GaussianMessage, or lfm.ImportanceWeightedELBO()"
            )

    def _formula(self, names: Names, row: str) -> str:
        z, x = names.latents, names.observed
        evidence = names.conditional("p", x)
        return (
            f"theta: log {evidence} >= E_q[log 1/{self.particles} sum_s {names.conditional('p', f'{x}, {z}')} / "
            f"{names.guide}], row by row\n"
            f"phi: raises E_{names.conditional('p', z, x)}[log {names.guide}], no bound on log {evidence}"
        )

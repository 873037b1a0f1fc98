"""The evidence lower bound, the objective that ``lfm.SVI`` maximises by default."""

from __future__ import annotations

from typing import Literal, cast

import torch

from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.bound import Bound
from pyro_lfm.objectives.layout import added
from pyro_lfm.objectives.objective import Names, Objective, Weight, as_weight
from pyro_lfm.objectives.run import Run
from pyro_lfm.objectives.trace_sites import in_row_plate
from pyro_lfm.shapes import number


class ELBO(Objective):
    """The evidence lower bound L = E_q[log p(x | z)] − KL(q ‖ p), per row, in nats.

    Serves ``lfm.SVI`` and, being a ``pyro.infer.ELBO``, plain ``pyro.infer.SVI``.

    Args:
        particles: draws of z per row, S ≥ 1, taken together.
        kl: "auto" uses the closed form for every latent that has one, "analytic" demands it, "monte-carlo"
            estimates all from the draws. A closed form is not valid if the latent's prior reads another latent that the
            guide draws with knowledge of it (a bottom-up guide of a top-down model): such terms are Monte Carlo.
        kl_weight: β ≥ 0, or a schedule: a function of the fraction of the training done, 0 to 1, such as those of
            ``lfm.schedules``.
        free_bits: nats per latent of a row. A KL that is lower, on average over the batch, is not lowered further.
        gradient: "reparametrized", or "sticking-the-landing", which detaches the parameters in log q (Roeder, Wu and
            Duvenaud, 2017): it has no variance where q is exact. Every KL is then Monte Carlo.
        enumerate: "auto" sums discrete latents out, E_q(c)[f] = Σ_c q(c | ·) f(c), if they have at most 256 joint
            values. The programs then run with all values side by side, in new dimensions on the left. Declared models and
            guides allow it, and programs whose statements of that latent say ``infer={"enumerate": "parallel"}``.
            "never" draws them.

    Other latents without a reparametrization get the score-function gradient. The cost of a draw is taken less the mean of
    the row's other draws or, with a single draw, less the mean of the other rows.

    Use it first. With one particle and a KL in closed form it is the loss of a VAE, with ``kl_weight`` that of a β-VAE.

    Limits: it lies below log p(x) by KL(q ‖ p(z | x)), and θ is pulled towards models whose posterior q can represent.
    With a ``kl_weight`` other than 1 or with free bits the objective is no bound. The history reports the bound itself.

    Source: Kingma and Welling (2014), equations 3 and 10; free bits: Kingma et al. (2016), appendix C.8.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> lfm.ELBO(particles=4).bound(model, guide, torch.zeros(3, 5)).per_row.shape
    torch.Size([3])
    """

    def __init__(
        self,
        particles: int = 1,
        kl: Literal["auto", "analytic", "monte-carlo"] = "auto",
        kl_weight: Weight = 1.0,
        free_bits: float = 0.0,
        gradient: Literal["reparametrized", "sticking-the-landing"] = "reparametrized",
        enumerate: Literal["auto", "never"] = "auto",
    ):
        if kl not in ("auto", "analytic", "monte-carlo"):
            raise DeclarationError(f'kl must be "auto", "analytic" or "monte-carlo"; got {kl!r}')
        if gradient not in ("reparametrized", "sticking-the-landing"):
            raise DeclarationError(
                f'gradient must be "reparametrized" or "sticking-the-landing"; got {gradient!r}'
            )
        if gradient == "sticking-the-landing" and kl == "analytic":
            raise DeclarationError('kl="analytic" draws no log q to detach: use gradient="reparametrized"')
        super().__init__(particles, enumerate)
        self.kl, self.gradient = kl, gradient
        self.kl_weight = as_weight("kl_weight", kl_weight)
        self.free_bits = number("free_bits", free_bits, least=0.0)

    @property
    def weights(self) -> dict[str, Weight]:
        return {"kl_weight": self.kl_weight}

    def estimate(self, run: Run) -> Bound:
        reconstruction, kls = run.reconstruction(), self._kls(run)
        penalty = {name: kl.mean() for name, kl in kls.items()}
        for name in penalty if self.free_bits else ():
            # A row's part of the KL of a shared latent is next to nothing, and always below the free bits.
            if in_row_plate(run.q[name]):
                penalty[name] = run.layout.mean(kls[name], 0).clamp_min(self.free_bits)
        weight = cast(float | torch.Tensor, self.kl_weight)  # a schedule is a number by now
        cost = added(penalty.values())
        objective = reconstruction.mean() - (
            cost if isinstance(weight, float) and weight == 1.0 else weight * cost
        )
        seen = reconstruction.detach()
        costs = {name: kl.detach() for name, kl in kls.items()}
        return Bound(objective, seen - added(costs.values()), seen, costs, run.layout.total)

    def _kls(self, run: Run) -> dict[str, torch.Tensor]:
        """KL(q ‖ p) of each latent, of each row, (B,)."""
        if self.gradient != "sticking-the-landing":
            return {name: run.kl(name, self.kl) for name in run.p}
        terms, detached = run.by_draw(summed_out=True, scored=True), run.with_parameters_detached()
        return {name: run.expectation(terms.log_q(name, detached) - terms.log_p(name)) for name in run.p}

    def describe(self, names: Names, run: Run) -> list[str]:
        beta = (
            "beta(t) " if callable(self.kl_weight) else "" if self.kl_weight == 1 else f"{self.kl_weight:g} "
        )
        free = "" if beta == "" else "objective (a bound on log p only for weights of at least 1): "
        z, x = names.latents, names.observed
        lines = [
            f"{free}log {names.conditional('p', x)} >= E_q[log {names.conditional('p', x, z)}] - "
            f"{beta}KL({names.guide} || p({z}))",
            f"  E_q: Monte Carlo, {self.particles} particle{'s' if self.particles > 1 else ''}, {self.gradient} gradient",
        ]
        if self.free_bits:
            lines.append(f"  free bits: {self.free_bits:g} nats per latent")
        summed = run.plan.values
        lines += [f"  {name}: summed out exactly, {len(values)} values" for name, values in summed.items()]
        return lines + [
            f"  KL {name}: {'summed out exactly' if name in summed else self._how(run, name)}"
            for name in run.p
        ]

    def _how(self, run: Run, name: str) -> str:
        if self.gradient == "sticking-the-landing":
            return "Monte Carlo (sticking the landing)"
        return "Monte Carlo" if self.kl == "monte-carlo" else run.how(name)

"""The evidence lower bound."""

from __future__ import annotations

from typing import Any, Literal

import torch

from pyro_lfm.bounds import Bound, inside
from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.objective import Names, Objective, Weight, as_weight
from pyro_lfm.objectives.run import Run, law_name
from pyro_lfm.shapes import number


class ELBO(Objective):
    """The evidence lower bound L = E_q[log p(x | z)] − KL(q ‖ p), per row, in nats.

    Serves ``lfm.SVI`` and, being a ``pyro.infer.ELBO``, plain ``pyro.infer.SVI``.

    Args:
        particles: draws of z per row, S ≥ 1, taken together.
        kl: "auto" uses the closed form for every latent that has one, "analytic" demands it, "monte-carlo"
            estimates all from the draws. A closed form is valid for a latent only where its prior reads nothing
            that the guide draws knowing it (a bottom-up guide of a top-down model): such terms are Monte Carlo.
        kl_weight: β ≥ 0, or a schedule: a function of the fraction of the training done, 0 to 1, such as those of
            ``lfm.schedules``.
        free_bits: nats per latent of a row below which its KL, averaged over the batch, is not pressed further.
        gradient: "reparametrized", or "sticking-the-landing": log q with its parameters held
            (Roeder, Wu and Duvenaud, 2017), which has no variance where q is exact; every KL is then Monte Carlo.
        enumerate: "auto" sums discrete latents out, E_q(c)[f] = Σ_c q(c | ·) f(c), while their joint values are at
            most 256; the programs then run with all values side by side, in new dimensions on the left. It holds for
            declared models and guides, and for programs whose statements of that latent say
            ``infer={"enumerate": "parallel"}``. "never" draws them.

    Other latents without a reparametrization get the score-function gradient, from the cost of each draw less the mean
    of the row's other draws, or, of a single draw, less the mean of the other rows.

    Source: Kingma and Welling (2014), equations 3 and 10; free bits: Kingma et al. (2016), appendix C.8.

    >>> from pyro_lfm.families import Gaussian
    >>> from pyro_lfm.guides import Guide
    >>> from pyro_lfm.model import Model
    >>> from pyro_lfm.networks import MLP
    >>> from pyro_lfm.priors import StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(5, mean=MLP(8)))
    >>> guide = Guide(model, z=Gaussian(network=MLP(8)))
    >>> ELBO(particles=4).bound(model, guide, torch.zeros(3, 5)).per_row.shape
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
            raise DeclarationError('kl="analytic" has no draws of log q: use gradient="reparametrized"')
        super().__init__(particles, enumerate)
        self.kl, self.gradient = kl, gradient
        self.kl_weight = as_weight("kl_weight", kl_weight)
        self.free_bits = number("free_bits", free_bits, least=0.0)

    @property
    def weights(self) -> dict[str, Weight]:
        return {"kl_weight": self.kl_weight}

    def estimate(self, run: Run) -> Bound:
        rows, held = run.rows, run.q
        closed: dict[str, torch.Tensor] = {}
        if self.gradient == "sticking-the-landing":
            held = run.held()
        elif self.kl != "monte-carlo":
            closed = self._closed_forms(run)
        reconstruction = rows.add_up(run.log_likelihood())
        kls = {}
        for name in run.p:
            term = closed[name] if name in closed else run.log_q(name, held) - run.log_p(name)
            kls[name] = rows.add_up([term])
        return self._bound(run, reconstruction, kls)

    def _bound(self, run: Run, reconstruction_of: torch.Tensor, kls_of: dict[str, torch.Tensor]) -> Bound:
        """The terms of each value of what is summed out, weighted and put together."""
        rows = run.rows
        reconstruction = rows.expect(reconstruction_of)
        kls = {name: rows.expect(kl) for name, kl in kls_of.items()}
        penalty = {name: kl.mean() for name, kl in kls.items()}
        for name in penalty if self.free_bits else ():
            # What all rows share costs each of them next to nothing, and would never be pressed.
            if inside(run.q[name]):
                penalty[name] = penalty[name].clamp_min(self.free_bits)
        weight: Any = self.kl_weight
        objective = reconstruction.mean() - weight * sum(penalty.values())
        if run.scored:
            # ∇E_q[f] = E_q[∇f + f ∇log q]: a row's own f for a row's latent, the sum of all for a shared one.
            cost = (reconstruction_of - weight * sum(kls_of.values())).detach()
            if (weights := rows.weights) is not None:
                cost = weights.detach() * cost
            for name in run.scored:
                part = _centred(cost) if inside(run.q[name]) else _centred(cost.mean(-1, keepdim=True))
                surrogate = (part * run.score(name)).sum(0).mean()
                objective = objective + surrogate - surrogate.detach()
        seen = reconstruction.mean(0).detach()
        costs = {name: kl.mean(0).detach() for name, kl in kls.items()}
        return Bound(objective, seen - sum(costs.values(), torch.zeros_like(seen)), seen, costs, rows.total)

    def _closed_forms(self, run: Run) -> dict[str, torch.Tensor]:
        found = {}
        for name in run.p:
            if name in run.layout.values:  # exact as it is: all values, each with its log q − log p
                continue
            value = run.closed_form(name)
            if value is not None:
                found[name] = value
            elif self.kl == "analytic":
                reason = run.obstacle(name)
                raise DeclarationError(
                    f'kl="analytic": KL(q({name}) ‖ p({name})) of {law_name(run.q[name])} against '
                    f'{law_name(run.p[name])} has no closed form{f" here: {reason}" if reason else ""}; use kl="auto"'
                )
        return found

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
        summed = run.layout.values
        lines += [f"  {name}: summed out exactly, {len(values)} values" for name, values in summed.items()]
        return lines + [
            f"  KL {name}: {'summed out exactly' if name in summed else self._how(run, name)}"
            for name in run.p
        ]

    def _how(self, run: Run, name: str) -> str:
        if self.gradient == "sticking-the-landing":
            return "Monte Carlo (sticking the landing)"
        return "Monte Carlo" if self.kl == "monte-carlo" else run.how(name)

    def __repr__(self) -> str:
        return (
            f"ELBO(particles={self.particles}, kl={self.kl!r}, kl_weight={self.kl_weight!r}, "
            f"free_bits={self.free_bits}, gradient={self.gradient!r}, enumerate={self.enumerate!r})"
        )


def _centred(cost: torch.Tensor) -> torch.Tensor:
    """Less the mean of the others, (values, draws, rows): unbiased, as theirs does not depend on a draw's own value."""
    dim = 1 if cost.shape[1] > 1 else 2
    count = cost.shape[dim]
    return cost if count == 1 else (cost - cost.mean(dim, keepdim=True)) * (count / (count - 1))

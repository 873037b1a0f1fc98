"""Bounds made of importance weights, row by row: log p(x) estimated from several draws of each row's latents."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.bound import Bound, inside
from pyro_lfm.objectives.draw_terms import Sites
from pyro_lfm.objectives.handlers import RowDraws, with_values
from pyro_lfm.objectives.objective import Names, Objective
from pyro_lfm.objectives.run import Run

GRADIENTS = ("reparametrized", "sticking-the-landing", "doubly-reparametrized")


@dataclass(frozen=True)
class Terms:
    """The logarithms of which weights are made; each has shape (values or 1, draws or 1, rows or 1).

    Attributes:
        likelihood: of each observed site of the rows; outside: of those outside the plate, divided by N.
        log_p, log_q: of each latent; of a shared one divided by N.
        scale: of all statements of a row, beyond the plate's: weights of whole rows. It is in all terms.
    """

    likelihood: list[Tensor]
    outside: list[Tensor]
    log_p: dict[str, Tensor]
    log_q: dict[str, Tensor]
    scale: float | Tensor

    @classmethod
    def of(cls, run: Run, distributions: Sites) -> Terms:
        """Args: distributions: the guide's sites from which log q is taken."""
        terms = run.by_draw(summed_out=True, scored=True)
        return cls(
            terms.log_likelihood(inside),
            terms.log_likelihood(lambda site: not inside(site)),
            {name: terms.log_p(name) for name in run.p},
            {name: terms.log_q(name, distributions) for name in run.p},
            terms.own_scale(),
        )

    def log_weights(self, run: Run) -> Tensor:
        """log [p(x, c, z) / q(z | c, x)] of each value c of what is summed out and each draw z of a row.

        It is −∞ where q gives c no mass, as where another value of c is known: there q(c) does not cancel. Nor does it in
        rows where a mask takes c out of the bound, which keeps q(c) as the probability of the value alone.
        """
        row = [*run.drawn, *run.layout.values]
        above = [*self.likelihood, *(self.log_p[name] for name in row)]
        log_w = run.rows.add_up([*above, *(-self.log_q[name] for name in run.drawn)])
        log_c = run.rows.log_weights
        if log_c is not None:
            if any(run.by_draw(True, True).counting(name).mask is not None for name in run.layout.values):
                log_w = log_w + log_c - run.rows.add_up([self.log_q[name] for name in run.layout.values])
            log_w = log_w.where(log_c > -torch.inf, log_w.new_full((), -torch.inf))
        # What weighs a row weighs its bound, and stays outside the logarithm.
        return log_w if self.is_plain else log_w / self.scale

    @property
    def is_plain(self) -> bool:
        """Whether nothing scales the rows."""
        return isinstance(self.scale, float) and math.isclose(self.scale, 1.0)

    def weighted(self, value: Tensor) -> Tensor:
        """A number for each row, times what the row weighs."""
        return value if self.is_plain else value * self.scale


def tilted(log_w: Tensor, log_c: Tensor | None, alpha: float) -> tuple[Tensor, Tensor]:
    """1/(1 − α) log 1/S Σₛ Σ_c q(c) [w_cs / q(c)]^(1−α) of each row, and the share of each term, a constant.

    It is computed about the mean m of the logarithms, m + 1/(1 − α) log(1 + Σ q (e^((1−α)(l − m)) − 1)), which near α = 1
    has all of its digits.

    Args:
        log_w: log [p(x, c, z) / q(z | c, x)], (values or 1, S, rows).
        log_c: log q(c), or None where nothing is summed out.
    """
    draws = log_w.shape[1]
    if alpha == 0:
        total = log_w.logsumexp((0, 1))
        return total - math.log(draws), (log_w - total).exp().detach()
    measure = torch.full_like(log_w, 1 / draws) if log_c is None else (log_c.exp() / draws).expand_as(log_w)
    # What q gives no mass has no ratio, and no share.
    log_r = log_w if log_c is None else (log_w - log_c).where(measure > 0, log_w.new_zeros(()))
    if alpha == 1:
        return (measure * log_r).sum((0, 1)), measure.detach()
    rest = 1 - alpha
    finite = log_r.detach().nan_to_num(neginf=0.0, posinf=0.0)
    centre = (measure.detach() * finite).sum((0, 1))
    bent = rest * (log_r - centre)
    # Far from the centre exp overflows, and log Σ exp has digits enough.
    near = (bent.detach().abs().where(measure > 0, bent.new_zeros(())).amax((0, 1)) < 1).expand_as(bent)
    # Divided by 1 − α before anything is added up, so that no small difference is divided.
    apart = (log_r - centre).where(near, bent.new_zeros(()))
    mean = (measure * apart * _over_itself(torch.expm1, rest * apart, (1 / 2, 1 / 6, 1 / 24))).sum((0, 1))
    small = mean * _over_itself(torch.log1p, rest * mean, (-1 / 2, 1 / 3, -1 / 4))
    log_measure = measure.clamp_min(torch.finfo(measure.dtype).tiny).log()
    terms = (log_measure + bent).where(measure > 0, bent.new_full((), -torch.inf))
    large = terms.where(~near, log_measure).logsumexp((0, 1))
    value = torch.where(near[0, 0], small, large / rest)
    return centre + value, (terms - rest * value).exp().detach()


def _over_itself(
    function: Callable[[Tensor], Tensor], x: Tensor, series: tuple[float, float, float]
) -> Tensor:
    """f(x) / x of a function that is x + series[0] x² + series[1] x³ + ... near zero."""
    close = x.detach().abs() < 1e-3
    safe = x.where(~close, x.new_ones(()))
    first, second, third = series
    return torch.where(close, 1 + x * (first + x * (second + x * third)), function(safe) / safe)


class Weighted(Objective):
    """What bounds made of importance weights have in common; see ``ImportanceWeightedELBO``."""

    _plate = RowDraws
    _sums_shared = False
    alpha: float = 0.0
    gradient: str = "reparametrized"
    weighs_draws = True

    @property
    def leads_guide(self) -> bool:
        """q(c | ·) of what is summed out follows the posterior; where log q is held for several draws, it is biased."""
        return (self.alpha == 0 and self.enumerate == "auto") or self.gradient == "sticking-the-landing"

    def estimate(self, run: Run) -> Bound:
        self._check(run)
        terms = Terms.of(run, self._distributions(run))
        log_c = run.rows.log_weights
        value, share = tilted(terms.log_weights(run), log_c, self.alpha)
        value = terms.weighted(value)
        if self.gradient == "doubly-reparametrized" and self.particles > 1:
            _pass_through_draws(run, share.sum(0))
        bound = self._gather(run, terms, value)
        objective = bound.objective + _scores(run, value.detach(), bound.objective.detach())
        if log_c is not None and self.alpha == 0:
            # q(c | ·) has dropped out of the weights: it follows the posterior of c at the draws.
            fresh = run.at_held_draws()
            held = run.by_draw(summed_out=True, scored=True)
            follow = run.rows.add_up([held.log_q(name, fresh) for name in run.layout.values])
            objective = objective + gradient_alone((share * follow).sum((0, 1)).mean())
        return Bound(objective, bound.per_row, bound.reconstruction, bound.kl, bound.total)

    def log_weights(self, model: Any, guide: Any, batch: Any) -> Tensor:
        """log [p(x, z) / q(z | x)] of each draw and row, (S, B); latents that are summed out are.

        Raises:
            DeclarationError: some latent is shared by all rows, so that a row has no weight of its own.
        """
        run = self.run(model, guide, (batch,), {})
        if run.shared:
            raise DeclarationError(
                f"{', '.join(run.shared)} is shared by all rows: a row has no importance weights of its own"
            )
        terms = Terms.of(run, run.q)
        if not terms.is_plain:
            raise DeclarationError(
                "the statements of a row are scaled, so that their product is no density of the row: log p(x) is known "
                "without poutine.scale"
            )
        return terms.log_weights(run).logsumexp(0)

    def _distributions(self, run: Run) -> Sites:
        """The guide's distributions from which the weights' log q is taken."""
        if self.gradient == "reparametrized":
            return run.q
        # What rows share is, for the distribution of a row's latents, a parameter like others.
        doubly = self.gradient == "doubly-reparametrized"
        return run.held(run.shared if doubly else [], model_too=doubly)

    def _gather(self, run: Run, terms: Terms, value: Tensor) -> Bound:
        """Each row's own bound, less what the shared latents cost, and the averages over the draws to be reported."""
        rows = run.rows
        kls = {name: terms.log_q[name] - terms.log_p[name] for name in run.p}
        for name in run.shared:
            closed = None if self.gradient == "sticking-the-landing" else run.closed_form(name)
            if closed is not None:
                kls[name] = closed
            elif self.gradient == "doubly-reparametrized":
                kls[name] = run.by_draw(summed_out=True, scored=True).log_q(name) - terms.log_p[name]
        for term in [*terms.outside, *(-kls[name] for name in run.shared)]:
            value = value + rows.add_up([term]).mean((0, 1))
        seen = rows.expect(rows.add_up([*terms.likelihood, *terms.outside])).mean(0).detach()
        costs = {name: rows.expect(rows.add_up([kl])).mean(0).detach() for name, kl in kls.items()}
        return Bound(value.mean(), value.detach(), seen, costs, rows.total)

    def _check(self, run: Run) -> None:
        """Raises DeclarationError where the gradient is not to be had, naming the latent."""
        kind = self.gradient
        if kind == "reparametrized":
            return
        if run.scored:
            raise DeclarationError(
                f'gradient="{kind}": {", ".join(run.scored)} has no reparametrization; use '
                'gradient="reparametrized", which gives such latents the score-function gradient'
            )
        spread = [name for name in run.drawn if _values_of(run, name) > 1]
        if kind == "doubly-reparametrized" and spread:
            raise DeclarationError(
                f'gradient="{kind}": the guide draws {", ".join(spread)} knowing {", ".join(run.layout.values)}, '
                'which is summed out; use gradient="reparametrized"'
            )

    def _seen_by_model(self, q: Any) -> Any:
        if self.gradient != "doubly-reparametrized":
            return q
        # Tensors of their own, so that what flows back from the weights can be told from what flows between draws.
        return with_values(q, lambda site: site["value"].view_as(site["value"]))

    @abstractmethod
    def _formula(self, names: Names, row: str) -> str:
        """The bound as a formula; ``row``: the latents of a row."""

    def describe(self, names: Names, run: Run) -> list[str]:
        row = ", ".join([*run.drawn, *run.layout.values])
        scored = ""
        if run.scored and self.gradient == "reparametrized":
            scored = f"; score function for {', '.join(run.scored)}"
        count = f"{self.particles} draw{'s' if self.particles > 1 else ''}"
        lines = [self._formula(names, row), f"  E_q: {count} per row, {self.gradient} gradient{scored}"]
        for name, values in run.layout.values.items():
            how = "" if self.alpha else f"; q({name} | .) follows the posterior of {name} at the draws"
            lines.append(f"  {name}: summed out exactly within the weights, {len(values)} values{how}")
        for name in run.shared:
            how = "Monte Carlo" if self.gradient == "sticking-the-landing" else run.how(name)
            lines.append(f"  {name}: shared by all rows, drawn once; - KL(q || p) / N per row: {how}")
        return lines


def gradient_alone(term: Tensor) -> Tensor:
    """Zero, with the gradient of a term."""
    return term - term.detach()


def _scores(run: Run, value: Tensor, whole: Tensor) -> Tensor:
    """∇E_q[f] = E_q[∇f + f ∇log q]: zero with the second gradient, a row's own f for a row's latent."""
    found, terms = torch.zeros_like(whole), run.by_draw(summed_out=True, scored=True)
    for name in run.scored:
        score = terms.score(name)
        part = (value * score.sum((0, 1))).mean() if inside(run.q[name]) else whole * score.sum()
        found = found + gradient_alone(part)
    return found


def _values_of(run: Run, name: str) -> int:
    """Under how many values of what is summed out a latent is drawn."""
    site = run.q[name]
    shape = site["value"].shape[: site["value"].dim() - site["fn"].event_dim]
    return shape[: max(0, len(shape) - 1 - run.layout.nesting)].numel()


def _pass_through_draws(run: Run, share: Tensor) -> None:
    """Gradients that flow from the weights into the draws of a row are multiplied by the draw's share, (S, rows)."""
    for name in run.drawn:
        site = run.p[name]
        between, event = (1,) * (run.layout.nesting - 1), (1,) * site["fn"].event_dim
        factor = share.reshape(len(share), *between, share.shape[1], *event)
        if site["value"].requires_grad:
            site["value"].register_hook(lambda gradient, factor=factor: gradient * factor)

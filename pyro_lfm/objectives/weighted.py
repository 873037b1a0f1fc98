"""The base class of bounds made of importance weights: log p(x) of each row from several draws of its latents."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.bound import Bound
from pyro_lfm.objectives.handlers import RowDraws, with_values
from pyro_lfm.objectives.objective import Names, Objective
from pyro_lfm.objectives.run import Run
from pyro_lfm.objectives.trace_sites import PyroProgram, Sites, in_row_plate

GRADIENTS = ("reparametrized", "sticking-the-landing", "doubly-reparametrized")


@dataclass(frozen=True)
class Terms:
    """The logarithms that weights are made of, each of shape (values or 1, draws or 1, rows or 1).

    Attributes:
        likelihood: log p of each observed site inside the plate over rows.
        outside: log p of each observed site outside it, divided by N.
        log_p, log_q: of each latent; of one that all rows share, divided by N.
        scale: the scale of all statements of a row beyond N / B, which weights whole rows. It is in all terms.
    """

    likelihood: list[Tensor]
    outside: list[Tensor]
    log_p: dict[str, Tensor]
    log_q: dict[str, Tensor]
    scale: float | Tensor

    @classmethod
    def of(cls, run: Run, distributions: Sites) -> Terms:
        """The terms of a run, with log q taken from these sites of the guide."""
        terms = run.by_draw(summed_out=True, scored=True)
        return cls(
            terms.log_likelihood(in_row_plate),
            terms.log_likelihood(lambda site: not in_row_plate(site)),
            {name: terms.log_p(name) for name in run.p},
            {name: terms.log_q(name, distributions) for name in run.p},
            terms.own_scale(),
        )

    def log_weights(self, run: Run) -> Tensor:
        """log [p(x, c, z) / q(z | c, x)] of each value c that is summed out and each draw z of a row.

        It is −∞ where q gives c no mass, as where another value of c is known: there q(c) does not cancel. Nor does q(c)
        cancel in rows where a mask takes c out of the bound: there q(c) is only the probability of the value.
        """
        row = [*run.drawn, *run.plan.values]
        above = [*self.likelihood, *(self.log_p[name] for name in row)]
        log_w = run.layout.add_up([*above, *(-self.log_q[name] for name in run.drawn)])
        log_c = run.layout.log_weights
        if log_c is not None:
            if any(run.by_draw(True, True).counting(name).mask is not None for name in run.plan.values):
                log_w = log_w + log_c - run.layout.add_up([self.log_q[name] for name in run.plan.values])
            log_w = log_w.where(log_c > -torch.inf, log_w.new_full((), -torch.inf))
        # The scale of a row multiplies its bound, outside the logarithm.
        return log_w if self.is_plain else log_w / self.scale

    @property
    def is_plain(self) -> bool:
        """Whether nothing scales the rows."""
        return isinstance(self.scale, float) and math.isclose(self.scale, 1.0)

    def weighted(self, value: Tensor) -> Tensor:
        """A number for each row, times the scale of the row."""
        return value if self.is_plain else value * self.scale


def renyi_bound(log_w: Tensor, log_c: Tensor | None, alpha: float) -> tuple[Tensor, Tensor]:
    """1/(1 − α) log 1/S Σₛ Σ_c q(c) [w_cs / q(c)]^(1−α) of each row, and the share of each term, without gradient.

    It is computed about the mean m of the logarithms, m + 1/(1 − α) log(1 + Σ q (e^((1−α)(l − m)) − 1)), which loses no
    digits near α = 1.

    Args:
        log_w: log [p(x, c, z) / q(z | c, x)], (values or 1, S, rows).
        log_c: log q(c); None if no latent is summed out.
    """
    draws = log_w.shape[1]
    if alpha == 0:
        total = log_w.logsumexp((0, 1))
        return total - math.log(draws), (log_w - total).exp().detach()
    measure = torch.full_like(log_w, 1 / draws) if log_c is None else (log_c.exp() / draws).expand_as(log_w)
    # A value without mass under q has no ratio, and no share.
    log_r = log_w if log_c is None else (log_w - log_c).where(measure > 0, log_w.new_zeros(()))
    if alpha == 1:
        return (measure * log_r).sum((0, 1)), measure.detach()
    rest = 1 - alpha
    finite = log_r.detach().nan_to_num(neginf=0.0, posinf=0.0)
    centre = (measure.detach() * finite).sum((0, 1))
    bent = rest * (log_r - centre)
    # Far from the centre exp overflows, and log Σ exp is accurate enough.
    near = (bent.detach().abs().where(measure > 0, bent.new_zeros(())).amax((0, 1)) < 1).expand_as(bent)
    # Divided by 1 − α before terms are added up, so that no small difference is divided.
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
    """A bound made of importance weights; see ``ImportanceWeightedELBO``."""

    def _order(self) -> float:
        """α of the Rényi bound; 0 gives importance weights."""
        return 0.0

    def _gradient(self) -> str:
        """The name of the estimator of the guide's gradient."""
        return "reparametrized"

    def averages_draws(self) -> bool:
        return False

    def sums_out_shared(self) -> bool:
        return False

    def guide_climbs_value(self) -> bool:
        # q(c | ·) of a latent that is summed out follows the posterior. Sticking the landing is biased for several draws.
        follows_posterior = self._order() == 0 and self.enumerate == "auto"
        return not follows_posterior and self._gradient() != "sticking-the-landing"

    def _plate_of_draws(self, dim: int) -> RowDraws:
        return RowDraws("particles", self.particles, dim=dim)

    def estimate(self, run: Run) -> Bound:
        self._check(run)
        terms = Terms.of(run, self._distributions(run))
        log_c = run.layout.log_weights
        value, share = renyi_bound(terms.log_weights(run), log_c, self._order())
        value = terms.weighted(value)
        if self._gradient() == "doubly-reparametrized" and self.particles > 1:
            _pass_through_draws(run, share.sum(0))
        bound = self._gather(run, terms, value)
        objective = bound.objective + _scores(run, value.detach(), bound.objective.detach())
        if log_c is not None and self._order() == 0:
            # q(c | ·) has dropped out of the weights: it follows the posterior of c at the draws.
            fresh = run.with_draws_detached()
            held = run.by_draw(summed_out=True, scored=True)
            follow = run.layout.add_up([held.log_q(name, fresh) for name in run.plan.values])
            objective = objective + gradient_alone((share * follow).sum((0, 1)).mean())
        return Bound(objective, bound.per_row, bound.reconstruction, bound.kl, bound.total)

    def log_weights(self, model: PyroProgram, guide: PyroProgram, batch: Batch) -> Tensor:
        """log [p(x, z) / q(z | x)] of each draw and row, (S, B), with discrete latents summed out as declared.

        Raises:
            DeclarationError: all rows share a latent, so that a row has no weight of its own, or rows are scaled.
        """
        run = self.run(model, guide, (batch,), {})
        if run.shared:
            raise DeclarationError(
                f"{', '.join(run.shared)} is shared by all rows: a row has no importance weights of its own"
            )
        terms = Terms.of(run, run.q)
        if not terms.is_plain:
            raise DeclarationError(
                "the statements of a row are scaled, so that their product is no density of the row: take poutine.scale out "
                "of the model to estimate log p(x)"
            )
        return terms.log_weights(run).logsumexp(0)

    def _distributions(self, run: Run) -> Sites:
        """The guide's sites that log q of the weights is taken from."""
        if self._gradient() == "reparametrized":
            return run.q
        # For the distribution of a row's latents a latent that all rows share is a parameter like others.
        doubly = self._gradient() == "doubly-reparametrized"
        return run.with_parameters_detached(run.shared if doubly else (), model_too=doubly)

    def _gather(self, run: Run, terms: Terms, value: Tensor) -> Bound:
        """The bound of each row, less the KL of shared latents, and the averages over the draws that are reported.

        Args:
            value: the bound of each row without shared latents, (B,).
        """
        rows = run.layout
        kls = {name: terms.log_q[name] - terms.log_p[name] for name in run.p}
        for name in run.shared:
            closed = None if self._gradient() == "sticking-the-landing" else run.closed_form(name)
            if closed is not None:
                kls[name] = closed
            elif self._gradient() == "doubly-reparametrized":
                kls[name] = run.by_draw(summed_out=True, scored=True).log_q(name) - terms.log_p[name]
        for term in [*terms.outside, *(-kls[name] for name in run.shared)]:
            value = value + rows.add_up([term]).mean((0, 1))
        seen = rows.expect(rows.add_up([*terms.likelihood, *terms.outside])).mean(0).detach()
        costs = {name: rows.expect(rows.add_up([kl])).mean(0).detach() for name, kl in kls.items()}
        return Bound(value.mean(), value.detach(), seen, costs, rows.total)

    def _check(self, run: Run) -> None:
        """Raises DeclarationError, naming the latent, where the gradient does not exist."""
        kind = self._gradient()
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
                f'gradient="{kind}": the guide draws {", ".join(spread)} knowing {", ".join(run.plan.values)}, '
                'which is summed out; use gradient="reparametrized"'
            )

    def _seen_by_model(self, q: Trace) -> Trace:
        if self._gradient() != "doubly-reparametrized":
            return q
        # Tensors of their own, so that gradients from the weights are kept apart from those between draws.
        return with_values(q, lambda site: site["value"].view_as(site["value"]))

    @abstractmethod
    def _formula(self, names: Names, row: str) -> str:
        """The bound as a formula; ``row``: the latents of a row."""

    def describe(self, names: Names, run: Run) -> list[str]:
        row = ", ".join([*run.drawn, *run.plan.values])
        scored = ""
        if run.scored and self._gradient() == "reparametrized":
            scored = f"; score function for {', '.join(run.scored)}"
        count = f"{self.particles} draw{'s' if self.particles > 1 else ''}"
        lines = [self._formula(names, row), f"  E_q: {count} per row, {self._gradient()} gradient{scored}"]
        for name, values in run.plan.values.items():
            how = "" if self._order() else f"; q({name} | .) follows the posterior of {name} at the draws"
            lines.append(f"  {name}: summed out exactly within the weights, {len(values)} values{how}")
        for name in run.shared:
            how = "Monte Carlo" if self._gradient() == "sticking-the-landing" else run.how(name)
            lines.append(f"  {name}: shared by all rows, drawn once; - KL(q || p) / N per row: {how}")
        return lines


def gradient_alone(term: Tensor) -> Tensor:
    """Zero, with the gradient of a term."""
    return term - term.detach()


def _scores(run: Run, value: Tensor, whole: Tensor) -> Tensor:
    """Zero, with the gradient E_q[f ∇log q] of latents without a reparametrization; f is a row's own for its latent."""
    scores, terms = torch.zeros_like(whole), run.by_draw(summed_out=True, scored=True)
    for name in run.scored:
        score = terms.score(name)
        part = (value * score.sum((0, 1))).mean() if in_row_plate(run.q[name]) else whole * score.sum()
        scores = scores + gradient_alone(part)
    return scores


def _values_of(run: Run, name: str) -> int:
    """The number of values of summed-out latents under which a latent is drawn."""
    site = run.q[name]
    shape = site["value"].shape[: site["value"].dim() - site["fn"].event_dim]
    summed: torch.Size = shape[: max(0, len(shape) - 1 - run.plan.nesting)]
    return summed.numel()


def _pass_through_draws(run: Run, share: Tensor) -> None:
    """Multiplies gradients from the weights into the draws of a row by the share of each draw, (S, rows)."""
    for name in run.drawn:
        site = run.p[name]
        between, event = (1,) * (run.plan.nesting - 1), (1,) * site["fn"].event_dim
        factor = share.reshape(len(share), *between, share.shape[1], *event)
        if site["value"].requires_grad:
            site["value"].register_hook(lambda gradient, factor=factor: gradient * factor)

"""What a bound consists of: reconstruction, the nats of each latent entry, what they tell of the rows, and at what rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyro_lfm.evaluate.decomposition.active_entries import Units, means_of
from pyro_lfm.evaluate.decomposition.aggregate import Aggregate
from pyro_lfm.evaluate.decomposition.block_sums import BoundTerms, paired_draws
from pyro_lfm.evaluate.decomposition.mean_with_errors import Term
from pyro_lfm.evaluate.decomposition.proposals import tempered_points
from pyro_lfm.evaluate.decomposition.rate_distortion import RateDistortion, joined
from pyro_lfm.evaluate.figures import written
from pyro_lfm.evaluate.inputs import Evaluated, Rows
from pyro_lfm.evaluate.likelihood.estimate import model_of, served
from pyro_lfm.evaluate.requirements import has_latents, inferred, rows_apart
from pyro_lfm.inference.blocks import NUMBERS, Blocks
from pyro_lfm.shapes import number, several, whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Rows taken together.
_ROWS = 256
_BETAS = (0.0, 0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
# Nats below which a latent says nothing.
_NOTHING = 0.01


@dataclass(frozen=True, eq=False, repr=False)
class Decomposition:
    """A bound in its parts, in nats per row: L = reconstruction − Σ kl, and Σ kl = information + aggregate.

    Attributes:
        bound: L, the ELBO. reconstruction: E_q[log p(x | z)].
        kl: KL(q(z | x) ‖ p(z)) of each latent by name, and rate, their sum.
        information: I_q(x; z) = 1/N Σ KL(q(z | xₙ) ‖ q(z)), how much the draws tell which of the N rows they are of; at most
            log N. Of the distribution that the rows come from it is a lower bound, and the less so the nearer to log N.
        information_upper: the same, q(z) made of the other rows: an upper bound for the distribution that the rows come
            from; ∞ of one row.
        aggregate: KL(q(z) ‖ p(z)) of q(z) = 1/N Σ q(z | xₙ).
        latents: of each latent by name its entries: nats, variances of posterior means, which are active.
        curve: rate and distortion; None where no β was asked for.
        draws: S of each row for the bound and the curve. pairs: of each row for log q(z).
    """

    bound: Term
    reconstruction: Term
    rate: Term
    kl: dict[str, Term]
    information: Term
    information_upper: Term
    aggregate: Term
    latents: dict[str, Units]
    curve: RateDistortion | None
    draws: int
    pairs: int

    @property
    def active_units(self) -> int | None:
        """How many entries of all latents are active; None where no latent has a mean, or there is one row."""
        counts = [int(units.active.sum()) for units in self.latents.values() if units.active is not None]
        return sum(counts) if counts else None

    @property
    def verdict(self) -> str:
        """What the factors do, in words: which have collapsed onto the prior, and what limits the figures."""
        words = [units.verdict(name, self.kl[name].mean) for name, units in self.latents.items()]
        if all(units.collapsed(self.kl[name].mean) for name, units in self.latents.items()):
            words = ["The guide is the prior, and the model ignores its latents: posterior collapse."]
        rows = len(self.bound.per_row)
        limit = math.log(rows)
        if self.information.mean > 0.9 * limit and rows > 1:
            words.append(
                f"I(x; z) is near its limit log {rows} = {limit:.2f}, as draws tell all rows apart: of the distribution that the "
                "rows come from it says no more than that it is at least as much; more rows raise the limit."
            )
        share = self.aggregate.mean / self.rate.mean if self.rate.mean > _NOTHING else 0.0
        if share > 0.5:
            words.append(
                f"{share:.0%} of the KL tell nothing of the rows: q(z), over all of them, is not p(z), and a prior that is "
                "learned would save nats."
            )
        return " ".join(words)

    def plot(self, *, title: str | None = "KL of each latent entry") -> Figure:
        """The KL of each latent entry and the rate-distortion curve, see ``lfm.plots.kl_by_entry``."""
        from pyro_lfm import plots

        return plots.kl_by_entry(self, title=title)

    def __repr__(self) -> str:
        rows = len(self.bound.per_row)
        lines = {
            "bound              L": self.bound,
            "reconstruction     E[log p(x | z)]": self.reconstruction,
            "KL                 KL(q(z | x) || p(z))": self.rate,
            "  information      I_q(x; z)": self.information,
            "    other rows' q  at most, of their distribution": self.information_upper,
            "  aggregate        KL(q(z) || p(z))": self.aggregate,
            **({f"  KL of {name}": term for name, term in self.kl.items()} if len(self.kl) > 1 else {}),
        }
        wide = max(map(len, lines))
        head = f"Decomposition: nats per row, {rows} rows, {self.draws} draws each"
        top = f"  {'':<{wide}}  {'mean':>10}  {'draws':>8}  {'rows':>8}"
        body = [
            f"  {words:<{wide}}  {term.mean:>10.4f}  ±{term.draws_error:>7.4f}  ±{written(term.rows_error, '>7.4f')}"
            for words, term in lines.items()
        ]
        units = [line for name, found in self.latents.items() for line in found.report(name)]
        return "\n".join([head, top, *body, *units, f"  {self.verdict}"])


def decompose(
    fit: Evaluated,
    data: Rows | None = None,
    draws: int = 1000,
    pairs: int = 10,
    betas: Sequence[float] = _BETAS,
    active: float = 0.01,
    seed: int = 0,
) -> Decomposition:
    """The parts of the evidence bound over some rows, and what they say of posterior collapse.

        L = E_q[log p(x | z)] − KL(q(z | x) ‖ p(z))
        1/N Σ KL(q(z | xₙ) ‖ p(z)) = I_q(x; z) + KL(q(z) ‖ p(z)),    q(z) = 1/N Σ q(z | xₙ)

    The second is the surgery of Hoffman and Johnson (2016), exact in the estimates too: both come from the same draws, each
    of which is held against the q(z | x) of every row, N² × ``pairs`` densities, in blocks. Of several latents z is all
    together. I_q(x; z) has no bias for these N rows, apart from that of a ratio, of order 1/(N × ``pairs``); of other rows
    see ``Decomposition.information``.

    KLs are closed forms where there are such, else means over the draws. Of each entry k of a latent KL(q(zₖ | x) ‖ p(zₖ)),
    given what the latent's distributions read, is that of the marginals; where they are dependent, in q or p, the KL of the latent
    has a further part, ``Units.rest``. An entry is active where the variance over rows of E_q[zₖ | x] exceeds ``active``.

    The curve is that of the fixed prior and decoder: p_β(z | x) ∝ p(z) p(x | z)^β has the smallest rate R = KL(· ‖ p(z)) for
    its distortion D = −E[log p(x | z)]. It is estimated by importance sampling from a mixture of q, the prior and,
    where latents can be carried to the reals, t distributions fitted to each row's weights; its bias, of order one over the effective
    draws, is not in the errors. Points whose k̂ is too large are marked: there more draws help.

    Args:
        fit: what was fitted, or a pair (model, guide).
        data: rows as given to ``fit``; left out, those that were fitted. With a pair they are needed.
        draws: S ≥ 2, of each row, for the bound; as many for the curve.
        pairs: ≥ 2, draws of each row at which log q(z) is evaluated.
        betas: of the points of the curve, ≥ 0; () saves the time that it takes.
        active: the variance above which an entry is active, in squared units of z: 0.01 is meant for priors of variance 1.

    Raises:
        DeclarationError: a latent that all rows share, or that stands in plates of its own; an argument out of its range.
        DataError: no data with a pair; data that hold values of a latent.

    Source: Hoffman and Johnson (2016), "ELBO surgery"; Burda, Grosse and Salakhutdinov (2016), section 5.2, for active
    units; Alemi et al. (2018), "Fixing a broken ELBO", and Huang et al. (2020) for the curve; Poole et al. (2019), equation
    13, for the upper bound.

    >>> import torch
    >>> from pyro_lfm import Gaussian, Guide, Linear, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=Linear()))
    >>> guide = Guide(model, z=Gaussian(mean=Linear()))
    >>> found = decompose((model, guide), torch.randn(20, 4), draws=50)
    >>> abs(found.rate.mean - found.information.mean - found.aggregate.mean) < 1e-6
    True
    """
    draws, pairs = whole("draws", draws, least=2), whole("pairs", pairs, least=2)
    betas = tuple(number("betas", beta, least=0.0) for beta in several("betas", betas))
    active = number("active", active, least=0.0)
    rows_apart(model_of(fit), "lfm.evaluate.decompose")
    has_latents(model_of(fit), "lfm.evaluate.decompose")
    done, batch, guide = served(fit, data)
    model = done.model
    inferred(model, batch, "lfm.evaluate.decompose")
    names = list(model.latents)
    blocks = Blocks(model, guide, batch, _ROWS, seed)
    terms = BoundTerms(blocks, draws)
    with blocks.running():
        for block in blocks:
            terms.add(block)
        bound, reconstruction, kl, rate = terms.found()
        aggregate = Aggregate(blocks, guide, names)
        near, log_ratio = paired_draws(blocks, aggregate, pairs)
        centre = means_of(blocks, guide, names)
    width = sum(model.latents[name].shape.numel() for name in names)
    parts = Blocks(model, guide, batch, max(1, min(_ROWS, NUMBERS // (draws * width))), seed + 1)
    with parts.running():
        points = [] if not betas else [tempered_points(parts, block, draws, betas) for block in parts]
    information, other, upper = _surgery(near, log_ratio, rate)
    units = {
        name: Units.of(
            terms.entries[name], terms.apart[name], kl[name], centre[name], active, terms.how[name]
        )
        for name in names
    }
    distortion = Term(-reconstruction.per_row, reconstruction.standard_error)
    curve = joined(betas, points, draws, (rate, distortion)) if betas else None
    return Decomposition(
        bound, reconstruction, rate, kl, information, upper, other, units, curve, terms.draws, pairs
    )


def _surgery(near: tuple[Tensor, Tensor], log_ratio: Tensor, rate: Term) -> tuple[Term, Term, Term]:
    """Information, aggregate KL and the upper bound of the first, from the draws at which log q(z) is known.

    The mean of a = log q(z | x) − log q(z) has the noise of log q(z | x), which k = log q(z | x) − log p(z) has too, and
    of k the mean is known, or better known: a − c (k − KL), c the slope of a on k within rows, has the same mean and less
    noise, none for q(z) = p(z), where c = 1.

    Args:
        near: log q(z | x) − log q(z), and the same with q(z) of the other rows, (pairs, N) each.
        log_ratio: log q(z | x) − log p(z), (pairs, N).
    """
    a, without = near
    spread = log_ratio - log_ratio.mean(0)
    total = spread.square().sum()
    c = float((spread * (a - a.mean(0))).sum() / total) if float(total) > 0 else 0.0
    rest = a - c * log_ratio
    noise = rest.var(0) / len(rest)
    variance = rate.standard_error.square()
    information = Term(rest.mean(0) + c * rate.per_row, (noise + c**2 * variance).sqrt())
    other = Term((1 - c) * rate.per_row - rest.mean(0), (noise + (1 - c) ** 2 * variance).sqrt())
    upper = information.per_row + (without - a).mean(0)
    if len(upper) == 1:
        return information, other, Term(torch.full_like(upper, torch.inf), torch.zeros_like(upper))
    upper_noise = (without - c * log_ratio).var(0) / len(rest)
    return information, other, Term(upper, (upper_noise + c**2 * variance).sqrt())

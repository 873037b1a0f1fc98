"""``decompose``: the parts of a bound, reconstruction, the KL of each latent entry, information, and the rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyro_lfm.evaluate.decoding.factor_order import factor_order
from pyro_lfm.evaluate.decomposition.active_entries import LatentEntries, means_of
from pyro_lfm.evaluate.decomposition.aggregate import Aggregate
from pyro_lfm.evaluate.decomposition.block_sums import BoundTerms, paired_draws
from pyro_lfm.evaluate.decomposition.mean_with_errors import Term
from pyro_lfm.evaluate.decomposition.proposals import tempered_points
from pyro_lfm.evaluate.decomposition.rate_distortion import RateDistortion, curve_of_blocks
from pyro_lfm.evaluate.figures import or_dash
from pyro_lfm.evaluate.inputs import Evaluated, Rows
from pyro_lfm.evaluate.likelihood.estimate import model_of, served
from pyro_lfm.evaluate.requirements import has_latents, inferred, rows_apart
from pyro_lfm.inference.blocks import NUMBERS, Blocks
from pyro_lfm.shapes import number, several, whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Rows in one block.
_ROWS = 256
_BETAS = (0.0, 0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
# Nats below which a latent has collapsed.
_COLLAPSED = 0.01


@dataclass(frozen=True, eq=False, repr=False)
class Decomposition:
    """The parts of a bound, in nats per row: L = reconstruction − Σ kl, and Σ kl = information + aggregate.

    Attributes:
        bound: L, the ELBO.
        reconstruction: E_q[log p(x | z)].
        kl: {latent: KL(q(z | x) ‖ p(z))}.
        rate: their sum.
        information: I_q(x; z) = 1/N Σ KL(q(z | xₙ) ‖ q(z)), the information of a draw about its row among the N rows, at
            most log N. For the distribution of the rows it is a lower bound, and a loose one near log N.
        information_upper: the same with q(z) over the other rows. For the distribution of the rows it is an upper bound. ∞
            for one row.
        aggregate: KL(q(z) ‖ p(z)) of q(z) = 1/N Σ q(z | xₙ).
        latents: {latent: its entries, with their nats, variances of posterior means, and which are active}.
        curve: rate and distortion. None if no β was given.
        order: the names of the factors, the one that explains most of the rows of the fit first: the order of pictures and
            tables. Labels have no place in it.
        draws: S, draws of each row for the bound and the curve.
        pairs: draws of each row for log q(z).

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> pair = model, lfm.ExactPosterior(model)
    >>> parts = lfm.evaluate.decompose(pair, model.sample(20, seed=0)["x"], draws=20, betas=())
    >>> abs(parts.rate.mean - parts.information.mean - parts.aggregate.mean) < 1e-6, parts.order
    (True, ('z',))
    """

    bound: Term
    reconstruction: Term
    rate: Term
    kl: dict[str, Term]
    information: Term
    information_upper: Term
    aggregate: Term
    latents: dict[str, LatentEntries]
    curve: RateDistortion | None
    order: tuple[str, ...]
    draws: int
    pairs: int

    @property
    def active_units(self) -> int | None:
        """The number of active entries of all latents. None where no latent has a mean, or there is one row."""
        counts = [int(own.active.sum()) for own in self.latents.values() if own.active is not None]
        return sum(counts) if counts else None

    @property
    def verdict(self) -> str:
        """Which entries are active or collapsed, and whether the estimates are near their limits, in sentences."""
        sentences = [own.verdict(name, self.kl[name].mean) for name, own in self.latents.items()]
        if all(own.collapsed(self.kl[name].mean) for name, own in self.latents.items()):
            sentences = ["The guide is the prior, and the model ignores its latents: posterior collapse."]
        rows = len(self.bound.per_row)
        limit = math.log(rows)
        if self.information.mean > 0.9 * limit and rows > 1:
            sentences.append(
                f"I(x; z) is near its limit log {rows} = {limit:.2f}, as draws tell all rows apart. For the distribution of "
                "the rows it is only a lower bound. More rows raise the limit."
            )
        share = self.aggregate.mean / self.rate.mean if self.rate.mean > _COLLAPSED else 0.0
        if share > 0.5:
            sentences.append(
                f"{share:.0%} of the KL hold no information about the rows: q(z) over all rows is not p(z), and a learned "
                "prior would save nats."
            )
        return " ".join(sentences)

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
            "    upper bound    with q(z) of the other rows": self.information_upper,
            "  aggregate        KL(q(z) || p(z))": self.aggregate,
            **({f"  KL of {name}": term for name, term in self.kl.items()} if len(self.kl) > 1 else {}),
        }
        wide = max(map(len, lines))
        head = f"Decomposition: nats per row, {rows} rows, {self.draws} draws each"
        top = f"  {'':<{wide}}  {'mean':>10}  {'draws':>8}  {'rows':>8}"
        body = [
            f"  {label:<{wide}}  {term.mean:>10.4f}  ±{term.draws_error:>7.4f}  ±{or_dash(term.rows_error, '>7.4f')}"
            for label, term in lines.items()
        ]
        entries = [line for name, own in self.latents.items() for line in own.report(name, self.order)]
        return "\n".join([head, top, *body, *entries, f"  {self.verdict}"])


def decompose(
    fit: Evaluated,
    data: Rows | None = None,
    draws: int = 1000,
    pairs: int = 10,
    betas: Sequence[float] = _BETAS,
    active: float = 0.01,
    seed: int = 0,
) -> Decomposition:
    """The parts of the evidence bound over some rows, and which latent entries have collapsed.

    The bound of a row, and the mean of its KL over N rows, are::

        L = E_q[log p(x | z)] − KL(q(z | x) ‖ p(z))
        1/N Σ KL(q(z | xₙ) ‖ p(z)) = I_q(x; z) + KL(q(z) ‖ p(z)),    q(z) = 1/N Σ q(z | xₙ)

    The second line is the surgery of Hoffman and Johnson (2016). It holds exactly for the estimates too, as both terms come
    from the same draws. Each draw is evaluated under q(z | x) of every row, N² × ``pairs`` densities, in blocks. z stands
    for all latents together. I_q(x; z) for these N rows has no bias but that of a ratio, of order 1/(N × ``pairs``). For the
    distribution of the rows see ``Decomposition.information``.

    KLs are closed forms where these exist, and means over the draws otherwise. KL(q(zₖ | x) ‖ p(zₖ)) of an entry k,
    given the parents of the latent, is that of the marginals. Where entries are dependent, in q or p, the KL of the latent
    has a further part, ``LatentEntries.rest``. An entry is active where the variance over rows of E_q[zₖ | x] exceeds
    ``active``.

    The curve is that of the fixed prior and decoder: p_β(z | x) ∝ p(z) p(x | z)^β has the smallest rate R = KL(· ‖ p(z)) for
    its distortion D = −E[log p(x | z)]. It is estimated by importance sampling from a mixture of q, the prior and,
    where latents can be mapped to the reals, t distributions fitted to each row's weights. Its bias, of order one over the
    effective sample size, is not in the errors. Points with too large a k̂ are marked. More draws help there.

    Args:
        fit: a fit, or a pair (model, guide).
        data: rows as given to ``fit``. If left out, those that were fitted. A pair needs them.
        draws: S ≥ 2 of each row, for the bound and for the curve.
        pairs: ≥ 2, draws of each row at which log q(z) is evaluated.
        betas: β ≥ 0 of the points of the curve. () leaves the curve out.
        active: the variance above which an entry is active, in squared units of z. The default 0.01 is for priors of
            variance 1.

    Raises:
        DeclarationError: a latent that all rows share, or that stands in plates of its own, or an argument out of its range.
        DataError: no data with a pair, or data that hold values of a latent.

    Source: Hoffman and Johnson (2016), "ELBO surgery"; Burda, Grosse and Salakhutdinov (2016), section 5.2, for active
    units; Alemi et al. (2018), "Fixing a broken ELBO", and Huang et al. (2020) for the curve; Poole et al. (2019), equation
    13, for the upper bound.

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear()))
    >>> parts = lfm.evaluate.decompose((model, guide), torch.randn(20, 4), draws=50)
    >>> abs(parts.rate.mean - parts.information.mean - parts.aggregate.mean) < 1e-6
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
        bound, reconstruction, kl, rate = terms.terms()
        aggregate = Aggregate(blocks, guide, names)
        near, log_ratio = paired_draws(blocks, aggregate, pairs)
        centre = means_of(blocks, guide, names)
    width = sum(model.latents[name].shape.numel() for name in names)
    parts = Blocks(model, guide, batch, max(1, min(_ROWS, NUMBERS // (draws * width))), seed + 1)
    with parts.running():
        points = [] if not betas else [tempered_points(parts, block, draws, betas) for block in parts]
    information, other, upper = _surgery(near, log_ratio, rate)
    entries = {
        name: LatentEntries.of(
            terms.entries[name], terms.apart[name], kl[name], centre[name], active, terms.how[name]
        )
        for name in names
    }
    distortion = Term(-reconstruction.per_row, reconstruction.standard_error)
    order = tuple(factor_order(done, data).ranked)
    curve = curve_of_blocks(betas, points, draws, (rate, distortion)) if betas else None
    return Decomposition(
        bound, reconstruction, rate, kl, information, upper, other, entries, curve, order, terms.draws, pairs
    )


def _surgery(near: tuple[Tensor, Tensor], log_ratio: Tensor, rate: Term) -> tuple[Term, Term, Term]:
    """The information, the aggregate KL and the upper bound of the information, from draws with known log q(z).

    k = log q(z | x) − log p(z) is a control variate of a = log q(z | x) − log q(z): both have the noise of log q(z | x), and
    the mean of k is known, or known better. a − c (k − KL), with c the slope of a on k within rows, has the mean of a and
    less noise, and none for q(z) = p(z), where c = 1.

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

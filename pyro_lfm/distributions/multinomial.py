"""The multinomial with a total of its own for each row, its exact marginals, and its support."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions.constraints import Constraint
from torch.nn.functional import log_softmax

from pyro_lfm.distributions.count_distributions import Derivative, log_factorial_error, log_poisson
from pyro_lfm.distributions.draws import binomial_draw
from pyro_lfm.distributions.explicit_derivatives import with_derivatives
from pyro_lfm.distributions.interface import Shape
from pyro_lfm.distributions.stirling import wide

# Up to so many trials per row are drawn one by one.
_FEW = 1000


class Compositions(Constraint):
    """Counts (..., D) of at least 0 that sum to ``total``, or to any number if ``total`` is None."""

    is_discrete = True
    event_dim = 1

    def __init__(self, total: Tensor | None = None):
        self.total = total

    def __repr__(self) -> str:
        return "Compositions()" if self.total is None else f"Compositions(total={float(self.total):g})"

    @property
    def words(self) -> tuple[str, str]:
        """The requirement on data and the remedy, for errors."""
        rows = "have rows of whole numbers of at least 0"
        if self.total is None:
            return rows, "give counts, or declare a continuous family"
        name = 'total_count="length", a Covariate that holds each row\'s sum'
        return (
            f"{rows} that sum to {float(self.total):g}",
            f"where totals differ from row to row declare {name}",
        )

    def check(self, value: Tensor) -> Tensor:
        counts = ((value >= 0) & (value == value.round())).all(-1)
        return counts if self.total is None else counts & (value.sum(-1) == self.total)


def _log_poisson(count: Tensor, log_mean: Tensor) -> Tensor:
    return log_poisson(count, log_mean.exp(), log_mean)


def _log_poisson_derivatives(count: Tensor, log_mean: Tensor) -> Derivative:
    return (lambda: log_mean - (count + 1).digamma()), (lambda: count - log_mean.exp())


class Multinomial(dist.TorchDistribution):
    """p(x) = n! Π_d p_d^(x_d) / x_d! for rows x that sum to n, and 0 for all others; p = softmax(logits).

    Pyro's Multinomial has one n for all rows.

    Args:
        total_count: n, (...), one for each row.
        logits: (..., D), up to a constant.
        total: n if it is known before the data, against which data can be checked.
        observed: (..., D), True where a count was observed; all by default. The others are merged into one category,
            whose count is the rest of n: the exact marginal.

    >>> distribution = Multinomial(torch.tensor([1.0, 3.0]), torch.zeros(2))
    >>> distribution.sample().sum(-1), distribution.log_prob(torch.tensor([0.0, 1.0])).exp()
    (tensor([1., 3.]), tensor([0.5000, 0.0000]))
    """

    arg_constraints: dict[str, Constraint] = {}

    def __init__(
        self,
        total_count: Tensor,
        logits: Tensor,
        total: Tensor | None = None,
        observed: Tensor | None = None,
    ):
        mask_batch = torch.Size() if observed is None else observed.shape[:-1]
        batch = torch.broadcast_shapes(total_count.shape, logits.shape[:-1], mask_batch)
        self.total_count, self.total, self.observed = total_count.expand(batch), total, observed
        self.logits = log_softmax(logits, -1).expand(*batch, logits.shape[-1])
        super().__init__(batch, logits.shape[-1:], validate_args=False)

    @property
    def support(self) -> Compositions:
        return Compositions(self.total)

    def expand(self, batch_shape: Shape, _instance: Multinomial | None = None) -> Multinomial:
        batch_shape = torch.Size(batch_shape)
        logits = self.logits.expand(*batch_shape, *self.event_shape)
        return Multinomial(self.total_count.expand(batch_shape), logits, self.total, self.observed)

    def marginal(self, observed: Tensor) -> Multinomial:
        """The marginal distribution of the observed counts."""
        return Multinomial(self.total_count, self.logits, self.total, observed)

    def conditional(self, value: Tensor, observed: Tensor) -> Multinomial:
        """The conditional distribution of the missing counts given the observed ones, which are 0 in its draws."""
        total = (self.total_count - (value * observed).sum(-1)).clamp_min(0.0)
        return Multinomial(total, self.logits.masked_fill(observed, torch.finfo(self.logits.dtype).min))

    def log_prob(self, value: Tensor) -> Tensor:
        dtype = torch.promote_types(self.logits.dtype, value.dtype)
        logits, never = self.logits, torch.finfo(self.logits.dtype).min
        n, value = wide(self.total_count), wide(value)
        if self.observed is not None:
            value = value * self.observed
            unseen = (n - value.sum(-1)).unsqueeze(-1)
            value = torch.cat([value.expand(*unseen.shape[:-1], -1), unseen], -1)
            merged = logits.masked_fill(self.observed, never).logsumexp(-1, keepdim=True)
            # The merged category of the missing counts stands at the end. Their own logits become −∞.
            separate = logits.masked_fill(~self.observed, never)
            logits = torch.cat([separate, merged.expand(*separate.shape[:-1], 1)], -1)
        # An impossible category with count 0 adds 0 · ln 0 = 0.
        logits = logits.clamp_min(never)
        impossible = ((value < 0) | ((value > 0) & (logits <= never))).any(-1) | (value.sum(-1) != n)
        log_p, count = log_softmax(wide(logits), -1), value.clamp_min(0.0)
        # A multinomial is independent Poissons with these means, conditioned on their sum.
        log_mean = n.clamp_min(1.0).log().unsqueeze(-1) + log_p
        each = with_derivatives(
            _log_poisson,
            _log_poisson_derivatives,
            count,
            log_mean.masked_fill(n.unsqueeze(-1) == 0, -torch.inf),
        )
        return (log_factorial_error(n) + each.sum(-1)).masked_fill(impossible, -torch.inf).to(dtype)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        with torch.no_grad():
            most = int(self.total_count.max())
            if most > max(_FEW, 4 * self.event_shape[0]):
                return self._sample_by_binomials(shape)
            # As many trials as the largest total. Trials beyond a row's own total do not count.
            each = dist.Categorical(logits=self.logits).sample((most, *sample_shape)).movedim(0, -1)
            place = torch.arange(most, device=each.device)
            counted = (place < self.total_count.unsqueeze(-1)).to(self.logits.dtype).expand(each.shape)
            counts = counted.new_zeros(*shape, *self.event_shape)
            return counts.scatter_add(-1, each, counted)

    def _sample_by_binomials(self, shape: tuple[int, ...]) -> Tensor:
        """Draws one category after another: its count is binomial out of what the categories before it have left."""
        logits = wide(self.logits).clamp_min(-1e30)
        later = logits.flip(-1).logcumsumexp(-1).flip(-1)
        rest, counts = wide(self.total_count).expand(shape), []
        for k in range(self.event_shape[0] - 1):
            counts.append(binomial_draw(rest, (logits[..., k] - later[..., k + 1]).expand(shape)))
            rest = rest - counts[-1]
        return torch.stack([*counts, rest], -1).to(self.logits.dtype)

    @property
    def mean(self) -> Tensor:
        return self.total_count.unsqueeze(-1) * self.logits.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 - self.logits.exp())

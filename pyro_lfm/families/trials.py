"""Families of counts with a known total: the trials of an entry, or the sum of a row."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.distributions import Distribution, constraints

from pyro_lfm.distributions import count_distributions as counts
from pyro_lfm.distributions import multinomial
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.factors import Factor
from pyro_lfm.families.other_parametrizations import OF_ODDS, OF_PROBABILITIES
from pyro_lfm.sources.source import SourceLike
from pyro_lfm.sources.values import Fixed


class _Trials(counts.Binomial):
    """A binomial distribution. ``most`` is the number of trials if all rows have the same, for checks of the data."""

    most: Tensor | None = None

    @property
    def support(self) -> constraints.Constraint:
        if self.most is None:
            return constraints.nonnegative_integer
        return constraints.integer_interval(0, self.most)

    def expand(self, batch_shape: torch.Size, _instance: _Trials | None = None) -> _Trials:
        new = super().expand(batch_shape, _instance)
        new.most = self.most
        return new


def _whole_numbers(total_count: ArrayLike | Tensor | str, family: str) -> Fixed | str:
    """The source of the total."""
    if isinstance(total_count, str):
        return total_count
    try:
        value = torch.as_tensor(total_count, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        value = torch.zeros(())
    if not bool((value >= 1).all() and (value == value.round()).all()):
        raise DeclarationError(
            f"total_count of {family} must be whole numbers of at least 1, or the name of a parent; got {total_count!r}"
        )
    return Fixed(total_count)


class Binomial(Factor):
    """x_d | parents ~ Binomial(n_d, sigmoid(logits_d)): the number of successes in n trials.

    Args:
        event: size D, or a shape.
        total_count: n, an integer or one for each entry, or the name of the parent that holds it, usually
            a ``Covariate`` with the support ``constraints.positive_integer``.
        logits: source of the logits.
        given, network: see ``Factor``.

    Use it for successes in a known number of trials, such as correct answers of a test.

    Limits: trials of an entry are independent given z. It has no overdispersion of its own.

    Source: McCullagh and Nelder (1989), "Generalized linear models", chapter 4.

    >>> import pyro_lfm as lfm
    >>> lfm.Binomial(2, total_count=10, logits=lfm.Fixed(0.0)).build("x", [])().mean
    tensor([5., 5.])
    """

    instead = OF_ODDS

    constraints = {"total_count": dist.constraints.positive_integer}

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        total_count: ArrayLike | Tensor | str = 1,
        logits: SourceLike = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        sources = {"total_count": _whole_numbers(total_count, "Binomial"), "logits": logits}
        super().__init__(event, sources, given=given, network=network)

    def distribution(self, total_count: Tensor, logits: Tensor) -> Distribution:
        distribution = _Trials(total_count, logits=logits, validate_args=False)
        distribution.most = None if self.named else total_count
        return distribution.to_event(len(self.shape))


class Multinomial(Factor):
    """x | parents ~ Multinomial(n, softmax(logits)): counts of D kinds in n draws, such as the words of a document.

    p(x) = n! Π_d p_d^(x_d) / x_d!, p = softmax(logits). The latents explain the shares, not the total n.

    Args:
        event: D.
        total_count: n, an integer for all rows, or the name of the parent that holds the n of each row, usually
            a ``Covariate`` with the support ``constraints.positive_integer``. A row with another sum has probability 0.
        logits: source of the D logits. For given probabilities p they are the logarithms.
        given, network: see ``Factor``.

    Use it for words of documents and other counts whose total is no information about z.

    Limits: it has no overdispersion of its own, and D outputs share one softmax.

    Source: Blei, Ng and Jordan (2003), "Latent Dirichlet allocation", section 3, the words given their shares.

    >>> import pyro_lfm as lfm
    >>> lfm.Multinomial(3, total_count=10, logits=lfm.Fixed(0.0)).build("x", [])().sample((2,)).sum(-1)
    tensor([10., 10.])
    """

    instead = OF_PROBABILITIES

    constraints = {"total_count": dist.constraints.positive_integer}

    def __init__(
        self,
        event: int | None = None,
        total_count: ArrayLike | Tensor | str = 1,
        logits: SourceLike = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        sources = {"total_count": _whole_numbers(total_count, "Multinomial"), "logits": logits}
        super().__init__(event, sources, given=given, network=network)

    @property
    def shape(self) -> torch.Size:
        shape = super().shape
        if len(shape) != 1:
            raise ShapeError(f"Multinomial needs an event of one dimension, D kinds; got {tuple(shape)}")
        return shape

    def raw_shape(self, parameter: str) -> torch.Size:
        return torch.Size() if parameter == "total_count" else self.shape

    def distribution(self, total_count: Tensor, logits: Tensor) -> Distribution:
        return multinomial.Multinomial(total_count, logits, None if self.named else total_count)

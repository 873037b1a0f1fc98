"""The outputs of an exported decoder that describe a likelihood: its mean, and the parameters of its family."""

from __future__ import annotations

import torch
from pyro.distributions.torch_distribution import MaskedDistribution
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
)

from pyro_lfm.distributions.pushforward import Pushforward

# Parameters that say the same as another output.
_REDUNDANT = frozenset({"logits", "covariance_matrix", "precision_matrix"})


def parameters_of(distribution: Distribution, rows: int) -> dict[str, Tensor]:
    """The outputs for one likelihood, by name, each with a value for every row.

    ``mean`` where there is one, of a label the probability of each category, and the parameters under the names that the
    distribution gives them, such as ``scale``, ``scale_tril`` or ``probs``. A mixture or a flow, and a distribution without
    such names, has its ``variance`` instead.

    >>> import pyro.distributions as dist
    >>> {name: tuple(value.shape) for name, value in parameters_of(dist.Normal(torch.zeros(4), 1.0).to_event(1), 3).items()}
    {'mean': (3, 4), 'scale': (3, 4)}
    """
    batch = len(distribution.batch_shape)
    parameters = _parameters(distribution)
    if isinstance(_base(distribution), Categorical):
        outputs = {"mean": parameters["probs"], **parameters}
    else:
        mean = distribution.mean
        kept = {name: value for name, value in parameters.items() if value is not mean or name == "probs"}
        outputs = {"mean": mean, **(kept if parameters else _variance(distribution))}
    return {name: _for_rows(value, batch, rows) for name, value in outputs.items()}


def _base(distribution: Distribution) -> Distribution:
    """The distribution of the entries, without masks."""
    while isinstance(distribution, Independent | MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def _parameters(distribution: Distribution) -> dict[str, Tensor]:
    """The parameters of a family by name; none of a mixture or a flow."""
    base = _base(distribution)
    if isinstance(base, Pushforward) and base.is_reshape:
        return {name: value for name, value in _parameters(base.base_dist).items() if name != "loc"}
    if isinstance(base, MixtureSameFamily):
        return {}
    names = [name for name in base.arg_constraints if name not in _REDUNDANT]
    return {name: torch.as_tensor(getattr(base, name)) for name in names}


def _variance(distribution: Distribution) -> dict[str, Tensor]:
    try:
        return {"variance": distribution.variance}
    except NotImplementedError:
        return {}


def _for_rows(value: Tensor, batch: int, rows: int) -> Tensor:
    """A parameter with its batch dimensions as one of rows, the first, and those of other plates after it."""
    if value.dim() < max(batch, 1) or not batch:
        return value.expand(rows, *value.shape)
    value = value.movedim(batch - 1, 0)
    return value.expand(rows, *value.shape[1:])

"""Contract checks of priors and factors, for authors of their own."""

from __future__ import annotations

import torch
from torch.distributions import Distribution

from pyro_lfm.distributions.interface import is_distribution
from pyro_lfm.distributions.supports import from_reals
from pyro_lfm.factors import Conditional, Encoder, Factor, MadeOfGuide, Prior
from pyro_lfm.factors.variables import Variable
from pyro_lfm.families import Gaussian
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.redrawing import with_reset_modules
from pyro_lfm.runtime import Stream, isolated, others_random_kept
from pyro_lfm.sources.networks import MLP
from pyro_lfm.testing.contract import (
    ContractError,
    failure,
    gradient_faults,
    plain_tensor_faults,
    raise_faults,
    trainable,
)
from pyro_lfm.testing.draws_and_log_prob import distribution_faults

_ROWS = 5


def check_prior(prior: Prior, seed: int = 0) -> None:
    """Checks the contract of a prior: ``forward() -> Distribution`` over one event.

    It checks event and batch shape, that draws lie in the support, log_prob against draws with its constants, a gradient
    for every parameter, float64, and that no tensor stays behind when the prior moves to another device or type. It is
    silent if all is right. False alarms have a probability below 10⁻⁶.

    Args:
        prior: as it would be declared.
        seed: of the draws.

    Raises:
        ContractError: the prior breaks its contract. The message lists the faults.

    >>> import pyro_lfm as lfm
    >>> lfm.testing.check_prior(lfm.StandardNormal(3))
    """
    if not isinstance(prior, Prior):
        raise ContractError(f"a prior is a subclass of lfm.Prior; got {type(prior).__name__}")
    raise_faults(prior, _factor_faults(prior, [], seed))


def check_factor(
    factor: Factor, parents: dict[str, int | tuple[int, ...]] | None = None, seed: int = 0
) -> None:
    """Checks the contract of a factor, ``factor(*parents) -> Distribution``, as ``check_prior`` does.

    Args:
        factor: as it would be declared, with its event size. A copy of it is built for these parents.
        parents: {name: event size or shape}. By default one parent ``z`` of size 2 if the factor reads parents.
            A parent that is a parameter itself may be left out: it is one number within that parameter's bounds.
        seed: of the parents' values and the draws.

    Raises:
        ContractError: the prior breaks its contract. The message lists the faults.

    >>> import pyro_lfm as lfm
    >>> lfm.testing.check_factor(lfm.Gaussian(3, network=lfm.MLP(8)))
    """
    if not isinstance(factor, Factor):
        raise ContractError(f"a factor is a subclass of lfm.Factor; got {type(factor).__name__}")
    if parents is None:
        parents = {"z": 2} if factor.reads else {}
    real = torch.distributions.constraints.real
    variables = [
        Variable(name, torch.Size((size,) if isinstance(size, int) else size), real)
        for name, size in parents.items()
    ]
    variables += [
        Variable(parent, torch.Size(), factor.constraints.get(parameter, real))
        for parameter, parent in factor.named.items()
        if parent not in parents
    ]
    raise_faults(factor, _factor_faults(factor, variables, seed))


def _factor_faults(factor: Factor, parents: list[Variable], seed: int) -> list[str]:
    try:
        with isolated(Stream(seed)), others_random_kept():
            # A copy with networks of its own: modules of the user are run below, and change their type.
            built = with_reset_modules({"x": factor})["x"].build("x", parents)
            if isinstance(built, MadeOfGuide):
                _bind(built)
            for table in built.tables:
                table.resize(_ROWS)
            # As after a fit: in training a prior may depend on the row, as ExemplarPrior does.
            built.eval()
            faults = plain_tensor_faults(built)
            values = [_values(parent) for parent in parents]
            distribution = built.at(values, torch.arange(_ROWS))
            rows = (_ROWS,) if values or built.tables else ()
            shape_faults = _shape_faults(distribution, built.shape, rows)
            if shape_faults:
                return faults + shape_faults
            faults += distribution_faults(distribution) + _row_faults(built, values)
            draw = distribution.sample().detach()
            faults += gradient_faults(trainable(built), distribution.log_prob(draw).sum(), "from log_prob")
            return faults + _dtype_faults(built, values)
    except Exception as error:  # a user's part may raise anything
        return [failure(error)]


def _bind(prior: MadeOfGuide) -> None:
    """Gives a prior that is made of a guide a small encoder to be made of."""
    observed = prior.declaration.trial_variables()
    prior.observe(observed, lambda n: {name: torch.randn(n, *v.shape) for name, v in observed.items()})
    encoder = Gaussian(prior.shape, network=MLP(8)).build(prior.variable, list(observed.values()))
    prior.bind(Encoder(encoder, tuple(observed.values())))


def _values(parent: Variable) -> torch.Tensor:
    if parent.support.is_discrete:
        return torch.randint(1, 6, (_ROWS, *parent.shape)).to(torch.get_default_dtype())
    return from_reals(parent.support)(torch.randn(_ROWS, *parent.shape))


def _shape_faults(distribution: Distribution, event: torch.Size, rows: tuple[int, ...]) -> list[str]:
    # A user's forward may return anything.
    if not isinstance(distribution, Distribution):
        return [f"it must return a distribution; got {type(distribution).__name__}"]
    if not is_distribution(distribution):
        return ["it must return a distribution of pyro.distributions, not of torch.distributions"]
    faults = []
    if distribution.event_shape != event:
        faults.append(
            f"event shape must be {tuple(event)}, as declared; got {tuple(distribution.event_shape)}: "
            "use .to_event(1) on independent entries"
        )
    if tuple(distribution.batch_shape) not in ((), rows):
        for_rows = f" for {_ROWS} rows of parents" if rows else " for a factor without parents"
        faults.append(f"batch shape must be {rows}{for_rows}; got {tuple(distribution.batch_shape)}")
    return faults


def _row_faults(factor: Conditional, values: list[torch.Tensor]) -> list[str]:
    """The distribution of a row must depend on that row's parents alone, also with several draws of the parents."""
    if not values:
        return []
    with evaluating(factor), torch.no_grad():
        index = torch.arange(_ROWS)
        draw = factor.at(values, index).expand((_ROWS,)).sample()
        first, second = (
            factor.at([value + step for value in values], index).expand((_ROWS,)).log_prob(draw)
            for step in (0.0, 1.0)
        )
        alone = factor.at([value[:1] for value in values], index[:1]).expand((1,)).log_prob(draw[:1])
        both = [torch.stack([value, value + 1.0]) for value in values]
        stacked = factor.at(both, index).expand((2, _ROWS)).log_prob(draw)
    faults = []
    if not torch.allclose(first[:1], alone, rtol=1e-3, atol=1e-4):
        faults.append(
            "the distribution of a row changes with the other rows: each row must be computed for itself"
        )
    if not torch.allclose(stacked, torch.stack([first, second]), rtol=1e-3, atol=1e-4):
        faults.append(
            f"parents of shape (2, {_ROWS}, ...), two draws of each row, must give two distributions of each row"
        )
    return faults


def _dtype_faults(factor: Conditional, values: list[torch.Tensor]) -> list[str]:
    def dtype_in(dtype: torch.dtype) -> torch.dtype:
        """The type of log_prob when the factor and its parents have a type."""
        if isinstance(factor, MadeOfGuide) and factor.encoder is not None:
            factor.encoder.factor.to(dtype)
        distribution = factor.to(dtype).at([value.to(dtype) for value in values], torch.arange(_ROWS))
        return distribution.log_prob(distribution.sample()).dtype

    constants = not any(tensor.is_floating_point() for tensor in (*factor.parameters(), *factor.buffers()))
    # A part without any tensor makes its constants at each call, in torch's default type.
    for dtype in (torch.float32,) if constants else (torch.float32, torch.float64):
        if (computed := dtype_in(dtype)) != dtype:
            names = [str(t).removeprefix("torch.") for t in (dtype, computed)]
            return [
                f"in {names[0]} its log_prob is {names[1]}: make constants with the dtype of the parameters"
            ]
    return []

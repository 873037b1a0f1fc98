"""Contract checks for priors, factors and guides."""

from __future__ import annotations

import copy
from typing import Any

import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.interface import is_distribution
from pyro_lfm.distributions.supports import from_reals
from pyro_lfm.factors import Conditional, Encoder, Factor, MadeOfGuide, Prior
from pyro_lfm.factors.variables import Variable
from pyro_lfm.families import Gaussian
from pyro_lfm.guides import as_guide
from pyro_lfm.guides.any_guide import together
from pyro_lfm.objectives import ELBO
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.model import as_model
from pyro_lfm.programs.redrawing import with_reset_modules
from pyro_lfm.runtime import Stream, isolated, others_random_kept
from pyro_lfm.sources.networks import MLP
from pyro_lfm.testing.agreement import distribution_faults

_ROWS = 5


class ContractError(AssertionError):
    """A part breaks the contract of its kind; the message lists every fault found."""


def check_prior(prior: Prior, seed: int = 0) -> None:
    """Whether a prior keeps its contract: ``forward() -> Distribution`` over one event, sound in every way below.

    Checked are event and batch shape; draws within the support; log_prob against draws, its constants included;
    a gradient for every parameter; float64; and that no tensor is left behind when the prior moves to another
    device or type. False alarms are below one in 10⁶.

    Args:
        prior: as it would be declared.
        seed: of the draws.

    Raises:
        ContractError: with the faults in words.

    >>> from pyro_lfm import StandardNormal
    >>> check_prior(StandardNormal(3))
    """
    if not isinstance(prior, Prior):
        raise ContractError(f"a prior is a subclass of lfm.Prior; got {type(prior).__name__}")
    _raise(prior, _factor_faults(prior, [], seed))


def check_factor(
    factor: Factor, parents: dict[str, int | tuple[int, ...]] | None = None, seed: int = 0
) -> None:
    """Whether a factor keeps its contract ``factor(*parents) -> Distribution``; what is checked is as for a prior.

    Args:
        factor: as it would be declared, with its event size; a copy of it is built for these parents.
        parents: {name: event size or shape}; one parent ``z`` of size 2 by default where the factor reads parents.
            A parent that is a parameter itself may be left out: it is one number within that parameter's bounds.
        seed: of the parents' values and the draws.

    Raises:
        ContractError: with the faults in words.

    >>> from pyro_lfm import MLP, Gaussian
    >>> check_factor(Gaussian(3, network=MLP(8)))
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
    _raise(factor, _factor_faults(factor, variables, seed))


def check_guide(guide: Any, model: Any, seed: int = 0) -> None:
    """Whether a guide serves a model.

    Checked are that it draws the same latents with their shapes and supports; log_prob against draws; a finite
    bound, with a gradient for every parameter of the guide, with one particle and with several; and that no
    tensor is left behind when the guide moves to another device or type.

    Args:
        guide: a ``Guide``, a ``PyroGuide``, or any module that is a Pyro guide of a batch.
        model: the model that it is to serve; the data are drawn from it.
        seed: of the data and the draws.

    Raises:
        ContractError: with the faults in words.

    >>> from pyro_lfm import MLP, Gaussian, Guide, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=MLP(8)))
    >>> check_guide(Guide(model, z=Gaussian(network=MLP(8))), model)
    """
    # In one copy, so that a guide that looks at the model looks at its copy; neither is run itself.
    model, guide = copy.deepcopy((as_model(model), as_guide(guide)))
    model, guide = together(model, guide)
    with others_random_kept():
        _raise(guide, _guide_faults(guide, model, seed))


def _raise(part: Any, faults: list[str]) -> None:
    if faults:
        raise ContractError(f"{type(part).__name__}: " + "; ".join(faults))


def _failed(error: Exception) -> str:
    # Pyro appends the shapes of the whole trace.
    message = str(error).split("\nTrace Shapes")[0]
    return f"running it failed: {type(error).__name__}: {message}"


def _left_behind(part: torch.nn.Module) -> list[str]:
    """Tensors kept as plain attributes: they follow neither .to(device) nor .double() nor a saved state."""
    return [
        f"the tensor self.{name} of {type(module).__name__} is a plain attribute, which stays behind when the part "
        "moves to another device or dtype: use register_buffer or torch.nn.Parameter"
        for module in part.modules()
        for name, value in vars(module).items()
        if isinstance(value, torch.Tensor)
    ]


def _gradient_faults(named: list[tuple[str, Any]], value: torch.Tensor, label: str) -> list[str]:
    if not named:
        return []
    silent = "no gradient reaches the parameter {} {}: it would never be trained"
    if not value.requires_grad:
        return [silent.format(name, label) for name, _ in named]
    gradients = torch.autograd.grad(value, [p for _, p in named], allow_unused=True)
    faults = []
    for (name, _), gradient in zip(named, gradients, strict=True):
        if gradient is None:
            faults.append(silent.format(name, label))
        elif not bool(gradient.isfinite().all()):
            faults.append(f"the gradient of the parameter {name} is not finite {label}")
    return faults


def _trainable(part: torch.nn.Module) -> list[tuple[str, Any]]:
    return [(name, p) for name, p in part.named_parameters() if p.requires_grad]


# Factors -------------------------------------------------------------------------------------------------


def _factor_faults(factor: Factor, parents: list[Variable], seed: int) -> list[str]:
    try:
        with isolated(Stream(seed)), others_random_kept():
            # With networks of its own: those that were given as modules are run and change their type below.
            built = with_reset_modules({"x": factor})["x"].build("x", parents)
            if isinstance(built, MadeOfGuide):
                _bind(built)
            for table in built.tables:
                table.resize(_ROWS)
            faults = _left_behind(built)
            values = [_values(parent) for parent in parents]
            distribution = built.at(values, torch.arange(_ROWS))
            rows = (_ROWS,) if values or built.tables else ()
            shape_faults = _shape_faults(distribution, built.shape, rows)
            if shape_faults:
                return faults + shape_faults
            faults += distribution_faults(distribution) + _row_faults(built, values)
            draw = distribution.sample().detach()
            faults += _gradient_faults(_trainable(built), distribution.log_prob(draw).sum(), "from log_prob")
            return faults + _dtype_faults(built, values)
    except Exception as error:  # whatever a part of one's own may raise
        return [_failed(error)]


def _bind(prior: MadeOfGuide) -> None:
    """Binds a prior that is made of a guide to a small encoder."""
    observed = prior.declaration.trial_variables()
    prior.observe(observed, lambda n: {name: torch.randn(n, *v.shape) for name, v in observed.items()})
    encoder = Gaussian(prior.shape, network=MLP(8)).build(prior.variable, list(observed.values()))
    prior.bind(Encoder(encoder, tuple(observed.values())))


def _values(parent: Variable) -> torch.Tensor:
    if parent.support.is_discrete:
        return torch.randint(1, 6, (_ROWS, *parent.shape)).to(torch.get_default_dtype())
    return from_reals(parent.support)(torch.randn(_ROWS, *parent.shape))


def _shape_faults(distribution: Any, event: torch.Size, rows: tuple[int, ...]) -> list[str]:
    if not isinstance(distribution, torch.distributions.Distribution):
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
    """Each row's distribution depends on that row's parents alone, also where draws of them stand to the left of rows."""
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
    def kind(dtype: torch.dtype) -> torch.dtype:
        if isinstance(factor, MadeOfGuide) and factor.encoder is not None:
            factor.encoder.factor.to(dtype)
        distribution = factor.to(dtype).at([value.to(dtype) for value in values], torch.arange(_ROWS))
        return distribution.log_prob(distribution.sample()).dtype

    constants = not any(tensor.is_floating_point() for tensor in (*factor.parameters(), *factor.buffers()))
    # A part without any tensor makes its constants anew each time, in torch's default type.
    for dtype in (torch.float32,) if constants else (torch.float32, torch.float64):
        if (found := kind(dtype)) != dtype:
            names = [str(t).removeprefix("torch.") for t in (dtype, found)]
            return [
                f"in {names[0]} its log_prob is {names[1]}: make constants with the dtype of the parameters"
            ]
    return []


# Guides --------------------------------------------------------------------------------------------------


def _guide_faults(guide: Any, model: Any, seed: int) -> list[str]:
    rows = model.with_stand_ins().sample(_ROWS, seed=seed)
    batch = Batch({name: rows[name] for name in model.observed}, total=2 * _ROWS)
    faults = _left_behind(guide)
    try:
        faults += _site_faults(guide, model, batch, seed)
        if not faults:
            for particles in (1, 3):
                faults += _bound_faults(guide, model, batch, particles, seed)
    except Exception as error:  # whatever a part of one's own may raise
        faults.append(_failed(error))
    return faults


def _site_faults(guide: Any, model: Any, batch: Batch, seed: int) -> list[str]:
    guide.settle(batch)
    with isolated(Stream(seed, model.device), model.device), torch.no_grad():
        sites, _ = ELBO().traces(model, guide, (batch,), {})
    faults = []
    for name, site in sites.nodes.items():
        if site["type"] == "sample" and site["is_observed"]:
            faults.append(f"it observes {name}: obs= belongs in the model")
    for name, variable in model.latents.items():
        if name not in sites.nodes:
            faults.append(f"it never samples the latent {name}")
            continue
        value, distribution = sites.nodes[name]["value"], sites.nodes[name]["fn"]
        in_plate = any(frame.name == "rows" for frame in sites.nodes[name]["cond_indep_stack"])
        if variable.per_row != in_plate:
            faults.append(
                f"{name} must be drawn {'inside' if variable.per_row else 'outside'} `with batch.plate():`, as in the model"
            )
            continue
        if distribution.support.is_discrete and not variable.support.is_discrete:
            faults.append(
                f"{name} is drawn from a discrete distribution, {type(distribution).__name__}; the model's is continuous"
            )
            continue
        shape = (*((_ROWS,) if variable.per_row else ()), *variable.shape)
        if value.shape != shape:
            faults.append(f"{name} must have shape {shape} for {_ROWS} rows; got {tuple(value.shape)}")
        elif distribution.event_shape != variable.shape:
            faults.append(
                f"{name} must have event shape {tuple(variable.shape)}; got {tuple(distribution.event_shape)}: use .to_event"
            )
        elif not bool(variable.support.check(value).all()):
            faults.append(f"{name} is drawn outside the model's support, {variable.support}")
        else:
            with isolated(Stream(seed, model.device), model.device):
                faults += [f"{name}: {fault}" for fault in distribution_faults(distribution)]
    return faults


def _bound_faults(guide: Any, model: Any, batch: Batch, particles: int, seed: int) -> list[str]:
    with isolated(Stream(seed, model.device), model.device):
        bound = ELBO(particles=particles).bound(model, guide, batch)
    label = f"with {particles} particle{'s' if particles > 1 else ''}"
    if not bool(bound.per_row.isfinite().all()):
        return [f"the bound is not finite {label}"]
    return _gradient_faults(_trainable(guide), bound.objective, label)

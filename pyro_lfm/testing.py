"""Contract checks for parts of one's own: each says in words what is wrong, and returns quietly otherwise."""

from __future__ import annotations

from typing import Any

import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.factors import Factor, Prior, Variable, is_real
from pyro_lfm.guides import as_guide
from pyro_lfm.model import as_model
from pyro_lfm.objectives import ELBO
from pyro_lfm.runtime import Stream, isolated

_ROWS, _DRAWS = 5, 4000


class ContractError(AssertionError):
    """A part breaks the contract of its kind; the message lists every fault found."""


def check_prior(prior: Prior, seed: int = 0) -> None:
    """Whether a prior keeps its contract: ``forward() -> Distribution`` over one event, sound in every way below.

    Checked are event and batch shape, draws within the support, log_prob against draws (the mean of
    exp(log q − log p) under a widened law is 1, and E[∇ log p] = 0 for learned parameters), a gradient for every
    parameter, and dtype float64.

    Raises:
        ContractError: with every fault in words.

    >>> from pyro_lfm import StandardNormal
    >>> check_prior(StandardNormal(3))
    """
    if not isinstance(prior, Prior):
        raise ContractError(f"a prior is a subclass of lfm.Prior; got {type(prior).__name__}")
    _raise(type(prior).__name__, _faults(prior, [], seed))


def check_factor(
    factor: Factor, parents: dict[str, int | tuple[int, ...]] | None = None, seed: int = 0
) -> None:
    """Whether a factor keeps its contract ``factor(*parents) -> Distribution``; it is built for these parents.

    Args:
        factor: as it would be declared, with its event size.
        parents: {name: event size or shape}; one parent ``z`` of size 2 by default where the factor reads parents.

    Raises:
        ContractError: with every fault in words.

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
    _raise(type(factor).__name__, _faults(factor, variables, seed))


def check_guide(guide: Any, model: Any, seed: int = 0) -> None:
    """Whether a guide serves a model: the same latents, their shapes and supports, a finite bound with a gradient
    for every parameter of the guide, with one particle and with several.

    Raises:
        ContractError: with every fault in words.

    >>> from pyro_lfm import MLP, Gaussian, Guide, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=MLP(8)))
    >>> check_guide(Guide(model, z=Gaussian(network=MLP(8))), model)
    """
    model, guide = as_model(model), as_guide(guide)
    rows = model.sample(_ROWS, seed=seed)
    batch = Batch({name: rows[name] for name in model.observed}, total=2 * _ROWS)
    faults: list[str] = []
    try:
        guide.prepare(batch)
        with isolated(Stream(seed, model.device), model.device), torch.no_grad():
            trace, _ = ELBO().traces(model, guide, (batch,), {})
        sites = {name: trace.nodes[name] for name in model.latents if name in trace.nodes}
        for name, variable in model.latents.items():
            if name not in sites:
                faults.append(f"it never samples the latent {name}")
                continue
            value, law = sites[name]["value"], sites[name]["fn"]
            shape = (*((_ROWS,) if variable.per_row else ()), *variable.shape)
            if value.shape != shape:
                faults.append(f"{name} must have shape {shape} for {_ROWS} rows; got {tuple(value.shape)}")
            elif law.event_shape != variable.shape:
                faults.append(
                    f"{name} must have event shape {tuple(variable.shape)}; got {tuple(law.event_shape)}: use .to_event"
                )
            elif not bool(variable.support.check(value).all()):
                faults.append(f"{name} is drawn outside the model's support, {variable.support}")
        if not faults:
            for particles in (1, 3):
                faults += _bound_faults(guide, model, batch, particles, seed)
    except (RuntimeError, ValueError) as error:
        faults.append(f"running it failed: {error}")
    _raise(type(guide).__name__, faults)


def _bound_faults(guide: Any, model: Any, batch: Batch, particles: int, seed: int) -> list[str]:
    with isolated(Stream(seed, model.device), model.device):
        bound = ELBO(particles=particles).bound(model, guide, batch)
    label = f"with {particles} particle{'s' if particles > 1 else ''}"
    if not bool(bound.per_row.isfinite().all()):
        return [f"the bound is not finite {label}"]
    named = [(name, p) for name, p in guide.named_parameters() if p.requires_grad]
    gradients = torch.autograd.grad(bound.objective, [p for _, p in named], allow_unused=True)
    return _gradient_faults([name for name, _ in named], gradients, label)


def _gradient_faults(names: list[str], gradients: Any, label: str) -> list[str]:
    faults = []
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is None:
            faults.append(f"no gradient reaches the parameter {name} {label}: it would never be trained")
        elif not bool(gradient.isfinite().all()):
            faults.append(f"the gradient of the parameter {name} is not finite {label}")
    return faults


def _faults(factor: Factor, parents: list[Variable], seed: int) -> list[str]:
    try:
        built = factor.copy().build("x", parents)
        with isolated(Stream(seed)):
            values = [torch.randn(_ROWS, *parent.shape) for parent in parents]
            return _law_faults(built, values) + _dtype_faults(built, values)
    except (RuntimeError, ValueError, TypeError) as error:
        return [f"running it failed: {error}"]


def _law_faults(factor: Factor, values: list[torch.Tensor]) -> list[str]:
    faults = []
    if factor.tables:
        for table in factor.tables:
            table.resize(_ROWS)
    law: Any = factor.at(values, torch.arange(_ROWS))
    if not isinstance(law, torch.distributions.Distribution):
        return [f"it must return a distribution; got {type(law).__name__}"]
    if not hasattr(law, "has_enumerate_support") or not hasattr(law, "to_event"):
        return ["it must return a distribution of pyro.distributions, not of torch.distributions"]
    if law.event_shape != factor.shape:
        faults.append(
            f"event shape must be {tuple(factor.shape)}, as declared; got {tuple(law.event_shape)}: "
            "use .to_event(1) on independent entries"
        )
    wanted = (_ROWS,) if values or factor.tables else ()
    if tuple(law.batch_shape) not in ((), wanted):
        faults.append(
            f"batch shape must be {wanted} for {_ROWS} rows of parents; got {tuple(law.batch_shape)}"
        )
    if faults:
        return faults
    draw = law.sample()
    support: Any = law.support
    if not bool(torch.as_tensor(support.check(draw)).all()):
        faults.append(f"draws lie outside its own support, {support}")
    log_prob = law.log_prob(draw)
    if log_prob.shape != law.batch_shape:
        faults.append(f"log_prob must have shape {tuple(law.batch_shape)}; got {tuple(log_prob.shape)}")
    elif not bool(log_prob.isfinite().all()):
        faults.append("log_prob of its own draws is not finite")
    if faults:
        return faults
    faults += _draws_faults(law)
    named = [(name, p) for name, p in factor.named_parameters() if p.requires_grad]
    if named:
        gradients = torch.autograd.grad(
            law.log_prob(draw.detach()).sum(), [p for _, p in named], allow_unused=True
        )
        faults += _gradient_faults([name for name, _ in named], gradients, "from log_prob")
    return faults


def _draws_faults(law: Any) -> list[str]:
    """log_prob against draws, by Stein's identity or by frequencies.

    For a continuous law over the reals, E[∇ log p(x)] = 0 and E[(x − m)·∇ log p(x)] = −D for every fixed m. A wrong scale
    or normalisation of shape breaks the second. A z-score above 6 is a fault: false alarms below 1e-8 per entry.
    """
    with torch.no_grad():
        draws = law.sample(torch.Size((_DRAWS,)))
    if law.support.is_discrete or not is_real(law.support):
        return []
    draws.requires_grad_(True)
    (score,) = torch.autograd.grad(law.log_prob(draws).sum(), draws)
    draws = draws.detach()
    centre = draws.median(0).values
    faults = []
    for what, terms in (("location", score), ("scale", (draws - centre) * score + 1.0)):
        error = terms.std(0) / _DRAWS**0.5 + 1e-6
        if bool((terms.mean(0).abs() / error > 6).any()):
            faults.append(
                f"draws and log_prob disagree (in {what}): the one is not from the law of the other"
            )
    return faults


def _dtype_faults(factor: Factor, values: list[torch.Tensor]) -> list[str]:
    own = [tensor for tensor in (*factor.parameters(), *factor.buffers()) if tensor.is_floating_point()]
    if not own:
        return []
    double = factor.double()
    law = double.at([value.double() for value in values], torch.arange(_ROWS))
    draw = law.sample()
    if draw.is_floating_point() and law.log_prob(draw).dtype != torch.float64:
        return ["in float64 its log_prob is not float64: make constants with the dtype of the parameters"]
    return []


def _raise(what: str, faults: list[str]) -> None:
    if faults:
        raise ContractError(f"{what}: " + "; ".join(faults))

"""The error of a broken contract, and the faults that all parts are checked for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_lfm.errors import first_line


class ContractError(AssertionError):
    """A part breaks the contract of its kind. The message lists every fault.

    >>> import torch, pyro_lfm as lfm
    >>> class Wrong(lfm.Prior):
    ...     def forward(self):
    ...         return torch.distributions.Normal(torch.zeros(self.dim), 1.0)
    >>> try:
    ...     lfm.testing.check_prior(Wrong(2))
    ... except lfm.testing.ContractError as error:
    ...     print(str(error).splitlines()[0])
    Wrong: it must return a distribution of pyro.distributions, not of torch.distributions
    """


def raise_faults(part: object, faults: list[str]) -> None:
    """Raises ContractError with the faults of a part, if it has any."""
    if faults:
        raise ContractError(f"{type(part).__name__}: " + "; ".join(dict.fromkeys(faults)))


def failure(error: Exception) -> str:
    """The fault of a part that raises an error."""
    return f"running it failed: {type(error).__name__}: {first_line(error)}"


def plain_tensor_faults(part: nn.Module) -> list[str]:
    """Tensors that are plain attributes: neither .to(device) nor .double() moves them, and no saved state has them."""
    return [
        f"the tensor self.{name} of {type(module).__name__} is a plain attribute, which stays behind when the part "
        "moves to another device or dtype: use register_buffer or torch.nn.Parameter"
        for module in part.modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    ]


def trainable(part: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in part.named_parameters() if p.requires_grad}


def gradient_faults(parameters: dict[str, nn.Parameter], value: Tensor, where: str) -> list[str]:
    """Parameters that get no gradient from a value, or one that is not finite."""
    if not parameters:
        return []
    silent = "no gradient reaches the parameter {} {}: it would never be trained"
    if not value.requires_grad:
        return [silent.format(name, where) for name in parameters]
    gradients = torch.autograd.grad(value, [*parameters.values()], allow_unused=True)
    faults = []
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            faults.append(silent.format(name, where))
        elif not bool(gradient.isfinite().all()):
            faults.append(f"the gradient of the parameter {name} is not finite {where}")
    return faults

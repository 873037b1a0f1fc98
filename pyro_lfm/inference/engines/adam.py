"""Adam and AdamW by their numbers: the state that an optimizer keeps, and its fused kernel, for eager and native steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

_KERNELS: dict[type, Callable[..., None]] = {
    torch.optim.Adam: torch._fused_adam_,
    torch.optim.AdamW: torch._fused_adamw_,
}


@dataclass(frozen=True)
class AdamGroup:
    """Some parameters that an optimizer moves with the same options. Tensors are the optimizer's own.

    Attributes:
        options: "lr", "betas", "eps", "weight_decay".
        positions: of the parameters among those that were asked for.
        counts: the number of steps of each parameter, one tensor of which ``steps`` are the entries.
        decoupled: whether weight decay acts beside the gradient, as AdamW's does.
    """

    options: dict[str, Any]
    positions: list[int]
    values: list[torch.Tensor]
    means: list[torch.Tensor]
    squares: list[torch.Tensor]
    counts: torch.Tensor
    steps: list[torch.Tensor]
    decoupled: bool


class FusedAdam:
    """Does ``optimizer.step()`` of some parameters by one fused kernel, given their gradients.

    While it is used, nobody else may count the steps of these parameters: their counts are entries of one tensor.
    """

    def __init__(self, kernel: Callable[..., None], groups: list[AdamGroup]):
        self.groups, self._kernel = groups, kernel

    def __call__(self, gradients: Sequence[torch.Tensor], skip: torch.Tensor | None = None) -> None:
        """One step.

        Args:
            skip: a float32 tensor on the device, 1 where the step is to be skipped, or None.
        """
        for group in self.groups:
            group.counts.add_(1 if skip is None else 1 - skip)
            self._kernel(
                group.values,
                [gradients[k] for k in group.positions],
                group.means,
                group.squares,
                [],
                group.steps,
                **_numbers(group.options),
                found_inf=skip,
            )


def fused_adam(
    optimizer: torch.optim.Optimizer, parameters: Sequence[torch.nn.Parameter]
) -> FusedAdam | None:
    """Fused Adam of these parameters.

    None for other optimizers, for one with hooks or options of its own, and for one that has not done a step yet.
    """
    kernel = _kernel_of(optimizer)
    if kernel is None:
        return None
    position = {id(parameter): k for k, parameter in enumerate(parameters)}
    groups = []
    for group in optimizer.param_groups:
        held = [p for p in group["params"] if id(p) in position]
        states: list[Any] = [optimizer.state.get(p) for p in held]
        if not all(states):
            return None
        if not held:
            continue
        # One tensor for all counts of steps, so that one operation raises them.
        counts = torch.stack([state["step"] for state in states])
        steps = [*counts]
        for state, count in zip(states, steps, strict=True):
            state["step"] = count
        means, squares = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        positions = [position[id(p)] for p in held]
        values, decoupled = [p.detach() for p in held], type(optimizer) is torch.optim.AdamW
        groups.append(AdamGroup(group, positions, values, means, squares, counts, steps, decoupled))
    return FusedAdam(kernel, groups)


def _kernel_of(optimizer: torch.optim.Optimizer) -> Callable[..., None] | None:
    """The fused kernel that does the steps of an optimizer; None for one of another class, with hooks or other options."""
    own_hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    hooks = own_hooks or _global_optimizer_pre_hooks or _global_optimizer_post_hooks
    if type(optimizer) not in _KERNELS or hooks or "step" in vars(optimizer):
        return None
    for group in optimizer.param_groups:
        odd = any(group[o] for o in ("amsgrad", "maximize", "capturable", "differentiable"))
        decoupled = bool(group.get("decoupled_weight_decay")) is (type(optimizer) is torch.optim.AdamW)
        if odd or not decoupled or not group["fused"] or isinstance(group["lr"], torch.Tensor):
            return None
    return _KERNELS[type(optimizer)]


def step_by_kernel(optimizer: torch.optim.Optimizer) -> bool:
    """Does ``optimizer.step()`` by its fused kernel alone, without the bookkeeping around it. Whether that was done.

    It is not done where ``fused_adam`` gives None, nor for parameters of several types or devices. Unlike a ``FusedAdam``
    it keeps nothing from step to step.
    """
    kernel = _kernel_of(optimizer)
    if kernel is None:
        return False
    calls = []
    for group in optimizer.param_groups:
        held = [p for p in group["params"] if p.grad is not None]
        states: list[Any] = [optimizer.state.get(p) for p in held]
        if not all(states) or len({(p.dtype, p.device) for p in held}) > 1:
            return False
        if held:
            calls.append((group, held, states))
    with torch.no_grad():
        for group, held, states in calls:
            means, squares, counts = ([s[n] for s in states] for n in ("exp_avg", "exp_avg_sq", "step"))
            torch._foreach_add_(counts, 1)
            kernel(held, [p.grad for p in held], means, squares, [], counts, **_numbers(group))
    return True


def _numbers(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a kernel that are numbers."""
    beta1, beta2 = options["betas"]
    own = {name: options[name] for name in ("lr", "eps", "weight_decay")}
    return {**own, "beta1": beta1, "beta2": beta2, "amsgrad": False, "maximize": False}


def norms_of(tensors: list[torch.Tensor]) -> Sequence[torch.Tensor]:
    """The L2 norm of each tensor, by one operation."""
    return torch._foreach_norm(tensors)

"""Adam and AdamW by torch's fused kernels or by their numbers, without the bookkeeping around them; all steps use them.

All private names of torch that optimizers need are in this file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

_ADAMS: dict[type[torch.optim.Optimizer], Callable[..., None]] = {
    torch.optim.Adam: torch._fused_adam_,
    torch.optim.AdamW: torch._fused_adamw_,
}


# Where torch keeps a function that its compiler is not to look into, once it is asked for.
_HIDDEN = "__dynamo_disable"


@contextmanager
def without_compiler() -> Iterator[None]:
    """A context in which making an optimizer does not import torch's compiler, which takes most of a second.

    An optimizer adds its groups of parameters by a function that is hidden from the compiler, and torch imports the compiler
    to hide it. Where nobody has imported it, there is nobody to hide from.
    """
    add: Any = getattr(torch.optim.Optimizer.add_param_group, "__wrapped__", None)
    if add is None or "torch._dynamo" in sys.modules or hasattr(add, _HIDDEN):
        yield
        return
    setattr(add, _HIDDEN, add)
    try:
        yield
    finally:
        vars(add).pop(_HIDDEN, None)


def norms_of(tensors: list[torch.Tensor]) -> Iterable[torch.Tensor]:
    """The L2 norm of each tensor, by one operation."""
    return torch._foreach_norm(tensors)


def copy_all(held: list[torch.Tensor], now: list[torch.Tensor]) -> None:
    """Copies each of the new tensors into the one in its place, in one call."""
    torch._foreach_copy_(held, now)


def step_by_kernel(optimizer: torch.optim.Optimizer) -> bool:
    """Does ``optimizer.step()`` by its fused kernel alone, in a fifth of the time. Whether that was done.

    It is not done for other optimizers than Adam and AdamW, for one with hooks or options of its own, and for parameters of
    several types or devices.
    """
    kernel = kernel_of(optimizer)
    if kernel is None or not all(is_plain(optimizer, group) for group in optimizer.param_groups):
        return False
    calls = []
    for group in optimizer.param_groups:
        held = [p for p in group["params"] if p.grad is not None]
        if len({(p.dtype, p.device) for p in held}) > 1 or any(p.grad.is_sparse for p in held):
            return False
        calls.append((group, held, [optimizer.state[p] or _begin(optimizer, p) for p in held]))
    with torch.no_grad():
        for group, held, states in filter(itemgetter(1), calls):
            means, squares, counts = ([s[n] for s in states] for n in ("exp_avg", "exp_avg_sq", "step"))
            torch._foreach_add_(counts, 1)
            kernel(held, [p.grad for p in held], means, squares, [], counts, **options_of(group))
    return True


def _begin(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
    """The state of a parameter before its first step, as Adam makes it where its kernel does the steps."""
    state = optimizer.state[parameter]
    state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
    state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    return state


def kernel_of(optimizer: torch.optim.Optimizer) -> Callable[..., None] | None:
    """The kernel of torch's Adam or AdamW; None for other optimizers, and where somebody listens to steps."""
    own_hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    hooks = own_hooks or _global_optimizer_pre_hooks or _global_optimizer_post_hooks
    return None if hooks or "step" in vars(optimizer) else _ADAMS.get(type(optimizer))


def is_plain(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> bool:
    """Whether a group of parameters is updated by the fused kernel, without further options."""
    odd = any(group[o] for o in ("amsgrad", "maximize", "capturable", "differentiable"))
    decoupled = bool(group.get("decoupled_weight_decay")) is (type(optimizer) is torch.optim.AdamW)
    return not odd and decoupled and bool(group["fused"]) and not isinstance(group["lr"], torch.Tensor)


def options_of(group: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the kernel that are numbers."""
    beta1, beta2 = group["betas"]
    return {
        "lr": group["lr"],
        "beta1": beta1,
        "beta2": beta2,
        "weight_decay": group["weight_decay"],
        "eps": group["eps"],
        "amsgrad": False,
        "maximize": False,
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
                **options_of(group.options),
                found_inf=skip,
            )


def fused_adam(
    optimizer: torch.optim.Optimizer, parameters: Sequence[torch.nn.Parameter]
) -> FusedAdam | None:
    """Fused Adam of these parameters.

    None for other optimizers, for one with hooks or options of its own, and for one that has not done a step yet.
    """
    kernel = kernel_of(optimizer)
    if kernel is None:
        return None
    position = {id(parameter): k for k, parameter in enumerate(parameters)}
    groups = []
    for group in optimizer.param_groups:
        if not is_plain(optimizer, group):
            return None
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
        groups.append(
            AdamGroup(
                group,
                positions,
                [p.detach() for p in held],
                means,
                squares,
                counts,
                steps,
                type(optimizer) is torch.optim.AdamW,
            )
        )
    return FusedAdam(kernel, groups)

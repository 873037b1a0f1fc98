"""Adam and AdamW by their numbers: the state that an optimizer keeps, and its fused kernel, for steps of native code."""

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
                lr=group.options["lr"],
                beta1=group.options["betas"][0],
                beta2=group.options["betas"][1],
                weight_decay=group.options["weight_decay"],
                eps=group.options["eps"],
                amsgrad=False,
                maximize=False,
                found_inf=skip,
            )


def fused_adam(
    optimizer: torch.optim.Optimizer, parameters: Sequence[torch.nn.Parameter]
) -> FusedAdam | None:
    """Fused Adam of these parameters.

    None for other optimizers, for one with hooks or options of its own, and for one that has not done a step yet.
    """
    own_hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    hooks = own_hooks or _global_optimizer_pre_hooks or _global_optimizer_post_hooks
    if type(optimizer) not in _KERNELS or hooks or "step" in vars(optimizer):
        return None
    decoupled = type(optimizer) is torch.optim.AdamW
    position = {id(parameter): k for k, parameter in enumerate(parameters)}
    groups = []
    for group in optimizer.param_groups:
        odd = any(group[o] for o in ("amsgrad", "maximize", "capturable", "differentiable"))
        other_decay = bool(group.get("decoupled_weight_decay")) is not decoupled
        if odd or other_decay or not group["fused"] or isinstance(group["lr"], torch.Tensor):
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
            AdamGroup(group, positions, [p.detach() for p in held], means, squares, counts, steps, decoupled)
        )
    return FusedAdam(_KERNELS[type(optimizer)], groups)

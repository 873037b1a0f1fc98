"""Bijections of the reals onto half-lines, intervals and the simplex, whose values never reach the boundary.

They are the maps of ``biject_to``. In every precision their values stay inside the open support, however far out the
real value is, and are annotated with their logarithms (``draw_annotations``), so that densities keep their digits.
``supports.from_reals`` chooses among them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import ExpTransform, SigmoidTransform, StickBreakingTransform, Transform
from torch.nn.functional import logsigmoid, pad

from pyro_lfm.distributions.draw_annotations import exp_with_log, largest_below_one, log_complement_of, log_of


class Exp(ExpTransform):
    """y ↦ e^y, onto the positive numbers.

    >>> Exp()(torch.tensor([-200.0, 200.0]))
    tensor([1.1755e-38, 3.4028e+38])
    """

    def _call(self, x: Tensor) -> Tensor:
        return exp_with_log(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return log_of(y)


class Sigmoid(SigmoidTransform):
    """y ↦ 1 / (1 + e^(−y)), onto the numbers between 0 and 1."""

    def _call(self, x: Tensor) -> Tensor:
        return exp_with_log(logsigmoid(x), logsigmoid(-x), largest_below_one(x.dtype))

    def _inverse(self, y: Tensor) -> Tensor:
        return log_of(y) - log_complement_of(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return logsigmoid(x) + logsigmoid(-x)


class Interval(Transform):
    """y ↦ low + (high − low) / (1 + e^(−y)), onto the numbers between two bounds.

    >>> Interval(1.0, 3.0)(torch.tensor([-200.0, 0.0, 200.0]))
    tensor([1.0000, 2.0000, 3.0000])
    """

    domain = constraints.real
    bijective = True
    sign = 1

    def __init__(self, low: Tensor | float, high: Tensor | float):
        super().__init__()
        self.low, self.high = low, high

    @property
    def codomain(self) -> constraints.Constraint:  # type: ignore[override]
        return constraints.interval(self.low, self.high)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Interval):
            return False
        return _same_bound(self.low, other.low) and _same_bound(self.high, other.high)

    __hash__ = Transform.__hash__

    def _ends(self, like: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (
            torch.as_tensor(end, dtype=like.dtype, device=like.device) for end in (self.low, self.high)
        )
        return low, high

    def _call(self, x: Tensor) -> Tensor:
        low, high = self._ends(x)
        # Computed from the nearer end, so that its distance from there keeps its digits.
        value = torch.where(x < 0, low + (high - low) * x.sigmoid(), high - (high - low) * (-x).sigmoid())
        return torch.minimum(torch.maximum(value, low.nextafter(high)), high.nextafter(low))

    def _inverse(self, y: Tensor) -> Tensor:
        low, high = self._ends(y)
        y = torch.minimum(torch.maximum(y, low.nextafter(high)), high.nextafter(low))
        return (y - low).log() - (high - y).log()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        low, high = self._ends(x)
        return logsigmoid(x) + logsigmoid(-x) + (high - low).log()


class HalfLine(Transform):
    """y ↦ bound ± e^y, onto the numbers above (direction 1) or below (direction −1) a bound.

    >>> HalfLine(2.0, 1)(torch.tensor([-200.0, 0.0]))
    tensor([2.0000, 3.0000])
    """

    domain = constraints.real
    bijective = True

    def __init__(self, bound: Tensor | float, direction: int):
        super().__init__()
        self.bound, self.direction = bound, direction

    @property
    def sign(self) -> int:  # type: ignore[override]
        return self.direction

    @property
    def codomain(self) -> constraints.Constraint:  # type: ignore[override]
        return (constraints.greater_than if self.sign > 0 else constraints.less_than)(self.bound)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HalfLine):
            return False
        return self.sign == other.sign and _same_bound(self.bound, other.bound)

    __hash__ = Transform.__hash__

    def _inside(self, value: Tensor) -> Tensor:
        bound = torch.as_tensor(self.bound, dtype=value.dtype, device=value.device)
        if self.sign > 0:
            return torch.maximum(value, bound.nextafter(torch.full_like(bound, torch.inf)))
        return torch.minimum(value, bound.nextafter(torch.full_like(bound, -torch.inf)))

    def _call(self, x: Tensor) -> Tensor:
        # Half of the largest number, so that the sum does not overflow.
        limit = torch.finfo(x.dtype).max / 2
        return self._inside(self.bound + self.sign * exp_with_log(x, most=limit))

    def _inverse(self, y: Tensor) -> Tensor:
        return (self.sign * (self._inside(y) - self.bound)).log()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x


def _same_bound(one: Tensor | float, other: Tensor | float) -> bool:
    """Whether two bounds are one object or equal numbers. Compiled steps may not compare values of tensors."""
    return one is other or (not isinstance(one, Tensor) and not isinstance(other, Tensor) and one == other)


class StickBreaking(StickBreakingTransform):
    """y (..., K − 1) ↦ K shares: the k-th share is σ(y_k − ln(K − k)) of what the shares before it leave.

    >>> shares = StickBreaking()(torch.tensor([-300.0, 0.0]))
    >>> shares, log_of(shares)
    (tensor([1.1755e-38, 5.0000e-01, 5.0000e-01]), tensor([-300.6931,   -0.6931,   -0.6931]))
    """

    def _logits(self, x: Tensor) -> Tensor:
        return x - torch.arange(x.shape[-1], 0, -1, dtype=x.dtype, device=x.device).log()

    def _logs(self, x: Tensor) -> Tensor:
        logits = self._logits(x)
        left = logsigmoid(-logits).cumsum(-1)
        return pad(logsigmoid(logits), [0, 1]) + pad(left, [1, 0])

    def _call(self, x: Tensor) -> Tensor:
        return exp_with_log(self._logs(x), most=1.0)

    def _inverse(self, y: Tensor) -> Tensor:
        log = log_of(y)
        later = log.flip(-1).logcumsumexp(-1).flip(-1)[..., 1:]
        logits = log[..., :-1] - later
        return logits + torch.arange(logits.shape[-1], 0, -1, dtype=y.dtype, device=y.device).log()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return (self._logs(x)[..., :-1] + logsigmoid(-self._logits(x))).sum(-1)

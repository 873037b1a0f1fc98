"""``first_counted_epoch``: the epoch from which on ``patience`` counts, for the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyro_lfm.errors import warn
from pyro_lfm.schedules import value_ahead
from pyro_lfm.warning_kinds import ScheduleWarning

# How far a weight may be from its end value, relative to its largest one, to have reached it.
_REACHED = 1e-3


def first_counted_epoch(
    patience: int, scheduled: Mapping[str, Callable[[float], float]], total_steps: int, per_epoch: int
) -> int:
    """The first epoch from which on the objective has the weights of its end.

    Bounds of objectives with other weights cannot be compared.

    Args:
        scheduled: the objective's weights that are schedules, by name.
        total_steps, per_epoch: the number of steps of the fit, and of an epoch.
    """
    epochs = -(-total_steps // per_epoch)
    first = 1
    for name, weight in scheduled.items():
        steps = sorted({*range(0, total_steps, per_epoch), total_steps - 1})
        values = [value_ahead(name, weight, step / max(1, total_steps - 1)) for step in steps]
        near = _REACHED * max(map(abs, values))
        apart = [k for k, value in enumerate(values[:epochs]) if abs(value - values[-1]) > near]
        first = max(first, apart[-1] + 2 if apart else 1)
    if first > 1 and first + patience > epochs:
        warn(
            f"patience={patience} cannot stop this fit: it counts once {', '.join(scheduled)} has reached "
            f"its end value, from epoch {first} of {epochs} on: let the schedule end sooner, as "
            "lfm.schedules.linear(until=0.5) does",
            ScheduleWarning,
        )
    return first

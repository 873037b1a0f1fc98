"""Warnings after a fit where a scale of the likelihood has reached its floor ``min_scale``."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import warn
from pyro_lfm.factors import Conditional
from pyro_lfm.factors.wiring import parents_of
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.programs.model import Model
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.warning_kinds import ScaleFloorWarning

# A scale below this multiple of its floor has reached it.
_NEAR = 1.05


def floor_remedy() -> str:
    """What to do about a scale on its floor, in words.

    >>> "lower min_scale" in floor_remedy()
    True
    """
    return (
        "If the noise may be so small, lower min_scale= (a number in the units of the data; by default a thousandth of each "
        "column's spread). If a column is constant or follows from others, where the likelihood grows without bound, drop "
        "it, or take fewer factors or classes"
    )


def warn_of_floors(result: Fit) -> None:
    """Warns where a scale of an observed factor has reached its floor."""
    model = result.model
    if not isinstance(model, Model) or not any(model.factors[name].floors for name in model.observed):
        return
    index = torch.arange(min(256, len(result._rows)))
    data = result._rows.take(index, model.dtype, model.device)
    batch = Batch(data, index.to(model.device), len(result._rows))
    with isolated(Stream(0, model.device), model.device), torch.no_grad():
        q = poutine.trace(result.guide).get_trace(batch)
        p: Any = poutine.trace(poutine.replay(model, trace=q)).get_trace(batch)
        values = {name: p.nodes[name]["value"] for name in model.sites.all}
        for name in model.observed:
            parents = parents_of(model.factors, model.given, name, values, batch.index)
            for words in _on_floors(model.factors[name], parents, batch.index):
                warn(f"{name}: {words}. The data want it smaller. {floor_remedy()}", ScaleFloorWarning)


def _on_floors(factor: Conditional, parents: list[torch.Tensor], index: torch.Tensor) -> list[str]:
    """The parameters whose scale has reached its floor, in words."""
    descriptions = []
    for parameter, scale in factor.floored(parents, index).items():
        floor = factor.floor(parameter)
        low = scale < _NEAR * floor
        if factor.floors[parameter].power > 0 and bool(low.any()):
            word = "a standard deviation" if parameter == "covariance" else parameter
            columns = low.reshape(-1, floor.numel()).any(0).nonzero().flatten().tolist()
            where = ", ".join(map(str, columns[:8])) + ", ..." * (len(columns) > 8)
            smallest, least = float(scale[low].min()), float(floor.expand_as(scale)[low].min())
            descriptions.append(
                f"{word} is {smallest:.3g}, on its floor min_scale={least:.3g}"
                + f" (column{'s' * (len(columns) > 1)} {where})" * (floor.numel() > 1)
            )
    return descriptions

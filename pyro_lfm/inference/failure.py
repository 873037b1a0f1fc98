"""What happens when a loss stops being finite: it is said where, and the last good weights come back."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.supports import Above, entrywise
from pyro_lfm.errors import TrainingError
from pyro_lfm.factors import name_of
from pyro_lfm.families import Gaussian
from pyro_lfm.inference.snapshots import Snapshot
from pyro_lfm.model import Model
from pyro_lfm.programs import Program
from pyro_lfm.runtime import isolated


class NotFinite(ArithmeticError):
    """A loss or the gradient of ``parameter`` is NaN or infinite, on the rows ``index`` if not those at hand."""

    def __init__(self, parameter: torch.nn.Parameter | None, index: torch.Tensor | None = None):
        super().__init__("not finite")
        self.parameter, self.index = parameter, index


def failure(
    model: Program,
    guide: Program,
    batch: Batch,
    epoch: int,
    good: Snapshot,
    parameter: torch.nn.Parameter | None,
    refusal: str | None = None,
) -> TrainingError:
    """The error that says where it happened; the weights at the start of the epoch are restored.

    Args:
        parameter: whose gradient is not finite, where that is known.
        refusal: what a law said that would not take its parameters.
    """
    what = "loss" if parameter is None else "gradient"
    name = _name(parameter, model, guide) or _suspect(model, guide)
    factor = _factor_of(name) if name else None
    if not all(bool(p.isfinite().all()) for p in (*model.parameters(), *guide.parameters())):
        # The step was taken (pyro.infer.SVI takes it unasked): broken weights would blame the first site.
        good.restore()
    factor = _blown_site(model, guide, batch) or factor
    good.restore()
    rows = batch.index.tolist()
    shown = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
    happened = (
        f"the {what} is not finite"
        if refusal is None
        else f"a law refuses its parameters ({refusal.splitlines()[0]})"
    )
    error = TrainingError(
        f"{happened} in epoch {epoch}, factor {factor or 'unknown'}, parameter {name or 'unknown'}, "
        f"on the batch of rows [{shown}]; the weights from before epoch {epoch} are restored. Remedies: "
        f"{', '.join(_remedies(model, factor))}"
    )
    error.epoch, error.factor, error.parameter, error.rows = epoch, factor, name, rows  # type: ignore[attr-defined]
    return error


def _remedies(model: Program, factor: str | None) -> list[str]:
    """What may help: a floor only where a factor has a scale, scaling only where data are no counts or labels."""
    if not isinstance(model, Model):
        return ["a lower learning_rate", "scaled data"]
    asked: list[Any] = (
        [model.factors[factor]] if factor and factor in model.factors else [*model.factors.values()]
    )
    floors = any(
        isinstance(each, Gaussian) or isinstance(each.constraints.get("scale"), Above) for each in asked
    )
    real = any(not entrywise(variable.support).is_discrete for variable in model.observed.values())
    return ["a lower learning_rate", *["a larger min_scale"] * floors, *["scaled data"] * real]


def _name(parameter: torch.nn.Parameter | None, model: Program, guide: Program) -> str | None:
    for kind, program in (("model", model), ("guide", guide)):
        for name, candidate in program.named_parameters():
            if candidate is parameter:
                return f"{kind}.{name}"
    return None


def _suspect(model: Program, guide: Program) -> str | None:
    """Where only the loss is known to be broken: a parameter that is itself not finite, else the largest."""
    named = [(f"model.{n}", p) for n, p in model.named_parameters()]
    named += [(f"guide.{n}", p) for n, p in guide.named_parameters()]
    broken = [name for name, p in named if not bool(p.isfinite().all())]
    if broken:
        return broken[0]
    largest = max(
        named, key=lambda pair: float(pair[1].detach().abs().max()) if pair[1].numel() else 0.0, default=None
    )
    return largest[0] if largest else None


def _factor_of(name: str) -> str | None:
    parts = name.split(".")
    return name_of(parts[2]) if len(parts) > 2 and parts[1] == "factors" else None


def _blown_site(model: Program, guide: Program, batch: Batch) -> str | None:
    """The first sample statement, the guide's before the model's, with a value or log-probability not finite."""
    try:
        with isolated(None, model.device), torch.no_grad():
            q = poutine.trace(guide).get_trace(batch)
            p = poutine.trace(poutine.replay(model, trace=q)).get_trace(batch)
    except (ValueError, RuntimeError):  # a law that validates its arguments stops at the first NaN
        return None
    for trace in (q, p):
        for name, site in trace.nodes.items():
            if site["type"] == "sample" and _broken(site):
                return name
    return None


def _broken(site: Any) -> bool:
    value = site["value"]
    if not isinstance(value, torch.Tensor) or site["fn"].__class__.__name__ == "_Subsample":
        return False
    return not (bool(value.isfinite().all()) and bool(site["fn"].log_prob(value).isfinite().all()))

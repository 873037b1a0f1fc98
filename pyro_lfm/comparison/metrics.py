"""What is measured of each fit: row by row where it can be, so that differences can be paired."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import nan
from typing import Any, Literal

import torch
from torch import Tensor

from pyro_lfm.closed_form import is_recognised
from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.evaluate.calibration.pareto import tail_size
from pyro_lfm.evaluate.likelihood.estimate import exact, importance
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.blocks import Blocks, in_parts
from pyro_lfm.inference.result import Fit
from pyro_lfm.objectives import ELBO
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.runtime import Stream, isolated

# Rows taken together, as for log p(x): bounds and weights then have the same noise.
_ROWS = 256


@dataclass(frozen=True)
class Metric:
    """A number of a fit, or one of each test row, and which direction is better.

    Args:
        function: ``(fit, data) -> float`` or a tensor (N,), data as given to ``test=``. It is called inside a random
            stream of its own, the same for all candidates.
        better: "higher", "lower", or None: no direction is better.

    >>> Metric(lambda fit, data: 0.0, better="lower").better
    'lower'
    """

    function: Callable[[Fit, Any], Any] | None
    better: Literal["higher", "lower"] | None = "higher"

    def __post_init__(self) -> None:
        if self.better not in ("higher", "lower", None):
            raise DeclarationError(f'better must be "higher", "lower" or None; got {self.better!r}')
        if self.function is not None and not callable(self.function):
            raise DeclarationError(f"a metric must be a function (fit, data); got {self.function!r}")


# What is measured unless metrics= says otherwise; which of these are in nats per row.
STANDARD: dict[str, Metric] = {
    "bound": Metric(None),
    "reconstruction": Metric(None),
    "kl": Metric(None, None),
    "log_likelihood": Metric(None),
    "gap": Metric(None, "lower"),
    "bits_per_dimension": Metric(None, "lower"),
    "unreliable": Metric(None, "lower"),
    "training_bound": Metric(None),
    "fit_seconds": Metric(None, "lower"),
    "infer_seconds": Metric(None, "lower"),
    "guide_parameters": Metric(None, None),
}
NATS = {"bound", "reconstruction", "kl", "log_likelihood", "gap", "training_bound"}
_OF_LIKELIHOOD = {"log_likelihood", "gap", "bits_per_dimension", "unreliable"}


@dataclass(frozen=True)
class Measured:
    """One fit in numbers.

    Attributes:
        rows: {metric: (N,)} of the metrics that each row has. values: {metric: number}; of rows, their mean.
        notes: what is missing or exact, in sentences.
    """

    rows: dict[str, Tensor]
    values: dict[str, float]
    notes: tuple[str, ...]


def read_metrics(metrics: Any) -> dict[str, Metric]:
    """The metrics that are asked for, by name; all the standard ones where none are named."""
    if metrics is None:
        return dict(STANDARD)
    if not isinstance(metrics, Iterable):
        raise DeclarationError(
            f"metrics must be names, {{name: function (fit, data)}}, or a list; got {metrics!r}"
        )
    found: dict[str, Metric] = {}
    for part in [metrics] if isinstance(metrics, str | Mapping) else metrics:
        if isinstance(part, str) and part in STANDARD:
            found[part] = STANDARD[part]
        elif isinstance(part, Mapping):
            for name, metric in part.items():
                if name in STANDARD:
                    raise DeclarationError(f"metric {name!r} is a standard one: choose another name")
                check_name("metric", name)
                found[name] = metric if isinstance(metric, Metric) else Metric(metric)
        else:
            raise DeclarationError(
                f"metrics must be names among {', '.join(STANDARD)}, or {{name: function (fit, data)}}, or a list of "
                f"both; got {part!r}"
            )
    if not found:
        raise DeclarationError("metrics must name at least one metric; got none")
    return found


def measure(
    done: Fit,
    given: Any,
    fitted: Any,
    metrics: Mapping[str, Metric],
    draws: int,
    seed: int,
    seconds: float,
) -> Measured:
    """All metrics of a fit on test rows; None means those that were fitted.

    Args:
        fitted: those, as the user gave them.
        seconds: that the fit took.
    """
    began = time.perf_counter()
    batch, guide = done.batch_of(given)
    device = done.model.device
    with evaluating(guide), isolated(Stream(seed, device), device), torch.no_grad():
        guide(batch)
    found: dict[str, Any] = {
        "fit_seconds": seconds,
        "infer_seconds": time.perf_counter() - began,
        "training_bound": done.history[-1]["bound"] if done.history else nan,
        "guide_parameters": float(_of_guide(done)),
    }
    notes: list[str] = []
    if {"bound", "reconstruction", "kl", "gap"} & metrics.keys():
        found |= _bounds(done.model, guide, batch, draws, seed)
    if _OF_LIKELIHOOD & metrics.keys():
        found |= _likelihood(done, guide, batch, given, draws, seed, notes)
        if "bound" in found and "log_likelihood" in found:
            found["gap"] = found["log_likelihood"] - found["bound"]
    for name, metric in metrics.items():
        if metric.function is not None:
            with Stream(seed, device):
                found[name] = _number(
                    name, metric.function(done, fitted if given is None else given), batch.size
                )
    wanted = {name: found.get(name, nan) for name in metrics}
    rows = {name: value.double().cpu() for name, value in wanted.items() if isinstance(value, Tensor)}
    values = {name: _mean(name, rows[name]) if name in rows else value for name, value in wanted.items()}
    return Measured(rows, values, tuple(notes))


def _mean(name: str, values: Tensor) -> float:
    """Over the rows. One without an observed entry has no bits per dimension, and a metric of one's own may leave rows out:
    NaN there is no value. NaN in nats is a fault of the fit.
    """
    return float(values.mean() if name in NATS else values.nanmean())


def check_name(what: str, name: Any) -> None:
    """A name that a line of a table can hold."""
    if not isinstance(name, str) or not name.strip():
        raise DeclarationError(f"the name of a {what} must be a str; got {name!r}")
    if name.splitlines() != [name]:
        raise DeclarationError(f"the name of a {what} must be one line; got {name!r}")


def _number(name: str, value: Any, rows: int) -> Any:
    """What a metric gave: a float, or a tensor (N,) off the graph."""
    try:
        found = torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError):
        raise DeclarationError(
            f"metric {name!r} must give a number or a tensor ({rows},); got a {type(value).__name__} that is none"
        ) from None
    if found.is_complex():
        raise DeclarationError(f"metric {name!r} must give real numbers; got {found.dtype}")
    if found.dim() == 0:
        return float(found)
    if found.shape != (rows,):
        raise ShapeError(
            f"metric {name!r} must give a number or a tensor ({rows},), one number a row; got {tuple(found.shape)}"
        )
    return found


def _of_guide(done: Fit) -> int:
    """Numbers that are learned in q; what a guide holds of the model is the model's."""
    models = {id(parameter) for parameter in done.model.parameters()}
    return sum(p.numel() for p in done.guide.parameters() if p.requires_grad and id(p) not in models)


def _bounds(model: AnyModel, guide: AnyGuide, batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
    """L, E_q[log p(x | z)] and KL(q ‖ p) of each row, means over draws; log q by Monte Carlo."""
    blocks = Blocks(model, guide, batch, _ROWS, seed)
    parts = in_parts(
        blocks, draws, lambda count: partial(_terms, ELBO(count, kl="monte-carlo"), model, guide)
    )
    with blocks.running():
        found = torch.cat(
            [sum(part(block).double() * (part.draws / draws) for part in parts) for block in blocks],  # type: ignore[misc]
            1,
        )
    bound, reconstruction = found
    return {"bound": bound, "reconstruction": reconstruction, "kl": reconstruction - bound}


def _terms(objective: ELBO, model: AnyModel, guide: AnyGuide, batch: Batch) -> Tensor:
    bound = objective.bound(model, guide, batch)
    return torch.stack([bound.per_row, bound.reconstruction])


def _likelihood(
    done: Fit, guide: AnyGuide, batch: Batch, given: Any, draws: int, seed: int, notes: list[str]
) -> dict[str, Tensor]:
    """log p(x) of each row, what follows from it, and whether its weights can be relied on."""
    shared = [name for name, latent in done.model.latents.items() if not latent.per_row]
    if shared:
        notes.append(
            f"All rows share {', '.join(shared)}: a row has no log p(x) of its own, and each bears an equal part of the "
            "KL of what is shared."
        )
        return {}
    weighted = importance(done.model, guide, batch, draws, seed)
    found = {"unreliable": weighted.unreliable.double()}
    if tail_size(draws) < 5:
        notes.append(f"{draws} draws are too few for k̂.")
        del found["unreliable"]
    if is_recognised(done.model) and not any(name in done.model.latents for name in batch.names):
        weighted = exact(done, given)
        notes.append("log p(x) is exact, by the closed form.")
    else:
        notes.append(
            f"log p(x) is estimated by importance weighting with {draws} draws, and lies below the truth on average."
        )
    bits: Any = weighted.bits_per_dimension
    return {**found, "log_likelihood": weighted.per_row, "bits_per_dimension": bits}


def names_of(metrics: Sequence[str]) -> list[str]:
    """The names as they stand at the head of a table."""
    return [_HEADS.get(name, name) for name in metrics]


_HEADS = {
    "kl": "KL",
    "log_likelihood": "log p(x)",
    "bits_per_dimension": "bits/dim",
    "unreliable": "k̂ too large",
    "training_bound": "training bound",
    "fit_seconds": "fit (s)",
    "infer_seconds": "infer (s)",
    "guide_parameters": "numbers in q",
}

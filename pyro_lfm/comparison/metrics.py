"""The metrics of a comparison: numbers of each test row where possible, so that differences can be paired."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import nan
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from pyro_lfm.closed_form import has_exact_likelihood
from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.evaluate.calibration.pareto import tail_size
from pyro_lfm.evaluate.inputs import Array, Rows
from pyro_lfm.evaluate.likelihood.estimate import exact, importance
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.blocks import Blocks, in_parts
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.objectives import ELBO
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.runtime import Stream, isolated

# Rows in one block, the same as for log p(x), so that bounds and weights have the same noise.
_ROWS = 256


@dataclass(frozen=True)
class Metric:
    """A number of a fit, or one of each test row, with the direction that is better.

    Args:
        function: ``(fit, data) -> float`` or a tensor (N,), data as given to ``test=``. It is called with a random
            stream that is the same for all candidates.
        better: "higher", "lower", or None where neither is better.

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


# A metric, or its function (fit, data) -> number or (N,).
MetricOrFunction: TypeAlias = Metric | Callable[[Fit, Any], Any]
# Names of standard metrics, {name: metric}, or a list of both.
Metrics: TypeAlias = str | Mapping[str, MetricOrFunction] | Iterable[str | Mapping[str, MetricOrFunction]]

# The default metrics, and those in nats per row.
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
    "model_parameters": Metric(None, None),
}
NATS = {"bound", "reconstruction", "kl", "log_likelihood", "gap", "training_bound"}
_OF_LIKELIHOOD = {"log_likelihood", "gap", "bits_per_dimension", "unreliable"}


@dataclass(frozen=True)
class Measured:
    """The metrics of one fit.

    Attributes:
        rows: {metric: (N,)}, for metrics of each row.
        values: {metric: number}, the mean over rows where there are rows.
        notes: sentences about missing and exact metrics.
    """

    rows: dict[str, Tensor]
    values: dict[str, float]
    notes: tuple[str, ...]


def read_metrics(metrics: Metrics | None, several: bool = False) -> dict[str, Metric]:
    """Metrics by name, by default all the standard ones.

    Args:
        several: whether there are several models. Then log p(x) comes first, as bounds of guides that are more or less tight
            are no fair judge of models.
    """
    if metrics is None:
        if several:
            return {"log_likelihood": STANDARD["log_likelihood"], **STANDARD}
        return {name: metric for name, metric in STANDARD.items() if name != "model_parameters"}
    if not isinstance(metrics, Iterable):
        raise DeclarationError(
            f"metrics must be names, {{name: function (fit, data)}}, or a list; got {metrics!r}"
        )
    chosen: dict[str, Metric] = {}
    for part in [metrics] if isinstance(metrics, str | Mapping) else metrics:
        if isinstance(part, str) and part in STANDARD:
            chosen[part] = STANDARD[part]
        elif isinstance(part, Mapping):
            for name, metric in part.items():
                if name in STANDARD:
                    raise DeclarationError(f"metric {name!r} is a standard one: choose another name")
                check_name("metric", name)
                chosen[name] = metric if isinstance(metric, Metric) else Metric(metric)
        else:
            raise DeclarationError(
                f"metrics must be names among {', '.join(STANDARD)}, or {{name: function (fit, data)}}, or a list of "
                f"both; got {part!r}"
            )
    if not chosen:
        raise DeclarationError("metrics must name at least one metric; got none")
    return chosen


def measure(
    done: Fit,
    test: Rows | None,
    fitted: Rows,
    metrics: Mapping[str, Metric],
    draws: int,
    seed: int,
    seconds: float,
) -> Measured:
    """All metrics of a fit on test rows. None stands for the fitted rows.

    Args:
        fitted: the fitted rows, as the user gave them.
        seconds: the duration of the fit.
    """
    began = time.perf_counter()
    batch, guide = done.batch_of(test)
    device = done.model.device
    with evaluating(guide), isolated(Stream(seed, device), device), torch.no_grad():
        guide(batch)
    measured: dict[str, float | Tensor] = {
        "fit_seconds": seconds,
        "infer_seconds": time.perf_counter() - began,
        "training_bound": done.history[-1]["bound"] if done.history else nan,
        "guide_parameters": float(_guide_parameters(done)),
        "model_parameters": float(sum(p.numel() for p in done.model.parameters() if p.requires_grad)),
    }
    notes: list[str] = []
    if {"bound", "reconstruction", "kl", "gap"} & metrics.keys():
        measured |= _bounds(done.model, guide, batch, draws, seed)
    if _OF_LIKELIHOOD & metrics.keys():
        measured |= _likelihood(done, guide, batch, test, draws, seed, notes)
        if "bound" in measured and "log_likelihood" in measured:
            measured["gap"] = measured["log_likelihood"] - measured["bound"]
    for name, metric in metrics.items():
        if metric.function is not None:
            with Stream(seed, device):
                value = metric.function(done, fitted if test is None else test)
                measured[name] = _number(name, value, batch.size)
    chosen = {name: measured.get(name, nan) for name in metrics}
    rows = {name: value.double().cpu() for name, value in chosen.items() if isinstance(value, Tensor)}
    values = {
        name: _mean(name, value) if isinstance(value, Tensor) else value
        for name, value in {**chosen, **rows}.items()
    }
    return Measured(rows, values, tuple(notes))


def _mean(name: str, values: Tensor) -> float:
    """The mean over the rows. NaN in nats means a failed fit. In other metrics it is a row without a value and is left out.

    A row without an observed entry has no bits per dimension, and the user's own metric may leave rows out.
    """
    return float(values.mean() if name in NATS else values.nanmean())


def check_name(kind: str, name: str) -> None:
    """Checks that the name of a candidate or metric is text of one line, as tables need."""
    if not isinstance(name, str) or not name.strip():
        raise DeclarationError(f"the name of a {kind} must be a str; got {name!r}")
    if name.splitlines() != [name]:
        raise DeclarationError(f"the name of a {kind} must be one line; got {name!r}")


def _number(name: str, value: Array, rows: int) -> float | Tensor:
    """The value of a metric as a float, or as a tensor (N,) without gradients."""
    try:
        number = torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError):
        raise DeclarationError(
            f"metric {name!r} must give a number or a tensor ({rows},); got a {type(value).__name__}, which is neither"
        ) from None
    if number.is_complex():
        raise DeclarationError(f"metric {name!r} must give real numbers; got {number.dtype}")
    if number.dim() == 0:
        return float(number)
    if number.shape != (rows,):
        raise ShapeError(
            f"metric {name!r} must give a number or a tensor ({rows},), one number a row; got {tuple(number.shape)}"
        )
    return number


def _guide_parameters(done: Fit) -> int:
    """The number of trained parameters of the guide, without those of the model that it may hold."""
    models = {id(parameter) for parameter in done.model.parameters()}
    return sum(p.numel() for p in done.guide.parameters() if p.requires_grad and id(p) not in models)


def _bounds(model: AnyModel, guide: AnyGuide, batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
    """L, E_q[log p(x | z)] and KL(q ‖ p) of each row, means over draws, with log q by Monte Carlo."""
    blocks = Blocks(model, guide, batch, _ROWS, seed)
    parts = in_parts(
        blocks, draws, lambda count: partial(_terms, ELBO(count, kl="monte-carlo"), model, guide)
    )
    with blocks.running():
        means = torch.cat(
            [sum(part(block).double() * (part.draws / draws) for part in parts) for block in blocks],  # type: ignore[misc]
            1,
        )
    bound, reconstruction = means
    return {"bound": bound, "reconstruction": reconstruction, "kl": reconstruction - bound}


def _terms(objective: ELBO, model: AnyModel, guide: AnyGuide, batch: Batch) -> Tensor:
    bound = objective.bound(model, guide, batch)
    return torch.stack([bound.per_row, bound.reconstruction])


def _likelihood(
    done: Fit, guide: AnyGuide, batch: Batch, test: Rows | None, draws: int, seed: int, notes: list[str]
) -> dict[str, Tensor]:
    """log p(x) and bits per dimension of each row, and whether its importance weights are unreliable. Adds notes."""
    shared = [name for name, latent in done.model.latents.items() if not latent.per_row]
    if shared:
        notes.append(
            f"All rows share {', '.join(shared)}: a row has no log p(x) of its own, and each has an equal part of their KL."
        )
        return {}
    weighted = importance(done.model, guide, batch, draws, seed)
    values = {"unreliable": weighted.unreliable.double()}
    if tail_size(draws) < 5:
        notes.append(f"{draws} draws are too few for k̂.")
        del values["unreliable"]
    if has_exact_likelihood(done.model) and not any(name in done.model.latents for name in batch.names):
        weighted = exact(done, test)
        notes.append("log p(x) is exact, by the closed form.")
    else:
        notes.append(
            f"log p(x) is estimated by importance weighting with {draws} draws, and is too low on average."
        )
    bits = weighted.bits_per_dimension
    return {**values, "log_likelihood": weighted.per_row, "bits_per_dimension": bits}


def names_of(metrics: Sequence[str]) -> list[str]:
    """The names of metrics in the head of a table."""
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
    "model_parameters": "numbers in p",
}

"""What is doubtful about a fit, in sentences with a remedy: the first thing that a reader of the page should know."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyro_lfm.cli.fit_measures import Measures
    from pyro_lfm.evaluate import Decomposition, Diagnosis
    from pyro_lfm.inference import Fit

# The share of a training whose last gain is looked at.
_LAST = 0.1
# Nats of KL below which a factor has collapsed.
_COLLAPSED = 0.01


@dataclass(frozen=True)
class Doubt:
    """Something doubtful: what it is, in a few words, and a sentence with the remedy."""

    what: str
    why: str


def doubts_of(
    fit: Fit, warnings: list[str], done: Measures | None, parts: Decomposition | None, tests: Diagnosis | None
) -> list[Doubt]:
    """All that is doubtful about a fit.

    Args:
        warnings: what the fit warned of. done, parts, tests: what was measured; None without rows.
    """
    doubts = [Doubt("The fit warned", text) for text in warnings]
    doubts += _of_training(fit)
    if parts is not None:
        doubts += _of_factors(parts)
    if done is not None:
        doubts += _of_measures(done)
    if tests is not None and tests.flagged():
        doubts.append(Doubt("Tests of calibration reject", tests.verdict))
    return doubts


def _of_training(fit: Fit) -> Iterator[Doubt]:
    if fit.interrupted:
        yield Doubt(
            "The training was interrupted", "It is not at its end: pyro-lfm fit CONFIG --resume goes on."
        )
    if fit.skipped:
        yield Doubt(
            f"{fit.skipped} steps were skipped",
            "Their loss or gradient was not finite. A smaller learning_rate or clip_norm= helps; look at the scale of the "
            "data.",
        )
    if fit.converged is False:
        yield Doubt(
            "The fit has not converged", "More iterations would raise the likelihood: inference.iterations."
        )
    bounds = np.array([record.get("bound", math.nan) for record in fit.history], dtype=float)
    if fit.converged is None and (gain := _last_gain(bounds)) is not None:
        yield Doubt(
            "The bound was still rising",
            f"It rose by {gain:.2g} nats per row over the last tenth of the training. To go on: pyro-lfm fit CONFIG "
            "--resume --set inference.epochs= with a larger number.",
        )
    held_out = np.array([record.get("validation_bound", math.nan) for record in fit.history], dtype=float)
    if np.isfinite(held_out).sum() > 5:
        best = int(np.nanargmax(held_out))
        loss = held_out[best] - held_out[np.isfinite(held_out)][-1]
        if loss > 0.05 * max(1.0, abs(held_out[best]) * 0.1) and best < 0.8 * len(held_out):
            yield Doubt(
                "The validation bound has fallen",
                f"It was best after epoch {best + 1} and is {loss:.2g} nats per row lower now: the model overfits. "
                "patience=, fewer factors or a smaller network help.",
            )


def _last_gain(bounds: np.ndarray) -> float | None:
    """The gain over the last tenth of a training, where it is clear beside the noise of the bound."""
    bounds = bounds[np.isfinite(bounds)]
    size = int(len(bounds) * _LAST)
    if size < 3:
        return None
    last, before = bounds[-size:], bounds[-2 * size : -size]
    gain = float(last.mean() - before.mean())
    noise = math.sqrt((last.var(ddof=1) + before.var(ddof=1)) / size)
    return gain if gain > 3 * noise and gain > 0.01 * max(1.0, abs(float(last.mean())) * 0.1) else None


def _of_factors(parts: Decomposition) -> Iterator[Doubt]:
    for name, own in parts.latents.items():
        if own.kl is None:
            continue
        silent = [n for n, nats in zip(own.names(name), own.kl.tolist(), strict=True) if nats < _COLLAPSED]
        if len(silent) == len(own.kl):
            yield Doubt(
                f"All factors of {name} have collapsed",
                "The guide is the prior, and the model ignores its factors: train longer, with a KL weight that rises "
                "(ELBO(kl_weight=schedules.linear())), or with a smaller network.",
            )
        elif silent:
            yield Doubt(
                f"{len(silent)} of {len(own.kl)} factors have collapsed",
                f"{', '.join(silent[:8])}{', ...' * (len(silent) > 8)} hold no information about the rows: the data support "
                f"{len(own.kl) - len(silent)} factors here.",
            )


def _of_measures(done: Measures) -> Iterator[Doubt]:
    own = done.likelihood
    if own is not None and own.draws and float(own.unreliable.double().mean()) > 0.1:
        share = float(own.unreliable.double().mean())
        yield Doubt(
            f"log p(x) is unreliable for {share:.0%} of the rows",
            f"{own.verdict}",
        )
    if done.imputation is not None and "too narrow" in done.imputation.verdict:
        sentence = next(s for s in done.imputation.verdict.split(". ") if "too narrow" in s)
        yield Doubt(
            "Intervals of hidden cells are too narrow",
            f"{sentence.rstrip('.')}. The guide has seen few rows with so many gaps, or the model is too sure: read the "
            "intervals of imputed cells with care.",
        )
    useless = [c.column for c in done.columns if _useless(c.measure, c.imputed, c.baseline)]
    if useless:
        yield Doubt(
            "Some columns are not predicted by the others",
            f"Hidden cells of {', '.join(useless[:8])}{', ...' * (len(useless) > 8)} are filled in no better than by the "
            "column's mean or most frequent label.",
        )


def _useless(measure: str, imputed: float, baseline: float) -> bool:
    if not (math.isfinite(imputed) and math.isfinite(baseline)):
        return False
    return imputed <= baseline if measure == "right" else imputed >= baseline

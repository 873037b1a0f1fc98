"""Removes factors without which the bound of variational Bayes is higher, and counts those that the data need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import log

import torch
from torch import Tensor

from pyro_lfm.exact.history import History
from pyro_lfm.exact.linear.bayesian_posterior import BayesianLinear

# Factors of at most this energy are zero. A factor whose gain exceeds the cost of its prior by so many nats is kept
# without a trial.
_NOTHING, _SURE = 1e-8, 50.0

Ascend = Callable[[BayesianLinear], tuple[BayesianLinear, History]]


def pruned(
    state: BayesianLinear, history: History, ascend: Ascend, rows: float, tolerance: float
) -> tuple[BayesianLinear, History]:
    """Switches off the factors without which the bound is at least as high.

    Factors of no energy go first, then the others are tried one by one, the weakest first. The bound is compared after
    an ascent without the factor. If the factor is switched off, the history gains one iteration.

    Args:
        state, history: the end of an ascent. ascend: an ascent from another state. rows: N. tolerance: nats per row.
    """
    energy = state.energy()
    faint = energy <= _NOTHING
    if bool(faint.any()):
        state, history = _attempt(state, history, faint, faint, ascend, tolerance)
    doubtful = _doubtful(state, rows) & ~faint
    off = faint
    for factor in energy.argsort()[doubtful[energy.argsort()]]:
        one = torch.zeros_like(faint)
        one[factor] = True
        after, longer = _attempt(state, history, one, off | one, ascend, tolerance)
        if after is not state:
            state, history, off = after, longer, off | one
    return state, history


def needed_factors(state: BayesianLinear, ascend: Ascend, rows: float, tolerance: float) -> Tensor:
    """The number of factors that the data need, (): the weakest is removed as long as the bound of the rest is as high.

    A factor that is only switched off still has a KL from its prior, so this count is stricter than ``pruned``.
    """
    state = state.of(state.energy() > _NOTHING)
    state, history = ascend(state)
    while len(energy := state.energy()):
        weakest = energy == energy.min()
        if not bool(_doubtful(state, rows)[weakest].any()):
            break
        smaller, smaller_history = ascend(state.of(~weakest))
        if smaller_history.steps[-1].bound < history.steps[-1].bound - tolerance:
            break
        state, history = smaller, smaller_history
    return state.energy().new_tensor(float(len(state.energy())))


def _doubtful(state: BayesianLinear, rows: float) -> Tensor:
    """Which factors, (K,), explain so little that the KL of their weights may cost more than they gain."""
    energy = state.energy()
    gain = 0.5 * rows * (energy - energy.log1p())
    return gain < len(state.line) * log(rows + 1.0) + _SURE


def _attempt(
    state: BayesianLinear, history: History, less: Tensor, off: Tensor, ascend: Ascend, tolerance: float
) -> tuple[BayesianLinear, History]:
    """The end of an ascent without the factors ``less``, with all of ``off`` at zero; the old state if that is better."""
    after, new_history = ascend(state.without(less))
    last, best = new_history.steps[-1], history.steps[-1]
    if last.bound < best.bound - tolerance:
        return state, history
    step = last._replace(iteration=best.iteration + 1, bound=max(last.bound, best.bound))
    return after.without(off), replace(history, steps=(*history.steps, step._replace(step="M"), step))

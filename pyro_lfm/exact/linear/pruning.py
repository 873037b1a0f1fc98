"""Factors that variational Bayes is better without: which are switched off, and how many the data ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import log

import torch
from torch import Tensor

from pyro_lfm.exact.history import History
from pyro_lfm.exact.linear.bayesian_posterior import BayesianLinear

# A factor whose energy is no more is nothing; a gain of so many nats more than a prior can outweigh needs no trial.
_NOTHING, _SURE = 1e-8, 50.0

Ascend = Callable[[BayesianLinear], tuple[BayesianLinear, History]]


def pruned(
    state: BayesianLinear, history: History, ascend: Ascend, rows: int, tolerance: float
) -> tuple[BayesianLinear, History]:
    """Switches off the factors that the bound is at least as high without: first what is nothing, then one by one, weakest
    first. The bound is compared after an ascent without the factor; one that is kept is recorded as one iteration.

    Args:
        state, history: where an ascent ended. ascend: one from another state. rows: N. tolerance: nats per row.
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


def needed_factors(state: BayesianLinear, ascend: Ascend, rows: int, tolerance: float) -> Tensor:
    """How many factors the data ask for, (): as long as the model without the weakest has a bound as high, it is left out.

    A factor that is switched off still costs the bound what its prior and posterior differ by, so that this asks more of
    a factor than ``pruned`` does.
    """
    state = state.of(state.energy() > _NOTHING)
    state, history = ascend(state)
    while len(energy := state.energy()):
        weakest = energy == energy.min()
        if not bool(_doubtful(state, rows)[weakest].any()):
            break
        after, climbed = ascend(state.of(~weakest))
        if climbed.steps[-1].bound < history.steps[-1].bound - tolerance:
            break
        state, history = after, climbed
    return state.energy().new_tensor(float(len(state.energy())))


def _doubtful(state: BayesianLinear, rows: int) -> Tensor:
    """Whether a factor, (K,), explains so little that its prior may outweigh it: the others need no trial."""
    energy = state.energy()
    gain = 0.5 * rows * (energy - energy.log1p())
    return gain < len(state.line) * log(rows + 1.0) + _SURE


def _attempt(
    state: BayesianLinear, history: History, less: Tensor, off: Tensor, ascend: Ascend, tolerance: float
) -> tuple[BayesianLinear, History]:
    """Without the factors ``less``, and with nothing left of all that are ``off``, if the bound is no lower for it."""
    after, climbed = ascend(state.without(less))
    last, best = climbed.steps[-1], history.steps[-1]
    if last.bound < best.bound - tolerance:
        return state, history
    step = last._replace(iteration=best.iteration + 1, bound=max(last.bound, best.bound))
    return after.without(off), replace(history, steps=(*history.steps, step._replace(step="M"), step))

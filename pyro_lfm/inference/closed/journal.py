"""The climb that EM and variational EM share: every iteration is recorded, the result is written into the model."""

from __future__ import annotations

import time
from math import nan
from typing import Literal

import torch
from tqdm.auto import tqdm

from pyro_lfm.closed_form import AnyLikelihoodForm
from pyro_lfm.closed_form.form import Parameters
from pyro_lfm.closed_form.row_blocks import Blocks
from pyro_lfm.errors import ConvergenceWarning, DeclarationError, ScaleFloorWarning, warn
from pyro_lfm.exact.history import Step
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.inference.svi.floor_warnings import floor_remedy
from pyro_lfm.inference.task import Task
from pyro_lfm.objectives import ELBO


def climb(
    task: Task,
    form: AnyLikelihoodForm,
    guide: AnyGuide,
    *,
    start: Literal["auto", "data", "model"],
    restarts: int,
    iterations: int,
    tolerance: float,
    accelerate: bool,
) -> Fit:
    """A fit by EM or variational EM, with every iteration in its history: the E step of the start, then M and E steps.

    Args:
        form: of the task's model; its bound is climbed. guide: becomes ``fit.guide``.
        start, restarts, iterations, tolerance, accelerate: see ``EM``.
    """
    if task.checkpoint is not None:
        raise DeclarationError(
            'checkpoint= serves lfm.SVI: save the model and go on with start="model" instead'
        )
    task.model.to(task.device)
    result = Fit(task.model, guide, task.table, ELBO(kl="monte-carlo"))
    rows = form.rows(Blocks(task.table, form.observed))
    ends: tuple[float, ...] = ()
    if start == "model" or (start == "auto" and not task.model.is_as_declared):
        first = form.read()
    else:
        won = form.start(rows, task.seed, restarts)
        first, ends = won.state, won.ends[1:]
    with tqdm(total=iterations, unit="iteration", disable=not task.progress) as bar:
        journal = _Journal(task, form, result, bar)
        ascent = form.climb(
            rows, first, iterations=iterations, tolerance=tolerance, accelerate=accelerate, watch=journal
        )
    form.write(ascent.parameters)
    task.model.eval()
    result.converged = ascent.converged
    result.ends = sorted([result.history[-1]["log_likelihood"], *ends], reverse=True)
    if ascent.floored:
        warn(f"{ascent.floored}. {floor_remedy()}", ScaleFloorWarning)
    if not ascent.converged and not journal.stopped:
        warn_of_iterations(iterations)
    return result


def warn_of_iterations(iterations: int) -> None:
    """Warns that a fit used up its iterations before it converged."""
    warn(
        f"not converged after iterations={iterations}: the bound still gains more than tolerance= in an iteration. Give "
        'more iterations, or go on with start="model"; fit.converged says so too',
        ConvergenceWarning,
    )


class _Journal:
    """Watches a climb: extends the history, shows progress, calls the callbacks."""

    def __init__(self, task: Task, form: AnyLikelihoodForm, result: Fit, bar: tqdm):
        self.task, self.form, self.result, self.bar = task, form, result, bar
        self.held_out = None if task.validation is None else Blocks(task.validation, form.observed)
        self.began = time.perf_counter()
        self.stopped = False

    def __call__(self, parameters: Parameters, steps: tuple[Step, ...]) -> bool:
        now = time.perf_counter()
        for step in steps:
            self.result.history.append(
                {
                    "iteration": step.iteration,
                    "epoch": step.iteration,
                    "step": step.step,
                    "log_likelihood": step.log_likelihood,
                    "bound": step.bound,
                    "kl": step.kl,
                    "validation_bound": nan,
                    "seconds": (now - self.began) / len(steps),
                }
            )
        record = self.result.history[-1]
        if self.held_out is not None:
            values = torch.cat([self.form.bound(parameters, x) for x in self.held_out])
            record["validation_bound"] = float(values.mean())
        self.bar.set_postfix_str(f"{record['bound']:.4f} nats/row", refresh=False)
        self.bar.update(int(record["iteration"] > 0))
        if not self.task.callbacks:
            self.began = time.perf_counter()
            return False
        self.form.write(parameters)
        self.stopped = self.task.report(record, self.result)
        self.began = time.perf_counter()
        return self.stopped

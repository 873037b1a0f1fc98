"""The journal of a climb: the history of its iterations, its progress bar, its callbacks."""

from __future__ import annotations

import time
from math import nan

import torch
from tqdm.auto import tqdm

from pyro_lfm.closed_form import AnyLikelihoodForm
from pyro_lfm.closed_form.form import Parameters
from pyro_lfm.closed_form.row_blocks import Blocks
from pyro_lfm.errors import warn
from pyro_lfm.exact.history import Step
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.inference.task import Task
from pyro_lfm.warning_kinds import ConvergenceWarning


def warn_of_iterations(iterations: int) -> None:
    """Warns that a fit used up its iterations before it converged. A fit without iterations is not asked to."""
    if iterations == 0:
        return
    warn(
        f"not converged after iterations={iterations}: the bound still gains more than tolerance= in an iteration. Give "
        'more iterations, or go on with start="model"; fit.converged says so too',
        ConvergenceWarning,
    )


class Journal:
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
        if not self.task.calls_back:
            self.began = time.perf_counter()
            return False
        self.form.write(parameters)
        self.stopped = self.task.report(record, self.result)
        self.began = time.perf_counter()
        return self.stopped

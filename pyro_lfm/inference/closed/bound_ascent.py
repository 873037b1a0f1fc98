"""The ascent of a bound in the parameters, which EM and variational EM share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from tqdm.auto import tqdm

from pyro_lfm.closed_form import AnyLikelihoodForm
from pyro_lfm.closed_form.row_blocks import weighted_blocks
from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DataError, DeclarationError, warn
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.closed.journal import Journal, warn_of_iterations
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.inference.svi.floor_warnings import floor_remedy
from pyro_lfm.inference.task import Inference, Task
from pyro_lfm.objectives import ELBO
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.shapes import number, whole
from pyro_lfm.warning_kinds import ScaleFloorWarning

# The most columns that a warning names.
_NAMED = 8


@dataclass(kw_only=True, eq=False, repr=False)
class BoundAscent(Inference):
    """A fit by E and M steps, with every iteration in its history: the E step of the start, then M and E steps.

    A subclass says which form of a model it climbs. Its arguments are those of ``EM``.
    """

    iterations: int = 2000
    tolerance: float = 1e-11
    start: Literal["auto", "data", "model"] = "auto"
    restarts: int = 10
    accelerate: bool = True
    takes_weights: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("iterations", self.iterations, least=0)
        number("tolerance", self.tolerance, least=0.0)
        whole("restarts", self.restarts)
        if self.start not in ("auto", "data", "model"):
            raise DeclarationError(f'start must be "auto", "data" or "model"; got {self.start!r}')

    @abstractmethod
    def _form(self, model: AnyModel) -> AnyLikelihoodForm:
        """The form of a model whose bound is climbed. Raises DeclarationError where there is none."""

    @abstractmethod
    def _guide(self, model: AnyModel) -> AnyGuide:
        """The guide of the fit."""

    def without_history(self, model: AnyModel, table: Table) -> Fit:
        """The fit of a model to rows, before its first record."""
        return Fit(model, self._guide(model), table, ELBO(kl="monte-carlo"))

    def run(self, task: Task) -> Fit:
        """Fits the task's model."""
        form = self._form(task.model)
        if task.checkpoint is not None:
            raise DeclarationError(
                'checkpoint= serves lfm.SVI: save the model and go on with start="model" instead'
            )
        task.model.to(task.device)
        result = self.without_history(task.model, task.table)
        _check_observed(task.table, form.observed)
        rows = form.rows(weighted_blocks(task.table, form.observed))
        ends: tuple[float, ...] = ()
        if self.start == "model" or (self.start == "auto" and not task.model.is_as_declared):
            first = form.read()
        else:
            won = form.start(rows, task.seed, self.restarts)
            first, ends = won.state, won.ends[1:]
        with tqdm(total=self.iterations, unit="iteration", disable=not task.progress) as bar:
            journal = Journal(task, form, result, bar)
            ascent = form.climb(
                rows,
                first,
                iterations=self.iterations,
                tolerance=self.tolerance,
                accelerate=self.accelerate,
                watch=journal,
            )
        form.write(ascent.parameters)
        task.model.eval()
        result.converged = ascent.converged
        result.ends = sorted([result.history[-1]["log_likelihood"], *ends], reverse=True)
        if ascent.floored:
            names = result.schema[form.observed].names
            shown = [repr(names[column]) for column in ascent.columns[:_NAMED]] if names else []
            named = f" ({', '.join(shown)})" if shown else ""
            warn(
                f"A floor decides {ascent.floored}{named}, and not the data, which want less. {floor_remedy()}",
                ScaleFloorWarning,
            )
        if not ascent.converged and not journal.stopped:
            warn_of_iterations(self.iterations)
        return result


def _check_observed(table: Table, name: str) -> None:
    """Raises DataError for a column without any entry, whose parameters have no maximum."""
    empty = table.scales[name].mean.isnan().nonzero().flatten().tolist()
    if empty:
        places = ", ".join(table.schema[name].place(column) for column in empty[:_NAMED])
        more = ", ..." * (len(empty) > _NAMED)
        raise DataError(
            f"each column of {name} must have an observed entry; got none in column {places}{more}: drop such columns"
        )

"""What a fit gives back: the trained parts, their history, and what they say of data."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from pyro import poutine

from pyro_lfm.closed_form import recognise
from pyro_lfm.closed_form.form import Blocks
from pyro_lfm.data.batch import Batch
from pyro_lfm.data.digests import RowsSeen
from pyro_lfm.data.readers import Table
from pyro_lfm.data.schema import Schema
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.guides import AnyGuide, Refined
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.inference.picklable import check_picklable
from pyro_lfm.inference.queries.imputation import Imputation, impute
from pyro_lfm.inference.queries.reconstruction import reconstruct
from pyro_lfm.inference.queries.refinement import refine
from pyro_lfm.inference.queries.unseen_rows import fit_rows
from pyro_lfm.inference.tables import table_for
from pyro_lfm.objectives import ELBO, Objective
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.shapes import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Fit:
    """A fitted model: what was learned, and what it says of data.

    ``fit`` makes it. Rows are given as to ``fit``; left out, they are those that were fitted. Observed variables that
    the guide can do without (see ``ProductOfExperts``) may be left out of a dict and count as missing. A guide with a table
    of rows (``PerRow``) is optimised for rows that it has not seen, the model held.

    Attributes:
        model: the model that was fitted, trained in place.
        guide: the guide, trained in place.
        history: one dict per epoch of SVI: epoch, step, bound, reconstruction, kl, validation_bound (NaN without
            validation data), all in nats per row, and seconds; for others see ``EM``.
        converged: whether going on would gain nothing: True or False of exact inference, whose bound says so; None of
            ``SVI``, whose bound is noisy.
        ends: of exact inference, the log-likelihoods (``VariationalBayes``: bounds) that its starts reached, nats per
            row, best first.
        keep_rows: whether a pickle of it holds the rows that were fitted. By default it does not: data= must then be given.
        schema: what the fitted rows were, by name: names of columns, labels, whether they are a covariate, scale. Rows that
            are given with names are put in that order; bare arrays are taken by position.

    It keeps the rows that were fitted where they are, and no copy: when they have been changed, what needs them is a
    DataError (see ``pyro_lfm.data.digests.RowsSeen`` for how much of large data is looked at). It can be copied, pickled and
    stored by joblib where the classes and functions that the user wrote for model and guide stand at the top of a module.
    Schedules and callbacks are no part of it. A copy (``copy.deepcopy``) looks at the same rows.
    """

    # Of which seconds are a part, others every time.
    not_identity = ("history",)

    def __init__(self, model: AnyModel, guide: AnyGuide, table: Table, objective: Any):
        self._model, self.guide = model, guide
        self.history: list[dict[str, Any]] = []
        self.converged: bool | None = None
        self.ends: list[float] = []
        self.keep_rows = False
        self._rows, self._objective = table, objective
        self._seen = RowsSeen(table)
        self.schema: Schema = table.schema

    @property
    def _table(self) -> Table:
        """The rows that were fitted, as long as they are still those."""
        if not self._seen.are_those_of(self._rows):
            raise DataError(
                f"the rows of {', '.join(self._rows.names)} have changed since the fit began, and a fit keeps no copy of "
                "them: give data=, or fit a copy of the rows, such as X.copy()"
            )
        return self._rows

    def __getstate__(self) -> dict[str, Any]:
        objective = self._objective
        state = {
            **self.__dict__,
            "_rows": self._rows if self.keep_rows else self._rows.absent(),
            # Schedules are over, and often functions without a name.
            "_objective": objective.at_end() if isinstance(objective, Objective) else objective,
        }
        check_picklable(state)
        return state

    def __copy__(self) -> Fit:
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Fit:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        memo[id(self._rows)] = self._rows
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    @property
    def model(self) -> AnyModel:
        """The model that was fitted; a view of it where it has since been bound to the guide of another fit."""
        return self._model.bound_to(self.guide)

    def posterior(self, data: Any = None) -> Any:
        """q(z | x) of some rows: a distribution with batch shape (N,) and the latent's event shape.

        A latent that the guide draws knowing other latents is an equal mixture over 256 draws of those.

        Returns:
            One distribution, or {latent: distribution} for a model of several latents.
        """
        self._check_latents("posterior")
        batch, guide = self.batch_of(data)
        with evaluating(guide):
            found = marginals(guide, batch, list(self.model.latents))
        return next(iter(found.values())) if len(found) == 1 else found

    def sample_posterior(self, data: Any = None, draws: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
        """Joint draws of all latents, {latent: (draws, N, *event)}; a latent shared by all rows (draws, *event)."""
        self._check_latents("sample_posterior")
        batch, guide = self.batch_of(data)
        return self._draws(batch, guide, draws, seed)

    def reconstruct(self, data: Any = None, draws: int = 16, seed: int = 0) -> Any:
        """E[x̂ | x]: the mean of the likelihood, averaged over draws of the latents from q(z | x).

        Missing entries are filled in by E[x_missing | x_observed, z], which looks at the row's other entries where the
        likelihood is joint, as ``impute`` does. Of a categorical variable it is the probability of each category.

        Returns:
            A tensor (N, *event), or {observed: tensor} for a model of several observed factors.
        """
        batch, guide = self.batch_of(data)
        found = reconstruct(self.model, guide, batch, whole("draws", draws), seed)
        return next(iter(found.values())) if len(found) == 1 else found

    def impute(self, data: Any = None, draws: int = 200, seed: int = 0) -> Imputation:
        """Missing entries filled in, and draws of them from p(x_missing | x_observed) as the guide sees it.

        Latents are drawn from q(z | x), parameters with priors from their posterior, entries from the likelihood:
        x̃ ~ ∫ p(x_missing | x_observed, z) q(z | x_observed) dz, so that quantiles of the draws are predictive intervals.
        Where the entries of a variable depend on each other given z, as under a full covariance, those that were
        observed are conditioned on. Memory beyond what is returned does not grow with the rows.

        Args:
            draws: S; the ends of an interval at level 0.9 rest on S / 20 draws each.

        Raises:
            DataError: a row with some entries missing of a distribution that cannot be divided into entries.

        >>> import pyro_lfm as lfm
        >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear()))
        >>> rows = torch.randn(40, 1) + 0.5 * torch.randn(40, 2)
        >>> rows[0, 1] = torch.nan
        >>> found = lfm.fit(model, rows, lfm.EM(), seed=0).impute()
        >>> found.values["x"].isnan().any(), found.draws["x"].shape
        (tensor(False), torch.Size([200, 40, 2]))
        """
        table = self._open(data, self.guide.needs)
        batch, guide = self._served(table, fitted=data is None)
        return impute(self.model, guide, batch, whole("draws", draws), seed, table)

    def bound(self, data: Any = None, draws: int = 1, seed: int = 0) -> torch.Tensor:
        """The evidence bound of each row, (N,) nats: one estimate of it by the fit's objective, or their mean."""
        objective = self._objective if isinstance(self._objective, Objective) else ELBO()
        objective = objective.at(1.0, in_turn=False)
        batch, guide = self.batch_of(data)
        device = self.model.device
        with evaluating(self.model, guide), isolated(Stream(seed, device), device), torch.no_grad():
            bounds = [objective.bound(self.model, guide, batch).per_row for _ in range(whole("draws", draws))]
        return torch.stack(bounds).mean(0)

    def log_likelihood(self, data: Any = None) -> torch.Tensor:
        """ln p(x) of the observed entries of each row, (N,) nats, exact, in float64, at the model's parameters.

        It needs a declaration whose posterior is closed form (see ``lfm.EM``), fitted in any way.

        Raises:
            DeclarationError: the model has no closed form; the message names the factor that stops it.
        """
        form = recognise(self.model, "fit.log_likelihood", "fit.bound(...) bounds it from below")
        table = self._open(data, set(self.model.observed))
        return torch.cat([form.log_likelihood(x) for x in Blocks(table, form.observed)])

    def plot(self, *, validation: str = "held out", title: str | None = "Evidence bound by epoch") -> Figure:
        """The bound by epoch, see ``lfm.plots.bounds``.

        Raises:
            ImportError: without matplotlib, which the extra ``pyro_lfm[plot]`` installs.
        """
        from pyro_lfm import plots

        return plots.bounds(self, validation=validation, title=title)

    def rows_of(self, data: Any = None) -> Batch:
        """The rows as one batch."""
        return self._batch(self._open(data, self.guide.needs))

    def batch_of(self, data: Any = None) -> tuple[Batch, AnyGuide]:
        """The rows as one batch, and the guide that serves them: a copy that is optimised for them where it is
        ``Refined`` or has ``PerRow`` tables.
        """
        return self._served(self._open(data, self.guide.needs), fitted=data is None)

    def _open(self, data: Any, needs: set[str] | None) -> Table:
        """The rows through the boundary: those that were fitted, or others of their kind."""
        if data is None:
            return self._table
        return table_for(self.model, data, needs, self.schema, may_be_empty=True)

    def _batch(self, table: Table) -> Batch:
        index, device = torch.arange(len(table)), self.model.device
        return Batch(table.take(index, self.model.dtype, device), index.to(device), len(table))

    def _served(self, table: Table, fitted: bool) -> tuple[Batch, AnyGuide]:
        batch = self._batch(table)
        if not fitted and self.model.tables:
            raise DataError(
                "the model has parameters of its own for each fitted row (PerRow), and none for other rows: leave data "
                "out, for the rows that were fitted"
            )
        if isinstance(self.guide, Refined):
            return batch, refine(self.model, self.guide, batch)
        if fitted or not self.guide.tables:
            return batch, self.guide
        return batch, fit_rows(self.model, self.guide, batch)

    def _check_latents(self, asked: str) -> None:
        if not self.model.latents:
            raise DeclarationError(
                f"fit.{asked} is of latents, and this model has none: fit.model.sample(...) and fit.log_likelihood() serve"
            )

    def _draws(self, batch: Batch, guide: AnyGuide, draws: int, seed: int) -> dict[str, torch.Tensor]:
        found: dict[str, list[torch.Tensor]] = {name: [] for name in self.model.latents}
        with evaluating(guide), isolated(Stream(seed, guide.device), guide.device), torch.no_grad():
            for _ in range(whole("draws", draws)):
                trace: Any = poutine.trace(guide).get_trace(batch)
                for name, values in found.items():
                    values.append(trace.nodes[name]["value"])
        return {name: torch.stack(values) for name, values in found.items()}

    def __repr__(self) -> str:
        last = self.history[-1] if self.history else {"epoch": 0, "bound": float("nan")}
        return f"Fit({type(self.model).__name__}, {last['epoch']} epochs, bound {last['bound']:.4g} nats per row)"

"""``Fit``, the result of ``lfm.fit``: the trained model and guide, their history, and queries of data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import torch
from pyro import poutine

from pyro_lfm.closed_form import recognise
from pyro_lfm.closed_form.row_blocks import Blocks
from pyro_lfm.data.batch import Batch
from pyro_lfm.data.files.opening import opened
from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.guides import AnyGuide, Refined
from pyro_lfm.inference.blocks import TableRows
from pyro_lfm.inference.data_boundary import Data, table_for
from pyro_lfm.inference.fit_state import FitState, Record
from pyro_lfm.inference.queries.imputation import Imputation, impute
from pyro_lfm.inference.queries.reconstruction import reconstruct
from pyro_lfm.inference.queries.served_rows import as_batch, as_stream, posteriors, whole_batch
from pyro_lfm.objectives import ELBO, Objective
from pyro_lfm.probes import evaluating
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.shapes import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

# As ``lfm.factor_analysis.rotate`` names them.
Rotation: TypeAlias = Literal["varimax", "quartimax", "oblimin", "promax"]
# Called after each epoch with its record and the fit so far; True stops the fit.
Callback: TypeAlias = Callable[[Record, "Fit"], bool | None]


class Fit(FitState):
    """A fitted model, with the guide, the history, and queries of data such as ``posterior`` and ``impute``.

    ``lfm.fit`` makes it. Methods take rows as ``lfm.fit`` does, by default the fitted rows. Observed variables that the
    guide can do without (see ``ProductOfExperts``) may be left out of a dict and count as missing. For rows not seen in
    training, a ``PerRow`` table of the guide is optimised while the model is held.

    Attributes:
        model: the model that was fitted, trained in place.
        guide: the guide, trained in place.
        history: one dict per epoch of SVI: epoch, step, bound, reconstruction, kl, validation_bound (NaN without
            validation data), all in nats per row, the number of steps that were skipped (over whose others the epoch
            averages), and seconds. For others see ``EM``.
        converged: whether more iterations would gain nothing: True or False for exact inference, and None for ``SVI``, whose
            bound is noisy.
        ends: of exact inference, the log-likelihoods (``VariationalBayes``: bounds) that its starts reached, nats per
            row, best first.
        interrupted: "SIGINT" or "SIGTERM" where such a signal ended the training before its time, else None.
        keep_rows: whether a pickle of the fit holds the fitted rows. By default it does not, and data= must be given.
        schema: by name, what the fitted rows were: names of columns, labels, whether they are a covariate, scale. Later
            rows with names are put in that order. Bare arrays are taken by position.
        inference: the inference that fitted the model. It is None for a fit that was loaded or pickled.
        seed: the seed of the fit, or None where it is not known.

    A fit refers to the fitted rows and makes no copy. When they have been changed, a method that needs them raises a
    DataError (``pyro_lfm.data.digests.RowsSeen`` says how much of large data is compared). A fit can be copied, pickled and
    stored by joblib if the user's classes and functions in model and guide stand at the top of a module. Schedules and
    callbacks are not pickled. ``copy.deepcopy`` refers to the same rows.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> z, noise = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).split([1, 3], 1)
    >>> done = lfm.fit(model, z + noise, lfm.EM(), seed=0, progress=False)
    >>> done.posterior(torch.zeros(2, 3)).mean.shape, done.log_likelihood().shape, done.model.sample(4, seed=0)["x"].shape
    (torch.Size([2, 1]), torch.Size([50]), torch.Size([4, 3]))
    """

    def posterior(self, data: Data | None = None) -> Any:
        """q(z | x) of some rows: a distribution with batch shape (N,) and the latent's event shape.

        For a latent whose guide depends on other latents it is an equal mixture over 256 draws of those.

        Returns:
            One distribution, or {latent: distribution} for a model of several latents.
        """
        self._check_latents("posterior")
        rows, guide = self.rows_and_guide(data)
        with evaluating(guide):
            by_name = posteriors(self.model, guide, rows)
        return next(iter(by_name.values())) if len(by_name) == 1 else by_name

    def sample_posterior(
        self, data: Data | None = None, draws: int = 1, seed: int = 0
    ) -> dict[str, torch.Tensor]:
        """Joint draws of all latents, {latent: ``(draws, N, *event)``}, of a latent of all rows ``(draws, *event)``."""
        self._check_latents("sample_posterior")
        batch, guide = self.batch_of(data)
        return self._draws(batch, guide, draws, seed)

    def reconstruct(self, data: Data | None = None, draws: int = 16, seed: int = 0) -> Any:
        """E[x̂ | x]: the mean of the likelihood, averaged over draws of the latents from q(z | x).

        Missing entries are filled in by E[x_missing | x_observed, z], which uses the row's other entries where the
        likelihood is joint, as ``impute`` does. For a categorical variable the mean is the probability of each category.

        Returns:
            A tensor ``(N, *event)``, or {observed: tensor} for a model of several observed factors.
        """
        rows, guide = self.rows_and_guide(data)
        means = reconstruct(self.model, guide, rows, whole("draws", draws), seed)
        return next(iter(means.values())) if len(means) == 1 else means

    def impute(self, data: Data | None = None, draws: int = 200, seed: int = 0) -> Imputation:
        """Missing entries filled in, and draws of them from the posterior predictive distribution.

        Latents are drawn from q(z | x), parameters with priors from their posterior, entries from the likelihood:
        x̃ ~ ∫ p(x_missing | x_observed, z) q(z | x_observed) dz, so that quantiles of the draws are predictive intervals.
        Where the entries of a variable depend on each other given z, as under a full covariance, the draws are conditional
        on the observed ones. Memory beyond the result does not grow with the rows.

        Args:
            draws: the number of draws. One in 20 of them lies beyond each end of an interval at level 0.9.

        Raises:
            DataError: a row lacks some entries of a distribution that cannot be divided into entries.

        >>> import pyro_lfm as lfm
        >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear()))
        >>> rows = torch.randn(40, 1) + 0.5 * torch.randn(40, 2)
        >>> rows[0, 1] = torch.nan
        >>> imputation = lfm.fit(model, rows, lfm.EM(), seed=0).impute()
        >>> imputation.values["x"].isnan().any(), imputation.draws["x"].shape
        (tensor(False), torch.Size([200, 40, 2]))
        """
        table = self._open(data, self.guide.needs)
        rows, guide = as_stream(self.model, self.guide, table, fitted=data is None)
        return impute(self.model, guide, rows, whole("draws", draws), seed, table)

    def bound(self, data: Data | None = None, draws: int = 1, seed: int = 0) -> torch.Tensor:
        """The evidence bound of each row by the fit's objective, (N,) nats: the mean of ``draws`` estimates."""
        objective = self._objective if isinstance(self._objective, Objective) else ELBO()
        objective = objective.at(1.0, in_turn=False)
        batch, guide = self.batch_of(data)
        device = self.model.device
        with evaluating(self.model, guide), isolated(Stream(seed, device), device), torch.no_grad():
            bounds = [objective.bound(self.model, guide, batch).per_row for _ in range(whole("draws", draws))]
        return torch.stack(bounds).mean(0)

    def log_likelihood(self, data: Data | None = None) -> torch.Tensor:
        """ln p(x) of the observed entries of each row, (N,) nats, exact, in float64, at the model's parameters.

        The declaration must have a closed-form posterior (see ``lfm.EM``). Any inference may have fitted it.

        Raises:
            DeclarationError: the model has no closed form. The message names the factor at fault.
        """
        form = recognise(self.model).exact("fit.log_likelihood", "fit.bound(...) bounds it from below")
        table = self._open(data, set(self.model.observed))
        return torch.cat([form.log_likelihood(x) for x in Blocks(table, form.observed)])

    def to_arviz(
        self,
        data: Data | None = None,
        *,
        draws: int = 100,
        chains: int = 4,
        seed: int = 0,
        groups: Sequence[str] = ("posterior", "posterior_predictive", "log_likelihood", "observed_data"),
    ) -> Any:
        """Draws of the fit as ArviZ reads them: an ``InferenceData``, or from ArviZ 1.0 on an ``xarray.DataTree``.

        The dimension ``row`` has the index of a DataFrame as its coordinate, ``column`` the names of columns, ``factor`` the
        numbers of the factors (``z1_factor`` where there are several latents). The draws are independent ones from q: chains
        are only how ArviZ counts them, and its r_hat says nothing about the fit.

        posterior: z ~ q(z | x) and parameters with priors. posterior_predictive: replicates x̃ ~ p(x | z) of all entries.
        log_likelihood: log p(x | z) of the observed entries of each row. observed_data: the rows, NaN where missing.
        constant_data: covariates, where there are some.

        ``az.loo`` of a latent of the row itself is optimistic, and its k̂ says so: the row has drawn its own z. Compare
        models by ``lfm.evaluate.log_likelihood`` of rows that were held out.

        Args:
            data: rows, as for ``posterior``.
            draws: of each chain, at least 4. Memory: draws × chains × rows × columns.
            groups: those to make.

        Raises:
            ImportError: without arviz, which the extra ``pyro_lfm[stats]`` installs.

        >>> import pyro_lfm as lfm
        >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear()))
        >>> fit = lfm.fit(model, torch.randn(20, 3), lfm.EM(), seed=0, progress=False)
        >>> fit.to_arviz(draws=10)["posterior"]["z"].dims
        ('chain', 'draw', 'row', 'factor')
        """
        from pyro_lfm.arviz_groups import to_arviz

        self._check_latents("to_arviz")
        return to_arviz(self, data, draws, chains, seed, groups)

    def loadings(self, rotation: Rotation | None = None, *, standardised: bool = True) -> DataFrame:
        """Loadings of a linear Gaussian model, rows named by columns of the data, see ``lfm.factor_analysis.solution``.

        Args:
            rotation: None, "varimax", "quartimax", "oblimin" or "promax", with Kaiser normalisation.
            standardised: loadings of columns of variance one, or in the units of the data.

        Raises:
            DeclarationError: the model is another (``lfm.evaluate.loadings(fit)`` serves all), or an unknown rotation.
            ImportError: without pandas and statsmodels, which the extra ``pyro_lfm[efa]`` installs.

        >>> import pandas as pd, pyro_lfm as lfm
        >>> rows = torch.randn(200, 1, generator=torch.Generator().manual_seed(0)) * torch.tensor([2.0, 1.0, 1.0])
        >>> rows = rows + torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
        >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
        >>> answers = pd.DataFrame(rows.numpy(), columns=["calm", "alert", "kind"])
        >>> lfm.fit(model, answers, lfm.EM(), seed=0, progress=False).loadings().round(1)
                F1
        calm   0.9
        alert  0.7
        kind   0.7
        """
        from pyro_lfm import factor_analysis

        done = factor_analysis.solution(self, rotation)
        return done.loadings if standardised else done.loadings_in_units

    def plot(self, *, validation: str = "held out", title: str | None = "Evidence bound by epoch") -> Figure:
        """The bound by epoch, see ``lfm.plots.bounds``.

        Raises:
            ImportError: without matplotlib, which the extra ``pyro_lfm[plot]`` installs.
        """
        from pyro_lfm import plots

        return plots.bounds(self, validation=validation, title=title)

    def rows_of(self, data: Data | None = None) -> Batch:
        """The rows as one batch."""
        return whole_batch(self.model, self._open(data, self.guide.needs))

    def exact_rows(self, data: Data | None = None) -> dict[str, torch.Tensor]:
        """The observed rows as exact inference reads them: by name, (N, D) in float64 on the CPU, NaN where missing."""
        table = self._open(data, set(self.model.observed))
        return {name: torch.cat(list(Blocks(table, name))) for name in self.model.observed}

    def batch_of(self, data: Data | None = None) -> tuple[Batch, AnyGuide]:
        """The rows as one batch, and their guide: for ``Refined`` or ``PerRow`` a copy that is optimised for the rows."""
        return self._served(self._open(data, self.guide.needs), fitted=data is None)

    def rows_and_guide(self, data: Data | None = None) -> tuple[Batch | TableRows, AnyGuide]:
        """As ``batch_of``, but rows of which a guide needs no copy of its own are read block by block."""
        table = self._open(data, self.guide.needs)
        return as_stream(self.model, self.guide, table, fitted=data is None)

    def some_rows(self, most: int, data: Data | None = None) -> Batch | None:
        """Up to so many rows, evenly spaced. It is None without rows at hand, or if the fitted ones have changed."""
        if data is None and (self._rows.is_absent or not self._seen.are_those_of(self._rows)):
            return None
        table = self._open(data, self.guide.needs)
        count = min(most, len(table))
        return (
            whole_batch(self.model, table, torch.arange(count) * len(table) // max(1, count))
            if count
            else None
        )

    def row(self, number: int, data: Data | None = None) -> tuple[Batch, AnyGuide]:
        """One row as a batch, by its number, and its guide."""
        table = self._open(data, self.guide.needs)
        if not -len(table) <= number < len(table):
            raise DataError(f"a row must be a number below {len(table)}, that of the rows; got {number}")
        batch = whole_batch(self.model, table, torch.tensor([number % len(table)]))
        if data is None and not isinstance(self.guide, Refined):
            return batch, self.guide
        return self.batch_of({name: batch.with_gaps(name) for name in batch.names})

    @property
    def has_rows(self) -> bool:
        """Whether the fitted rows are at hand. It is False for a fit that was loaded, or pickled without them."""
        return not self._rows.is_absent

    @property
    def has_weights(self) -> bool:
        """Whether the fitted rows have weights."""
        return self._rows.weights is not None

    def _open(self, data: Data | None, needs: set[str] | None) -> Table:
        """The fitted rows, or others of the same kind, read and checked."""
        if data is None:
            return self._table
        data = cast("Data", opened(data))
        if self.table is not None and self.table.takes(data):
            data = self.table.encode(data)
        return table_for(self.model, data, needs, self.schema, may_be_empty=True)

    def _served(self, table: Table, fitted: bool) -> tuple[Batch, AnyGuide]:
        return as_batch(self.model, self.guide, table, fitted)

    def _check_latents(self, method: str) -> None:
        if not self.model.latents:
            raise DeclarationError(
                f"fit.{method} needs latents, and this model has none: use fit.model.sample(...) or fit.log_likelihood()"
            )

    def _draws(self, batch: Batch, guide: AnyGuide, draws: int, seed: int) -> dict[str, torch.Tensor]:
        values: dict[str, list[torch.Tensor]] = {name: [] for name in self.model.latents}
        with evaluating(guide), isolated(Stream(seed, guide.device), guide.device), torch.no_grad():
            for _ in range(whole("draws", draws)):
                trace: Any = poutine.trace(guide).get_trace(batch)
                for name, of_latent in values.items():
                    of_latent.append(trace.nodes[name]["value"])
        return {name: torch.stack(of_latent) for name, of_latent in values.items()}

    def __repr__(self) -> str:
        last = self.history[-1] if self.history else {"epoch": 0, "bound": float("nan")}
        return f"Fit({type(self.model).__name__}, {last['epoch']} epochs, bound {last['bound']:.4g} nats per row)"

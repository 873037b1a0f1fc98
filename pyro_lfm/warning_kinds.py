"""The warnings of the library. Each message says what came, what it means for the fit, and a remedy.

``warnings.simplefilter("error", lfm.PriorWarning)`` makes an error of a warning, and "ignore" silences it.
"""


class SkippedStepWarning(UserWarning):
    """A step of a fit was skipped, because its loss or a gradient was not finite. It moved no parameter.

    ``fit.skipped`` counts such steps. The message names the factor and the rows. Remedies: a smaller ``learning_rate``, a
    larger ``min_scale``, scaled data.

    >>> import pyro_lfm as lfm, torch, warnings
    >>> class Faulty(torch.nn.Module):
    ...     calls = 0
    ...     def forward(self, z):
    ...         self.calls += self.training
    ...         return z.expand(-1, 3) / (self.calls != 2)  # the second step divides by zero
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=Faulty()))
    >>> svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear())), epochs=4, engine="eager")
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     fit = lfm.fit(model, torch.randn(20, 3), svi, seed=0, progress=False)
    >>> fit.skipped, str(caught[0].message)[:50]
    (1, 'a step was skipped, which moved no parameter: the ')
    """


class RandomStreamWarning(UserWarning):
    """Another thread has drawn from torch's random stream during a step of a fit, so that the seed does not repeat the fit.

    Give the thread a generator of its own, or let it draw inside ``pyro_lfm.runtime.isolated()``.

    >>> import threading, torch
    >>> own = torch.Generator().manual_seed(1)
    >>> thread = threading.Thread(target=lambda: torch.randn(3, generator=own))  # does not disturb a fit
    """


class RowOrderWarning(UserWarning):
    """The rows of a file are sorted. Blocks of them that are shuffled together in memory differ from the whole.

    Write the file in random order once by ``lfm.data.shuffle``, or give ``SVI`` a larger ``buffer``.

    >>> import numpy as np, pyro_lfm as lfm, tempfile, warnings
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear()))
    >>> svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear())), steps=1, buffer=1024, engine="eager")
    >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
    ...     rows = np.random.default_rng(0).normal(size=(20000, 2)).astype("float32")
    ...     np.save(f"{folder}/sorted.npy", np.sort(rows, 0))
    ...     fit = lfm.fit(model, f"{folder}/sorted.npy", svi, seed=0, progress=False)
    ...     mixed = lfm.data.shuffle(f"{folder}/sorted.npy", f"{folder}/mixed.npy", seed=0)  # the remedy
    >>> str(caught[0].message)[:28]
    'the rows of x are sorted: ne'
    """


class ScheduleWarning(UserWarning):
    """``patience`` cannot stop a fit, because a weight of the objective follows a schedule to the end of the training.

    Bounds of epochs with different weights cannot be compared. Let the schedule end sooner.

    >>> import pyro_lfm as lfm, torch, warnings
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear()))
    >>> def patient(schedule):
    ...     objective = lfm.ELBO(kl_weight=schedule)
    ...     svi = lfm.SVI(guide, objective=objective, epochs=10, patience=5, engine="eager")
    ...     with warnings.catch_warnings(record=True) as caught:
    ...         lfm.fit(model, torch.randn(20, 3), svi, seed=0, progress=False)
    ...     return [str(warning.message)[:33] for warning in caught]
    >>> patient(lfm.schedules.cosine(until=1.0)), patient(lfm.schedules.cosine(until=0.3))
    (['patience=5 cannot stop this fit: '], [])
    """


class ScaleFloorWarning(UserWarning):
    """A fitted standard deviation has reached its floor ``min_scale``. Without the floor the likelihood has no maximum.

    A column may be constant, repeat another one, or be explained alone by one factor. Drop it, take fewer factors, or choose
    ``min_scale`` yourself.

    >>> import pyro_lfm as lfm, torch, warnings
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     fit = lfm.fit(model, rows[:, [0, 0, 1]], lfm.EM(), seed=0, progress=False)
    >>> str(caught[0].message)[:79]
    'A floor decides the noise of columns 0, 1 of x, and not the data, which want le'
    """


class IdentificationWarning(UserWarning):
    """Other values of the parameters have the same likelihood, so that the fitted values alone mean nothing.

    It concerns loadings with a pattern of zeros. Give each factor three columns of its own, or two where factors correlate.

    >>> import pyro_lfm as lfm, torch, warnings
    >>> one_column_of_its_own = [[1, 0], [1, 0], [0, 1]]
    >>> x = lfm.Gaussian(3, mean=lfm.Linear(pattern=one_column_of_its_own))
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=x)
    >>> rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    >>> fit = lfm.fit(model, rows, lfm.EM(), seed=0, progress=False)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     table = fit.loadings()
    >>> print(str(caught[0].message)[:56])
    the pattern of zeros identifies 4 of 6 parameters: other
    """


class ConvergenceWarning(UserWarning):
    """A fit used up its iterations before it converged. More iterations would raise its bound.

    >>> import pyro_lfm as lfm, torch, warnings
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     fit = lfm.fit(model, rows, lfm.EM(iterations=2), seed=0, progress=False)
    >>> fit.converged, str(caught[0].message)[:35]
    (False, 'not converged after iterations=2: t')
    >>> lfm.fit(model, rows, lfm.EM(iterations=5000, start="model"), seed=0, progress=False).converged
    True
    """


class EmptyColumnWarning(UserWarning):
    """A column of a table has no observed cell, and is left out."""


class PriorWarning(UserWarning):
    """A prior outweighs the data, because its numbers do not fit the scale of the data.

    Leave the numbers out. The scale of each column then sets them.

    >>> import pyro_lfm as lfm, torch, warnings
    >>> noise = lfm.Isotropic(prior=lfm.parameter_priors.Gamma(2.0, 1e4))  # expects a variance near 10,000
    >>> x = lfm.Gaussian(3, mean=lfm.Linear(prior=lfm.parameter_priors.ARD()), covariance=noise)
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=x)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     fit = lfm.fit(model, torch.randn(40, 3), lfm.VariationalBayes(), seed=0, progress=False)
    >>> str(caught[0].message)[:79]
    'x: the noise: the numbers of its prior lfm.parameter_priors.Gamma decide, not t'
    """


class CompilationWarning(UserWarning):
    """A step cannot be compiled, and runs in eager mode: slower, with the same numbers.

    The message names the line that cannot be compiled. ``SVI(engine="eager")`` avoids the attempt.

    >>> import pyro_lfm as lfm, torch, warnings
    >>> class Item(torch.nn.Module):
    ...     def forward(self, z):
    ...         return z.expand(-1, 3) * z.mean().item()  # a number of Python, which differs in every step
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=Item()))
    >>> svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear())), epochs=5, engine="compiled")
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     fit = lfm.fit(model, torch.randn(20, 3), svi, seed=0, progress=False)
    >>> str(caught[0].message)[:74]
    'the step cannot be compiled and is done in eager: what it does depends on '
    """


class SeedWarning(UserWarning):
    """First weights cannot be drawn from the seed of a fit, so that the seed alone does not repeat the fit.

    Give a source that makes a new network at each call, or call ``torch.manual_seed`` before the declaration.

    >>> import pyro_lfm as lfm, torch, warnings
    >>> networks = iter([torch.nn.Linear(1, 3)])
    >>> x = lfm.Gaussian(3, mean=lambda inputs, outputs: next(networks))  # makes a network only once
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=x)
    >>> svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear())), epochs=1, engine="eager")
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     fit = lfm.fit(model, torch.randn(20, 3), svi, seed=0, progress=False)
    >>> str(caught[0].message)[:58]
    'the first weights of the model are not drawn from the seed'
    """


class PrecisionWarning(UserWarning):
    """Data have more digits than the floating type of the model holds.

    Subtract the mean of each column, or declare the model in float64 by ``model.double()``.

    >>> import pyro_lfm as lfm, torch, warnings
    >>> rows = 1e6 + 1e-3 * torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     fit = lfm.fit(model, rows, lfm.EM(iterations=1000), seed=0, progress=False)
    >>> str(caught[0].message)[:93]
    'x: numbers spread by 0.0009 about 1e+06, where neighbouring numbers of float32 are 0.12 apart'
    """


class DataScaleWarning(UserWarning):
    """Data lie far from the start of the model, or from the rows that it was fitted to.

    Scale the data before the fit. Give later rows in the same units.

    >>> import pyro_lfm as lfm, torch, warnings
    >>> rows = 1000 + torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear())), epochs=1, engine="eager")
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     fit = lfm.fit(model, rows, svi, seed=0, progress=False)
    ...     scaled = lfm.fit(model, (rows - rows.mean(0)) / rows.std(0), svi, seed=0, progress=False)  # the remedy
    >>> [str(warning.message)[:44] for warning in caught]
    ['x: its numbers lie about 1000 and spread by ']
    """


class AttributeWarning(UserWarning):
    """Rows with the attributes asked for lie beyond the data, or the new rows do not have these attributes.

    >>> import pyro_lfm as lfm, torch, warnings
    >>> rows, age = torch.randn(40, 3), 50 + 10 * torch.randn(40, generator=torch.Generator().manual_seed(0))
    >>> x = lfm.Gaussian(3, mean=lfm.Linear(), given=("z", "age"))
    >>> model = lfm.Model(age=lfm.Covariate(), z=lfm.StandardNormal(1), x=x)
    >>> svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear())), epochs=1, engine="eager")
    >>> fit = lfm.fit(model, {"x": rows, "age": age}, svi, seed=0, progress=False)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     new = lfm.attributes.generate(fit, {"age": 300.0}, 2)
    >>> str(caught[0].message)[:62]
    'age = 300.0 lies 26.3 standard deviations from the mean of the'
    """


class EmptyCountsWarning(UserWarning):
    """Cells or genes of an AnnData have no counts at all, so that nothing can be learned of them.

    >>> import anndata, numpy as np, pyro_lfm as lfm, warnings
    >>> counts = anndata.AnnData(np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]))
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     cells = lfm.tables.anndata(counts)
    >>> str(caught[0].message)[:25]
    '1 cells have no counts, a'
    """

"""``compare``: one model, several guides or inferences, on equal terms."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from pyro_lfm.comparison.entrants import Starts, budget, check_budgets, read_model, read_ways
from pyro_lfm.comparison.kept.folder import Folder
from pyro_lfm.comparison.metrics import read_metrics
from pyro_lfm.comparison.result import Comparison
from pyro_lfm.comparison.runner import Runner, digests_of
from pyro_lfm.errors import DeclarationError, one_call
from pyro_lfm.inference import SVI, Fit
from pyro_lfm.inference.data_boundary import table_for
from pyro_lfm.inference.task import Inference
from pyro_lfm.objectives import ELBO
from pyro_lfm.shapes import whole


def compare(
    model: Any,
    data: Any,
    ways: Mapping[str, Any],
    *,
    test: Any = None,
    seeds: int | Sequence[int] = 1,
    metrics: Any = None,
    baseline: str | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    objective: Any = None,
    schedule: Callable[[float], float] | None = None,
    equal_budgets: bool = True,
    draws: int = 100,
    validation: Any = None,
    callbacks: Sequence[Callable[[dict[str, Any], Fit], Any]] = (),
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
    device: str | torch.device = "auto",
) -> Comparison:
    """Fits one model in several ways, each on copies of its own, and measures all by the same noise on the same rows.

    A way is a guide's factor, {latent: factor}, a guide, an inference such as ``lfm.SVI(guide, ...)`` or ``lfm.EM()``, or a
    function of the model that gives a guide or an inference. Guides are trained by ``lfm.SVI`` with the budget given here.
    Nothing that is given is trained or changed: neither models, guides and inferences, nor torch's random state, nor Pyro's
    parameter store.

    **The start.** For each seed all ways start from the same weights of the model, those that ``fit`` with this seed starts
    from: drawn from the seed, where the model is as it was declared. The first seed of a model that was trained starts
    from where it is, further ones from weights drawn anew (see ``Model.redrawn``); a model that is a function, ``lambda:
    lfm.Model(...)``, is declared once more for each seed. So it is with guides, and encoders of one shape start alike. What
    ``pyro.param`` statements of a program declare starts the same for all seeds.

    **The budget.** Ways by ``lfm.SVI`` must have the same steps of the same number of rows; particles do not count.
    ``lfm.EM``, ``lfm.VariationalEM`` and ``lfm.VariationalBayes`` stop where they converge. What each cost in seconds,
    compilation included, is in the table.

    **The measures**, in nats per row of ``test`` where not said otherwise, averaged over the draws: bound
    L = E_q[log p(x, z) − log q(z | x)], reconstruction E_q[log p(x | z)], kl = reconstruction − bound, log_likelihood
    log p(x) by importance weighting with the guide (a little too low on average, see ``lfm.evaluate.log_likelihood``), exact
    where there is a closed form, gap = log_likelihood − bound, bits_per_dimension, unreliable (the share of rows whose k̂ is
    too large for importance weights to be believed), training_bound (of the last epoch, by the way's own objective),
    fit_seconds, infer_seconds (to find q of the test rows and draw from it) and guide_parameters (numbers in q).

    **The errors.** Over rows: of another draw of test rows, the fits held. Over seeds: of other starts and other noise of
    training. Differences between ways are paired by row and by seed, which takes out what rows and seeds have in common.
    With one seed there is no error over seeds: a clear difference is then one of these very fits.

    Args:
        model: a ``Model``, ``PyroModel`` or other Pyro model, or a function without arguments that gives one. With several
            seeds one that is no ``lfm.Model`` must be given as a function.
        data: rows to fit, as for ``fit``.
        ways: {name: way}, in the order of the table.
        test: rows to measure on; left out, those that were fitted, which flatters ways that overfit.
        seeds: how many, 0, 1, ..., or which.
        metrics: names of the above, {name: function (fit, test) -> number or (N,)}, or a list of both; a ``Metric`` in
            place of the function says that lower is better. Ways are judged by the first. By default all the above.
        baseline: the way from which differences are taken; the first by default.
        epochs, steps, batch_size, learning_rate, objective, schedule: of ways that are guides, see ``lfm.SVI``.
        equal_budgets: whether ways by ``lfm.SVI`` must have equal budgets.
        draws: of z per test row, S ≥ 2, for bounds and weights.
        validation, callbacks, device: of every fit, see ``fit``.
        folder: where each fit is kept when it is done. Called again with the same arguments, an interrupted comparison goes
            on where it stopped, in the middle of a fit too, with the same result (but for rounding, where the step of a fit
            that was interrupted is compiled); further ways and seeds may be added. Callbacks are not looked at.
        progress: whether to say which fit is going on, with a bar for it.

    Raises:
        DeclarationError: ways, metrics or budgets that are none or unequal; a folder of another comparison; what ``fit``
            says of a way. DataError, ShapeError: rows that do not fit. A way whose training fails does not stop the
            others: the table says so.

    Source: paired differences and their errors as in Box, Hunter and Hunter (2005), chapter 3.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(8)))
    >>> ways = {
    ...     "mean-field": lfm.Gaussian(network=lfm.MLP(8)),
    ...     "full": lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(8)),
    ... }
    >>> rows = torch.randn(60, 4)
    >>> found = lfm.compare(model, rows[:40], ways, test=rows[40:], epochs=2, progress=False)
    >>> found.rows["bound"]["full"].shape, list(found.ranks["bound"])
    (torch.Size([1, 20]), ['mean-field', 'full'])
    """
    model, ways, chosen = read_model(model), read_ways(ways), read_metrics(metrics)
    numbers = _seeds(seeds)
    kept = None if folder is None else Folder(folder)
    draws = whole("draws", draws, least=2)
    baseline = next(iter(ways)) if baseline is None else baseline
    if not isinstance(baseline, str) or baseline not in ways:
        raise DeclarationError(f"baseline must be one of {', '.join(ways)}; got {baseline!r}")

    def svi(guide: Any) -> SVI:
        return SVI(
            guide,
            objective=ELBO() if objective is None else objective,
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            schedule=schedule,
        )

    with one_call():
        starts = Starts(model, ways, svi, numbers[0])
        # Before anything is trained: what cannot be declared is said now, and so are budgets that differ.
        ready = {name: starts.at(name, numbers[0]) for name in ways}
        first = ready[baseline][0]
        table = table_for(first, data)
        if test is not None:
            table_for(first, test, set(), table.schema)
        inferences = {name: inference for name, (_, inference) in ready.items()}
        if equal_budgets:
            check_budgets(inferences, len(table))
        notes = [_of_rows(len(table), test is not None, numbers), *_of_budgets(inferences, len(table))]
        runner = Runner(
            starts=starts,
            table=table,
            data=data,
            test=test,
            metrics=chosen,
            draws=draws,
            options={
                "validation": validation,
                "callbacks": callbacks,
                "progress": progress,
                "device": device,
            },
            folder=kept,
            digests={} if kept is None else digests_of(first, fitted=table, test=test, validation=validation),
        )
        del ready, inferences, first
        for seed in numbers:
            for name in ways:
                runner.run(name, seed)
    return runner.result(tuple(ways), numbers, baseline, notes)


def _seeds(seeds: Any) -> tuple[int, ...]:
    if not isinstance(seeds, Sequence) or isinstance(seeds, str):
        return tuple(range(whole("seeds", seeds)))
    found = tuple(whole("seeds", seed, least=0) for seed in seeds)
    if max(found, default=0) >= 2**62:
        raise DeclarationError(f"seeds must be below 2**62; got {max(found)}")
    if not found or len(set(found)) < len(found):
        raise DeclarationError(f"seeds must be how many, or which, all different; got {seeds!r}")
    return found


def _of_rows(rows: int, held_out: bool, seeds: tuple[int, ...]) -> str:
    measured = "measured on rows held out" if held_out else "measured on the same rows, none held out"
    means = f", means over {len(seeds)} seeds" if len(seeds) > 1 else ""
    seeded = ""
    if len(seeds) > 1:
        # A standard deviation from S normal numbers has a relative error of about 1/√(2(S − 1)).
        rough = f"; from {len(seeds)} seeds the latter is itself uncertain by {100 / (2 * len(seeds) - 2) ** 0.5:.0f}%"
        seeded = f", and over seeds besides{rough if len(seeds) < 10 else ''}"
    return (
        f"Nats per row where not said otherwise; {rows:,} rows fitted, {measured}{means}. ± is one standard error over "
        f"those rows; of differences it is paired by row{seeded}."
    )


def _of_budgets(inferences: Mapping[str, Inference], rows: int) -> list[str]:
    budgets = {name: budget(way, rows) for name, way in inferences.items() if isinstance(way, SVI)}
    patient = {name for name, way in inferences.items() if isinstance(way, SVI) and way.patience}
    words = {
        name: f"{'at most ' * (name in patient)}{steps:,} steps of {size:,} rows"
        for name, (steps, size) in budgets.items()
    }
    if len(set(words.values())) > 1:
        return [f"Unequal budgets: {'; '.join(f'{name}, {word}' for name, word in words.items())}."]
    return [f"Every way by SVI had {next(iter(words.values()))}."] if words else []

"""``compare``: several guides or inferences of one model, or several models, on equal terms."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch

from pyro_lfm.comparison.candidates import ModelOrFunction, Starts, budget, check_budgets
from pyro_lfm.comparison.comparison_result import Comparison
from pyro_lfm.comparison.measures import measure_of
from pyro_lfm.comparison.metrics import Metrics, read_metrics
from pyro_lfm.comparison.pairing import Candidates, Models, Pairs
from pyro_lfm.comparison.rows_of_model import RowsOfModel, names_read
from pyro_lfm.comparison.runner import Runner
from pyro_lfm.comparison.storage.finished_fits import FinishedFits
from pyro_lfm.errors import DeclarationError, one_call
from pyro_lfm.evaluate.inputs import Rows
from pyro_lfm.inference import SVI, Fit
from pyro_lfm.inference.task import Inference
from pyro_lfm.objectives import ELBO, Objective
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.shapes import whole

# Called with the record of an epoch and the fit so far.
Callback: TypeAlias = Callable[[dict[str, Any], Fit], Any]


def compare(
    model: ModelOrFunction | Models,
    data: Rows,
    candidates: Candidates = None,
    *,
    test: Rows | None = None,
    seeds: int | Sequence[int] = 1,
    metrics: Metrics | None = None,
    baseline: str | float | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    objective: Objective | None = None,
    schedule: Callable[[float], float] | None = None,
    equal_budgets: bool = True,
    draws: int = 100,
    validation: Rows | None = None,
    callbacks: Sequence[Callback] = (),
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
    device: str | torch.device = "auto",
) -> Comparison:
    """Fits one model with several candidates, or several models, and measures all with the same noise on the same rows.

    A candidate is a guide's factor, {latent: factor}, a guide, an inference such as ``lfm.SVI(guide, ...)`` or ``lfm.EM()``,
    or a function of the model that gives a guide or an inference. Guides are trained by ``lfm.SVI`` with the budget given
    here. Models, guides and inferences that are given stay as they are, and so do torch's random state and Pyro's parameter
    store.

    **Several models**, ``{1: model1, 2: model2}``, such as numbers of factors, priors or likelihoods, take as candidates one
    candidate for all, one for each by the model's name, or several by other names, each with each model. A model may bring
    its own as ``(model, candidate)``. Without any candidate, a model with a closed form is fitted by ``lfm.EM``, or by
    ``lfm.VariationalBayes`` where its parameters have priors. Of data by name each model takes the variables that it
    observes. log p(x) judges them by default where rows have one of their own, as bounds of guides are more or less tight. A
    model of which p(x) is of another measure than that of the baseline, such as probabilities of counts beside densities, is
    not ranked by nats, and a note says so.

    **The start.** For each seed all candidates start from the same weights of the model, those that ``fit`` with this seed
    starts from. A model that is as it was declared draws them from the seed. For a model that was trained, the first seed
    starts from its present weights, and further seeds draw new ones (see ``Model.redrawn``). A model that is a function,
    ``lambda: lfm.Model(...)``, is declared once more for each seed. The same holds for guides, and encoders of one shape
    start alike. Parameters of ``pyro.param`` statements start the same for all seeds.

    **The budget.** Candidates by ``lfm.SVI`` must have the same number of steps of the same number of rows. Particles do not
    count. ``lfm.EM``, ``lfm.VariationalEM`` and ``lfm.VariationalBayes`` stop at convergence. The table has the seconds of
    each, compilation included.

    **The measures**, in nats per row of ``test`` unless stated otherwise, are means over draws. bound: L = E_q[log p(x, z) −
    log q(z | x)]. reconstruction: E_q[log p(x | z)]. kl: reconstruction − bound. log_likelihood: log p(x), exact where there
    is a closed form, else by importance weighting with the guide, which is a little too low on average (see
    ``lfm.evaluate.log_likelihood``). gap: log_likelihood − bound. bits_per_dimension. unreliable: the share of rows whose k̂
    is too large for reliable importance weights. training_bound: of the last epoch, by the candidate's own objective.
    fit_seconds. infer_seconds: to compute q of the test rows and draw from it. guide_parameters: the number of parameters of
    q. model_parameters: those of p, for several models.

    **The errors.** Those over rows are for another draw of test rows, with the fits held. Those over seeds are for other
    starts and other noise of training. Differences between candidates are paired by row and by seed, which removes the noise
    that candidates have in common. With one seed there is no error over seeds, and a clear difference is one between these
    fits only.

    Args:
        model: a ``Model``, ``PyroModel`` or other Pyro model, or a function without arguments that gives one, or
            {name or number: one of these}. With several seeds a model that is no ``lfm.Model`` must be given as a function.
        data: rows to fit, as for ``fit``.
        candidates: {name: candidate}, in the order of the table. For several models see above.
        test: rows to measure on. If left out, those that were fitted, which favours candidates that overfit.
        seeds: the number of seeds, 0, 1, ..., or a list of them.
        metrics: names of the above, {name: function (fit, test) -> number or (N,)}, or a list of both. A ``Metric`` in
            place of the function declares that lower is better. Candidates are ranked by the first. By default all the
            above, of several models log_likelihood first.
        baseline: the candidate from which differences are taken, by default the first.
        epochs, steps, batch_size, learning_rate, objective, schedule: for candidates that are guides, see ``lfm.SVI``.
        equal_budgets: whether candidates by ``lfm.SVI`` must have equal budgets.
        draws: S ≥ 2 draws of z per test row, for bounds and weights.
        validation, callbacks, device: for every fit, see ``fit``.
        folder: the folder in which finished fits are stored. A second call with the same arguments continues an interrupted
            comparison, in the middle of a fit too, with the same result (but for rounding, where the step of the interrupted
            fit is compiled). Candidates and seeds may be added. Callbacks are not compared.
        progress: whether to print the name of the present fit, with a progress bar.

    Raises:
        DeclarationError: invalid candidates, metrics or budgets, unequal budgets, a folder of another comparison, or an
            error of ``fit``.
        DataError, ShapeError: rows that do not fit.
        KeyboardInterrupt: SIGINT or SIGTERM has ended a fit. Finished fits and the checkpoint of this one are in the folder.

    A candidate whose training fails does not stop the others. The table has its error.

    Source: paired differences and their errors as in Box, Hunter and Hunter (2005), chapter 3.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(8)))
    >>> candidates = {
    ...     "mean-field": lfm.Gaussian(network=lfm.MLP(8)),
    ...     "full": lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(8)),
    ... }
    >>> rows = torch.randn(60, 4)
    >>> result = lfm.compare(model, rows[:40], candidates, test=rows[40:], epochs=2, progress=False)
    >>> result.rows["bound"]["full"].shape, list(result.ranks["bound"])
    (torch.Size([1, 20]), ['mean-field', 'full'])
    """
    pairs = Pairs.of(model, candidates)
    names, chosen = list(pairs.candidates), read_metrics(metrics, pairs.several)
    numbers, first_name = _seeds(seeds), _baseline(baseline, names)
    storage = None if folder is None else FinishedFits(folder)
    draws = whole("draws", draws, least=2)
    svi = partial(
        SVI,
        objective=ELBO() if objective is None else objective,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule=schedule,
    )
    with one_call():
        starts = Starts(pairs.models, pairs.candidates, svi, numbers[0])
        # All declarations and budgets are checked before any training.
        ready = {name: starts.at(name, numbers[0]) for name in names}
        rows = _rows(
            pairs, {name: each for name, (each, _) in ready.items()}, data, test, validation, storage
        )
        count = len(rows[first_name].table)
        inferences = {name: inference for name, (_, inference) in ready.items()}
        if equal_budgets:
            check_budgets(inferences, count)
        notes = [_rows_note(count, test is not None, numbers), *_budget_notes(inferences, count)]
        if metrics is None and any(not v.per_row for m, _ in ready.values() for v in m.latents.values()):
            # A row has no log p(x) of its own where all rows share a latent.
            chosen = {"bound": chosen["bound"], **chosen}
        measures = {name: measure_of(each, isinstance(data, Mapping)) for name, (each, _) in ready.items()}
        runner = Runner(
            starts=starts,
            rows=rows,
            metrics=chosen,
            draws=draws,
            options={
                "callbacks": callbacks,
                "progress": progress,
                "device": device,
            },
            folder=storage,
            measures=measures,
        )
        del ready, inferences
        for seed in numbers:
            for name in names:
                runner.run(name, seed)
    return runner.result(tuple(names), numbers, first_name, notes)


def _rows(
    pairs: Pairs,
    models: Mapping[str, AnyModel],
    data: Rows,
    test: Rows | None,
    validation: Rows | None,
    storage: FinishedFits | None,
) -> dict[str, RowsOfModel]:
    """The rows of each candidate, read once for each model."""
    used = set().union(*map(names_read, models.values()))
    of_model: dict[int, RowsOfModel] = {}
    for name, declared in pairs.models.items():
        if id(declared) not in of_model:
            of_model[id(declared)] = RowsOfModel.of(
                models[name], used, data=data, test=test, validation=validation, stored=storage is not None
            )
    return {name: of_model[id(declared)] for name, declared in pairs.models.items()}


def _baseline(baseline: object, names: Sequence[str]) -> str:
    if baseline is None:
        return names[0]
    text = str(baseline) if isinstance(baseline, int | float) else baseline
    if not isinstance(text, str) or text not in names:
        raise DeclarationError(f"baseline must be one of {', '.join(names)}; got {baseline!r}")
    return text


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    if not isinstance(seeds, Sequence) or isinstance(seeds, str):
        return tuple(range(whole("seeds", seeds)))
    numbers = tuple(whole("seeds", seed, least=0) for seed in seeds)
    if max(numbers, default=0) >= 2**62:
        raise DeclarationError(f"seeds must be below 2**62; got {max(numbers)}")
    if not numbers or len(set(numbers)) < len(numbers):
        raise DeclarationError(
            f"seeds must be a number of seeds, or a list of different seeds; got {seeds!r}"
        )
    return numbers


def _rows_note(rows: int, held_out: bool, seeds: tuple[int, ...]) -> str:
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


def _budget_notes(inferences: Mapping[str, Inference], rows: int) -> list[str]:
    budgets = {name: budget(each, rows) for name, each in inferences.items() if isinstance(each, SVI)}
    patient = {name for name, each in inferences.items() if isinstance(each, SVI) and each.patience}
    texts = {
        name: f"{'at most ' * (name in patient)}{steps:,} steps of {size:,} rows"
        for name, (steps, size) in budgets.items()
    }
    if len(set(texts.values())) > 1:
        return [f"Unequal budgets: {'; '.join(f'{name}, {text}' for name, text in texts.items())}."]
    return [f"Every candidate by SVI had {next(iter(texts.values()))}."] if texts else []

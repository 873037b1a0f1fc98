"""Every function that evaluates, with every kind of latent, of data and of fit: it serves, or refuses in one sentence."""

import dataclasses
import functools
import math
import warnings

import evaluation_cases
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm import evaluate, plots
from pyro_lfm.inference.queries import served_rows

ERRORS = (lfm.DataError, lfm.DeclarationError, lfm.TrainingError)
WARNINGS = (lfm.ScaleFloorWarning, lfm.CompilationWarning)
# Of messages of torch and Pyro.
FOREIGN = (
    "Expected parameter",
    "size of tensor",
    "invalid for input",
    "Trace Shapes",
    "Traceback",
    "file an issue",
)
LADDER = evaluate.Annealing(temperatures=4)


def rows_in(data):
    return len(next(iter(data.values())))


def halves(data):
    return torch.arange(rows_in(data)) % 2


def means(fit, data):
    """Of each latent what its posterior has: of labels probabilities."""
    found = fit.posterior(data)
    distributions = found if isinstance(found, dict) else dict.fromkeys(fit.model.latents, found)
    return {
        n: distribution.probs if fit.model.latents[n].categories else distribution.mean
        for n, distribution in distributions.items()
    }


def covariates(fit, data, rows):
    given = {n: data[n][:1].expand(rows, *data[n].shape[1:]) for n in fit.model.covariates}
    return given or None


def weights(found):
    """W of each observed variable by name."""
    return {name: each.mean for name, each in (found if isinstance(found, dict) else {"x": found}).items()}


def drawn(figure):
    """Laid out, as for a file; that takes no display."""
    figure.draw_without_rendering()


# What a user may ask of a fit and some rows, or of the rows that were fitted, where data is None.
QUERIES = {
    "posterior": means,
    "sample_posterior": lambda fit, data: fit.sample_posterior(data, draws=2),
    "reconstruct": lambda fit, data: fit.reconstruct(data, draws=2),
    "impute": lambda fit, data: (fit.impute(data, draws=3), fit.impute(data, draws=3).interval()),
    "bound": lambda fit, data: fit.bound(data),
    "log_likelihood": lambda fit, data: fit.log_likelihood(data),
    "repr": lambda fit, data: repr(fit),
}
ESTIMATES = {
    "importance": lambda fit, data: evaluate.log_likelihood(fit, data, draws=30),
    "exact": lambda fit, data: evaluate.log_likelihood(fit, data, method="exact"),
    "loadings": lambda fit, data: evaluate.loadings(fit, data),
    "loadings of draws": lambda fit, data: evaluate.loadings(fit, data, draws=2),
    "variance explained": lambda fit, data: evaluate.variance_explained(fit, data),
    "factor order": lambda fit, data: evaluate.factor_order(fit, data),
    "imputation": lambda fit, data: evaluate.imputation_scores(fit, data, draws=20, share=0.5),
    "align": lambda fit, data: evaluate.align(fit, fit, data),
    "representations": lambda fit, data: evaluate.rival_representations(fit, data, data),
    "few labels": lambda fit, data: evaluate.representation.few_labels(
        {"factors": (means(fit, data)[[*fit.model.latents][-1]].reshape(rows_in(data), -1),) * 2},
        halves(data), halves(data), counts=(2,), seeds=2,
    ),
    "disentanglement": lambda fit, data: evaluate.disentanglement(fit, {"half": halves(data)}, data=data),
}  # fmt: skip
LONG = {
    "annealed": lambda fit, data: evaluate.log_likelihood(fit, data, draws=32, method="annealed", annealing=LADDER),
    "sandwich": lambda fit, data: evaluate.sandwich(
        fit, rows=2, draws=32, annealing=LADDER, given=covariates(fit, data, 2)
    ),
    "gaps": lambda fit, data: evaluate.gaps(fit, data, draws=50, steps=2),
    "decompose": lambda fit, data: evaluate.decompose(fit, data, draws=20, pairs=2, betas=(0.5, 1.0)),
    "diagnose": lambda fit, data: evaluate.diagnose(fit, data, rows=40, draws=9, replicates=19, weights=20),
}  # fmt: skip
PICTURES = {
    "bounds": lambda fit, data: drawn(plots.bounds(fit)),
    "decomposition": lambda fit, data: drawn(plots.bound_and_gap(fit)),
    "latent map": lambda fit, data: drawn(
        plots.latent_map(means(fit, data)[[*fit.model.latents][-1]], halves(data))
    ),
    "factor walk": lambda fit, data: drawn(plots.factor_walk(fit, shape=(2, 2), steps=3)),
    "loadings": lambda fit, data: drawn(plots.loadings(weights(evaluate.loadings(fit, data)))),
    "pareto": lambda fit, data: drawn(plots.pareto_k(evaluate.log_likelihood(fit, data, draws=30))),
    "variance explained": lambda fit, data: drawn(plots.variance_explained(evaluate.variance_explained(fit, data))),
    "coverage": lambda fit, data: drawn(plots.interval_coverage(evaluate.imputation_scores(fit, data, draws=20, share=0.5))),
    "decomposed": lambda fit, data: drawn(plots.kl_by_entry(LONG["decompose"](fit, data))),
    "diagnosis": lambda fit, data: drawn(plots.diagnosis(LONG["diagnose"](fit, data))),
}  # fmt: skip

# Where NaN is what the documentation says: {where: in which cases}; a star stands for any.
ONE_ROW, FEW_ROWS = "with one row", "with few rows"
NAN = {
    "reconstruct": {"heavy tails"},  # a Cauchy has no mean
    "decompose.latents": {ONE_ROW},  # the variance over rows of a single one
    "sandwich.gap_error": {ONE_ROW},
    "loadings.mean_error": {ONE_ROW},
    "loadings.rms_error": {ONE_ROW},
    "loadings of draws.mean_error": {ONE_ROW},
    "loadings of draws.rms_error": {ONE_ROW},
    "variance explained": {"*"},  # of what does not vary, or of one row
    "imputation": {"*"},  # a column of which nothing is left, or nothing hidden, has no score
}


def numbers(value, path):
    """The path of every number, tensor and text in a result."""
    if dataclasses.is_dataclass(value):
        yield path + ".repr", str(value)
        for name, entry in vars(value).items():
            shown = path if isinstance(entry, dict) and name == "variables" else f"{path}.{name}"
            yield from numbers(entry, shown)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from numbers(entry, path)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from numbers(entry, path)
    else:
        yield path, value


def faults_of(name, call, fit, data, kinds):
    """What is wrong with a call: another library's error or warning, an error of several lines, NaN without a reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for own in WARNINGS:
                warnings.simplefilter("ignore", own)
            found = call(fit, data)
    except ERRORS as error:
        words = str(error)
        wrong = not words or "\n" in words or any(foreign in words for foreign in FOREIGN)
        return [f"{name}: {words}"] if wrong else []
    except Exception as error:
        return [f"{name}: {type(error).__name__}: {error}"]
    faults = []
    for path, value in numbers(found, name):
        bad = isinstance(value, torch.Tensor) and value.is_floating_point() and bool(value.isnan().any())
        bad |= isinstance(value, float) and math.isnan(value)
        bad |= isinstance(value, str) and "nan" in value.replace("(", " ").replace(",", " ").split()
        allowed = [where for where in NAN if path == where or path.startswith(where + ".")]
        if bad and not any(NAN[where] & {*kinds, "*"} for where in allowed):
            faults.append(f"{path} is NaN: {str(value)[:200]}")
    return faults


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """For rows that a table of rows has not seen: what they say is not looked at."""
    monkeypatch.setattr(served_rows, "fit_rows", functools.partial(served_rows.fit_rows, steps=3))


@pytest.fixture(scope="module")
def made():
    """The fits, each made once."""
    kept = {}

    def make(case):
        if case not in kept:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kept[case] = evaluation_cases.make(case)
        return kept[case]

    return make


def cross(case, made, calls, counts):
    """All faults of some calls on the fit of a case, with so many of its rows, None for all."""
    fit, data = made
    faults = []
    for count in counts:
        some = {name: value[:count] for name, value in data.items()}
        rows = rows_in(some)
        kinds = {case, *([ONE_ROW] if rows == 1 else []), *([FEW_ROWS] if rows < 3 else [])}
        for name, call in calls.items():
            faults += [f"{rows} rows, {fault}" for fault in faults_of(name, call, fit, some, kinds)]
    return faults


def in_turn(calls, case, each=1):
    """So many of the calls, others for the next case, so that every call meets every sort of case in the end."""
    names, start = list(calls), each * evaluation_cases.CASES.index(case)
    return {names[k % len(names)]: calls[names[k % len(names)]] for k in range(start, start + each)}


@pytest.mark.parametrize("case", evaluation_cases.CASES)
def test_each_kind_is_served_or_refused_in_one_sentence(case, made):
    """All queries with all rows; what takes longer, and rows alone or in pairs, in turn: the rest is slow."""
    faults = cross(
        case, made(case), {**QUERIES, **ESTIMATES, **in_turn(LONG, case), **in_turn(PICTURES, case)}, [None]
    )
    one = evaluation_cases.CASES.index(case) % 2 + 1
    faults += cross(case, made(case), {**in_turn(QUERIES, case, 3), **in_turn(ESTIMATES, case, 3)}, [one])
    assert not faults, "\n".join(faults)


@pytest.mark.slow
@pytest.mark.parametrize("case", evaluation_cases.CASES)
def test_all_functions_meet_all_kinds(case, made):
    faults = cross(case, made(case), {**QUERIES, **ESTIMATES, **LONG, **PICTURES}, [None, 1, 2])
    assert not faults, "\n".join(faults)

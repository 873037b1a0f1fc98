"""What is no argument of a function that evaluates or draws is refused in one sentence of the library's own."""

import inspect
import warnings

import evaluation_cases
import numpy as np
import pandas as pd
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm import evaluate, plots

ERRORS = (lfm.DataError, lfm.DeclarationError)


def small_fit():
    return evaluation_cases.make("one entry")[0]


# Right arguments of the functions that take more than a fit, or a result; each in turn is replaced by a wrong one.
RIGHT = {
    evaluate.align: lambda: (small_fit(), small_fit()),
    evaluate.representation.align_codes: lambda: (torch.randn(12, 2), torch.randn(12, 2)),
    evaluate.calibration.classifier_two_sample: lambda: (torch.randn(40, 2), torch.randn(9, 40, 2)),
    evaluate.disentanglement: lambda: (small_fit(), torch.arange(120).reshape(60, 2) % 3),
    evaluate.representation.disentanglement_of_codes: lambda: (
        torch.randn(60, 2), torch.arange(120).reshape(60, 2) % 3,
    ),
    evaluate.calibration.expected_coverage: lambda: (torch.randn(20), torch.randn(9, 20)),
    evaluate.representation.few_labels: lambda: (
        {"a": (torch.randn(12, 2),) * 2}, torch.arange(12) % 2, torch.arange(12) % 2,
    ),
    evaluate.calibration.predictive_check: lambda: (torch.randn(3), torch.randn(20, 3)),
    evaluate.calibration.simulation_based_calibration: lambda: (torch.randn(20, 2), torch.randn(9, 20, 2)),
    evaluate.calibration.tarp: lambda: (torch.randn(20, 2), torch.randn(9, 20, 2)),
    evaluate.calibration.variational_calibration: lambda: (torch.randn(20, 2), torch.randn(9, 20, 2)),
    plots.latent_map: lambda: (torch.randn(3, 2), torch.arange(3)),
    plots.densities: lambda: ({"a": torch.rand(5, 2)}, torch.linspace(0, 1, 5)),
    plots.reconstructions: lambda: (torch.rand(3, 4, 4), {"a": torch.rand(3, 4, 4)}),
}  # fmt: skip
WRONG = {
    "None": None,
    "a number": 3,
    "text": "x",
    "an empty list": [],
    "an empty dict": {},
    "an object": object(),
    "an array of text": np.array(["a", "b"]),
    "NaN": torch.full((3, 2), float("nan")),
    "no rows": torch.zeros(0, 2),
    "a scalar": torch.tensor(1.0),
    "complex numbers": torch.zeros(3, 2, dtype=torch.complex64),
    "a frame of text": pd.DataFrame({"a": ["x", "y"]}),
    "a dict of nothing": {"a": None},
}


@pytest.fixture(scope="module")
def fit():
    return small_fit()


@pytest.fixture(scope="module")
def comparison():
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(4, mean=lfm.Linear()))
    candidates = {"EM": lfm.EM(iterations=3), "variational EM": lfm.VariationalEM(iterations=3)}
    return lfm.compare(model, x, candidates, metrics="bound", progress=False)


def functions():
    modules = evaluate, evaluate.calibration, evaluate.representation, plots
    public = [getattr(module, name) for module in modules for name in module.__all__]
    return [each for each in public if inspect.isfunction(each) and each is not plots.colours]


@pytest.mark.parametrize(
    "function", functions(), ids=lambda each: f"{each.__module__.split('.')[1]}.{each.__name__}"
)
def test_wrong_arguments_are_refused_in_a_sentence(function, fit):
    right = RIGHT.get(function, lambda: (None,))
    wrong = {**WRONG, "a model": fit.model}
    if function.__module__.startswith("pyro_lfm.plots") and function not in (
        plots.bounds,
        plots.factor_walk,
        plots.latent_map,
    ):
        wrong["a fit"] = fit
    arguments = [
        (kind, [*right()[:place], value, *right()[place + 1 :]])
        for kind, value in wrong.items()
        for place in range(len(right()))
    ]
    if function is evaluate.rival_representations:
        arguments = [(kind, [value, torch.randn(5, 4), torch.randn(5, 4)]) for kind, value in wrong.items()]
    for kind, given in arguments:
        with pytest.raises(ERRORS) as caught, warnings.catch_warnings():
            warnings.simplefilter("error")
            function(*given)
        assert str(caught.value) and "\n" not in str(caught.value), kind


def test_bounds_of_a_fit_of_its_history_of_several_and_of_a_comparison(fit, comparison):
    for given, count in ((fit, 1), (fit.history, 1), ({"a": fit, "b": fit.history}, 2), (comparison, 2)):
        names = [text.get_text() for text in plots.bounds(given).axes[0].texts]
        assert len(names) == count
    assert [name.split("  ")[0] for name in names] == ["EM", "variational EM"]


def test_what_a_history_lacks_is_named(fit):
    with pytest.raises(
        lfm.ShapeError, match="history must have records with log_likelihood, a finite number; it has epoch"
    ):
        plots.bound_and_gap(fit)
    with pytest.raises(lfm.ShapeError, match="got no record for b"):
        plots.bounds({"a": fit, "b": []})
    with pytest.raises(lfm.ShapeError, match="history of a must have records with bound"):
        plots.bounds({"a": [{"epoch": 1, "bound": float("nan")}]})


def test_two_mixtures_are_aligned_by_the_probabilities_of_their_classes():
    """Three classes far apart, found in another order: matched one to one."""
    centres = torch.tensor([[-8.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    generator = torch.Generator().manual_seed(0)
    x = centres[torch.arange(60) % 3] + torch.randn(60, 2, generator=generator)
    fits = []
    for order in ([0, 1, 2], [2, 0, 1]):
        mean = lfm.Lookup()
        model = lfm.Model(
            c=lfm.Categorical(3), x=lfm.Gaussian(2, mean=mean, covariance=lfm.Isotropic(), given="c")
        )
        fits.append(
            lfm.fit(model, x[torch.arange(60)] @ torch.eye(2), lfm.EM(), seed=order[0], progress=False)
        )
    matched = evaluate.align(*fits, x)
    assert matched.mean > 0.999 and (matched.signs == 1).all()
    probabilities = [fit.posterior(x).probs for fit in fits]
    assert torch.allclose(matched.apply(probabilities[1]), probabilities[0][:, matched.first], atol=1e-3)
    assert evaluate.rival_representations(fits[0], x, x)["factors"][0].shape == (60, 3)


def test_codes_are_those_of_all_latents_of_a_row():
    fit, data = evaluation_cases.make("two layers")
    codes = evaluate.rival_representations(fit, data, data)["factors"][0]
    posterior = fit.posterior(data)
    assert torch.allclose(codes, torch.cat([posterior["z2"].mean, posterior["z1"].mean], 1).double())
    bayesian, data = evaluation_cases.make("VB")
    result = evaluate.align(bayesian, bayesian, data)
    assert result.correlation.shape == (2, 2) and result.mean == pytest.approx(1), (
        "weights are no codes of a row"
    )


def test_one_row_is_decomposed_without_nan_and_without_a_word_from_torch():
    fit, data = evaluation_cases.make("vector")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate.decompose(fit, {"x": data["x"][:1]}, draws=50)
        assert "nan" not in repr(result) and "–" in repr(result)
    assert result.latents["z"].active is None and result.active_units is None
    assert float(result.information.mean) == pytest.approx(0, abs=1e-6), "one row: its draws tell nothing"
    assert result.information_upper.mean == float("inf")
    assert result.rate.mean == pytest.approx(result.information.mean + result.aggregate.mean)


def test_a_walk_along_the_factors_of_several_latents_under_shared_parameters(fit):
    for case, names in {"two latents": {"$a_{1}$", "$a_{2}$", "b"}, "VB": {"$z_{1}$", "$z_{2}$"}}.items():
        done, _ = evaluation_cases.make(case)
        figure = plots.factor_walk(done, shape=(2, 2), steps=3)
        assert {label.get_text() for label in figure.axes[0].get_yticklabels()} == names
    figure = plots.factor_walk(evaluation_cases.make("labels and factors")[0], shape=(2, 2), steps=3)
    assert all(", c = " in label.get_text() for label in figure.axes[0].get_yticklabels()), (
        "a row for each label"
    )
    figure = plots.factor_walk(evaluation_cases.make("views")[0], steps=3)
    assert {ax.get_title(loc="left") for ax in figure.axes} > {"x_1", "y"}, "a panel for each column"


def test_gaps_of_a_prior_made_of_the_guide_are_refused_by_its_name():
    fit, data = evaluation_cases.make("vamp")
    with pytest.raises(lfm.DeclarationError, match="the prior of z is made of the guide"):
        evaluate.gaps(fit, data)


def test_labels_that_are_missing_are_refused():
    codes, labels = torch.randn(12, 2), (torch.arange(12) % 2).double()
    labels[3] = torch.nan
    with pytest.raises(lfm.DataError, match="labels must be known in all rows; got 1 that are missing"):
        evaluate.representation.few_labels({"a": (codes, codes)}, labels, labels, counts=(4,), seeds=2)


@pytest.mark.parametrize("kind", ["one seed", "a fit that failed", "one row to test on", "one step"])
def test_every_result_of_a_comparison_holds_no_nan_and_warns_of_nothing(kind, tmp_path):
    class Failing(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) * float("nan")

    torch.manual_seed(0)
    x = torch.randn(30, 4)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))
    candidates = {"a": lfm.Gaussian(network=lfm.MLP(4)), "b": lfm.Gaussian(network=lfm.MLP(3))}
    options = {"epochs": 1, "metrics": ("bound", "kl"), "progress": False}
    if kind == "a fit that failed":
        candidates["b"], options["seeds"] = lfm.Gaussian(network=Failing), 2
    if kind == "one row to test on":
        options["test"] = x[:1]
    if kind == "one step":
        options = {"steps": 1, "metrics": ("bound", "kl"), "progress": False}
    result = lfm.compare(model, x, candidates, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in (repr(result), result.markdown(), result.latex(), result.verdict, *result.remarks):
            assert "nan" not in text.lower()
        result.save(tmp_path)
        plots.bounds_by_time(result).draw_without_rendering()
        if kind == "a fit that failed":
            with pytest.raises(lfm.DeclarationError, match="no candidate was measured beside the baseline a"):
                plots.differences(result)
        else:
            plots.differences(result).draw_without_rendering()


# Functions of fits are called in test_evaluation_crossed.py, with every kind of fit.
OF_FITS = (evaluate.align, evaluate.disentanglement)
RIGHT_ARGUMENTS = {
    function: arguments
    for function, arguments in {**RIGHT, **evaluation_cases.ARGUMENTS}.items()
    if function not in OF_FITS
}
OPTIONS = {evaluate.representation.few_labels: {"counts": (2,), "seeds": 2}}


@pytest.mark.parametrize(
    "function", RIGHT_ARGUMENTS, ids=lambda each: f"{each.__module__.split('.')[1]}.{each.__name__}"
)
def test_right_arguments_are_served(function):
    torch.manual_seed(0)
    result = function(*RIGHT_ARGUMENTS[function](), **OPTIONS.get(function, {}))
    if function.__module__.startswith("pyro_lfm.plots") and function is not plots.colours:
        result.draw_without_rendering()
    assert result is not None

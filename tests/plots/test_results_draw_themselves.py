"""Results have their picture as a method, and every picture takes the thing that it draws as its first argument."""

import builtins
import inspect

import pytest
import torch
from matplotlib.figure import Figure

import pyro_lfm as lfm
from pyro_lfm import comparison, evaluate, plots

ROWS = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def fit():
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    return lfm.fit(model, ROWS, lfm.EM(iterations=5), seed=0, progress=False)


def arrays():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(40, 2, generator=generator), torch.randn(19, 40, 2, generator=generator)


RESULTS = {
    lfm.Fit: lambda fit: fit,
    comparison.Comparison: lambda fit: lfm.compare(
        lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear())),
        ROWS,
        {"EM": lfm.EM(iterations=3), "variational EM": lfm.VariationalEM(iterations=3)},
        metrics="bound",
        progress=False,
    ),
    evaluate.Decomposition: lambda fit: evaluate.decompose(fit, draws=50),
    evaluate.Diagnosis: lambda fit: evaluate.diagnose(fit, rows=40, draws=9, replicates=19, weights=20),
    evaluate.ImputationScores: lambda fit: evaluate.imputation_scores(fit, draws=20),
    evaluate.Loadings: lambda fit: evaluate.loadings(fit),
    evaluate.LogLikelihood: lambda fit: evaluate.log_likelihood(fit, draws=100),
    evaluate.VarianceExplained: lambda fit: evaluate.variance_explained(fit),
    evaluate.calibration.Coverage: lambda fit: evaluate.calibration.tarp(*arrays()),
    evaluate.calibration.PredictiveCheck: lambda fit: evaluate.calibration.predictive_check(
        [3.0], arrays()[1][:, :, 0].T[:, :1]
    ),
    evaluate.calibration.SimulationBasedCalibration: lambda fit: (
        evaluate.calibration.simulation_based_calibration(*arrays())
    ),
    evaluate.calibration.TwoSample: lambda fit: evaluate.calibration.classifier_two_sample(*arrays()),
    evaluate.calibration.VariationalCalibration: lambda fit: evaluate.calibration.variational_calibration(
        *arrays()
    ),
}


@pytest.mark.parametrize("kind", RESULTS, ids=lambda kind: kind.__name__)
def test_a_result_draws_itself(kind, fit):
    result = RESULTS[kind](fit)
    assert isinstance(result, kind)
    figure = result.plot(title="a title of its own")
    assert isinstance(figure, Figure)
    titles = [ax.get_title(loc="left") for ax in figure.axes] + [figure.get_suptitle()]
    assert "a title of its own" in titles
    assert isinstance(result.plot(), Figure)


def test_every_class_with_a_picture_is_tested():
    modules = lfm, comparison, evaluate, evaluate.calibration, evaluate.representation
    public = [getattr(module, name) for module in modules for name in module.__all__]
    assert {each for each in public if inspect.isclass(each) and hasattr(each, "plot")} == set(RESULTS)


def test_without_matplotlib_a_result_names_the_extra(fit, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **keywords):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **keywords)

    loadings = evaluate.loadings(fit)
    monkeypatch.setattr(builtins, "__import__", without)
    for result in (fit, loadings):
        with pytest.raises(ImportError, match=r"pip install 'pyro_lfm\[plot\]'"):
            result.plot()


def test_a_picture_of_a_result_calls_it_result_and_draws_the_same():
    """The first argument of a picture is the thing drawn: a result, a fit, histories, or arrays by their content."""
    first = {name: next(iter(inspect.signature(getattr(plots, name)).parameters)) for name in plots.__all__}
    contents = {
        "bound_and_gap": "histories",
        "bounds": "histories",
        "colours": "names",
        "densities": "heights",
        "factor_walk": "fit",
        "gallery": "images",
        "latent_map": "means",
        "loadings": "weights",
        "posterior_ellipses": "posteriors",
        "prior_draws": "images",
        "reconstructions": "images",
    }
    assert first == {name: contents.get(name, "result") for name in plots.__all__}

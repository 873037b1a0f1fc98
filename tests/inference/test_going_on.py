"""Where EM, variational EM and variational Bayes start: from the parameters of the model, or from the data."""

import copy
import pickle
import warnings

import pytest
import torch

import pyro_lfm as lfm

_DRAWS = torch.Generator().manual_seed(3)
ROWS = torch.randn(60, 2, generator=_DRAWS) @ torch.randn(2, 5, generator=_DRAWS)
ROWS = ROWS + (0.3 + torch.rand(5, generator=_DRAWS)) * torch.randn(60, 5, generator=_DRAWS)
# Few rows for as many columns: some noise runs to its floor.
pytestmark = pytest.mark.filterwarnings("ignore::pyro_lfm.warning_kinds.ScaleFloorWarning")
INFERENCES = {"EM": lfm.EM, "VariationalEM": lfm.VariationalEM}


def declared(**options):
    covariance = options.pop("covariance", lfm.Diagonal())
    return lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.Linear(**options), covariance=covariance)
    ).double()


def climbed(model, inference=lfm.EM, rows=ROWS, **options):
    options = {"iterations": 3, "accelerate": False, "restarts": 2, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.ConvergenceWarning)
        return lfm.fit(model, rows, inference(**options), seed=0, progress=False)


def ends_of(fit):
    return fit.history[0]["log_likelihood"], fit.history[-1]["log_likelihood"]


def trained(model):
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))
    lfm.fit(model, ROWS, lfm.SVI(guide, steps=20), seed=0, progress=False)
    return model


def loaded(model):
    model.load_state_dict(trained(declared()).state_dict())
    return model


def assigned(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.25)
    return model


CHANGED = {
    "SVI": trained,
    "loaded": loaded,
    "assigned": assigned,
    "copied": lambda model: copy.deepcopy(trained(model)),
    "pickled": lambda model: pickle.loads(pickle.dumps(trained(model))),
}


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("change", CHANGED)
def test_what_was_changed_goes_on_from_where_it_is(change, inference):
    model = CHANGED[change](declared())
    here = ends_of(climbed(copy.deepcopy(model), INFERENCES[inference], start="model", iterations=0))[0]
    afresh = ends_of(climbed(copy.deepcopy(model), INFERENCES[inference], start="data", iterations=0))[0]
    ends = ends_of(climbed(model, INFERENCES[inference]))
    assert abs(ends[0] - here) < 1e-9 and abs(afresh - here) > 1e-3
    assert ends[1] > ends[0]


@pytest.mark.parametrize("inference", INFERENCES)
def test_a_second_climb_goes_on_where_the_first_has_stopped(inference):
    model = declared()
    first, second = (ends_of(climbed(model, INFERENCES[inference])) for _ in range(2))
    assert abs(second[0] - first[1]) < 1e-9 and second[1] > second[0]


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize(
    "change", [lambda model: model, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_what_is_as_it_was_declared_starts_from_the_data(change, inference):
    with_values = {"bias": lfm.Learned(torch.full((5,), 7.0)), "covariance": lfm.Diagonal(lfm.Learned(3.0))}
    for options in ({}, with_values):
        ends = ends_of(climbed(change(declared(**dict(options))), INFERENCES[inference]))
        assert ends == ends_of(climbed(declared(**dict(options)), INFERENCES[inference], start="data"))
        assert ends[0] > -20  # with a bias of 7 where the rows have 0 it would be far below


def test_a_climb_that_a_callback_stops_or_breaks_is_gone_on_with():
    model = declared()
    options = {"seed": 0, "progress": False}
    first = lfm.fit(
        model, ROWS, lfm.EM(), callbacks=[lambda record, fit: record["iteration"] == 2], **options
    )
    assert abs(ends_of(climbed(model))[0] - ends_of(first)[1]) < 1e-9

    def broken(record, fit):
        raise KeyError("broken")

    with pytest.raises(KeyError):
        lfm.fit(model, ROWS, lfm.EM(), callbacks=[broken], **options)
    assert not model.is_as_declared


def test_fits_of_a_comparison_start_equal_and_leave_the_model_alone():
    model = trained(declared())
    before = copy.deepcopy(model.state_dict())
    inferences = {name: lfm.EM(iterations=3, accelerate=False, restarts=2) for name in ("one", "other")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.ConvergenceWarning)
        for start in (model, declared()):
            comparison = lfm.compare(start, ROWS, inferences, draws=2, progress=False)
            firsts = {name: fit.history[0]["log_likelihood"] for name, fit in comparison.fits.items()}
            wanted = ends_of(climbed(copy.deepcopy(start)))[0]
            assert all(abs(first - wanted) < 1e-9 for first in firsts.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_variational_bayes_starts_from_the_data_whatever_the_model_holds():
    model = lfm.Model(
        z=lfm.StandardNormal(3),
        x=lfm.Gaussian(
            5,
            mean=lfm.Linear(prior=lfm.parameter_priors.ARD()),
            covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma()),
        ),
    )
    bounds = []
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lfm.ConvergenceWarning)
            fit = lfm.fit(model, ROWS, lfm.VariationalBayes(iterations=5), seed=0, progress=False)
        bounds.append([record["bound"] for record in fit.history])
    assert bounds[0] == bounds[1] and not model.is_as_declared

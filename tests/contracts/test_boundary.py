"""Rows that ``fit`` refuses are refused by every query, with the same message.

A row without an entry has the prior as its posterior.
"""

import warnings

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import pyro_lfm as lfm

NAN, INF = float("nan"), float("inf")
N = 12


def fitted(model, data, guide=None, **options):
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4))) if guide is None else guide
    return lfm.fit(model, data, lfm.SVI(guide, epochs=1, **options), seed=0, progress=False)


def dosed():
    """A Gaussian of a dose and a label, and counts with an exposure."""
    return lfm.Model(
        z=lfm.StandardNormal(2),
        dose=lfm.Covariate(),
        arm=lfm.Covariate(support=constraints.integer_interval(0, 2)),
        area=lfm.Covariate(support=constraints.positive),
        x=lfm.Gaussian(3, mean=lfm.MLP(4), given=("z", "dose", "arm")),
        n=lfm.Poisson(2, rate=lfm.MLP(4), exposure="area", given="z"),
    )


def rows(**changes):
    index = torch.arange(N)
    data = {
        "dose": index / N,
        "arm": index % 3,
        "area": 1.0 + index,
        "x": torch.stack([index, index + 1, index + 2], 1).sin(),
        "n": torch.stack([index, index % 4], 1),
    }
    return {**data, **changes}


def changed(name, value, place=3):
    column = rows()[name].double().clone()
    column[place] = value
    return rows(**{name: column})


BAD = {
    "no dose": (changed("dose", NAN), "dose is a covariate.*got NaN in row 3"),
    "endless dose": (changed("dose", INF), "dose must be finite.*got 1 infinite.*row 3: fill"),
    "no exposure": (changed("area", NAN), "area is a covariate"),
    "exposure of zero": (changed("area", 0.0), "area must be greater than 0.*got 0 at row 3"),
    "no label": (changed("arm", NAN), "arm is a covariate"),
    "another label": (changed("arm", 3.0), r"arm must be integers 0\.\.2.*got 3 at row 3"),
    "half a label": (changed("arm", 0.5), r"arm must be integers 0\.\.2.*got 0.5 at row 3"),
    "missing category": (rows(arm=pd.Series([0, 1, None] * 4).astype("category")), "arm is a covariate"),
    "a dose less": (rows(dose=torch.zeros(N - 1)), "as many rows under every name.*dose: 11"),
    "negative count": (changed("n", -1.0), "n must be integers of at least 0.*got -1 at row 3, column 0"),
    "endless entry": (changed("x", INF), "x must be finite"),
    "wide": (rows(x=torch.zeros(N, 4)), r"x must have shape \(N, 3\); got \(12, 4\)"),
    "without a covariate": ({k: v for k, v in rows().items() if k != "dose"}, "missing: dose"),
    "with more": (rows(y=torch.zeros(N)), "unknown: y"),
    "words": (rows(dose=["high"] * N), "dose must hold real numbers"),
}

ASKED = {
    "posterior": lambda fit, data: fit.posterior(data),
    "sample_posterior": lambda fit, data: fit.sample_posterior(data),
    "reconstruct": lambda fit, data: fit.reconstruct(data),
    "impute": lambda fit, data: fit.impute(data, draws=2),
    "bound": lambda fit, data: fit.bound(data),
    "validation": lambda fit, data: lfm.fit(
        fit.model, rows(), lfm.SVI(fit.guide, epochs=1), validation=data, progress=False
    ),
    "pair": lambda fit, data: lfm.evaluate.log_likelihood((fit.model, fit.guide), data),
    "compare": lambda fit, data: lfm.compare(
        fit.model, rows(), {"one": lfm.Gaussian()}, test=data, epochs=1, progress=False
    ),
    **{
        name: lambda fit, data, name=name: getattr(lfm.evaluate, name)(fit, data)
        for name in (
            "log_likelihood",
            "variance_explained",
            "loadings",
            "decompose",
            "diagnose",
            "imputation_scores",
            "gaps",
        )
    },
}


@pytest.fixture(scope="module")
def fit():
    torch.manual_seed(0)
    return fitted(dosed(), rows())


@pytest.mark.parametrize("fault", BAD)
def test_what_fit_refuses_everything_refuses_in_the_same_words(fit, fault):
    data, words = BAD[fault]
    with pytest.raises((lfm.DataError, lfm.ShapeError), match=words) as first:
        fitted(dosed(), data)
    for name, ask in ASKED.items():
        with pytest.raises((lfm.DataError, lfm.ShapeError), match=words) as again:
            ask(fit, data)
        # After a fit the message also names variables that may be left out.
        assert str(again.value).startswith(str(first.value)[:60]), name


def test_what_is_set_when_rows_are_drawn_passes_the_same_boundary(fit):
    for name, value, words in [
        ("dose", NAN, "cannot have missing"),
        ("area", -1.0, "greater than 0"),
        ("arm", 3.0, r"0\.\.2"),
        ("dose", INF, "finite"),
        ("z", NAN, "cannot have missing"),
    ]:
        shape = (4, 2) if name == "z" else (4,)
        with pytest.raises(lfm.DataError, match=words):
            fit.model.sample(4, seed=0, given={name: torch.full(shape, value)})
    assert fit.model.sample(4, seed=0, given={"arm": torch.tensor([0, 1, 2, 1])})["x"].isfinite().all()


def test_what_is_set_when_rows_are_drawn_comes_in_any_container_whose_columns_need_no_names():
    model = lfm.Model(
        t=lfm.Covariate(2), z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.MLP(4), given=("z", "t"))
    )
    values = np.arange(8.0).reshape(4, 2)
    expected = model.sample(4, seed=0, given={"t": torch.as_tensor(values)})["x"]
    for given in (values, values.tolist(), values.astype(int), np.ma.array(values)):
        assert torch.equal(model.sample(4, seed=0, given={"t": given})["x"], expected)
    for given, words in {
        "names": (pd.DataFrame(values, columns=["a", "b"]), "columns with names.*t.to_numpy()"),
        "text": (values.astype(str), "must hold real numbers"),
        "a number": (1.0, "must be a NumPy array, tensor"),
        "a hole": (np.where(values == 3, NAN, values), "cannot have missing"),
        "other rows": (values[:3], "one row for each of the n=4"),
    }.values():
        with pytest.raises((lfm.DataError, lfm.ShapeError), match=words):
            model.sample(4, seed=0, given={"t": given})


def test_a_missing_value_that_another_variable_reads_is_refused():
    model = lfm.Model(
        z=lfm.StandardNormal(2),
        y=lfm.Bernoulli(1, logits=lfm.MLP(4)),
        x=lfm.Gaussian(3, mean=lfm.MLP(4), given=("z", "y")),
    )
    if "y" not in model.observed:
        pytest.skip("y is a latent where others read it")
    data = {"x": rows()["x"], "y": torch.ones(N, 1)}
    fit = fitted(model, data)
    data["y"][2] = NAN
    for ask in (lambda: fitted(model, data), lambda: fit.posterior(data)):
        with pytest.raises(lfm.DataError, match="y has missing entries.*row 2.*x reads it"):
            ask()


def test_an_observed_variable_that_another_reads_has_its_value_when_rows_are_filled():
    """x | y is y itself: a missing x has the value of y in its row."""
    line = lfm.Linear(weight=lfm.Fixed([[0.0, 1.0]]), bias=lfm.Fixed(0.0))
    model = lfm.Model(
        z=lfm.StandardNormal(1),
        y=lfm.Gaussian(1, mean=lfm.Linear()),
        x=lfm.Gaussian(1, mean=line, covariance=lfm.Isotropic(lfm.Fixed(1e-4)), given=("z", "y")),
    )
    if "y" not in model.observed:
        pytest.skip("y is a latent where others read it")
    data = {"y": torch.linspace(-1, 1, N)[:, None], "x": torch.linspace(-1, 1, N)[:, None].clone()}
    fit = fitted(model, data)
    data["x"][4] = NAN
    torch.testing.assert_close(fit.reconstruct(data)["x"], data["y"], atol=1e-5, rtol=0)
    assert abs(fit.impute(data).values["x"][4] - data["y"][4]) < 1e-4


def test_part_of_a_row_that_cannot_be_divided_is_refused_everywhere():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Dirichlet(3, concentration=lfm.MLP(4)))
    whole = torch.full((N, 3), 1 / 3)
    fit = fitted(model, whole)
    part, gone = whole.clone(), whole.clone()
    part[5, 0], gone[5] = NAN, NAN
    queries = [fit.posterior, fit.reconstruct, fit.impute, fit.bound, lambda data: fitted(model, data)]
    for query in queries:
        with pytest.raises(lfm.DataError, match="x has a distribution that cannot be divided.*row 5"):
            query(part)
        query(gone)


class WithoutMask(lfm.PyroModel):
    """A program that does not read the mask of missing entries."""

    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(2, 3)

    def forward(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.line(z), 1.0).to_event(1), obs=batch["x"])


def test_a_program_that_asks_for_no_mask_gets_no_gaps_after_the_fit_either():
    fit = fitted(WithoutMask(), rows()["x"])
    holed = rows()["x"].clone()
    holed[0, 0] = NAN
    for ask in (fit.posterior, fit.reconstruct, fit.impute, fit.bound):
        with pytest.raises(lfm.DataError, match="never asks for batch.mask"):
            ask(holed)


# Rows without an entry ------------------------------------------------------------------------------------


def linear():
    return lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear()))


def mixture():
    x = lfm.Gaussian(3, mean=lfm.Lookup(), covariance=lfm.Diagonal(lfm.Lookup()), given="c")
    return lfm.Model(c=lfm.Categorical(2), x=x)


def analysers():
    x = lfm.Gaussian(3, mean=lfm.Lookup(lfm.Linear()), given=("c", "z"))
    return lfm.Model(c=lfm.Categorical(2), z=lfm.StandardNormal(1), x=x)


def by(inference, declare, **options):
    model = declare()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.ScaleFloorWarning)
        return lfm.fit(model, rows()["x"], inference(model), seed=0, progress=False, **options)


EXACT = {
    "factor analysis": lambda: by(lambda m: lfm.EM(iterations=5), linear),
    "mixture": lambda: by(lambda m: lfm.EM(iterations=5), mixture),
    "mixture of factor analysers": lambda: by(lambda m: lfm.EM(iterations=5), analysers),
    "variational EM": lambda: by(lambda m: lfm.VariationalEM(iterations=5), linear),
    "exact guide": lambda: by(lambda m: lfm.SVI(lfm.ExactPosterior(m), epochs=1), linear),
}


@pytest.mark.parametrize("inference", EXACT)
@pytest.mark.parametrize("count", [1, 4])
def test_a_row_without_an_entry_has_the_prior_as_its_posterior(inference, count):
    fit, empty = EXACT[inference](), torch.full((count, 3), NAN)
    posteriors = fit.posterior(empty)
    if not isinstance(posteriors, dict):
        posteriors = {next(iter(fit.model.latents)): posteriors}
    for name, posterior in posteriors.items():
        prior = fit.model.factors[name]()
        if isinstance(prior, torch.distributions.Categorical):
            torch.testing.assert_close(posterior.probs, prior.probs.expand(count, -1), atol=1e-6, rtol=0)
        else:
            torch.testing.assert_close(posterior.mean, prior.mean.expand(count, -1), atol=1e-6, rtol=0)
            torch.testing.assert_close(
                posterior.variance, prior.variance.expand(count, -1), atol=1e-5, rtol=0
            )
    assert fit.log_likelihood(empty).abs().max() < 1e-12
    assert fit.bound(empty).abs().max() < 1e-5
    for method in ("exact", "importance"):
        measured = lfm.evaluate.log_likelihood(fit, empty, draws=10, method=method)
        assert measured.bits_per_dimension.isnan().all() and measured.per_row.abs().max() < 1e-5
    assert fit.impute(empty, draws=4).values["x"].isfinite().all()
    # A row among others has the same posterior.
    mixed = torch.cat([rows()["x"][:2], empty])
    assert torch.equal(fit.log_likelihood(mixed)[2:], fit.log_likelihood(empty))


def test_rows_of_their_own_end_at_the_prior_where_nothing_is_observed():
    model = linear()
    fit = fitted(model, rows()["x"], lfm.Guide(model, z=lfm.Gaussian(network=lfm.PerRow())))
    posterior = fit.posterior(torch.full((2, 3), NAN))
    torch.testing.assert_close(posterior.mean, torch.zeros(2, 2), atol=1e-3, rtol=0)
    torch.testing.assert_close(posterior.variance, torch.ones(2, 2), atol=5e-3, rtol=0)


def test_an_amortized_guide_says_what_it_says_of_no_entry():
    fit = fitted(linear(), rows()["x"])
    empty = torch.full((3, 3), NAN)
    assert fit.posterior(empty).mean.isfinite().all() and (fit.bound(empty, draws=50) < 1e-3).all()
    assert lfm.evaluate.log_likelihood(fit, empty, draws=50).bits_per_dimension.isnan().all()


def test_data_without_an_entry_are_nothing_to_fit():
    for options in ({}, {"validation": torch.full((3, 3), NAN)}):
        data = rows()["x"] if options else torch.full((3, 3), NAN)
        with pytest.raises(lfm.DataError, match="must have an observed entry"):
            lfm.fit(linear(), data, lfm.EM(), progress=False, **options)


def test_a_row_that_all_refuse_is_named_by_the_users_columns():
    frame = pd.DataFrame(np.ones((4, 2)), columns=["height", "weight"])
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.LogNormal(2, loc=lfm.Linear()))
    fit = fitted(model, frame)
    frame.loc[2, "weight"] = -1
    with pytest.raises(lfm.DataError, match="x must be greater than 0.*got -1 at row 2, column 'weight'"):
        fit.posterior(frame)


def test_a_file_of_rows_is_the_rows(tmp_path):
    data = np.random.default_rng(0).normal(size=(N, 3))
    np.save(tmp_path / "x.npy", data)
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.MLP(4)))
    fit = fitted(model, lfm.data.open(tmp_path / "x.npy"))
    torch.testing.assert_close(fit.posterior(tmp_path / "x.npy").mean, fit.posterior(data).mean)
    data[3, 1] = INF
    np.save(tmp_path / "y.npy", data)
    for query in (fit.posterior, lambda rows: fitted(model, rows)):
        with pytest.raises(lfm.DataError, match="1 infinite.*row 3"):
            query(str(tmp_path / "y.npy"))

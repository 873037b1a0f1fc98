"""The answers of a service are those of its fit, for every structure, every form of rows and every kind of column."""

import json

import cases
import numpy as np
import pandas as pd
import pytest
import torch

import pyro_lfm as lfm

pytest.importorskip("fastapi")
testclient = pytest.importorskip("fastapi.testclient")

# Without those that are optimised for the rows of a request: they take seconds.
GUIDES = [name for name in cases.GUIDES if name not in cases.ENCODES_NOTHING]


def client_of(fit, **options):
    return testclient.TestClient(lfm.serving.app(fit, **options), raise_server_exceptions=False)


def answer(client, path, **request):
    response = client.post(path, content=json.dumps(request))
    assert response.status_code == 200, response.text
    return response.json()


def fitted(model, guide, data=None):
    data = cases.rows_of(model) if data is None else data
    return lfm.fit(model, data, lfm.SVI(guide, steps=2), seed=0, progress=False), data


def listed(rows):
    return {name: values.tolist() for name, values in rows.items()}


def numbers(tensor):
    """What JSON can hold of a tensor: None for NaN and infinity."""
    if tensor.dim():
        return [numbers(each) for each in tensor]
    return tensor.item() if tensor.isfinite() else None


CASES = {
    **{
        name: lambda make=make: (model := make(), cases.guide_for(model, cases.GUIDES["gaussian-full"]))
        for name, make in cases.MODELS.items()
    },
    **{
        f"x-{name}": lambda name=name, i=i: (
            model := cases.one_latent(likelihood=name),
            cases.guide_for(model, cases.GUIDES[GUIDES[i % len(GUIDES)]]),
        )
        for i, name in enumerate(cases.LIKELIHOODS)
    },
    "refined": lambda: (
        model := cases.one_latent(),
        lfm.Refined(cases.guide_for(model, cases.GUIDES["gaussian-full"])),
    ),
    "by-hand": lambda: (cases.one_latent(), cases.HandGuide()),
}


@pytest.mark.parametrize("case", CASES)
def test_every_structure_answers_as_its_fit_does(case):
    fit, data = fitted(*CASES[case]())
    client, model = client_of(fit), fit.model
    modelled = [name for name in model.observed if name not in model.covariates]
    rows = {name: values[:3] for name, values in data.items()}
    sent = listed(rows)

    posterior = answer(client, "/posterior", rows=sent, include=["shared"])["posterior"]
    direct = fit.posterior(rows)
    direct = direct if isinstance(direct, dict) else {next(iter(model.latents)): direct}
    assert posterior.keys() == direct.keys()
    for name, distribution in direct.items():
        if model.latents[name].categories:
            assert posterior[name] == {"probs": numbers(distribution.probs)}
        else:
            assert posterior[name]["mean"] == numbers(distribution.mean)

    means = fit.reconstruct(rows, draws=3, seed=5)
    means = means if isinstance(means, dict) else {modelled[0]: means}
    reconstructed = answer(client, "/reconstruct", rows=sent, draws=3, seed=5)["rows"]
    assert reconstructed == {name: numbers(mean) for name, mean in means.items()}

    sampled = answer(client, "/sample", n=3, seed=5, given=listed({n: rows[n] for n in model.covariates}))
    drawn = model.sample(3, seed=5, given={n: rows[n] for n in model.covariates})
    assert sampled["latents"] == {name: numbers(drawn[name]) for name in model.latents}
    only = len(model.observed) == 1
    assert sampled["rows"] == (
        numbers(drawn["x"]) if only else {n: numbers(drawn[n]) for n in model.observed}
    )

    gaps = {name: values.float().clone() for name, values in rows.items()}
    # The one program of the cases that takes no gaps.
    for name in modelled if case != "gamma-dirichlet" else ():
        gaps[name][0] = torch.nan
    filled = answer(client, "/impute", rows={n: numbers(v) for n, v in gaps.items()}, draws=4, seed=5)
    imputation = fit.impute(gaps, draws=4, seed=5)
    assert {n: filled["rows"][n] for n in modelled} == {n: numbers(imputation.values[n]) for n in modelled}
    lower, _ = imputation.interval(0.9)
    assert filled["lower"] == {name: numbers(end) for name, end in lower.items()}


def test_a_guide_of_rows_is_optimised_for_those_of_a_request():
    model = cases.one_latent()
    fit, data = fitted(model, cases.guide_for(model, cases.GUIDES["per-row"]))
    rows = data["x"][:2]
    posterior = answer(client_of(fit), "/posterior", rows=rows.tolist())["posterior"]
    assert posterior["z"]["mean"] == fit.posterior(rows).mean.tolist()


@pytest.mark.parametrize("value", [None, 1e38, 1e20, 7], ids=str)
@pytest.mark.parametrize(
    "case", ["plain", "shared-scale", "two-views", "x-gaussian-low-rank", "x-multinomial"]
)
def test_rows_far_from_the_fitted_ones_have_an_answer_or_a_sentence(case, value):
    fit, data = fitted(*CASES[case]())
    client = client_of(fit)

    def replaced(values):
        return [replaced(each) for each in values] if isinstance(values, list) else value

    rows = {name: replaced(values) for name, values in listed(data).items()}
    for path in ("/posterior", "/reconstruct", "/impute", "/log_likelihood"):
        response = client.post(path, content=json.dumps({"rows": rows}))
        assert response.status_code in (200, 422), response.text
        assert response.status_code == 200 or "\n" not in response.json()["error"]


def test_the_log_likelihood_is_exact_where_there_is_a_closed_form():
    model = cases.CLOSED_FORMS["factor-analysis"]()
    rows = cases.rows_of(model)["x"]
    exact = lfm.fit(model, rows, lfm.EM(iterations=2), seed=0, progress=False)
    got = answer(client_of(exact), "/log_likelihood", rows=rows.tolist())
    assert got == {"log_likelihood": exact.log_likelihood(rows).tolist(), "method": "exact"}

    fit, data = fitted(*CASES["plain"]())
    got = answer(client_of(fit), "/log_likelihood", rows=data["x"].tolist(), draws=50, seed=3)
    direct = lfm.evaluate.log_likelihood(fit, data["x"], draws=50, seed=3)
    assert got["log_likelihood"] == direct.per_row.tolist() and got["method"] == "importance-weighted"
    assert got["standard_error"] == direct.standard_error.tolist() and got["draws"] == 50


@pytest.mark.parametrize(
    "guide", ["gaussian-diagonal", "gaussian-low-rank", "gaussian-full", "mixture-of-gaussians"]
)
def test_the_covariance_of_a_posterior(guide):
    model = cases.one_latent()
    fit, data = fitted(model, cases.guide_for(model, cases.GUIDES[guide]))
    got = answer(client_of(fit), "/posterior", rows=data["x"].tolist(), include=["covariance", "scale_tril"])
    z = {key: torch.tensor(value) for key, value in got["posterior"]["z"].items()}
    assert list(z) == ["mean", "standard_deviation", "covariance", "scale_tril"]
    tolerance = 0.1 if guide == "mixture-of-gaussians" else 1e-5  # 4,000 draws
    torch.testing.assert_close(
        z["covariance"].diagonal(dim1=-2, dim2=-1).sqrt(), z["standard_deviation"], rtol=tolerance, atol=0.0
    )
    torch.testing.assert_close(z["scale_tril"] @ z["scale_tril"].mT, z["covariance"], rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def named():
    """A fit of two variables with names of columns and with labels."""
    random = np.random.default_rng(0)
    x = pd.DataFrame(random.normal(size=(60, 3)), columns=["a", "b", "c"])
    y = pd.Series(np.where(x.a > 0, "yes", "no"), name="y")
    model = lfm.Model(
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(3, mean=lfm.Linear()),
        label=lfm.Categorical(2, logits=lfm.Linear()),
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    return lfm.fit(model, {"x": x, "label": y}, lfm.SVI(guide, steps=5), seed=0, progress=False)


FORMS = {
    "objects": [{"a": 1, "b": 2, "c": None, "y": "yes"}],
    "another-order": [{"y": "yes", "c": None, "b": 2, "a": 1}],
    "objects-of-variables": [{"x": [1, 2, None], "label": "yes"}],
    "lists": {"a": [1], "b": [2], "c": [None], "y": ["yes"]},
    "lists-of-variables": {"x": [[1, 2, None]], "label": ["yes"]},
    "both": {"x": [[1, 2, None]], "y": ["yes"]},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_rows_has_the_same_answer_in_its_own_form(named, form):
    client, rows = client_of(named), FORMS[form]
    direct = named.posterior({"x": torch.tensor([[1.0, 2.0, torch.nan]]), "label": torch.tensor([1.0])})
    assert answer(client, "/posterior", rows=rows)["posterior"]["z"]["mean"] == direct.mean.tolist()
    filled = answer(client, "/impute", rows=rows)
    again = answer(client, "/impute", rows=filled["rows"])
    assert again["rows"] == filled["rows"] == again["lower"] == again["upper"]
    assert '"yes"' in json.dumps(filled["rows"]) and "null" not in json.dumps(filled["rows"])
    means = json.dumps(answer(client, "/reconstruct", rows=rows)["rows"])
    assert '"no": 0.' in means and '"yes": 0.' in means


def test_samples_are_rows_that_can_be_sent_back(named):
    client = client_of(named)
    sample = answer(client, "/sample", n=4)
    assert sample == answer(client, "/sample", n=4, seed=sample["seed"])
    assert sample["rows"] != answer(client, "/sample", n=4)["rows"], "another seed"
    assert set(sample["rows"][0]) == {"a", "b", "c", "y"} and sample["rows"][0]["y"] in ("yes", "no")
    answer(client, "/posterior", rows=sample["rows"])


@pytest.fixture(scope="module")
def mixed():
    """A table with columns of many kinds, and a fit of it."""
    random = np.random.default_rng(0)
    health = random.normal(size=120)
    frame = pd.DataFrame(
        {
            "age": random.poisson(50 * np.exp(-0.2 * health)),
            "income": np.exp(10 + 0.5 * health),
            "pressure": 125 - 8 * health,
            "smokes": health + random.normal(size=120) < -0.5,
            "region": np.where(health > 0, "north", np.where(random.random(120) < 0.5, "south", "west")),
            "fitness": pd.cut(health, [-9, -0.5, 0.5, 9], labels=["low", "middle", "high"]),
        }
    ).mask(random.random((120, 6)) < 0.3)
    table = lfm.heterogeneous(frame, network=lfm.Linear())
    model = lfm.Model(z=lfm.StandardNormal(1), **table)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    return frame, table, lfm.fit(model, table.data, lfm.SVI(guide, steps=20), seed=0, progress=False)


def test_the_rows_of_a_table_come_in_its_units(mixed):
    frame, table, fit = mixed
    client, head = client_of(fit, table=table), frame.head(5)
    rows = json.loads(head.to_json(orient="records", double_precision=15))
    encoded = table.encode(pd.DataFrame(rows))
    direct = fit.posterior(encoded)
    assert answer(client, "/posterior", rows=rows)["posterior"]["z"]["mean"] == direct.mean.tolist()
    filled = answer(client, "/impute", rows=rows, draws=20)
    decoded = table.decode(fit.impute(encoded, draws=20).values)
    assert filled["rows"] == [
        {key: value.item() if hasattr(value, "item") else value for key, value in row.items()}
        for row in decoded.to_dict("records")
    ]
    assert filled["lower"][0].keys() == set(frame)
    unknown = answer(client, "/impute", rows=[dict.fromkeys(frame)], draws=20)
    assert unknown["lower"][0].keys() == set(frame) - {"region"}, "labels without an order have no interval"
    mean = answer(client, "/reconstruct", rows=rows)["rows"][0]
    assert (
        20 < mean["age"] < 100 and mean["pressure"] > 90 and sum(mean["smokes"].values()) == pytest.approx(1)
    )
    assert set(mean["region"]) == {"north", "south", "west"} and 0 <= mean["fitness"] <= 2
    (drawn,) = answer(client, "/sample", n=1)["rows"]
    assert drawn["region"] in ("north", "south", "west") and drawn["fitness"] in ("low", "middle", "high")
    answer(client, "/log_likelihood", rows=rows, draws=5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"age": "40"}, 'age must hold numbers or null; got "40", a string in row 0'),
        ({"age": -1}, "whole numbers of at least 0"),
        (
            {"region": "east"},
            "region must have one of the labels 'north', 'south', 'west', or null; got \"east\"",
        ),
        ({"agee": 1}, "unknown: 'agee'; did you mean 'age'?"),
        ({"income": 10**400}, "income must hold finite numbers or null"),
        ({"fitness": {"low": 1}}, "got an object with the keys 'low' in row 0"),
    ],
    ids=str,
)
def test_a_wrong_cell_of_a_table_is_named(mixed, change, words):
    _, table, fit = mixed
    row = {"age": 40, "income": 9e3, "pressure": 120, "smokes": True, "region": "north", "fitness": "low"}
    response = client_of(fit, table=table).post("/posterior", content=json.dumps({"rows": [row | change]}))
    assert response.status_code == 422 and words in response.json()["error"]


def test_a_loaded_fit_knows_its_table_and_answers_alike(mixed, tmp_path):
    _, table, fit = mixed
    fit.save(tmp_path)
    row = {"age": None, "income": 9e3, "pressure": None, "smokes": True, "region": None, "fitness": "low"}
    before, after = client_of(fit, table=table), client_of(lfm.load(tmp_path))
    for path in ("/posterior", "/reconstruct", "/impute"):
        assert answer(after, path, rows=[row]) == answer(before, path, rows=[row])
    assert answer(after, "/sample", n=2, seed=1) == answer(before, "/sample", n=2, seed=1)


def test_a_table_of_another_model_is_refused(mixed):
    _, table, _ = mixed
    with pytest.raises(lfm.DeclarationError, match="table must be the table of the fitted model"):
        lfm.serving.app(fitted(*CASES["plain"]())[0], table=table)


def test_the_pages_describe_the_model_and_load_nothing_from_elsewhere(named):
    client = client_of(named)
    info = client.get("/info").json()
    assert info == client.get("/").json() and "z ~ StandardNormal" in info["model"]
    assert info["observed"]["x"]["columns"] == ["a", "b", "c"] and info["observed"]["label"]["labels"] == [
        "no",
        "yes",
    ]
    assert info["latents"]["z"]["shape"] == [2]
    page = client.get("/docs")
    assert "POST /impute" in page.text and "default-src 'none'" in page.headers["content-security-policy"]
    assert "//" not in page.text.replace("<!doctype", "") and "<script" not in page.text
    schema = client.get("/openapi.json").json()
    assert {path for path in schema["paths"]} == {
        *("/info", "/posterior", "/reconstruct", "/impute", "/sample", "/log_likelihood")
    }
    body = schema["paths"]["/posterior"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    row = body["properties"]["rows"]["anyOf"][0]["items"]
    assert row["properties"]["y"] == {"enum": ["no", "yes", None]} and row["required"] == ["a", "b", "c", "y"]


def test_variables_that_the_guide_can_do_without_may_be_left_out():
    model = cases.two_views()
    fit, data = fitted(model, lfm.Guide(model, z=lfm.ProductOfExperts(network=lfm.MLP(6))))
    client, x = client_of(fit), data["x"].tolist()
    direct = fit.posterior({"x": data["x"]}).mean.tolist()
    for rows in ({"x": x}, [{"x": row} for row in x]):
        assert answer(client, "/posterior", rows=rows)["posterior"]["z"]["mean"] == direct
    assert set(answer(client, "/impute", rows={"x": x})["rows"]) == {"x"}


def test_what_the_library_warns_of_is_in_the_answer(recwarn):
    fit, _ = fitted(*CASES["plain"]())
    (words,) = answer(client_of(fit), "/posterior", rows=[[1e6, 0, 0, 0]])["warnings"]
    assert "standard deviations from the fitted ones" in words
    assert not [each for each in recwarn if issubclass(each.category, lfm.DataScaleWarning)]


def test_something_else_than_a_fit_is_refused():
    with pytest.raises(lfm.DeclarationError, match="fit must be a Fit"):
        lfm.serving.app(cases.plain())
    with pytest.raises(lfm.DeclarationError, match="rows must be a positive int"):
        lfm.serving.Limits(rows=0)

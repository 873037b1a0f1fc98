"""Messages have the user's units and remedies that work. Names that factors may have."""

import re
import traceback

import numpy as np
import pandas as pd
import pyro
import pytest
import torch

import pyro_lfm as lfm


def model_of(dim=2, **options):
    return lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(dim, mean=lfm.Linear(), **options))


def fitted(model, data, **options):
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    return lfm.fit(model, data, lfm.SVI(guide, epochs=1, **options), seed=0, progress=False)


# Remedies ------------------------------------------------------------------------------------------------

TIMES = pd.date_range("2020-01-01", periods=4)
COLUMNS = {
    "text of numbers": (["1", "2.5", "nan", "4"], ".astype(float)", lambda x: x.astype(float)),
    "objects": (np.array([1, 2.5, None, 4], dtype=object), ".astype(float)", lambda x: x.astype(float)),
    "labels": (list("abca"), "lfm.Categorical(C)", None),
    "categories": (pd.Categorical(list("abca")), ".cat.codes", lambda x: x.cat.codes),
    "times": (
        TIMES,
        "(t - t.min()) / numpy.timedelta64(1, 'D')",
        lambda t: (t - t.min()) / np.timedelta64(1, "D"),
    ),
    "times with zone": (
        TIMES.tz_localize("UTC"),
        "(t - t.min()) / numpy.timedelta64(1, 'D')",
        lambda t: (t - t.min()) / np.timedelta64(1, "D"),
    ),
    "spans": (TIMES - TIMES[0], "t / numpy.timedelta64(1, 'D')", lambda t: t / np.timedelta64(1, "D")),
    "complex": (np.array([1 + 2j, 2j, 3, 4]), ".real and .imag", lambda x: x.to_numpy().real),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_that_holds_no_numbers_gets_a_remedy_that_works(kind):
    values, words, remedy = COLUMNS[kind]
    frame = pd.DataFrame({"other": np.arange(4.0), "column": values})
    with pytest.raises(lfm.DataError, match=re.escape(words)) as caught:
        fitted(model_of(), frame)
    assert "column 'column'" in str(caught.value) and "pandas.to_numeric" not in str(caught.value)
    if kind in ("times", "spans", "complex"):
        with pytest.raises(lfm.DataError, match=re.escape(words)):
            fitted(model_of(), np.stack([np.asarray(values)] * 2, 1))
    if remedy is not None:
        fitted(model_of(), frame.assign(column=remedy(frame["column"])))
    else:
        model = lfm.Model(z=lfm.StandardNormal(1), c=lfm.Categorical(3, logits=lfm.Linear()))
        fitted(model, frame["column"])


def test_truth_values_are_numbers():
    bernoulli = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Bernoulli(2, logits=lfm.Linear()))
    for data in (np.eye(2, dtype=bool), pd.DataFrame(np.eye(2, dtype=bool)), torch.eye(2).bool()):
        values = fitted(bernoulli, data).impute(draws=2).values["x"]
        assert values.double().tolist() == np.eye(2).tolist()


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("income", -1.0, "'income' must be above 0.*got -1.0 in row 3"),
        ("income", 0.0, "'income' must be above 0.*got 0.0 in row 3"),
        ("visits", -2, "'visits' must be whole numbers of at least 0.*got -2 in row 3"),
        ("visits", 2.5, "'visits' must be whole numbers.*got 2.5 in row 3"),
        ("colour", "grey", "'colour' must take one of the values blue, brown, green; got 'grey'"),
        ("height", np.inf, "'height' must be finite"),
    ],
)
def test_a_cell_of_a_table_is_shown_as_the_user_gave_it(column, value, words):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "income": np.exp(8 + rng.normal(size=40)),
            "visits": rng.negative_binomial(2, 0.02, 40),
            "colour": rng.choice(["blue", "brown", "green"], 40),
            "height": 170 + 10 * rng.normal(size=40),
        }
    )
    table = lfm.heterogeneous(frame)
    assert [c.kind for c in table.columns] == ["positive", "count", "categorical", "continuous"]
    bad = frame.astype({column: object} if column == "colour" else {column: float})
    bad.loc[3, column] = value
    if column == "visits" and value == -2:
        bad = bad.astype({"visits": int})
    with pytest.raises(lfm.DataError, match=words):
        table.encode(bad)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"species": list("abc") * 4}),
        pd.DataFrame({"species": list("abc") * 4, "length": np.linspace(-1, 1.5, 12)}),
        pd.DataFrame({"member": [True, False] * 6}),
        pd.DataFrame({"grade": pd.Categorical(list("abc") * 4, ordered=True)}),
        pd.DataFrame({"age": np.arange(0, 240, 20)}),
    ],
)
def test_the_example_of_other_kinds_is_one_that_is_accepted(frame):
    table = lfm.heterogeneous(frame)
    (printed,) = re.findall(r"kinds=(\{.*?\})", str(table))
    kinds = eval(printed)
    again = lfm.heterogeneous(frame, kinds=kinds)
    lfm.Model(z=lfm.StandardNormal(1), **again)
    assert kinds == table.example


def test_the_examples_in_errors_are_accepted_too():
    frame = pd.DataFrame({"a": [-1.0, 2.0, 3.5, 4.5] * 3, "id": [f"n{k % 30}" for k in range(12)]})
    frame = pd.concat([frame] * 4, ignore_index=True).assign(id=[f"n{k}" for k in range(48)])
    for kinds in ({"a": "positive"}, {"a": "count"}, {}):
        with pytest.raises(lfm.DataError, match="kinds=") as caught:
            lfm.heterogeneous(frame, kinds=kinds)
        (printed,) = re.findall(r"kinds=(\{.*?\})", str(caught.value))
        lfm.heterogeneous(frame, kinds={"id": "categorical", **eval(printed)})


class Broken(torch.nn.Module):
    """A rate that becomes NaN after some steps of training."""

    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(1, 2)
        self.calls = 0

    def forward(self, z):
        self.calls += self.training
        return self.line(z) * (float("nan") if self.calls > 6 else 1.0)


@pytest.mark.parametrize(
    ("likelihood", "words"),
    [(lambda: lfm.Poisson(2, rate=Broken()), False), (lambda: lfm.Gaussian(2, mean=Broken()), True)],
)
def test_a_floor_is_a_remedy_only_where_there_is_a_scale(likelihood, words):
    model = lfm.Model(z=lfm.StandardNormal(1), x=likelihood())
    rows = torch.ones(8, 2)
    with pytest.raises(lfm.TrainingError) as caught:
        fitted(model, rows, batch_size=1, engine="eager", max_skipped=0)
    assert ("min_scale" in str(caught.value)) == words and ("scaled data" in str(caught.value)) == words
    assert "learning_rate" in str(caught.value)


# No other library's messages -----------------------------------------------------------------------------------------


def test_no_dump_of_shapes_stands_behind_an_error_of_ours():
    model = lfm.Model(
        z=lfm.StandardNormal(1), t=lfm.Covariate(), x=lfm.Gaussian(2, mean=lfm.Linear(), given=("z", "t"))
    )
    with pytest.raises(lfm.DataError) as caught:
        pyro.poutine.trace(model).get_trace(
            {"x": torch.zeros(3, 2), "t": torch.tensor([0.0, 1.0, float("nan")])}
        )
    assert "Trace Shapes" not in "".join(traceback.format_exception(caught.value))
    for error in (lfm.DataError, lfm.DeclarationError, lfm.ShapeError, lfm.TrainingError):
        assert str(error("ours\nTrace Shapes:\n Param Sites:")) == "ours"


def test_what_a_network_says_is_one_line():
    class Failing(torch.nn.Module):
        def forward(self, z):
            raise RuntimeError("no such thing\nsecond line\nplease file an issue")

    with pytest.raises(lfm.ShapeError, match="no such thing") as caught:
        model_of(covariance=lfm.Diagonal(Failing()))
    text = "".join(traceback.format_exception(caught.value))
    assert "file an issue" not in text and "direct cause" not in text


# Names ------------------------------------------------------------------------------------------------------

NAMES = [
    "batch", "index", "train", "training", "self", "data", "model", "guide", "size", "total", "keys", "items", "values",
    "update", "shared", "type", "double", "parameters", "state_dict", "T_destination", "draws", "class", "forward",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_factors_may_have_any_name_but_those_of_plates(name):
    place = NAMES.index(name)
    covariate, observed = NAMES[place - 1], NAMES[place - 2]
    x = lfm.Gaussian(3, mean=lfm.Linear(), given=(name, covariate))

    def declared():
        model = lfm.Model(**{name: lfm.StandardNormal(2), covariate: lfm.Covariate(), observed: x})
        return model, lfm.Guide(model, **{name: lfm.Gaussian(network=lfm.MLP(4))})

    model, guide = declared()
    data = {observed: torch.randn(10, 3), covariate: torch.randn(10)}
    data[observed][0, 0] = float("nan")
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    assert fit.posterior(data).mean.shape == (10, 2) and fit.impute(draws=2).values[observed].isfinite().all()
    assert list(model.sample(2, seed=0)) == list(model.sites.all) == [name, covariate, observed]
    other, other_guide = declared()
    other.load_state_dict(model.state_dict())
    other_guide.load_state_dict(guide.state_dict())
    torch.testing.assert_close(
        other_guide.factors[name](data[covariate][1:], data[observed][1:]).mean, fit.posterior().mean[1:]
    )
    assert model.redrawn(0).order == model.order and guide.redrawn(model, 0).order == [name]
    assert name in str(lfm.describe(model, guide, lfm.ELBO()))


@pytest.mark.parametrize("name", ["rows", "particles", "_z", "two words", "1st"])
def test_names_that_cannot_be_had_are_listed(name):
    with pytest.raises(
        lfm.DeclarationError, match="particles and rows are names of plates.*Python identifier"
    ):
        lfm.Model(**{name: lfm.StandardNormal(2), "x": lfm.Gaussian(3, mean=lfm.Linear())})


def test_a_mixture_prior_of_pseudo_inputs_takes_any_name():
    model = lfm.Model(
        z=lfm.VampPrior(2, 3),
        keys=lfm.Gaussian(3, mean=lfm.Linear()),
        copy=lfm.Gaussian(2, mean=lfm.Linear()),
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    data = {"keys": torch.randn(9, 3), "copy": torch.randn(9, 2)}
    assert lfm.fit(model, data, lfm.SVI(guide, epochs=1), seed=0, progress=False).posterior(
        data
    ).mean.shape == (9, 2)

"""Named columns and labels are put in the order of the fit, for every container."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.datasets import load_iris
from torch.distributions import constraints

import pyro_lfm as lfm

IRIS = load_iris(as_frame=True).data
SHORT = ["a", "b", "c", "d"]
REVERSED = [3, 2, 1, 0]


def ppca(dim=4):
    x = lfm.Gaussian(dim, mean=lfm.Linear(), covariance=lfm.Isotropic())
    return lfm.Model(z=lfm.StandardNormal(1), x=x).double()


def em(rows, **options):
    return lfm.fit(ppca(), rows, lfm.EM(), seed=0, progress=False, **options)


def records(frame):
    return np.array(
        [tuple(row) for row in frame.to_numpy()], dtype=[(str(name), float) for name in frame.columns]
    )


class FakeAnnData:
    """The interface of AnnData."""

    def __init__(self, frame):
        self.X, self.var_names = frame.to_numpy(), frame.columns


def renamed(columns):
    return IRIS.set_axis(columns, axis=1)


CONTAINERS = {
    "strings": renamed(SHORT),
    "default integers": renamed(range(4)),
    "integers": renamed([7, 3, 9, 1]),
    "tuples": renamed(pd.MultiIndex.from_product([["sepal", "petal"], ["length", "width"]])),
    "dates": renamed(pd.date_range("2020", periods=4)),
    "nullable": renamed(SHORT).convert_dtypes(),
}
WRAPPED = {
    "records": records,
    "polars": lambda frame: pl.DataFrame(frame.to_dict("list")),
    "AnnData": FakeAnnData,
    "by name": lambda frame: {"x": frame},
}


@pytest.mark.parametrize("kind", [*CONTAINERS, *WRAPPED])
def test_another_order_of_the_columns_is_put_right(kind):
    frame, wrap = CONTAINERS.get(kind, renamed(SHORT)), WRAPPED.get(kind, lambda frame: frame)
    fit = em(wrap(frame))
    assert float(fit.log_likelihood().mean()) == pytest.approx(-3.1378, abs=1e-4)
    turned = wrap(frame.iloc[:, REVERSED])
    torch.testing.assert_close(fit.log_likelihood(turned), fit.log_likelihood())
    torch.testing.assert_close(fit.posterior(turned).mean, fit.posterior().mean)
    torch.testing.assert_close(fit.reconstruct(turned), fit.reconstruct())
    torch.testing.assert_close(fit.impute(turned).values["x"], torch.tensor(IRIS.to_numpy()))
    # Arrays have no names, and are taken by position.
    torch.testing.assert_close(fit.posterior(IRIS.to_numpy()).mean, fit.posterior().mean)


def test_containers_of_one_fit_may_differ():
    frame = renamed(SHORT)
    fit = em(frame)
    for wrap in WRAPPED.values():
        torch.testing.assert_close(fit.log_likelihood(wrap(frame[SHORT[::-1]])), fit.log_likelihood())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.rename(columns={"b": "B"}), "missing: 'b'; unknown: 'B'"),
        (lambda f: f[["a", "c"]], "missing: 'b', 'd'"),
        (lambda f: f.assign(e=1.0), "unknown: 'e'"),
        (lambda f: pd.concat([f, f[["c"]]], axis=1), "each column once.*'c'"),
        (lambda f: f.set_axis(range(4), axis=1), "missing: 'a', 'b', 'c', 'd'; unknown: 0, 1, 2, 3"),
        (lambda f: records(f.rename(columns={"a": "z"})), "missing: 'a'; unknown: 'z'"),
        (lambda f: FakeAnnData(f.rename(columns={"d": "z"})), "missing: 'd'; unknown: 'z'"),
        (lambda f: {"x": f.rename(columns={"d": "z"})}, "missing: 'd'; unknown: 'z'"),
    ],
)
def test_columns_that_are_missing_unknown_or_twice_there_are_listed(change, words):
    fit, rows = em(renamed(SHORT)), change(renamed(SHORT))
    asked = [fit.posterior, fit.log_likelihood, fit.reconstruct, fit.impute, fit.bound, fit.sample_posterior]
    asked += [
        lambda rows: lfm.evaluate.variance_explained(fit, rows),
        lambda rows: lfm.evaluate.log_likelihood(fit, rows),
    ]
    for ask in asked:
        with pytest.raises(lfm.DataError, match=words):
            ask(rows)


def test_a_column_twice_is_refused_by_fit_too():
    with pytest.raises(lfm.DataError, match="each column once.*'a'"):
        em(renamed(["a", "b", "a", "d"]))


def test_names_where_the_fit_had_none_are_taken_by_position():
    fit = em(IRIS.to_numpy())
    torch.testing.assert_close(fit.log_likelihood(renamed(SHORT)), fit.log_likelihood())
    assert fit.schema["x"].names is None


def test_validation_and_test_rows_have_the_columns_of_the_rows_that_are_fitted():
    frame = renamed(SHORT)
    same, turned = (em(frame, validation=frame[order]).history[-1] for order in (SHORT, SHORT[::-1]))
    assert same["validation_bound"] == turned["validation_bound"]
    with pytest.raises(lfm.DataError, match="missing: 'a'"):
        em(frame, validation=frame[SHORT[1:]])
    ways = {"em": lfm.EM()}
    tables = [
        lfm.compare(ppca(), frame, ways, test=frame[order], metrics=["bound"], draws=2, progress=False)
        for order in (SHORT, SHORT[::-1])
    ]
    torch.testing.assert_close(*(table.rows["bound"]["em"] for table in tables))
    with pytest.raises(lfm.DataError, match="unknown: 'e'"):
        lfm.compare(ppca(), frame, ways, test=frame.assign(e=1.0), progress=False)


def test_a_table_that_was_read_before_keeps_its_names():
    frame = renamed(SHORT)
    fit = em(lfm.data.read(frame, ["x"]))
    turned = lfm.data.read(frame[SHORT[::-1]], ["x"])
    torch.testing.assert_close(fit.log_likelihood(turned), fit.log_likelihood())


def test_a_fit_says_what_its_rows_were():
    columns = em(renamed(SHORT)).schema["x"]
    assert columns.names == tuple(SHORT) and not columns.covariate and columns.labels is None
    np.testing.assert_allclose(columns.scale.mean, IRIS.mean())
    np.testing.assert_allclose(columns.scale.spread, IRIS.std(ddof=0))


class ByName(torch.utils.data.Dataset):
    """Items by name, in any order."""

    def __init__(self, order):
        self.order = order

    def __len__(self):
        return len(IRIS)

    def __getitem__(self, i):
        item = {"x": IRIS.to_numpy()[i, :3], "t": IRIS.to_numpy()[i, 3], "other": 1}
        return {name: item[name] for name in self.order}


def conditioned():
    x = lfm.Gaussian(3, mean=lfm.Linear(), given=("z", "t"))
    model = lfm.Model(z=lfm.StandardNormal(1), t=lfm.Covariate(), x=x)
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))


def test_items_of_a_dataset_go_by_name():
    model, guide = conditioned()
    fit = lfm.fit(model, ByName(["x", "t"]), lfm.SVI(guide, epochs=1), seed=0, progress=False)
    torch.testing.assert_close(fit.posterior(ByName(["other", "t", "x"])).mean, fit.posterior().mean)
    with pytest.raises(lfm.DataError, match="without t"):
        fit.posterior(ByName(["x", "other"]))


def test_a_column_alone_has_a_name_too():
    model, guide = conditioned()
    data = {"x": renamed(SHORT)[SHORT[:3]], "t": renamed(SHORT)["d"]}
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    with pytest.raises(lfm.DataError, match="t must have the columns that were fitted.*unknown: 'a'"):
        fit.posterior({**data, "t": renamed(SHORT)["a"]})
    torch.testing.assert_close(
        fit.posterior({**data, "t": data["t"].rename(None)}).mean, fit.posterior(data).mean
    )


def test_rows_that_pandas_has_in_another_order_are_no_rows():
    model, guide = conditioned()
    data = {"x": renamed(SHORT)[SHORT[:3]], "t": renamed(SHORT)["d"].iloc[::-1]}
    with pytest.raises(lfm.DataError, match=r"row labels of . in another.*\.loc"):
        lfm.fit(model, data, lfm.SVI(guide, epochs=1), seed=0, progress=False)


# Labels -------------------------------------------------------------------------------------------------

SPECIES = np.array(["setosa", "versicolor", "virginica"])
CODES = np.arange(30) % 3


def labelled(labels, other, **options):
    """log p(x | c) of a model that reads labels, trained on some and asked about others."""
    label = lfm.Covariate(support=constraints.integer_interval(0, 2))
    x = lfm.Gaussian(2, mean=lfm.Linear(), given=("z", "c"))
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(1), c=label, x=x)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    rows = torch.arange(60.0).reshape(30, 2).sin()
    fit = lfm.fit(
        model, {"x": rows, "c": labels}, lfm.SVI(guide, epochs=1), seed=0, progress=False, **options
    )
    return fit, fit.bound({"x": rows, "c": other})


LABELS = {
    "strings": SPECIES[CODES],
    "list": SPECIES[CODES].tolist(),
    "objects": SPECIES[CODES].astype(object),
    "series": pd.Series(SPECIES[CODES]),
    "categories": pd.Series(pd.Categorical(SPECIES[CODES])),
    "frame": pd.DataFrame({"c": SPECIES[CODES]}, dtype="category"),
    "numbers": pd.Series(CODES + 10).astype("category"),
    "codes as categories": pd.Series(CODES).astype("category"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_read_as_the_codes_of_the_fit(kind):
    labels = LABELS[kind]
    fit, bound = labelled(labels, labels)
    by_code, expected = labelled(CODES, CODES)
    torch.testing.assert_close(bound, expected)
    # A part of the rows, which lacks a label, and codes themselves.
    part = slice(2, 3)
    rows = torch.arange(60.0).reshape(30, 2).sin()[part]
    seen = fit.posterior({"x": rows, "c": labels[part]}).mean
    torch.testing.assert_close(seen, by_code.posterior({"x": rows, "c": CODES[part]}).mean)
    torch.testing.assert_close(seen, fit.posterior({"x": rows, "c": CODES[part]}).mean)


def test_categories_in_another_order_are_those_of_the_fit():
    first = pd.Series(pd.Categorical(SPECIES[CODES], categories=SPECIES))
    other = pd.Series(pd.Categorical(SPECIES[CODES], categories=SPECIES[::-1]))
    assert labelled(first, first)[0].schema["c"].labels == tuple(SPECIES)
    torch.testing.assert_close(labelled(first, first)[1], labelled(first, other)[1])


def test_labels_that_the_fit_did_not_have_are_listed():
    with pytest.raises(lfm.DataError, match="fitted, 'setosa', 'versicolor', 'virginica'; unknown: 'lutea'"):
        labelled(SPECIES[CODES], np.where(CODES == 1, "lutea", SPECIES[CODES]))
    with pytest.raises(lfm.DataError, match="3 categories; got 4 labels.*'d'"):
        labelled(np.array(list("abcd" * 7 + "ab")), CODES)


def test_a_label_of_the_model_may_be_given_as_categories():
    model = lfm.Model(z=lfm.StandardNormal(1), c=lfm.Categorical(3, logits=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    labels = pd.Series(SPECIES[CODES], dtype="category")
    labels[3] = None
    fit = lfm.fit(model, labels, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    filled = fit.impute(draws=20).values["c"]
    assert torch.equal(filled[4:], torch.as_tensor(CODES[4:]).double()) and filled[3] in (0, 1, 2)


def test_levels_need_an_order():
    model = lfm.Model(z=lfm.StandardNormal(1), c=lfm.OrderedLogistic(1, 3, predictor=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    with pytest.raises(lfm.DataError, match="levels in an order.*ordered=True"):
        lfm.fit(model, pd.Series(["low", "high", "mid"] * 4), lfm.SVI(guide, epochs=1), progress=False)
    grades = pd.Series(pd.Categorical(["low", "high", "mid"] * 4, ["low", "mid", "high"], ordered=True))
    fit = lfm.fit(model, grades, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    assert fit.impute(draws=2).values["c"].flatten().tolist() == [0, 2, 1] * 4

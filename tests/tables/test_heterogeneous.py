"""Tables of mixed columns: what is made of them, the way back, and what is said of their missing entries."""

import warnings

import cases
import numpy as np
import pandas as pd
import pytest
import torch

import pyro_lfm as lfm

GRADES = pd.CategoricalDtype(["low", "middle", "high"], ordered=True)


def mixed(n=60, seed=0, gaps=0.2):
    """A frame of every kind, each column moved by one factor."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "height": 170 + 10 * z + rng.normal(size=n),
            "weight": 3.0 * z + rng.normal(size=n),
            "income": np.exp(8 + z + 0.3 * rng.normal(size=n)),
            "visits": rng.poisson(20 * np.exp(0.5 * z)),
            "member": z + 0.5 * rng.normal(size=n) > 0,
            "colour of eyes": np.where(z > 0.5, "blue", np.where(z < -0.5, "brown", "green")),
            "grade": pd.Categorical.from_codes(np.digitize(z, [-0.5, 0.5]), dtype=GRADES),
            "stars": np.clip(np.round(3 + z), 1, 5).astype(int),
        }
    )
    return frame.mask(pd.DataFrame(rng.random(frame.shape) < gaps, columns=frame.columns)) if gaps else frame


KINDS = ["continuous", "continuous", "positive", "count", "binary", "categorical", "ordinal", "ordinal"]


@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_kinds_are_read_off_dtypes_and_values(gaps):
    table = lfm.heterogeneous(mixed(gaps=gaps))
    assert [column.kind for column in table.columns] == KINDS
    assert {name: type(factor).__name__ for name, factor in table.factors.items()} == {
        "continuous": "Gaussian",
        "income": "LogNormal",
        "visits": "MeanNegativeBinomial",
        "member": "Bernoulli",
        "colour_of_eyes": "Categorical",
        "grade": "OrderedLogistic",
        "stars": "OrderedLogistic",
    }
    assert table.groups["continuous"] == ("height", "weight")
    printed = str(table)
    assert "visits" in printed and "integers" in printed and "kinds=" in printed
    assert table.data["colour_of_eyes"].shape == (60,) and table.data["continuous"].shape == (60, 2)
    seen = table.data["continuous"]
    torch.testing.assert_close(seen.nanmean(0), torch.zeros(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, False, None, True], "binary"),
        (pd.array([True, False, None, True], dtype="boolean"), "binary"),
        (["yes", "no", None, "yes"], "binary"),
        ([3.5, 7.5, None, 3.5], "binary"),
        (["a", "b", "c", None], "categorical"),
        (pd.array([1, 2, None, 5], dtype="Int64"), "ordinal"),
        ([1.0, 2.0, np.nan, 5.0], "ordinal"),
        (range(0, 400, 10), "continuous"),  # recorded in steps of 10, which counts are not
        (np.random.default_rng(0).poisson(20, 60), "count"),
        (range(-200, 200, 10), "continuous"),
        (range(1990, 2020), "continuous"),  # years: far less spread than counts
        (np.exp(np.linspace(-3, 3, 40)), "positive"),
        (100 + np.linspace(-3, 3, 40), "continuous"),
        (pd.Categorical(["x", "y", "z"], categories=["z", "y", "x"], ordered=True), "ordinal"),
    ],
)
def test_each_rule(values, kind):
    frame = pd.DataFrame({"a": values})
    (column,) = lfm.heterogeneous(frame).columns
    assert column.kind == kind


@pytest.mark.parametrize("gaps", [0.0, 0.3])
def test_decoding_undoes_encoding(gaps):
    frame = mixed(gaps=gaps)
    frame["nullable"] = pd.array([1, 2, 3, None] * 15, dtype="Int64")
    frame["interval"] = pd.cut(np.linspace(0, 1, 60), 4)
    frame["year"] = range(1960, 2020)
    frame.index = range(100, 160)
    table = lfm.heterogeneous(frame)
    back = table.decode(table.data, index=frame.index)
    pd.testing.assert_frame_equal(back, frame, rtol=1e-5, check_column_type=False)
    other = frame.iloc[::-1][frame.columns[::-1]].assign(more=1)
    for name, rows in table.encode(other).items():
        torch.testing.assert_close(rows, table.data[name].flip(0), equal_nan=True)
    part = table.decode({"visits": table.data["visits"]})
    assert list(part.columns) == ["visits"]


def test_overrides_by_kind_and_by_factor():
    frame = mixed()
    robust = lfm.StudentT(1, df=lfm.Fixed(4.0), loc=lfm.MLP(8))
    table = lfm.heterogeneous(frame, kinds={"visits": "continuous", "stars": "categorical", "weight": robust})
    kinds = {column.name: column.kind for column in table.columns}
    assert kinds["visits"] == "continuous" and kinds["stars"] == "categorical" and kinds["weight"] == "own"
    assert isinstance(table.factors["weight"], lfm.StudentT)
    np.testing.assert_allclose(table.data["weight"][:, 0], frame["weight"], rtol=1e-5)
    model = lfm.Model(z=lfm.StandardNormal(1), **table.factors)
    assert table.decode(model.sample(5, seed=0)).shape == (5, 8)


def test_names_that_python_or_the_library_cannot_take_are_changed_and_shown():
    frame = pd.DataFrame({"z": list("abc") * 4, "class": list("abd") * 4, "2 b": list("xyz") * 4})
    table = lfm.heterogeneous(frame.assign(rows=list("uvw") * 4, **{"2_b": list("uvw") * 4}))
    assert list(table.factors) == ["z_", "class", "column_2_b", "rows_", "column_2_b_"]
    assert "in z_:" in str(table)
    lfm.Model(z=lfm.StandardNormal(1), **table.factors)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([1.0, 1.0, np.nan], "constant"),
        ([np.nan] * 3, "no value at all"),
        ([1.0, np.inf, 2.0], "infinite"),
        (pd.date_range("2020-01-01", periods=3), "days since the first"),
        (pd.to_timedelta([1, 2, 3]), "numbers of days"),
        ([1 + 2j, 2j, 3j], "complex"),
        ([[1], [2], [3]], "such as"),
        ([f"id {k}" for k in range(40)], "leave it out if it names rows"),
    ],
)
def test_columns_that_cannot_be_modelled_are_named_with_a_remedy(column, words):
    with pytest.raises(lfm.DataError, match=f"'a'.*{words}"):
        lfm.heterogeneous(pd.DataFrame({"a": column}))


def test_other_mistakes_are_put_in_words():
    frame = mixed()
    for kinds, words in [
        ({"age": "count"}, "the columns are height"),
        ({"visits": "integer"}, "one of continuous, positive"),
    ]:
        with pytest.raises(lfm.DeclarationError, match=words):
            lfm.heterogeneous(frame, kinds=kinds)
    for kinds, words in [
        ({"weight": "positive"}, "above 0"),
        ({"height": "count"}, "no whole numbers"),
        ({"stars": "binary"}, "4 values"),
        ({"grade": "continuous"}, "must hold numbers"),
    ]:
        with pytest.raises(lfm.DataError, match=words):
            lfm.heterogeneous(frame, kinds=kinds)
    with pytest.raises(lfm.ShapeError, match="one entry"):
        lfm.heterogeneous(frame, kinds={"height": lfm.Gaussian(3)})
    with pytest.raises(lfm.DataError, match="pandas DataFrame"):
        lfm.heterogeneous(frame.to_numpy())
    with pytest.raises(lfm.DataError, match="twice"):
        lfm.heterogeneous(pd.concat([frame, frame], axis=1))
    table = lfm.heterogeneous(frame)
    with pytest.raises(lfm.DataError, match="grade are lacking"):
        table.encode(frame.drop(columns="grade"))
    with pytest.raises(lfm.DataError, match="'grey'"):
        table.encode(frame.assign(**{"colour of eyes": "grey"}))
    with pytest.raises(lfm.DataError, match="one draw at a time"):
        table.decode({"continuous": torch.zeros(3, 60, 2)})


# What guides see of what is missing ---------------------------------------------------------------------


def test_codes_bring_numbers_to_a_scale_and_show_gaps():
    code = lfm.Code(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 4.0]), "log1p")
    coded = code(torch.tensor([[0.0, float("nan")], [float("nan"), np.expm1(6.0)]]).float())
    torch.testing.assert_close(coded, torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]))


def test_a_missing_label_is_no_label_to_guides_and_gets_no_nan():
    table = lfm.heterogeneous(mixed())
    model = lfm.Model(z=lfm.StandardNormal(2), **table.factors)
    read = []

    def spy(in_size, out_size):
        net = torch.nn.Linear(in_size, out_size)
        net.register_forward_pre_hook(lambda _, args: read.append(args[0]))
        return net

    guide = lfm.Guide(model, z=lfm.Gaussian(network=spy, given=("colour_of_eyes", "stars")))
    read.clear()
    guide(lfm.Batch(table.data))
    (seen,) = read
    assert seen.shape == (60, 3 + 2) and seen.isfinite().all()
    gone = table.data["colour_of_eyes"].isnan()
    assert gone.any() and (seen[gone, :3] == 0).all() and (seen[~gone, :3].sum(1) == 1).all()
    assert torch.equal(seen[:, 4] == 1, ~table.data["stars"][:, 0].isnan())


def test_missing_labels_add_nothing_to_the_bound():
    model = lfm.Model(z=lfm.StandardNormal(1), c=lfm.Categorical(3, logits=lfm.MLP(4)))
    guide = lfm.Guide(model, z=lfm.Gaussian())
    bound = lfm.ELBO().bound(model, guide, lfm.Batch({"c": torch.tensor([float("nan"), 1.0])}))
    assert bound.reconstruction[0] == 0 and bound.reconstruction[1] < -0.1


# Imputation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", cases.LIKELIHOODS)
def test_every_likelihood_is_imputed_and_observed_entries_stay(likelihood):
    model = cases.one_latent(likelihood=likelihood)
    guide = cases.guide_for(model, lambda: lfm.Gaussian())
    rows = cases.rows_of(model)
    data = rows["x"].float()
    data[0] = float("nan")
    if data.dim() > 1:
        data[1, ..., 0] = float("nan")
    if likelihood == "dirichlet":  # its distribution cannot be divided into entries
        data[1] = float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = lfm.fit(model, {**rows, "x": data}, lfm.SVI(guide, steps=1), seed=0, progress=False)
    imputation = fit.impute(draws=5, seed=1)
    draws, seen = imputation.draws["x"], ~data.isnan()
    assert draws.shape == (5, *data.shape) and imputation.values["x"].shape == data.shape
    assert torch.equal(imputation.values["x"][seen], data[seen])
    assert all(torch.equal(draw[seen], data[seen]) for draw in draws)
    assert torch.as_tensor(model.observed["x"].support.check(draws)).all()
    assert imputation.values["x"].isfinite().all()
    again = fit.impute(draws=5, seed=1)
    assert torch.equal(again.drawn["x"], imputation.drawn["x"])


def factor_analysis(n, seed):
    """Rows of a known linear Gaussian model, with gaps, and its fit with every parameter held."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    bias = torch.randn(5, generator=generator, dtype=torch.float64)
    noise = 0.2 + torch.rand(5, generator=generator, dtype=torch.float64)
    z, e = (torch.randn(n, k, generator=generator, dtype=torch.float64) for k in (2, 5))
    rows = z @ weight.T + bias + noise.sqrt() * e
    gone = torch.rand(n, 5, generator=generator) < 0.3
    model = lfm.Model(
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(
            5,
            mean=lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(bias)),
            covariance=lfm.Diagonal(lfm.Fixed(noise)),
        ),
    ).double()
    held = rows.masked_fill(gone, torch.nan)
    fit = lfm.fit(model, held, lfm.EM(iterations=1), seed=0, progress=False)
    return fit, rows, gone, bias, weight @ weight.T + noise.diag()


def conditional(x, gone, mean, covariance):
    """Mean and covariance of the missing entries of one row given the others."""
    there = ~gone
    gain = torch.linalg.solve(covariance[there][:, there], covariance[there][:, gone]).T
    return (
        mean[gone] + gain @ (x - mean)[there],
        covariance[gone][:, gone] - gain @ covariance[there][:, gone],
    )


def test_draws_have_the_moments_of_the_conditional_gaussian():
    """Each of about 100 numbers is within 5.5 standard errors: a false alarm in one run of 200,000."""
    fit, rows, gone, mean, covariance = factor_analysis(30, seed=0)
    repeats, S = 200, 4000
    imputation = fit.impute(rows.masked_fill(gone, torch.nan).repeat(repeats, 1), draws=S // repeats, seed=3)
    draws = imputation.draws["x"].reshape(-1, 30, 5)
    compared = 0
    for x, g, value, drawn in zip(
        rows, gone, imputation.values["x"][:30], draws.transpose(0, 1), strict=True
    ):
        if not g.any() or g.all():
            continue
        loc, sigma = conditional(x, g, mean, covariance)
        drawn = drawn[:, g]
        error = (sigma.diagonal() / S).sqrt()
        assert ((drawn.mean(0) - loc).abs() < 5.5 * error).all()
        # The mean over fewer draws, of the entries' means given z: 20 draws, each with less than the whole spread.
        assert ((value[g] - loc).abs() < 5.5 * (sigma.diagonal() / (S // repeats)).sqrt()).all()
        # Var of a sample covariance: (σ_ij² + σ_ii σ_jj) / S.
        spread = sigma.diagonal()
        error = ((sigma.square() + spread[:, None] * spread) / S).sqrt()
        assert ((drawn.T.cov().reshape(sigma.shape) - sigma).abs() < 5.5 * error).all()
        compared += len(loc)
    assert compared > 30


def test_intervals_of_a_known_model_cover_what_they_say():
    """Of about 1,800 held-out entries 90% ± 3.3% (4.5 standard errors): a false alarm in one run of 150,000.

    Entries of a row depend on each other, which at most doubles the variance here: then one in 1,500.
    """
    fit, rows, gone, _, _ = factor_analysis(1200, seed=1)
    imputation = fit.impute(draws=200, seed=0)
    for level, slack in ((0.9, 0.033), (0.5, 0.055)):
        low, high = imputation.interval(level)
        inside = (rows >= low["x"]) & (rows <= high["x"])
        assert inside[~gone].all()
        assert abs(inside[gone].double().mean().item() - level) < slack
    assert gone.sum() > 1500
    with pytest.raises(lfm.DeclarationError, match="below 1"):
        imputation.interval(1.0)


def test_entries_that_depend_on_each_other_given_z_are_conditioned_on():
    """Under a full covariance and under a mixture, against closed forms; 5 standard errors, one in 10⁶ each."""
    repeats, S = 2000, 20_000
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    row = torch.tensor([[2.0, float("nan")]]).repeat(repeats, 1)

    def imputed(likelihood):
        model = lfm.Model(z=lfm.StandardNormal(1), x=likelihood)
        guide = lfm.Guide(model, z=lfm.Gaussian())
        svi = lfm.SVI(guide, steps=1, learning_rate=1e-9)
        return lfm.fit(model, row, svi, seed=0, progress=False).impute(draws=S // repeats, seed=0)

    silent = lfm.Linear(weight=lfm.Fixed(0.0), bias=lfm.Fixed(0.0))
    imputation = imputed(lfm.Gaussian(2, mean=silent, covariance=lfm.Full(lfm.Fixed(covariance))))
    drawn = imputation.drawn["x"]
    assert abs(drawn.mean() - 1.8) < 5 * (0.19 / S) ** 0.5
    assert abs(drawn.var() - 0.19) < 5 * 0.19 * (2 / S) ** 0.5
    assert abs(imputation.values["x"][0, 1] - 1.8) < 1e-3
    loc = torch.tensor([[-2.0, -5.0], [2.0, 5.0]])
    mixture = lfm.MixtureOfGaussians(2, components=2, logits=silent, loc=lfm.Fixed(loc), scale=lfm.Fixed(1.0))
    imputation = imputed(mixture)
    right = torch.sigmoid(torch.tensor(8.0))  # ½(4² − 0²)
    assert abs(imputation.values["x"][0, 1] - (10 * right - 5)) < 1e-2
    assert abs(imputation.drawn["x"].mean() - 5) < 5 * (1.1 / S) ** 0.5


def test_one_call_a_fit_and_an_imputation_beat_mean_and_mode():
    """On 250 rows of one strong factor every column's missing entries are better filled in than by mean or mode.

    Seeds are fixed; the error of each column lies at least 15% below that of mean or mode.
    """
    whole, frame = mixed(250, gaps=0.0), mixed(250, gaps=0.0)
    gone = np.random.default_rng(5).random(frame.shape) < 0.3
    frame = frame.mask(pd.DataFrame(gone, columns=frame.columns))
    table = lfm.heterogeneous(frame)
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(1), **table.factors)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(32)))
    svi = lfm.SVI(guide, steps=150, learning_rate=0.03, engine="eager")
    fit = lfm.fit(model, table.data, svi, seed=0, progress=False)
    imputation = fit.impute(draws=100)
    values = table.decode(imputation.values)
    assert not values.isna().any(axis=None)
    low, high = (table.decode(end) for end in imputation.interval(0.9))
    assert "colour of eyes" not in low and "grade" in low
    inside, removed = 0, 0
    for k, column in enumerate(table.columns):
        name, g = column.name, gone[:, k]
        truth, said, seen = whole[name][g], values[name][g], frame[name][~g]
        assert (values[name][~g].astype(object) == frame[name][~g].astype(object)).all() or column.kind in (
            "continuous",
            "positive",
        )
        if column.levels is None:
            ours, theirs = ((said - truth) ** 2).mean(), ((seen.mean() - truth) ** 2).mean()
            inside += ((truth >= low[name][g]) & (truth <= high[name][g])).sum()
            removed += len(truth)
        else:
            ours = (said.astype(object) != truth.astype(object)).mean()
            theirs = (truth.astype(object) != seen.mode()[0]).mean()
        assert ours < 0.85 * theirs, name
    assert 0.8 < inside / removed < 0.98


def test_missing_counts_share_what_is_left_of_the_total():
    """x₁ | x₀ = 4 of n = 10 is Binomial(6, 0.3 / 0.5); the mean of 20,000 draws within 5 standard errors, one in 10⁶."""
    nan = float("nan")
    rows = torch.tensor([[4.0, nan, nan]]).repeat(2000, 1)
    weights = torch.tensor([0.5, 0.3, 0.2]).log()
    x = lfm.Multinomial(3, total_count=10, logits=lfm.Linear(weight=lfm.Fixed(0.0), bias=lfm.Fixed(weights)))
    model = lfm.Model(z=lfm.StandardNormal(1), x=x)
    svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian()), steps=1, learning_rate=1e-9)
    imputation = lfm.fit(model, rows, svi, seed=0, progress=False).impute(draws=10, seed=0)
    drawn = imputation.draws["x"]
    assert (drawn.sum(-1) == 10).all() and (drawn[..., 0] == 4).all()
    assert abs(drawn[..., 1].mean() - 3.6) < 5 * (6 * 0.6 * 0.4 / drawn[..., 1].numel()) ** 0.5

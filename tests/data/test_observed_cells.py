"""Observed cells come back bit for bit, missing ones are filled by one rule, and lost digits are warned of."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import pyro_lfm as lfm

NAN = float("nan")


def fitted(model, data, **options):
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    return lfm.fit(model, data, lfm.SVI(guide, epochs=1), seed=0, progress=False, **options)


def gaussian(dim=2, **options):
    return lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(dim, mean=lfm.Linear(), **options))


def call_and_warnings(call, kind):
    """The result of a call, and its warnings of a kind."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, [str(warning.message) for warning in caught if issubclass(warning.category, kind)]


# Observed cells -------------------------------------------------------------------------------------------

CELLS = [39.1, 0.1, 1 / 3, math.pi, 1e-17, 5e-324, -0.0, 123456789.123456789]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("container", [np.asarray, torch.as_tensor, lambda x: pd.DataFrame(np.asarray(x))])
def test_observed_entries_of_an_imputation_have_all_their_bits(dtype, container):
    given = np.array([CELLS, [NAN, *CELLS[:-1]]]).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = fitted(gaussian().to(dtype), given)
        imputation = fit.impute(container(given), draws=3).values["x"]
    seen = ~np.isnan(given)
    assert imputation.dtype == torch.float64 and bool(imputation.isfinite().all())
    assert imputation.numpy()[seen].tobytes() == given[seen].tobytes()


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.float32, np.uint64])
def test_whole_numbers_keep_all_digits_that_their_type_has(dtype):
    top = (
        2**60 + 1 if dtype in (np.int64, np.uint64) else np.iinfo(np.int32).max if dtype == np.int32 else 200
    )
    counts = np.array([[top, 3], [5, 7], [8, 9]]).astype(dtype)
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Poisson(2, rate=lfm.MLP(4))).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = fitted(model, counts)
        for data in (counts, pd.DataFrame(counts), pd.DataFrame(counts).convert_dtypes(), {"x": counts}):
            imputation = fit.impute(data, draws=2)
            assert imputation.values["x"].tolist() == counts.tolist()
            assert not imputation.missing["x"].any()


def table_of_everything(n=40):
    rng = np.random.default_rng(0)
    z = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "weight": np.round(40 + 5 * z + rng.normal(size=n), 1),
            "offset": 1e6 + z,
            "income": np.exp(8 + z),
            "account": (1.38e9 + 1e8 * z).astype(np.int64),
            "huge": (2**60 + 1e15 * z).astype(np.int64),
            "nullable": pd.array((2**60 + 1e15 * z).astype(np.int64), dtype="Int64"),
            "single": z.astype(np.float32),
            "member": z > 0,
            "flag": pd.array(z > 0.3, dtype="boolean"),
            "eyes": rng.choice(["blue", "brown", "green"], n),
            "grade": pd.Categorical(
                rng.choice(["low", "high", "mid"], n), ["low", "mid", "high"], ordered=True
            ),
        }
    )
    for row, column in enumerate(
        ["weight", "offset", "income", "nullable", "single", "flag", "eyes", "grade"]
    ):
        frame.loc[row, column] = None
    return frame


def test_cells_of_a_mixed_table_come_back_as_they_were():
    frame = table_of_everything()
    table = lfm.heterogeneous(frame)
    pd.testing.assert_frame_equal(table.decode(table.data, index=frame.index), frame, check_exact=True)
    model = lfm.Model(z=lfm.StandardNormal(2), **table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = fitted(model, table.data)
        part = frame.iloc[::-2][frame.columns[::-1]]
        for cells, imputation in [
            (frame, fit.impute(draws=3)),
            (part, fit.impute(table.encode(part), draws=3)),
        ]:
            for values in (imputation.values, *imputation.interval(0.9)):
                back = table.decode(values, index=cells.index)
                for column in back:
                    seen = cells[column].notna()
                    assert back[column].dtype == frame[column].dtype
                    assert back.loc[seen, column].tolist() == cells.loc[seen, column].tolist(), column
                    assert back[column].notna().all()
            one_draw = {name: draws[0] for name, draws in imputation.draws.items()}
            assert table.decode(one_draw, like=cells)["weight"][1] == cells["weight"].iloc[1]


def test_a_table_does_not_change_with_the_frame_that_it_was_read_from():
    frame = table_of_everything()
    kept, table = frame.copy(), lfm.heterogeneous(frame)
    frame.loc[:, "weight"] = 0.0
    pd.testing.assert_frame_equal(table.decode(table.data), kept, check_exact=True)


# Holes ----------------------------------------------------------------------------------------------------


def test_holes_are_filled_by_what_the_rows_other_entries_say():
    """z says nothing: E[x₂ | x₁ = 2] = 0.95 · 2."""
    mean = lfm.Linear(weight=lfm.Fixed(torch.zeros(2, 1)), bias=lfm.Fixed(0.0))
    covariance = lfm.Full(lfm.Fixed([[1.0, 0.95], [0.95, 1.0]]))
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=mean, covariance=covariance))
    fit = fitted(model, torch.randn(20, 2))
    rows = [[2.0, NAN], [NAN, -1.0], [NAN, NAN], [2.0, 1.0]]
    expected = torch.tensor([[0.0, 1.9], [-0.95, 0.0], [0.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(fit.reconstruct(rows), expected, atol=1e-5, rtol=0)
    filled = fit.impute(rows).values["x"].float()
    torch.testing.assert_close(
        filled[:3], torch.tensor([[2.0, 1.9], [-0.95, -1.0], [0.0, 0.0]]), atol=1e-5, rtol=0
    )


STILL = {"weight": lfm.Fixed(torch.zeros(3, 1))}
JOINT = {
    "full": lambda: lfm.Gaussian(
        3, mean=lfm.Linear(**STILL), covariance=lfm.Full(lfm.Fixed(0.5 + torch.eye(3)))
    ),
    "low rank": lambda: lfm.Gaussian(3, mean=lfm.Linear(**STILL), covariance=lfm.LowRank(1)),
    "picture": lambda: lfm.Gaussian((1, 1, 3), mean=lfm.Linear(**STILL), covariance=lfm.Full()),
    "multinomial": lambda: lfm.Multinomial(3, total_count=9, logits=lfm.Linear(**STILL)),
    "independent": lambda: lfm.Poisson(3, rate=lfm.Linear(**STILL)),
}


@pytest.mark.parametrize("kind", JOINT)
def test_reconstruct_and_impute_fill_alike(kind):
    """The likelihood does not move with z, so that there is no noise in either."""
    likelihood = JOINT[kind]()
    model = lfm.Model(z=lfm.StandardNormal(1), x=likelihood)
    rows = torch.tensor([[6.0, 2.0, 1.0], [3.0, 3.0, 3.0], [0.0, 8.0, 1.0]]).reshape(3, *likelihood.shape)
    fit = fitted(model, rows)
    holed = rows.clone()
    holed[0, ..., 2], holed[1, ..., :2] = NAN, NAN
    gaps = holed.isnan()
    filled, means = fit.impute(holed, draws=2).values["x"], fit.reconstruct(holed, draws=2)
    torch.testing.assert_close(filled[gaps], means[gaps], atol=1e-5, rtol=0)
    if kind == "multinomial":
        torch.testing.assert_close(means[0, 2], rows[0, 2])
    elif kind != "independent":
        distribution = model.factors["x"](torch.zeros(1, 1))
        whole = distribution if distribution.event_shape == (3,) else distribution.base_dist
        mean, cov = whole.mean[0].detach(), whole.covariance_matrix[0].detach()
        expected = mean[2] + cov[2, :2] @ torch.linalg.solve(cov[:2, :2], rows[0].flatten()[:2] - mean[:2])
        torch.testing.assert_close(means[0].flatten()[2], expected, atol=1e-4, rtol=0)


# Digits that are lost ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["em", "svi"])
@pytest.mark.parametrize(
    ("spread", "middle", "lost"), [(1.0, 1e8, True), (1e-6, 1.0, True), (1.0, 100.0, False)]
)
def test_a_spread_that_single_precision_does_not_hold_is_said_with_the_figure(way, spread, middle, lost):
    rows = middle + spread * np.random.default_rng(0).normal(size=(40, 2))
    frame = pd.DataFrame(rows, columns=["a", "b"])

    def run(model):
        guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
        inference = lfm.EM() if way == "em" else lfm.SVI(guide, epochs=1)
        return lfm.fit(model, frame, inference, seed=0, progress=False, validation=frame)

    fit, messages = call_and_warnings(lambda: run(gaussian(covariance=lfm.Isotropic())), lfm.PrecisionWarning)
    assert bool(messages) == lost
    if lost:
        assert (
            f"about {middle:.6g} (column '" in messages[0]
            and "neighbouring numbers of float32 are" in messages[0]
        )
        asked = [fit.posterior, fit.reconstruct, fit.log_likelihood, fit.impute, fit.bound]
        assert all(call_and_warnings(lambda ask=ask: ask(frame), lfm.PrecisionWarning)[1] for ask in asked)
    # The remedies that it names.
    assert not call_and_warnings(
        lambda: run(gaussian(covariance=lfm.Isotropic()).double()), lfm.PrecisionWarning
    )[1]
    frame = frame - frame.mean()
    assert not call_and_warnings(lambda: run(gaussian(covariance=lfm.Isotropic())), lfm.PrecisionWarning)[1]


def test_columns_that_are_constant_lose_nothing():
    """Their rounded moments are no spread."""
    generator = np.random.default_rng(0)
    constant = generator.normal(size=6)
    for model in (gaussian(12), gaussian(12).double()):
        rows = np.concatenate([np.tile(constant, (5000, 1)), generator.normal(size=(5000, 6))], 1)
        rows[:, 2][generator.random(5000) < 0.5] = NAN
        rows[0] = NAN
        assert not call_and_warnings(
            lambda model=model, rows=rows: fitted(model, rows), lfm.PrecisionWarning
        )[1]


ONE = 0.0446


@pytest.mark.parametrize(
    "column",
    [
        np.nextafter(ONE, np.resize([0, 1], 60)),  # one step of double precision either way
        np.random.default_rng(0).dirichlet(np.ones(200), size=60).sum(1),  # shares that add up to one
        ONE + 1e-16 * np.random.default_rng(0).normal(size=60),
    ],
)
def test_columns_that_are_constant_up_to_rounding_lose_nothing(column):
    rows = np.random.default_rng(0).normal(size=(60, 3))
    rows[:, 1] = column
    single = rows.astype(np.float32)
    single[:, 2] = np.nextafter(np.float32(ONE), np.float32(np.resize([0, 1], 60)))
    for model in (gaussian(3), gaussian(3).double()):
        for given in (rows, single):
            fit, messages = call_and_warnings(lambda m=model, x=given: fitted(m, x), lfm.PrecisionWarning)
            assert not messages
            # Their unit is their size, as of a column that is quite constant.
            assert fit.schema["x"].scale.is_constant.tolist() == [False, True, given is single]


def test_a_column_is_warned_of_once_in_one_call():
    rows = 1e7 + np.random.default_rng(0).normal(size=(60, 3))
    model = gaussian(3, covariance=lfm.Isotropic())
    run = {"seed": 0, "progress": False}
    fit, messages = call_and_warnings(
        lambda: lfm.fit(model, rows, lfm.EM(), validation=rows[:30], **run), lfm.PrecisionWarning
    )
    assert len(messages) == 1
    calls = [
        lambda: lfm.evaluate.imputation_scores(fit, rows, draws=20),
        lambda: lfm.evaluate.log_likelihood(fit, rows, method="exact"),
        lambda: lfm.evaluate.log_likelihood((model, fit.guide), rows),
        lambda: lfm.evaluate.variance_explained(fit, rows),
        lambda: lfm.compare(
            model, rows, {"a": lfm.EM(), "b": lfm.EM()}, test=rows, seeds=2, draws=2, progress=False
        ),
    ]
    for call in calls:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        (one,) = [each for each in caught if each.category is lfm.PrecisionWarning]
        assert one.filename == __file__
        # The next call warns again.
        assert call_and_warnings(call, lfm.PrecisionWarning)[1]


def test_in_double_precision_data_far_from_zero_are_served_right():
    rng = np.random.default_rng(0)
    rows = 1e8 + rng.normal(size=(200, 1)) @ rng.normal(size=(1, 4)) + 0.3 * rng.normal(size=(200, 4))
    fit = lfm.fit(gaussian(4, covariance=lfm.Isotropic()).double(), rows, lfm.EM(), seed=0, progress=False)
    assert float(fit.log_likelihood().mean()) == pytest.approx(fit.history[-1]["log_likelihood"], abs=1e-6)
    left = ((fit.reconstruct() - torch.as_tensor(rows)) ** 2).sum() / ((rows - rows.mean(0)) ** 2).sum()
    assert left < 0.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counts_beyond_the_type_are_not_rounded_in_silence(dtype):
    most = 2**24 if dtype == torch.float32 else 2**53
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Poisson(1, rate=lfm.MLP(4))).to(dtype)
    for counts, lost in [([most - 1], False), ([most], False), ([most + 2**30], True)]:
        rows = np.array([counts, [3]], dtype=np.int64)
        _, messages = call_and_warnings(lambda rows=rows: fitted(model, rows), lfm.PrecisionWarning)
        assert bool(messages) == lost
        if lost:
            assert f"whole numbers up to {most + 2**30}" in messages[0] and str(most) in messages[0]


# Data far from the model ------------------------------------------------------------------------------------

FAR = {
    "pixels of bytes": (120.0, 78.0, "lie about 117.*spread by 78.*standard deviations"),
    "offset": (1e4, 1.0, "standard deviations from the start of the likelihood"),
    "tiny": (0.0, 1e-6, "of the likelihood's σ at the start"),
    "standardised": (0.0, 1.0, None),
    "raw but near": (5.0, 2.0, None),
}


@pytest.mark.parametrize("kind", FAR)
def test_data_far_from_the_scale_of_the_model_get_a_sentence(kind):
    middle, spread, words = FAR[kind]
    rows = middle + spread * np.random.default_rng(0).normal(size=(60, 5))
    _, messages = call_and_warnings(lambda: fitted(gaussian(5), rows), lfm.DataScaleWarning)
    assert len(messages) == (words is not None)
    if words is not None:
        with pytest.warns(lfm.DataScaleWarning, match=words):
            fitted(gaussian(5), rows)
        # Both remedies.
        scaled = (rows - rows.mean(0)) / rows.std(0)
        assert not call_and_warnings(lambda: fitted(gaussian(5), scaled), lfm.DataScaleWarning)[1]
        start = lfm.Gaussian(
            5,
            mean=lfm.Linear(bias=lfm.Learned(torch.as_tensor(rows.mean(0)))),
            covariance=lfm.Diagonal(lfm.Learned(torch.as_tensor(rows.var(0))), min_scale=0.0),
        )
        model = lfm.Model(z=lfm.StandardNormal(1), x=start)
        _, messages = call_and_warnings(lambda: fitted(model, rows), lfm.DataScaleWarning)
        assert not messages or kind == "tiny"


def test_rows_in_other_units_than_those_of_the_fit_get_a_sentence():
    pixels = np.random.default_rng(0).uniform(0, 255, size=(50, 6))
    fit, messages = call_and_warnings(lambda: fitted(gaussian(6), pixels / 255), lfm.DataScaleWarning)
    assert not messages
    for ask in (fit.posterior, fit.reconstruct, fit.impute, fit.bound):
        _, messages = call_and_warnings(lambda ask=ask: ask(pixels), lfm.DataScaleWarning)
        assert (
            len(messages) == 1
            and "about 137.8, and the fitted rows about 0.54" in messages[0]
            and "in the units of the fit" in messages[0]
        )
        assert not call_and_warnings(lambda ask=ask: ask(pixels / 255 + 1), lfm.DataScaleWarning)[1]


def test_a_frame_comes_back_as_a_frame_its_gaps_filled():
    frame = pd.DataFrame(
        {
            "whole": pd.array([2**60 + 1, None, 5, 6], dtype="Int64"),
            "decimal": [39.1, 0.1, None, 1 / 3],
            "single": np.array([0.1, 0.2, 0.3, NAN], dtype=np.float32),
            "all": [1, 2, 3, 4],
        },
        index=list("wxyz"),
    )
    labels = pd.Series(pd.Categorical(["b", None, "c", "a"]), index=frame.index, name="letter")
    flags = pd.DataFrame({"one": pd.array([True, None, False, True], dtype="boolean")}, index=frame.index)
    model = lfm.Model(
        z=lfm.StandardNormal(1),
        x=lfm.Gaussian(4, mean=lfm.Linear()),
        c=lfm.Categorical(3, logits=lfm.Linear()),
        f=lfm.Bernoulli(1, logits=lfm.Linear()),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = fitted(model.double(), {"x": frame, "c": labels, "f": flags})
        turned = {"x": frame[frame.columns[::-1]], "c": labels, "f": flags}
        for given, imputation in [
            ({"x": frame, "c": labels, "f": flags}, fit.impute(draws=3)),
            (turned, fit.impute(turned, draws=3)),
        ]:
            for name, before in given.items():
                after = imputation.frames[name]
                assert type(after) is type(before) and after.index.equals(before.index)
                pd.testing.assert_frame_equal(
                    pd.DataFrame(after).where(pd.DataFrame(before).notna()),
                    pd.DataFrame(before),
                    check_exact=True,
                )
                assert pd.DataFrame(after).notna().all(axis=None)
                assert pd.DataFrame(after).dtypes.equals(pd.DataFrame(before).dtypes)
    assert "x" not in fit.impute({"x": frame.to_numpy(dtype=float), "c": labels, "f": flags}, draws=2).frames

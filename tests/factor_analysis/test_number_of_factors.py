"""The number of factors of simulated data, with gaps and few steps; seeds; what is refused."""

import numpy as np
import pandas as pd
import pytest
from peer_data import questionnaire

import pyro_lfm as lfm
from pyro_lfm import factor_analysis
from pyro_lfm.factor_analysis.parallel_analysis import parallel

QUICK = {"draws": 30, "folds": 2}


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_three_factors_of_a_questionnaire_by_every_criterion(missing):
    rows = questionnaire()
    rows[np.random.default_rng(1).random(rows.shape) < missing] = np.nan
    done = factor_analysis.number_of_factors(rows, largest=4, draws=50, null="permuted")
    assert set(done.suggested.values()) == {3}
    assert done.table.loc[4, "gain"] < 0 < done.table.loc[3, "gain"] - 3 * done.table.loc[3, "gain_error"]


def test_one_factor_and_none():
    random = np.random.default_rng(0)
    noise = random.normal(size=(200, 5))
    one = factor_analysis.number_of_factors(random.normal(size=(200, 1)) + noise, largest=2, **QUICK)
    assert set(one.suggested.values()) == {1}
    none = factor_analysis.number_of_factors(noise, largest=1, **QUICK).suggested
    assert none["parallel analysis"] == none["held-out likelihood"] == none["BIC"] == 0


def test_the_table_holds_what_it_says_and_a_seed_repeats_it():
    frame = pd.DataFrame(questionnaire(rows=120)[:, :6], columns=list("abcdef"))
    one = factor_analysis.number_of_factors(frame, largest=2, **QUICK)
    again = factor_analysis.number_of_factors(frame, largest=2, **QUICK)
    pd.testing.assert_frame_equal(one.table, again.table)
    other = parallel(frame.to_numpy(), draws=30, quantile=0.95, null="normal", seed=1)
    assert not np.allclose(one.parallel.quantile, other.quantile, atol=1e-9)
    assert list(one.table.index) == [0, 1, 2] and np.isnan(one.table.loc[0, "eigenvalue"])
    values = np.linalg.eigvalsh(frame.corr())[::-1]
    assert np.allclose(one.parallel.eigenvalues, values) and np.allclose(
        one.table["eigenvalue"][1:], values[:2]
    )
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(6, mean=lfm.Linear())).double()
    fit = lfm.fit(model, frame, lfm.EM(), seed=0, progress=False)
    assert one.table.loc[2, "bic"] == pytest.approx(factor_analysis.solution(fit).fit_indices().bic)
    assert "parallel analysis: " in repr(one) and "null_quantile" in repr(one)


@pytest.mark.parametrize("null", ["normal", "permuted"])
def test_eigenvalues_without_factors_are_those_of_independent_columns(null):
    """Their sum is D, and the mean of the largest is above one. Permuted columns keep their values and gaps."""
    rows = np.random.default_rng(2).integers(1, 7, size=(100, 5)).astype(float)
    rows[3, 2] = np.nan
    done = parallel(rows, draws=40, quantile=0.95, null=null, seed=0)
    assert done.mean.sum() == pytest.approx(5, abs=0.05) and done.mean[0] > 1.1
    assert (done.quantile[:2] > done.mean[:2]).all() and done.factors == 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"draws": 0}, lfm.DeclarationError, "draws must be a positive int"),
        ({"folds": 1}, lfm.DeclarationError, "folds must be an int of at least 2"),
        ({"quantile": 95}, lfm.DeclarationError, "quantile must be a probability between 0 and 1; got 95"),
        ({"null": "uniform"}, lfm.DeclarationError, 'null must be "normal" or "permuted"'),
        ({"largest": 4}, lfm.DeclarationError, "largest must be below the number of columns, 4; got 4"),
        ({"largest": 0}, lfm.DeclarationError, "largest must be a positive int"),
        (
            {"data": np.ones((30, 4))},
            lfm.DataError,
            "each column of data must vary; column 0 has 1 in all its rows",
        ),
        ({"data": np.ones((30, 2))}, lfm.DataError, "at least 3 columns"),
        ({"data": np.ones((3, 4))}, lfm.DataError, "at least 10 rows for 5 folds; got 3"),
    ],
)
def test_wrong_arguments_are_refused(options, error, words):
    given = {"data": np.random.default_rng(0).normal(size=(30, 4)), **options}
    with pytest.raises(error, match=words):
        factor_analysis.number_of_factors(**given)


def test_a_column_that_does_not_vary_is_named_and_a_path_is_read(tmp_path):
    answers = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 4)), columns=list("abcd"))
    with pytest.raises(lfm.DataError, match="an observed entry; got none in column 'b'"):
        factor_analysis.number_of_factors(answers.assign(b=np.nan))
    answers.assign(c=1.0).to_csv(tmp_path / "answers.csv", index=False)
    with pytest.raises(lfm.DataError, match="column 'c' has 1 in all its rows: drop it"):
        factor_analysis.number_of_factors(tmp_path / "answers.csv")

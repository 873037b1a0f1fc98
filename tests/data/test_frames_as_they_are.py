"""pandas and polars with categories, strings, booleans and nullable types; times and objects with a remedy that works."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.data.readers import read

N = 40
DAYS = [datetime.date(2020, 1, 1) + datetime.timedelta(days=k) for k in range(N)]
NUMBERS = np.random.default_rng(0).normal(size=N).round(3).tolist()


def gaps(values, every=4):
    return [None if k % every == 0 else value for k, value in enumerate(values)]


NULLABLE = {
    "Int64": gaps(range(N)),
    "int64[pyarrow]": gaps(range(N)),
    "boolean": gaps([k % 3 == 0 for k in range(N)]),
    "bool[pyarrow]": gaps([k % 3 == 0 for k in range(N)]),
    "Float64": gaps(NUMBERS),
    "double[pyarrow]": gaps(NUMBERS),
    "float64": gaps(NUMBERS),
}


def test_nullable_numbers_are_rows_with_gaps():
    frame = pd.DataFrame({dtype: pd.array(values, dtype=dtype) for dtype, values in NULLABLE.items()})
    rows = read(frame, ["x"]).take(torch.arange(N), torch.float64)["x"]
    truth = [[np.nan if v is None else float(v) for v in values] for values in NULLABLE.values()]
    torch.testing.assert_close(rows, torch.tensor(truth, dtype=torch.float64).T, equal_nan=True)


def test_polars_nulls_are_gaps():
    frame = pl.DataFrame({"i": gaps(range(N)), "b": gaps([k % 3 == 0 for k in range(N)]), "f": gaps(NUMBERS)})
    rows = read(frame, ["x"]).take(torch.arange(N), torch.float64)["x"]
    truth = [[np.nan if v is None else float(v) for v in frame[name].to_list()] for name in frame.columns]
    torch.testing.assert_close(rows, torch.tensor(truth, dtype=torch.float64).T, equal_nan=True)
    assert read(frame["f"], ["x"]).shapes["x"] == () and read(frame["f"], ["x"]).schema["x"].names == ("f",)
    with pytest.raises(lfm.DataError, match="column 's' must hold numbers|must hold real numbers"):
        read(frame.with_columns(s=pl.lit("a")), ["x"])


@pytest.mark.parametrize("kind", ["String", "Categorical", "Enum", "pandas", "string[pyarrow]", "dictionary"])
def test_labels_of_every_type_are_codes(kind):
    labels = gaps([("low", "middle", "high")[k % 3] for k in range(N)])
    column = {
        "String": lambda: pl.Series("c", labels),
        "Categorical": lambda: pl.Series("c", labels, dtype=pl.Categorical),
        "Enum": lambda: pl.Series("c", labels, dtype=pl.Enum(["low", "middle", "high"])),
        "pandas": lambda: pd.Series(labels, name="c"),
        "string[pyarrow]": lambda: pd.Series(labels, dtype="string[pyarrow]", name="c"),
        "dictionary": lambda: pd.Series(
            labels, dtype=pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string())), name="c"
        ),
    }[kind]()
    model = lfm.Model(z=lfm.StandardNormal(1), c=lfm.Categorical(3, logits=lfm.Linear()))
    svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian()), steps=1, engine="eager")
    fit = lfm.fit(model, {"c": column}, svi, seed=0, progress=False)
    order = ("low", "middle", "high") if kind == "Enum" else ("high", "low", "middle")
    assert fit.schema["c"].labels == order
    codes = fit.some_rows(N).with_gaps("c")
    assert [None if c != c else order[int(c)] for c in codes.tolist()] == labels


def test_heterogeneous_reads_polars_and_files_as_pandas(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "n": pd.array(gaps(rng.poisson(40, N).tolist()), dtype="Int64"),
            "b": pd.array(gaps([k % 3 == 0 for k in range(N)]), dtype="boolean"),
            "x": gaps(NUMBERS, 5),
            "s": gaps([("p", "q", "r")[k % 3] for k in range(N)]),
        }
    )
    table = lfm.heterogeneous(frame)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    polars = pl.DataFrame({name: [None if pd.isna(v) else v for v in frame[name]] for name in frame})
    for other in (polars, tmp_path / "a.csv", str(tmp_path / "a.csv"), tmp_path / "a.parquet"):
        same = lfm.heterogeneous(other)
        assert str(same) == str(table)
        for name, rows in table.data.items():
            torch.testing.assert_close(same.data[name], rows, equal_nan=True)
            torch.testing.assert_close(table.encode(other)[name], rows, equal_nan=True)
        back = same.decode(same.data)
        assert back["n"].tolist() == frame["n"].tolist() and str(back["n"].dtype) == "Int64"
    ordered = polars.with_columns(
        g=pl.Series((["lo", "mid", "hi"] * N)[:N], dtype=pl.Enum(["lo", "mid", "hi"]))
    )
    assert {c.name: c.kind for c in lfm.heterogeneous(ordered).columns}["g"] == "ordinal"
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    with pytest.raises(lfm.DataError, match="must be a pandas DataFrame"):
        lfm.heterogeneous(tmp_path / "a.npy")


def test_a_fit_of_a_table_takes_polars_and_files(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=N), "b": rng.random(N) < 0.5}).mask(rng.random((N, 2)) < 0.2)
    table = lfm.heterogeneous(frame)
    model = lfm.Model(z=lfm.StandardNormal(1), **table)
    svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian()), steps=2, engine="eager")
    fit = lfm.fit(model, table.data, svi, seed=0, progress=False)
    frame.to_csv(tmp_path / "a.csv", index=False)
    polars = pl.DataFrame({name: [None if pd.isna(v) else v for v in frame[name]] for name in frame})
    for other in (frame, polars, tmp_path / "a.csv"):
        torch.testing.assert_close(fit.posterior(other)["z"].mean, fit.posterior(table.data)["z"].mean)
        filled = table.decode(fit.impute(other, draws=2, seed=0).values)
        assert not filled.isna().any(axis=None) and filled["x"].dropna()[~frame["x"].isna()].equals(
            frame["x"].dropna()
        )


TIMES = {
    "datetime": pd.Series(pd.to_datetime(DAYS)),
    "with a zone": pd.Series(pd.to_datetime(DAYS, utc=True)),
    "with gaps": pd.Series(pd.to_datetime(gaps(DAYS))),
    "duration": pd.Series(pd.to_timedelta(np.arange(N), unit="D")),
    "period": pd.Series(pd.period_range("2020-01-01", periods=N, freq="D")),
    "objects": pd.Series(DAYS, dtype=object),
    "durations as objects": pd.Series([datetime.timedelta(days=k) for k in range(N)], dtype=object),
    "Arrow": pd.Series(pd.to_datetime(DAYS)).astype("timestamp[us][pyarrow]"),
    "Arrow's duration": pd.Series(pd.to_timedelta(np.arange(N), unit="D")).astype("duration[us][pyarrow]"),
    "text": pd.Series([str(day) for day in DAYS]),
    "text of another order": pd.Series([day.strftime("%d.%m.%Y") for day in DAYS]),
    "numbers as text": pd.Series([f"{k}" for k in range(N)]),
    "decimal commas": pd.Series([f"{k},0" for k in range(N)]),
    "thousands by dots": pd.Series([f"0.00{k % 10},0" if k < 10 else f"0.0{k},0" for k in range(N)]),
    "thousands by commas": pd.Series([f"0,0{k:02d}.0" for k in range(N)]),
}
POLARS_TIMES = {
    "Date": pl.Series("when", DAYS),
    "Datetime": pl.Series("when", DAYS).cast(pl.Datetime),
    "Duration": pl.Series("when", [datetime.timedelta(days=k) for k in range(N)]),
}


@pytest.mark.parametrize("kind", [*TIMES, *POLARS_TIMES])
def test_the_conversion_that_a_message_gives_works(kind):
    """The line of code in the message makes numbers of the column: the days 0, 1, 2, ..."""
    if kind in TIMES:
        frame = pd.DataFrame({"x": NUMBERS, "when": TIMES[kind]})
    else:
        frame = pl.DataFrame({"x": NUMBERS}).with_columns(POLARS_TIMES[kind])
    for use in (lfm.heterogeneous, lambda frame: read(frame, ["x"])):
        with pytest.raises(lfm.DataError, match="'when'") as caught:
            use(frame)
        line = "frame" + str(caught.value).partition(": frame")[2]
        names = {
            "frame": frame if kind in POLARS_TIMES else frame.copy(),
            "pandas": pd,
            "numpy": np,
            "pl": pl,
        }
        exec(line, names)
        converted = np.asarray(names["frame"]["when"].to_numpy(), dtype=float)
        first = 1 if kind == "with gaps" else 0  # the first date is missing there
        truth = np.array([np.nan if kind == "with gaps" and k % 4 == 0 else k - first for k in range(N)])
        np.testing.assert_allclose(converted, truth)
        use(names["frame"])

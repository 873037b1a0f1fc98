"""What is explored: rows in every form that a user has, how they look, and how they come back as CSV."""

import csv
import io

import explored
import numpy as np
import pandas as pd
import pytest
import torch
from cell_cases import labels, names

import pyro_lfm as lfm
from pyro_lfm.data import CsvFile, PictureFolder
from pyro_lfm.explorer.data_columns import column_of
from pyro_lfm.explorer.user_rows import user_rows
from pyro_lfm.explorer.views.picture_view import picture_shape, pixel_range


def pictures(event=(1, 8, 8), rows=12):
    """A model of pictures in the shape in which it is declared, in [0, 1]."""
    torch.manual_seed(0)
    x = lfm.Gaussian(event, mean=lfm.MLP(8))
    model = lfm.Model(z=lfm.StandardNormal(2), x=x)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    data = torch.rand(rows, *(event if isinstance(event, tuple) else (event,)))
    return lfm.fit(model, data, lfm.SVI(guide, steps=1), seed=0, progress=False), data


@pytest.mark.parametrize(
    ("event", "shape"),
    [((8, 8), None), (64, (4, 16)), ((4, 5, 3), None), (147, None)],
    ids=str,
)
def test_a_picture_comes_back_as_it_went_in(event, shape):
    fit, data = pictures(event)
    answers = explored.answers_of(fit, data, shape=shape)
    (view,) = answers.session.info()["views"]
    assert view["kind"] == "picture" and (view["low"], view["high"]) == (0.0, 1.0)
    channels, height, width = view["shape"]
    assert channels in (1, 3) and channels * height * width == data[0].numel()
    assert shape is None or (height, width) == shape
    original = answers.row(3)["original"][0]["mean"]
    expected = data[3].permute(2, 0, 1) if event == (4, 5, 3) else data[3]
    assert np.allclose(original, expected.reshape(-1), atol=1e-5)
    pasted = answers.encode({"views": [original]})
    assert np.allclose(pasted["z"], answers.row(3)["z"], atol=1e-4)


@pytest.mark.parametrize("event", [48, 50, (2, 5)])
def test_rows_of_other_sizes_are_columns_unless_declared_as_pictures(event):
    fit, data = pictures(event)
    (view,) = explored.answers_of(fit, data).session.info()["views"]
    assert view["kind"] == ("picture" if isinstance(event, tuple) else "columns")


def test_columns_with_names_are_no_picture_unless_it_is_said():
    fit, data = pictures(64)
    frame = pd.DataFrame(data.numpy(), columns=[f"gene {k}" for k in range(64)])
    named = lfm.fit(fit.model, frame, lfm.SVI(fit.guide, steps=1), seed=0, progress=False)
    (view,) = explored.answers_of(named, frame).session.info()["views"]
    assert view["kind"] == "columns" and view["columns"][3]["name"] == "gene 3"
    (view,) = explored.answers_of(named, frame, shape=(8, 8)).session.info()["views"]
    assert view["kind"] == "picture"


def test_shapes_of_pictures():
    assert picture_shape((3, 32, 32), True, None) == ((3, 32, 32), False)
    assert picture_shape((3072,), False, None) == ((3, 32, 32), False)
    assert picture_shape((2, 8, 8), False, None) is None
    with pytest.raises(lfm.DeclarationError, match="64 pixels in all"):
        picture_shape((64,), False, (2, 4, 8))
    assert pixel_range(-1.0, 1.0) == (-1.0, 1.0) and pixel_range(0.0, 0.0) == (0.0, 1.0)


def test_ink_on_paper_is_told_from_photographs():
    digits = lfm.data.digits()
    fit, _ = pictures(64)
    assert explored.answers_of(fit, digits).session.info()["views"][0]["dark"] is True
    assert explored.answers_of(fit, torch.rand(20, 64)).session.info()["views"][0]["dark"] is False


def test_data_sets_bring_their_labels_and_shapes():
    fit, _ = pictures(64)
    info = explored.answers_of(fit, lfm.data.digits()).session.info()
    assert info["title"] == "digits" and info["colours"][0]["labels"] == [str(digit) for digit in range(10)]
    faces = lfm.data.faces(20, size=8)
    info = explored.answers_of(
        pictures((3, 8, 8))[0], faces
    ).session.info()  # flat rows, declared as pictures
    assert info["views"][0]["shape"] == [3, 8, 8]
    assert {c["name"] for c in info["colours"]} >= {"glasses", "mouth"}
    glasses = next(c for c in info["colours"] if c["name"] == "glasses")
    assert glasses["labels"] == ["without", "with"]


def test_a_folder_of_pictures_with_its_attributes(tmp_path):
    from PIL import Image

    for k in range(6):
        Image.new("L", (8, 8), 40 * k).save(tmp_path / f"{k}.png")
    (tmp_path / "who.csv").write_text("file,who\n" + "".join(f"{k}.png,{'ab'[k % 2]}\n" for k in range(6)))
    fit, _ = pictures((1, 8, 8))
    for data in (tmp_path, str(tmp_path), PictureFolder.open(tmp_path)):
        answers = explored.answers_of(fit, data)
        assert answers.session.info()["colours"][0] == {
            "name": "who",
            "kind": "category",
            "labels": ["a", "b"],
        }
        assert np.allclose(answers.row(2)["original"][0]["mean"], 80 / 255, atol=1e-5)


@pytest.mark.parametrize(
    "ending", [".npz", ".csv", *(pytest.param(name, marks=pytest.mark.slow) for name in (".npy", ".parquet"))]
)
def test_files_of_every_kind(tmp_path, ending):
    fit, data = pictures(5)
    path = tmp_path / f"rows{ending}"
    frame = pd.DataFrame(data.numpy(), columns=list("abcde"))
    {
        ".npy": lambda: np.save(path, data.numpy()),
        ".npz": lambda: np.savez(path, x=data.numpy()),
        ".parquet": lambda: frame.to_parquet(path),
        ".csv": lambda: frame.to_csv(path, index=False),
    }[ending]()
    answers = explored.answers_of(fit, path)
    assert answers.session.info()["title"] == "rows" and answers.session.info()["rows"] == 12
    cells = [cell["value"] for cell in answers.row(1)["original"][0]["cells"]]
    assert np.allclose(cells, data[1], atol=1e-5)


def test_counts_of_cells_with_a_batch(tmp_path):
    anndata = pytest.importorskip("anndata")
    counts = np.random.default_rng(0).poisson(2.0, (30, 5)).astype("float32")
    obs = pd.DataFrame(
        {"batch": labels(["a", "b"], np.arange(30) % 2), "donor": labels(["x", "y", "z"], np.arange(30) % 3)},
        index=names("c", 30),
    )
    adata = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=names("g", 5)))
    cells = lfm.tables.anndata(adata, batch_key="batch", network=lfm.MLP(8))
    model = lfm.Model(z=lfm.StandardNormal(2), **cells)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    fit = lfm.fit(model, adata, lfm.SVI(guide, steps=2), seed=0, progress=False)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for data in (adata, tmp_path / "cells.h5ad"):
        answers = explored.answers_of(fit, data)
        info = answers.session.info()
        assert [(c["name"], c["kind"]) for c in info["covariates"]] == [
            ("library", "number"),
            ("batch", "category"),
        ]
        assert info["covariates"][1]["labels"] == ["a", "b"]
        assert {column["kind"] for column in info["views"][0]["columns"]} == {"count"}
        assert [colour["name"] for colour in info["colours"][:2]] == ["batch", "donor"]
        values = [cell["value"] for cell in answers.row(4)["original"][0]["cells"]]
        assert values == counts[4].tolist()
        table = pd.read_csv(io.StringIO(answers.csv({"rows": [4, 2]})))
        assert table["row"].tolist() == [4, 2] and table["donor"].tolist() == ["y", "z"]
        assert table["index"].tolist() == ["c4", "c2"] and table["batch"].tolist() == ["a", "a"]
        assert table[[str(g) for g in adata.var_names]].to_numpy().tolist() == counts[[4, 2]].tolist()


def test_rows_of_a_file_come_back_byte_for_byte(tmp_path):
    fit, path = explored.of_pets(tmp_path)
    content = path.read_bytes()
    answers = explored.answers_of(fit, path)
    lines = content.decode("latin-1").split("\r\n")
    text = answers.csv({"rows": [5, 3, 79]})
    assert text == "".join(
        f"{number};{line}\r\n"
        for number, line in zip(["row", 5, 3, 79], [lines[0], lines[6], lines[4], lines[80]], strict=True)
    )
    whole = answers.csv({"rows": list(range(80))}).split("\r\n")
    assert [line.partition(";")[2] for line in whole] == lines


@pytest.mark.parametrize(
    ("content", "chosen", "expected"),
    [
        ("a,b\n1,2\n3,4", [1], "row,a,b\n1,3,4\n"),
        ("1,2\n3,4\n5,6\n", [2], "row,column_1,column_2\n2,5,6\n"),
        ("row,b\n1,2\n3,4\n", [0], "row_,row,b\n0,1,2\n"),
        ('a,b\n"x, y",2\n"q""r",4\n', [1, 0], 'row,a,b\n1,"q""r",4\n0,"x, y",2\n'),
        ("sep=;\na;b\n1;2\n3;4\n", [0], "sep=;\nrow;a;b\n0;1;2\n"),
        ("a\tb\n1\t\n\t4\n", [1], "row\ta\tb\n1\t\t4\n"),
    ],
)
def test_records_as_they_are_written(tmp_path, content, chosen, expected):
    path = tmp_path / "file.csv"
    path.write_bytes(content.encode())
    file = CsvFile.read(path)
    name = "row_" if "row" in file.names else "row"
    assert file.selected(chosen, number=name) == expected
    without = file.selected(chosen).splitlines()
    assert [
        line.split(file.dialect.delimiter, 1)[-1] for line in expected.splitlines() if "sep" not in line
    ] == [line for line in without if "sep" not in line]


def test_rows_of_a_frame_come_with_its_index_and_cells():
    fit, data = pictures(5)
    frame = pd.DataFrame(data.double().numpy(), columns=list("abcde"), index=[f"r{k}" for k in range(12)])
    frame["when"] = pd.date_range("2024-01-01", periods=12)
    named = lfm.fit(fit.model, frame[list("abcde")], lfm.SVI(fit.guide, steps=1), seed=0, progress=False)
    answers = explored.answers_of(named, frame)
    rows = list(csv.DictReader(io.StringIO(answers.csv({"rows": [7, 2]}))))
    assert [row["index"] for row in rows] == ["r7", "r2"] and [row["row"] for row in rows] == ["7", "2"]
    assert rows[0]["when"] == "2024-01-08" and float(rows[0]["c"]) == frame.c.iloc[7]


def test_rows_without_a_table_have_numbers_in_their_own_type():
    fit, data = pictures(64)
    answers = explored.answers_of(fit, data, labels=None)
    rows = list(csv.reader(io.StringIO(answers.csv({"rows": [3]}))))
    assert (
        rows[0][:3] == ["row", "x_1", "x_2"]
        and np.array(rows[1][1:], dtype=np.float32).tolist() == data[3].tolist()
    )


@pytest.mark.parametrize(
    ("values", "labels", "codes"),
    [
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        ([3, 1, 3], ("1", "3"), [1, 0, 1]),
        (np.array([0.5, np.nan, np.inf]), None, [0.5, np.nan, np.nan]),
        (["b", None, "a"], ("a", "b"), [1, np.nan, 0]),
        (
            pd.Series(["lo", "hi", None], dtype=pd.CategoricalDtype(["lo", "hi"])),
            ("lo", "hi"),
            [0, 1, np.nan],
        ),
        (pd.Series([1, None, 2], dtype="Int64"), ("1", "2"), [0, np.nan, 1]),
        (np.array(["x", "y", "x"]), ("x", "y"), [0, 1, 0]),
        (torch.tensor([[2.0], [2.5], [2.0]]), None, [2.0, 2.5, 2.0]),
        (
            pd.to_datetime(pd.Series(["2024-02-01", None, "1970-01-11"])),
            ("1970-01-11", "2024-02-01"),
            [1, np.nan, 0],
        ),
    ],
    ids=str,
)
def test_labels_become_columns(values, labels, codes):
    column = column_of("label", values, 3)
    assert column.labels == labels and np.array_equal(column.values(), np.float32(codes), equal_nan=True)


def test_columns_that_show_nothing_are_left_out():
    assert column_of("name", [f"row {k}" for k in range(100)], 100) is None
    assert column_of("empty", [None] * 3, 3) is None and column_of("nan", np.full(3, np.nan), 3) is None
    with pytest.raises(lfm.ShapeError, match="label must have a value for each of the 3 rows"):
        column_of("label", [1, 2], 3)
    with pytest.raises(lfm.DataError, match="label must hold numbers or labels; got dtype complex128"):
        column_of("label", np.zeros(3, complex), 3)


def test_a_mapping_may_hold_more_than_the_model_reads():
    fit, data = pictures(5)
    rows = user_rows(fit, {"x": data, "age": np.arange(12) / 3, "kind": ["a", "b"] * 6})
    assert [*rows.beside] == ["age", "kind"] and len(rows) == 12
    text = explored.answers_of(fit, {"x": data, "kind": ["a", "b"] * 6}).csv({"rows": [1]})
    assert text.splitlines()[0] == "row,kind,x_1,x_2,x_3,x_4,x_5" and text.splitlines()[1].startswith("1,b,")

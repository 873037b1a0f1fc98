"""CSV files as people have them: read, and written again with holes filled and all other bytes as they were."""

import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyro_lfm as lfm
from pyro_lfm.data.csv_text import CsvFile
from pyro_lfm.errors import DataError

PLAIN = "name,mass,sex,alive,score\nAnn,3,f,true,1.5\nBob,,m,false,NA\nCid,5,NA,,2.25\n"


def read(tmp_path, content, name="f.csv", **options):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return CsvFile.read(path, **options)


def test_cells_have_types_and_integers_with_holes_stay_integers(tmp_path):
    frame = read(tmp_path, PLAIN).frame()
    assert [str(t) for t in frame.dtypes[["mass", "alive", "score"]]] == ["Int64", "boolean", "float64"]
    assert frame["mass"].tolist() == [3, pd.NA, 5] and frame["sex"].isna().tolist() == [False, False, True]
    whole = read(tmp_path, "a,b\n1,True\n2,False\n").frame()
    assert [str(t) for t in whole.dtypes] == ["int64", "bool"]


def test_filled_cells_look_like_the_others_and_the_rest_is_as_it_was(tmp_path):
    file = read(tmp_path, PLAIN)
    frame = file.frame()
    frame["mass"] = frame["mass"].astype(float).fillna(4.3)
    frame["sex"], frame["alive"], frame["score"] = (
        frame["sex"].fillna("f"),
        True,
        frame["score"].fillna(1.23456),
    )
    assert file.filled(frame).decode() == PLAIN.replace("Bob,,m,false,NA", "Bob,4,m,false,1.23").replace(
        "5,NA,,2.25", "5,f,true,2.25"
    )
    file.write(tmp_path / "g.csv.gz", frame[["mass"]])
    assert gzip.decompress((tmp_path / "g.csv.gz").read_bytes()).decode() == PLAIN.replace("Bob,,", "Bob,4,")
    assert [path.name for path in tmp_path.iterdir()] == ["f.csv", "g.csv.gz"] or len(
        list(tmp_path.iterdir())
    ) == 2


def test_chosen_cells_alone_are_filled(tmp_path):
    file = read(tmp_path, "a,b\n,\n1,2\n,5\n")
    where = np.zeros((3, 2), bool)
    where[2, 0] = True
    frame = pd.DataFrame({"a": [7, 7, 7], "b": [8, 8, 8]})
    assert file.filled(frame, where) == b"a,b\n,\n1,2\n7,5\n"
    where[1] = True
    with pytest.raises(DataError, match="row 1 of column 'a' is observed"):
        file.filled(frame, where)


@pytest.mark.parametrize(
    ("content", "filled"),
    [
        ("a;b\r\n1,5;x\r\n;y\r\n2,25;z", "a;b\r\n1,5;x\r\n3,33;y\r\n2,25;z"),  # no end of the last line
        ('"a","b"\n"1.5","x"\n"","y"\n', '"a","b"\n"1.5","x"\n"3.3","y"\n'),
        (
            '"a","b"\n1.50,"x, y"\nNA,"two\nlines"\n2.00,"q""q"\n',
            '"a","b"\n1.50,"x, y"\n3.33,"two\nlines"\n2.00,"q""q"\n',
        ),
        ("a, b\n1.5, x\n  NA , y\n", "a, b\n1.5, x\n  3.3 , y\n"),
        ("a\tb\r1.5\tx\r?\ty\r", "a\tb\r1.5\tx\r3.3\ty\r"),
        ("a|b\n\n1.5|x\n\nnull|y\n\n\n", "a|b\n\n1.5|x\n\n3.3|y\n\n\n"),  # empty lines
        ("sep=;\na;b\n1.5;x\n;y\n", "sep=;\na;b\n1.5;x\n3.3;y\n"),
        (
            "# made by a logger\n# 2 columns\na,b\n1.5,x\n.,y\n",
            "# made by a logger\n# 2 columns\na,b\n1.5,x\n3.3,y\n",
        ),
        ("a,b,\n1.5,x,\n,y,\n", "a,b,\n1.5,x,\n3.3,y,\n"),
        (
            '"a" "b"\n'.replace(" ", ",") + '"1",1.5,"x"\n"2",NA,"y"\n',
            '"a","b"\n"1",1.5,"x"\n"2",3.3,"y"\n',
        ),  # R
        ("a,b\n007,x\n,y\n123,z\n", "a,b\n007,x\n003,y\n123,z\n"),
        ("a,b\n1.5e3,x\n,y\n2.5E-10,z\n1.25e1,z\n", "a,b\n1.5e3,x\n3.33e+00,y\n2.5E-10,z\n1.25e1,z\n"),
        ("a\n1.5\n\n2.5\n", "a\n1.5\n3.3\n2.5\n"),  # an empty line of a single column is a hole
        ("a,b\n1.5,'x'\n,'y, z'\n", "a,b\n1.5,'x'\n3.3,'y, z'\n"),
        ("1.5,x\n,y\n1.7,x\n", "1.5,x\n3.3,y\n1.7,x\n"),  # no header
    ],
)
def test_dialects_are_kept(tmp_path, content, filled):
    file = read(tmp_path, content)
    name = "column_1" if not file.dialect.header else "a"
    frame = pd.DataFrame({name: np.full(len(file), 3.3333)})
    assert file.filled(frame).decode() == filled
    assert file.filled(file.frame()).decode() == content
    assert int(file.missing[:, file.names.index(name)].sum()) == 1


@pytest.mark.parametrize(
    "coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1"]
)
def test_encodings_are_recognised_and_kept(tmp_path, coding):
    text = "größe;œuvre\n1,5;a\n;b\n".replace("œ", "œ" if coding != "latin-1" else "\x81")
    content = text.encode(coding)
    file = read(tmp_path, content)
    assert file.names[0] == "größe"
    assert file.filled(file.frame()) == content
    filled = file.filled(file.frame().fillna({"größe": 2.5}))
    assert filled == text.replace("\n;b", "\n2,5;b").encode(coding)
    assert CsvFile.read(file.path, encoding=coding).names == file.names


def test_labels_with_delimiters_get_quotes(tmp_path):
    file = read(tmp_path, 'a,b\n1,"x, y"\n2,\n3,z\n4,z\n5,z\n')
    frame = file.frame()
    assert file.filled(frame.fillna({"b": "x, y"})).decode().splitlines()[2] == '2,"x, y"'
    assert file.filled(frame.fillna({"b": 'a "b"'})).decode().splitlines()[2] == '2,a "b"'
    assert file.filled(frame.fillna({"b": '"b" a'})).decode().splitlines()[2] == '2,"""b"" a"'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"a,b\n", "no rows"),
        (b"a,b\n1,2\n3\n4\n", r"line 3: 1 cell where the first line has 2 \(and 1 more lines\): add"),
        (b'a,b\n1,"2\n3"\n3,4,5\n', "line 4: 3 cells .* in quotes"),
        (b"x\n1,5\n2,5\n", "line 2: 2 cells where the first line has 1 .*name the delimiter="),
        (b"a,b\n1,2,3\n3,4,5\n", "line 2: 3 cells where the first line has 2"),
        (b"a,b,a\n1,2,3\n", "line 1: the name 'a' stands for 2 columns"),
        (b'a,b\n1,"2\n3,4\n', "line 2: the quotes .* do not end"),
        (b'a,b\n"x"y,2\n3,4\n', "line 2: text follows the end of the quotes"),
        (b"PK\x03\x04\0\0\0", "Excel"),
        (b"\x89PNG\r\n\x1a\n\0\0", "picture"),
        (bytes(range(256)), "binary"),
        (b"\xff\xfea", "utf-16"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(tmp_path, content, words):
    with pytest.raises(DataError, match=words):
        read(tmp_path, content)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        CsvFile.read(tmp_path / "none.csv")
    with pytest.raises(DataError, match="directory"):
        CsvFile.read(tmp_path)
    with pytest.raises(DataError, match="gzip"):
        read(tmp_path, PLAIN, "f.csv.gz")
    with pytest.raises(DataError, match="line 2 has bytes"):
        read(tmp_path, b"a,b\n\xff,2\n", encoding="utf-8")
    for option, value in (("encoding", "klingon"), ("delimiter", ",,"), ("decimal", "·")):
        with pytest.raises(DataError, match=option):
            read(tmp_path, PLAIN, **{option: value})


def test_values_that_a_column_cannot_hold_are_refused(tmp_path):
    file = read(tmp_path, PLAIN)
    for column, value in (("mass", "heavy"), ("alive", 3), ("score", np.inf)):
        with pytest.raises(DataError, match=column):
            file.filled(pd.DataFrame({column: [value] * 3}))
    with pytest.raises(DataError, match="no column weight"):
        file.filled(pd.DataFrame({"weight": [1, 2, 3]}))
    with pytest.raises(lfm.ShapeError, match="3; got 2"):
        file.filled(pd.DataFrame({"mass": [1, 2]}))
    latin = read(tmp_path, "a,ü\nx,1\n,2\ny,3\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        latin.filled(pd.DataFrame({"a": ["Ω"] * 3}))


def test_the_decimal_sign_may_show_late(tmp_path):
    rows = [f"{k};{k}" for k in range(1, 400)] + ["400;1,5", "401;", "402;2,25"]
    file = read(tmp_path, "\n".join(["id;x", *rows]))
    assert file.dialect.decimal == "," and file.frame()["x"].iloc[-1] == 2.25
    assert file.filled(pd.DataFrame({"x": np.full(402, 3.126)})).decode().splitlines()[401] == "401;3,13"


def test_headers_are_told_from_rows(tmp_path):
    for content, header in (
        ("country,2019,2020\nFR,55.5,3\nDE,2.5,4.5\n", True),
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n", False),
        ("0,0,5,13\n0,1,2,3\n0,0,0,1\n", False),
        ("colour,size\nred,big\nred,small\n", True),
        ("red,big\nred,small\nblue,big\n", False),
        (",a\n1,2.5\n2,3.5\n", True),
        ("400,410,420\n0.1,0.2,0.3\n0.3,0.2,0.1\n", True),
        ("?,1.5\n3,2.5\n2,1\n", False),
    ):
        file = read(tmp_path, content)
        assert file.dialect.header is header, content
    assert read(tmp_path, "red,big\nred,small\n", header=True).names == ("red", "big")
    assert read(tmp_path, ",a\n1,2.5\n2,3.5\n").names == ("Unnamed: 0", "a")


TEXTS = st.text(st.sampled_from(list("ab é\"'\n\r,;|\t.")), max_size=6)


def written(rows, delimiter, end, quoted):
    def cell(value):
        special = quoted or any(mark in value for mark in f'{delimiter}"\n\r') or value != value.strip()
        return '"' + value.replace('"', '""') + '"' if special else value

    return end.join(delimiter.join(map(cell, row)) for row in rows)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(
    st.integers(2, 4).flatmap(
        lambda d: st.lists(st.tuples(st.integers(0, 99), *[TEXTS] * (d - 1)), min_size=3, max_size=6)
    ),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_table_is_read_and_comes_back_byte_for_byte(
    tmp_path_factory, rows, delimiter, end, quoted, last, coding
):
    names = ("n", "x", "y", "w")[: len(rows[0])]
    table = [names, *[tuple(map(str, row)) for row in rows]]
    content = (written(table, delimiter, end, quoted) + end * last).encode(coding)
    file = CsvFile.of_bytes(content, Path("f.csv"), delimiter=delimiter, header=True)
    assert file.filled(file.frame()) == content
    assert file.names == names and len(file) == len(rows)
    frame = file.frame()
    assert frame["n"].tolist() == [row[0] for row in rows]
    for k, name in enumerate(names[1:], 1):
        if file.columns[k].content == "text":
            for value, row in zip(frame[name].fillna(""), rows, strict=True):
                assert value == row[k] or (value == "" and not row[k].strip())


@pytest.mark.parametrize("name", ["n", "x"])
def test_what_pandas_writes_is_read_as_pandas_reads_it(tmp_path, name):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"n": rng.integers(0, 9, 50), "x": rng.normal(size=50), "s": rng.choice(["a", "b,c", 'd"e'], 50)}
    ).mask(rng.random((50, 3)) < 0.2)
    for options in ({}, {"sep": ";", "decimal": ","}, {"sep": "\t", "na_rep": "NaN"}, {"quoting": 2}):
        text = frame.to_csv(index=False, **options)
        ours = read(tmp_path, text).frame()
        theirs = pd.read_csv(
            io.StringIO(text), sep=options.get("sep", ","), decimal=options.get("decimal", ".")
        )
        np.testing.assert_array_equal(ours[name].to_numpy(float, na_value=np.nan), theirs[name])
        assert ours["s"].fillna("").tolist() == theirs["s"].fillna("").tolist()

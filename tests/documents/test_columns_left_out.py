"""``[data] leave_out``: columns of a file that a mixed table does not model."""

import pytest

import pyro_lfm as lfm

ROWS = "id,length,arm\n" + "".join(
    f"row {k},{k * k % 7 + k / 9},{'left' if k % 2 else 'right'}\n" for k in range(20)
)


def declared(folder, leave_out):
    (folder / "rows.csv").write_text(ROWS, encoding="utf-8")
    return lfm.declare(
        {
            "data": {"file": str(folder / "rows.csv"), "leave_out": leave_out},
            "model": {"z": "StandardNormal(1)", "table": "heterogeneous"},
        }
    )


def test_a_column_that_is_left_out_is_not_modelled_and_stays_left_out(tmp_path):
    declaration = declared(tmp_path, ["id"])
    assert [column.name for column in declaration.table.columns] == ["length", "arm"]
    assert set(declaration.model.observed) == set(declaration.table.factors)
    assert lfm.declare(declaration.toml()) == declaration


@pytest.mark.parametrize(
    ("leave_out", "path", "words"),
    [
        (["idd"], "model.table", "'idd'; did you mean id?"),
        ("id", "data.leave_out", "must be a list of columns"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, leave_out, path, words):
    with pytest.raises(lfm.DocumentError) as caught:
        declared(tmp_path, leave_out)
    assert any(where == path and words in fault for where, fault in caught.value.errors)


def test_other_models_have_no_table():
    assert lfm.declare({"model": {"z": "StandardNormal(1)", "x": "Gaussian(2, mean=Linear())"}}).table is None

"""Rows with the attributes that the page asks for: over a session whose attributes are factors of a linear model."""

import json

import explored
import numpy as np
import pytest

import pyro_lfm as lfm
from pyro_lfm.web.refusal import Refusal

# The readers of attributes are trained for some seconds.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def answers():
    fit, rows, weight = explored.linear(rows=400, entries=8)
    z = fit.posterior(rows).mean
    tall = np.where(z[:, 1] > 0, "tall", "short").astype(object)
    tall[::7] = None
    return explored.answers_of(fit, rows, {"size": z[:, 0], "tall": tall}, attributes=["size", "tall"])


def test_they_are_described(answers):
    size, tall = answers.session.info()["attributes"]
    assert (size["name"], size["kind"], size["measure"]) == ("size", "number", "R²") and size["score"] > 0.9
    assert (tall["name"], tall["kind"], tall["labels"]) == ("tall", "binary", ["short", "tall"])
    assert tall["measure"] == "AUC" and tall["score"] > 0.9 and 0 <= tall["error"] < 0.1


def test_generated_rows_have_what_is_asked_for_and_a_seed_repeats_them(answers):
    asked = {"attributes": {"size": 0.8, "tall": True}, "n": 20, "seed": 3}
    answer = answers.generate(asked)
    assert json.dumps(answer, allow_nan=False) and len(answer["rows"]) == 20
    names = [factor["name"] for factor in answers.session.info()["factors"]]
    z = np.array([row["z"] for row in answer["rows"]])
    # The third factor is free; 18 of 20 lies far below what the readers' scores promise.
    assert (np.abs(z[:, names.index("z_1")] - 0.8) < 0.5).sum() >= 18
    assert (z[:, names.index("z_2")] > 0).sum() >= 18 and z[:, names.index("z_3")].std() > 0.4
    assert answers.generate(asked) == answer != answers.generate({**asked, "seed": 4})
    assert answer["rows"][0]["views"][0]["cells"][0].keys() == {"mean", "low", "high"}


@pytest.mark.parametrize("by", ["row", "views", "z"])
def test_an_edit_changes_what_is_asked_for_and_says_what_was(answers, by):
    row = answers.row(11)
    cells = [cell["value"] for cell in row["original"][0]["cells"]]
    given = {
        "row": {"row": 11},
        "views": {"views": [cells]},
        "z": {"z": row["z"], "covariates": {}, "labels": {}},
    }[by]
    answer = answers.edit({**given, "attributes": {"size": 1.0}})
    assert answer["before"] == pytest.approx(row["attributes"], abs=1e-3)
    assert answer["after"]["size"] == pytest.approx(1.0, abs=0.2)
    assert answer["after"]["tall"] == pytest.approx(answer["before"]["tall"], abs=0.15)
    decoded = answers.decode({"z": answer["z"]})["views"][0]["cells"]
    assert [c["mean"] for c in answer["views"][0]["cells"]] == pytest.approx(
        [c["mean"] for c in decoded], abs=1e-3
    )


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "a value for at least one of 'size', 'tall'"),
        ({"age": 3}, "unknown: 'age'"),
        ({"size": "big"}, 'attributes.size must be a number; got "big", a string'),
        ({"size": 99}, "size must be from"),
        ({"tall": "medium"}, "attributes.tall must be one of 'short', 'tall'"),
        ({"tall": 1}, "attributes.tall must be one of"),
        ({"tall": None}, "got null"),
    ],
)
def test_attributes_that_are_none(answers, asked, words):
    for ask in (answers.generate, lambda request: answers.edit({"row": 0, **request})):
        with pytest.raises((Refusal, lfm.DataError), match=words):
            ask({"attributes": asked})
    with pytest.raises(Refusal, match="n must be a whole number from 1 to 64; got 65"):
        answers.generate({"attributes": {"size": 0.0}, "n": 65})


def test_attributes_of_another_fit_are_refused(answers):
    fit, rows, _ = explored.linear(rows=400, entries=8)
    with pytest.raises(lfm.DeclarationError, match="attributes must be those of this fit"):
        explored.answers_of(fit, rows, attributes=answers.session.attributes)

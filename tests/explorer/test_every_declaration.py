"""Every structure and likelihood is explored: all answers are there, in JSON, and a pasted row is the row of the data."""

import json

import cases
import explored
import pytest

import pyro_lfm as lfm

FEW = ("two-layers-two-views", "latent-mixture")
MODELS = {
    **cases.MODELS,
    **{f"x-{name}": lambda name=name: cases.one_latent(likelihood=name) for name in cases.LIKELIHOODS},
}


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_all_answers_are_there(name):
    model = MODELS[name]()
    guide, data = cases.guide_for(model, cases.GUIDES["gaussian-full"]), cases.rows_of(model)
    fit = lfm.fit(model, data, lfm.SVI(guide, steps=2), seed=0, progress=False)
    answers = explored.answers_of(fit, data)
    info = as_json(answers.session.info())
    row = as_json(answers.row(1))
    decoded = as_json(
        answers.decode({"z": row["z"], "covariates": row["covariates"], "labels": row["labels"]})
    )
    for view, again in zip(row["views"], decoded["views"], strict=True):
        assert numbers(again) == pytest.approx(numbers(view), rel=1e-2, abs=1e-3)
    values = [view.get("mean") or [cell["value"] for cell in view["cells"]] for view in row["original"]]
    pasted = as_json(answers.encode({"views": values, "covariates": row["covariates"]}))
    assert pasted["z"] == pytest.approx(row["z"], rel=1e-3, abs=1e-4)
    as_json(answers.summary({"rows": [1, 2]}))
    assert answers.csv({"rows": [2, 0]}).count("\n") == 3
    assert all(len(answers.colour(place)) == 4 * info["rows"] for place in range(len(info["colours"])))


def as_json(answer):
    """An answer as the page reads it."""
    return json.loads(json.dumps(answer, allow_nan=False))


def numbers(value):
    """All numbers of an answer, 0 for null."""
    if isinstance(value, dict):
        value = list(value.values())
    return [each for entry in value for each in numbers(entry)] if isinstance(value, list) else [value or 0.0]

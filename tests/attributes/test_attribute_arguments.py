"""What attributes refuse, in which words, and what they warn of."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from attribute_cases import N, linear

import pyro_lfm as lfm
from pyro_lfm import attributes
from pyro_lfm.attributes.labels import read_labels


@pytest.mark.parametrize(
    ("labels", "kind", "values"),
    [
        ([True, False] * 5, "binary", (False, True)),
        ([1, 0, None] * 5, "binary", (0, 1)),
        (["no", "yes", float("nan")] * 5, "binary", ("no", "yes")),
        (np.array([0.0, 1.0, np.nan] * 5), "binary", (0.0, 1.0)),
        (pd.Series(["b", "a", None, "c"] * 6, dtype="category"), "category", ("a", "b", "c")),
        (torch.arange(4).repeat(6), "category", (0, 1, 2, 3)),
        (torch.arange(60), "number", ()),
        (np.linspace(0, 1, 15), "number", ()),
    ],
)
def test_kinds_of_labels(labels, kind, values):
    (one,) = read_labels({"it": labels}, len(labels))
    assert (one.attribute.kind, one.attribute.labels) == (kind, values)
    missing = pd.isna(pd.Series(labels if isinstance(labels, list) else np.asarray(labels))).to_numpy()
    assert (~one.known.numpy() == missing).all()


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        ({}, lfm.DataError, "at least one name"),
        ([1, 2], lfm.DataError, "got list"),
        ({"it": [1.0] * 5}, lfm.ShapeError, r"\(20,\).*got \(5,\)"),
        ({"it": [1.0] * 20}, lfm.DataError, "at least two different values"),
        ({"it": ["a"] * 17 + ["b"] * 3}, lfm.DataError, "'b' in 3"),
        ({"it": [0.5, 1.5, 2.5] + [None] * 17}, lfm.DataError, "at least 10 rows; got 3"),
        ({"it": [0.5, float("inf")] * 10}, lfm.DataError, "infinite"),
        ({"it": 3}, lfm.DataError, "a list with one label for each row"),
        ({"it": torch.zeros(20, 2)}, lfm.DataError, "a list with one label for each row"),
    ],
)
def test_labels_that_are_none(labels, error, words):
    with pytest.raises(error, match=words):
        read_labels(labels, 20)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ({}, "targets must be"),
        (3, "targets must be"),
        ({"aa": 1.0}, "no attribute 'aa'.*did you mean a?"),
        ({"c": "True"}, "one of False, True"),
        ({"c": 2}, "one of False, True; got 2"),
        ({"a": 99.0}, "range of its labels; got 99"),
        ({"a": "long"}, "a number from"),
        ({"a": None}, "a number from"),
        ({"a": float("nan")}, "a number from"),
    ],
)
def test_requests_that_cannot_be(targets, words):
    A, x, *_ = linear()
    with pytest.raises(lfm.DataError, match=words):
        attributes.generate(A, targets, 3)
    with pytest.raises(lfm.DataError, match=words):
        attributes.edit(A, x[:2], targets)


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (2.5, 0), (True, 0), (3, -1), (3, 0.5)])
def test_numbers_of_rows_and_seeds(n, seed):
    with pytest.raises(lfm.DeclarationError, match="must be"):
        attributes.generate(linear()[0], {"a": 0.0}, n, seed)


def test_what_is_no_fit_and_no_attributes():
    A, x, *_ = linear()
    with pytest.raises(lfm.DeclarationError, match="must be a Fit.*got Model"):
        attributes.fit(A.fit.model, x, {"a": x[:, 0]})
    with pytest.raises(lfm.DeclarationError, match=r"lfm\.attributes\.fit gives.*got a Model"):
        attributes.generate(A.fit.model, {"a": 0.0}, 3)
    with pytest.raises(lfm.DeclarationError, match="declares no attributes"):
        attributes.generate(A.fit, {"a": 0.0}, 3)
    with pytest.raises(lfm.ShapeError, match=rf"\({N},\)"):
        attributes.fit(A.fit, x, {"a": x[:5, 0]})


def test_no_rows_cannot_be_edited():
    A, x, *_ = linear()
    with pytest.raises(lfm.DataError, match="at least one row"):
        attributes.edit(A, x[:0], {"a": 0.0})


def test_a_model_without_real_latents_is_refused_in_words():
    model = lfm.Model(y=lfm.Categorical(2, logits=lfm.Fixed(0.0)), x=lfm.Gaussian(3, mean=lfm.MLP(4)))
    guide = lfm.Guide(model, y=lfm.Categorical(logits=lfm.MLP(4)))
    fit = lfm.Fit.of(model, guide, torch.randn(20, 3))
    with pytest.raises(lfm.DeclarationError, match="latents of each row with real values"):
        attributes.fit(fit, None, {"a": torch.randn(20)})


def test_a_request_that_rows_hardly_have_is_drawn_with_a_warning():
    A, _, z, _ = linear()
    # b = 0.6 a + 0.8 z₂: these two ends are five deviations of z₂ apart.
    targets = {"a": float(z[:, 0].max()), "b": A.ranges["b"][0]}
    with pytest.warns(
        lfm.AttributeWarning, match=r"none of the 600 labelled rows and .*% of the latent density"
    ):
        rows = attributes.generate(A, targets, 20)["x"]
    assert rows.isfinite().all()
    coverage = A.coverage(targets)
    assert coverage.rows == 0 and coverage.labelled == N and coverage.share < 0.001


def test_a_common_request_is_drawn_without_a_word():
    A, _, z, _ = linear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attributes.generate(A, {"a": 0.0, "c": True}, 20)
    coverage = A.coverage({"c": True})
    assert coverage.rows == int((z[:, 2] > 0).sum()) and coverage.message is None
    assert coverage.share == pytest.approx(0.5, abs=0.06)


def test_the_table_of_attributes_has_a_line_for_each():
    lines = repr(linear()[0]).splitlines()
    assert [line.split()[0] for line in lines] == ["attribute", "a", "b", "c"]
    assert "R²" in lines[1] and "AUC" in lines[3]

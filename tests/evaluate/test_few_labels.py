"""Accuracy against the number of labels, where the answer is known."""

import math

import numpy as np
import pytest
import torch

import pyro_lfm as lfm

few_labels = lfm.evaluate.representation.few_labels


def clusters(rows, seed, spread=0.3):
    """Three classes around the corners of a triangle, in two columns, and noise of the same size."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (rows,), generator=rng)
    corners = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    return corners[labels] + spread * torch.randn(rows, 2, generator=rng), labels


def test_codes_that_hold_the_class_need_few_labels_and_noise_never_has_enough():
    """Noise is right in 1/3 of 600 rows, ± 0.02 at most: 0.08 is off in one run of 8000, for two counts."""
    (train, labels), (test, target) = clusters(300, 0), clusters(600, 1)
    rng = torch.Generator().manual_seed(2)
    noise = torch.randn(300, 2, generator=rng), torch.randn(600, 2, generator=rng)
    result = few_labels({"codes": (train, test), "noise": noise}, labels, target, counts=(6, 60), seeds=4)
    assert result.counts == (6, 60) and result.accuracy["codes"].shape == (4, 2)
    assert result.mean["codes"].min() > 0.95 and result.mean["codes"][1] > 0.99
    assert (result.mean["noise"] - 1 / 3).abs().max() < 0.08
    lines = str(result).splitlines()
    assert len(lines) == 3 and f"{float(result.mean['noise'][1]):.3f} ±" in lines[2]


def test_two_gaussians_come_near_the_error_of_bayes():
    """Classes N(±1, 1): the best accuracy is Φ(1) = 0.841; 4000 test rows have a deviation of 0.006."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(4400) % 2
    codes = (2.0 * labels - 1 + torch.randn(4400, generator=rng))[:, None]
    pair = (codes[:400], codes[400:])
    result = few_labels({"z": pair}, labels[:400], labels[400:], counts=(4, 200), seeds=4)
    assert result.mean["z"][1] == pytest.approx(0.5 * (1 + math.erf(1 / math.sqrt(2))), abs=0.03)
    assert result.mean["z"][0] < result.mean["z"][1]


def test_scale_and_constant_columns_do_not_count_and_labels_may_be_words():
    (train, labels), (test, target) = clusters(200, 0), clusters(200, 1)
    words = np.array(["a", "b", "c"])
    scaled = [torch.cat([1000 * codes + 5, torch.ones(200, 1)], 1) for codes in (train, test)]
    both = {"plain": (train, test), "scaled": tuple(scaled)}
    result = few_labels(both, words[labels.numpy()], words[target.numpy()], counts=(3, 12), seeds=2)
    assert torch.allclose(result.accuracy["plain"], result.accuracy["scaled"], atol=0.011)
    assert result.mean["plain"][1] > 0.9


def test_labelled_rows_are_drawn_evenly():
    from pyro_lfm.evaluate.representation.few_label_scores import _even

    members = [np.arange(0, 50), np.arange(50, 60), np.arange(60, 90)]
    rows = _even(members, 11, np.random.default_rng(0))
    assert len(set(rows.tolist())) == 11
    assert sorted(np.isin(rows, own).sum() for own in members) == [3, 4, 4]


CODES, LABELS = torch.randn(20, 2), torch.arange(20) % 2


@pytest.mark.parametrize(
    "given, error, words",
    [
        ({"representations": {}}, lfm.DeclarationError, "representations must be"),
        ({"representations": {"z": CODES}}, lfm.DeclarationError, "z must be a pair"),
        ({"representations": {"z": (CODES, CODES[:, :1])}}, lfm.ShapeError, "same columns"),
        ({"labels": LABELS[:9]}, lfm.ShapeError, r"labels must have shape \(20,\)"),
        ({"labels": LABELS * 0}, lfm.DataError, "at least two classes"),
        ({"test_labels": LABELS + 1}, lfm.DataError, r"occur in labels; got \[2\]"),
        ({"counts": (1,)}, lfm.DeclarationError, "counts must be an int of at least 2"),
        ({"counts": ()}, lfm.DeclarationError, "at least one number"),
        ({"counts": (30,)}, lfm.DataError, "counts must be at most 20"),
        ({"seeds": 1}, lfm.DeclarationError, "seeds"),
    ],
)
def test_bad_input_is_refused_by_name(given, error, words):
    good = {"representations": {"z": (CODES, CODES)}, "labels": LABELS, "test_labels": LABELS, "counts": (4,)}
    with pytest.raises(error, match=words):
        few_labels(**{**good, **given})


def test_the_rivals_of_a_fit_are_the_data_and_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    digits = lfm.data.digits()
    train, test = digits.split(test=0.3, seed=0)
    model = lfm.Model(z=lfm.StandardNormal(6), x=lfm.Gaussian(64, mean=lfm.Linear()))
    fit = lfm.fit(model, train.x, lfm.EM(iterations=50), seed=0, progress=False)
    result = lfm.evaluate.rival_representations(fit, train.x, test.x)
    assert list(result) == ["data", "PCA", "FA", "factors"]
    expected = PCA(6, random_state=0).fit(train.x.double().numpy()).transform(test.x.double().numpy())
    assert torch.allclose(result["PCA"][1], torch.as_tensor(expected))
    assert torch.allclose(result["factors"][1].float(), fit.posterior(test.x).mean.float(), atol=1e-5)
    scores = lfm.evaluate.representation.few_labels(result, train.y, test.y, counts=(100,), seeds=2).mean
    assert all(float(score) > 0.6 for score in scores.values())
    # Factor analysis by EM spans what factor analysis of scikit-learn spans.
    assert abs(float(scores["FA"] - scores["factors"])) < 0.1


def test_rivals_need_whole_rows_of_one_variable():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))
    rows = torch.randn(30, 4)
    fit = lfm.fit(model, rows, lfm.EM(iterations=5), seed=0, progress=False)
    rows[0, 1] = torch.nan
    with pytest.raises(lfm.DataError, match="train has missing entries"):
        lfm.evaluate.rival_representations(fit, rows, rows[1:])
    with pytest.raises(lfm.DataError, match="components must be at most 4"):
        lfm.evaluate.rival_representations(fit, rows[1:], rows[1:], components=5)

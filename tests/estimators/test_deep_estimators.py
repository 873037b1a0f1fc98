"""The deep estimators: what they start from, seeds, pickles, pipelines, and labels and clusters of simulated rows."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pyro_lfm as lfm
from pyro_lfm.estimators import (
    DeepFactorAnalysis,
    FactorAnalysis,
    LatentClustering,
    LatentModel,
    SemiSupervisedClassifier,
)

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(150, 2)) @ RANDOM.normal(size=(2, 6)) + RANDOM.normal(size=(150, 6))
BLOBS, LABELS = make_blobs(120, n_features=4, centers=3, random_state=1)
LINEAR = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(6, mean=lfm.Linear(), covariance=lfm.Diagonal()))
SMALL = {
    "deep": DeepFactorAnalysis(2, hidden_layer_sizes=(8,), max_iter=2, random_state=0),
    "clusters": LatentClustering(3, hidden_layer_sizes=(8,), max_iter=2, random_state=0),
    "model": LatentModel(LINEAR, {"z": lfm.Gaussian(network=lfm.MLP(8))}, max_iter=2, random_state=0),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_repeats_a_fit_bit_for_bit_and_a_pickle_keeps_it(name):
    one, other = clone(SMALL[name]).fit(ROWS), clone(SMALL[name]).fit(ROWS)
    assert np.array_equal(one.transform(ROWS), other.transform(ROWS))
    content = pickle.dumps(one)
    assert len(content) < 100_000 + sum(p.numel() * 8 for p in one.fit_.model.parameters()) + 20_000
    assert np.array_equal(pickle.loads(content).score_samples(ROWS), one.score_samples(ROWS))


def test_the_size_of_a_pickle_does_not_depend_on_the_rows():
    many = ROWS.repeat(200, 0)
    sizes = [
        len(pickle.dumps(clone(SMALL["deep"]).set_params(max_iter=1, batch_size=4096).fit(x)))
        for x in (ROWS, many)
    ]
    assert abs(sizes[0] - sizes[1]) < 1000


def test_deep_factors_start_at_factor_analysis():
    deep = DeepFactorAnalysis(2, max_iter=1, learning_rate_init=1e-12, random_state=0).fit(ROWS)
    linear = FactorAnalysis(2, random_state=0).fit(ROWS)
    # 200 draws under the exact posterior of a start whose noise has a floor.
    assert deep.score(ROWS) == pytest.approx(linear.score(ROWS), abs=0.02)
    assert np.corrcoef(deep.transform(ROWS)[:, 0], linear.transform(ROWS)[:, 0])[0, 1] > 0.99
    # Rows with gaps, which the encoder has never seen; log p of a row without entries is zero.
    gaps = ROWS[:60].copy()
    gaps[RANDOM.random(gaps.shape) < 0.6] = np.nan
    gaps[0] = np.nan
    differences = deep.score_samples(gaps) - linear.score_samples(gaps)
    assert abs(differences).mean() < 0.05 and abs(differences).max() < 0.5
    assert deep.score_samples(gaps)[0] == pytest.approx(0, abs=0.1)


def test_gaps_and_counts():
    gaps = ROWS.copy()
    gaps[RANDOM.random(gaps.shape) < 0.2] = np.nan
    gaps[0] = np.nan
    deep = clone(SMALL["deep"]).fit(gaps)
    assert np.isfinite(deep.transform(gaps)).all() and np.isfinite(deep.score_samples(gaps)).all()
    counts = RANDOM.poisson(1000 * np.exp(ROWS / 10))
    for likelihood in ("poisson", "negative_binomial"):
        fitted = clone(SMALL["deep"]).set_params(likelihood=likelihood).fit(counts)
        assert np.allclose(fitted.inverse_transform(np.zeros((1, 2))), counts.mean(0), rtol=0.5)


def test_factors_of_ones_own():
    parts = {
        "likelihood": lfm.StudentT(loc=lfm.MLP(8)),
        "guide": lfm.Gaussian(network=lfm.MLP(8)),
        "prior": lfm.Laplace(2),
    }
    assert clone(SMALL["deep"]).set_params(**parts).fit(ROWS).transform(ROWS).shape == (150, 2)
    with pytest.raises(lfm.DeclarationError, match="prior must be a distribution over n_components=2"):
        clone(SMALL["deep"]).set_params(prior=lfm.StandardNormal(3)).fit(ROWS)


@pytest.mark.slow
def test_a_search_in_two_processes():
    pipeline = make_pipeline(StandardScaler(), clone(SMALL["deep"]).set_params(max_iter=1))
    search = GridSearchCV(pipeline, {"deepfactoranalysis__n_components": [1, 2]}, cv=2, n_jobs=2).fit(ROWS)
    assert search.best_params_["deepfactoranalysis__n_components"] in (1, 2)


def test_clusters_of_blobs():
    clusters = LatentClustering(3, max_iter=5, random_state=0).fit(BLOBS)
    assert adjusted_rand_score(LABELS, clusters.labels_) > 0.95
    assert np.allclose(clusters.predict_proba(BLOBS).sum(1), 1)
    drawn, labels = clusters.sample(50)
    assert (clusters.predict(drawn) == labels).mean() > 0.9
    with pytest.raises(lfm.DataError, match="n_clusters must be at most"):
        LatentClustering(200).fit(BLOBS)


def test_a_classifier_learns_from_few_labels():
    names = np.array(["a", "b", "c"], dtype=object)[LABELS]
    few = np.where(np.arange(120) < 30, names, "?")
    classifier = SemiSupervisedClassifier(
        unlabelled="?", max_iter=40, hidden_layer_sizes=(16,), random_state=0
    )
    assert classifier.fit(BLOBS, few).score(BLOBS, names) > 0.9
    assert list(classifier.classes_) == ["a", "b", "c"]
    with pytest.raises(lfm.DataError, match="y must have at least 2 classes"):
        classifier.fit(BLOBS, np.full(120, "?"))


def test_a_declaration_by_em_is_factor_analysis():
    mine = clone(LatentModel(LINEAR, inference=lfm.EM(), random_state=0)).fit(ROWS)
    assert mine.score(ROWS) == pytest.approx(
        FactorAnalysis(2, random_state=0).fit(ROWS).score(ROWS), abs=1e-3
    )
    assert LINEAR.is_as_declared
    with pytest.raises(lfm.DeclarationError, match="guide must be given"):
        LatentModel(LINEAR).fit(ROWS)


def test_a_factor_in_place_of_a_guide_is_refused_in_words():
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.MLP(4)))
    with pytest.raises(
        lfm.DeclarationError, match=r"guide must name the latent of each factor, as in \{'z': Gaussian"
    ):
        lfm.estimators.LatentModel(model, lfm.Gaussian(network=lfm.MLP(4))).fit([[0.0, 1.0], [1.0, 0.0]])

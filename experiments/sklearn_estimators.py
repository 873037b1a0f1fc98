"""How do the estimators compare with scikit-learn's on its own data sets?

    python experiments/sklearn_estimators.py --seeds 3

Factor analysis and deep factor analysis are compared by held-out log p(x), clusters by the adjusted Rand index with labels
that no method saw, and classifiers by held-out accuracy with ten labels of each class. All have their defaults.
Writes table.md and results.json into the folder named by --out.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import FactorAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pyro_lfm as lfm

DATA = {"iris": load_iris, "wine": load_wine, "breast cancer": load_breast_cancer, "digits": load_digits}


def densities(train: np.ndarray, test: np.ndarray, seed: int, quick: bool) -> dict[str, float]:
    """Held-out log p(x) with two factors, nats per row."""
    epochs = 5 if quick else 200
    return {
        "FactorAnalysis of scikit-learn": FactorAnalysis(2).fit(train).score(test),
        "FactorAnalysis": lfm.estimators.FactorAnalysis(2, random_state=seed).fit(train).score(test),
        "DeepFactorAnalysis": lfm.estimators.DeepFactorAnalysis(2, max_iter=epochs, random_state=seed)
        .fit(train)
        .score(test),
    }


def clusters(name: str, rows: np.ndarray, labels: np.ndarray, seed: int, quick: bool) -> dict[str, float]:
    """The adjusted Rand index of each method."""
    count, scaled = len(np.unique(labels)), StandardScaler().fit_transform(rows)
    # Pixels have one unit.
    noise = "isotropic" if name == "digits" else "diagonal"
    latent = lfm.estimators.LatentClustering(
        count, noise=noise, max_iter=2 if quick else 100, random_state=seed
    )
    mixture = GaussianMixture(count, n_init=5, reg_covar=1e-3, random_state=seed)
    clusters = {
        "KMeans, standardised": KMeans(count, n_init=10, random_state=seed).fit_predict(scaled),
        "GaussianMixture, standardised": mixture.fit_predict(scaled),
        "LatentClustering": latent.fit_predict(rows),
    }
    return {method: adjusted_rand_score(labels, each) for method, each in clusters.items()}


def accuracies(rows: np.ndarray, labels: np.ndarray, seed: int, quick: bool) -> dict[str, float]:
    """Held-out accuracy with ten labels of each class."""
    train, test, known, truth = train_test_split(
        rows, labels, test_size=0.25, random_state=seed, stratify=labels
    )
    few, random = np.full(len(known), -1), np.random.default_rng(seed)
    for label in np.unique(known):
        chosen = random.choice(np.flatnonzero(known == label), 10, replace=False)
        few[chosen] = label
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    regression.fit(train[few >= 0], few[few >= 0])
    classifier = lfm.estimators.SemiSupervisedClassifier(max_iter=5 if quick else 200, random_state=seed).fit(
        train, few
    )
    return {
        "LogisticRegression of the labelled rows": regression.score(test, truth),
        "SemiSupervisedClassifier": classifier.score(test, truth),
    }


def one_seed(name: str, seed: int, quick: bool) -> dict[str, dict[str, float]]:
    rows, labels = DATA[name](return_X_y=True)
    train, test = train_test_split(rows, test_size=0.3, random_state=seed)
    return {
        "held-out log p(x)": densities(train, test, seed, quick) if name != "digits" else {},
        "adjusted Rand index": clusters(name, rows, labels, seed, quick),
        "accuracy": accuracies(rows, labels, seed, quick),
    }


def table(results: dict[str, list[dict[str, dict[str, float]]]]) -> str:
    lines = ["| data | measure | method | mean over seeds | least |", "|---|---|---|---:|---:|"]
    for name, seeds in results.items():
        for measure, methods in seeds[0].items():
            for method in methods:
                values = [seed[measure][method] for seed in seeds]
                lines.append(f"| {name} | {measure} | {method} | {np.mean(values):.3f} | {min(values):.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--quick", action="store_true", help="iris, one seed, few epochs: to see that all works"
    )
    parser.add_argument("--out", default="runs/sklearn_estimators", help="folder of the results")
    args = parser.parse_args()
    if args.quick:
        args.data, args.seeds = ["iris"], 1
    warnings.simplefilter("ignore")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, dict[str, float]]]] = {}
    for name in args.data:
        results[name] = [one_seed(name, seed, args.quick) for seed in range(args.seeds)]
        text = table(results)
        (out / "table.md").write_text(text, encoding="utf-8")
        (out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        print(f"{name} done", flush=True)
    print(f"\n{text}")


if __name__ == "__main__":
    main()

"""Mixtures of Gaussians by EM here and by scikit-learn, from the same start for the same number of iterations."""

import statistics
import time
import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import pyro_lfm as lfm

STRUCTURES = {"full": "full", "diagonal": "diag", "isotropic": "spherical"}  # ours: theirs


def blobs(rows: int, columns: int, classes: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((classes, columns))
    scales = rng.uniform(0.5, 1.5, (classes, columns))
    label = rng.integers(classes, size=rows)
    return centres[label] + scales[label] * rng.standard_normal((rows, columns))


def our_mixture(x: np.ndarray, start: np.ndarray, structure: str, iterations: int) -> lfm.Fit:
    classes, columns = start.shape
    covariance, first = {
        "full": (lfm.Full, torch.eye(columns)),
        "diagonal": (lfm.Diagonal, torch.ones(columns)),
        "isotropic": (lfm.Isotropic, torch.tensor(1.0)),
    }[structure]
    means, covariances = lfm.Lookup(lfm.Learned(torch.from_numpy(start))), lfm.Lookup(lfm.Learned(first))
    observed = lfm.Gaussian(columns, mean=means, covariance=covariance(covariances), given="c")
    model = lfm.Model(c=lfm.Categorical(classes), x=observed).double()
    inference = lfm.EM(start="model", iterations=iterations, tolerance=0.0)
    return lfm.fit(model, torch.from_numpy(x), inference, progress=False)


def their_mixture(x: np.ndarray, start: np.ndarray, structure: str, iterations: int) -> GaussianMixture:
    classes, columns = start.shape
    first = {"full": np.tile(np.eye(columns), (classes, 1, 1)), "diagonal": np.ones(start.shape)}
    options = {"covariance_type": STRUCTURES[structure], "max_iter": iterations, "tol": 0.0}
    options |= {"precisions_init": first.get(structure, np.ones(classes)), "init_params": "random_from_data"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of iterations is meant
        options["weights_init"] = np.full(classes, 1 / classes)
        return GaussianMixture(classes, means_init=start, **options).fit(x)


def mixtures(x: np.ndarray, classes: int, iterations: int, repeats: int) -> dict[str, dict]:
    """Medians of the times, in turn, and log p(x) of both, for each covariance."""
    start = x[:classes].astype(np.float32).astype(np.float64)
    results = {}
    for structure in STRUCTURES:
        our_mixture(x[:2000], start, structure, 1), their_mixture(x[:2000], start, structure, 1)  # to warm up
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(repeats):
            times = [time.perf_counter()]
            fit = our_mixture(x, start, structure, iterations)
            times.append(time.perf_counter())
            rival = their_mixture(x, start, structure, iterations)
            seconds["ours"].append(times[1] - times[0])
            seconds["theirs"].append(time.perf_counter() - times[1])
        measured = {who: statistics.median(times) for who, times in seconds.items()}
        measured["our_log_likelihood"] = fit.log_likelihood().mean().item()
        measured["their_log_likelihood"] = float(rival.score(x))
        results[structure] = {**measured, "ratio": measured["theirs"] / measured["ours"]}
        print(f"mixture, {x.shape[1]} columns, {structure}: {measured['ours']:.3f} s", flush=True)
    return results

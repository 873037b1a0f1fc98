"""Bayesian mixtures of Gaussians: variational Bayes here and in scikit-learn, on new rows at equal numbers of iterations."""

from __future__ import annotations

import statistics
import warnings

import numpy as np
import torch
from rivals.measuring import measured
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture

import pyro_lfm as lfm

COVARIANCES = {"full": "full", "diagonal": "diag"}  # ours: theirs


def our_mixture(x: np.ndarray, classes: int, structure: str, iterations: int) -> lfm.Fit:
    priors = lfm.parameter_priors
    covariance, prior = {
        "full": (lfm.Full, priors.NormalWishart()),
        "diagonal": (lfm.Diagonal, priors.NormalGamma()),
    }[structure]
    observed = lfm.Gaussian(
        x.shape[1], mean=lfm.Lookup(), covariance=covariance(lfm.Lookup()), given="c", prior=prior
    )
    model = lfm.Model(c=lfm.Categorical(classes, prior=priors.Dirichlet(1.0)), x=observed).double()
    inference = lfm.VariationalBayes(iterations=iterations, tolerance=1e-7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.ConvergenceWarning)  # the number of iterations is meant
        return lfm.fit(model, torch.from_numpy(x), inference, seed=0, progress=False)


def their_mixture(x: np.ndarray, classes: int, structure: str, iterations: int) -> BayesianGaussianMixture:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return BayesianGaussianMixture(
            n_components=classes,
            covariance_type=COVARIANCES[structure],
            weight_concentration_prior_type="dirichlet_distribution",
            weight_concentration_prior=1.0,
            max_iter=iterations,
            tol=1e-7,
            random_state=0,
        ).fit(x)


def bayesian_mixtures(x: np.ndarray, classes: int, iterations: int, repeats: int) -> dict[str, dict]:
    """Medians of the times, in turn, and log p of new rows, every tenth, at the posterior means, for each covariance."""
    new, x = x[::10], np.delete(x, np.s_[::10], 0)
    results = {}
    for structure in COVARIANCES:
        (
            our_mixture(x[:500], classes, structure, 2),
            their_mixture(x[:500], classes, structure, 2),
        )  # to warm up
        taken: dict[str, list[dict]] = {"ours": [], "theirs": []}
        for _ in range(repeats):
            ours, times = measured(lambda: our_mixture(x, classes, structure, iterations))  # noqa: B023
            taken["ours"].append(times)
            theirs, times = measured(lambda: their_mixture(x, classes, structure, iterations))  # noqa: B023
            taken["theirs"].append(times)
        medians = {
            who: {key: statistics.median(each[key] for each in runs) for key in runs[0]}
            for who, runs in taken.items()
        }
        medians["ours"] |= {"iterations": len(ours.history) - 1, "log_p": log_p(ours, new)}
        medians["theirs"] |= {"iterations": theirs.n_iter_, "log_p": float(theirs.score(new))}
        results[structure] = medians
        print(f"Bayesian mixture, {structure}: {medians['ours']['seconds']:.2f} s", flush=True)
    return results


def log_p(fit: lfm.Fit, rows: np.ndarray) -> float:
    """The mean of log p of rows, in nats, under the mixture at the posterior means of the parameters."""
    classes = fit.model.latents["c"].support.upper_bound + 1
    weights = fit.model.factors["c"]().probs.double()
    components = [fit.model.factors["x"](torch.tensor([c])) for c in range(int(classes))]
    densities = torch.cat([each.log_prob(torch.from_numpy(rows)).unsqueeze(0) for each in components])
    return float((densities + weights.log().reshape(-1, 1)).logsumexp(0).mean())


def bayesian_rows(results: dict[str, dict]) -> list[list[str]]:
    rows = []
    for structure, r in results.items():
        ours, theirs = r["ours"], r["theirs"]
        per_iteration = [w["processor"] / w["iterations"] for w in (ours, theirs)]
        rows.append([structure, *(f"{w['seconds']:.2f} s" for w in (ours, theirs))])
        rows[-1] += [*(f"{w['processor']:.2f} s" for w in (ours, theirs))]
        rows[-1] += [f"{ours['iterations']}", f"{theirs['iterations']}"]
        rows[-1] += [f"{theirs['processor'] / ours['processor']:.2f}"]
        rows[-1] += [f"{per_iteration[1] / per_iteration[0]:.2f}", f"{ours['log_p'] - theirs['log_p']:.4f}"]
    return rows


BAYESIAN_HEAD = (
    "covariance, ours, scikit-learn, our processor, its processor, our iterations, its iterations, "
    "processor / ours, per iteration, log p(new) − theirs"
)

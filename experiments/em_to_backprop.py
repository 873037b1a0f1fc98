"""From EM to backpropagation: one linear Gaussian declaration, fitted by every inference.

    python experiments/em_to_backprop.py --data digits
    python experiments/em_to_backprop.py --data wine

The model is p(z) = N(0, I), p(x | z) = N(W z + b, σ² I): probabilistic PCA, whose maximum is known in closed form and
whose posterior is Gaussian, so that log p(x) = L + KL(q ‖ p(z | x)) can be computed exactly at every step of
every method. All but the closed form start from the same weights. Variational Bayes puts priors on W, b and σ² and has no θ:
its bound is one on the evidence, the probability of the data with the parameters integrated out.

Writes table.md, results.json and pictures into the folder named by --out.
"""

import argparse
import copy
import json
import math
import platform
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from sklearn.datasets import load_digits, load_wine

import pyro_lfm as lfm
from pyro_lfm import plots


@dataclass(frozen=True)
class Setting:
    """Settings of a data set. `latents`: numbers of factors, the first of which has pictures of single posteriors."""

    latents: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float


SETTINGS = {
    "digits": Setting((2, 10), 2000, 1797, 0.03),
    "wine": Setting((2, 5), 2000, 178, 0.03),
}
CLOSED, EM, VEM, FULL, MEAN_FIELD, BAYES = (
    "closed form", "EM", "variational EM", "SVI, full covariance", "SVI, mean field", "variational Bayes"
)  # fmt: skip

MOMENTS = {round(2 ** (k / 4)) for k in range(4 * 12)}  # the epochs that go into pictures and results


def load(name: str) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Standardised columns without the constant ones, which columns they are, and their names."""
    data = load_digits() if name == "digits" else load_wine()
    x = torch.as_tensor(data.data, dtype=torch.float64)
    kept = x.std(0) > 0
    x = x[:, kept]
    names = [str(column) for column, keep in zip(data.feature_names, kept, strict=True) if keep]
    return (x - x.mean(0)) / x.std(0, correction=0), kept, names


def declare(features: int, latent: int) -> lfm.Model:
    x = lfm.Gaussian(features, mean=lfm.Linear(), covariance=lfm.Isotropic())
    return lfm.Model(z=lfm.StandardNormal(latent), x=x).double()


def declare_bayesian(features: int, latent: int) -> lfm.Model:
    """The same with priors on every parameter. Automatic relevance determination estimates the number of factors."""
    x = lfm.Gaussian(
        features,
        mean=lfm.Linear(prior=lfm.parameter_priors.ARD()),
        covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma()),
    )
    return lfm.Model(z=lfm.StandardNormal(latent), x=x).double()


# The methods: each fits a model in place and returns its fit and its history -----------------------------


def exactly(inference: lfm.EM | lfm.VariationalEM):
    def fit_it(model: lfm.Model, x: torch.Tensor, setting: Setting) -> tuple[lfm.Fit, list[dict]]:
        fit = lfm.fit(model, x, inference, seed=0)
        return fit, fit.history

    return fit_it


def svi(covariance):
    """Stochastic gradients of the bound, with a linear encoder; log p and L are computed exactly during training."""

    def fit_it(model: lfm.Model, x: torch.Tensor, setting: Setting) -> tuple[lfm.Fit, list[dict]]:
        torch.manual_seed(0)
        guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear(), covariance=covariance))
        history: list[dict] = []

        def watch(record, fit):
            if record["epoch"] in {*MOMENTS, setting.epochs}:
                history.append({"epoch": record["epoch"], **exact(fit, x)})

        inference = lfm.SVI(
            guide,
            objective=lfm.ELBO(gradient="sticking-the-landing"),
            epochs=setting.epochs,
            batch_size=setting.batch_size,
            learning_rate=setting.learning_rate,
            schedule=lambda done: 0.5 + 0.5 * math.cos(math.pi * done),
        )
        return lfm.fit(model, x, inference, seed=0, callbacks=[watch]), history

    return fit_it


# A new method is one line here. Tipping and Bishop's maximum is where EM starts from the data: no iteration is needed.
# The others are not accelerated: each of their records is a step of the textbook.
METHODS = {
    CLOSED: exactly(lfm.EM(iterations=0)),
    EM: exactly(lfm.EM(start="model", accelerate=False)),
    VEM: exactly(lfm.VariationalEM(start="model", accelerate=False)),
    FULL: svi(lfm.Full()),
    MEAN_FIELD: svi(lfm.Diagonal()),
}


# What is measured ----------------------------------------------------------------------------------------


def gaussian(distribution) -> torch.distributions.MultivariateNormal:
    matrix = getattr(distribution, "covariance_matrix", None)
    matrix = torch.diag_embed(distribution.variance) if matrix is None else matrix
    return torch.distributions.MultivariateNormal(distribution.mean, matrix)


def exact_posterior(model: lfm.Model, x: torch.Tensor):
    return lfm.ExactPosterior(model).known_marginals(lfm.Batch(x))["z"]


def exact(fit: lfm.Fit, x: torch.Tensor) -> dict[str, float]:
    """log p(x), KL(q ‖ p(z | x)) and L = log p(x) − KL, means over rows, none of them by Monte Carlo."""
    likelihood = fit.log_likelihood(x).mean().item()
    q, p = gaussian(fit.posterior(x)), gaussian(exact_posterior(fit.model, x))
    kl = max(0.0, torch.distributions.kl_divergence(q, p).mean().item())  # rounding aside it is
    return {"log_likelihood": likelihood, "kl": kl, "bound": likelihood - kl}


def factorised_gap(model: lfm.Model, x: torch.Tensor) -> float:
    """The gap of the best mean-field q at this model, after one variational E step."""
    inference = lfm.VariationalEM(start="model", iterations=0)
    return lfm.fit(copy.deepcopy(model), x, inference, progress=False).history[0]["kl"]


def weights(model: lfm.Model) -> torch.Tensor:
    """W (D, K), read off the likelihood's mean."""
    latent = model.latents["z"].shape[0]
    eye = torch.eye(latent, dtype=torch.float64)
    with torch.no_grad():
        return (model.factors["x"](eye).mean - model.factors["x"](0 * eye).mean).T


def matched(measured: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The columns in the order and with the signs that match a reference best, without a rotation."""
    alike = measured.T @ reference
    result, free = torch.zeros_like(measured), set(range(measured.shape[1]))
    for k in range(measured.shape[1]):
        j = max(free, key=lambda i, k=k: abs(float(alike[i, k])) / (1e-12 + float(measured[:, i].norm())))
        free.remove(j)
        result[:, k] = measured[:, j] * (1 if alike[j, k] >= 0 else -1)
    return result


def bayes(x: torch.Tensor, latent: int) -> tuple[dict[str, float], lfm.Fit]:
    """Variational Bayes: the bound on the evidence, the rank, and log p(x) at the posterior means."""
    print(f"\n{latent} factors, {BAYES}", flush=True)
    began = time.perf_counter()
    fit = lfm.fit(declare_bayesian(x.shape[1], latent), x, lfm.VariationalBayes(), seed=0)
    seconds = time.perf_counter() - began
    with torch.no_grad():
        distribution = fit.model.factors["x"](torch.zeros(1, latent, dtype=torch.float64))
    loadings = weights(fit.model)
    covariance = loadings @ loadings.T + distribution.variance[0].diag()
    marginal = torch.distributions.MultivariateNormal(distribution.mean[0], covariance)
    at_means = marginal.log_prob(x).mean().item()
    measured = {"evidence_bound": fit.history[-1]["bound"], "rank": fit.rank, "at_posterior_means": at_means}
    print("  evidence ≥ {evidence_bound:.6f} nats per row, {rank} factors at work".format(**measured))
    return {**measured, "iterations": len(fit.history) - 1, "seconds": seconds}, fit


def run(x: torch.Tensor, latent: int, setting: Setting) -> tuple[dict[str, dict], dict[str, lfm.Fit]]:
    torch.manual_seed(1)
    start = declare(x.shape[1], latent)
    results, fits, moments = {}, {}, {*range(17), *MOMENTS}
    for name, method in METHODS.items():
        print(f"\n{latent} factors, {name}", flush=True)
        model = copy.deepcopy(start)
        began = time.perf_counter()
        fit, history = method(model, x, setting)
        seconds = time.perf_counter() - began
        measured, last = exact(fit, x), history[-1]
        results[name] = {
            **measured,
            "gap_of_mean_field": factorised_gap(model, x),
            "iterations": last["epoch"],
            "seconds": seconds,
            "history": [
                {k: v for k, v in r.items() if v == v}
                for r in history
                if r["epoch"] in moments | {last["epoch"]}
            ],
        }
        fits[name] = fit
        print("  log p(x) {log_likelihood:.6f} = L {bound:.6f} + KL {kl:.6f} nats per row".format(**measured))
    best = results[CLOSED]["log_likelihood"]
    for each in results.values():
        each["below_maximum"] = best - each["log_likelihood"]
    return results, fits


def table(
    results: dict[str, dict[str, dict]], bayesian: dict[str, dict], args: argparse.Namespace, x: torch.Tensor
) -> str:
    lines = [f"# One model of {args.data}, fitted by {len(METHODS) + 1} methods", ""]
    for latent, methods in results.items():
        lines += [f"{latent} factors, {len(x):,} rows of {x.shape[1]} standardised columns:", ""]
        head = "method,log p(x),below the maximum,L,KL(q ‖ p),a factorised q would lose,steps,time".split(",")
        lines += [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] + ['---:'] * (len(head) - 1))} |"]
        for name, r in methods.items():
            cells = [
                name,
                f"{r['log_likelihood']:.6f}",
                f"{abs(r['below_maximum']):.1e}",
                f"{r['bound']:.6f}",
            ]
            cells += [f"{r['kl']:.6f}", f"{r['gap_of_mean_field']:.6f}", f"{r['iterations']:,}"]
            lines.append(f"| {' | '.join([*cells, f'''{r['seconds']:.2f} s'''])} |".replace(" -", " −"))
        b = bayesian[latent]
        lines += [
            "",
            f"Variational Bayes: {b['rank']} of {latent} factors at work, evidence ≥ {b['evidence_bound']:.6f} nats per "
            f"row with the parameters integrated out, log p(x) at their posterior means {b['at_posterior_means']:.6f} "
            f"({b['iterations']:,} iterations, {b['seconds']:.2f} s).".replace(" -", " −"),
            "",
        ]
    notes = [
        "Nats per row; log p(x) = L + KL(q ‖ p(z | x)), all three exact. Steps are iterations, for SVI epochs.",
        "EM and SVI with a full covariance have the exact posterior within reach: KL → 0, and any rotation of W is as good "
        "as any other.",
        "A factorised q is exact only where the precision I + WᵀW/σ² is diagonal. The bound pays the KL, so variational EM "
        "and mean-field SVI turn W until its columns are orthogonal: the same maximum, with axes of its own.",
        "The last column but two is the KL of the best factorised q at each method's model: ½[Σⱼ ln Mⱼⱼ − ln |M|].",
    ]
    return "\n".join(lines + [f"- {note}" for note in notes]) + "\n"


def pictures(results, fits: dict[int, dict[str, lfm.Fit]], x, kept, names, args) -> dict:
    figures = {}
    title = "Loadings W: one subspace for all, but only a factorised q chooses its axes"
    for latent, by_method in fits.items():
        histories = {name: r["history"] for name, r in results[str(latent)].items() if name != CLOSED}
        best = results[str(latent)][CLOSED]["log_likelihood"]
        figures[f"bound_and_gap_{latent}"] = plots.bound_and_gap(histories, maximum=best)
        reference = weights(by_method[CLOSED].model)
        shown = {}
        for name, fit in by_method.items():
            shown[name] = torch.zeros(len(kept), latent, dtype=torch.float64)
            shown[name][kept] = matched(weights(fit.model), reference)
        if args.data == "digits":
            figures[f"loadings_{latent}"] = plots.loadings(shown, shape=(8, 8), title=title)
        else:
            shown = {name: value[kept] for name, value in shown.items()}
            figures[f"loadings_{latent}"] = plots.loadings(shown, names=names, title=title)
    first = fits[next(iter(fits))]
    order = first[CLOSED].posterior(x).mean[:, 0].argsort()
    some = x[order[[len(x) // 8, -len(x) // 8]]]  # two rows far apart, but no outliers
    distributions = {}
    for name, fit in first.items():
        if name not in (CLOSED, BAYES):
            distributions[name] = fit.posterior(some), exact_posterior(fit.model, some)
        if name == EM:
            factorised = lfm.FactorisedPosterior(fit.model).known_marginals(lfm.Batch(some))["z"]
            distributions["EM's model, factorised q"] = factorised, distributions[EM][1]
    figures["posteriors"] = plots.posterior_ellipses(distributions, names=["row A", "row B"])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", choices=SETTINGS, default="digits")
    parser.add_argument("--epochs", type=int, help="of SVI")
    parser.add_argument("--quick", action="store_true", help="few epochs, few factors: to see that all works")
    parser.add_argument("--out", help="folder of the results; runs/em_to_backprop_DATA by default")
    args = parser.parse_args()
    setting = SETTINGS[args.data]
    if args.quick:
        setting = replace(setting, latents=(2,), epochs=100)
    if args.epochs:
        setting = replace(setting, epochs=args.epochs)
    out = Path(args.out or f"runs/em_to_backprop_{args.data}")
    out.mkdir(parents=True, exist_ok=True)
    x, kept, names = load(args.data)
    print(f"{args.data}: {len(x):,} rows of {x.shape[1]} columns, standardised\n")
    shown = declare(x.shape[1], setting.latents[0])
    print(lfm.describe(shown, lfm.ExactPosterior(shown)))
    results, fits, bayesian = {}, {}, {}
    for latent in setting.latents:
        results[str(latent)], fits[latent] = run(x, latent, setting)
        bayesian[str(latent)], fits[latent][BAYES] = bayes(x, latent)
    text = table(results, bayesian, args, x)
    (out / "table.md").write_text(text, encoding="utf-8")
    packages = {name: version(name) for name in ("pyro_lfm", "torch", "pyro-ppl", "numpy")}
    settings = {**vars(args), **vars(setting), "rows_of_data": len(x)}
    versions = {**packages, "python": platform.python_version()}
    record = {"settings": settings, "versions": versions, "factors": results, BAYES: bayesian}
    (out / "results.json").write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    for name, figure in pictures(results, fits, x, kept, names, args).items():
        figure.savefig(out / f"{name}.png")
    print(f"\n{text}\nThe table, every number and the pictures are in {out}/")


if __name__ == "__main__":
    main()

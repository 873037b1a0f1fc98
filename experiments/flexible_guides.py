"""How much smaller is the gap of guides richer than a Gaussian? Two models with a known log p(x).

    python experiments/flexible_guides.py
    python experiments/flexible_guides.py --seed 1

Correlated: p(z) = N(0, I), p(x | z) = N(W z, Ψ), Ψ diagonal, all held, so that log p(x) is known, and so is the smallest
gap of a mean-field guide: ½[Σ ln Mⱼⱼ − ln |M|] with M = I + WᵀΨ⁻¹W.

Two modes: z ~ N(0, 1), x | z ~ N(z², σ²): a row does not determine the sign of z. log p(x) and every bound follow by numeric
integration. A distribution with one mode has a gap of ln 2 where the two modes are apart.

Writes table.md, results.json and two-modes.png into the folder named by --out.
"""

import argparse
import importlib.util
import json
import math
import platform
import time
from importlib.metadata import version
from pathlib import Path

import torch

import pyro_lfm as lfm
from pyro_lfm import plots

LATENT, FEATURES, ROWS = 4, 8, 100
VARIANCE = 0.16  # of x given z, in the model of two modes
SHOWN = (0.4, 1.5, 3.0)  # the rows in the picture
LEAST, MOST, POINTS = -4.0, 4.0, 2001  # the grid of the integrals


class Square(torch.nn.Module):
    """z ↦ z², without parameters: a module is a source as it is."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z.square()


def correlated(seed: int) -> tuple[lfm.Model, torch.Tensor, float]:
    """A model with its parameters held, rows drawn from it, and the gap of the best mean-field guide."""
    options = {"generator": torch.Generator().manual_seed(seed), "dtype": torch.float64}
    weight = torch.randn(FEATURES, LATENT, **options) + torch.randn(FEATURES, 1, **options)
    noise = 0.3 + torch.rand(FEATURES, **options)
    mean = lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(0.0))
    x = lfm.Gaussian(FEATURES, mean=mean, covariance=lfm.Diagonal(lfm.Fixed(noise)))
    model = lfm.Model(z=lfm.StandardNormal(LATENT), x=x).double()
    precision = torch.eye(LATENT, dtype=torch.float64) + weight.T @ (weight / noise[:, None])
    least = 0.5 * float(precision.diagonal().log().sum() - torch.logdet(precision))
    return model, model.sample(ROWS, seed=seed)["x"], least


def two_modes() -> tuple[lfm.Model, torch.Tensor]:
    x = lfm.Gaussian(1, mean=Square(), covariance=lfm.Isotropic(lfm.Fixed(VARIANCE)))
    model = lfm.Model(z=lfm.StandardNormal(1), x=x).double()
    return model, torch.linspace(0.0, 4.0, 100, dtype=torch.float64)[:, None]


# Every guide of the comparison is one line here.


def guides_of_correlated() -> dict[str, lfm.Factor]:
    mean = lfm.Linear()
    by_guide = {
        "mean field": lfm.Gaussian(mean=mean, covariance=lfm.Diagonal()),
        "full covariance": lfm.Gaussian(mean=mean, covariance=lfm.Full()),
        "inverse autoregressive flow": lfm.Flow(loc=mean, flow=lfm.InverseAutoregressive(layers=1)),
        "neural spline flow": lfm.Flow(loc=mean, flow=lfm.NeuralSpline(layers=1)),
    }
    if importlib.util.find_spec("zuko"):
        by_guide["zuko's NSF"] = lfm.Flow(loc=mean, flow=lfm.Zuko("NSF", {"transforms": 1}))
    return by_guide


def guides_of_two_modes() -> dict[str, lfm.Factor]:
    network = lfm.MLP(32, activation="tanh")
    by_guide = {
        "Gaussian": lfm.Gaussian(network=network),
        "mixture of two Gaussians": lfm.MixtureOfGaussians(components=2, network=network),
        "neural spline flow": lfm.Flow(flow=lfm.NeuralSpline(layers=1, bins=16), network=network),
    }
    if importlib.util.find_spec("zuko"):
        by_guide["zuko's NSF"] = lfm.Flow(
            flow=lfm.Zuko("NSF", {"transforms": 1, "bins": 16}), network=network
        )
    return by_guide


def cosine(done: float) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * done)


def falling(done: float) -> float:
    """A weight of the KL that falls from 30 to 1: q stays as wide as the prior until it covers both modes.

    The Gaussian, which can have only one mode, has a weight of 1 throughout: between the modes it would reach neither.
    """
    return max(1.0, 30 ** (1 - 2 * done))


def fit_one(model, factor, x, objective, args, steps: int, rate: float) -> tuple[lfm.Fit, float]:
    torch.manual_seed(args.seed)
    guide = lfm.Guide(model, z=factor)
    budget = {"steps": 40 if args.quick else steps, "batch_size": len(x), "learning_rate": rate}
    began = time.perf_counter()
    inference = lfm.SVI(guide, objective=objective, schedule=cosine, engine="eager", **budget)
    fit = lfm.fit(model, x, inference, seed=args.seed, progress=False)
    return fit, time.perf_counter() - began


# What is measured ----------------------------------------------------------------------------------------


def measure_correlated(args) -> dict:
    """Gaps over all rows, from draws. log p(x) is the bound of the exact posterior for every draw."""
    model, x, least = correlated(args.seed)
    exact = lfm.ELBO(kl="monte-carlo").bound(model, lfm.ExactPosterior(model), lfm.Batch(x)).per_row
    by_guide = {}
    for name, factor in guides_of_correlated().items():
        objective = lfm.ELBO(gradient="sticking-the-landing", particles=2)
        fit, seconds = fit_one(model, factor, x, objective, args, steps=1500, rate=0.03)
        torch.manual_seed(args.seed)
        with torch.no_grad():
            draws = lfm.ELBO(particles=200, kl="monte-carlo").bound(model, fit.guide, lfm.Batch(x)).per_row
        gaps = exact.detach() - draws
        error = float(gaps.std()) / math.sqrt(len(gaps))
        by_guide[name] = {"gap": float(gaps.mean()), "error": error, "seconds": seconds}
        print(f"  {name}: gap {by_guide[name]['gap']:.4f} ± {error:.4f} nats per row", flush=True)
    return {"least_of_mean_field": least, "guides": by_guide}


def grid() -> tuple[torch.Tensor, float]:
    points = torch.linspace(LEAST, MOST, POINTS, dtype=torch.float64)
    return points, (MOST - LEAST) / (POINTS - 1)


def densities(distribution, rows: int) -> torch.Tensor:
    """log q at every point of the grid for every row, (points, rows)."""
    with torch.no_grad():
        blocks = grid()[0][:, None, None].expand(-1, rows, 1).split(200)
        return torch.cat([distribution.log_prob(block) for block in blocks])


def joint_of(model: lfm.Model, x: torch.Tensor) -> torch.Tensor:
    """log p(x, z) at every point of the grid for every row, (points, rows)."""
    z = grid()[0][:, None, None]
    with torch.no_grad():
        return model.factors["z"]().log_prob(z) + model.factors["x"](z).log_prob(x)


def measure_two_modes(args) -> tuple[dict, dict[str, lfm.Fit]]:
    model, x = two_modes()
    points, step = grid()
    joint = joint_of(model, x)
    exact = joint.logsumexp(0) + math.log(step)
    by_guide, fits = {}, {}
    apart = x[:, 0] > 1.5  # rows whose modes are apart
    for name, factor in guides_of_two_modes().items():
        objective = lfm.ELBO(particles=8, kl_weight=1.0 if isinstance(factor, lfm.Gaussian) else falling)
        fits[name], seconds = fit_one(model, factor, x, objective, args, steps=3000, rate=0.01)
        log_q = densities(fits[name].posterior(x), len(x))
        q = log_q.exp()
        gaps = exact - torch.where(q > 0, q * (joint - log_q), 0.0).sum(0) * step
        right = (q * (points > 0)[:, None]).sum(0) * step
        by_guide[name] = {
            "gap": float(gaps.mean()),
            "gap_of_two_modes": float(gaps[apart].mean()),
            "least_mass_of_a_mode": float(torch.minimum(right, 1 - right)[apart].min()),
            "seconds": seconds,
        }
        print("  {}: gap {gap:.4f} nats per row".format(name, **by_guide[name]), flush=True)
    return {"guides": by_guide}, fits


def table(one: dict, two: dict, args) -> str:
    lines = [
        "# Guides richer than a Gaussian",
        "",
        f"{LATENT} correlated factors; the best mean field loses {one['least_of_mean_field']:.4f}:",
        "",
    ]
    lines += ["| guide | gap | of mean field's | time |", "| --- | ---: | ---: | ---: |"]
    for name, r in one["guides"].items():
        share = 100 * r["gap"] / one["least_of_mean_field"]
        lines.append(f"| {name} | {r['gap']:.4f} ± {r['error']:.4f} | {share:.1f}% | {r['seconds']:.0f} s |")
    lines += [
        "",
        "Two modes; a distribution with one loses ln 2 = 0.6931 where they are apart (x > 1.5):",
        "",
    ]
    lines += ["| guide | gap | where modes are apart | least mass of a mode | time |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    for name, r in two["guides"].items():
        cells = [f"{r['gap']:.4f}", f"{r['gap_of_two_modes']:.4f}", f"{100 * r['least_mass_of_a_mode']:.0f}%"]
        lines.append(f"| {name} | {' | '.join(cells)} | {r['seconds']:.0f} s |")
    notes = [
        "The gap is log p(x) − L, nats per row, means over all rows. Above ± is one standard error over the rows, of 200 "
        "draws each; below, both are integrated numerically.",
        f"Every guide of a model has the same number of steps; seed {args.seed}.",
    ]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def picture(fits: dict[str, lfm.Fit]):
    """The posterior of a few rows by integration, grey, and each guide's density over it."""
    model, _ = two_modes()
    x = torch.tensor(SHOWN, dtype=torch.float64)[:, None]
    points, step = grid()
    joint = joint_of(model, x)
    exact = (joint - joint.logsumexp(0)).exp() / step
    heights = {name: densities(fit.posterior(x), len(x)).exp() for name, fit in fits.items()}
    rows = [f"x = {value:g}" for value in SHOWN]
    return plots.densities(heights, points, exact=exact, rows=rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of the models, the starts and the draws")
    parser.add_argument("--quick", action="store_true", help="few steps: to see that all works")
    parser.add_argument("--out", help="folder of the results; runs/flexible_guides by default")
    args = parser.parse_args()
    out = Path(args.out or "runs/flexible_guides")
    out.mkdir(parents=True, exist_ok=True)
    print("Correlated factors")
    one = measure_correlated(args)
    print("\nTwo modes")
    two, fits = measure_two_modes(args)
    text = table(one, two, args)
    (out / "table.md").write_text(text, encoding="utf-8")
    packages = {name: version(name) for name in ("pyro_lfm", "torch", "pyro-ppl")}
    record = {
        "settings": vars(args),
        "versions": {**packages, "python": platform.python_version()},
        "correlated": one,
        "two_modes": two,
    }
    (out / "results.json").write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    picture(fits).savefig(out / "two-modes.png")
    print(f"\n{text}\nThe table, every number and the picture are in {out}/")


if __name__ == "__main__":
    main()

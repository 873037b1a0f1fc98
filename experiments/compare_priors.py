"""How much does the prior matter? One deep model of binarised pictures of clothes, fitted under several priors.

    python experiments/compare_priors.py --epochs 30

The model is Bernoulli pixels with a network 40 → 300 → 300 → 784, the guide a Gaussian with a network the other way
round, as in Tomczak and Welling (2018), "VAE with a VampPrior". Pictures are binarised dynamically: every time a row is
read, each pixel is 1 with the probability of its grey. All priors get the same networks, the same initial weights and
the same epochs. What is reported is log p(x) of held-out pictures, binarised once, by importance weighting.

Writes table.md and results.json, and draws from each prior, into the folder named by --out.
"""

import argparse
import json
import math
from pathlib import Path

import torch

import pyro_lfm as lfm
from pyro_lfm import plots


class Binarised(torch.utils.data.Dataset):
    """Grey pictures whose pixels are drawn anew at every reading."""

    def __init__(self, greys: torch.Tensor, seed: int):
        self.greys, self.noise = greys, torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.greys)

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.bernoulli(self.greys[row], generator=self.noise)


def declare_priors(latent: int, components: int, rows: torch.Tensor) -> dict[str, lfm.Factor]:
    return {
        "StandardNormal": lfm.StandardNormal(latent),
        "MixtureOfGaussians": lfm.MixtureOfGaussians(latent, components),
        "VampPrior": lfm.VampPrior(latent, pseudo_inputs=rows[:components]),
        "FlowPrior": lfm.FlowPrior(latent),
    }


def fit_one(prior: lfm.Factor, train: torch.Tensor, args: argparse.Namespace, seed: int) -> lfm.Fit:
    hidden = args.hidden, args.hidden
    # The networks' weights are drawn before the prior's, so that they are the same for all priors.
    torch.manual_seed(seed)
    decoder = lfm.MLP(*hidden)(args.latent, train.shape[1])
    encoder = lfm.MLP(*hidden)(train.shape[1], 2 * args.latent)
    model = lfm.Model(z=prior, x=lfm.Bernoulli(train.shape[1], logits=decoder))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=encoder))
    svi = lfm.SVI(
        guide,
        objective=lfm.ELBO(kl_weight=lambda done: min(1.0, done / 0.3)),
        epochs=args.epochs,
        batch_size=100,
        schedule=lambda done: 0.5 + 0.5 * math.cos(math.pi * done),
    )
    return lfm.fit(model, Binarised(train, seed), svi, seed=seed)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--folder", help="folder of the .gz files of Fashion-MNIST; by default they are downloaded"
    )
    parser.add_argument("--priors", nargs="+", help="some of the priors; all by default")
    parser.add_argument("--latent", type=int, default=40)
    parser.add_argument("--hidden", type=int, default=300)
    parser.add_argument("--components", type=int, default=500, help="of the mixture and of the VampPrior")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rows", type=int, default=60_000, help="rows to learn from")
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=5000, help="of z per held-out row")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="digits, few epochs: to see that all works")
    parser.add_argument("--out", default="runs/priors", help="folder of the results")
    args = parser.parse_args()
    if args.quick:
        args.latent, args.hidden, args.components, args.epochs = 4, 32, 20, 2
        args.rows, args.test_rows, args.draws = 500, 50, 50
    return args


def measured(
    fit: lfm.Fit, estimate: lfm.evaluate.LogLikelihood, first: torch.Tensor, bound: float
) -> dict[str, float]:
    """The numbers of one fit; ``first`` is log p(x) of each row under the first prior."""
    gain = estimate.per_row - first
    return {
        "log_likelihood": estimate.mean,
        "error_of_draws": estimate.mean_error,
        "gain": float(gain.mean()),
        "gain_error": float(gain.std() / len(gain) ** 0.5),
        "bound": bound,
        "training_bound": fit.history[-1]["bound"],
        "seconds": sum(record["seconds"] for record in fit.history),
    }


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Means over seeds, a line for each prior."""
    names = list(results)
    lines = [
        f"| prior | log p(x), held out | over {names[0]} | bound | gap | training bound | fit |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, seeds in results.items():
        mean = {key: sum(one[key] for one in seeds) / len(seeds) for key in seeds[0]}
        gain = "–" if name == names[0] else "{gain:+.2f} ± {gain_error:.2f}".format(**mean)
        lines.append(
            f"| {name} | {mean['log_likelihood']:.2f} | {gain} | {mean['bound']:.2f} | "
            f"{mean['log_likelihood'] - mean['bound']:.2f} | {mean['training_bound']:.2f} | {mean['seconds']:.0f} s |"
        )
    return "\n".join(lines)


def main() -> None:
    args = arguments()
    if args.quick:
        train, test = lfm.data.digits().split(test=0.2, seed=0)
    else:
        train, test = (lfm.data.fashion_mnist(args.folder, train=part) for part in (True, False))
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    greys = train.x[: args.rows]
    held_out = torch.bernoulli(test.x[: args.test_rows], generator=torch.Generator().manual_seed(0))
    pseudo = torch.bernoulli(greys, generator=torch.Generator().manual_seed(1))
    names = args.priors or list(declare_priors(args.latent, args.components, pseudo))
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    draws, rows_of = {}, {}
    for seed in range(args.seeds):
        for name in names:
            print(f"\n{name}, seed {seed}", flush=True)
            torch.manual_seed(seed)
            fit = fit_one(declare_priors(args.latent, args.components, pseudo)[name], greys, args, seed)
            estimate = lfm.evaluate.log_likelihood(fit, held_out, draws=args.draws)
            torch.manual_seed(0)
            bound = float(fit.bound(held_out, draws=20).mean())
            first = rows_of.setdefault(seed, estimate.per_row)
            results[name].append(measured(fit, estimate, first, bound))
            line = "  log p(x) {log_likelihood:.2f}, {gain:+.2f} ± {gain_error:.2f}"
            print(line.format(**results[name][-1]), flush=True)
            if seed == 0:
                draws[name] = fit.model.factors["x"](fit.model.sample(24, seed=3)["z"]).mean
    text = table(results)
    (out / "table.md").write_text(text + "\n", encoding="utf-8")
    record = {"settings": vars(args), "priors": results}
    (out / "results.json").write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    figure = plots.prior_draws(draws, shape=train.shape, title="E[x | z] for z drawn from the prior")
    figure.savefig(out / "draws.png")
    print(
        f"\n{text}\n\nNats per row, {len(greys):,} training rows, {len(held_out):,} held out, {args.epochs} epochs in "
        f"batches of 100, {args.seeds} seed{'s' * (args.seeds > 1)}. log p(x) by importance weighting with {args.draws} "
        "draws; ± one standard error of the difference, paired by row."
    )


if __name__ == "__main__":
    main()

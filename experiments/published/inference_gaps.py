"""Why is the bound of a variational autoencoder loose: because of the family of its guide, or of its encoder?

    python experiments/published/inference_gaps.py            # hours
    python experiments/published/inference_gaps.py --short    # minutes

The protocol of Cremer, Li and Duvenaud (2018), "Inference suboptimality in variational autoencoders", at a smaller scale:
Fashion-MNIST thresholded at 0.5, 50 factors with a standard normal prior, a Bernoulli likelihood, encoder and decoder of
two hidden layers of 200 ELUs, a Gaussian guide with a diagonal covariance, the weight of the KL raised over the first
part of the training. Of rows that were trained on: log p(x), by importance sampling and by annealing, whichever is
larger on average (both lie below it); L[q*], the same family optimised for each row alone; L[q], the encoder's.

The error of annealing is bounded by rows simulated from the trained model, whose log p(x) is bounded from both sides.
Writes table.md, results.json and a picture of the gaps into the folder named by --out.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure
from protocol import forms, records

import pyro_lfm as lfm

# Table 2 of the publication for this guide, recalled and not verified.
PUBLISHED = {"log p(x)": -97.47, "L[q]": -104.75, "approximation": 3.06, "amortization": 4.22}


def declare(args: argparse.Namespace, covariance: lfm.Covariance, pixels: int) -> tuple[lfm.Model, lfm.Guide]:
    torch.manual_seed(args.seed)
    hidden = lfm.MLP(args.hidden, args.hidden, activation="elu")
    model = lfm.Model(z=lfm.StandardNormal(args.latent), x=lfm.Bernoulli(pixels, logits=hidden))
    return model, lfm.Guide(model, z=lfm.Gaussian(covariance=covariance, network=hidden))


def train(model: lfm.Model, guide: lfm.Guide, x: torch.Tensor, args: argparse.Namespace) -> lfm.Fit:
    objective = lfm.ELBO(kl_weight=lambda done: min(1.0, done / 0.12))
    svi = lfm.SVI(
        guide,
        objective=objective,
        epochs=args.epochs,
        batch_size=100,
        learning_rate=1e-3,
        # From 1e-3 down to 1e-4, as there.
        schedule=lambda done: 10.0**-done,
    )
    return lfm.fit(model, x, svi, seed=args.seed)


def mean(values: torch.Tensor, errors: torch.Tensor) -> tuple[float, float]:
    """The mean over rows, with its error from the draws."""
    return float(values.mean()), float(errors.square().sum().sqrt() / len(errors))


def measure(fit: lfm.Fit, x: torch.Tensor, args: argparse.Namespace) -> dict:
    """The numbers of one fit, each with its error, and their cost in seconds."""
    seconds = {}

    def timed(name, function):
        began = time.perf_counter()
        result = function()
        seconds[name] = round(time.perf_counter() - began, 1)
        print(f"{name}, {seconds[name]} s\n{result}\n", flush=True)
        return result

    annealing = lfm.evaluate.Annealing(temperatures=args.temperatures)
    importance = timed("importance", lambda: lfm.evaluate.log_likelihood(fit, x, draws=args.draws))
    annealed = timed(
        "annealed",
        lambda: lfm.evaluate.log_likelihood(
            fit, x, draws=args.chains, method="annealed", annealing=annealing
        ),
    )
    best = max(importance, annealed, key=lambda result: result.mean)
    gaps = timed(
        "gaps",
        lambda: lfm.evaluate.gaps(
            fit, x, draws=args.draws, steps=args.steps, learning_rate=0.05, log_likelihood=best
        ),
    )
    between = timed(
        "sandwich",
        lambda: lfm.evaluate.sandwich(fit, rows=args.simulated, draws=args.chains, annealing=annealing),
    )
    return {
        "log p(x)": mean(best.per_row, best.standard_error),
        **{name: gaps.means[name] for name in ("L[q*]", "L[q]", "approximation", "amortization")},
        "importance": mean(importance.per_row, importance.standard_error),
        "annealed": mean(annealed.per_row, annealed.standard_error),
        "rows with k above 0.7": int(importance.unreliable.sum()),
        "simulated rows": {
            "lower": mean(between.lower, between.lower_error),
            "upper": mean(between.upper, between.upper_error),
            "gap": (between.gap, between.gap_error),
            "width": between.width,
            "interval": between.interval,
        },
        "seconds": seconds,
        "rows": {"approximation": gaps.approximation.tolist(), "amortization": gaps.amortization.tolist()},
    }


def table(results: dict[str, dict], args: argparse.Namespace) -> str:
    names = ["log p(x)", "L[q*]", "L[q]", "approximation", "amortization"]
    lines = ["| guide | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for guide, result in results.items():
        cells = [f"{result[name][0]:.2f} ± {result[name][1]:.3f}" for name in names]
        lines.append(f"| {guide} | " + " | ".join(cells) + " |")
    star = PUBLISHED["log p(x)"] - PUBLISHED["approximation"]
    cells = [f"{PUBLISHED.get(name, star):.2f}" for name in names]
    lines.append("| published, mean-field (recalled, not verified) | " + " | ".join(cells) + " |")
    notes = [
        "",
        f"Nats per row over {args.rows:,} of the {args.train_rows:,} rows trained on; ± is the error from the draws, "
        "and of q* what its optimisation has left. "
        f"{args.latent} factors, {args.epochs} epochs, seed {args.seed}. "
        f"q*: legs of {args.steps} steps of Adam for each row.",
    ]
    for guide, result in results.items():
        between, bad = result["simulated rows"], result["rows with k above 0.7"]
        notes.append(
            f"{guide}: log p(x) by importance sampling, {args.draws:,} draws, {result['importance'][0]:.2f} (k above its "
            f"limit in {bad} rows), by annealing, {args.chains} chains and {args.temperatures} temperatures, "
            f"{result['annealed'][0]:.2f}. {args.simulated} simulated rows, the same annealing: their mean log p(x) lies "
            f"between {between['interval'][0]:.2f} and {between['interval'][1]:.2f} (bounds apart by "
            f"{between['gap'][0]:.3f} ± {between['gap'][1]:.3f})."
        )
    return "\n".join(lines + notes)


def picture(results: dict[str, dict]) -> Figure:
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots(1, len(results), squeeze=False, sharey=True)[0]
    every = [value for result in results.values() for rows in result["rows"].values() for value in rows]
    bins = torch.linspace(min(every), max(every), 61).tolist()
    for ax, (guide, result) in zip(axes, results.items(), strict=True):
        for name, colour in (("approximation", "#0072b2"), ("amortization", "#d55e00")):
            ax.hist(result["rows"][name], bins=bins, alpha=0.6, color=colour, label=f"{name} gap")
        ax.set_title(f"Where the nats are lost, row by row:\n{guide} guide", loc="left", fontsize=10)
        ax.set_xlabel("nats")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("rows")
    axes[0].legend(frameon=False)
    return figure


def main() -> None:
    parser = forms.parser(
        __doc__,
        short="5,000 rows, 30 epochs, the gaps of 100 rows",
        quick="digits, few rows, small networks: to see that all works",
        out="runs/inference_gaps",
    )
    parser.add_argument("--folder", help="where the .gz files of Fashion-MNIST are")
    parser.add_argument("--guides", nargs="+", choices=["mean-field", "full"], default=["mean-field"])
    parser.add_argument("--latent", type=int, default=50)
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--rows", type=int, default=1000, help="of which the gaps are measured")
    parser.add_argument("--draws", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=400, help="of Adam in each leg for the q* of a row")
    parser.add_argument("--chains", type=int, default=32)
    parser.add_argument("--temperatures", type=int, default=200)
    parser.add_argument("--simulated", type=int, default=100, help="rows that are sandwiched")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.train_rows = 60_000
    form = forms.form_of(args)
    if args.short:
        args.train_rows, args.rows, args.epochs, args.draws = 5000, 100, 30, 1000
        args.steps, args.temperatures, args.chains, args.simulated = 100, 50, 16, 20
    if args.quick:
        args.train_rows, args.rows, args.hidden, args.latent, args.epochs = 500, 20, 16, 4, 8
        args.draws, args.steps, args.temperatures, args.simulated = 200, 20, 10, 10
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    pictures = lfm.data.digits() if args.quick else lfm.data.fashion_mnist(args.folder)
    x = (pictures.x[: args.train_rows] > 0.5).float()
    picked = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[: args.rows]
    covariances = {"mean-field": lfm.Diagonal(), "full": lfm.Full()}
    results = {}
    for name in args.guides:
        began = time.perf_counter()
        model, guide = declare(args, covariances[name], x.shape[1])
        fit = train(model, guide, x, args)
        print(f"{name}: trained in {time.perf_counter() - began:.0f} s\n", flush=True)
        results[name] = measure(fit, x[picked], args)
        results[name]["seconds"]["training"] = round(sum(record["seconds"] for record in fit.history), 1)
    text = table(results, args)
    (out / "table.md").write_text(text + "\n", encoding="utf-8")
    settings = {name: value for name, value in vars(args).items() if name not in ("folder", "out", "store")}
    record = {"form": form, "settings": settings, "guides": results}
    record["published, recalled"] = PUBLISHED
    if not all(math.isfinite(value) for result in results.values() for value in result["log p(x)"]):
        raise SystemExit("some figure is not finite: see results.json")
    (out / "results.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    if args.store:
        without_rows = {
            guide: {k: v for k, v in result.items() if k != "rows"} for guide, result in results.items()
        }
        records.write({**record, "guides": without_rows}, out, f"inference_gaps-{form}", store=True)
    picture(results).savefig(out / "gaps.png", dpi=110)
    print(text)


if __name__ == "__main__":
    main()

"""Do rows without labels help a classifier? Digits of which a hundred have labels.

    python experiments/few_labels.py --seeds 5

In the model a picture x depends on its digit y and its style z, p(y) p(z) p(x | y, z), as in M2 of Kingma et al. (2014),
"Semi-supervised learning with deep generative models". y is known for a hundred rows. For the others it is summed out under
the guide's q(y | x), which is the classifier. Its rivals are logistic regressions on the same hundred labels, with a penalty
chosen by cross-validation, of the pixels, and of the factors of a model that was fitted to all rows without labels.

Pixels are counts 0..16, each with a binomial distribution. Everything is measured on held-out rows.
Writes table.md, results.json and pictures of every digit in the same styles into the folder named by --out.
"""

import argparse
import json
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pyro_lfm as lfm
from pyro_lfm import plots

CLASSIFIERS = ["M2", "logistic regression of pixels", "logistic regression of factors"]


def hide(labels: torch.Tensor, keep: int, seed: int) -> torch.Tensor:
    """Labels with all but ``keep`` replaced by NaN, the kept ones as evenly over the digits as possible."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    rank = torch.zeros(len(labels), dtype=torch.long)
    for digit in labels.unique():
        rows = order[labels[order] == digit]
        rank[rows] = torch.arange(len(rows))
    kept = order[torch.argsort(rank[order], stable=True)][:keep]
    hidden = torch.full((len(labels),), torch.nan)
    hidden[kept] = labels[kept].float()
    return hidden


def semi_supervised(x: torch.Tensor, labels: torch.Tensor, args: argparse.Namespace, seed: int) -> lfm.Fit:
    torch.manual_seed(seed)
    hidden = lfm.MLP(args.hidden)
    model = lfm.Model(
        y=lfm.Categorical(10, logits=lfm.Fixed(0.0)),
        z=lfm.StandardNormal(args.latent),
        x=lfm.Binomial(x.shape[1], total_count=16, logits=hidden, given=("y", "z")),
    )
    guide = lfm.Guide(
        model,
        y=lfm.Categorical(logits=lfm.MLP(args.hidden, dropout=0.5), given="x"),
        z=lfm.Gaussian(network=hidden, given=("x", "y")),
    )
    supervised = lfm.Supervised(weight=args.weight * len(x))
    svi = lfm.SVI(guide, objective=lfm.Penalised(lfm.ELBO(), supervised), epochs=args.epochs, batch_size=100)
    return lfm.fit(model, {"x": x, "y": labels}, svi, seed=seed, progress=False)


def without_labels(x: torch.Tensor, args: argparse.Namespace, seed: int) -> lfm.Fit:
    torch.manual_seed(seed)
    hidden = lfm.MLP(args.hidden)
    model = lfm.Model(
        z=lfm.StandardNormal(args.latent), x=lfm.Binomial(x.shape[1], total_count=16, logits=hidden)
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=hidden))
    return lfm.fit(model, x, lfm.SVI(guide, epochs=args.epochs, batch_size=100), seed=seed, progress=False)


def regression(x: torch.Tensor, labels: torch.Tensor, test: torch.Tensor, truth: torch.Tensor) -> float:
    """Accuracy of logistic regression on the rows whose labels are known."""
    known = ~labels.isnan()
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    classifier = GridSearchCV(pipeline, {"logisticregression__C": [10.0**k for k in range(-4, 4)]}, cv=5)
    classifier.fit(x[known].numpy(), labels[known].numpy())
    return float(classifier.score(test.numpy(), truth.numpy()))


def picture(fit: lfm.Fit, rows: torch.Tensor, shape: tuple[int, ...]):
    """Every digit in the styles of some rows."""
    styles = fit.posterior({"x": rows})["z"].mean
    pictures = {
        str(digit): fit.model.factors["x"](torch.full((len(rows),), digit), styles).mean / 16
        for digit in range(10)
    }
    return plots.prior_draws(
        pictures, shape=shape, title="The styles of twelve held-out rows, in every digit"
    )


def table(accuracy: dict[str, list[float]], labels: str) -> str:
    """Mean accuracies over seeds, and their gains over the regression of pixels."""
    lines = [f"| {labels} | accuracy, held out | against the regression of pixels |", "|---|---:|---:|"]
    base = torch.tensor(accuracy[CLASSIFIERS[1]])
    for name, values in accuracy.items():
        scores = torch.tensor(values)
        spread = f" ± {scores.std():.3f}" if len(scores) > 1 else ""
        better = f"{(scores - base).mean():+.3f}, better in {int((scores > base).sum())} of {len(scores)}"
        lines.append(
            f"| {name} | {scores.mean():.3f}{spread} | {'–' if name == CLASSIFIERS[1] else better} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--latent", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--weight", type=float, default=0.1, help="of the labels, per row of data")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed, few epochs: to see that all works")
    parser.add_argument("--out", default="runs/few_labels", help="folder of the results")
    args = parser.parse_args()
    if args.quick:
        args.hidden, args.epochs, args.seeds = 32, 20, 1
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    accuracy: dict[str, list[float]] = {name: [] for name in CLASSIFIERS}
    for seed in range(args.seeds):
        train, test = lfm.data.digits().split(test=0.2, seed=seed)
        x, held_out = ((part.x * 16).round() for part in (train, test))
        labels = hide(train.y, args.labels, seed)
        fit = semi_supervised(x, labels, args, seed)
        predicted = fit.posterior({"x": held_out})["y"].probs.argmax(-1)
        factors = without_labels(x, args, seed)
        features = [factors.posterior(rows).mean.detach() for rows in (x, held_out)]
        for name, score in zip(
            CLASSIFIERS,
            (
                float((predicted == test.y).float().mean()),
                regression(x, labels, held_out, test.y),
                regression(features[0], labels, features[1], test.y),
            ),
            strict=True,
        ):
            accuracy[name].append(score)
        scores = ", ".join(f"{name} {values[-1]:.3f}" for name, values in accuracy.items())
        print(f"seed {seed}: {scores}", flush=True)
        if seed == 0:
            picture(fit, held_out[:12], train.shape).savefig(out / "styles.png")
    text = table(accuracy, f"{args.labels} labels of {len(x):,} rows")
    (out / "table.md").write_text(text + "\n", encoding="utf-8")
    record = {"settings": vars(args), "accuracy": accuracy}
    (out / "results.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(
        f"\n{text}\n\nMean ± standard deviation over {args.seeds} seeds, each with a split and labels of its own."
    )


if __name__ == "__main__":
    main()

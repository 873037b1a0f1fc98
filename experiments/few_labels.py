"""How many labels does a classifier need, and do rows without labels help it?

    python experiments/few_labels.py                       # digits
    python experiments/few_labels.py --data fashion-mnist  # 5,000 pictures of clothes

A few rows have labels. The same classifier, a logistic regression whose penalty is chosen by cross-validation of these rows,
reads four representations of a row: its pixels, its principal components, the factors of a factor analysis, and the factors
of a deep model. The last three are learned from all rows without labels, with equally many factors. The labelled rows are
the same for all.

The fifth way is semi-supervised. A picture x depends on its class y and its style z, p(y) p(z) p(x | y, z), as in M2 of
Kingma et al. (2014), "Semi-supervised learning with deep generative models". y is summed out in rows without a label, under
the guide's q(y | x), which is the classifier.

Pixels are counts 0..16 (digits), each with a binomial distribution, or thresholded at one half (Fashion-MNIST), each with a
Bernoulli distribution. Accuracies are those of held-out rows. Writes results.json, table.md, a picture of the accuracies and
one of every class in the same styles into the folder named by --out.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

import pyro_lfm as lfm
from pyro_lfm import plots

CLASSIFIERS = ["pixels", "PCA", "FA", "deep factors", "semi-supervised"]


@dataclass(frozen=True)
class Pictures:
    """Rows to learn from and rows held out, with their classes; ``levels`` is the largest value of a pixel."""

    x: torch.Tensor
    y: torch.Tensor
    held_out: torch.Tensor
    truth: torch.Tensor
    shape: tuple[int, ...]
    levels: int


def pictures(args: argparse.Namespace, seed: int) -> Pictures:
    if args.data == "digits":
        train, test = lfm.data.digits().split(test=0.2, seed=seed)
        x, held_out = ((part.x * 16).round() for part in (train, test))
        return Pictures(x, train.y, held_out, test.y, train.shape, 16)
    train, test = (lfm.data.fashion_mnist(args.folder, train=part) for part in (True, False))
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[: args.rows]
    x, held_out = (train.x[rows] > 0.5).float(), (test.x[: args.rows] > 0.5).float()
    return Pictures(x, train.y[rows], held_out, test.y[: args.rows], train.shape, 1)


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


def likelihood(data: Pictures, given: tuple[str, ...] | None, network: lfm.MLP) -> lfm.Factor:
    if data.levels == 1:
        return lfm.Bernoulli(data.x.shape[1], logits=network, given=given)
    return lfm.Binomial(data.x.shape[1], total_count=data.levels, logits=network, given=given)


def semi_supervised(data: Pictures, labels: torch.Tensor, args: argparse.Namespace, seed: int) -> lfm.Fit:
    torch.manual_seed(seed)
    hidden = lfm.MLP(args.hidden)
    model = lfm.Model(
        y=lfm.Categorical(10, logits=lfm.Fixed(0.0)),
        z=lfm.StandardNormal(args.latent),
        x=likelihood(data, ("y", "z"), hidden),
    )
    guide = lfm.Guide(
        model,
        y=lfm.Categorical(logits=lfm.MLP(args.hidden, dropout=0.5), given="x"),
        z=lfm.Gaussian(network=hidden, given=("x", "y")),
    )
    supervised = lfm.Supervised(weight=args.weight * len(data.x))
    svi = lfm.SVI(guide, objective=lfm.Penalised(lfm.ELBO(), supervised), epochs=args.epochs, batch_size=100)
    return lfm.fit(model, {"x": data.x, "y": labels}, svi, seed=seed, progress=False)


def without_labels(data: Pictures, args: argparse.Namespace, seed: int) -> lfm.Fit:
    torch.manual_seed(seed)
    hidden = lfm.MLP(args.hidden)
    model = lfm.Model(z=lfm.StandardNormal(args.latent), x=likelihood(data, None, hidden))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=hidden))
    svi = lfm.SVI(guide, epochs=args.epochs, batch_size=100)
    return lfm.fit(model, data.x, svi, seed=seed, progress=False)


def representations(
    data: Pictures, args: argparse.Namespace, seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Train and held-out rows by name. Nothing here has seen a label."""
    fit = without_labels(data, args, seed)
    codes = {"pixels": (data.x.numpy(), data.held_out.numpy())}
    for name, method in (("PCA", PCA), ("FA", FactorAnalysis)):
        linear = method(n_components=args.latent, random_state=seed).fit(data.x.numpy())
        codes[name] = linear.transform(data.x.numpy()), linear.transform(data.held_out.numpy())
    deep = [fit.posterior(rows).mean.detach().numpy() for rows in (data.x, data.held_out)]
    return {**codes, "deep factors": (deep[0], deep[1])}


def regression(train: np.ndarray, labels: torch.Tensor, test: np.ndarray, truth: torch.Tensor) -> float:
    """Accuracy of logistic regression on the rows whose labels are known. Columns are standardised by all rows."""
    known = (~labels.isnan()).numpy()
    scale = StandardScaler().fit(train)
    folds = max(2, min(5, int(np.unique(labels[known], return_counts=True)[1].min())))
    strengths = {"C": [10.0**k for k in range(-4, 3)]}
    classifier = GridSearchCV(LogisticRegression(max_iter=2000), strengths, cv=folds)
    classifier.fit(scale.transform(train[known]), labels[known].numpy())
    return float(classifier.score(scale.transform(test), truth.numpy()))


def accuracies(data: Pictures, args: argparse.Namespace, seed: int, out: Path) -> dict[int, dict[str, float]]:
    """The accuracy of every method, for every number of labels."""
    codes, accuracy = representations(data, args, seed), {}
    for count in args.counts:
        labels = hide(data.y, count, seed)
        accuracy[count] = {
            name: regression(train, labels, test, data.truth) for name, (train, test) in codes.items()
        }
        fit = semi_supervised(data, labels, args, seed)
        predicted = fit.posterior({"x": data.held_out})["y"].probs.argmax(-1)
        accuracy[count]["semi-supervised"] = float((predicted == data.truth).float().mean())
        scores = ", ".join(f"{name} {value:.3f}" for name, value in accuracy[count].items())
        print(f"seed {seed}, {count} labels: {scores}", flush=True)
    if seed == 0:
        styles(fit, data).savefig(out / "styles.png")
    return accuracy


def styles(fit: lfm.Fit, data: Pictures) -> Figure:
    """Every class in the styles of some rows."""
    rows = data.held_out[:12]
    style = fit.posterior({"x": rows})["z"].mean
    pictures = {
        str(label): fit.model.factors["x"](torch.full((len(rows),), label), style).mean / data.levels
        for label in range(10)
    }
    return plots.prior_draws(
        pictures, shape=data.shape, title="The styles of twelve held-out rows, in every class"
    )


def curves(accuracy: dict[str, dict[str, list[float]]]) -> Figure:
    """Accuracy against the number of labels."""
    figure = Figure(figsize=(6, 3.8), dpi=150, layout="constrained", facecolor="white")
    ax = figure.subplots()
    counts = [int(count) for count in accuracy]
    colours = ("#767676", "#0072B2", "#56B4E9", "#009E73", "#D55E00")
    for name, colour in zip(CLASSIFIERS, colours, strict=True):
        scores = np.array([by_name[name] for by_name in accuracy.values()])
        ax.plot(counts, scores.mean(1), "o-", color=colour, label=name, ms=4)
        ax.fill_between(counts, scores.min(1), scores.max(1), color=colour, alpha=0.15, lw=0)
    ax.set_xscale("log")
    ax.set_xticks(counts, [f"{count:,}" for count in counts])
    ax.minorticks_off()
    ax.set_xlabel("labelled rows", fontsize=11)
    ax.set_ylabel("accuracy on held-out rows", fontsize=11)
    ax.tick_params(labelsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=10)
    return figure


def table(accuracy: dict[str, dict[str, list[float]]]) -> str:
    """Mean accuracies over seeds ± their standard deviation."""
    lines = ["| labels | " + " | ".join(CLASSIFIERS) + " |", "|---:|" + "---:|" * len(CLASSIFIERS)]
    for count, by_name in accuracy.items():
        cells = []
        for name in CLASSIFIERS:
            scores = np.array(by_name[name])
            spread = f" ± {scores.std(ddof=1):.3f}" if len(scores) > 1 else ""
            cells.append(f"{scores.mean():.3f}{spread}")
        lines.append(f"| {int(count):,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", choices=["digits", "fashion-mnist"], default="digits")
    parser.add_argument("--folder", help="folder of the .gz files of Fashion-MNIST")
    parser.add_argument("--rows", type=int, default=5000, help="of Fashion-MNIST, to learn from and held out")
    parser.add_argument("--counts", type=int, nargs="+", default=[20, 50, 100, 200, 500])
    parser.add_argument("--latent", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--weight", type=float, default=0.1, help="of the labels, per row of data")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed, few epochs: to see that all works")
    parser.add_argument(
        "--store", action="store_true", help="keep figures and pictures for the documentation"
    )
    parser.add_argument("--out", default="runs/few_labels", help="folder of the results")
    args = parser.parse_args()
    if args.quick:
        args.hidden, args.epochs, args.seeds, args.counts = 32, 20, 1, [100]
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    accuracy: dict[str, dict[str, list[float]]] = {
        str(count): {name: [] for name in CLASSIFIERS} for count in args.counts
    }
    for seed in range(args.seeds):
        data = pictures(args, seed)
        for count, by_name in accuracies(data, args, seed, out).items():
            for name, value in by_name.items():
                accuracy[str(count)][name].append(value)
    text = table(accuracy)
    (out / "table.md").write_text(text + "\n", encoding="utf-8")
    kept = ("data", "counts", "latent", "hidden", "weight", "epochs", "seeds")
    settings = {name: getattr(args, name) for name in kept}
    settings |= {"rows": len(data.x), "held_out": len(data.held_out)}
    results = json.dumps({"settings": settings, "accuracy": accuracy}, indent=1)
    (out / "results.json").write_text(results, encoding="utf-8")
    figure = curves(accuracy)
    figure.savefig(out / "accuracy.png")
    if args.store:
        root, name = Path(__file__).parents[1], f"few_labels_{args.data.partition('-')[0]}"
        (root / f"experiments/figures/{name}.json").write_text(results + "\n", encoding="utf-8")
        figure.savefig(root / f"docs/images/{name}.png")
    print(
        f"\n{text}\n\nMean ± standard deviation over {args.seeds} seeds, each with a split and labels of its own."
    )


if __name__ == "__main__":
    main()

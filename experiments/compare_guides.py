"""How much does the guide matter? One deep latent Gaussian model of images, fitted with four guides.

    python experiments/compare_guides.py --data digits
    python experiments/compare_guides.py --data fashion-mnist --epochs 10

The model is p(z) = N(0, I), p(x | z) = N(μ(z), diag σ²(z)) with μ and σ networks of z. Every guide is Gaussian; they
differ in its covariance, and the last one in that it has no network: each row has a mean and a covariance of its own.
All start from the same weights of the model, and of the encoder's hidden layers, and get the same epochs: `lfm.compare`.

Writes table.md, table.tex, results.json and pictures into the folder named by --out.
"""

import argparse
import json
import math
import platform
import warnings
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch

import pyro_lfm as lfm
from pyro_lfm import plots

CLOTHES = "T-shirt trouser pullover dress coat sandal shirt sneaker bag boot".split()
DRAWS = 100  # of z per held-out row, for the bound and for log p(x) by importance weighting
METRICS = [
    "bound", "reconstruction", "kl", "log_likelihood", "gap", "unreliable", "training_bound", "guide_parameters",
    "fit_seconds", "infer_seconds",
]  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """Settings of a data set. `min_scale` is the smallest σ of the likelihood, in units of white − black.

    Without a floor the bound has no meaning: border pixels are always blank, and a density at a constant grows
    without end as σ falls. Digits have 17 grey levels, and one level, 1/16, is the smallest σ that they resolve.
    Fashion-MNIST has 256, but texture is noise to a few factors, and σ below 0.1 would only reward blank borders.
    A Gaussian, not a Bernoulli of binarised pixels: the greys stay, and so does which pixels are uncertain.
    """

    latent: int
    hidden: int
    epochs: int
    batch_size: int
    min_scale: float
    train_rows: int
    test_rows: int
    watch: int  # measurements of the held-out bound during training


SETTINGS = {
    "digits": Setting(8, 128, 150, 64, 1 / 16, 10**9, 10**9, 6),
    "fashion-mnist": Setting(10, 256, 10, 128, 0.1, 10**9, 500, 3),
}


def read(name: str, folder: str | None, quick: bool):
    """All rows to train on and all held-out rows. A quick run downloads nothing: digits stand in for what is not here."""
    if name == "digits":
        return lfm.data.digits().split(test=0.2, seed=0)
    try:
        return [lfm.data.fashion_mnist(folder, train=part, download=not quick) for part in (True, False)]
    except lfm.DataError as error:
        if folder or not quick:
            raise SystemExit(str(error)) from None
        print(f"{error}\nA quick run goes on with digits.")
        return read("digits", None, quick)


def load(args: argparse.Namespace, setting: Setting):
    """Rows to train on and held-out rows, the same for every guide."""
    train, test = read(args.data, args.folder, args.quick)
    picked = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[: setting.test_rows]
    n = setting.train_rows
    return replace(train, x=train.x[:n], y=train.y[:n]), replace(test, x=test.x[picked], y=test.y[picked])


@dataclass(frozen=True)
class Grey:
    """The network of the mean, which stays between white and black: any such factory is a source."""

    hidden: int

    def __call__(self, inputs: int, outputs: int) -> torch.nn.Module:
        return torch.nn.Sequential(lfm.MLP(self.hidden)(inputs, outputs), torch.nn.Sigmoid())


def declare_model(pixels: int, setting: Setting) -> lfm.Model:
    spread = lfm.Diagonal(lfm.MLP(setting.hidden), min_scale=setting.min_scale)
    x = lfm.Gaussian(pixels, mean=Grey(setting.hidden), covariance=spread)
    return lfm.Model(z=lfm.StandardNormal(setting.latent), x=x)


def declare_guides(setting: Setting) -> dict[str, lfm.Gaussian]:
    encoder = lfm.MLP(setting.hidden)
    # A row is updated once per epoch, so its steps must be long where epochs are few.
    rows = lfm.PerRow(learning_rate=min(0.2, max(0.05, 15 / setting.epochs)))
    return {
        "mean-field": lfm.Gaussian(covariance=lfm.Diagonal(), network=encoder),
        "low-rank": lfm.Gaussian(covariance=lfm.LowRank(2), network=encoder),
        "full-covariance": lfm.Gaussian(covariance=lfm.Full(), network=encoder),
        "per-row": lfm.Gaussian(covariance=lfm.Full(), network=rows),
    }


def objective() -> lfm.ELBO:
    # The weight of the KL rises over the first 30% of the training: otherwise factors that are still noise are pressed
    # onto the prior for good, and which guide loses how many is luck, not a property of the guide.
    return lfm.ELBO(kl_weight=lambda done: min(1.0, done / 0.3))


def cosine(done: float) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * done)


def notes(comparison: lfm.Comparison, setting: Setting) -> list[str]:
    """Notes for a reader of the table, beside those of the comparison."""
    lines = [
        f"{setting.latent} factors, {setting.epochs} epochs in batches of {setting.batch_size}; the model's weights and "
        "those of the encoders' hidden layers start at the same values for every guide.",
        "The bound is of densities of pixels in [0, 1] whose standard deviation is at least "
        f"{setting.min_scale:g}, which pixels that are always blank reach.",
        "The gap between log p(x) and the bound is the loss by q, on the model that was trained with it.",
        "infer: seconds to find q for the held-out rows. Without an encoder each row is optimised, the model held.",
    ]
    if not {"per-row", "full-covariance"} <= comparison.failed.keys() ^ set(comparison.candidates):
        return lines
    row, full = (comparison.estimate("training_bound", name).mean for name in ("per-row", "full-covariance"))
    if row < full:
        lines.append(
            f"per-row updates q(z | x) of a row only when it sees that row, {setting.epochs} times in all, where an "
            "encoder learns from every row for every other. Its q lagged behind the model (training bound "
            f"{row:.1f} against {full:.1f}), and the model is the poorer for it: its bound is what this budget allows. Its "
            "gap, after the held-out rows had an optimisation of their own, is what a Gaussian q can reach."
        )
    return lines


def pictures(comparison: lfm.Comparison, train, test, out: Path) -> None:
    shape, rows = test.shape, slice(2000)
    some = [int((test.y == c).nonzero()[0]) for c in test.y.unique()]
    shown, draws, means, histories, figures = {}, {}, {}, {}, {}
    for name, fit in comparison.fits.items():
        shown[name] = fit.reconstruct(test.x[some], draws=DRAWS)
        draws[name] = fit.model.factors["x"](fit.model.sample(24, seed=3)["z"]).mean
        means[name] = fit.posterior().mean[rows]
        last = {**fit.history[-1], "validation_bound": float(comparison.values["bound"][name][0])}
        histories[name] = [*fit.history[:-1], last]
        walk = {"start": means[name][0], "title": f"A walk along each factor, {name}"}
        figures[f"walk_{name}"] = plots.factor_walk(fit, shape=shape, **walk)
    figures["bounds"] = plots.bounds(histories)
    figures["differences"], figures["bounds_by_time"] = (
        plots.differences(comparison),
        plots.bounds_by_time(comparison),
    )
    figures["reconstructions"] = plots.reconstructions(test.x[some], shown, shape=shape)
    figures["prior_draws"] = plots.prior_draws(
        draws, shape=shape, title="E[x | z] for z drawn from the prior"
    )
    names = CLOTHES if test.name == "fashion_mnist" else None
    figures["latent_map"] = plots.latent_map(means, train.y[rows], names=names)
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png")


def compare(args: argparse.Namespace, setting: Setting) -> None:
    out = Path(args.out or f"runs/{args.data}")
    out.mkdir(parents=True, exist_ok=True)
    train, test = load(args, setting)
    pixels, size = train.x.shape[1], " × ".join(map(str, train.shape[1:]))
    print(f"{train.name}: {len(train):,} pictures of {size} pixels, {len(test):,} more held out\n")
    guides = declare_guides(setting)
    shown = declare_model(pixels, setting)
    print(lfm.describe(shown, lfm.Guide(shown, z=guides["full-covariance"]), objective()))
    print(f"\nFour guides, one start, {setting.epochs} epochs each", flush=True)
    moments = {round(setting.epochs * i / setting.watch) for i in range(1, setting.watch)} - {setting.epochs}

    def watch(record, fit):
        """Adds the held-out bound to the history in some epochs."""
        if record["epoch"] in moments:
            record["validation_bound"] = float(fit.bound(test.x, draws=4).mean())

    comparison = lfm.compare(
        lambda: declare_model(pixels, setting),
        train.x,
        guides,
        test=test.x,
        seeds=args.seeds,
        metrics=METRICS,
        draws=DRAWS,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        learning_rate=2e-3,
        objective=objective(),
        schedule=cosine,
        callbacks=[watch],
        folder=out / "fits" if args.resume else None,
    )
    more = "\n".join(f"- {line}" for line in notes(comparison, setting))
    text = f"# Four guides for one model of {args.data}\n\n{comparison.markdown()}\n{more}\n"
    (out / "table.md").write_text(text, encoding="utf-8")
    (out / "table.tex").write_text(comparison.latex() + "\n", encoding="utf-8")
    packages = {name: version(name) for name in ("pyro_lfm", "torch", "pyro-ppl", "numpy")}
    record = {
        "settings": {**vars(args), **vars(setting), "train_rows": len(train), "test_rows": len(test)},
        "versions": {**packages, "python": platform.python_version()},
        **comparison.record(),
    }
    (out / "results.json").write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    pictures(comparison, train, test, out)
    print(f"\n{text}\nThe table, every number and the pictures are in {out}/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", choices=SETTINGS, default="digits")
    parser.add_argument(
        "--folder", help="folder of the .gz files of Fashion-MNIST; by default they are downloaded"
    )
    parser.add_argument("--latent", type=int, help="number of factors")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, each a start of its own")
    parser.add_argument(
        "--resume", action="store_true", help="store every fit in OUT/fits, and continue from there"
    )
    parser.add_argument("--quick", action="store_true", help="few rows, two epochs: to see that all works")
    parser.add_argument("--out", help="folder of the results; runs/DATA by default")
    args = parser.parse_args()
    setting = SETTINGS[args.data]
    if args.quick:
        setting = replace(setting, latent=4, hidden=32, epochs=2, train_rows=300, test_rows=40, watch=2)
    given = {name: getattr(args, name) for name in ("latent", "epochs", "batch_size")}
    setting = replace(setting, **{name: value for name, value in given.items() if value is not None})
    # Always blank pixels sit on the floor of σ by intention: see Setting.
    warnings.simplefilter("ignore", lfm.ScaleFloorWarning)
    compare(args, setting)


if __name__ == "__main__":
    main()

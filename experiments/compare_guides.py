"""How much does the guide matter? One deep latent Gaussian model of images, fitted with four guides.

    python experiments/compare_guides.py --data digits
    python experiments/compare_guides.py --data fashion-mnist --epochs 10

The model is p(z) = N(0, I), p(x | z) = N(μ(z), diag σ²(z)) with μ and σ networks of z. Every guide is Gaussian; they
differ in its covariance, and the last one in that it has no network: each row has a mean and a covariance of its own.
All start from the same weights of the model, and of the encoder's hidden layers, and get the same epochs.

Writes table.md, results.json and pictures into the folder named by --out.
"""

import argparse
import copy
import json
import math
import platform
import time
import warnings
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch

import pyro_lfm as lfm
from pyro_lfm import plots

CLOTHES = "T-shirt trouser pullover dress coat sandal shirt sneaker bag boot".split()
DRAWS = 100  # of z per held-out row, for the bound and for log p(x) by importance weighting


@dataclass(frozen=True)
class Setting:
    """What goes with a data set. `min_scale` is the smallest σ that the likelihood may have, in units of white − black.

    Without a floor the bound has no meaning: border pixels are always blank, and a density at a constant grows
    without end as σ falls. Digits have 17 grey levels, and one level, 1/16, is what σ can be said to resolve.
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
    watch: int  # how often the held-out bound is measured on the way


SETTINGS = {
    "digits": Setting(8, 128, 150, 64, 1 / 16, 10**9, 10**9, 6),
    "fashion-mnist": Setting(10, 256, 10, 128, 0.1, 10**9, 500, 3),
}


def load(name: str, folder: str | None, setting: Setting):
    """Rows to train on and held-out rows, the same for every guide."""
    files = (lfm.data.fashion_mnist(folder, train=part) for part in (True, False))
    train, test = lfm.data.digits().split(test=0.2, seed=0) if name == "digits" else files
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


def fit_one(initial: lfm.Model, factor: lfm.Gaussian, train, test, setting: Setting, seed: int) -> lfm.Fit:
    """Fits a copy of the model with one guide; the held-out bound goes into the history a few times on the way."""
    torch.manual_seed(seed)
    guide = lfm.Guide(initial, z=factor)  # a guide looks into the model but does not keep it
    moments = {round(setting.epochs * i / setting.watch) for i in range(1, setting.watch)} - {setting.epochs}

    def watch(record, fit):
        if record["epoch"] in moments:
            record["validation_bound"] = float(fit.bound(test.x, draws=4).mean())

    budget = {"epochs": setting.epochs, "batch_size": setting.batch_size, "learning_rate": 2e-3}
    way = lfm.SVI(guide, objective=objective(), schedule=cosine, **budget)
    return lfm.fit(copy.deepcopy(initial), train.x, way, seed=seed, callbacks=[watch])


def score(fit: lfm.Fit, x: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor, float]:
    """Of each row: the bound, its two parts, log p(x) by importance weighting and the gap; x̂; seconds for q."""
    began = time.perf_counter()
    q = fit.posterior(x)  # rows of their own are optimised here, with the model held
    seconds = time.perf_counter() - began
    torch.manual_seed(0)
    prior, likelihood = fit.model.factors["z"](), fit.model.factors["x"]
    weights, fits, images = [], [], torch.zeros_like(x)
    with torch.no_grad():
        for _ in range(DRAWS):
            z = q.sample()
            law = likelihood(z)
            fits.append(law.log_prob(x))
            weights.append(fits[-1] + prior.log_prob(z) - q.log_prob(z))
            images += law.mean / DRAWS
    log_w, reconstruction = torch.stack(weights), torch.stack(fits).mean(0)
    bound, log_p = log_w.mean(0), log_w.logsumexp(0) - math.log(DRAWS)
    rows = {"bound": bound, "reconstruction": reconstruction, "kl": reconstruction - bound, "log_p": log_p}
    return {**rows, "gap": log_p - bound}, images, seconds


def mean_and_error(values: torch.Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std() / math.sqrt(len(values))) if len(values) > 1 else 0.0


def figures(
    fit: lfm.Fit, rows: dict[str, torch.Tensor], first: torch.Tensor, seconds: float
) -> dict[str, float]:
    """One seed's numbers, nats per row; `first` are the bounds of the first guide with the same seed."""
    found = {"training_bound": fit.history[-1]["bound"]}
    for name, values in {**rows, "over_first": rows["bound"] - first}.items():
        found[f"test_{name}"], found[f"test_{name}_error"] = mean_and_error(values)
    found |= {"fit_seconds": sum(record["seconds"] for record in fit.history), "test_seconds": seconds}
    found["model_parameters"] = sum(p.numel() for p in fit.model.parameters())
    found["guide_parameters"] = sum(p.numel() for p in fit.guide.parameters())
    return found


def summary(seeds: list[dict]) -> dict[str, float]:
    """Means over seeds, and the standard error of the bound over seeds."""
    names = [name for name in seeds[0] if name not in ("seed", "history")]
    means = {name: sum(s[name] for s in seeds) / len(seeds) for name in names}
    means["test_bound_error_over_seeds"] = mean_and_error(torch.tensor([s["test_bound"] for s in seeds]))[1]
    return means


def table(results: dict[str, dict], args: argparse.Namespace, setting: Setting, train, test) -> str:
    many = args.seeds > 1
    head = ["guide", "held-out bound"] + ["± seeds"] * many + ["over mean-field", "reconstruction", "KL"]
    head += ["log p(x) est.", "gap", "training bound", "numbers in q", "fit", "infer"]
    lines = [" | ".join(head), " | ".join(["---"] + ["---:"] * (len(head) - 1))]
    best = max(results, key=lambda name: results[name]["summary"]["test_bound"])
    for i, (name, result) in enumerate(results.items()):
        s = result["summary"]
        bound = f"{s['test_bound']:.2f} ± {s['test_bound_error']:.2f}"
        cells = [name, f"**{bound}**" if name == best else bound]
        cells += [f"{s['test_bound_error_over_seeds']:.2f}"] * many
        cells += [f"{s['test_over_first']:+.2f} ± {s['test_over_first_error']:.2f}" if i else "–"]
        cells += [f"{s[key]:.2f}" for key in ("test_reconstruction", "test_kl", "test_log_p", "test_gap")]
        cells += [f"{s['training_bound']:.2f}", f"{s['guide_parameters']:,.0f}"]
        cells += [f"{s['fit_seconds']:.1f} s", f"{s['test_seconds']:.2f} s"]
        lines.append(" | ".join(cells))
    text = [f"# Four guides for one model of {args.data}", "", *(f"| {line} |" for line in lines), ""]
    return "\n".join(text + notes(results, args, setting, train, test)) + "\n"


def notes(results: dict[str, dict], args, setting: Setting, train, test) -> list[str]:
    row, full = results["per-row"]["summary"], results["full-covariance"]["summary"]
    seeds = f", means over {args.seeds} seeds" if args.seeds > 1 else ""
    lines = [
        f"Nats per row, higher is better (KL and gap: lower); {len(train):,} rows to learn from, {len(test):,} held out, "
        f"the same for every guide; ± one standard error over the held-out rows{seeds}. The difference to mean-field is "
        "paired by row.",
        f"{setting.latent} factors, {setting.epochs} epochs in batches of {setting.batch_size}; the model's "
        f"{full['model_parameters']:,.0f} parameters start at the same values for every guide.",
        "The bound is of densities of pixels in [0, 1] whose standard deviation is at least "
        f"{setting.min_scale:g}, which pixels that are always blank reach.",
        f"log p(x) is estimated by importance weighting with {DRAWS} draws from q and errs on the low side. The gap "
        "between it and the bound is what q loses on the model that was trained with it.",
        "infer: seconds to find q for the held-out rows. Without an encoder each row is optimised, the model held.",
    ]
    if row["training_bound"] < full["training_bound"]:
        lines.append(
            f"per-row updates q(z | x) of a row only when it sees that row, {setting.epochs} times in all, where an "
            "encoder learns from every row for every other. Its q lagged behind the model (training bound "
            f"{row['training_bound']:.1f} against {full['training_bound']:.1f}), and the model is the poorer for it: "
            "its bound is what this budget allows. Its gap, after the held-out rows had an optimisation of their own, is "
            "what a Gaussian q can reach."
        )
    return [f"- {line}" for line in lines]


def pictures(fits: dict[str, lfm.Fit], images: dict[str, torch.Tensor], train, test, out: Path) -> None:
    shape, rows = test.shape, slice(2000)
    some = [int((test.y == c).nonzero()[0]) for c in test.y.unique()]
    shown = {name: pictured[some] for name, pictured in images.items()}
    draws, means, made = {}, {}, {}
    for name, fit in fits.items():
        draws[name] = fit.model.factors["x"](fit.model.sample(24, seed=3)["z"]).mean
        means[name] = fit.posterior().mean[rows]
        walk = {"start": means[name][0], "title": f"A walk along each factor, {name}"}
        made[f"walk_{name}"] = plots.factor_walk(fit, shape=shape, **walk)
    made["bounds"] = plots.bounds({name: fit.history for name, fit in fits.items()})
    made["reconstructions"] = plots.reconstructions(test.x[some], shown, shape=shape)
    made["prior_draws"] = plots.prior_draws(draws, shape=shape, title="E[x | z] for z drawn from the prior")
    names = CLOTHES if test.name == "fashion_mnist" else None
    made["latent_map"] = plots.latent_map(means, train.y[rows], names=names)
    for name, figure in made.items():
        figure.savefig(out / f"{name}.png")


def compare(args: argparse.Namespace, setting: Setting) -> None:
    out = Path(args.out or f"runs/{args.data}")
    out.mkdir(parents=True, exist_ok=True)
    train, test = load(args.data, args.folder, setting)
    pixels, size = train.x.shape[1], " × ".join(map(str, train.shape[1:]))
    print(f"{args.data}: {len(train):,} pictures of {size} pixels, {len(test):,} more held out\n")
    factors = declare_guides(setting)
    shown = declare_model(pixels, setting)
    print(lfm.describe(shown, lfm.Guide(shown, z=factors["full-covariance"]), objective()))
    print(f"\nFour guides, one start, {setting.epochs} epochs each")
    results: dict[str, dict] = {name: {"seeds": []} for name in factors}
    fits, images = {}, {}  # of the first seed, for the pictures
    for seed in range(args.seeds):
        torch.manual_seed(seed)
        initial = declare_model(pixels, setting)
        first = None
        for name, factor in factors.items():
            print(f"\n{name}" + (f", seed {seed}" if args.seeds > 1 else ""), flush=True)
            fit = fit_one(initial, factor, train, test, setting, seed)
            rows, pictured, seconds = score(fit, test.x)
            first = rows["bound"] if first is None else first
            found = figures(fit, rows, first, seconds)
            fit.history[-1]["validation_bound"] = found["test_bound"]
            history = [{k: v if math.isfinite(v) else None for k, v in r.items()} for r in fit.history]
            results[name]["seeds"].append({"seed": seed, **found, "history": history})
            print("  held-out bound {test_bound:.2f} ± {test_bound_error:.2f} nats per row".format(**found))
            if seed == 0:
                fits[name], images[name] = fit, pictured
    for result in results.values():
        result["summary"] = summary(result["seeds"])
    text = table(results, args, setting, train, test)
    (out / "table.md").write_text(text, encoding="utf-8")
    packages = {name: version(name) for name in ("pyro_lfm", "torch", "pyro-ppl", "numpy")}
    record = {
        "settings": {**vars(args), **vars(setting), "train_rows": len(train), "test_rows": len(test)},
        "versions": {**packages, "python": platform.python_version()},
        "guides": results,
    }
    (out / "results.json").write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    pictures(fits, images, train, test, out)
    print(f"\n{text}\nThe table, every number and the pictures are in {out}/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", choices=SETTINGS, default="digits")
    parser.add_argument(
        "--folder", help="where the .gz files of Fashion-MNIST are; found or fetched by default"
    )
    parser.add_argument("--latent", type=int, help="number of factors")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, each a start of its own")
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

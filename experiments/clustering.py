"""Do the clusters of a deep model find the digits? A mixture in the latent space, learned without labels.

    python experiments/clustering.py

The model is p(c) = Categorical(π), p(z | c) = N(μ_c, Σ_c), p(x | z) = N(f(z), σ² I) with f a network, as in VaDE (Jiang
et al., 2017) but with full Σ_c. Its guide is q(z | x) q(c | z) with q(c | z) = p(c | z) by Bayes' rule, for which the bound
is highest. It starts where a first fit with p(z) = N(0, I) ended: from its networks, and from the most likely of several
mixtures that EM finds among its posterior means. Labels are read only to score what came out.

Writes table.md, results.json and pictures into the folder named by --out.
"""

import argparse
import json
import math
import platform
import time
import warnings
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

import pyro_lfm as lfm
from pyro_lfm import plots

CLASSES = 10
GREY = 1 / 16  # one of the 17 grey levels: the smallest standard deviation of a pixel that they resolve
MODEL = "deep mixture"


@dataclass(frozen=True)
class Setting:
    """One configuration for all seeds. Ten factors, as in VaDE."""

    latent: int = 10
    hidden: int = 128
    first_epochs: int = 100
    epochs: int = 100
    batch_size: int = 128
    starts: int = 5  # of EM; the most likely one counts
    min_scale: float = 0.05  # of a cluster, where the factors have a standard deviation of about 1
    rows: int = 10**9


class ByBayes(torch.nn.Module):
    """The logits of p(c | z) ∝ p(c) p(z | c), from the factors of a model."""

    def __init__(self, model: lfm.Model):
        super().__init__()
        self.c, self.z = model.factors["c"], model.factors["z"]

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        labels = torch.arange(CLASSES)
        return self.c().log_prob(labels) + self.z(labels).log_prob(z.unsqueeze(-2))


def covariance(start: torch.Tensor | None, setting: Setting) -> lfm.Full:
    source = lfm.Lookup(None if start is None else lfm.Learned(start))
    return lfm.Full(source, min_scale=setting.min_scale)


def first_model(setting: Setting) -> lfm.Model:
    noise = lfm.Isotropic(lfm.Learned(0.03))  # about half the variance of a pixel
    x = lfm.Gaussian(64, mean=lfm.MLP(setting.hidden), covariance=noise)
    return lfm.Model(z=lfm.StandardNormal(setting.latent), x=x)


def encoder(setting: Setting) -> lfm.Gaussian:
    return lfm.Gaussian(network=lfm.MLP(setting.hidden), given="x")


def clustering_model(setting: Setting, mixture: lfm.Model | None = None) -> lfm.Model:
    """The declaration. Its clusters start at random, or at those of a mixture."""
    share = mean = spread = None
    if mixture is not None:
        clusters = mixture.factors["z"](torch.arange(CLASSES))
        share = lfm.Learned(mixture.factors["c"]().logits.detach())
        mean, spread = lfm.Learned(clusters.mean.detach()), clusters.covariance_matrix.detach()
    x = lfm.Gaussian(64, mean=lfm.MLP(setting.hidden), covariance=lfm.Isotropic(lfm.Learned(0.03)), given="z")
    return lfm.Model(
        c=lfm.Categorical(CLASSES, logits=share),
        z=lfm.Gaussian(
            setting.latent, mean=lfm.Lookup(mean), covariance=covariance(spread, setting), given="c"
        ),
        x=x,
    )


def clustering_guide(model: lfm.Model, setting: Setting) -> lfm.Guide:
    return lfm.Guide(model, z=encoder(setting), c=lfm.Categorical(logits=ByBayes(model), given="z"))


def svi(guide: lfm.Guide, epochs: int, rate: float, warm_up: bool, setting: Setting) -> lfm.SVI:
    weight = lfm.schedules.linear(until=0.3) if warm_up else 1.0
    return lfm.SVI(
        guide,
        objective=lfm.ELBO(kl_weight=weight),
        epochs=epochs,
        batch_size=setting.batch_size,
        learning_rate=rate,
        schedule=lfm.schedules.cosine(1.0, 0.0),
    )


def mixtures(x: torch.Tensor, distribution: lfm.Factor, name: str, seed: int, starts: int) -> lfm.Fit:
    """The most likely of several mixtures fitted by EM."""
    fits = []
    for start in range(starts):
        torch.manual_seed(1000 * seed + start)
        model = lfm.Model(c=lfm.Categorical(CLASSES), **{name: distribution})
        fits.append(lfm.fit(model, x, lfm.EM(), seed=1000 * seed + start, progress=False))
    return max(fits, key=lambda fit: float(fit.log_likelihood().mean()))


def one_seed(x: torch.Tensor, seed: int, setting: Setting) -> tuple[dict[str, np.ndarray], dict, lfm.Fit]:
    """The clusters of every method, facts about the fits, and the fit of the deep mixture."""
    by_method: dict[str, np.ndarray] = {}
    pixels = lfm.Gaussian(64, mean=lfm.Lookup(), covariance=lfm.Full(lfm.Lookup(), min_scale=GREY), given="c")
    by_method["k-means, pixels"] = KMeans(CLASSES, n_init=10, random_state=seed).fit_predict(x.numpy())
    plain = mixtures(x, pixels, "x", seed, setting.starts)
    by_method["Gaussian mixture, pixels"] = plain.posterior().probs.argmax(-1).numpy()

    began = time.perf_counter()
    torch.manual_seed(seed)
    model = first_model(setting)
    guide = lfm.Guide(model, z=encoder(setting))
    first = lfm.fit(
        model, x, svi(guide, setting.first_epochs, 2e-3, True, setting), seed=seed, progress=False
    )
    means = first.posterior().mean
    among = lfm.Gaussian(setting.latent, mean=lfm.Lookup(), covariance=covariance(None, setting), given="c")
    mixture = mixtures(means, among, "z", seed, setting.starts)
    deep = clustering_model(setting, mixture.model)
    deep.factors["x"].load_state_dict(first.model.factors["x"].state_dict())
    guide = clustering_guide(deep, setting)
    guide.factors["z"].load_state_dict(first.guide.factors["z"].state_dict())
    fit = lfm.fit(deep, x, svi(guide, setting.epochs, 1e-3, False, setting), seed=seed, progress=False)
    seconds = time.perf_counter() - began

    by_method["k-means, posterior means"] = KMeans(CLASSES, n_init=10, random_state=seed).fit_predict(
        means.numpy()
    )
    by_method["Gaussian mixture, posterior means"] = mixture.posterior().probs.argmax(-1).numpy()
    by_method[MODEL] = fit.posterior()["c"].probs.argmax(-1).numpy()

    torch.manual_seed(seed)
    unsupervised = clustering_model(setting)
    inference = svi(
        clustering_guide(unsupervised, setting), setting.first_epochs + setting.epochs, 2e-3, True, setting
    )
    random = lfm.fit(unsupervised, x, inference, seed=seed, progress=False)
    by_method[f"{MODEL}, random start"] = random.posterior()["c"].probs.argmax(-1).numpy()
    bounds = {name: float(f.bound(draws=16).mean()) for name, f in (("first", first), (MODEL, fit))}
    bounds[f"{MODEL}, random start"] = float(random.bound(draws=16).mean())
    return by_method, {"bounds": bounds, "seconds": seconds}, fit


def matched(labels: np.ndarray, clusters: np.ndarray) -> float:
    """The share of rows in the cluster of their label, under the best one-to-one matching of clusters and labels."""
    counts = np.zeros((CLASSES, CLASSES), int)
    np.add.at(counts, (clusters, labels), 1)
    return float(counts[linear_sum_assignment(-counts)].sum() / len(labels))


def score(labels: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    return {
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "accuracy": matched(labels, clusters),
        "clusters": len(np.unique(clusters)),
    }


def mean_and_sd(values: list[float]) -> str:
    spread = np.std(values, ddof=1) if len(values) > 1 else math.nan
    return f"{np.mean(values):.3f} ± {spread:.3f}"


def table(seeds: list[dict], rows: int, setting: Setting) -> str:
    names = list(seeds[0]["scores"])
    base = [seed["scores"]["k-means, pixels"]["nmi"] for seed in seeds]
    lines = ["method | NMI | over k-means, by seed | least | accuracy", "--- | ---: | ---: | ---: | ---:"]
    for name in names:
        nmi = [seed["scores"][name]["nmi"] for seed in seeds]
        over = mean_and_sd([a - b for a, b in zip(nmi, base, strict=True)]) if name != names[0] else "–"
        over = over if over.startswith(("-", "–")) else f"+{over}"
        accuracy = mean_and_sd([seed["scores"][name]["accuracy"] for seed in seeds])
        lines.append(f"{name} | {mean_and_sd(nmi)} | {over.replace('-', '−')} | {min(nmi):.3f} | {accuracy}")
    bounds = [
        f"{name} {mean_and_sd([seed['bounds'][name] for seed in seeds])}" for name in seeds[0]["bounds"]
    ]
    seconds = np.mean([seed["seconds"] for seed in seeds])
    notes = [
        f"{rows:,} rows, {CLASSES} clusters, {len(seeds)} seeds: mean ± standard deviation over seeds; least: of all seeds.",
        "NMI: normalised mutual information with the labels, which no method saw; accuracy: the best one-to-one matching.",
        f"{setting.latent} factors, {setting.first_epochs} + {setting.epochs} epochs, {setting.starts} starts of EM; "
        f"{seconds:.1f} s for a deep mixture, its start included.",
        f"Bounds, nats per row: {'; '.join(bounds)}.",
    ]
    text = ["# Clusters of digits without labels", "", *(f"| {line} |" for line in lines), ""]
    return "\n".join([*text, *(f"- {note}" for note in notes)]) + "\n"


def pictures(fit: lfm.Fit, clusters: np.ndarray, labels: np.ndarray, out: Path) -> None:
    """Rows drawn from every cluster, in the order of the digit that is most common in it, and the map of z."""
    common = [
        int(np.bincount(labels[clusters == c], minlength=1).argmax()) if (clusters == c).any() else CLASSES
        for c in range(CLASSES)
    ]
    order = np.argsort(common, kind="stable")
    torch.manual_seed(0)
    with torch.no_grad():
        z = fit.model.factors["z"](torch.as_tensor(order).repeat_interleave(12)).sample()
        drawn = fit.model.factors["x"](z).mean.clamp(0, 1)
    plots.gallery(
        drawn, shape=(8, 8), columns=12, title="Drawn from the model: one row for each cluster"
    ).savefig(out / "clusters.png")
    place = np.empty(CLASSES, int)
    place[order] = np.arange(CLASSES)
    means = fit.posterior()["z"].mean
    plots.latent_map(means, place[clusters], title="q(z | x) of every row, coloured by its cluster").savefig(
        out / "clusters_map.png"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, each a start of its own")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few rows and epochs: to see that all works")
    parser.add_argument("--out", default="runs/clustering", help="folder of the results")
    args = parser.parse_args()
    setting = Setting()
    if args.quick:
        args.seeds = 1
        setting = replace(setting, first_epochs=60, epochs=6, starts=1, rows=500, batch_size=64, hidden=64)
    # Always blank pixels sit on the floor of σ by intention.
    warnings.simplefilter("ignore", lfm.ScaleFloorWarning)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    digits = lfm.data.digits()
    x, y = digits.x[: setting.rows], digits.y[: setting.rows].numpy()
    shown = clustering_model(setting)
    print(lfm.describe(shown, clustering_guide(shown, setting)), end="\n\n")
    seeds: list[dict] = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        by_method, facts, fit = one_seed(x, seed, setting)
        scores = {name: score(y, clusters) for name, clusters in by_method.items()}
        seeds.append({"seed": seed, "scores": scores, **facts})
        print(f"seed {seed}: " + ", ".join(f"{n} {s['nmi']:.3f}" for n, s in scores.items()), flush=True)
        if seed == args.first_seed:
            pictures(fit, by_method[MODEL], y, out)
    text = table(seeds, len(x), setting)
    (out / "table.md").write_text(text, encoding="utf-8")
    packages = {name: version(name) for name in ("pyro_lfm", "torch", "pyro-ppl", "numpy", "scikit-learn")}
    record = {
        "settings": {**vars(args), **asdict(setting), "rows": len(x)},
        "versions": {**packages, "python": platform.python_version()},
        "seeds": seeds,
    }
    (out / "results.json").write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    print(f"\n{text}\nThe table, every number and the pictures are in {out}/")


if __name__ == "__main__":
    main()

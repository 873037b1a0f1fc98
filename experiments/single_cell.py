"""Does one call separate the types of cells and mix their batches as well as a declaration built by hand?

    python experiments/single_cell.py

Counts of 1,500 cells and 300 genes are simulated: five types of cells in three batches of other composition, depth and
expression. ``lfm.single_cell.fit(adata, batch_key="batch")`` is compared, on the same counts and seeds, with the model
written out factor by factor, whose guide reads the logarithms of the counts, once standardised and once as they are, and
with the first ten principal components of log-normalised counts. The truth is used for scores alone. Fits are kept in the
folder named by --out, and a second run goes on from them.

Types: the adjusted Rand index of k-means, and the share of cells whose 15 nearest neighbours are mostly of their own type.
Batches: the entropy of the batches among 30 nearest neighbours, over that among all cells of the type (1: mixed).
Differential expression of each type against the first: the realised false discovery rate among called genes, and the power.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors
from torch.distributions import constraints

import pyro_lfm as lfm

BATCHES, FACTORS = 3, 10
SCORES = ("rand index", "own type", "mixing")


@dataclass(frozen=True)
class Setting:
    """The size of the data and of the fits; the default epochs are those of the one call."""

    cells: int = 1500
    genes: int = 300
    types: int = 5
    epochs: int = 200
    comparisons: int = 1000


@dataclass(frozen=True)
class Simulated:
    """Simulated cells, and by type the true log2 expression relative to type 0, (types, D), without batch effects."""

    adata: ad.AnnData
    changes: np.ndarray


def simulate(seed: int, setting: Setting) -> Simulated:
    """Overdispersed counts whose log rates add up from gene, type and batch."""
    rng = np.random.default_rng(seed)
    genes, types = setting.genes, setting.types
    gene = rng.normal(0.0, 1.0, genes)
    of_type = np.zeros((types, genes))
    for k in range(1, types):
        marked = rng.choice(genes, genes // 10, replace=False)
        of_type[k, marked] = rng.choice([-1, 1], len(marked)) * rng.uniform(0.1, 1.5, len(marked))
    of_batch = rng.normal(0.0, 0.4, (BATCHES, genes))
    composition = rng.dirichlet(np.full(types, 4.0), BATCHES)
    batch = rng.integers(BATCHES, size=setting.cells)
    kind = np.array([rng.choice(types, p=composition[b]) for b in batch])
    share = np.exp(gene + of_type[kind] + of_batch[batch])
    depth = np.array([0.7, 1.0, 1.5])[batch] * rng.lognormal(np.log(800.0), 0.4, setting.cells)
    mean = depth[:, None] * share / share.sum(1, keepdims=True)
    r = rng.lognormal(1.2, 0.4, genes)
    counts = rng.poisson(rng.gamma(r, mean / r)).astype(np.float32)
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical([f"batch {b + 1}" for b in batch]),
            "type": pd.Categorical([f"type {k}" for k in kind]),
        },
        index=[f"cell {i}" for i in range(setting.cells)],
    )
    typical = np.exp(gene + of_type)
    typical /= typical.sum(1, keepdims=True)
    adata = ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"gene {d}" for d in range(genes)]))
    return Simulated(adata, np.log2(typical / typical[0]))


def one_call(adata: ad.AnnData, seed: int, setting: Setting) -> lfm.Fit:
    return lfm.single_cell.fit(
        adata, FACTORS, batch_key="batch", epochs=setting.epochs, seed=seed, progress=False
    )


def rows_by_hand(adata: ad.AnnData) -> dict[str, torch.Tensor]:
    counts = torch.tensor(adata.X)
    batch = torch.tensor(adata.obs["batch"].cat.codes.to_numpy(), dtype=torch.float32)
    return {"library": counts.sum(1), "batch": batch, "counts": counts}


def by_hand(adata: ad.AnnData, seed: int, setting: Setting, standardised: bool) -> lfm.Fit:
    """The same likelihood, networks and training, without ``lfm.tables.anndata``."""
    data = rows_by_hand(adata)
    counts, library = data["counts"], data["library"]
    logs = counts.log1p()
    of_counts = lfm.NegativeBinomial(
        counts.shape[1], logits=lfm.MLP(128), exposure="library", given=("z", "batch")
    )
    of_library = lfm.Covariate(value=float(library.median()), support=constraints.positive)
    if standardised:
        of_counts = of_counts.coded(lfm.Code(logs.mean(0), logs.std(0).clamp_min(0.1), "log1p"))
    else:
        of_counts = of_counts.coded(lfm.Code(torch.zeros_like(logs[0]), torch.ones_like(logs[0]), "log1p"))
    model = lfm.Model(
        z=lfm.StandardNormal(FACTORS),
        library=of_library.coded(lfm.Code(library.log().mean(), library.log().std(), "log")),
        batch=lfm.Covariate(value=0.0, support=constraints.integer_interval(0, BATCHES - 1)),
        counts=of_counts,
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(128)))
    svi = lfm.SVI(guide, epochs=setting.epochs, learning_rate=3e-3, schedule=lfm.schedules.cosine(1.0, 0.0))
    return lfm.fit(model, data, svi, seed=seed, progress=False)


METHODS = {
    "one call": one_call,
    "by hand, standardised": partial(by_hand, standardised=True),
    "by hand, log1p": partial(by_hand, standardised=False),
}


def components(adata: ad.AnnData) -> np.ndarray:
    """Principal components of ln(1 + counts scaled to the median library size)."""
    size = adata.X.sum(1, keepdims=True)
    return PCA(FACTORS, random_state=0).fit_transform(np.log1p(adata.X / size * np.median(size)))


def scores(codes: np.ndarray, adata: ad.AnnData) -> dict[str, float]:
    """How well types are separated and batches mixed."""
    kind, batch = (adata.obs[name].cat.codes.to_numpy() for name in ("type", "batch"))
    clusters = KMeans(kind.max() + 1, n_init=10, random_state=0).fit_predict(codes)
    near = NearestNeighbors(n_neighbors=31).fit(codes).kneighbors(codes, return_distance=False)[:, 1:]
    commonest = np.array([np.bincount(kind[row[:15]]).argmax() for row in near])
    shares = np.stack([(batch[near] == b).mean(1) for b in range(BATCHES)], 1)
    of_type = np.stack([np.bincount(batch[kind == k], minlength=BATCHES) for k in range(kind.max() + 1)])
    expected = entropy(of_type / of_type.sum(1, keepdims=True))[kind]
    return {
        "rand index": float(adjusted_rand_score(kind, clusters)),
        "own type": float((commonest == kind).mean()),
        "mixing": float(entropy(shares).mean() / expected.mean()),
    }


def entropy(shares: np.ndarray) -> np.ndarray:
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(-1)


def differential(fit: lfm.Fit, simulated: Simulated, setting: Setting, seed: int) -> list[dict[str, float]]:
    """Of each type against the first: called genes, and which of them truly differ by more than delta."""
    results = []
    for delta in (0.25, 0.5, 1.0):
        for kind in range(1, setting.types):
            genes = lfm.single_cell.differential_expression(
                fit,
                simulated.adata,
                "type",
                f"type {kind}",
                "type 0",
                delta=delta,
                comparisons=setting.comparisons,
                seed=seed,
            ).reindex(simulated.adata.var_names)
            called, truth = genes["differs"].to_numpy(), np.abs(simulated.changes[kind]) > delta
            results.append(
                {
                    "delta": delta,
                    "called": int(called.sum()),
                    "true": int(truth.sum()),
                    "false": int((called & ~truth).sum()),
                    "correlation": float(
                        np.corrcoef(genes["log_fold_change"], simulated.changes[kind])[0, 1]
                    ),
                }
            )
    return results


def one_seed(seed: int, setting: Setting, out: Path) -> dict:
    """The scores of every method, and pictures of the first seed."""
    simulated = simulate(seed, setting)
    adata, fits = simulated.adata, {}
    for name, run in METHODS.items():
        folder = out / f"{name} {seed}".replace(" ", "_")
        if not folder.exists():
            run(adata, seed, setting).save(folder)
        fits[name] = lfm.load(folder)
    fit = fits["one call"]
    lfm.single_cell.embed(fit, adata)
    codes = {"one call": adata.obsm["X_lfm"]}
    for name in ("by hand, standardised", "by hand, log1p"):
        codes[name] = fits[name].posterior(rows_by_hand(adata)).mean.numpy()
    codes["principal components"] = components(adata)
    draw(codes, adata, out / f"map_{seed}.png")
    return {
        "scores": {name: scores(each, adata) for name, each in codes.items()},
        "differential": differential(fit, simulated, setting, seed),
    }


def draw(codes: dict[str, np.ndarray], adata: ad.AnnData, path: Path) -> None:
    """The first two principal components of the codes of each method, coloured by type and by batch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 5.4), layout="constrained")
    places = figure.subfigures(2, 1)
    axes = np.stack([place.subplots(1, len(codes)) for place in places])
    for column, (name, each) in zip(axes.T, codes.items(), strict=True):
        flat = PCA(2, random_state=0).fit_transform(each)
        for axis, key in zip(column, ("type", "batch"), strict=True):
            for label in adata.obs[key].cat.categories:
                chosen = (adata.obs[key] == label).to_numpy()
                axis.scatter(*flat[chosen].T, s=4, alpha=0.6, linewidths=0, label=label)
            axis.set(xticks=[], yticks=[])
        column[0].set_title(name.replace(", ", ",\n"), loc="left", fontsize=10)
    for place, axis in zip(places, axes[:, -1], strict=True):
        handles, labels = axis.get_legend_handles_labels()
        place.legend(
            handles, labels, loc="outside lower center", ncols=len(labels), markerscale=3, frameon=False, fontsize=9
        )  # fmt: skip
    figure.savefig(path, dpi=150)


def words(results: dict[str, dict]) -> str:
    """The tables of scores and of differential expression as Markdown."""
    methods = list(next(iter(results.values()))["scores"])
    lines = [f"| method | {' | '.join(SCORES)} |", "|---|---:|---:|---:|"]
    for method in methods:
        each = {s: [result["scores"][method][s] for result in results.values()] for s in SCORES}
        lines.append(f"| {method} | {' | '.join(spread(values) for values in each.values())} |")
    every = pd.DataFrame([row for result in results.values() for row in result["differential"]])
    lines += [
        "",
        "| delta | true | called | false discoveries, % | power, % | correlation |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for delta, rows in every.groupby("delta"):
        true, called, wrong = (int(rows[name].sum()) for name in ("true", "called", "false"))
        rate, power = 100 * wrong / max(1, called), 100 * (called - wrong) / max(1, true)
        lines.append(
            f"| {delta} | {true} | {called} | {rate:.1f} | {power:.1f} | {rows['correlation'].mean():.3f} |"
        )
    return "\n".join(lines) + "\n"


def spread(values: list[float]) -> str:
    more = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{more}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/single_cell"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--quick", action="store_true", help="one seed, 200 cells, 40 genes, few epochs")
    options = parser.parse_args()
    setting = Setting()
    if options.quick:
        options.seeds, setting = [1], Setting(200, 40, 3, epochs=10, comparisons=100)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "results.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for seed in options.seeds:
        if str(seed) in results:
            continue
        start = time.perf_counter()
        results[str(seed)] = one_seed(seed, setting, options.out)
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
        path.write_text(json.dumps(results, indent=1), encoding="utf-8")
    text = words(results)
    (options.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

"""Which imputer fills in missing entries best: factor models, or scikit-learn's means, neighbours, regressions and forests?

Five tables: breast cancer, wine, diabetes, penguins (with labels) and digits. 10, 30, 50 and 70% of all known entries are
removed completely at random, ten masks each. Every method sees the same gaps. Scores are of the removed entries alone.

- error: root mean squared error of numbers, each in standard deviations of its column. Labels: the share of wrong ones.
- CRPS of numbers in the same unit. Of a method that gives one value and no distribution it is the mean absolute error.
- covered: the share of removed numbers inside their 90% intervals, for methods that have intervals.

All methods of scikit-learn read numbers on the scale of mean 0 and variance 1, and labels as one column of 0 and 1 for each
label; the largest of these is the imputed label. Regressions and forests have no column for the first label: the other
columns would predict each of them without error, and no label would leave its starting value. ``LatentImputer`` reads the
frame as it is, with its defaults. Forests have 20 trees, 5 rounds and three masks: with √D of the columns at each split, as
in missForest (Stekhoven and Bühlmann, 2012), and with all of them, as is scikit-learn's default.

Each cell (table, share, mask, method) is stored when it is done. A run that was stopped goes on where it was.

    python experiments/benchmark_imputation.py --out runs/imputation
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from rivals.imputers import RIVALS, Imputed, numeric
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

import pyro_lfm as lfm
from pyro_lfm import plots

LEVEL = 0.9


def penguins() -> pd.DataFrame:
    from palmerpenguins import load_penguins

    frame = load_penguins()
    labels = ["species", "island", "sex"]
    return frame.astype({name: "category" for name in labels}).astype({"year": float})


TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "breast cancer": lambda: load_breast_cancer(as_frame=True).data,
    "wine": lambda: load_wine(as_frame=True).data,
    "diabetes": lambda: load_diabetes(as_frame=True).data,
    "penguins": penguins,
    "digits": lambda: load_digits(as_frame=True).data,
}


def latent(frame: pd.DataFrame, seed: int) -> Imputed:
    imputer = lfm.estimators.LatentImputer(random_state=seed)
    values = imputer.fit_transform(frame)
    draws = imputer.sample(frame, draws=100, random_state=seed)
    return Imputed(values, np.stack([each[numeric(frame)].to_numpy(dtype=float) for each in draws]))


METHODS = {**RIVALS, "LatentImputer": latent}
FORESTS = ("forest", "forest, √D")


def with_gaps(whole: pd.DataFrame, share: float, mask: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The table with a share of its known entries removed at random, and True for these entries."""
    rng = np.random.default_rng([mask, round(100 * share)])
    gone = (rng.random(whole.shape) < share) & whole.notna().to_numpy()
    return whole.mask(pd.DataFrame(gone, index=whole.index, columns=whole.columns)), gone


def scored(whole: pd.DataFrame, gone: np.ndarray, imputed: Imputed) -> dict[str, float]:
    """The scores of the removed entries. A column of one value alone is left out, as its deviation is 0."""
    names = numeric(whole)
    truth = whole[names].to_numpy(dtype=float)
    unit = np.nanstd(truth, 0)
    removed = gone[:, [whole.columns.get_loc(name) for name in names]] & (unit > 0)
    unit = np.broadcast_to(np.where(unit > 0, unit, 1.0), truth.shape)[removed]
    truth = truth[removed] / unit
    values = imputed.values[names].to_numpy(dtype=float)[removed] / unit
    scores = {
        "error": float(np.sqrt(np.mean((values - truth) ** 2))),
        "crps": float(np.mean(abs(values - truth))),
    }
    if imputed.draws is not None:
        drawn = np.sort(imputed.draws[:, removed] / unit, 0)
        count = len(drawn)
        # E|x − t| − ½ E|x − x′|, without the bias of a finite number of draws.
        weight = (2 * np.arange(1, count + 1) - count - 1) / (count * (count - 1))
        scores["crps"] = float(np.mean(np.abs(drawn - truth).mean(0) - weight @ drawn))
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        slack = 1e-9 * (1 + abs(truth))
        scores["covered"] = float(np.mean((truth >= low - slack) & (truth <= high + slack)))
    labels = [name for name in whole if name not in names]
    if labels:
        removed = gone[:, [whole.columns.get_loc(name) for name in labels]]
        wrong = imputed.values[labels].astype(object).to_numpy() != whole[labels].astype(object).to_numpy()
        scores["label error"] = float(wrong[removed].mean())
    return scores


def cell_path(folder: Path, table: str, share: float, mask: int, method: str) -> Path:
    name = f"{table}_{round(100 * share)}_{mask}_{method}".replace(" ", "-").replace(",", "")
    return folder / "cells" / f"{name}.json"


def run_cells(settings: argparse.Namespace) -> None:
    """Runs what is not yet stored, the quick methods first."""
    for method in settings.methods:
        masks = min(settings.masks, 3) if method in FORESTS else settings.masks
        for table in settings.tables:
            whole = TABLES[table]()
            for share in settings.shares:
                for mask in range(masks):
                    path = cell_path(settings.out, table, share, mask, method)
                    if path.exists():
                        continue
                    frame, gone = with_gaps(whole, share, mask)
                    start = time.process_time()
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # rounds used up, and columns without a value
                        imputed = METHODS[method](frame, mask)
                    seconds = time.process_time() - start
                    scores = scored(whole, gone, imputed)
                    cell = {
                        "table": table,
                        "share": share,
                        "mask": mask,
                        "method": method,
                        "seconds": seconds,
                        **scores,
                    }
                    part = path.with_suffix(".part")
                    part.write_text(json.dumps(cell), encoding="utf-8")
                    part.replace(path)
            print(f"{method}, {table}: done", flush=True)


def stored(folder: Path) -> pd.DataFrame:
    """All stored cells, one a row. Wrong labels are a table of their own, "penguins, labels"."""
    cells = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "cells").glob("*.json"))
    ]
    frame = pd.DataFrame(cells)
    order = [*TABLES, *(f"{table}, labels" for table in TABLES)]
    if "label error" in frame:
        labels = frame[frame["label error"].notna()].copy()
        labels["table"] += ", labels"
        labels["error"] = labels["label error"]
        frame = pd.concat([frame, labels.drop(columns=["crps", "covered"], errors="ignore")])
    frame["table"] = pd.Categorical(
        frame["table"], [t for t in order if t in set(frame["table"])], ordered=True
    )
    frame["method"] = pd.Categorical(
        frame["method"], [m for m in METHODS if m in set(frame["method"])], ordered=True
    )
    return frame.drop(columns="label error", errors="ignore").sort_values(
        ["table", "share", "method", "mask"]
    )


def compared(cells: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The mean of a measure over masks: one row for each table and share, one column for each method."""
    known = cells[cells[measure].notna()]
    return known.pivot_table(index=["table", "share"], columns="method", values=measure, observed=True)


def standings(cells: pd.DataFrame, measure: str) -> pd.DataFrame:
    """For each method its mean rank, and how often LatentImputer is better: in means of tables and shares, and in masks.

    All methods of a table are compared on the masks that all of them have.
    """
    columns = ["table", "share", "mask"]
    masks = cells[cells[measure].notna()].pivot_table(
        index=columns, columns="method", values=measure, observed=True
    )
    rows = []
    ranks: dict[str, list[float]] = {method: [] for method in masks}
    for _, group in masks.groupby(level=[0, 1], observed=True):
        group = group.dropna(axis=1, how="all")
        for method, rank in group.dropna().mean().rank().items():
            ranks[method].append(rank)
    for method in masks:
        pairs = masks[["LatentImputer", method]].dropna() if method != "LatentImputer" else masks[:0]
        row = {"method": method, "mean rank": float(np.mean(ranks[method])), "settings": len(ranks[method])}
        if len(pairs):
            means = pairs.groupby(level=[0, 1], observed=True).mean()
            row["won, means"] = f"{int((means['LatentImputer'] < means[method]).sum())} of {len(means)}"
            row["won, masks"] = f"{int((pairs['LatentImputer'] < pairs[method]).sum())} of {len(pairs)}"
        rows.append(row)
    return pd.DataFrame(rows).sort_values("mean rank")


def markdown(frame: pd.DataFrame, digits: int = 3, best: bool = False) -> str:
    """A frame as a table of Markdown, with the smallest number of each row in bold if ``best``."""
    lines = ["| " + " | ".join(map(str, frame.columns)) + " |", "|---" * len(frame.columns) + "|"]
    for _, row in frame.iterrows():
        numbers = [value for value in row if isinstance(value, float) and not np.isnan(value)]
        words = []
        for value in row:
            if not isinstance(value, float):
                words.append(str(value))
            elif np.isnan(value):
                words.append("–")
            else:
                word = f"{value:.{digits}f}"
                words.append(f"**{word}**" if best and word == f"{min(numbers):.{digits}f}" else word)
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def report(folder: Path) -> str:
    """All results as tables, which are stored beside the cells, and the picture."""
    cells = stored(folder)
    cells.to_csv(folder / "results.csv", index=False)
    parts = []
    for measure, title in (("error", "Error"), ("crps", "CRPS")):
        means = compared(cells, measure).reset_index()
        means["share"] = [f"{100 * share:.0f}%" for share in means["share"]]
        parts += [f"{title}\n", markdown(means, best=True), ""]
        if "LatentImputer" in means and means.shape[1] > 3:
            parts += [f"{title}: ranks, wins and losses\n", markdown(standings(cells, measure), 2), ""]
    if "covered" in cells:
        covered = (100 * compared(cells, "covered")).unstack("share")["LatentImputer"].reset_index()
        covered.columns = ["table", *(f"{100 * share:.0f}%" for share in covered.columns[1:])]
        parts += ["Covered by 90% intervals of LatentImputer, %\n", markdown(covered, 1), ""]
    columns = ["table", "share"]
    counts = cells.pivot_table(
        index=columns, columns="method", values="error", aggfunc="count", observed=True
    )
    least = counts.fillna(0).groupby(level=0, observed=True).min().astype(int).astype(str)
    parts += ["Masks of each share\n", markdown(least.reset_index()), ""]
    seconds = cells.pivot_table(
        index="table", columns="method", values="seconds", aggfunc="median", observed=True
    )
    parts += ["Seconds of one processor, median\n", markdown(seconds.reset_index(), 1)]
    text = "\n".join(parts) + "\n"
    (folder / "table.md").write_text(text, encoding="utf-8")
    draw(compared(cells, "error"), folder / "imputation.png")
    return text


def draw(means: pd.DataFrame, path: Path) -> None:
    """Error against the share of missing entries, one panel a table."""
    from matplotlib.figure import Figure

    tables = list(means.index.unique(level="table"))
    width = min(3, len(tables))
    height = -(-len(tables) // width)
    figure = Figure(figsize=(min(3.4 * width, 7.6), 2.6 * height + 0.7), layout="constrained")
    panels = figure.subplots(height, width, squeeze=False).flatten()
    for panel in panels[len(tables) :]:
        panel.axis("off")
    colours = plots.colours([m for m in means if m != "mean"])
    for panel, table in zip(panels, tables, strict=False):
        rows = means.loc[table]
        rivals = iter(colours)
        for method in means:
            ours = method == "LatentImputer"
            colour = "#999999" if method == "mean" else next(rivals)
            panel.plot(
                100 * rows.index,
                rows[method],
                "o-",
                color=colour,
                label=method,
                lw=2.6 if ours else 1.3,
                ms=3.5,
            )
        panel.set_title(table, loc="left", fontsize=11)
        panel.set_xlabel("missing, %", fontsize=9)
        panel.set_xticks(100 * rows.index)
        panel.tick_params(labelsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[::width]:
        panel.set_ylabel("error of missing entries", fontsize=9)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=min(4, len(names)), frameon=False, fontsize=9
    )
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/imputation"))
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3, 0.5, 0.7])
    parser.add_argument(
        "--masks", type=int, default=10, help="masks of each table and share; forests have at most 3"
    )
    parser.add_argument(
        "--quick", action="store_true", help="wine and penguins, one mask of 30%%, without forests"
    )
    settings = parser.parse_args()
    if settings.quick:
        settings.tables, settings.shares, settings.masks = ["wine", "penguins"], [0.3], 1
        settings.methods = [method for method in settings.methods if method not in FORESTS]
    (settings.out / "cells").mkdir(parents=True, exist_ok=True)
    run_cells(settings)
    print(report(settings.out))


if __name__ == "__main__":
    main()

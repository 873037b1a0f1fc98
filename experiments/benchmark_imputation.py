"""Which imputer fills in missing entries best: factor models, or scikit-learn's means, neighbours, regressions and forests?

Five tables: breast cancer, wine, diabetes, penguins (with labels) and digits. 10, 30, 50 and 70% of all known entries are
removed completely at random, ten masks each. Every method sees the same gaps. Scores are of the removed entries alone.

- error: root mean squared error of numbers, each in standard deviations of its column. Labels: the share of wrong ones.
- CRPS of numbers in the same unit. Of a method that gives one value and no distribution it is the mean absolute error.
- covered: the share of removed numbers inside their 90% intervals, for methods that have intervals.

All methods of scikit-learn read numbers on the scale of mean 0 and variance 1, and labels as one column of 0 and 1 for each
label; the largest of these is the imputed label. Regressions and forests have no column for the first label: the other
columns would predict each of them without error, and no label would leave its starting value. ``lfm.estimators.LatentImputer`` reads the frame as it is, with its
defaults. Forests have 20 trees, 5 rounds and three masks: with all columns at each split, as in scikit-learn, and with √D of
them, as in missForest (Stekhoven and Bühlmann, 2012).

Each cell (table, share, mask, method) is stored when it is done. A run that was stopped goes on where it was.

    python experiments/benchmark_imputation.py --out runs/imputation
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (IterativeImputer is behind it)
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

import pyro_lfm as lfm

LEVEL = 0.9


@dataclass(frozen=True)
class Imputed:
    """A filled table, with the draws (S, N, D) of its numbers where the method has a distribution."""

    values: pd.DataFrame
    draws: np.ndarray | None = None


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


def numeric(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame if not isinstance(frame[name].dtype, pd.CategoricalDtype)]


def with_codes(frame: pd.DataFrame, drop: int) -> pd.DataFrame:
    """Numbers on the scale of mean 0 and variance 1, and a column of 0 and 1 for each label after the first ``drop``."""
    parts = {}
    for name in frame:
        column = frame[name]
        if name in numeric(frame):
            parts[name] = (column - column.mean()) / (column.std(ddof=0) or 1.0)
        else:
            for label in column.cat.categories[drop:]:
                parts[name, label] = (column == label).astype(float).where(column.notna())
    return pd.DataFrame(parts)


def by_codes(imputer: Callable[[int], SimpleImputer | KNNImputer | IterativeImputer], drop: int = 0):
    """A method of scikit-learn for whole tables, on standardised numbers and codes of labels."""

    def run(frame: pd.DataFrame, seed: int) -> Imputed:
        codes = with_codes(frame, drop)
        filled = pd.DataFrame(
            imputer(seed).fit_transform(codes.to_numpy(copy=True)), columns=list(codes), index=frame.index
        )
        values = frame.copy()
        for name in frame:
            column = frame[name]
            if name in numeric(frame):
                own = filled[name] * (column.std(ddof=0) or 1.0) + column.mean()
            else:
                labels = column.cat.categories
                shares = np.stack([filled[name, label] for label in labels[drop:]], 1)
                if drop:
                    shares = np.column_stack([1 - shares.sum(1), shares])
                best = shares.argmax(1)
                own = pd.Series(labels[best], index=frame.index)
            values[name] = column.where(column.notna(), own)
        return Imputed(values)

    return run


def forest(features: float | str) -> Callable[[pd.DataFrame, int], Imputed]:
    def imputer(seed: int) -> IterativeImputer:
        trees = RandomForestRegressor(20, max_features=features, random_state=seed)
        return IterativeImputer(trees, max_iter=5, random_state=seed, keep_empty_features=True)

    return by_codes(imputer, drop=1)


def latent(frame: pd.DataFrame, seed: int) -> Imputed:
    imputer = lfm.estimators.LatentImputer(random_state=seed)
    values = imputer.fit_transform(frame)
    draws = imputer.sample(frame, draws=100, random_state=seed)
    return Imputed(values, np.stack([each[numeric(frame)].to_numpy(dtype=float) for each in draws]))


METHODS: dict[str, Callable[[pd.DataFrame, int], Imputed]] = {
    "mean": by_codes(lambda seed: SimpleImputer(keep_empty_features=True)),
    "k-NN": by_codes(lambda seed: KNNImputer(keep_empty_features=True)),
    "Bayesian ridge": by_codes(
        lambda seed: IterativeImputer(random_state=seed, keep_empty_features=True), drop=1
    ),
    "forest": forest(1.0),
    "forest, √D": forest("sqrt"),
    "LatentImputer": latent,
}
FORESTS = ("forest", "forest, √D")


def with_gaps(whole: pd.DataFrame, share: float, mask: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The table with a share of its known entries removed at random, and True for these entries."""
    rng = np.random.default_rng([mask, int(100 * share)])
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
    name = f"{table}_{int(100 * share)}_{mask}_{method}".replace(" ", "-").replace(",", "")
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
                    start = time.perf_counter()
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # rounds used up, and columns without a value
                        imputed = METHODS[method](frame, mask)
                    seconds = time.perf_counter() - start
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


if __name__ == "__main__":
    main()

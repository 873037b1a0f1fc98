"""How good are imputed entries of mixed tables, and do their intervals have the stated coverage?

Two tables of scikit-learn, breast cancer (569 rows) and wine (178 rows), some columns turned into counts, labels, levels
and yes or no. Of all entries 30% are removed completely at random; ``lfm.heterogeneous`` declares what is left in one
call, one factor model is fitted to it, and what was removed is compared with what ``fit.impute`` says of it.

Numbers: root mean squared error over the standard deviation of the column, beside that of its mean, and how many entries
lie within their 90% intervals. Labels, levels, yes or no: the share of errors, beside that of the commonest value, and how
sure the model is of what it says (which should be the share that is right). What was removed is used for nothing else.

    python experiments/impute_tables.py --out runs/impute
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_breast_cancer, load_wine

import pyro_lfm as lfm


def parts(column: pd.Series, names: list[str], ordered: bool) -> pd.Series:
    """A column cut into as many parts of equal size as there are names."""
    cut = pd.qcut(column, len(names), labels=names)
    return cut if ordered else pd.Series(pd.Categorical(cut.astype(str)), index=column.index)


def breast_cancer() -> pd.DataFrame:
    bunch = load_breast_cancer(as_frame=True)
    frame = bunch.data.copy()
    for name in ("mean area", "worst area"):
        frame[name] = frame[name].round().astype(int)
    frame["mean smoothness"] = pd.cut(frame["mean smoothness"], 5, labels=False)
    frame["mean texture"] = parts(frame["mean texture"], ["fine", "medium", "coarse", "rough"], ordered=True)
    for name in ("worst texture", "worst symmetry"):
        frame[name] = parts(frame[name], ["low", "middle", "high"], ordered=False)
    frame["mean concavity"] = frame["mean concavity"] > frame["mean concavity"].median()
    frame["diagnosis"] = pd.Categorical(bunch.target_names[bunch.target])
    return frame


def wine() -> pd.DataFrame:
    bunch = load_wine(as_frame=True)
    frame = bunch.data.copy()
    for name in ("proline", "magnesium"):
        frame[name] = frame[name].round().astype(int)
    frame["ash"] = parts(frame["ash"], ["q1", "q2", "q3", "q4"], ordered=True)
    frame["alcohol"] = pd.qcut(frame["alcohol"], 5, labels=False)
    frame["hue"] = frame["hue"] > frame["hue"].median()
    frame["cultivar"] = pd.Categorical(bunch.target_names[bunch.target])
    return frame


TABLES = {"breast cancer": breast_cancer, "wine": wine}


def run(whole: pd.DataFrame, seed: int, settings: argparse.Namespace) -> pd.DataFrame:
    """One set of gaps: the scores of each column's removed entries."""
    gone = np.random.default_rng(seed).random(whole.shape) < settings.missing
    frame = whole.mask(pd.DataFrame(gone, index=whole.index, columns=whole.columns))
    table = lfm.heterogeneous(frame)
    torch.manual_seed(seed)
    model = lfm.Model(z=lfm.StandardNormal(settings.factors), **table)
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(64)))
    svi = lfm.SVI(
        guide,
        steps=settings.steps,
        learning_rate=0.01,
        schedule=lambda done: (1 - done) ** 0.5 + 1e-3,
        engine=settings.engine,
    )
    fit = lfm.fit(model, table.data, svi, seed=seed, progress=False)
    imputed = fit.impute(draws=settings.draws, seed=seed)
    values = table.decode(imputed.values, index=frame.index)
    low, high = (table.decode(end, index=frame.index) for end in imputed.interval(0.9))
    sure = confidence(table, imputed)
    rows = []
    for k, column in enumerate(table.columns):
        name, removed = column.name, gone[:, k]
        seen, truth, filled = frame[name][~removed], whole[name][removed], values[name][removed]
        row = {"column": name, "kind": column.kind, "entries": int(removed.sum())}
        if column.levels is None:
            unit = seen.std()
            row["error"] = float(np.sqrt(((filled - truth) ** 2).mean()) / unit)
            row["baseline"] = float(np.sqrt(((seen.mean() - truth) ** 2).mean()) / unit)
            slack = 1e-5 * truth.abs()  # rows are held in single precision
            inside = (truth >= low[name][removed] - slack) & (truth <= high[name][removed] + slack)
            row["covered"] = float(inside.mean())
        else:
            wrong = filled.astype(object) != truth.astype(object)
            row["error"] = float(wrong.mean())
            row["baseline"] = float((truth.astype(object) != seen.mode()[0]).mean())
            row["sure"] = float(sure[name][removed].mean())
        rows.append(row)
    return pd.DataFrame(rows)


def confidence(table: lfm.Heterogeneous, imputed: lfm.Imputation) -> dict[str, np.ndarray]:
    """For each column, the share of the draws of an entry that equal its imputed value."""
    result = {}
    for factor, of in table.groups.items():
        same = (imputed.draws[factor] == imputed.values[factor]).float().mean(0).reshape(-1, len(of))
        result.update(zip(of, same.T.numpy(), strict=True))
    return result


def by_kind(columns: pd.DataFrame) -> pd.DataFrame:
    """Means over the entries of each kind, and the coverage of all numbers together."""

    def mean(part: pd.DataFrame, name: str) -> float:
        known = part[part[name].notna()]
        return float(np.average(known[name], weights=known["entries"])) if len(known) else float("nan")

    measures = ["error", "baseline", "covered", "sure"]
    imputed = {k: {m: mean(p, m) for m in measures} for k, p in columns.groupby("kind", sort=True)}
    numbers = columns[columns["covered"].notna()]
    imputed["all numbers"] = {m: mean(numbers, m) for m in measures}
    return pd.DataFrame(imputed).T


def words(values: np.ndarray, percent: bool = False) -> str:
    if np.isnan(values).any():
        return "–"
    scale, digits = (100, 1) if percent else (1, 3)
    spread = f" ± {scale * values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{scale * values.mean():.{digits}f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/impute"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--missing", type=float, default=0.3)
    parser.add_argument("--factors", type=int, default=4)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--engine", default="eager")
    parser.add_argument("--quick", action="store_true", help="wine alone, one seed, few steps")
    settings = parser.parse_args()
    if settings.quick:
        settings.seeds, settings.tables, settings.steps, settings.draws = [1], ["wine"], 250, 100
    settings.out.mkdir(parents=True, exist_ok=True)
    lines = [
        "| table | kind | error | of mean or mode | covered by 90%, % | right, % | sure, % |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    results: dict = {"settings": {k: v for k, v in vars(settings).items() if k != "out"}, "tables": {}}
    for name in settings.tables:
        whole = TABLES[name]()
        runs = []
        for seed in settings.seeds:
            start = time.perf_counter()
            columns = run(whole, seed, settings)
            print(f"{name}, seed {seed}: {time.perf_counter() - start:.0f} s")
            runs.append(columns)
        if name == settings.tables[0]:
            print(lfm.heterogeneous(whole))
        kinds = [by_kind(columns) for columns in runs]
        for kind in kinds[0].index:
            each = {m: np.array([imputed.loc[kind, m] for imputed in kinds]) for m in kinds[0].columns}
            lines.append(
                f"| {name} | {kind} | {words(each['error'])} | {words(each['baseline'])} | "
                f"{words(each['covered'], True)} | "
                f"{words(np.where(np.isnan(each['sure']), np.nan, 1 - each['error']), True)} | "
                f"{words(each['sure'], True)} |"
            )
        results["tables"][name] = {
            "kinds": [json.loads(imputed.to_json(orient="index")) for imputed in kinds],
            "columns": [json.loads(columns.to_json(orient="records")) for columns in runs],
        }
    text = "\n".join(lines) + "\n"
    (settings.out / "table.md").write_text(text, encoding="utf-8")
    (settings.out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

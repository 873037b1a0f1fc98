"""How fast exact inference is: here, in scikit-learn and in MOFA2, to the same log-likelihood or error of hidden entries.

    python experiments/benchmark_exact.py
    python experiments/benchmark_exact.py --only hidden
    python experiments/benchmark_exact.py --quick

- factors: factor analysis with 20 factors of Fashion-MNIST, against both methods of scikit-learn's FactorAnalysis, each in
  a process of its own, so that its peak memory can be read.
- mixtures: mixtures of Gaussians with full, diagonal and isotropic covariances against its GaussianMixture, from the same
  start for the same number of iterations, in turn in one process.
- bayesian: the same by variational Bayes, against its BayesianGaussianMixture, compared on new rows.
- hidden: tables of several views with hidden entries, Gaussian and mixed, against mofapy2, in an environment that is made at
  the first run, and IterativeImputer; each in a process of its own, with one budget after the other.

Set OMP_NUM_THREADS=1 to measure one core. Writes table.md, results.json and a picture into the folder named by --out.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import torch
from exact_inference.bayesian_mixtures import BAYESIAN_HEAD, bayesian_mixtures, bayesian_rows
from exact_inference.complete_factors import (
    FACTORS,
    LAPACK,
    OURS,
    RANDOMIZED,
    factor_analysis,
    pictures_of_clothes,
    simulated,
)
from exact_inference.gaussian_mixtures import blobs, mixtures
from exact_inference.hidden_entries import CONTEST_HEAD, compared, hidden_entries
from rivals.environments import default_folder

from pyro_lfm import plots

PARTS = ("factors", "mixtures", "bayesian", "hidden")


def grid(head: str, rows: list[list[str]]) -> list[str]:
    names = head.split(", ")
    lines = [names, ["---"] + ["---:"] * (len(names) - 1), *rows]
    return [f"| {' | '.join(line)} |".replace(" -", " −").replace("−--", "---") for line in lines] + [""]


def factors_table(results: dict) -> list[str]:
    size, factors = results["factor_analysis_data"], results["factor_analysis"]
    best, ours = max(r["log_likelihood"] for r in factors.values()), factors[OURS]["seconds"]
    rows = []
    for method, r in factors.items():
        measured = r["log_likelihood"]
        rows.append([method, f"{measured:.6f}", f"{best - measured:.1e}", f"{r['iterations']:,.0f}"])
        rows[-1] += [f"{r['seconds']:.2f} s", f"{r['seconds'] / ours:.2f}", f"{r['memory']:.2f}"]
    lines = [f"Factor analysis by EM, {FACTORS} factors, {size[0]:,} × {size[1]}:", ""]
    return lines + grid(
        "method, log p(x), below the best, iterations, time, time / ours, peak memory / data", rows
    )


def mixtures_table(results: dict) -> list[str]:
    lines = []
    for name, mixture in results["mixtures"].items():
        rows = []
        for structure, r in mixture.items():
            more = r["our_log_likelihood"] - r["their_log_likelihood"]
            rows.append([structure, f"{r['ours']:.3f} s", f"{r['theirs']:.3f} s", f"{r['ratio']:.2f}"])
            rows[-1].append(f"{more:.1e}")
        lines += [f"Mixtures by EM, {name}:", ""]
        lines += grid("covariance, ours, scikit-learn, time / ours, log p(x) − theirs", rows)
    return lines


def bayesian_table(results: dict) -> list[str]:
    lines = []
    for name, mixture in results["bayesian"].items():
        lines += [f"Mixtures by variational Bayes, {name}:", "", *grid(BAYESIAN_HEAD, bayesian_rows(mixture))]
    return lines


def hidden_table(results: dict) -> list[str]:
    hidden, lines = results["hidden"], []
    for name, records in hidden["contests"].items():
        ours = next(iter(records))
        lines += [f"{name}:", "", *grid(CONTEST_HEAD, compared(records, ours))]
    return lines + [hidden["note"], ""] * bool(hidden["note"])


TABLES = dict(zip(PARTS, (factors_table, mixtures_table, bayesian_table, hidden_table), strict=True))
NOTES = {
    "factors": [
        "log p(x) in nats per row; times include all that lfm.fit does around EM: checks, conversion to float64.",
        "The tolerances let all methods of factor analysis end within 1e-4 nats per row of the best. One that ends "
        "further below was ended by the noise of its own random projections, which the tolerance cannot mend.",
        "Peak memory: of the process, less that before the data were loaded, over that of the data (float32).",
    ],
    "mixtures": [],
    "bayesian": [
        "Both from starts of their own, so that the local optima differ; log p(new) in nats per row."
    ],
    "hidden": [
        "Nats per hidden entry: the code length of the hidden entries under the predicted means. The budget is the one "
        "after which a contestant is within 0.001 nats of its best. Ours to that error: the cheapest of our budgets that "
        "is as good. Peak MiB: anonymous memory above that before the fit.",
    ],
}


def table(results: dict) -> str:
    parts = results["settings"]["only"]
    lines = ["# Exact inference against scikit-learn and MOFA2", ""]
    lines += [line for part in parts for line in TABLES[part](results)]
    notes = [note for part in parts for note in NOTES[part]]
    notes += ["Ratios depend on the machine and on the number of threads; other work beside blurs them."]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def ratios(results: dict) -> dict[str, float]:
    """Their time over ours, by row of the tables."""
    bars = {}
    if factors := results.get("factor_analysis"):
        ours = factors[OURS]["seconds"]
        bars |= {f"factors, {method}": factors[method]["seconds"] / ours for method in (RANDOMIZED, LAPACK)}
    for name, mixture in results.get("mixtures", {}).items():
        bars |= {f"{structure} mixture, {name}": r["ratio"] for structure, r in mixture.items()}
    for name, mixture in results.get("bayesian", {}).items():
        for structure, r in mixture.items():
            bars[f"{structure} Bayesian mixture, {name}"] = r["theirs"]["seconds"] / r["ours"]["seconds"]
    for name, records in results.get("hidden", {}).get("contests", {}).items():
        for row in compared(records, next(iter(records)))[1:]:
            if row[-1] != "not reached":
                bars[f"{row[0]}, {name.partition(',')[0]}"] = float(row[-2])
    return bars


def picture(results: dict):
    from matplotlib.figure import Figure

    bars = ratios(results)
    figure = Figure(figsize=(7.6, 0.4 * len(bars) + 1), dpi=150, layout="constrained")
    ax = figure.add_subplot(xscale="log", xlabel="their time / ours")
    # Bars run from equal speed: to the right where we are faster.
    drawn = ax.barh(list(bars), [ratio - 1 for ratio in bars.values()], left=1, color=plots.colours("a"))
    ax.bar_label(drawn, [f"{ratio:.2f}" for ratio in bars.values()], padding=3)
    ax.axvline(1, color="black", linewidth=1)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.margins(x=0.15)
    ax.invert_yaxis()
    return figure


def measure(part: str, args: argparse.Namespace) -> dict:
    """The results of one part, by name."""
    quick, repeats = args.quick, 1 if args.quick else args.repeats
    if part == "factors":
        x = simulated(4000, 60) if quick else pictures_of_clothes()
        return {
            "factor_analysis_data": list(x.shape),
            "factor_analysis": factor_analysis(x, repeats, args.tolerance),
        }
    if part == "hidden":
        return {part: hidden_entries(quick, repeats, Path(args.environments))}
    sizes = [(2000, 20, 3, 5)] if quick else [(20_000, 20, 8, 20), (20_000, 100, 10, 20)]
    run = {"mixtures": mixtures, "bayesian": bayesian_mixtures}[part]
    named = {f"{n:,} × {d}, {c} classes": (n, d, c, i) for n, d, c, i in sizes}
    return {part: {name: run(blobs(*size[:3]), size[2], size[3], repeats) for name, size in named.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few simulated rows: to see that all works")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    parser.add_argument("--repeats", type=int, default=3, help="of which times are medians")
    parser.add_argument("--tolerance", type=float, default=1e-6, help="of factor analysis, nats per row")
    parser.add_argument(
        "--environments", default=str(default_folder()), help="folder of rivals' environments"
    )
    parser.add_argument("--out", default="runs/benchmark_exact", help="folder of the results")
    args = parser.parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    results = {
        "settings": vars(args),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("pyro_lfm", "torch", "scikit-learn", "numpy")},
    }
    for part in args.only:
        results |= measure(part, args)
    (out / "table.md").write_text(text := table(results), encoding="utf-8")
    (out / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False), encoding="utf-8")
    picture(results).savefig(out / "ratios.png")
    print(f"\n{text}\nThe table, every number and the picture are in {out}/")


if __name__ == "__main__":
    main()

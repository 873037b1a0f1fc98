"""How fast exact inference is: expectation maximisation here against scikit-learn, to the same log-likelihood.

    python experiments/benchmark_exact.py
    python experiments/benchmark_exact.py --quick

Factor analysis with 20 factors of Fashion-MNIST, against both methods of scikit-learn's FactorAnalysis, each in a
process of its own, so that its peak memory can be read; and mixtures of Gaussians with full, diagonal and isotropic
covariances against its GaussianMixture, from the same start for the same number of iterations, in turn in one process.

Set OMP_NUM_THREADS=1 to measure one core. Writes table.md, results.json and a picture into the folder named by --out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import pyro_lfm as lfm
from pyro_lfm import plots

FACTORS = 20
OURS, LAPACK, RANDOMIZED = "lfm.EM", "scikit-learn, lapack", "scikit-learn, randomized"
STRUCTURES = {"full": "full", "diagonal": "diag", "isotropic": "spherical"}  # ours: theirs


# Factor analysis -----------------------------------------------------------------------------------------


def pictures_of_clothes() -> np.ndarray:
    """Fashion-MNIST (60000, 784). Uniform noise over each grey level keeps the likelihood bounded.

    Without it some border pixels are constant and the maximum is decided by floors, of which scikit-learn's cannot
    be set. With it no noise scale comes near the floor of 1e-4 that is ours, and both have the same maximum.
    """
    pixels = lfm.data.fashion_mnist().x.numpy() * 255
    noise = np.random.default_rng(0).random(pixels.shape, dtype=np.float32)
    return ((pixels + noise) / 256).astype(np.float32)


def simulated(rows: int, columns: int) -> np.ndarray:
    draw = np.random.default_rng(0).standard_normal
    noise = draw((rows, columns)) * np.linspace(0.5, 2, columns)
    return (draw((rows, FACTORS)) @ draw((FACTORS, columns)) + noise).astype(np.float32)


def our_factors(x: np.ndarray, tolerance: float) -> lfm.Fit:
    observed = lfm.Gaussian(x.shape[1], mean=lfm.Linear(), covariance=lfm.Diagonal(min_scale=1e-4))
    model = lfm.Model(z=lfm.StandardNormal(FACTORS), x=observed).double()
    return lfm.fit(model, torch.from_numpy(x), lfm.EM(tolerance=tolerance), seed=0, progress=False)


def peak_memory() -> int:
    """Peak memory of this process in bytes. On Linux ru_maxrss would start at that of the parent."""
    if (status := Path("/proc/self/status")).exists():
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    from resource import RUSAGE_SELF, getrusage

    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fit_factors(method: str, file: str, tolerance: float) -> dict[str, float]:
    """One fit in this process: seconds, peak memory above that of a small fit in units of the data, and log p."""
    our_factors(simulated(100, 2 * FACTORS), tolerance), FactorAnalysis(1).fit(simulated(9, 2))  # to warm up
    before = peak_memory()
    x = np.load(file)
    began = time.perf_counter()
    if method == OURS:
        fit = our_factors(x, tolerance)
        iterations = fit.history[-1]["iteration"]
    else:
        tol = tolerance * len(x)  # theirs is on all rows together
        rival = FactorAnalysis(FACTORS, svd_method=method.rpartition(" ")[2], tol=tol, max_iter=20_000)
        iterations = rival.fit(x).n_iter_
    seconds = time.perf_counter() - began
    memory = (peak_memory() - before) / x.nbytes
    likelihood = fit.log_likelihood().mean().item() if method == OURS else float(rival.score(x))
    return {"seconds": seconds, "memory": memory, "log_likelihood": likelihood, "iterations": iterations}


def factor_analysis(x: np.ndarray, repeats: int, tolerance: float) -> dict[str, dict]:
    """Medians of runs of every method, each in its own process, in turn. lapack, which is slow, runs once."""
    tolerances = {OURS: tolerance / 10, RANDOMIZED: tolerance, LAPACK: tolerance}
    measured: dict[str, list[dict]] = {method: [] for method in tolerances}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.npy"
        np.save(file, x)
        for number in range(repeats):
            for method in [OURS, RANDOMIZED] + [LAPACK] * (number == 0):
                print(f"factor analysis, {method}", flush=True)
                command = [sys.executable, __file__, "--fit", method, str(file), str(tolerances[method])]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
                measured[method].append(json.loads(done.stdout.splitlines()[-1]))
                print(
                    "  {seconds:.2f} s, log p(x) {log_likelihood:.6f}".format(**measured[method][-1]),
                    flush=True,
                )
    return {
        method: {k: statistics.median(r[k] for r in runs) for k in runs[0]}
        for method, runs in measured.items()
    }


# Mixtures ------------------------------------------------------------------------------------------------


def blobs(rows: int, columns: int, classes: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((classes, columns))
    scales = rng.uniform(0.5, 1.5, (classes, columns))
    label = rng.integers(classes, size=rows)
    return centres[label] + scales[label] * rng.standard_normal((rows, columns))


def our_mixture(x: np.ndarray, start: np.ndarray, structure: str, iterations: int) -> lfm.Fit:
    classes, columns = start.shape
    covariance, first = {
        "full": (lfm.Full, torch.eye(columns)),
        "diagonal": (lfm.Diagonal, torch.ones(columns)),
        "isotropic": (lfm.Isotropic, torch.tensor(1.0)),
    }[structure]
    means, covariances = lfm.Lookup(lfm.Learned(torch.from_numpy(start))), lfm.Lookup(lfm.Learned(first))
    observed = lfm.Gaussian(columns, mean=means, covariance=covariance(covariances), given="c")
    model = lfm.Model(c=lfm.Categorical(classes), x=observed).double()
    inference = lfm.EM(start="model", iterations=iterations, tolerance=0.0)
    return lfm.fit(model, torch.from_numpy(x), inference, progress=False)


def their_mixture(x: np.ndarray, start: np.ndarray, structure: str, iterations: int) -> GaussianMixture:
    classes, columns = start.shape
    first = {"full": np.tile(np.eye(columns), (classes, 1, 1)), "diagonal": np.ones(start.shape)}
    options = {"covariance_type": STRUCTURES[structure], "max_iter": iterations, "tol": 0.0}
    options |= {"precisions_init": first.get(structure, np.ones(classes)), "init_params": "random_from_data"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of iterations is meant
        options["weights_init"] = np.full(classes, 1 / classes)
        return GaussianMixture(classes, means_init=start, **options).fit(x)


def mixtures(rows: int, columns: int, classes: int, iterations: int, repeats: int) -> dict[str, dict]:
    x = blobs(rows, columns, classes)
    start = x[:classes].astype(np.float32).astype(np.float64)
    results = {}
    for structure in STRUCTURES:
        our_mixture(x[:2000], start, structure, 1), their_mixture(x[:2000], start, structure, 1)  # to warm up
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(repeats):
            times = [time.perf_counter()]
            fit = our_mixture(x, start, structure, iterations)
            times.append(time.perf_counter())
            rival = their_mixture(x, start, structure, iterations)
            seconds["ours"].append(times[1] - times[0])
            seconds["theirs"].append(time.perf_counter() - times[1])
        measured = {who: statistics.median(times) for who, times in seconds.items()}
        measured["our_log_likelihood"] = fit.log_likelihood().mean().item()
        measured["their_log_likelihood"] = float(rival.score(x))
        results[structure] = {**measured, "ratio": measured["theirs"] / measured["ours"]}
        print(f"mixture, {columns} columns, {structure}: {measured['ours']:.3f} s", flush=True)
    return results


# Tables and pictures -----------------------------------------------------------------------------------------


def grid(head: str, rows: list[list[str]]) -> list[str]:
    names = head.split(", ")
    lines = [names, ["---"] + ["---:"] * (len(names) - 1), *rows]
    return [f"| {' | '.join(line)} |".replace(" -", " −").replace("−--", "---") for line in lines] + [""]


def table(results: dict) -> str:
    size, factors = results["factor_analysis_data"], results["factor_analysis"]
    best, ours = max(r["log_likelihood"] for r in factors.values()), factors[OURS]["seconds"]
    rows = []
    for method, r in factors.items():
        measured = r["log_likelihood"]
        rows.append([method, f"{measured:.6f}", f"{best - measured:.1e}", f"{r['iterations']:,.0f}"])
        rows[-1] += [f"{r['seconds']:.2f} s", f"{r['seconds'] / ours:.2f}", f"{r['memory']:.2f}"]
    lines = ["# Expectation maximisation against scikit-learn", ""]
    lines += [f"Factor analysis, {FACTORS} factors, {size[0]:,} × {size[1]}:", ""]
    lines += grid("method, log p(x), below the best, iterations, time, time / ours, peak memory / data", rows)
    for name, mixture in results["mixtures"].items():
        rows = []
        for structure, r in mixture.items():
            more = r["our_log_likelihood"] - r["their_log_likelihood"]
            rows.append([structure, f"{r['ours']:.3f} s", f"{r['theirs']:.3f} s", f"{r['ratio']:.2f}"])
            rows[-1].append(f"{more:.1e}")
        lines += [f"Mixtures, {name}:", ""]
        lines += grid("covariance, ours, scikit-learn, time / ours, log p(x) − theirs", rows)
    notes = [
        "log p(x) in nats per row; times include all that lfm.fit does around EM: checks, conversion to float64.",
        "The tolerances let all methods of factor analysis end within 1e-4 nats per row of the best. One that ends "
        "further below was ended by the noise of its own random projections, which the tolerance cannot mend.",
        "Peak memory: of the process, less that before the data were loaded, over that of the data (float32).",
        "Ratios depend on the machine and on the number of threads; other work beside blurs them.",
    ]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def picture(results: dict):
    from matplotlib.figure import Figure

    seconds = {method: r["seconds"] for method, r in results["factor_analysis"].items()}
    bars = {f"factors, {method}": seconds[method] / seconds[OURS] for method in (RANDOMIZED, LAPACK)}
    for name, mixture in results["mixtures"].items():
        bars |= {f"{structure} mixture, {name}": r["ratio"] for structure, r in mixture.items()}
    figure = Figure(figsize=(8, 0.4 * len(bars) + 1), dpi=150, layout="constrained")
    ax = figure.add_subplot(xscale="log", xlabel="scikit-learn's time / ours")
    # Bars run from equal speed: to the right where we are faster.
    drawn = ax.barh(list(bars), [ratio - 1 for ratio in bars.values()], left=1, color=plots.colours("a"))
    ax.bar_label(drawn, [f"{ratio:.2f}" for ratio in bars.values()], padding=3)
    ax.axvline(1, color="black", linewidth=1)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.margins(x=0.15)
    ax.invert_yaxis()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few simulated rows: to see that all works")
    parser.add_argument("--repeats", type=int, default=3, help="of which times are medians")
    parser.add_argument("--tolerance", type=float, default=1e-6, help="of factor analysis, nats per row")
    parser.add_argument("--out", default="runs/benchmark_exact", help="folder of the results")
    parser.add_argument("--fit", nargs=3, metavar=("WAY", "FILE", "TOLERANCE"), help="one fit only")
    args = parser.parse_args()
    if args.fit:
        return print(json.dumps(fit_factors(*args.fit[:2], float(args.fit[2]))))
    out, repeats = Path(args.out), 1 if args.quick else args.repeats
    out.mkdir(parents=True, exist_ok=True)
    x = simulated(4000, 60) if args.quick else pictures_of_clothes()
    sizes = [(2000, 20, 3, 5)] if args.quick else [(20_000, 20, 8, 20), (20_000, 100, 10, 20)]
    results = {
        "settings": vars(args),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("pyro_lfm", "torch", "scikit-learn", "numpy")},
        "factor_analysis_data": list(x.shape),
        "factor_analysis": factor_analysis(x, repeats, args.tolerance),
        "mixtures": {f"{n:,} × {d}, {c} classes": mixtures(n, d, c, i, repeats) for n, d, c, i in sizes},
    }
    (out / "table.md").write_text(text := table(results), encoding="utf-8")
    (out / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False), encoding="utf-8")
    picture(results).savefig(out / "ratios.png")
    print(f"\n{text}\nThe table, every number and the picture are in {out}/")


if __name__ == "__main__":
    main()

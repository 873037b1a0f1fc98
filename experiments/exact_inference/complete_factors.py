"""Factor analysis of complete rows by EM here and by scikit-learn, each fit in a process of its own.

``complete_factors.py METHOD FILE TOLERANCE`` is one fit, and prints a line of JSON.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import FactorAnalysis

import pyro_lfm as lfm

FACTORS = 20
OURS, LAPACK, RANDOMIZED = "lfm.EM", "scikit-learn, lapack", "scikit-learn, randomized"


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
                command = [sys.executable, __file__, method, str(file), str(tolerances[method])]
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


if __name__ == "__main__":
    print(json.dumps(fit_factors(*sys.argv[1:3], float(sys.argv[3]))))

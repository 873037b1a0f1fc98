"""What do an exploratory and a confirmatory factor analysis say of a questionnaire whose factors are known?

A questionnaire of six-point items is simulated: four correlated factors, items in both directions, answers rounded to 1 … 6.
A psychologist's questions are asked in order. How many factors? Which items belong together (oblimin)? Does the pattern of
zeros fit, and does a wrong one not? What is lost where a fifth of the answers is missing?

Numbers: congruence of the loadings with those that were simulated (Tucker's φ: 1 is the same direction), the largest error
of a factor correlation, and the indices of fit. Rounding to six steps attenuates correlations, so loadings come out a little
low, for every method.

    python experiments/questionnaire.py --out runs/questionnaire
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd

import pyro_lfm as lfm

FACTORS = ["calm", "kind", "open", "diligent"]


def questionnaire(rows: int, items: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Answers (N, D) of ``items`` items a factor, their loadings (D, K) and the factor correlations (K, K)."""
    random = np.random.default_rng(seed)
    count = len(FACTORS)
    between = np.array([[1, 0.4, 0.2, 0.3], [0.4, 1, 0.3, 0.2], [0.2, 0.3, 1, 0.1], [0.3, 0.2, 0.1, 1]])
    names = [f"{factor}_{k + 1}" for factor in FACTORS for k in range(items)]
    loadings = np.zeros((len(names), count))
    own = np.repeat(np.arange(count), items)
    loadings[np.arange(len(names)), own] = np.tile(np.linspace(0.8, 0.5, items), count)
    loadings[
        np.arange(len(names)) % items == items - 1
    ] *= -1  # the last item of each factor is asked in reverse
    scores = random.multivariate_normal(np.zeros(count), between, rows)
    answers = scores @ loadings.T + np.sqrt(1 - (loadings**2).sum(1)) * random.normal(size=(rows, len(names)))
    frame = pd.DataFrame(np.clip(np.round(3.5 + 1.2 * answers), 1, 6), columns=names)
    return frame, pd.DataFrame(loadings, index=names, columns=FACTORS), between


def exploratory(answers: pd.DataFrame, factors: int, seed: int) -> lfm.Fit:
    model = lfm.Model(z=lfm.StandardNormal(factors), x=lfm.Gaussian(answers.shape[1], mean=lfm.Linear()))
    return lfm.fit(model.double(), answers, lfm.EM(), seed=seed, progress=False)


def confirmatory(answers: pd.DataFrame, pattern: np.ndarray, settings: argparse.Namespace) -> lfm.Fit:
    latent = lfm.Gaussian(pattern.shape[1], mean=lfm.Fixed(0.0), covariance=lfm.Full())
    x = lfm.Gaussian(answers.shape[1], mean=lfm.Linear(pattern=pattern.astype(int)))
    em = lfm.EM(restarts=settings.restarts)
    return lfm.fit(lfm.Model(z=latent, x=x).double(), answers, em, seed=settings.seed, progress=False)


def agreement(
    done: lfm.factor_analysis.FactorSolution, truth: pd.DataFrame, between: np.ndarray
) -> dict[str, float]:
    """The smallest congruence of a factor with its true loadings, and the largest error of a factor correlation."""
    loadings, true = done.loadings.to_numpy(), truth.to_numpy()
    inner = true.T @ loadings / np.outer(np.linalg.norm(true, axis=0), np.linalg.norm(loadings, axis=0))
    places = np.abs(inner).argmax(1)
    sign = np.sign(inner[range(len(places)), places])
    correlations = done.factor_correlations.to_numpy()[np.ix_(places, places)] * np.outer(sign, sign)
    return {
        "congruence": float(np.abs(inner).max(1).min()),
        "correlation_error": float(np.abs(correlations - between).max()),
    }


def analyses(settings: argparse.Namespace) -> dict[str, lfm.factor_analysis.FactorSolution]:
    """The solutions, each of one fit."""
    answers, truth, _ = questionnaire(settings.rows, settings.items, settings.seed)
    pattern = truth.to_numpy() != 0
    swapped = pattern.copy()
    swapped[[0, settings.items]] = swapped[[settings.items, 0]]  # two items stand with the wrong factor
    gone = np.random.default_rng(settings.seed).random(answers.shape) < settings.missing
    solve = lfm.factor_analysis.solution
    fit = exploratory(answers, len(FACTORS), settings.seed)
    return {
        "varimax": solve(fit, "varimax"),
        "oblimin": solve(fit, "oblimin"),
        "promax": solve(fit, "promax"),
        "pattern": solve(confirmatory(answers, pattern, settings), factors=FACTORS),
        "pattern, two items swapped": solve(confirmatory(answers, swapped, settings), factors=FACTORS),
        f"pattern, {settings.missing:.0%} missing": solve(
            confirmatory(answers.mask(gone), pattern, settings), factors=FACTORS
        ),
    }


def table(results: dict[str, dict[str, float]]) -> str:
    """The results in markdown."""
    lines = [
        "| analysis | congruence | error of correlations | χ² | df | RMSEA (90%) | CFI | SRMR |",
        "|---|---:|---:|---:|---:|---|---:|---:|",
    ]
    for name, r in results.items():
        interval = f"{r['rmsea']:.3f} ({r['rmsea_lower']:.3f} to {r['rmsea_upper']:.3f})"
        lines.append(
            f"| {name} | {r['congruence']:.3f} | {r['correlation_error']:.3f} | {r['chi_squared']:.0f} | {r['df']} | "
            f"{interval} | {r['cfi']:.3f} | {r['srmr']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/questionnaire"))
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--items", type=int, default=5, help="items of each factor")
    parser.add_argument("--missing", type=float, default=0.2, help="share of answers that are taken away")
    parser.add_argument("--restarts", type=int, default=10, help="starts of each confirmatory fit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few rows and items")
    settings = parser.parse_args()
    if settings.quick:
        settings.rows, settings.items, settings.restarts = 200, 3, 1
    settings.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    answers, truth, between = questionnaire(settings.rows, settings.items, settings.seed)
    count = lfm.factor_analysis.number_of_factors(
        answers,
        largest=len(FACTORS) + 1,
        draws=20 if settings.quick else 200,
        folds=2 if settings.quick else 5,
    )
    print(count, "\n")
    count.plot().savefig(settings.out / "number_of_factors.png")
    solutions = analyses(settings)
    print(solutions["oblimin"], "\n")
    results = {}
    for name, done in solutions.items():
        indices = done.fit_indices(correction="none")
        kept = ("chi_squared", "df", "rmsea", "rmsea_lower", "rmsea_upper", "cfi", "tli", "srmr")
        results[name] = {**agreement(done, truth, between), **{key: getattr(indices, key) for key in kept}}
    shown = {"simulated": truth.to_numpy()}
    for name in ("oblimin", "pattern"):
        values = solutions[name].loadings.to_numpy()
        inner = truth.to_numpy().T @ values
        places = np.abs(inner).argmax(1)
        shown[name] = values[:, places] * np.sign(inner[range(len(places)), places])
    lfm.plots.loadings(shown, names=list(truth.index)).savefig(settings.out / "loadings.png")
    text = table(results)
    print(text)
    (settings.out / "table.md").write_text(text + "\n", encoding="utf-8")
    written = {
        "settings": {
            name: str(value) if isinstance(value, Path) else value for name, value in vars(settings).items()
        },
        "suggested": count.suggested,
        "analyses": results,
        "seconds": time.perf_counter() - began,
    }
    (settings.out / "results.json").write_text(json.dumps(written, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

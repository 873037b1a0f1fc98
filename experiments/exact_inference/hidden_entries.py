"""The contests of tables with hidden entries: their data, contestants and budgets."""

from __future__ import annotations

from pathlib import Path

from rivals.environments import Unavailable, python_of

from exact_inference.contest import CONTEST_HEAD, Contestant, compared, contest
from exact_inference.tables import simulated

__all__ = ["CONTEST_HEAD", "compared", "hidden_entries"]

FACTORS = 8


def mofa_python(folder: Path, make: bool) -> tuple[str | None, str]:
    """The interpreter of MOFA's environment, or why there is none."""
    if not make and not any(folder.glob("mofa-*/complete")):
        return None, "mofapy2 is left out: --quick makes no environment."
    try:
        return python_of("mofa", folder), ""
    except Unavailable as error:
        return None, f"mofapy2 is left out: {error}."


def hidden_entries(quick: bool, repeats: int, folder: Path) -> dict:
    """The contests of a Gaussian and of a mixed table, ours first, and a note where a rival is left out."""
    python, note = mofa_python(folder, make=not quick)
    budgets = (4, 32) if quick else (4, 8, 16, 32, 64, 128, 256, 1000)
    mofa = {"MOFA2, mofapy2": Contestant("mofa_fits:mofa", budgets, python)} if python else {}
    rows, sizes = (200, (20, 15, 10)) if quick else (1000, (150, 100, 50))
    kinds = ("gaussian", "bernoulli", "poisson")
    gaussian = simulated(rows, [("gaussian", size) for size in sizes], FACTORS, hidden=0.2)
    mixed = simulated(rows, [*zip(kinds, sizes, strict=True)], FACTORS, hidden=0.2)
    exact = Contestant("our_fits:variational_bayes", (2, 8) if quick else (1, 2, 4, 8, 16, 500))
    imputer = Contestant("sklearn_fits:iterative_imputer", (1,) if quick else (1, 2, 4))
    gradients = Contestant("our_fits:stochastic_gradients", (2, 4) if quick else (50, 100, 200, 400))
    first = {"lfm.VariationalBayes": exact} | mofa | {"scikit-learn, IterativeImputer": imputer}
    second = {"lfm.SVI, q(z) per row": gradients} | mofa
    size = f"{rows:,} rows, 20% hidden, {FACTORS} factors, columns"
    return {
        "note": note,
        "contests": {
            f"Gaussian views, {size} {' + '.join(map(str, sizes))}": contest(
                gaussian, FACTORS, first, repeats
            ),
            f"Mixed views, {size} {' + '.join(f'{n} {k}' for k, n in zip(kinds, sizes, strict=True))}": contest(
                mixed, FACTORS, second, repeats
            ),
        },
    }

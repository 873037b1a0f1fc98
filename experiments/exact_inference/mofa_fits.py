"""Tables fitted by MOFA2's mofapy2, in the environment that ``mofa_environment.py`` makes: no torch here."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from mofapy2.run.entry_point import entry_point

from exact_inference.tables import Table


def mofa(table: Table, factors: int, budget: int) -> list[np.ndarray]:
    """MOFA+ with automatic relevance determination of the weights and no spike and slab, as ours.

    Args:
        budget: the most iterations; its own test of convergence, at its slowest, may end earlier.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        program = entry_point()
        program.set_data_options(scale_views=False)
        program.set_data_matrix([[x.copy()] for x in table.values], likelihoods=list(table.kinds))
        program.set_model_options(
            factors=factors, spikeslab_weights=False, ard_weights=True, ard_factors=False
        )
        program.set_train_options(iter=budget + 1, convergence_mode="slow", seed=1, quiet=True)
        program.build()
        program.run()
    z = program.model.nodes["Z"].getExpectation()
    signals = [z @ weight.T for weight in program.model.nodes["W"].getExpectation()]
    return [_mean(*each) for each in zip(table.kinds, table.values, signals, strict=True)]


def _mean(kind: str, x: np.ndarray, signal: np.ndarray) -> np.ndarray:
    if kind == "gaussian":
        return signal + np.nanmean(x, 0)  # it centres the columns
    return 1 / (1 + np.exp(-signal)) if kind == "bernoulli" else np.logaddexp(0, signal)

"""The measures that probabilities of several models are densities of: whether their nats can be compared."""

from __future__ import annotations

from collections.abc import Mapping

from torch.distributions import constraints

from pyro_lfm.programs.model import AnyModel

# The metrics that depend on the measure. In a difference of two of them, such as the gap, it cancels.
OF_A_MEASURE = {"bound", "reconstruction", "log_likelihood", "bits_per_dimension", "training_bound"}


def measure_of(model: AnyModel, named: bool) -> str:
    """What p(x) of a model is, in words: a probability of counts and labels, or a density.

    Args:
        named: whether the rows have names, so that models may describe different ones of them.

    >>> import pyro_lfm as lfm
    >>> measure_of(lfm.Model(z=lfm.StandardNormal(1), x=lfm.Poisson(2, rate=lfm.MLP(4))), named=False)
    'a probability'
    >>> measure_of(lfm.Model(x=lfm.Gaussian(2)), named=True)
    'a density of x'
    """
    kinds: dict[str, list[str]] = {}
    for name, variable in model.observed.items():
        if name not in model.covariates:
            kinds.setdefault(_kind(variable.support), []).append(name)
    return " and ".join(
        f"{kind} of {', '.join(sorted(names))}" if named else kind for kind, names in sorted(kinds.items())
    )


def _kind(support: constraints.Constraint) -> str:
    if getattr(support, "is_discrete", False):
        return "a probability"
    inner = support
    while hasattr(inner, "base_constraint"):
        inner = inner.base_constraint
    # Its rows have one free entry less.
    return "a density on the simplex" if inner is constraints.simplex else "a density"


def note_of(measures: Mapping[str, str], baseline: str, metrics: list[str]) -> list[str]:
    """A sentence for the candidates whose measure is not that of the baseline."""
    others: dict[str, list[str]] = {}
    for candidate, measure in measures.items():
        if measure != measures[baseline]:
            others.setdefault(measure, []).append(candidate)
    touched = [metric for metric in metrics if metric in OF_A_MEASURE]
    if not touched:
        return []
    return [
        f"{', '.join(names)}: p(x) is {measure}, and that of {baseline} is {measures[baseline]}. Their nats are of "
        f"different measures and cannot be compared, so that {'it is' if len(names) == 1 else 'they are'} not ranked by "
        f"{', '.join(touched)}; a metric of your own in the units of the data can compare them."
        for measure, names in others.items()
    ]

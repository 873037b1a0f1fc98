"""The contract of an objective: its value and its gradient against sums over all values and differences of values."""

from __future__ import annotations

import copy
import itertools
import math
from functools import partial

import torch
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives import Names, Objective
from pyro_lfm.objectives.bound import Bound
from pyro_lfm.objectives.handlers import AtValues
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.testing.checks import ContractError
from pyro_lfm.testing.settings import Setting, log_evidence, setting_of

# How often a batch is run.
_REPEATS = 40
# Standard errors: of 40 repeats a false alarm has a probability below 1e-8 for each number that is compared.
_LIMIT = 8.0
# How well differences of values are known.
_SAME = 1e-5
# A step by which some draws change.
_WIDE = 0.05
_DRAWN = "a label drawn, which has no reparametrization,"
_REMEDY = "take the terms from run.reconstruction(), run.kl(name) and run.expectation(term)"


def check_objective(objective: Objective, seed: int = 0) -> None:
    """Whether an objective keeps its contract: one number per row, and its gradient, whatever the latents are.

    It is run on small models whose latents are a label, a Gaussian, both, and a label that is known in some rows. Compared
    are the value where the label is summed out with the value where it is drawn; the gradient of both, and of the Gaussian,
    with differences of values; the bound that it reports with log p(x) in closed form; batches of some rows with all rows.
    What an objective refuses by a ``DeclarationError`` is not looked at. False alarms are below one in 10⁶.

    Args:
        objective: as it would be given to ``SVI``; a schedule is looked at half way.
        seed: of models, data and draws.

    Raises:
        ContractError: with the faults in words.

    Objectives that are no mean over a row's draws (``weighs_draws``) are compared with sums over all values of all draws,
    two of each of two rows. Where the guide's gradient is another by intent (``leads_guide``) the model's alone is.

    >>> from pyro_lfm import ELBO, ImportanceWeightedELBO
    >>> check_objective(ELBO(kl_weight=0.5))
    >>> check_objective(ImportanceWeightedELBO(5))
    """
    if not isinstance(objective, Objective):
        raise ContractError(f"an objective is a subclass of lfm.Objective; got {type(objective).__name__}")
    objective = objective.at(0.5)
    faults: list[str] = []
    refusals: list[str] = []
    served = 0
    for check in (_of_gaussian, _of_label_and_gaussian, _of_label, _of_known_labels):
        try:
            faults += check(objective, seed)
            served += 1
        except DeclarationError as error:
            refusals.append(str(error))
        except Exception as error:  # whatever a part of one's own may raise
            faults.append(f"running it failed: {type(error).__name__}: {str(error).splitlines()[0]}")
        if faults:
            break
    if not served and not faults:
        faults = [f"it refuses every model: {refusals[0]}"]
    if faults:
        raise ContractError(f"{type(objective).__name__}: " + "; ".join(dict.fromkeys(faults)))


# Checks ---------------------------------------------------------------------------------------------------


def _of_gaussian(objective: Objective, seed: int) -> list[str]:
    setting = setting_of("z", seed)
    return _form_faults(setting, objective) + _slope_faults(setting, objective, "a Gaussian latent")


def _of_label_and_gaussian(objective: Objective, seed: int) -> list[str]:
    return _slope_faults(
        setting_of("cz", seed), objective.enumerating("auto"), "a label summed out and a Gaussian"
    )


def _of_known_labels(objective: Objective, seed: int) -> list[str]:
    return _slope_faults(
        setting_of("c", seed, known=True), objective.enumerating("auto"), "labels known in some rows"
    )


def _of_label(objective: Objective, seed: int) -> list[str]:
    """A label that is summed out, and the same that is drawn: either may be refused, what is served must agree."""
    setting = setting_of("c", seed)
    summed, drawn = objective.enumerating("auto"), objective.enumerating("never")
    serves = {id(each): _serves(setting, each) for each in (summed, drawn)}
    if not any(serves.values()):
        setting.value(drawn)  # says why
    faults = []
    if serves[id(summed)]:
        faults += _form_faults(setting, summed) + _slope_faults(setting, summed, "a label summed out")
    if serves[id(drawn)]:
        faults += _form_faults(setting, drawn)
        if objective.weighs_draws:
            faults += _draws_faults(setting, drawn)
        elif serves[id(summed)]:
            faults += _agreement_faults(setting, summed, drawn)
        else:
            faults += _moved_draws_faults(setting, drawn)
    return faults


def _serves(setting: Setting, objective: Objective) -> bool:
    try:
        setting.value(objective)
    except DeclarationError:
        return False
    return True


def _form_faults(setting: Setting, objective: Objective) -> list[str]:
    """Shapes, names, what does not depend on the number of rows, and a reported bound that is none."""
    bound = setting.bound(objective)
    if not isinstance(bound, Bound):
        return [f"estimate must give a lfm.Bound; got {type(bound).__name__}"]
    rows, latents = (setting.batch.size,), set(setting.model.latents)
    faults = []
    if bound.objective.shape != ():
        faults.append(f"Bound.objective must be a scalar; got shape {tuple(bound.objective.shape)}")
    each = {
        "per_row": bound.per_row,
        "reconstruction": bound.reconstruction,
        **{f"kl[{n!r}]": v for n, v in bound.kl.items()},
    }
    faults += [
        f"Bound.{n} must have shape (B,); got {tuple(v.shape)}" for n, v in each.items() if v.shape != rows
    ]
    if set(bound.kl) != latents:
        faults.append(
            f"Bound.kl must name the latents, {', '.join(sorted(latents))}; got {', '.join(sorted(bound.kl)) or 'none'}"
        )
    if faults:
        return faults
    ten = Batch({n: setting.batch[n] for n in setting.batch.names}, total=10 * setting.batch.size)
    # A penalty on the aggregate may well depend on how many rows there are.
    if not bound.penalties and not torch.allclose(
        setting.bound(objective, batch=ten).objective, bound.objective, rtol=1e-6
    ):
        faults.append(
            "a batch stands for more rows than it holds, and the objective per row changes with their number"
        )
    with isolated(Stream(setting.seed)):
        lines = objective.describe(
            Names("z", "x", "q(z | x)"), objective.run(setting.model, setting.guide, (setting.batch,), {})
        )
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        faults.append("describe must give a list of strings, a line each")
    return faults + _bound_faults(setting, objective)


def _bound_faults(setting: Setting, objective: Objective) -> list[str]:
    """per_row against log p(x), which is in closed form."""
    every = torch.stack([setting.bound(objective, r).per_row.detach().mean() for r in range(_REPEATS)])
    exact = float(log_evidence(setting.model, setting.data["x"]).mean())
    error = float(every.std()) / math.sqrt(_REPEATS) + 1e-6
    if float(every.mean()) > exact + _LIMIT * error:
        return [
            f"Bound.per_row is {float(every.mean()):.4f} nats on average, above log p(x) = {exact:.4f}: it is no bound"
        ]
    return []


def _slope_faults(setting: Setting, objective: Objective, where: str) -> list[str]:
    """The gradient against differences of values at the same noise, on average over the noise."""
    setting.value(objective)  # what it refuses, it refuses here
    ways = setting.ways(objective)
    apart: list[list[float]] = [[] for _ in ways]
    slopes: list[list[float]] = [[] for _ in ways]
    for repeat in range(_REPEATS):
        along = setting.along(setting.bound(objective, repeat).objective)
        for k, (part, way) in enumerate(ways):
            slopes[k].append(setting.slope(partial(setting.value, objective, repeat), part, way))
            apart[k].append(along[k] - slopes[k][-1])
        # Where the noise is the same on both sides, two repeats tell as much as many.
        if repeat == 1 and all(
            abs(a[0] - a[1]) < _SAME * (1 + abs(s[0])) for a, s in zip(apart, slopes, strict=True)
        ):
            break
    faults = [_gradient_fault(a, s, part, where) for a, s, (part, _) in zip(apart, slopes, ways, strict=True)]
    return list(itertools.chain(*faults))[:1]


def _gradient_fault(apart: list[float], slopes: list[float], part: str, where: str) -> list[str]:
    gap, slope = torch.tensor(apart, dtype=torch.float64), torch.tensor(slopes, dtype=torch.float64)
    error = float(gap.std()) / math.sqrt(len(gap)) + _SAME * (1 + float(slope.abs().mean()))
    if abs(float(gap.mean())) <= _LIMIT * error:
        return []
    return [
        f"with {where} the gradient of the {part} is not that of the value: {float((gap + slope).mean()):.4f} along a "
        f"direction in which the value rises by {float(slope.mean()):.4f}: {_REMEDY}"
    ]


def _agreement_faults(setting: Setting, summed: Objective, drawn: Objective) -> list[str]:
    """A mean over draws is the sum over values: so is its gradient."""
    exact = setting.value(summed)
    values = torch.tensor([setting.value(drawn, r) for r in range(_REPEATS)], dtype=torch.float64)
    error = float(values.std()) / math.sqrt(_REPEATS) + 1e-6 * (1 + abs(exact))
    if abs(float(values.mean()) - exact) > _LIMIT * error:
        return [
            f"with a label summed out the value is {exact:.4f} nats, with the label drawn {float(values.mean()):.4f}: what "
            f"is summed out must be weighted by q: {_REMEDY}"
        ]
    along = [setting.along(setting.bound(drawn, r).objective) for r in range(_REPEATS)]
    for k, (part, way) in enumerate(setting.ways(drawn)):
        slope = setting.slope(lambda: setting.value(summed), part, way)
        fault = _gradient_fault([each[k] - slope for each in along], [slope], part, _DRAWN)
        if fault:
            return fault
    return []


def _draws_faults(setting: Setting, objective: Objective) -> list[str]:
    """The expected value and gradient from every outcome of the draws, two of a label of two values for each of two rows."""
    few = copy.copy(objective)
    few.particles = min(objective.particles, 2)
    few.num_particles, few.vectorize_particles = few.particles, few.particles > 1
    small = setting_of("c", setting.seed, copies=1, classes=2, rows=2)
    few.plan(small.model, small.guide, (small.batch,), {})
    shape = (few.particles, 2) if few.particles > 1 else (2,)
    outcomes = [torch.tensor(o).reshape(shape) for o in itertools.product((0, 1), repeat=math.prod(shape))]

    def chance(outcome: Tensor) -> Tensor:
        return small.guide.factors["c"](small.data["x"]).log_prob(outcome).sum().exp()

    def estimate(outcome: Tensor) -> Tensor:
        with AtValues({"c": outcome}):
            return small.bound(few).objective

    def expected() -> float:
        with torch.no_grad():
            return float(sum(chance(outcome) * estimate(outcome) for outcome in outcomes))

    along = [(float(chance(o)), small.along(estimate(o))) for o in outcomes]
    for k, (part, way) in enumerate(small.ways(objective)):
        slope = small.slope(expected, part, way)
        found = sum(weight * each[k] for weight, each in along)
        fault = _gradient_fault([found - slope] * 2, [slope], part, _DRAWN)
        if fault:
            return fault
    return []


def _moved_draws_faults(setting: Setting, objective: Objective) -> list[str]:
    """The gradient against differences of values whose draws move with the guide, by the same uniform numbers."""
    ways = setting.ways(objective)
    apart: list[list[float]] = [[] for _ in ways]
    slopes: list[list[float]] = [[] for _ in ways]
    for repeat in range(_REPEATS):
        shape = (
            (objective.particles, setting.batch.size) if objective.particles > 1 else (setting.batch.size,)
        )
        uniform = torch.rand(shape, generator=torch.Generator().manual_seed(setting.seed + repeat)).double()

        def value(uniform: Tensor = uniform) -> Tensor:
            with torch.no_grad():
                edges = setting.guide.factors["c"](setting.batch["x"]).probs.cumsum(-1)[..., :-1]
            with AtValues({"c": (uniform.unsqueeze(-1) > edges).sum(-1)}):
                return setting.bound(objective).objective

        along = setting.along(value())
        for k, (part, way) in enumerate(ways):
            slopes[k].append(setting.slope(lambda: float(value().detach()), part, way, step=_WIDE))  # noqa: B023
            apart[k].append(along[k] - slopes[k][-1])
    faults = [
        _gradient_fault(a, s, part, _DRAWN) for a, s, (part, _) in zip(apart, slopes, ways, strict=True)
    ]
    return list(itertools.chain(*faults))[:1]

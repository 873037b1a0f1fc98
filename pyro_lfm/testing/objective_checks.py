"""The contract check of objectives: value and gradient against exact sums and finite differences."""

from __future__ import annotations

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
from pyro_lfm.testing.contract import ContractError, failure, raise_faults
from pyro_lfm.testing.small_models import SmallModel, log_evidence, small_model

# The number of runs of a batch.
_REPEATS = 40
# In standard errors. With 40 repeats a false alarm has a probability below 1e-8 for each number that is compared.
_LIMIT = 8.0
# The relative accuracy of finite differences.
_SAME = 1e-5
# A step of the parameters that changes some draws.
_WIDE = 0.05
_DRAWN = "a label drawn, which has no reparametrization,"
_REMEDY = "take the terms from run.reconstruction(), run.kl(name) and run.expectation(term)"


def check_objective(objective: Objective, seed: int = 0) -> None:
    """Checks the contract of an objective: its value per row and its gradient, for latents of every kind.

    It runs the objective on small models with a label, with a Gaussian, with both, and with a label that is known in some
    rows. It compares

    - the value with the label summed out with the value with the label drawn;
    - every gradient with finite differences of the value;
    - the bound that is reported with log p(x) in closed form;
    - batches of some rows with all rows.

    Models that the objective refuses by a ``DeclarationError`` are left out. False alarms have a probability below 10⁻⁶.

    Args:
        objective: as it would be given to ``SVI``. Schedules are checked at half of the training.
        seed: of models, data and draws.

    Raises:
        ContractError: the objective breaks its contract. The message lists the faults.

    An objective that is no mean over a row's draws (``averages_draws()`` is False) is compared with a sum over all values of
    all draws, two of each of two rows. If the guide's gradient is another by intent (``guide_climbs_value()`` is False),
    only the model's is compared.

    >>> import pyro_lfm as lfm
    >>> lfm.testing.check_objective(lfm.ELBO(kl_weight=0.5))
    >>> lfm.testing.check_objective(lfm.ImportanceWeightedELBO(5))
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
        except Exception as error:  # a user's part may raise anything
            faults.append(failure(error))
        if faults:
            break
    if not served and not faults:
        faults = [f"it refuses every model: {refusals[0]}"]
    raise_faults(objective, faults)


# Checks ---------------------------------------------------------------------------------------------------


def _of_gaussian(objective: Objective, seed: int) -> list[str]:
    small = small_model("z", seed)
    return _form_faults(small, objective) + _slope_faults(small, objective, "a Gaussian latent")


def _of_label_and_gaussian(objective: Objective, seed: int) -> list[str]:
    return _slope_faults(
        small_model("cz", seed), objective.enumerating("auto"), "a label summed out and a Gaussian"
    )


def _of_known_labels(objective: Objective, seed: int) -> list[str]:
    return _slope_faults(
        small_model("c", seed, known=True), objective.enumerating("auto"), "labels known in some rows"
    )


def _of_label(objective: Objective, seed: int) -> list[str]:
    """A label summed out, and the same label drawn: one of both may be refused, and both must agree."""
    small = small_model("c", seed)
    summed, drawn = objective.enumerating("auto"), objective.enumerating("never")
    serves = {id(each): _serves(small, each) for each in (summed, drawn)}
    if not any(serves.values()):
        small.value(drawn)  # raises the reason
    faults = []
    if serves[id(summed)]:
        faults += _form_faults(small, summed) + _slope_faults(small, summed, "a label summed out")
    if serves[id(drawn)]:
        faults += _form_faults(small, drawn)
        if not objective.averages_draws():
            faults += _draws_faults(small, drawn)
        elif serves[id(summed)]:
            faults += _agreement_faults(small, summed, drawn)
        else:
            faults += _moved_draws_faults(small, drawn)
    return faults


def _serves(small: SmallModel, objective: Objective) -> bool:
    try:
        small.value(objective)
    except DeclarationError:
        return False
    return True


def _form_faults(small: SmallModel, objective: Objective) -> list[str]:
    """Shapes, names, an objective that depends on the number of rows, and a reported bound above log p(x)."""
    bound = small.bound(objective)
    if not isinstance(bound, Bound):
        return [f"estimate must give an lfm.Bound; got {type(bound).__name__}"]
    rows, latents = (small.batch.size,), set(small.model.latents)
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
    ten = Batch({n: small.batch[n] for n in small.batch.names}, total=10 * small.batch.size)
    # A penalty on the aggregate posterior may depend on the number of rows.
    if not bound.penalties and not torch.allclose(
        small.bound(objective, batch=ten).objective, bound.objective, rtol=1e-6
    ):
        faults.append("the objective per row changes with the number of rows N that the batch stands for")
    with isolated(Stream(small.seed)):
        lines = objective.describe(
            Names("z", "x", "q(z | x)"), objective.run(small.model, small.guide, (small.batch,), {})
        )
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        faults.append("describe must give a list of strings, a line each")
    return faults + _bound_faults(small, objective)


def _bound_faults(small: SmallModel, objective: Objective) -> list[str]:
    """per_row above log p(x), which is known in closed form."""
    every = torch.stack([small.bound(objective, r).per_row.detach().mean() for r in range(_REPEATS)])
    exact = float(log_evidence(small.model, small.data["x"]).mean())
    error = float(every.std()) / math.sqrt(_REPEATS) + 1e-6
    if float(every.mean()) > exact + _LIMIT * error:
        return [
            f"Bound.per_row is {float(every.mean()):.4f} nats on average, above log p(x) = {exact:.4f}: it is no bound"
        ]
    return []


def _slope_faults(small: SmallModel, objective: Objective, where: str) -> list[str]:
    """The gradient against finite differences with the same noise, on average over the noise."""
    small.value(objective)  # raises here if the model is refused
    directions = small.climbed(objective)
    apart: list[list[float]] = [[] for _ in directions]
    slopes: list[list[float]] = [[] for _ in directions]
    for repeat in range(_REPEATS):
        derivatives = small.derivatives(small.bound(objective, repeat).objective)
        for k, (part, direction) in enumerate(directions):
            slopes[k].append(small.slope(partial(small.value, objective, repeat), part, direction))
            apart[k].append(derivatives[k] - slopes[k][-1])
        # If the two agree for each noise, more repeats add nothing.
        if repeat == 1 and all(
            abs(a[0] - a[1]) < _SAME * (1 + abs(s[0])) for a, s in zip(apart, slopes, strict=True)
        ):
            break
    faults = [
        _gradient_fault(a, s, part, where) for a, s, (part, _) in zip(apart, slopes, directions, strict=True)
    ]
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


def _agreement_faults(small: SmallModel, summed: Objective, drawn: Objective) -> list[str]:
    """The mean over draws of a label, and its gradient, against the sum over its values."""
    exact = small.value(summed)
    values = torch.tensor([small.value(drawn, r) for r in range(_REPEATS)], dtype=torch.float64)
    error = float(values.std()) / math.sqrt(_REPEATS) + 1e-6 * (1 + abs(exact))
    if abs(float(values.mean()) - exact) > _LIMIT * error:
        return [
            f"with a label summed out the value is {exact:.4f} nats, with the label drawn {float(values.mean()):.4f}: what "
            f"is summed out must be weighted by q: {_REMEDY}"
        ]
    derivatives = [small.derivatives(small.bound(drawn, r).objective) for r in range(_REPEATS)]
    for k, (part, direction) in enumerate(small.climbed(drawn)):
        slope = small.slope(lambda: small.value(summed), part, direction)
        fault = _gradient_fault([each[k] - slope for each in derivatives], [slope], part, _DRAWN)
        if fault:
            return fault
    return []


def _draws_faults(small: SmallModel, objective: Objective) -> list[str]:
    """The gradient against that of the expected value, from all outcomes of two draws of a binary label for two rows."""
    particles = min(objective.particles, 2)
    few = objective.replaced(particles=particles, num_particles=particles, vectorize_particles=particles > 1)
    small = small_model("c", small.seed, copies=1, classes=2, rows=2)
    few.plan(small.model, small.guide, (small.batch,), {})  # before the label has set values
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

    derivatives = [(float(chance(o)), small.derivatives(estimate(o))) for o in outcomes]
    for k, (part, direction) in enumerate(small.climbed(objective)):
        slope = small.slope(expected, part, direction)
        derivative = sum(weight * each[k] for weight, each in derivatives)
        fault = _gradient_fault([derivative - slope] * 2, [slope], part, _DRAWN)
        if fault:
            return fault
    return []


def _moved_draws_faults(small: SmallModel, objective: Objective) -> list[str]:
    """The gradient against finite differences in which the draws move with the guide, from the same uniform numbers."""
    directions = small.climbed(objective)
    apart: list[list[float]] = [[] for _ in directions]
    slopes: list[list[float]] = [[] for _ in directions]
    for repeat in range(_REPEATS):
        shape = (objective.particles, small.batch.size) if objective.particles > 1 else (small.batch.size,)
        uniform = torch.rand(shape, generator=torch.Generator().manual_seed(small.seed + repeat)).double()

        def value(uniform: Tensor = uniform) -> Tensor:
            with torch.no_grad():
                edges = small.guide.factors["c"](small.batch["x"]).probs.cumsum(-1)[..., :-1]
            with AtValues({"c": (uniform.unsqueeze(-1) > edges).sum(-1)}):
                return small.bound(objective).objective

        derivatives = small.derivatives(value())
        for k, (part, direction) in enumerate(directions):
            slopes[k].append(small.slope(lambda: float(value().detach()), part, direction, step=_WIDE))  # noqa: B023
            apart[k].append(derivatives[k] - slopes[k][-1])
    faults = [
        _gradient_fault(a, s, part, _DRAWN) for a, s, (part, _) in zip(apart, slopes, directions, strict=True)
    ]
    return list(itertools.chain(*faults))[:1]

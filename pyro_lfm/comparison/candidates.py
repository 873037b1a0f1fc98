"""The candidates of a comparison, as ``compare`` reads them: the model, inference and budget that each starts from."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard, cast

from torch import nn

from pyro_lfm.comparison.metrics import check_name
from pyro_lfm.declarations import Part
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Factor
from pyro_lfm.guides import AnyGuide, Guide, PyroGuide, Refined, as_guide
from pyro_lfm.inference import SVI
from pyro_lfm.inference.task import Inference
from pyro_lfm.programs.model import AnyModel, Model, as_model
from pyro_lfm.programs.pyro_model import ModelLike
from pyro_lfm.runtime import Stream

# A model, or a function without arguments that declares one.
ModelOrFunction: TypeAlias = nn.Module | Callable[[], nn.Module]
# A guide's factor, {latent: factor}, a guide, an inference, or a function of the model that returns one of these.
Candidate: TypeAlias = (
    Factor | Mapping[str, Factor] | nn.Module | Inference | Callable[[AnyModel], nn.Module | Inference]
)

_KINDS = (
    "a factor or {latent: factor}, a guide, an inference such as lfm.SVI(guide) or lfm.EM(), or a function of the model "
    "that gives a guide or an inference"
)
_OF_A_BATCH = "A guide that is a function of a batch is given as lfm.PyroGuide(function)"


@dataclass(frozen=True)
class Starts:
    """The start of every candidate for every seed, on copies: the user's own parts are never trained.

    Args:
        models: {name: a model, or a function without arguments that declares it}.
        candidates: {name: factor, {latent: factor}, guide, inference or function of the model}.
        svi: gives a guide the inference that trains it, with the common budget.
        first: the seed that starts from the present weights of models and guides. All other seeds draw new weights.
    """

    models: dict[str, ModelOrFunction]
    candidates: dict[str, Candidate]
    svi: Callable[[AnyGuide], SVI]
    first: int

    def at(self, name: str, seed: int) -> tuple[AnyModel, Inference]:
        """A copy of the model and of the inference of a candidate, before the first step."""
        declared = model = self.models[name]
        given, redraw = self.candidates[name], seed != self.first
        if is_function(model):
            with Stream(seed):
                model = model()
        # One deep copy, so that a guide that holds the model holds its copy.
        model, given = copy.deepcopy((as_model(cast(ModelLike, model)), given))
        if redraw and not is_function(declared):
            model = _redrawn_model(model, seed)
        if is_function(given):
            with Stream(seed):
                given = _called(given, model, name)
            # The function may return an object that it holds.
            model, given = copy.deepcopy((model, given))
            redraw = False
        if isinstance(given, Factor):
            given = {_only_latent(model, name): given}
        if isinstance(given, Mapping):
            with Stream(seed):
                given = Guide(model, **given)
            redraw = False
        inference = given if isinstance(given, Inference) else self.svi(_guide(given, name))
        if isinstance(inference, SVI) and redraw:
            inference = inference.with_guide(_redrawn_guide(inference.guide, model, name, seed))
        # As ``fit`` does: the identity of a fit in a folder must not depend on weights that are never trained.
        inference.draw_first_weights(model, seed)
        return model, inference


def read_candidates(candidates: Mapping[str, Candidate]) -> dict[str, Candidate]:
    """The candidates by name, with an error for one that is of no known kind."""
    if not isinstance(candidates, Mapping) or not candidates:
        raise DeclarationError(
            f"candidates must be {{name: candidate}}, with at least one; got {candidates!r}"
        )
    for name, candidate in candidates.items():
        check_name("candidate", name)
        check_candidate(name, candidate)
    return dict(candidates)


def check_candidate(name: str, candidate: object) -> None:
    """Raises DeclarationError where a candidate is of no known kind."""
    if isinstance(candidate, Mapping):
        known = bool(candidate) and all(isinstance(factor, Factor) for factor in candidate.values())
    else:
        of_torch = isinstance(candidate, nn.Module) and type(candidate).__module__.startswith("torch.")
        known = (isinstance(candidate, nn.Module | Factor | Inference) and not of_torch) or is_function(
            candidate
        )
    if not known:
        raise DeclarationError(f"candidate {name!r} must be {_KINDS}; got {candidate!r}")
    if is_function(candidate) and not _takes_the_model(candidate):
        raise DeclarationError(
            f"candidate {name!r} must be a function of the model, as in {{{name!r}: lambda model: ...}}; "
            f"{candidate!r} does not take it"
        )


def read_model(model: ModelOrFunction) -> ModelOrFunction:
    """A model, or a function without arguments that declares one."""
    if not is_function(model):
        return as_model(cast(ModelLike, model))
    return model if not _takes_arguments(model) else as_model(model)


def is_function(value: object) -> TypeGuard[Callable[..., Any]]:
    """Whether a value is a function, or a class, that makes a model, a guide or an inference."""
    if isinstance(value, type):
        return issubclass(value, nn.Module) and not issubclass(value, Factor)
    return callable(value) and not isinstance(value, nn.Module | Part)


def check_budgets(inferences: Mapping[str, Inference], rows: int) -> None:
    """Candidates by SVI take the same number of steps of the same number of rows."""
    budgets = {name: budget(each, rows) for name, each in inferences.items() if isinstance(each, SVI)}
    if len(set(budgets.values())) > 1:
        listed = "; ".join(f"{name}: {steps} steps of {size} rows" for name, (steps, size) in budgets.items())
        raise DeclarationError(
            f"candidates by lfm.SVI must have equal budgets, or their differences come from the budgets; got {listed}. "
            "Make them equal, or pass equal_budgets=False, and the table will show each budget"
        )


def budget(svi: SVI, rows: int) -> tuple[int, int]:
    """Steps, and rows in each step."""
    size, _, steps = svi.budget(rows)
    return steps, size


def _called(function: Callable[[AnyModel], Candidate], model: AnyModel, name: str) -> Candidate:
    try:
        return function(model)
    except (AttributeError, TypeError) as error:
        raise DeclarationError(
            f"candidate {name!r}: its function of the model stopped with {type(error).__name__}: {error}. {_OF_A_BATCH}"
        ) from error


def _takes_the_model(function: Callable[..., Candidate]) -> bool:
    if isinstance(function, type) and getattr(function, "__init__", None) is PyroGuide.__init__:
        return False
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # no signature is known
        pass
    return True


def _takes_arguments(function: Callable[..., nn.Module]) -> bool:
    needed = inspect.signature(function).parameters.values()
    return any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in needed)


def _only_latent(model: AnyModel, name: str) -> str:
    latents = [n for n, latent in model.latents.items() if latent.per_row]
    if len(latents) != 1:
        raise DeclarationError(
            f"candidate {name!r} is one factor, but the model has the latents {', '.join(latents) or 'of no row'}: give "
            "{latent: factor}"
        )
    return latents[0]


def _guide(given: Candidate, name: str) -> AnyGuide:
    if not isinstance(given, nn.Module):
        raise DeclarationError(
            f"candidate {name!r}: its function must give a guide or an inference; got {given!r}. {_OF_A_BATCH}"
        )
    return as_guide(given)


def _redrawn_model(model: AnyModel, seed: int) -> AnyModel:
    if isinstance(model, Model):
        return model.redrawn(seed)
    if not list(model.parameters()):
        return model
    raise DeclarationError(
        f"with several seeds the weights of {type(model).__name__} must be drawn anew, which only an lfm.Model can do by "
        "itself: give a function that declares the model, as in compare(lambda: MyModel(), ...)"
    )


def _redrawn_guide(guide: AnyGuide, model: AnyModel, name: str, seed: int) -> AnyGuide:
    if isinstance(guide, Guide):
        return guide.redrawn(model, seed)
    if isinstance(guide, Refined):
        return Refined(guide.proposal.redrawn(model, seed), guide.steps, guide.learning_rate)
    if not list(guide.parameters()):
        return guide
    raise DeclarationError(
        f"with several seeds the weights of the guide of candidate {name!r} must be drawn anew, which only an lfm.Guide can "
        f"do by itself: give a function of the model, as in {{{name!r}: lambda model: MyGuide()}}"
    )

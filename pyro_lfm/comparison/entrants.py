"""The ways of a comparison: what each starts from, and with which budget."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from pyro_lfm.comparison.metrics import check_name
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Factor
from pyro_lfm.guides import AnyGuide, Guide, PyroGuide, Refined, as_guide
from pyro_lfm.inference import SVI
from pyro_lfm.inference.task import Inference
from pyro_lfm.programs.model import AnyModel, Model, as_model
from pyro_lfm.runtime import Stream

_KINDS = (
    "a factor or {latent: factor}, a guide, an inference such as lfm.SVI(guide) or lfm.EM(), or a function of the model "
    "that gives a guide or an inference"
)
_OF_A_BATCH = "A guide that is a function of a batch is given as lfm.PyroGuide(function)"


@dataclass(frozen=True)
class Starts:
    """What every way of every seed starts from; nothing that the user holds is ever trained.

    Args:
        model: a model, or a function without arguments that declares it.
        ways: {name: factor, {latent: factor}, guide, inference or function of the model}.
        svi: of a guide, the inference that trains it: the common budget.
        first: the seed that starts from the weights that models and guides have; all others draw them anew.
    """

    model: Any
    ways: dict[str, Any]
    svi: Callable[[AnyGuide], SVI]
    first: int

    def at(self, name: str, seed: int) -> tuple[AnyModel, Inference]:
        """The model and the inference of a way, of their own, before the first step."""
        model, given, anew = self.model, self.ways[name], seed != self.first
        if is_function(model):
            with Stream(seed):
                model = model()
        # In one copy, so that a guide that looks at the model looks at its copy.
        model, given = copy.deepcopy((as_model(model), given))
        if anew and not is_function(self.model):
            model = _redrawn_model(model, seed)
        if is_function(given):
            with Stream(seed):
                given = _called(given, model, name)
            # A function may hand out what it holds.
            model, given = copy.deepcopy((model, given))
            anew = False
        if isinstance(given, Factor):
            given = {_only_latent(model, name): given}
        if isinstance(given, Mapping):
            with Stream(seed):
                given = Guide(model, **given)
            anew = False
        inference = given if isinstance(given, Inference) else self.svi(_guide(given, name))
        if isinstance(inference, SVI) and anew:
            inference = inference.with_guide(_redrawn_guide(inference.guide, model, name, seed))
        # As ``fit`` will: what is kept in a folder must not hang on weights that nobody trains.
        inference.draw_first_weights(model, seed)
        return model, inference


def read_ways(ways: Any) -> dict[str, Any]:
    """The ways by name, each of a kind that is known."""
    if not isinstance(ways, Mapping) or not ways:
        raise DeclarationError(f"ways must be {{name: way}}, with at least one; got {ways!r}")
    for name, way in ways.items():
        check_name("way", name)
        if isinstance(way, Mapping):
            known = bool(way) and all(isinstance(factor, Factor) for factor in way.values())
        else:
            of_torch = isinstance(way, nn.Module) and type(way).__module__.startswith("torch.")
            known = (isinstance(way, nn.Module | Inference) and not of_torch) or is_function(way)
        if not known:
            raise DeclarationError(f"way {name!r} must be {_KINDS}; got {way!r}")
        if is_function(way) and not _takes_the_model(way):
            raise DeclarationError(
                f"way {name!r} must be a function of the model, as in {{{name!r}: lambda model: ...}}; "
                f"{way!r} does not take it"
            )
    return dict(ways)


def read_model(model: Any) -> Any:
    """A model, or a function without arguments that declares one."""
    if not is_function(model):
        return as_model(model)
    return model if not _takes_arguments(model) else as_model(model)


def is_function(value: Any) -> bool:
    """Whether it makes what is compared: a function, or a class of models or guides."""
    if isinstance(value, type):
        return issubclass(value, nn.Module) and not issubclass(value, Factor)
    return callable(value) and not isinstance(value, nn.Module)


def check_budgets(inferences: Mapping[str, Inference], rows: int) -> None:
    """Ways by SVI take as many steps of as many rows each."""
    budgets = {name: budget(way, rows) for name, way in inferences.items() if isinstance(way, SVI)}
    if len(set(budgets.values())) > 1:
        words = "; ".join(f"{name}: {steps} steps of {size} rows" for name, (steps, size) in budgets.items())
        raise DeclarationError(
            f"ways by lfm.SVI must have equal budgets, or their differences are those of the budgets; got {words}. "
            "Make them equal, or pass equal_budgets=False, and the table will say what each had"
        )


def budget(svi: SVI, rows: int) -> tuple[int, int]:
    """Steps, and rows in each."""
    size, _, steps = svi.budget(rows)
    return steps, size


def _called(function: Callable[[AnyModel], Any], model: AnyModel, name: str) -> Any:
    try:
        return function(model)
    except (AttributeError, TypeError) as error:
        raise DeclarationError(
            f"way {name!r}: its function of the model stopped with {type(error).__name__}: {error}. {_OF_A_BATCH}"
        ) from error


def _takes_the_model(function: Any) -> bool:
    if isinstance(function, type) and getattr(function, "__init__", None) is PyroGuide.__init__:
        return False
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # no signature is known
        pass
    return True


def _takes_arguments(function: Any) -> bool:
    needed = inspect.signature(function).parameters.values()
    return any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in needed)


def _only_latent(model: AnyModel, name: str) -> str:
    latents = [n for n, latent in model.latents.items() if latent.per_row]
    if len(latents) != 1:
        raise DeclarationError(
            f"way {name!r} is one factor, but the model has the latents {', '.join(latents) or 'of no row'}: give "
            "{latent: factor}"
        )
    return latents[0]


def _guide(given: Any, name: str) -> AnyGuide:
    if not isinstance(given, nn.Module):
        raise DeclarationError(
            f"way {name!r}: its function must give a guide or an inference; got {given!r}. {_OF_A_BATCH}"
        )
    return as_guide(given)


def _redrawn_model(model: AnyModel, seed: int) -> AnyModel:
    if isinstance(model, Model):
        return model.redrawn(seed)
    if not list(model.parameters()):
        return model
    raise DeclarationError(
        f"with several seeds the weights of {type(model).__name__} are to be drawn anew, and how is known of lfm.Model "
        "alone: give a function that declares the model, as in compare(lambda: MyModel(), ...)"
    )


def _redrawn_guide(guide: AnyGuide, model: AnyModel, name: str, seed: int) -> AnyGuide:
    if isinstance(guide, Guide):
        return guide.redrawn(model, seed)
    if isinstance(guide, Refined):
        return Refined(guide.proposal.redrawn(model, seed), guide.steps, guide.learning_rate)
    if not list(guide.parameters()):
        return guide
    raise DeclarationError(
        f"with several seeds the weights of the guide of way {name!r} are to be drawn anew, and how is known of lfm.Guide "
        f"alone: give a function of the model, as in {{{name!r}: lambda model: MyGuide()}}"
    )

"""What a call of ``compare`` compares: by the name of each candidate a model and what fits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from torch import nn

from pyro_lfm.closed_form import recognise
from pyro_lfm.comparison.candidates import (
    Candidate,
    ModelOrFunction,
    check_candidate,
    is_function,
    read_candidates,
    read_model,
)
from pyro_lfm.comparison.metrics import check_name
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Factor
from pyro_lfm.inference.closed.em import EM
from pyro_lfm.inference.closed.variational_bayes import VariationalBayes
from pyro_lfm.inference.task import Inference
from pyro_lfm.programs.model import AnyModel, as_model
from pyro_lfm.programs.pyro_model import ModelLike

# Several models by name, such as {1: model1, 2: model2}, each alone or with what fits it.
Models: TypeAlias = Mapping[Any, ModelOrFunction | tuple[ModelOrFunction, Candidate]]
# What fits one model by name, or all models alike.
Candidates: TypeAlias = Mapping[Any, Candidate] | Candidate | None


@dataclass(frozen=True)
class Pairs:
    """The candidates of a comparison.

    Attributes:
        models: {candidate: its model}, one and the same object where candidates share a model.
        candidates: {candidate: what fits it}.
        several: whether there is more than one model.
    """

    models: dict[str, ModelOrFunction]
    candidates: dict[str, Candidate]
    several: bool

    @classmethod
    def of(cls, model: ModelOrFunction | Models, candidates: Candidates) -> Pairs:
        """One model with several candidates, or several models with one candidate for all, one for each, or several each.

        Raises:
            DeclarationError: models or candidates of no known kind, or names that do not fit together.
        """
        if not isinstance(model, Mapping):
            read = read_model(model)
            known = read_candidates(cast(Mapping[str, Candidate], candidates))
            return cls(dict.fromkeys(known, read), known, False)
        models, own = _read_models(model)
        if own:
            if candidates is not None:
                raise DeclarationError(
                    f"{', '.join(own)} are given as (model, candidate): leave candidates= out, or give "
                    "models alone"
                )
            return cls(models, own, True)
        if candidates is None:
            return cls(models, {name: _by_closed_form(each, name) for name, each in models.items()}, True)
        if not isinstance(candidates, Mapping) or _is_of_latents(candidates, models):
            check_candidate("of all models", candidates)
            return cls(models, dict.fromkeys(models, cast(Candidate, candidates)), True)
        named = {_text(name): candidate for name, candidate in candidates.items()}
        if named.keys() == models.keys():
            return cls(models, read_candidates({name: named[name] for name in models}), True)
        if common := named.keys() & models.keys():
            raise DeclarationError(
                f"candidates must have the names of all models, {', '.join(models)}, or other names than they; got "
                f"{', '.join(named)}, of which {', '.join(sorted(common))} are names of models"
            )
        crossed = {f"{m}, {c}": (m, c) for m in models for c in read_candidates(named)}
        return cls(
            {name: models[m] for name, (m, _) in crossed.items()},
            {name: named[c] for name, (_, c) in crossed.items()},
            True,
        )


def _read_models(given: Models) -> tuple[dict[str, ModelOrFunction], dict[str, Candidate]]:
    """The models by name, and what fits them where they come as pairs."""
    models: dict[str, ModelOrFunction] = {}
    own: dict[str, Candidate] = {}
    for key, value in given.items():
        name = _text(key)
        check_name("model", name)
        if name in models:
            raise DeclarationError(f"two models have the name {name!r}: give each a name of its own")
        if isinstance(value, tuple) and len(value) != 2:
            raise DeclarationError(
                f"model {name!r} must be a model, or (model, candidate); got {len(value)} values"
            )
        model = value[0] if isinstance(value, tuple) else value
        if isinstance(model, Factor | Inference) or not callable(model):
            raise DeclarationError(
                f"model {name!r} must be a model, or a function that gives one; got {model!r}"
            )
        models[name] = read_model(model)
        if isinstance(value, tuple):
            check_candidate(name, value[1])
            own[name] = value[1]
    if not models:
        raise DeclarationError("models must be {name: model}, with at least one; got none")
    if own and len(own) < len(models):
        alone = next(name for name in models if name not in own)
        raise DeclarationError(
            f"model {alone!r} has no candidate, and model {next(iter(own))!r} has one: give (model, candidate) for all "
            "or for none"
        )
    return models, own


def _text(key: object) -> str:
    """The name of a model or candidate: text, or a number such as that of factors."""
    return str(key) if isinstance(key, int | float) and not isinstance(key, bool) else cast(str, key)


def _is_of_latents(candidates: Mapping[Any, Candidate], models: Mapping[str, ModelOrFunction]) -> bool:
    """Whether it is {latent: factor}, one candidate for all models, and not {name: candidate}."""
    if not candidates or not all(isinstance(factor, Factor) for factor in candidates.values()):
        return False
    return all(set(candidates) <= set(_made(model).latents) for model in models.values())


def _by_closed_form(model: ModelOrFunction, name: str) -> Inference:
    """The inference of a model that has a closed form, where none is given."""
    form = recognise(_made(model))
    try:
        form.exact()
        return EM()
    except DeclarationError as obstacle:
        try:
            form.bayesian()
        except DeclarationError:
            raise DeclarationError(
                f"model {name!r} needs a guide, as it has no closed form ({obstacle}): give candidates, a guide's factor or "
                "an inference for all models, or {name: candidate}"
            ) from None
        return VariationalBayes()


def _made(model: ModelOrFunction) -> AnyModel:
    made: nn.Module = model() if is_function(model) else cast(nn.Module, model)
    return as_model(cast(ModelLike, made))

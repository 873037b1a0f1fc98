"""The sections of a declaration as tables: ``[model]``, ``[guide]`` and ``[inference]`` of programs as they are written."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pyro.infer.autoguide
import torch

from pyro_lfm.documents.text.part_tables import Writer, python
from pyro_lfm.guides import AnyGuide, ExactPosterior, FactorisedPosterior, Guide, Refined
from pyro_lfm.guides.conjugate import ConjugateGuide
from pyro_lfm.inference.task import Inference
from pyro_lfm.programs.model import AnyModel, Model
from pyro_lfm.programs.program import HandWritten

# The guides that are made of a model alone, by the names under which a document writes them.
OF_THE_MODEL: dict[str, Callable[[AnyModel], AnyGuide]] = {
    "ExactPosterior": ExactPosterior,
    "FactorisedPosterior": FactorisedPosterior,
}


def automatic_guides() -> dict[str, type]:
    """The automatic guides of Pyro by name."""
    return {
        name: value
        for name, value in vars(pyro.infer.autoguide).items()
        if isinstance(value, type) and issubclass(value, pyro.infer.autoguide.AutoGuide)
    }


def model_table(model: AnyModel, writer: Writer) -> dict[str, Any]:
    """The section ``[model]``: a table of factors, or the class of a program by hand."""
    if isinstance(model, Model):
        return {name: writer.table(factor, f"model.{name}") for name, factor in model.declared.items()}
    return _program_table(model, writer, "model")


def guide_table(guide: AnyGuide, writer: Writer) -> dict[str, Any]:
    """The section ``[guide]``: a table of factors by latent, or the kind of another guide."""
    if isinstance(guide, Refined):
        options = {"steps": guide.steps, "learning_rate": guide.learning_rate}
        return {"type": "Refined", "guide": guide_table(guide.proposal, writer), **options}
    if type(guide) in (*OF_THE_MODEL.values(), ConjugateGuide):
        return {"type": type(guide).__name__}
    if not isinstance(guide, Guide):
        return _program_table(guide, writer, "guide")
    factors = {name: writer.table(factor, f"guide.{name}") for name, factor in guide.declared.items()}
    if guide.shared is None:
        return factors
    known = (name for name, kind in automatic_guides().items() if kind is guide.shared)
    return {"shared": next(known, None) or python(guide.shared), **factors}


def inference_table(inference: Inference, writer: Writer) -> dict[str, Any]:
    """The section ``[inference]``. The guide has a section of its own."""
    table = writer.table(inference, "inference")
    table.pop("guide", None)
    return table


def _program_table(program: torch.nn.Module, writer: Writer, path: str) -> dict[str, Any]:
    """A program by hand: its class and the arguments of its constructor."""
    kind = type(program)
    args, kwargs = program.written if isinstance(program, HandWritten) else ((), {})
    inner = getattr(program, "program", None)
    if inner is not None and kind.__module__.startswith("pyro_lfm."):
        return _of_wrapped(inner, writer)
    try:
        bound = inspect.signature(kind).bind(*args, **kwargs).arguments
    except TypeError:
        bound = {}
    named = {name: writer.value(value, f"{path}.{name}") for name, value in bound.items()}
    name = writer.registry.name_of(kind)
    return {**({"type": "python", "name": kind.__name__} if name is None else {"type": name}), **named}


def _of_wrapped(program: Any, writer: Writer) -> dict[str, Any]:
    """A module or function that is a program."""
    automatic = [name for name, kind in automatic_guides().items() if type(program) is kind]
    if automatic:
        return {"type": automatic[0]}
    name = writer.registry.name_of(program if inspect.isroutine(program) else type(program))
    return python(program) if name is None else {"type": name}

"""Reads the sections of a document: the model, the guide and the inference that their tables declare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from pyro_lfm.documents.sections import OF_THE_MODEL, automatic_guides
from pyro_lfm.documents.text.alternatives import Alternatives
from pyro_lfm.documents.text.expressions import Call, is_call
from pyro_lfm.documents.text.reading import Broken, Reader
from pyro_lfm.documents.text.registry import suggestion
from pyro_lfm.errors import DeclarationError, first_line
from pyro_lfm.factors import Factor
from pyro_lfm.factors.wiring import in_order
from pyro_lfm.guides import AnyGuide, Guide, Refined, as_guide
from pyro_lfm.guides.automatic import prototype
from pyro_lfm.inference import SVI
from pyro_lfm.inference.task import Inference
from pyro_lfm.programs.model import AnyModel, Model, as_model
from pyro_lfm.runtime import isolated
from pyro_lfm.tables import Heterogeneous

_REFINED = {"steps": Alternatives(frozenset({"int"})), "learning_rate": Alternatives(frozenset({"float"}))}


def is_program(section: Mapping[str, Any]) -> bool:
    """Whether a section declares a program by its class, and not factors by their names."""
    kind = section.get("type")
    return isinstance(kind, str) and not is_call(kind)


class SectionReader:
    """Reads the sections of one document.

    Args:
        reader: reads their parts, and notes their faults.
    """

    def __init__(self, reader: Reader):
        self.reader = reader
        # Latents and observed names of the model as far as they could be read; None for a program by hand.
        self.names: set[str] | None = None

    def model(
        self, section: Any, table: Heterogeneous | None = None, table_is_broken: bool = False
    ) -> AnyModel | None:
        """The model; None where a fault was noted.

        Args:
            table: the factors of a mixed table. table_is_broken: whether they could not be read.
        """
        with self.reader.at("model"):
            if not isinstance(section, Mapping) or not section:
                self.reader.note('must be a table of factors, as in z = "StandardNormal(8)"')
                return None
            if is_program(section):
                program = self._program(section, "model")
                return None if program is None else self._made(lambda: as_model(program))
            before = len(self.reader.errors)
            factors = self._factors(section)
            factors |= dict(table or {})
            self.names = set(factors)
            if table_is_broken:
                return None
            self._check_wiring({n: f for n, f in factors.items() if isinstance(f, Factor)}, set(factors))
            if len(self.reader.errors) > before:
                return None
            return self._made(lambda: Model(**factors))

    def _factors(self, section: Mapping[str, Any]) -> dict[str, Any]:
        factors: dict[str, Any] = {}
        for name, value in section.items():
            with self.reader.at(str(name)):
                factors[name] = self.reader.part(value, Factor, "factor")
        return factors

    def _check_wiring(self, factors: dict[str, Factor], names: set[str]) -> None:
        """Notes parents that are no factors, and cycles, also where other factors are broken."""
        known = True
        for name, factor in factors.items():
            for parent in (*(factor.given or ()), *factor.named.values()):
                if parent not in names or parent == name:
                    known = False
                    with self.reader.at(name):
                        others = sorted(names - {name})
                        self.reader.note(
                            f"given names a factor of the model; got {parent!r}{suggestion(parent, others)}"
                        )
        given = {n: tuple(p for p in (f.given or ()) if p in factors) for n, f in factors.items()}
        if known and len(factors) < len(names):
            try:
                in_order(given)
            except DeclarationError as error:
                self.reader.note(str(error))

    def guide(self, section: Any, model: AnyModel | None) -> AnyGuide | None:
        """The guide of the model; None where a fault was noted."""
        with self.reader.at("guide"):
            if not isinstance(section, Mapping):
                self.reader.note('must be a table of factors, as in z = "Gaussian(network=MLP(64))"')
                return None
            kind = section.get("type")
            if kind == "Refined":
                return self._refined(section, model)
            if kind == "ConjugateGuide":
                self.reader.note("a ConjugateGuide is made by a fit by VariationalBayes: leave [guide] out")
                return None
            if isinstance(kind, str) and kind in OF_THE_MODEL:
                for name in section.keys() - {"type"}:
                    self.reader.note(f"{kind} has no argument {name!r}")
                return None if model is None else self._made(lambda: OF_THE_MODEL[kind](model))
            if (
                isinstance(kind, str)
                and kind in automatic_guides()
                and self.reader.registry.named(kind) is None
            ):
                return None if model is None else self._made(lambda: _automatic(kind, model))
            if is_program(section):
                program = self._program(section, "guide")
                return None if program is None else self._made(lambda: as_guide(program))
            return self._declared(section, model)

    def _declared(self, section: Mapping[str, Any], model: AnyModel | None) -> AnyGuide | None:
        before = len(self.reader.errors)
        shared = section.get("shared")
        joint = None
        if isinstance(shared, str) and not is_call(shared):
            joint = automatic_guides().get(shared)
            if joint is None:
                with self.reader.at("shared"):
                    self.reader.note(
                        f"no automatic guide is called {shared!r}{suggestion(shared, automatic_guides())}"
                    )
        elif isinstance(shared, Mapping) and shared.get("type") == "python":
            with self.reader.at("shared"):
                joint = self.reader.part(shared, object)
        named = section if joint is None else {n: v for n, v in section.items() if n != "shared"}
        if joint is None and len(self.reader.errors) > before:
            named = {n: v for n, v in section.items() if n != "shared"}
        factors = self._factors(named)
        for name in factors:
            if self.names is not None and "." not in name and name not in self.names:
                with self.reader.at(name):
                    self.reader.note(f"the model has no latent {name!r}{suggestion(name, self.names)}")
        if len(self.reader.errors) > before or model is None:
            return None
        jointly: dict[str, Any] = {} if joint is None else {"shared": joint}
        return self._made(lambda: Guide(model, **jointly, **factors))

    def _refined(self, section: Mapping[str, Any], model: AnyModel | None) -> AnyGuide | None:
        before = len(self.reader.errors)
        proposal = self.guide(section.get("guide"), model)
        options = {}
        for name, value in section.items():
            if name in _REFINED:
                options[name] = self.reader.argument(name, value, _REFINED[name])
            elif name not in ("type", "guide"):
                self.reader.note(f"Refined has no argument {name!r}{suggestion(name, [*_REFINED, 'guide'])}")
        if len(self.reader.errors) > before or proposal is None:
            return None
        return self._made(lambda: Refined(proposal, **options))  # type: ignore[arg-type]

    def inference(self, section: Any, guide: AnyGuide | None, declares_guide: bool) -> Inference | None:
        """The inference; None where a fault was noted.

        Args:
            declares_guide: whether the document has a section for the guide.
        """
        with self.reader.at("inference"):
            call = self.reader.call(section, "inference")
            if isinstance(call, Broken):
                return None
            if call.name != "SVI":
                part = self.reader.built(call, "inference", Inference)
                if not isinstance(part, Broken | Inference):
                    self.reader.note(f"must be an inference; got a {type(part).__name__}")
                return part if isinstance(part, Inference) else None
            if call.positional or "guide" in call.named:
                self.reader.note("the guide of SVI stands in the section [guide]")
                return None
            if not declares_guide:
                self.reader.note('SVI needs a section [guide], as in z = "Gaussian(network=MLP(64))"')
                return None
            return self._svi(call, guide)

    def _svi(self, call: Call, guide: AnyGuide | None) -> Inference | None:
        # Its other arguments are read with a stand-in where the guide has faults of its own.
        stand_in = guide if guide is not None else as_guide(torch.nn.Identity())
        made = self.reader.made(SVI, Call("SVI", (), {"guide": stand_in, **call.named}))
        return made if guide is not None and isinstance(made, Inference) else None

    def _program(self, section: Mapping[str, Any], what: str) -> Any:
        """A program by hand, of its class and the arguments of its constructor."""
        call = Call(section["type"], (), {name: value for name, value in section.items() if name != "type"})
        program = self.reader.built(call, what)
        if isinstance(program, Broken):
            return None
        if isinstance(program, Factor | Inference) or not callable(program):
            self.reader.note(f"must be a {what}; got a {type(program).__name__}")
            return None
        return program

    def _made(self, make: Callable[[], Any]) -> Any:
        """The result of a constructor; None with a note where it refuses."""
        try:
            return make()
        except DeclarationError as error:
            self.reader.note(str(error))
        except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
            self.reader.note(f"cannot be made: {first_line(error)}")
        return None


def _automatic(kind: str, model: AnyModel) -> AnyGuide:
    """An automatic guide of Pyro, with the parameters that it has after its first run."""
    guide = as_guide(automatic_guides()[kind](model))
    with isolated():
        guide.settle(prototype(model))
    return guide

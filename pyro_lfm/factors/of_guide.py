"""Priors that are made of a guide, and what a guide lends to them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.factor import Factor, Prior
from pyro_lfm.factors.variables import Variable
from pyro_lfm.runtime import replayed


@dataclass(frozen=True, eq=False, repr=False)
class Encoder:
    """A guide's factor of one latent, with the observed variables that it reads."""

    factor: Factor
    parents: tuple[Variable, ...]

    def __repr__(self) -> str:
        return f"Encoder({self.factor.describe()} of {', '.join(parent.name for parent in self.parents)})"

    def __call__(self, rows: Mapping[str, Tensor], index: Tensor) -> Any:
        """The distribution of the latent given rows of the observed variables, {name: (C, *event)}."""
        return self.factor.at([rows[parent.name] for parent in self.parents], index)


class PriorOfGuide(Prior):
    """A prior p(z) made of the guide's q(z | x): which guide that is, a run or a ``Fit`` says.

    In a run it is the guide whose trace the model replays; else the one to which ``bound`` binds a view of the prior, as
    the model of a ``Fit`` is bound. Without either it has no distribution. Nothing of the guide is a part of it: its own
    parameters exist once the model is declared, and neither state nor gradients hang on which guide there is.
    """

    def __init__(self, event: int | Sequence[int] | None = None):
        super().__init__(event)
        # In a tuple, which nn.Module does not look into: the guide's weights stay the guide's.
        self._bound: tuple[Encoder, ...] = ()
        self.latent_name = "z"

    @abstractmethod
    def of(self, encoder: Encoder) -> Any:
        """The distribution p(z) that the guide's factor makes."""

    @abstractmethod
    def complete(self, observed: Mapping[str, Variable], rows: Callable[[int], Mapping[str, Tensor]]) -> None:
        """Makes the parameters, once the model knows its observed variables.

        Args:
            rows: n ↦ so many rows that the model draws before it is trained, by name.
        """

    @abstractmethod
    def trial_variables(self) -> Mapping[str, Variable]:
        """Observed variables of a model that it could stand in, for ``lfm.testing``."""

    @abstractmethod
    def stand_in(self) -> Factor:
        """A prior that takes its place where the library tries a model out, such as a standard normal."""

    @abstractmethod
    def check(self, encoder: Encoder | None) -> None:
        """Raises DeclarationError, in words, where the prior cannot be made of a guide's factor, or of None."""

    def build(self, name: str, parents: Sequence[Variable]) -> Self:
        super().build(name, parents)
        self.latent_name = name
        return self

    @property
    def encoder(self) -> Encoder | None:
        """What it is made of here and now: the guide of the run, else the one that it is bound to."""
        of_run = (replayed(self.latent_name) or {}).get("infer", {}).get("encoder")
        if of_run is not None and not of_run.factor.tables:
            return of_run
        return self._bound[0] if self._bound else None

    def is_bound(self, encoder: Encoder) -> bool:
        return bool(self._bound) and self._bound[0].factor is encoder.factor

    def bind(self, encoder: Encoder | None) -> None:
        """Makes it that of a guide from now on, as a fit does with the model that it has trained."""
        self._bound = () if encoder is None else (encoder,)

    def found(self) -> Encoder:
        """The encoder of here and now.

        Raises:
            DeclarationError: there is none, or one that the prior cannot be made of.
        """
        encoder = self.encoder
        if encoder is None:
            name, kind = self.latent_name, type(self).__name__
            raise DeclarationError(
                f"{name}: a {kind} is made of a guide, and this model is bound to none: take the model of a Fit, as in "
                "fit.model.sample(16), or bind it, as in model.bound_to(guide).sample(16)"
            )
        self.check(encoder)
        return encoder

    def forward(self) -> Any:
        return self.of(self.found())

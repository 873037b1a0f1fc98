"""Priors that are made of a guide, such as the VampPrior, and the encoder that a guide lends them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.conditional import Conditional
from pyro_lfm.factors.factor import Prior
from pyro_lfm.factors.variables import Variable
from pyro_lfm.runtime import replayed


@dataclass(frozen=True, eq=False, repr=False)
class Encoder:
    """A guide's conditional distribution of one latent, with the observed variables that it reads."""

    factor: Conditional
    parents: tuple[Variable, ...]

    def __repr__(self) -> str:
        return f"Encoder({self.factor.describe()} of {', '.join(parent.name for parent in self.parents)})"

    def __call__(self, rows: Mapping[str, Tensor], index: Tensor) -> Distribution:
        """The distribution of the latent given rows of the observed variables, {name: (C, *event)}."""
        return self.factor.at([rows[parent.name] for parent in self.parents], index)


class PriorOfGuide(Prior):
    """A prior p(z) made of the guide's q(z | x). It builds a ``MadeOfGuide``."""

    @abstractmethod
    def build(self, name: str, parents: Sequence[Variable]) -> MadeOfGuide:
        """The prior of a model."""

    @abstractmethod
    def trial_variables(self) -> Mapping[str, Variable]:
        """Observed variables of a model that it could stand in, for ``lfm.testing``."""


class MadeOfGuide(Conditional):
    """A prior p(z) made of the guide's q(z | x). A run or a ``Fit`` says which guide that is.

    In a run it is the guide whose trace the model replays; else the one to which ``bind`` binds a view of the prior, as
    the model of a ``Fit`` is bound. Without either it has no distribution. Nothing of the guide is a part of it: its own
    parameters exist once the model is declared, and neither state nor gradients depend on the guide.
    """

    declaration: PriorOfGuide

    def __init__(self, declaration: PriorOfGuide, name: str, parents: Sequence[Variable]):
        super().__init__(declaration, name, parents)
        # An encoder is no module, so the guide's weights stay the guide's.
        self.bound: Encoder | None = None

    @abstractmethod
    def of(self, encoder: Encoder) -> Distribution:
        """The distribution p(z) that the guide's factor makes."""

    @abstractmethod
    def observe(self, observed: Mapping[str, Variable], rows: Callable[[int], Mapping[str, Tensor]]) -> None:
        """Makes the parameters, once the model knows its observed variables.

        Args:
            rows: n ↦ that many rows by name, which the model draws before it is trained.
        """

    @abstractmethod
    def stand_in(self) -> Conditional:
        """A prior that takes its place where the library tries a model out, such as a standard normal."""

    @abstractmethod
    def check(self, encoder: Encoder | None) -> None:
        """Raises DeclarationError, in words, where the prior cannot be made of a guide's factor, or of None."""

    def refresh(self, encoder: Encoder) -> None:
        """Computes anew what it keeps of the guide between steps; before every epoch and every validation."""

    @property
    def encoder(self) -> Encoder | None:
        """The encoder at hand: that of the guide of the run, else of the guide that it is bound to."""
        of_run: Encoder | None = (replayed(self.variable) or {}).get("infer", {}).get("encoder")
        if of_run is not None and not of_run.factor.tables:
            return of_run
        return self.bound

    def is_bound(self, encoder: Encoder) -> bool:
        """Whether it is bound to the very factor of an encoder."""
        return self.bound is not None and self.bound.factor is encoder.factor

    def bind(self, encoder: Encoder | None) -> None:
        """Makes it that of a guide from now on, as a fit does with the model that it has trained."""
        self.bound = encoder

    def required_encoder(self) -> Encoder:
        """The encoder at hand.

        Raises:
            DeclarationError: there is none, or one that the prior cannot be made of.
        """
        encoder = self.encoder
        if encoder is None:
            kind = type(self.declaration).__name__
            raise DeclarationError(
                f"{self.variable}: a {kind} is made of a guide, and this model is bound to none: take the model of a Fit, as in "
                "fit.model.sample(16), or bind it, as in model.bound_to(guide).sample(16)"
            )
        self.check(encoder)
        return encoder

    def forward(self) -> Distribution:
        return self.of(self.required_encoder())

"""Priors computed from a guide, such as the VampPrior, and the encoder that a guide provides for them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.conditional import Conditional
from pyro_lfm.factors.prior import Prior
from pyro_lfm.factors.variables import Variable
from pyro_lfm.runtime import replayed


@dataclass(frozen=True, eq=False, repr=False)
class Encoder:
    """The conditional distribution of one latent in a guide, with the observed variables that it reads."""

    factor: Conditional
    parents: tuple[Variable, ...]

    def __repr__(self) -> str:
        return f"Encoder({self.factor.describe()} of {', '.join(parent.name for parent in self.parents)})"

    def __call__(self, rows: Mapping[str, Tensor], index: Tensor) -> Distribution:
        """The distribution of the latent given rows of the observed variables, {name: (C, *event)}."""
        return self.factor.at([rows[parent.name] for parent in self.parents], index)


class PriorOfGuide(Prior):
    """The declaration of a prior p(z) that is computed from the guide's q(z | x). It builds a ``MadeOfGuide``."""

    @abstractmethod
    def build(self, name: str, parents: Sequence[Variable]) -> MadeOfGuide:
        """The prior of a model."""

    @abstractmethod
    def trial_variables(self) -> Mapping[str, Variable]:
        """Observed variables of a model that can have this prior. ``lfm.testing`` builds such a model."""


class MadeOfGuide(Conditional):
    """A prior p(z) computed from the guide's q(z | x).

    In a run the guide is the one whose trace the model replays. Outside a run it is the one that ``bind`` was called with;
    the model of a ``Fit`` is bound to the fitted guide. Without a guide the prior has no distribution. The guide is not a
    submodule: the prior's own parameters exist as soon as the model is declared, and its state does not contain the guide.
    """

    declaration: PriorOfGuide

    def __init__(self, declaration: PriorOfGuide, name: str, parents: Sequence[Variable]):
        super().__init__(declaration, name, parents)
        # An Encoder is no module, so that the weights of the guide are not registered here.
        self.bound: Encoder | None = None

    @abstractmethod
    def of(self, encoder: Encoder) -> Distribution:
        """The distribution p(z), given the encoder of a guide."""

    @abstractmethod
    def observe(self, observed: Mapping[str, Variable], rows: Callable[[int], Mapping[str, Tensor]]) -> None:
        """Creates the parameters, once the model knows its observed variables.

        Args:
            observed: the observed variables of the model, by name.
            rows: draws n rows from the untrained model, by name.
        """

    @abstractmethod
    def stand_in(self) -> Conditional:
        """A prior such as a standard normal that replaces it when the library runs the model without a guide."""

    @abstractmethod
    def check(self, encoder: Encoder | None) -> None:
        """Raises DeclarationError if the prior cannot be computed from this encoder; None stands for a guide without one."""

    def refresh(self, encoder: Encoder) -> None:
        """Updates values of the guide that it stores between steps. Called before every epoch and every validation."""

    def keep_codes(self, encoder: Encoder) -> None:
        """Takes values that were loaded as those that it has stored of the guide, though the guide has moved since."""

    @property
    def encoder(self) -> Encoder | None:
        """The encoder of the guide of the present run, else that of the guide that it is bound to."""
        of_run: Encoder | None = (replayed(self.variable) or {}).get("infer", {}).get("encoder")
        if of_run is not None and not of_run.factor.tables:
            return of_run
        return self.bound

    def is_bound(self, encoder: Encoder) -> bool:
        """Whether it is bound to the factor of this encoder."""
        return self.bound is not None and self.bound.factor is encoder.factor

    def bind(self, encoder: Encoder | None) -> None:
        """Binds the prior to the encoder of a guide. A fit does so with the model that it has trained."""
        self.bound = encoder

    def required_encoder(self) -> Encoder:
        """The encoder, checked.

        Raises:
            DeclarationError: there is no encoder, or the prior cannot be computed from it.
        """
        encoder = self.encoder
        if encoder is None:
            kind = type(self.declaration).__name__
            raise DeclarationError(
                f"{self.variable}: a {kind} is made of a guide, and this model is bound to none: take the model of a Fit, "
                "as in fit.model.sample(16), or bind it, as in model.bound_to(guide).sample(16)"
            )
        self.check(encoder)
        return encoder

    def forward(self) -> Distribution:
        return self.of(self.required_encoder())
